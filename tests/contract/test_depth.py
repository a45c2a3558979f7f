"""Near Python's recursion limit a run ends, in a value or in RecursionError; so it does where we fail."""

import os
import signal
import sys

import pytest

from pipedeco import NotPicklable, component, get_run, pipeline, value

only_debug = pytest.mark.parametrize("mode", ["debug"], indirect=True)


@component
def echo(x):
    return x


@pipeline
def nested(n):
    return value(echo(0)) if n == 0 else nested(n - 1) + 1


@pipeline
def endless(n):
    return endless(n + 1) + 1


def deeper(n):
    return value(echo(0)) if n == 0 else deeper(n - 1)


@pipeline
def recursing(n):
    return deeper(n)


@pipeline
def recovering(n):
    try:
        deeper(n)
    except RecursionError:
        pass
    return value(echo("after"))


@pytest.fixture
def limit():
    """Sets the recursion limit for the test."""
    before = sys.getrecursionlimit()
    yield sys.setrecursionlimit
    sys.setrecursionlimit(before)


def outcome_of(run, *args):
    try:
        return run(*args)
    except RecursionError:
        return "RecursionError"


# -- pipelines in pipelines


def test_nested_pipelines(mode):
    """Pipelines may be nested as without decorators, where frames of the user alone count."""
    assert nested(75) == 75


@only_debug
def test_nested_further(mode):
    """Also many times deeper than frames of ours would leave room for."""
    before = sys.getrecursionlimit()
    assert nested(150) == 150
    assert sys.getrecursionlimit() == before


@only_debug
def test_nested_with_a_low_limit(mode, limit):
    """A limit that the program has lowered counts its own frames, too."""
    limit(300)
    assert nested(20) == 20
    assert sys.getrecursionlimit() == 300


@only_debug
def test_endless_nesting(mode):
    """Pipelines that call each other for ever end in RecursionError, and the run is recorded so."""
    before = sys.getrecursionlimit()
    with pytest.raises(RecursionError):
        endless(0)
    assert sys.getrecursionlimit() == before
    assert get_run("endless#1").status == "failed"
    assert nested(2) == 2


# -- bodies that recurse


def test_bodies_near_the_limit(mode):
    """A component that is called at any depth gives its value, or RecursionError."""
    recursing(1)
    for depth in range(800, 1000, 7 if mode == "debug" else 40):
        assert outcome_of(recursing, depth) in (0, "RecursionError")
    assert recursing(1) == 0


@only_debug
def test_a_body_that_recovers(mode):
    """After a RecursionError that the body handles, its calls are steps as before."""
    recursing(1)
    for depth in range(900, 1000, 3):
        assert outcome_of(recovering, depth) in ("after", "RecursionError")
        steps = get_run().steps
        assert all(step.state in ("completed", "failed") for step in steps.values())
        assert [s for s in steps.values() if s.state == "completed"]


# -- values


def in_lists(depth):
    made = []
    for _ in range(depth):
        made = [made]
    return made


@component(cache=True)
def count(value):
    return len(value)


@pytest.mark.parametrize("depth", [400, 3000, 100_000])
@pytest.mark.parametrize("step", [count, echo])
def test_values_that_are_deep(mode, depth, step):
    """A value is walked, however deep it is; what no pickler can carry is refused in a sentence."""

    @pipeline
    def body():
        return value(step(in_lists(depth))) is not None

    if depth == 400:
        assert body()
    elif mode == "debug":
        with pytest.warns(UserWarning, match="nested too deeply"):
            assert body()
    else:
        with pytest.raises(NotPicklable, match="nested too deeply") as caught:
            body()
        assert len(str(caught.value)) < 200


def test_a_container_that_holds_itself(mode):
    """A cached step takes a list that is in itself."""
    made = [1]
    made.append(made)

    @pipeline
    def body():
        return value(count(made))

    assert body() == 2


# -- what raises while it starts a step


class Broken(Exception):
    """What a runner raises on purpose."""


def session_of(mode):
    if mode == "debug":
        from pipedeco.runners.debug import DebugSession

        return DebugSession
    from pipedeco.runners.local import LocalSession

    return LocalSession


@pytest.mark.parametrize("mode", ["debug", "local"], indirect=True)
def test_a_runner_that_raises(mode, monkeypatch):
    """What a runner raises as it gets a step is that step's failure."""

    def submit(self, call):
        raise Broken("no room")

    monkeypatch.setattr(session_of(mode), "submit", submit)

    @pipeline
    def body():
        try:
            return value(echo(1))
        except Broken as error:
            return str(error)

    assert body() == "no room"
    assert get_run().steps["echo"].state == "failed"


@only_debug
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_steps_that_nobody_performs(mode, monkeypatch, number):
    """Waiting for a step that is lost answers signals."""
    monkeypatch.setattr(session_of(mode), "submit", lambda self, call: None)
    monkeypatch.setattr(
        "pipedeco.process.CONTROLLER.give_way", lambda: None
    )  # which would end this process

    @pipeline
    def body():
        from pipedeco.tracing import current

        run = current.get().run
        waiting = run._idle.wait

        def tell(seconds):  # the body is over, and its run waits
            run._idle.wait = waiting
            os.kill(os.getpid(), number)
            return waiting(seconds)

        run._idle.wait = tell
        echo(1)
        return 1

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - KeyboardInterrupt, or RunCancelled
        body()
    assert type(caught.value).__name__ in ("KeyboardInterrupt", "RunCancelled")
    assert get_run().status == "cancelled"
    assert get_run().steps["echo"].state == "cancelled"

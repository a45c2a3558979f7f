"""What a failing step does: to who reads it, to other steps, to the run."""

import sqlite3
import traceback

import pytest
from conftest import wait_for

from pipedeco import (
    NotPicklable,
    RunFailed,
    StepCancelled,
    StepFailed,
    component,
    pipeline,
    value,
)

in_workers = pytest.mark.parametrize("mode", ["local", "remote"], indirect=True)
only_debug = pytest.mark.parametrize("mode", ["debug"], indirect=True)


@component
def echo(x):
    return x


def inner_helper(text):
    raise ValueError(text)  # the line that fails


@component
def fail(text="no", *_):
    inner_helper(text)


class TwoArgumentsError(Exception):
    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")
        self.code = code


class MuteError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class HoldingError(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.connection = sqlite3.connect(":memory:")


# -- reading a failure


def test_the_original_exception(mode):
    """Reading a failed result raises the exception that the step raised."""

    @pipeline
    def body():
        try:
            value(fail("broken"))
        except ValueError as error:
            return str(error)

    assert body() == body.fn() == "broken"


def test_the_traceback_reaches_the_line_that_failed(mode):
    """Its traceback goes through the worker's frames: file and line of the user's function."""

    @pipeline
    def body():
        return value(fail("broken"))

    with pytest.raises(ValueError, match="broken") as caught:
        body()
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert [f.name for f in frames if f.filename == __file__][-2:] == ["fail", "inner_helper"]
    last = frames[-1]
    assert (last.filename, last.name) == (__file__, "inner_helper")
    assert last.line.startswith("raise ValueError(text)")
    assert "the line that fails" in "".join(traceback.format_exception(caught.value))


@component
def decode(text):
    return text.decode()


@component
def deep():
    return deep.fn()


@pytest.mark.parametrize(("call", "kind"), [(deep, RecursionError), (decode, UnicodeDecodeError)])
def test_exceptions_of_python_are_caught_as_such(mode, call, kind):
    """Those too whose constructor takes more than a text, and that come from very deep."""

    @pipeline
    def body():
        try:
            return value(call(*([b"\xff"] if call is decode else [])))
        except kind as error:
            return str(error)

    assert body() == body.fn()


def test_the_note(mode):
    """A note names the step, the attempt, the worker, the run, and how to see it again."""

    @pipeline
    def body():
        return value(fail("broken"))

    with pytest.raises(ValueError, match="broken") as caught:
        body()
    notes = "\n".join(caught.value.__notes__)
    for part in ("step fail", "attempt 1", "worker ", "pipedeco debug", "pipedeco show"):
        assert part in notes
    assert len(caught.value.__notes__) == 1


def test_reading_twice_raises_the_same_exception(mode):
    """Each reading raises one and the same exception, whose traceback does not grow."""

    @pipeline
    def body():
        r = fail.with_options(allow_failure=True)("broken")
        found = []
        for _ in range(3):
            try:
                value(r)
            except ValueError as error:
                found.append((id(error), len(traceback.extract_tb(error.__traceback__))))
        return found

    found = body()
    assert len(set(found)) == 1


def test_causes_and_contexts_travel(mode):
    """`__cause__` and the notes of the user's own arrive with the exception."""

    @component
    def chained():
        try:
            raise KeyError("inside")
        except KeyError as error:
            error.add_note("mine")
            raise ValueError("outside") from error

    @pipeline
    def body():
        return chained()

    with pytest.raises(ValueError, match="outside") as caught:
        body()
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.__cause__.__notes__ == ["mine"]


def test_an_exception_group(mode):
    """Exception groups arrive as groups: `except*` works."""

    @component
    def many():
        raise ExceptionGroup("several", [ValueError("a"), KeyError("b")])

    @pipeline
    def body():
        found = []
        try:
            value(many())
        except* ValueError as group:
            found += group.exceptions
        except* KeyError as group:
            found += group.exceptions
        return [type(error) for error in found]

    assert body() == [ValueError, KeyError]


# -- the run


def test_an_exception_leaves_the_body_unchanged(mode):
    """What leaves the body leaves the call as the very object."""
    mine = LookupError("mine")

    @pipeline
    def body():
        echo(1)
        raise mine

    with pytest.raises(LookupError) as caught:
        body()
    assert caught.value is mine
    assert not hasattr(mine, "__notes__")
    run = body.start()
    with pytest.raises(LookupError) as caught:
        run.result(10)
    assert caught.value is mine
    assert run.status == "failed"
    assert run.error == "LookupError: mine"


@in_workers
def test_an_unread_failure_fails_the_run(mode):
    """A failure that the body never read: the call raises RunFailed from it."""

    @pipeline
    def body():
        fail("broken")
        return echo(1)

    with pytest.raises(RunFailed, match=r"step fail raised ValueError: broken") as caught:
        body()
    assert type(caught.value.__cause__) is ValueError
    assert caught.value.step == "fail"
    run = body.start()
    with pytest.raises(RunFailed, match=run.id):
        run.result(10)
    assert run.status == "failed"
    assert run.steps["echo"].state == "completed"


@only_debug
def test_a_failure_of_debug_mode_leaves_unchanged(mode):
    """In debug mode it leaves at the call as it is."""

    @pipeline
    def body():
        fail("broken")

    with pytest.raises(ValueError, match="broken"):
        body()


def test_a_failure_that_was_read_is_handled(mode):
    """A failure that the body read and handled does not fail the run."""

    @pipeline
    def body():
        try:
            return value(fail())
        except ValueError:
            return "handled"

    run = body.start()
    assert run.result(10) == "handled"
    assert run.status == "completed"
    assert run.steps["fail"].state == "failed"


def test_a_failure_that_is_returned(mode):
    """Returning a failed result raises its exception."""

    @pipeline
    def body():
        return [fail("broken")]

    with pytest.raises(ValueError, match="broken"):
        body()


@in_workers
def test_several_unread_failures(mode):
    """RunFailed names the first and counts the others."""

    @pipeline
    def body():
        for i in range(3):
            fail(str(i))

    with pytest.raises(RunFailed, match=r"step fail raised ValueError: 0 \(and 2 more: fail-2"):
        body()


# -- dependants


@in_workers
def test_dependants_are_skipped(mode):
    """Steps that need the value are skipped with the reason, at any distance; others go on."""

    @pipeline
    def body():
        bad = fail("broken")
        near = echo([bad])
        echo(near)
        return echo("fine")

    run = body.start()
    with pytest.raises(RunFailed):
        run.result(10)
    states = {name: step.state for name, step in run.steps.items()}
    assert states == {
        "fail": "failed", "echo": "skipped", "echo-2": "skipped", "echo-3": "completed",
    }  # fmt: skip
    assert "fail" in run.steps["echo"].reason
    assert run.steps["echo"].attempts == []


@in_workers
def test_reading_a_skipped_step(mode):
    """Reading a skipped step raises the original exception of what failed."""

    @pipeline
    def body():
        far = echo([echo({"a": fail("broken")})])
        with pytest.raises(ValueError, match="broken"):
            value(far)
        return "handled"

    assert body() == "handled"


def test_the_same_try_as_undecorated(mode):
    """The nested call inside `try` gives what undecorated code gives, in each mode."""

    @pipeline
    def body():
        try:
            return value(echo(echo(fail("broken"))))
        except ValueError as error:
            return f"handled {error}"

    assert body() == body.fn() == "handled broken"


@in_workers
def test_a_selection_of_a_failure(mode):
    """A part of a failed result raises the same."""

    @pipeline
    def body():
        part = fail("broken")["x"][0]
        with pytest.raises(ValueError, match="broken"):
            value(part)
        return True

    assert body()


@in_workers
def test_others_go_on(mode, tmp_path):
    """Steps under way and steps still to come are performed after a failure."""
    gate = tmp_path / "gate"

    @component
    def waiting(x):
        wait_for(gate)
        return x

    @pipeline
    def body():
        slow = waiting(1)
        bad = fail()
        assert isinstance(bad.exception(), ValueError)
        gate.touch()
        return echo(slow)

    assert body() == 1


@in_workers
def test_abort(mode, tmp_path):
    """With `on_failure="abort"` a failure cancels what runs and what is to come."""
    gate = tmp_path / "gate"

    @component
    def waiting(x):
        wait_for(gate)
        return x

    @pipeline(on_failure="abort")
    def body():
        slow = waiting(1)
        fail("broken")
        with pytest.raises(StepCancelled):
            value(slow)
        echo(2)

    run = body.start()
    with pytest.raises(RunFailed, match="broken"):
        run.result(15)
    states = {name: step.state for name, step in run.steps.items()}
    assert states == {"waiting": "cancelled", "fail": "failed", "echo": "cancelled"}
    assert run.status == "failed"


# -- allow_failure


def test_allow_failure(mode):
    """With `allow_failure=True` the run does not fail for the step."""

    @pipeline
    def body():
        fail.with_options(allow_failure=True)()
        return echo(1)

    run = body.start()
    assert run.result(10) == 1
    assert run.status == "completed"
    assert run.steps["fail"].state == "failed"


def test_allow_failure_and_depends_on(mode):
    """Steps that only depend on it still run; those that need its value are skipped."""

    @pipeline
    def body():
        bad = fail.with_options(allow_failure=True)()
        after = echo.with_options(depends_on=[bad])("after")
        echo.with_options(allow_failure=True)([bad])
        return after

    run = body.start()
    assert run.result(10) == "after"
    assert run.steps["echo-2"].state == "skipped"


@in_workers
def test_depends_on_a_failure(mode):
    """Without `allow_failure` steps that depend on a failed one are skipped."""

    @pipeline
    def body():
        bad = fail("broken")
        after = echo.with_options(depends_on=[bad])("after")
        with pytest.raises(ValueError, match="broken"):
            value(after)

    run = body.start()
    assert run.result(10) is None
    assert run.steps["echo"].state == "skipped"


# -- exceptions that are more than exceptions


def leave(kind):
    raise kind


CONTROL_FLOW = [SystemExit(3), GeneratorExit(), StopIteration(5), StopAsyncIteration()]


@pytest.mark.parametrize("kind", CONTROL_FLOW, ids=lambda kind: type(kind).__name__)
def test_control_flow_exceptions(mode, kind):
    """SystemExit, GeneratorExit and StopIteration of a step arrive as StepFailed, named."""
    leaving = component(leave)

    @pipeline
    def body():
        with pytest.raises(StepFailed, match=f"step leave .*{type(kind).__name__}") as caught:
            value(leaving(kind))
        assert type(kind).__name__ in caught.value.type
        assert "leave" in caught.value.traceback
        return echo("goes on")

    assert body() == "goes on"


@in_workers
def test_a_keyboard_interrupt_of_a_step(mode):
    """A KeyboardInterrupt that a step itself raises fails that step only."""
    leaving = component(leave)

    @pipeline
    def body():
        with pytest.raises(StepFailed, match="KeyboardInterrupt"):
            value(leaving(KeyboardInterrupt()))
        return echo("goes on")

    assert body() == "goes on"


@only_debug
def test_a_keyboard_interrupt_in_debug(mode):
    """In debug mode it is a real Ctrl-C: it leaves the call, and the run is cancelled."""
    leaving = component(leave)

    @pipeline
    def body():
        value(leaving(KeyboardInterrupt()))

    from pipedeco import get_run

    with pytest.raises(KeyboardInterrupt):
        body()
    run = get_run("latest")
    assert run.status == "cancelled"
    assert run.steps["leave"].state == "cancelled"


def test_a_two_argument_exception(mode):
    """An exception with a two-argument `__init__` fails its own step, named."""

    @component
    def odd():
        raise TwoArgumentsError(5, "odd")

    @pipeline
    def body():
        with pytest.raises((TwoArgumentsError, StepFailed), match="5: odd") as caught:
            value(odd())
        if type(caught.value) is StepFailed:
            assert "TwoArgumentsError" in caught.value.type
        return echo("goes on")

    assert body() == "goes on"


def test_an_exception_without_text(mode):
    """An exception whose `__str__` raises fails its own step, named."""

    @component
    def mute():
        raise MuteError

    @pipeline
    def body():
        with pytest.raises((MuteError, StepFailed)) as caught:
            value(mute())
        return type(caught.value).__name__, echo("goes on")

    name, rest = body()
    assert name == "MuteError"
    assert rest == "goes on"


def test_an_unread_exception_without_text(mode):
    """The same where nobody reads it: the run fails with its own message."""

    @component
    def mute():
        raise MuteError

    @pipeline
    def body():
        mute()

    run = body.start()
    with pytest.raises(MuteError if mode == "debug" else RunFailed):
        run.result(10)
    assert "MuteError" in run.steps["mute"].error


def test_an_exception_that_cannot_be_pickled(mode):
    """What does not survive the trip arrives as StepFailed, too, with type, text and traceback."""

    @component
    def holding():
        raise HoldingError("holds")

    @pipeline
    def body():
        with pytest.raises(HoldingError, match="holds") as caught:
            value(holding())
        if mode != "debug":
            assert isinstance(caught.value, StepFailed)
            assert "HoldingError" in caught.value.type
            assert "raise HoldingError" in caught.value.traceback
        return True

    assert body()


# -- what cannot be pickled


class Model:
    def __init__(self):
        self.conn = sqlite3.connect(":memory:")


@in_workers
def test_an_argument_that_cannot_travel(mode):
    """NotPicklable at the call names component, argument and attribute path; no step is made."""

    @component
    def use(x, model):
        return 1

    @pipeline
    def body():
        with pytest.raises(NotPicklable, match=r"use.*model\.conn is a sqlite3\.Connection"):
            use(1, Model())
        with pytest.raises(NotPicklable, match=r"model\['a'\]\[1\]\.conn is a sqlite3\.Conn"):
            use(1, model={"a": [0, Model()]})
        return echo("goes on")

    run = body.start()
    assert run.result(10) == "goes on"
    assert list(run.steps) == ["echo"]


@in_workers
def test_a_result_that_cannot_travel(mode):
    """NotPicklable of a result names the step and the attribute path, and fails that step."""

    @component
    def make():
        return {"model": Model()}

    @pipeline
    def body():
        made = make()
        with pytest.raises(NotPicklable, match=r"\['model'\]\.conn is a sqlite3\.Connection"):
            value(made)
        return echo("goes on")

    run = body.start()
    assert run.result(10) == "goes on"
    step = run.steps["make"]
    assert step.state == "failed"
    assert "NotPicklable" in step.error
    assert "result" in step.error


@in_workers
def test_the_name_of_the_step_in_not_picklable(mode):
    """The exception carries the step's name."""

    @component
    def make():
        return (i for i in range(3))

    @pipeline
    def body():
        with pytest.raises(NotPicklable, match="generator") as caught:
            value(make())
        return caught.value.step

    assert body() == "make"


class Unloadable:
    def __reduce__(self):
        return int, ("not a number",)


@in_workers
def test_a_value_that_cannot_be_loaded(mode):
    """A value that raises on unpickling leaves its step completed; who reads it is told."""

    @component
    def make():
        return Unloadable()

    @pipeline
    def body():
        with pytest.raises(StepFailed, match=r"step make .*cannot be loaded"):
            value(make())
        return echo("goes on")

    run = body.start()
    assert run.result(10) == "goes on"
    assert run.steps["make"].state == "completed"


@in_workers
def test_an_input_that_cannot_be_loaded(mode):
    """A step that gets such a value fails, named."""

    @component
    def make():
        return Unloadable()

    @pipeline
    def body():
        with pytest.raises(Exception, match="not a number"):
            value(echo([make()]))

    run = body.start()
    run.result(10)
    assert (run.steps["make"].state, run.steps["echo"].state) == ("completed", "failed")

"""Callbacks: asked before a step, told after it and of its states, told of a run's end."""

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from conftest import wait_for, wait_until

from pipedeco import (
    Callback,
    GraphError,
    RunCancelled,
    RunFailed,
    StepSkipped,
    component,
    get_run,
    pipeline,
    value,
)

in_workers = pytest.mark.parametrize("mode", ["local", "remote"], indirect=True)
EVENTS = ("before_step", "after_step", "on_status_change")


@component
def echo(x=None):
    return x


@component
def fail(x=None):
    raise ValueError("the step's own")


def boom(*args):
    raise OSError("from the callback")


class Recorder(Callback):
    """Notes whatever it is told."""

    def __init__(self, seen=None, name="recorder"):
        self.seen = [] if seen is None else seen
        self.name = name

    def before_step(self, step, inputs):
        self.seen.append((self.name, "before", step.name, step.state, inputs))

    def after_step(self, step):
        self.seen.append((self.name, "after", step.name, step.state))

    def on_status_change(self, step, previous):
        self.seen.append((self.name, "status", step.name, previous, step.state))

    def on_run_end(self, run):
        self.seen.append((self.name, "end", run.status))


def changes(seen, step):
    """The states that a step has been told to have, in order."""
    told = [item[3:] for item in seen if item[1] == "status" and item[2] == step]
    assert all(one[1] == other[0] for one, other in itertools.pairwise(told)), told
    return [told[0][0], *[new for _, new in told]] if told else []


def states(run):
    return {name: step.state for name, step in run.steps.items()}


# -- order and what they get -------------------------------------------------------------------


def test_the_whole_life_of_a_step(mode):
    """All four are called, in the order of what happens, with the values and states of then."""
    seen = []

    @pipeline(callbacks=[Recorder(seen)])
    def body():
        return echo(echo(1))

    assert body() == 1
    life = [item[1:] for item in seen]
    for step in ("echo", "echo-2"):
        assert [item for item in life if item[1] == step] == [
            ("before", step, "pending", {"x": 1}),
            ("status", step, "pending", "queued"),
            ("status", step, "queued", "running"),
            ("after", step, "completed"),
            ("status", step, "running", "completed"),
        ]
    assert life[-1] == ("end", "completed")
    assert life.index(("after", "echo", "completed")) < life.index(
        ("before", "echo-2", "pending", {"x": 1})
    )


def test_the_pipelines_come_before_the_components(mode):
    """Functions before objects, the pipeline's before the component's."""
    order = []

    def noting(name):
        return lambda *args: order.append(name)

    class Named(Callback):
        def __init__(self, name):
            self.before_step = self.after_step = noting(name)

    options = {"before_step": noting("c"), "after_step": noting("c"), "callbacks": [Named("co")]}
    traced = echo.with_options(**options)
    options = {"before_step": noting("p"), "after_step": noting("p"), "callbacks": [Named("po")]}

    @pipeline(**options)
    def body():
        return traced(1)

    body()
    assert order == ["p", "po", "c", "co"] * 2


def test_what_a_callback_knows_of_a_step(mode):
    """The view has plain facts, the value, and cannot be changed."""
    views = []

    @pipeline(after_step=views.append, on_status_change=lambda step, _: views.append(step))
    def body():
        return echo([1, 2])

    run = body.start()
    run.result(10)
    after = next(view for view in views if view.state == "completed")
    assert (after.name, after.component, after.attempt) == ("echo", "echo", 1)
    assert after.run == run.id
    assert after.duration >= 0.0
    assert (after.error, after.exception, after.reason, after.tags) == (None, None, None, ())
    assert after.result() == [1, 2]
    queued = next(view for view in views if view.state == "queued")
    assert (queued.duration, queued.error) == (None, None)
    with pytest.raises(GraphError, match=r"step echo of run \w+ is queued and has no result"):
        queued.result()
    with pytest.raises(AttributeError, match="cannot change step echo"):
        after.state = "failed"
    assert repr(after) == "<step echo completed>"


def test_inputs_are_values_and_copies(mode):
    """Results are replaced at any depth; what a callback does to them the step never sees."""

    def spoil(step, inputs):
        inputs["x"]["list"].append("spoilt")
        inputs["x"] = None

    taking = echo.with_options(before_step=spoil)

    @pipeline
    def body():
        made = echo([1])
        return taking({"list": made, "n": [made]}), made

    assert body() == ({"list": [1], "n": [[1]]}, [1])


def test_a_result_that_a_callback_changes(mode):
    """It gets a copy of its own."""

    @pipeline(after_step=lambda step: step.result().append("spoilt"))
    def body():
        made = echo([1])
        return echo(made), value(made)

    assert body() == ([1], [1])


def test_components_in_a_callback_are_bare_functions(mode):
    """So are pipelines, as inside a step."""
    seen = []

    @pipeline
    def inner(x):
        return echo(x)

    def after(step):
        seen.append((echo("plain"), inner("too")))

    @pipeline(after_step=after)
    def body():
        return echo(1)

    run = body.start()
    run.result(10)
    assert seen == [("plain", "too")]
    assert list(run.steps) == ["echo"]


def test_only_what_is_overridden_is_called(mode):
    """A Callback that overrides nothing costs a run nothing."""

    @pipeline(callbacks=[Callback()])
    def body():
        return echo(1)

    execution = body.prepare((), {})
    assert execution.execute() == 1
    assert execution.scheduler.hooks is None


# -- skipping ----------------------------------------------------------------------------------


def test_a_callback_skips_a_step_and_those_that_need_it(mode):
    """Skipping is no failure; the reason names who did it; others go on."""
    performed = []

    def no_way(step, inputs):
        return False

    skipped = echo.with_options(name="skipped", before_step=no_way)
    seen = []

    @pipeline(callbacks=[Recorder(seen)], after_step=lambda step: performed.append(step.name))
    def body():
        lost = skipped(1)
        echo(echo(lost))
        echo.with_options(depends_on=[lost])(2)
        return echo(3)

    run = body.start()
    assert run.result(10) == 3
    assert run.status == "completed"
    assert states(run) == {
        "skipped": "skipped", "echo": "skipped", "echo-2": "skipped", "echo-3": "skipped",
        "echo-4": "completed",
    }  # fmt: skip
    assert run.steps["skipped"].reason == "before_step callback no_way returned False"
    assert run.steps["echo"].reason == "step skipped, which it needs, was skipped"
    assert performed == ["echo-4"]
    assert changes(seen, "skipped") == changes(seen, "echo-2") == ["pending", "skipped"]


def test_reading_a_skipped_step(mode):
    """It raises StepSkipped with the reason."""

    @pipeline(before_step=lambda step, inputs: step.name != "echo")
    def body():
        lost = echo(1)
        with pytest.raises(StepSkipped, match=r"step echo of run \w+ was skipped: before_step"):
            value(lost)
        return echo(2)

    assert body() == 2


@pytest.mark.parametrize("answer", [None, 0, True, "", []])
def test_only_false_skips(mode, answer):
    """Any other value lets the step run."""

    @pipeline(before_step=lambda step, inputs: answer)
    def body():
        return echo(1)

    assert body() == 1


# -- raising -----------------------------------------------------------------------------------


def test_before_step_raises(mode):
    """The step fails with that error, unperformed; its record and note say whose it is."""
    performed = []
    broken = echo.with_options(before_step=boom, after_step=performed.append)

    @pipeline
    def body():
        lost = broken(1)
        return lost, echo(lost)

    run = body.start()
    with pytest.raises(OSError, match="from the callback") as caught:
        run.result(10)
    note = "\n".join(caught.value.__notes__)
    assert f"in before_step callback boom of step echo of run {run.id} (body)" in note
    assert "pipedeco debug" not in note
    assert "boom" in [frame.name for frame in caught.traceback]
    record = get_run(run.id).steps["echo"]
    assert (record.state, record.error) == ("failed", "OSError: from the callback")
    assert record.reason == "before_step callback boom raised OSError"
    assert "in before_step callback boom" in record.traceback
    assert len(record.attempts) == 0
    assert performed == []


@pytest.mark.parametrize("event", EVENTS)
def test_what_a_callback_raises_fails_a_run_that_reads_nothing(mode, event):
    """The run fails as for any failure that nobody read."""

    @pipeline(**{event: boom})
    def body():
        echo.with_options(allow_failure=False)(1)
        return "value"

    run = body.start()
    with pytest.raises((RunFailed, OSError)):  # in debug mode it leaves at the call
        run.result(10)
    assert run.status == "failed"
    assert states(run) == {"echo": "failed"}


@pytest.mark.parametrize("event", EVENTS)
def test_a_failure_by_a_callback_may_be_allowed(mode, event):
    """`allow_failure` holds for it, too; what needs the value is skipped."""
    allowed = echo.with_options(**{event: boom}, allow_failure=True, name="allowed", retries=3)

    @pipeline
    def body():
        lost = allowed(1)
        echo(lost)
        return echo.with_options(depends_on=[lost])(2)

    run = body.start()
    assert run.result(10) == 2
    assert states(run) == {"allowed": "failed", "echo": "skipped", "echo-2": "completed"}


def test_after_step_raises(mode):
    """The value is nobody's; the step's times stay."""
    seen = []
    broken = echo.with_options(after_step=boom, allow_failure=True)

    @pipeline(callbacks=[Recorder(seen)])
    def body():
        lost = broken(1)
        with pytest.raises(OSError, match="from the callback"):
            value(lost)

    run = body.start()
    run.result(10)
    record = run.steps["echo"]
    assert record.state == "failed"
    assert record.duration is not None
    assert record.preview is None
    assert len(record.attempts) == 1
    assert changes(seen, "echo") == ["pending", "queued", "running", "failed"]


@pytest.mark.parametrize("at", ["queued", "running", "completed", "failed", "skipped"])
def test_on_status_change_raises(mode, at):
    """Wherever it raises, the step becomes failed with that, unless it had failed by itself."""

    def change(step, previous):
        if step.state == at:
            raise OSError(f"at {at}")

    seen = []
    options = {"on_status_change": change, "allow_failure": True, "name": "odd"}
    odd = (fail if at == "failed" else echo).with_options(**options)
    if at == "skipped":
        odd = odd.with_options(before_step=lambda step, inputs: False)

    @pipeline(callbacks=[Recorder(seen)])
    def body():
        lost = odd(1)
        error = ValueError if at == "failed" else OSError
        with pytest.raises(error):
            value(lost)

    run = body.start()
    run.result(10)
    assert run.steps["odd"].state == "failed"
    told = changes(seen, "odd")
    assert told[-1] == "failed"
    assert at in told


def test_both_the_step_and_its_callback_raise(mode, caplog):
    """The step's own error counts; the other is logged."""

    @pipeline(after_step=boom)
    def body():
        with pytest.raises(ValueError, match="the step's own"):
            value(fail.with_options(allow_failure=True)())

    body()
    assert "after_step callback boom" in caplog.text
    assert "from the callback" in caplog.text


def test_those_behind_one_that_raises_are_told_of_the_failure(mode):
    """They see the step as failed, with the error."""
    seen = []

    def after(step):
        seen.append((step.state, step.error, type(step.exception)))
        with pytest.raises(OSError, match="from the callback"):
            step.result()

    @pipeline(after_step=boom)
    def body():
        echo.with_options(after_step=after, allow_failure=True)(1)

    body()
    assert seen == [("failed", "OSError: from the callback", OSError)]


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), StopIteration()])
def test_a_callback_that_raises_control_flow(mode, error):
    """It ends no thread and no process; the step has failed."""

    def leave(step):
        raise error

    @pipeline
    def body():
        echo.with_options(after_step=leave, allow_failure=True)(1)
        return 1

    run = body.start()
    assert run.result(10) == 1
    assert states(run) == {"echo": "failed"}


# -- retries and the cache ---------------------------------------------------------------------


def test_callbacks_with_retries(mode, tmp_path):
    """Before and after are called once a step, states are told at each attempt."""
    log = tmp_path / "log"
    seen = []

    @component(retries=2)
    def flaky():
        with open(log, "a") as file:
            file.write("x")
        if log.stat().st_size < 3:
            raise ValueError("not yet")
        return "done"

    @pipeline(callbacks=[Recorder(seen)])
    def body():
        return flaky()

    assert body() == "done"
    assert changes(seen, "flaky") == ["pending", *["queued", "running", "pending"] * 2,
                                      "queued", "running", "completed"]  # fmt: skip
    assert [item[1] for item in seen].count("before") == 1
    assert [item[1] for item in seen].count("after") == 1


def test_a_callback_that_raises_between_attempts(mode):
    """There is no other attempt."""

    def change(step, previous):
        if (previous, step.state) == ("running", "pending"):
            raise OSError("no more")

    stopped = fail.with_options(retries=5, on_status_change=change, allow_failure=True)

    @pipeline
    def body():
        with pytest.raises(OSError, match="no more"):
            value(stopped())

    run = body.start()
    run.result(10)
    assert run.steps["fail"].state == "failed"
    assert len(run.steps["fail"].attempts) == 1


@component(cache=True)
def cached(x):
    return x + 1


def test_callbacks_of_a_cached_step(mode):
    """It is asked for before it is looked up, and told of after."""
    seen = []

    @pipeline(callbacks=[Recorder(seen)])
    def body():
        return cached(1)

    assert body() == 2
    del seen[:]
    assert body() == 2
    assert changes(seen, "cached") == ["pending", "queued", "cached"]
    assert [item[1:4] for item in seen if item[1] in ("before", "after")] == [
        ("before", "cached", "pending"),
        ("after", "cached", "cached"),
    ]


def test_a_resumed_run(mode):
    """A step that is kept calls nobody; the others do."""
    seen = []
    broken = [True]

    def check(step, inputs):
        if step.name == "second" and broken:
            raise OSError("not today")

    first, second = echo.with_options(name="first"), echo.with_options(name="second")

    @pipeline(callbacks=[Recorder(seen)], before_step=check)
    def body():
        return second(first(1))

    run = body.start()
    with pytest.raises(OSError, match="not today"):
        run.result(10)
    del seen[:], broken[:]
    assert run.resume().result(10) == 1
    assert {item[2] for item in seen if item[1] != "end"} == {"second"}
    assert changes(seen, "second") == ["pending", "queued", "running", "completed"]


# -- child runs --------------------------------------------------------------------------------


def test_callbacks_of_child_runs(mode):
    """A parent's hold for its own steps, the child among them; the child has its own."""
    parents, childs = [], []

    @pipeline(callbacks=[Recorder(childs)])
    def child(x):
        return echo(x)

    @pipeline(callbacks=[Recorder(parents)])
    def parent():
        return echo(child(1))

    assert parent() == 1
    assert {item[2] for item in parents if item[1] != "end"} == {"child", "echo"}
    assert {item[2] for item in childs if item[1] != "end"} == {"echo"}
    assert changes(parents, "child") == ["pending", "queued", "running", "completed"]
    assert childs[-1][1:] == parents[-1][1:] == ("end", "completed")


def test_a_child_run_that_is_skipped(mode):
    """It never begins."""

    @pipeline
    def child(x):
        return echo(x)

    @pipeline(before_step=lambda step, inputs: step.component != "child")
    def parent():
        child(1)
        return 2

    run = parent.start()
    assert run.result(10) == 2
    assert run.steps["child"].child_run is None


# -- the run's end -----------------------------------------------------------------------------


def test_on_run_end_sees_the_end(mode):
    """Status, steps, progress and the value are there, by any handle."""
    seen = []

    def end(run):
        for handle in (run, get_run(run.id)):
            seen.append(
                (handle.status, handle.error, handle.progress, states(handle), handle.result())
            )
            assert handle.wait(0.0)

    @pipeline(on_run_end=end)
    def body():
        return echo(1)

    assert body() == 1
    assert seen == [("completed", None, 1.0, {"echo": "completed"}, 1)] * 2


def test_on_run_end_of_a_failed_run(mode):
    """The error is there, and `result()` raises it; the call raises the same."""
    seen = []

    def end(run):
        with pytest.raises(ValueError, match="the step's own") as caught:
            run.result()
        seen.append((run.status, run.error, run.progress, caught.value))

    @pipeline(on_run_end=end)
    def body():
        return value(fail())

    with pytest.raises(ValueError, match="the step's own") as caught:
        body()
    assert seen == [("failed", "ValueError: the step's own", 1.0, caught.value)]


@pytest.mark.parametrize("step", [echo, fail])
def test_on_run_end_raises(mode, step):
    """The call raises that, and the run is recorded as failed with it."""

    @pipeline(on_run_end=boom)
    def body():
        return value(step(1))

    run = body.start()
    with pytest.raises(OSError, match="from the callback") as caught:
        run.result(10)
    assert f"in on_run_end callback boom of run {run.id} (body)" in caught.value.__notes__
    assert run.status == get_run(run.id).status == "failed"
    assert get_run(run.id).error == "OSError: from the callback"


def test_all_of_several_are_called_at_the_end(mode, caplog):
    """The first error counts, the others are logged."""
    seen = []

    def second(run):
        seen.append(run.status)
        raise KeyError("second")

    class Last(Callback):
        def on_run_end(self, run):
            seen.append("last")

    class Second(Callback):
        on_run_end = staticmethod(second)

    @pipeline(on_run_end=boom, callbacks=[Second(), Last()])
    def body():
        return 1

    with pytest.raises(OSError, match="from the callback"):
        body()
    assert seen == ["completed", "last"]
    assert "second" in caplog.text


def test_another_run_at_the_end_of_one(mode):
    """on_run_end may start the next run."""

    @pipeline
    def following(x):
        return echo(x + 1)

    found = []

    @pipeline(on_run_end=lambda run: found.append(following(run.result())))
    def body():
        return echo(1)

    assert body() == 1
    assert found == [2]


# -- waiting, cancelling -----------------------------------------------------------------------


def test_a_callback_that_waits_for_its_own_run(mode):
    """It would wait for ever, and is told so."""
    errors = []

    def wait_for_the_run(step):
        try:
            get_run(step.run).result()
        except GraphError as error:
            errors.append(str(error))
            raise

    @pipeline
    def body():
        with pytest.raises(GraphError, match="waits for the run"):
            value(echo.with_options(after_step=wait_for_the_run, allow_failure=True)(1))

    body()
    assert len(errors) == 1


@in_workers
def test_a_callback_that_waits_for_a_step(mode, tmp_path):
    """The same of the result of a step that has not ended."""
    results = []

    @component
    def waiting():
        wait_for(tmp_path / "gate")

    def reading(step):
        try:
            results[0].result()
        finally:
            (tmp_path / "gate").touch()

    @pipeline
    def body():
        results.append(waiting())
        with pytest.raises(GraphError, match="a callback waits for step waiting"):
            value(echo.with_options(after_step=reading, allow_failure=True)(1))

    body()


@in_workers
def test_a_slow_callback_stalls_no_other_run(mode, tmp_path):
    """It has a thread of its run's own."""
    inside, gate = tmp_path / "inside", tmp_path / "gate"

    def slow(step):
        inside.touch()
        wait_for(gate)

    @pipeline(after_step=slow)
    def first():
        return echo(1)

    @pipeline
    def second():
        return echo(echo(2))

    run = first.start()
    wait_for(inside)
    assert second() == 2
    assert run.status == "running"
    assert run.steps["echo"].state in ("queued", "running")
    gate.touch()
    assert run.result(10) == 1


@in_workers
@pytest.mark.parametrize("event", ["before_step", "after_step"])
def test_cancel_during_a_callback(mode, tmp_path, event):
    """What waits for before_step is cancelled at once; after_step may still come to its end."""
    inside, gate = tmp_path / "inside", tmp_path / "gate"
    ends = []

    def slow(*args):
        inside.touch()
        wait_for(gate)

    @pipeline(**{event: slow}, on_run_end=lambda run: ends.append(run.status))
    def body():
        return echo(echo(1))

    run = body.start()
    wait_for(inside)
    run.cancel()
    if event == "before_step":
        wait_until(lambda: states(run).get("echo") == "cancelled", "it is cancelled")
    gate.touch()
    with pytest.raises(RunCancelled):
        run.result(10)
    assert ends == ["cancelled"]
    ended = "cancelled" if event == "before_step" else "completed"
    assert states(run)["echo"] == ended
    assert states(run)["echo-2"] in ("cancelled", "skipped")


@in_workers
def test_cancel_during_a_callback_that_does_not_return(mode, tmp_path, monkeypatch, caplog):
    """After a grace the run goes on without it; the step is what it was without the callback."""
    monkeypatch.setattr("pipedeco.hooks.GRACE", 0.2)
    inside, gate = tmp_path / "inside", tmp_path / "gate"
    ends = []

    def stuck(step):
        inside.touch()
        wait_for(gate)

    @pipeline(after_step=stuck, on_run_end=lambda run: ends.append(run.status))
    def body():
        return echo(1)

    run = body.start()
    wait_for(inside)
    run.cancel()
    with pytest.raises(RunCancelled):
        run.result(5)
    assert ends == ["cancelled"]
    assert states(run) == {"echo": "completed"}
    assert run.steps["echo"].result() == 1
    assert "goes on without after_step callback" in caplog.text
    gate.touch()


@in_workers
def test_a_callback_that_is_told_of_the_cancel_and_does_not_return(mode, tmp_path, monkeypatch):
    """It has the grace, too, though it was called after the cancel."""
    monkeypatch.setattr("pipedeco.hooks.GRACE", 0.2)
    began, gate = tmp_path / "began", tmp_path / "gate"

    def stuck(step, previous):
        if step.state == "cancelled":
            wait_for(gate)

    @component
    def hang():
        began.touch()
        wait_for(gate, timeout=30)

    @pipeline(on_status_change=stuck)
    def body():
        return hang()

    run = body.start()
    wait_for(began)
    run.cancel()
    with pytest.raises(RunCancelled):
        run.result(8)
    gate.touch()


def test_cancelling_from_a_callback(mode):
    """A callback may cancel its run."""

    def stop(step):
        get_run(step.run).cancel()

    @pipeline(after_step=stop)
    def body():
        return echo(echo(1))

    run = body.start()
    with pytest.raises(RunCancelled):
        run.result(10)
    assert states(run).get("echo-2", "cancelled") == "cancelled"


def test_a_cancelled_step_whose_callback_raises(mode):
    """It becomes failed; the run is cancelled all the same."""

    def change(step, previous):
        if step.state == "cancelled":
            raise OSError("at the end")

    @pipeline(on_status_change=change, before_step=lambda step, inputs: get_run(step.run).cancel())
    def body():
        return echo(1)

    run = body.start()
    with pytest.raises(RunCancelled):
        run.result(10)
    assert run.status == "cancelled"
    assert states(run) == {"echo": "failed"}


@pytest.mark.parametrize("event", ["before_step", "after_step", "on_status_change", "on_run_end"])
def test_ctrl_c_during_a_callback(mode, tmp_path, event):
    """KeyboardInterrupt leaves the call, all is recorded cancelled, and nothing hangs."""
    inside = tmp_path / "inside"
    done = threading.Event()

    def slow(*args):
        inside.touch()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not done.is_set():
            time.sleep(0.01)

    @pipeline(**{event: slow})
    def body():
        return value(echo(1))

    def press():
        wait_for(inside)
        os.kill(os.getpid(), signal.SIGINT)
        if mode != "debug" and event != "on_run_end":  # where Ctrl-C does not reach the callback
            done.wait(0.1)
            done.set()

    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        body()
    assert not done.is_set() or (mode != "debug" and event != "on_run_end")  # nobody waited for it
    presser.join()
    done.set()
    run = get_run()
    assert run.status == "cancelled"
    if event == "before_step" or mode == "debug":
        assert set(states(run).values()) <= {"cancelled", "completed"}


# -- entry points ------------------------------------------------------------------------------

PLUGIN = """
from pipedeco import Callback

class Printing(Callback):
    def __init__(self, word="class"):
        self.word = word
    def before_step(self, step, inputs):
        print(self.word, "before", step.name, flush=True)
    def on_run_end(self, run):
        print(self.word, "end", run.status, flush=True)

instance = Printing("instance")

def factory():
    return Printing("factory")

number = 3

class Greedy(Callback):
    def after_step(self, step, value): pass
"""

SCRIPT = """
import sys
from pipedeco import component, pipeline

@component(before_step=lambda step, inputs: print("component before", step.name, flush=True))
def one():
    return 1

@pipeline
def body():
    return one()

assert body() == 1
assert body() == 1
if not {"distributed", "ray", "fsspec"} & sys.modules.keys():  # these import it
    assert "importlib.metadata" not in sys.modules
"""


@pytest.fixture
def installed(tmp_path):
    """Runs a script where a distribution with these entry points is installed."""

    def run(mode, points, *folders):
        site = tmp_path / "site"
        folder = site / "shouting_tools-1.0.dist-info"
        folder.mkdir(parents=True)
        (site / "shouting.py").write_text(textwrap.dedent(PLUGIN))
        (site / "leaving.py").write_text("raise SystemExit(3)")
        lines = "".join(f"{name} = {value}\n" for name, value in points.items())
        text = f"[console_scripts]\nx = y:z\n\n[pipedeco.callbacks]\n{lines}\n[other]\na = b:c\n"
        (folder / "entry_points.txt").write_text(text)
        (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
        environment = {**os.environ, "PIPEDECO_MODE": mode, "PYTHONPATH": str(site)}
        return subprocess.run(
            [sys.executable, tmp_path / "script.py"],
            capture_output=True, text=True, timeout=30, env=environment, check=False,
        )  # fmt: skip

    return run


def test_entry_points(mode, installed):
    """A class, an object and a factory are called for every run, before the run's own."""
    points = {"a": "shouting:Printing", "b": "shouting:instance", "c": "shouting:factory [extra]"}
    done = installed(mode, points)
    assert done.returncode == 0, done.stderr
    words = ["class", "instance", "factory"]
    once = [f"{word} before one" for word in words] + ["component before one"]
    once += [f"{word} end completed" for word in words]
    assert done.stdout.splitlines() == once * 2


@pytest.mark.parametrize(
    ("point", "what"),
    [
        ("missing_module:x", "raised ModuleNotFoundError"),
        ("shouting:nothing", "raised AttributeError"),
        ("leaving:x", "raised SystemExit: 3"),
        ("shouting:number", "gave 3, which is no pipedeco.Callback"),
        ("shouting:Greedy", "after_step is called with (step), and Greedy.after_step takes (step,"),
    ],
)
@in_workers
def test_an_entry_point_that_cannot_be_used(mode, installed, point, what):
    """The error names the distribution, and nothing was performed."""
    done = installed(mode, {"odd": point})
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "ConfigError: the callback 'odd' of the installed distribution shouting_tools" in last
    assert what in last
    assert "before" not in done.stdout


def test_entry_points_are_looked_for_once(mode, tmp_path, monkeypatch):
    """Once a process and sys.path; what is no folder of distributions is passed over."""
    from pipedeco import plugins

    for number in range(3):
        folder = tmp_path / f"dist{number}-1.0.dist-info"
        folder.mkdir()
        (folder / "entry_points.txt").write_text("[console_scripts]\nx = y:z\n")
    path = [str(tmp_path), str(tmp_path / "not there"), str(Path(__file__))]
    assert plugins.find("pipedeco.callbacks", path) == []
    looks, find = [], plugins.find
    monkeypatch.setattr(plugins, "find", lambda *asked: looks.append(asked) or find(*asked))
    found = plugins.Plugins()
    found.callbacks(path)
    found.callbacks(path)
    assert len(looks) == 1


# -- options -----------------------------------------------------------------------------------


def test_callbacks_are_recorded_by_name(mode):
    """No addresses, which would differ each time."""
    noting = echo.with_options(before_step=lambda *args: None, callbacks=[Quiet()])
    assert noting.options_text() == {"before_step": "<lambda>", "callbacks": "Quiet"}


class Quiet(Callback):
    def after_step(self, step):
        pass


def test_callbacks_do_not_travel(mode):
    """A step that uses a component with callbacks as a function needs none of them."""
    lock = threading.Lock()
    helper = echo.with_options(before_step=lambda *args: lock.locked())

    @component
    def using():
        return helper(3)

    @pipeline
    def body():
        return using()

    assert body() == 3

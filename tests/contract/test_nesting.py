"""A pipeline called within a pipeline is one step, whose run is a child run."""

import os
import threading

import numpy as np
import pytest
from conftest import wait_for, wait_until

from pipedeco import (
    GraphError,
    RunCancelled,
    RunFailed,
    StepResult,
    component,
    get_run,
    pipeline,
    runs,
    value,
)

in_workers = pytest.mark.parametrize("mode", ["local", "remote"], indirect=True)


@component
def echo(x):
    return x


@component
def add(a, b):
    return a + b


@component
def fail(text="no"):
    raise ValueError(text)


@pipeline
def double(x):
    return add(x, x)


@pipeline
def both(x) -> tuple[int, list]:
    return add(x, 1), [double(x)]


def is_result(item):
    return type(item) is StepResult


def test_a_child_is_one_step(mode):
    """The call gives a StepResult; the graph has one step; the value goes on to others."""

    @pipeline
    def body(x):
        r = double(echo(x))
        assert is_result(r)
        return add(r, 1)

    run = body.start(4)
    assert run.result(10) == 9
    assert list(run.steps) == ["echo", "double", "add"]
    assert run.graph.edges == [("echo", "double", "data"), ("double", "add", "data")]
    assert run.steps["double"].component == "double"
    assert run.steps["double"].result() == 8


def test_the_child_run(mode):
    """The child's own run is recorded with its parent, and is not the latest run."""

    @pipeline
    def body():
        return double(3), double(4)

    run = body.start()
    assert run.result(10) == (6, 8)
    children = runs("double")
    assert [c.parent_run for c in children] == [run.id, run.id]
    assert sorted(c.result() for c in children) == [6, 8]
    assert sorted(c.number for c in children) == [1, 2]
    assert {c.status for c in children} == {"completed"}
    assert [list(c.steps) for c in children] == [["add"], ["add"]]
    assert {c.mode for c in children} == {mode}
    assert get_run("latest").id == run.id
    assert get_run("latest").parent_run is None


def test_depth(mode):
    """Pipelines in pipelines in pipelines, with results in what they return."""

    @pipeline
    def body():
        first, second = both(5)
        return first, second, both(echo(1))

    assert body() == body.fn() == (6, [10], (2, [2]))


@in_workers
def test_depth_with_one_worker(mode):
    """Bodies of children need no worker, so nesting cannot deadlock."""

    @pipeline(workers=1)
    def body():
        return [both(i) for i in range(4)], both(both(1)[0])

    assert body() == ([(i + 1, [2 * i]) for i in range(4)], (3, [4]))


def test_recursion(mode):
    """A pipeline may call itself."""

    @pipeline
    def power(n):
        return 1 if n == 0 else add(*[power(n - 1)] * 2)

    assert power(4) == 16


def test_unpacking_a_child_is_lazy(mode):
    """The annotation of a pipeline counts as that of a component."""

    @pipeline
    def body():
        a, b = both(2)
        return is_result(a), is_result(b), a, b

    assert body() == (True, True, 3, [4])


def test_a_child_s_body_runs_here(mode):
    """The child's body runs in the controller, in debug mode in the caller's thread."""

    @pipeline
    def where():
        echo(1)
        return os.getpid(), threading.get_ident()

    @pipeline
    def body():
        return where()

    pid, thread = body()
    assert pid == os.getpid()
    assert (thread == threading.get_ident()) is (mode == "debug")


@in_workers
def test_a_child_waits_for_its_inputs_only(mode, tmp_path):
    """Calling a child does not wait, neither for its inputs nor for its steps."""
    gate = tmp_path / "gate"

    @component
    def blocked(x):
        wait_for(gate)
        return x

    @pipeline
    def child(x):
        return blocked(x)

    @pipeline
    def body():
        first = child(blocked(1))
        second = child(first)
        assert not second.done()
        gate.touch()
        return second

    assert body() == 1


@in_workers
def test_children_side_by_side(mode, tmp_path):
    """Independent children run at the same time."""
    a, b = str(tmp_path / "a"), str(tmp_path / "b")

    @component
    def meet(mine, other):
        open(mine, "w").close()
        wait_for(other)
        return mine

    @pipeline
    def child(mine, other):
        return value(meet(mine, other))

    @pipeline
    def body():
        return child(a, b), child(b, a)

    assert body() == (a, b)


def test_a_large_value_of_a_child(mode):
    """Arrays leave a child as they leave a step."""

    @pipeline
    def child(n):
        return echo(np.arange(n))

    @component
    def total(x):
        return int(x.sum())

    @pipeline
    def body():
        return total(child(100_000))

    assert body() == 100_000 * 99_999 // 2


# -- failure


def test_a_child_that_raises(mode):
    """The exception that leaves the child's body is what reading the step raises."""

    @pipeline
    def child():
        echo(1)
        raise LookupError("mine")

    @pipeline
    def body():
        with pytest.raises(LookupError, match="mine"):
            value(child())
        return echo("goes on")

    run = body.start()
    assert run.result(10) == "goes on"
    assert run.steps["child"].state == "failed"
    assert runs("child")[0].status == "failed"


def test_a_step_that_fails_in_a_child(mode):
    """The original exception goes through all levels."""

    @pipeline
    def child():
        return value(fail("deep"))

    @pipeline
    def middle():
        return value(child())

    @pipeline
    def body():
        try:
            return value(middle())
        except ValueError as error:
            return f"handled {error}"

    assert body() == body.fn() == "handled deep"


@in_workers
def test_an_unread_failure_in_a_child(mode):
    """A child with an unread failure is a step that failed with RunFailed."""

    @pipeline
    def child():
        fail("deep")

    @pipeline
    def body():
        with pytest.raises(RunFailed, match="step fail raised ValueError: deep") as caught:
            value(child())
        return type(caught.value.__cause__).__name__

    assert body() == "ValueError"


@in_workers
def test_dependants_of_a_failed_child(mode):
    """Steps that need the child's value are skipped."""

    @pipeline
    def child():
        return fail("deep")

    @pipeline
    def body():
        after = echo([child()])
        with pytest.raises(ValueError, match="deep"):
            value(after)

    run = body.start()
    run.result(10)
    assert run.steps["echo"].state == "skipped"


# -- cancel


@in_workers
def test_cancelling_reaches_children(mode, tmp_path):
    """Cancelling the parent cancels the child's run and its steps."""
    began = tmp_path / "began"

    @component
    def hang():
        began.touch()
        wait_for("/nowhere", timeout=15)

    @pipeline
    def child():
        return value(hang())

    @pipeline
    def body():
        return child()

    run = body.start()
    wait_for(began)
    run.cancel()
    with pytest.raises(RunCancelled):
        run.result(10)
    found = wait_until(lambda: runs("child"))[0]
    assert found.wait(10)
    assert found.status == "cancelled"
    assert found.steps["hang"].state == "cancelled"
    assert run.steps["child"].state == "cancelled"


# -- what is refused, and what is a bare function


def test_start_inside_a_body_is_refused(mode):
    """`p.start(...)` in a body is a GraphError; the call is what starts a child."""

    @pipeline
    def body():
        with pytest.raises(GraphError, match=r"double\.start"):
            double.start(1)
        return double(1)

    assert body() == 2


def test_start_inside_a_step_is_refused(mode):
    """So it is in a step, where pipelines are bare functions."""

    @component
    def step():
        with pytest.raises(GraphError, match=r"double\.start"):
            double.start(1)
        return double(1)

    @pipeline
    def body():
        return step()

    assert body() == 2


def test_wrong_arguments_of_a_child(mode):
    """Arguments that do not fit raise TypeError at the call."""

    @pipeline
    def body():
        with pytest.raises(TypeError, match=r"double\(\) "):
            double(1, 2, 3)
        return echo(1)

    assert body() == 1


@pipeline
def reads_failed():
    return fail() + 1


@pipeline
def above_that():
    return reads_failed() + 1


def test_the_notes_of_a_failure_name_commands_that_work(mode):
    """The step that failed is named with its own run; the child runs above it have nothing to
    step through."""

    @pipeline
    def top():
        return above_that() + 1

    with pytest.raises(ValueError, match="no") as caught:
        top()
    notes = "\n".join(caught.value.__notes__)
    run = get_run().steps["above_that"]
    lowest = get_run(get_run(run.child_run).steps["reads_failed"].child_run)
    assert notes.count("pipedeco debug") == 1
    assert f"pipedeco debug {lowest.id} fail" in notes
    assert notes.count("pipedeco show") == 3

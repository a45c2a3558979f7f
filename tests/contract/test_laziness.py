"""Calls never wait, steps run side by side and in the order of their edges; and how debug differs."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import wait_for

from pipedeco import component, get_run, pipeline, value

in_workers = pytest.mark.parametrize("mode", ["local", "remote"], indirect=True)
only_debug = pytest.mark.parametrize("mode", ["debug"], indirect=True)


@component
def echo(x):
    return x


@component
def fail(text="no"):
    raise ValueError(text)


@component
def touch_and_wait(mine, others, x):
    """Meets others: every one of them must be running at once for any to end."""
    open(mine, "w").close()
    wait_for(*others)
    return x


@component
def pid(*_):
    return os.getpid()


# -- local: nothing waits


@in_workers
def test_calls_never_wait(mode, tmp_path):
    """A step that is blocked does not block the body, nor calls that depend on it."""
    gate = tmp_path / "gate"

    @pipeline
    def body():
        blocked = touch_and_wait(str(tmp_path / "mine"), [str(gate)], 1)
        after = echo([blocked])
        more = [echo(x) for x in (blocked, after)]
        assert not blocked.done()
        gate.touch()
        return more

    assert body() == [1, [1]]


@in_workers
def test_start_returns_at_once(mode, tmp_path):
    """`start()` returns a Run while its body waits; its status is running."""
    gate = tmp_path / "gate"

    @pipeline
    def body():
        return value(touch_and_wait(str(tmp_path / "mine"), [str(gate)], 1))

    run = body.start()
    assert run.status == "running"
    assert run.wait(0.01) is False
    with pytest.raises(TimeoutError, match=run.id):
        run.result(0.01)
    gate.touch()
    assert run.result(10) == 1
    assert run.status == "completed"


@in_workers
def test_side_by_side(mode, tmp_path):
    """Independent steps run at the same time, in different processes."""
    a, b = str(tmp_path / "a"), str(tmp_path / "b")

    @pipeline
    def body():
        return touch_and_wait(a, [b], 1), touch_and_wait(b, [a], 2)

    assert body() == (1, 2)


@in_workers
def test_a_blocked_step_does_not_hold_up_others(mode, tmp_path):
    """One worker blocked, the other does all that is ready, also what waited behind the block."""
    gate, last = tmp_path / "gate", tmp_path / "last"

    @component
    def quick(i, path=None):
        if path:
            open(path, "w").close()
        return i

    @pipeline
    def body():
        warm = [quick(i) for i in range(50)]
        blocked = touch_and_wait(str(tmp_path / "mine"), [str(gate)], -1)
        many = [quick(i) for i in range(200)]
        quick(0, str(last))
        wait_for(last)
        assert not blocked.done()
        gate.touch()
        return sum(warm[i] + many[i] for i in range(3)), blocked

    assert body() == (6, -1)


@in_workers
def test_a_mix_of_new_and_known_components(mode):
    """Components that were never timed are dispatched beside ones that are busy."""

    @component
    def one(x):
        return x + 1

    @component
    def two(x):
        return x + 2

    @component
    def three(*x):
        return sum(x)

    @pipeline
    def body():
        first = [one(i) for i in range(20)]
        second = [two(x) for x in first]
        return three(*second), three(*[two(x) for x in first])

    for _ in range(5):
        assert body() == (250, 250)


@in_workers
def test_a_step_that_becomes_slow(mode, tmp_path):
    """Calls queued behind a step that takes longer than ever before are done by others."""
    gate, began = tmp_path / "gate", tmp_path / "began"

    @component
    def step(i):
        if i == 30:
            began.touch()
            wait_for(gate)
        return i

    @pipeline
    def body():
        made = [step(i) for i in range(100)]
        wait_for(began)
        total = sum(made[i] for i in range(100) if i != 30)
        gate.touch()
        return total + made[30]

    assert body() == 4950


@in_workers
def test_workers_are_other_processes(mode):
    """No step runs in this process, and no more processes than workers perform them."""

    @pipeline
    def body():
        return [pid(i) for i in range(20)]

    found = set(body())
    assert os.getpid() not in found
    assert 1 <= len(found) <= 2


@component
def alone(path, *_):
    os.close(os.open(path, os.O_CREAT | os.O_EXCL))  # raises where another step is at it
    time.sleep(0.02)
    os.unlink(path)
    return os.getpid()


@in_workers
def test_one_worker_is_enough(mode, tmp_path):
    """With one worker everything still runs, one after another.

    That is one process where the workers are ours; an engine of several has each perform some.
    """
    path = str(tmp_path / "busy")

    @pipeline
    def body():
        made = [alone(path, i) for i in range(5)]
        return [*made, alone(path, made)]

    found = body.with_options(workers=1)()
    assert len(found) == 6
    assert mode == "remote" or len(set(found)) == 1


@in_workers
def test_workers_are_kept_for_the_next_run(mode):
    """The process's next runs find the workers of the last."""

    @pipeline
    def body():
        return [pid(i) for i in range(8)]

    first = set(body())
    assert set(body.with_options(workers=1)()) <= first | set(body())


@in_workers
def test_runs_at_the_same_time(mode, tmp_path):
    """Runs that are started at the same time share the workers."""
    a, b = str(tmp_path / "a"), str(tmp_path / "b")

    @pipeline
    def body(mine, other):
        return touch_and_wait(mine, [other], mine)

    first, second = body.start(a, b), body.start(b, a)
    assert (first.result(10), second.result(10)) == (a, b)


# -- order, in both modes


def test_dependency_order(mode, tmp_path):
    """A step begins after the steps whose values it needs."""
    journal = tmp_path / "journal"

    @component
    def write(name, *_):
        with journal.open("a") as file:
            file.write(name)
        return name

    @pipeline
    def body():
        a = write("a")
        b, c = write("b", a), write("b", a)
        return write("d", [b], {"c": c})

    assert body() == "d"
    assert journal.read_text() == "abbd"


def test_depends_on(mode, tmp_path):
    """`depends_on` orders steps without data."""
    journal = tmp_path / "journal"

    @component
    def write(name):
        with journal.open("a") as file:
            file.write(name)

    @pipeline
    def body():
        made = [write("a")]
        for name in "bcd":
            made.append(write.with_options(depends_on=[made[-1]])(name))

    run = body.start()
    run.result(10)
    assert journal.read_text() == "abcd"
    assert run.graph.edges == [
        ("write", "write-2", "order"),
        ("write-2", "write-3", "order"),
        ("write-3", "write-4", "order"),
    ]


def test_steps_are_named_after_their_component(mode):
    """`echo`, `echo-2`, `echo-3`; `name=` is used where it is given."""

    @pipeline
    def body():
        echo(1)
        echo(2)
        echo.with_options(name="other")(3)
        return echo(4)

    run = body.start()
    run.result(10)
    assert list(run.steps) == ["echo", "echo-2", "other", "echo-3"]


def test_many_steps(mode):
    """A thousand steps, each on the one before, and a thousand beside each other."""

    @component
    def add(a, b):
        return a + b

    @pipeline
    def body(n):
        last = echo(0)
        for _ in range(n):
            last = add(last, 1)
        return last, sum(value([echo(i) for i in range(n)]))

    assert body(300) == (300, 44850)


def test_the_body_ends_after_its_steps(mode, tmp_path):
    """Steps that nobody reads are performed before the call returns."""
    path = tmp_path / "written"

    @component
    def write():
        path.write_text("x")

    @pipeline
    def body():
        write()

    assert body() is None
    assert path.read_text() == "x"


# -- debug: the listed differences


@only_debug
def test_debug_performs_at_the_call(mode, tmp_path):
    """In debug mode a step has ended when its call returns, in this process and thread."""
    import threading

    @component
    def where():
        return os.getpid(), threading.get_ident()

    @pipeline
    def body():
        r = where()
        assert r.done()
        return r

    assert body() == (os.getpid(), threading.get_ident())


@only_debug
def test_debug_fails_at_the_call(mode):
    """In debug mode a failure leaves at the call, after its retries."""
    seen = []

    @component(retries=2)
    def flaky():
        seen.append(len(seen))
        raise ValueError(f"attempt {len(seen)}")

    @pipeline
    def body():
        with pytest.raises(ValueError, match="attempt 3"):
            flaky()
        return len(seen)

    assert body() == 3


@only_debug
def test_debug_allows_failure(mode):
    """With `allow_failure=True` it does not leave at the call."""

    @pipeline
    def body():
        r = fail.with_options(allow_failure=True)()
        return repr(r)

    assert body() == "<StepResult fail failed>"


@only_debug
def test_debug_only_warns_of_a_timeout(mode):
    """In debug mode `timeout` warns when the step has ended."""
    import time

    @component(timeout=0.01)
    def slow():
        time.sleep(0.03)
        return 1

    @pipeline
    def body():
        return slow()

    with pytest.warns(UserWarning, match=r"step slow ran .* longer than its timeout of 0.01 s"):
        assert body() == 1


@only_debug
def test_debug_gives_the_originals(mode):
    """In debug mode a step gets the very objects, also as values of results."""
    given = [1]

    @component
    def same(x):
        return id(x)

    @pipeline
    def body():
        r = echo(given)
        return same(given), same(r)

    assert body() == (id(given), id(given))


@in_workers
def test_local_gives_copies(mode):
    """In local mode the step's argument is its own."""
    given = [1]

    @component
    def grow(x):
        x.append(2)
        return x

    @pipeline
    def body():
        return grow(given)

    assert body() == [1, 2]
    assert given == [1]


@only_debug
def test_debug_warns_of_a_change_in_place(mode):
    """In debug mode a step that changes its argument is warned of."""

    @component
    def grow(x):
        x.append(2)
        return len(x)

    @pipeline
    def body():
        return grow([1])

    with pytest.warns(UserWarning, match="step grow changed its argument in place"):
        assert body() == 2


@only_debug
def test_debug_does_not_compare_large_arguments(mode):
    """Above 16 MiB nothing is compared."""

    @component
    def clear(x):
        x[:] = 0
        return float(x.sum())

    @pipeline
    def body():
        return clear(np.ones(3_000_000))

    assert body() == 0.0


@only_debug
def test_debug_warns_of_what_cannot_be_pickled(mode):
    """In debug mode arguments and results that cannot travel only warn."""

    @component
    def count(numbers):
        return sum(numbers)

    @component
    def numbers():
        return (i for i in range(3))

    @pipeline
    def arguments():
        return count(i for i in range(3))

    @pipeline
    def results():
        return count(numbers())

    with pytest.warns(UserWarning, match="numbers is a generator"):
        assert arguments() == 3
    with pytest.warns(UserWarning, match="step numbers: .*generator"):
        assert results() == 3


@only_debug
def test_debug_starts_and_ends(mode):
    """In debug mode `start` returns a finished Run, also after a failure."""

    @pipeline
    def good():
        return echo(1)

    @pipeline
    def bad():
        return fail("broken")

    assert good.start().status == "completed"
    run = bad.start()
    assert run.status == "failed"
    with pytest.raises(ValueError, match="broken"):
        run.result()


@only_debug
def test_debug_dies_with_its_step(mode, tmp_path):
    """In debug mode a dying process ends the run; later it is seen as interrupted."""
    script = """
        import os, sys
        sys.path.append(sys.argv[1])
        from conftest import wait_until
        from pipedeco import component, pipeline, runs

        @component
        def die():
            wait_until(runs)
            os._exit(7)

        @pipeline
        def body():
            return die()

        body.debug()
        """
    here = str(Path(__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), here], timeout=30)  # noqa: PLW1510
    assert done.returncode == 7
    assert get_run("latest").status == "interrupted"


@only_debug
def test_debug_keeps_the_streams(mode, capsys):
    """In debug mode output goes through sys.stdout and sys.stderr, and is recorded."""

    @component
    def speak():
        print("out")
        print("err", file=sys.stderr)

    @pipeline
    def body():
        speak()

    run = body.start()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("out\n", "err\n")
    assert run.logs("speak") == "out\nerr\n"

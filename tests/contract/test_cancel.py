"""Cancelling a run or a step: nothing new starts, what runs is stopped, all is recorded."""

import concurrent.futures
import os
import signal
import subprocess
import sys
import threading
import time
import traceback

import pytest
from conftest import wait_for, wait_until

from pipedeco import RunCancelled, StepCancelled, component, configure, get_run, pipeline, value
from pipedeco.worker.deaths import GRACE

in_workers = pytest.mark.parametrize("mode", ["local", "remote"], indirect=True)


@component
def echo(*x):
    return x


@component
def hang(began, ended=None):
    """Runs until it is stopped; says so where it is."""
    try:
        open(began, "w").close()
        wait_for("/nowhere", timeout=15)
    finally:
        if ended:
            open(ended, "w").close()


@pytest.fixture
def began(tmp_path):
    return str(tmp_path / "began")


def states(run):
    return {name: step.state for name, step in run.steps.items()}


@in_workers
def test_cancel(mode, began, tmp_path, monkeypatch):
    """`run.cancel()` stops what runs, starts nothing new, and records everything cancelled."""
    monkeypatch.setattr("pipedeco.runners.local.GRACE", 600.0)  # nobody is killed
    called = tmp_path / "called"

    @pipeline
    def body():
        value(echo())
        hung = hang(began)
        echo(hung)
        called.touch()
        return hung

    run = body.start()
    wait_for(began, called)
    run.cancel()
    with pytest.raises(RunCancelled, match=run.id):
        run.result(10)
    assert run.status == "cancelled"
    assert states(run) == {"echo": "completed", "hang": "cancelled", "echo-2": "cancelled"}
    again = get_run(run.id)
    assert again.status == "cancelled"
    assert again.ended is not None
    with pytest.raises(RunCancelled):
        again.result()


@in_workers
def test_finally_runs_in_a_cancelled_step(mode, began, tmp_path):
    """The step's main thread gets StepCancelled, so `finally` and `except` clauses run."""
    ended, kind = tmp_path / "ended", tmp_path / "kind"

    @component
    def careful():
        try:
            hang.fn(began, str(ended))
        except BaseException as error:
            kind.write_text(type(error).__name__)
            raise

    @pipeline
    def body():
        return careful()

    run = body.start()
    wait_for(began)
    run.cancel()
    assert run.wait(10)
    assert ended.exists()
    assert kind.read_text() == "StepCancelled"
    assert states(run) == {"careful": "cancelled"}


@in_workers
def test_a_step_that_will_not_stop(mode, began, monkeypatch):
    """A step that ignores being cancelled is killed after the grace."""
    monkeypatch.setattr("pipedeco.runners.local.GRACE", 0.2)

    @component
    def stubborn():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            try:
                hang.fn(began)
            except BaseException:  # noqa: BLE001 - it will not stop
                pass

    @pipeline
    def body():
        return stubborn()

    run = body.start()
    wait_for(began)
    run.cancel()
    with pytest.raises(RunCancelled):
        run.result(10)
    assert states(run) == {"stubborn": "cancelled"}


@in_workers
def test_children_of_a_cancelled_step(mode, began):
    """What the step started goes with it (the fixture looks)."""

    @component
    def parent():
        with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]):
            hang.fn(began)

    @pipeline
    def body():
        return parent()

    run = body.start()
    wait_for(began)
    run.cancel()
    assert run.wait(10)
    assert run.status == "cancelled"


@in_workers
def test_the_body_of_a_cancelled_run(mode, began):
    """The body is stopped where it reads, and at its next call."""
    seen = []

    @pipeline
    def body():
        try:
            value(hang(began))
        except BaseException as error:  # noqa: BLE001 - whatever it is
            seen.append(type(error))
        try:
            value(echo(1))
        except BaseException as error:
            seen.append(type(error))
            raise

    run = body.start()
    wait_for(began)
    run.cancel()
    with pytest.raises(RunCancelled):
        run.result(10)
    assert seen == [StepCancelled, RunCancelled]


@in_workers
def test_cancel_before_anything_began(mode, tmp_path):
    """A run may be cancelled as soon as there is a handle."""

    @pipeline
    def body():
        for i in range(100):
            echo(i)
        wait_for(tmp_path / "gate")
        return "too late"

    run = body.start()
    run.cancel()
    (tmp_path / "gate").touch()
    with pytest.raises(RunCancelled):
        run.result(10)
    assert run.status == "cancelled"
    assert set(states(run).values()) <= {"cancelled", "completed"}


@in_workers
def test_cancelling_again_and_again_before_anything_began(mode, monkeypatch):
    """Workers that end as they start since their runs are cancelled are no fault of anybody's."""
    configure(workers=4)  # more than there are: some are to be started
    monkeypatch.setattr("pipedeco.runners.local.FALSE_STARTS", 0)
    called = threading.Event()

    @pipeline
    def body(more):
        made = [echo(i) for i in range(12)]
        called.set()
        while more:
            made.append(echo(len(made)))
        return made

    for _ in range(6):
        run = body.start(more=True)
        assert called.wait(10)
        called.clear()
        run.cancel()
        with pytest.raises(RunCancelled):
            run.result(10)
    assert body(more=False) == [(i,) for i in range(12)]


def test_cancel_after_the_end(mode):
    """Cancelling a run that has ended changes nothing."""

    @pipeline
    def body():
        return echo(1)

    run = body.start()
    assert run.result(10) == (1,)
    run.cancel()
    get_run(run.id).cancel()
    assert run.result() == (1,)
    assert run.status == get_run(run.id).status == "completed"


@in_workers
def test_cancel_twice(mode, began):
    """Cancelling twice is cancelling once."""

    @pipeline
    def body():
        return hang(began)

    run = body.start()
    wait_for(began)
    run.cancel()
    run.cancel()
    with pytest.raises(RunCancelled):
        run.result(10)


@in_workers
def test_the_next_run_after_a_cancelled_one(mode, began):
    """Workers are there for the next run."""

    @pipeline
    def first():
        return hang(began), hang(began)

    @pipeline
    def second():
        return [echo(i) for i in range(4)]

    run = first.start()
    wait_for(began)
    run.cancel()
    run.wait(10)
    assert second() == [(0,), (1,), (2,), (3,)]


@in_workers
def test_another_run_is_not_touched(mode, began, tmp_path):
    """Cancelling one run leaves another that shares the workers alone."""
    gate = tmp_path / "gate"

    @component
    def waiting():
        wait_for(gate)
        return "whole"

    @pipeline
    def first():
        return hang(began)

    @pipeline
    def second():
        return waiting()

    other, run = second.start(), first.start()
    wait_for(began)
    run.cancel()
    assert run.wait(10)
    gate.touch()
    assert other.result(10) == "whole"


@in_workers
def test_runs_after_a_cancel_have_workers_of_their_own(mode, tmp_path):
    """A worker whose step was stopped is free once: two runs never share it at one time.

    The second of each pair is cancelled while the first goes on, as in the test above; a worker
    that counted as free twice would be given to both, and end with the second.
    """
    gate = tmp_path / "gate"

    @component
    def waiting(began):
        open(began, "w").close()
        wait_for(gate)
        return "whole"

    @pipeline
    def first(began):
        return hang(began)

    @pipeline
    def second(began):
        return waiting(began)

    for i in range(6):
        paths = [str(tmp_path / f"{name}-{i}") for name in ("before", "other", "run")]
        before = first.start(paths[0])
        wait_for(paths[0])
        before.cancel()
        assert before.wait(10)
        other = second.start(paths[1])
        wait_for(paths[1])
        run = first.start(paths[2])
        wait_for(paths[2])
        run.cancel()
        assert run.wait(10)
        gate.touch()
        assert other.result(10) == "whole"
        gate.unlink()


# -- one step


@in_workers
def test_cancelling_a_pending_step(mode, tmp_path):
    """`r.cancel()` of a step that has not begun: cancelled; dependants are not performed."""
    gate = tmp_path / "gate"

    @component
    def waiting():
        wait_for(gate)
        return 1

    @pipeline
    def body():
        slow = waiting()
        pending = echo(slow)
        after = echo(pending)
        assert pending.cancel() is True
        assert (pending.cancelled(), pending.done(), pending.cancel()) == (True, True, True)
        gate.touch()
        for r in (pending, after):
            with pytest.raises(StepCancelled):
                value(r)
        with pytest.raises(concurrent.futures.CancelledError):
            pending.exception()
        return slow

    run = body.start()
    assert run.result(10) == 1
    assert run.status == "completed"
    assert states(run) == {"waiting": "completed", "echo": "cancelled", "echo-2": "skipped"}


@in_workers
def test_cancelling_a_queued_step(mode, tmp_path, began):
    """The same for one that is ready and waits for a worker."""
    gate = tmp_path / "gate"

    @component
    def waiting(path):
        open(path, "w").close()
        wait_for(gate)

    @pipeline(workers=1)
    def body():
        waiting(began)
        wait_for(began)
        queued = echo(1)
        found = queued.cancel(), queued.cancelled()
        gate.touch()
        return found

    assert body() == (True, True)


@in_workers
def test_cancelling_a_running_step(mode, began, tmp_path):
    """`r.cancel()` of a step that runs, or has ended, is False and changes nothing."""
    gate = tmp_path / "gate"

    @component
    def waiting():
        open(began, "w").close()
        wait_for(gate)
        return 1

    @pipeline
    def body():
        r = waiting()
        wait_for(began)
        assert r.cancel() is False
        gate.touch()
        assert value(r) == 1
        return r.cancel()

    assert body() is False


def test_cancelling_an_ended_step(mode):
    """In every mode a step that has ended cannot be cancelled."""

    @pipeline
    def body():
        r = echo(1)
        r.result()
        return r.cancel(), r.cancelled()

    assert body() == (False, False)


# -- signals


def test_an_interrupt_in_the_body(mode):
    """KeyboardInterrupt in the body leaves the call, and the run is cancelled."""

    @pipeline
    def body():
        value(echo(1))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        body()
    run = get_run("latest")
    assert run.status == "cancelled"
    assert states(run) == {"echo": "completed"}


@in_workers
def test_ctrl_c(mode, began, tmp_path):
    """Ctrl-C while the body reads: steps are cancelled, KeyboardInterrupt leaves the call."""
    controller = os.getpid()
    ended = str(tmp_path / "ended")

    @component
    def interrupt():
        wait_for(began)
        os.kill(controller, signal.SIGINT)
        hang.fn(str(tmp_path / "began-2"))

    @pipeline
    def body():
        interrupt()
        value(hang(began, ended))

    with pytest.raises(KeyboardInterrupt):
        body()
    assert os.path.exists(ended)
    run = get_run("latest")
    assert run.status == "cancelled"
    assert states(run) == {"interrupt": "cancelled", "hang": "cancelled"}


@in_workers
def test_ctrl_c_while_steps_end(mode, began, tmp_path):
    """The same when the body has returned and its steps still run."""
    controller = os.getpid()

    @component
    def interrupt():
        wait_for(began)
        os.kill(controller, signal.SIGINT)
        hang.fn(str(tmp_path / "began-2"))

    @pipeline
    def body():
        interrupt()
        hang(began)

    with pytest.raises(KeyboardInterrupt):
        body()
    assert get_run("latest").status == "cancelled"


@in_workers
def test_a_second_ctrl_c(mode, began, tmp_path):
    """A second Ctrl-C does not wait for the grace."""
    controller = os.getpid()
    again = tmp_path / "again"

    @component
    def stubborn():
        try:
            os.kill(controller, signal.SIGINT)  # the cancellation may be here before it returns
            hang.fn(began)
        except BaseException:  # noqa: BLE001 - it will not stop
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        again.write_text(str(time.time()))
        os.kill(controller, signal.SIGINT)
        time.sleep(60)

    @pipeline
    def body():
        value(stubborn())

    with pytest.raises(KeyboardInterrupt):
        body()
    assert time.time() - float(again.read_text()) < GRACE - 0.5
    assert get_run("latest").status == "cancelled"


@in_workers
def test_ctrl_c_while_waiting_for_a_run(mode, began):
    """Ctrl-C in `run.result()` cancels the run."""

    def interrupt():
        main = threading.main_thread().ident
        wait_for(began)
        wait_until(lambda: "in result\n" in "".join(traceback.format_stack(frames()[main])))
        os.kill(os.getpid(), signal.SIGINT)

    frames = sys._current_frames

    @pipeline
    def body():
        return hang(began)

    run = body.start()
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run.result(30)
    thread.join()
    assert run.wait(10)
    assert run.status == "cancelled"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_after_a_run(mode, number):
    """After a run, a started one too, the dispositions are what they were."""

    @pipeline
    def body():
        return echo(1)

    former = signal.getsignal(number)
    body()
    assert signal.getsignal(number) is former
    body.start().result(10)
    assert signal.getsignal(number) is former


@in_workers
def test_a_sigterm_handler_of_the_user_is_kept(mode):
    """A handler that the user installs after a started run, which nobody waits for, stays."""

    @pipeline
    def body():
        return echo(1)

    def mine(number, frame):
        pass

    former = signal.getsignal(signal.SIGTERM)
    try:
        run = body.start()
        wait_until(lambda: get_run(run.id).status == "completed")
        signal.signal(signal.SIGTERM, mine)
        body()
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, former)


@in_workers
def test_sigterm(mode, began):
    """SIGTERM cancels the run; then the former disposition applies, here a handler."""
    controller = os.getpid()
    seen = []

    @component
    def terminate():
        os.kill(controller, signal.SIGTERM)
        hang.fn(began)

    @pipeline
    def body():
        value(terminate())

    former = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with pytest.raises(RunCancelled):
            body()
        assert seen == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM).__name__ == "<lambda>"
    finally:
        signal.signal(signal.SIGTERM, former)
    run = get_run("latest")
    assert run.status == "cancelled"
    assert states(run) == {"terminate": "cancelled"}


def test_ctrl_c_amid_an_import(mode):
    """Between two lines of importlib it leaves the import lock taken, on which all would wait."""
    import _imp

    @pipeline
    def body():
        _imp.acquire_lock()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        body()
    with pytest.raises(RuntimeError):  # nobody has it
        _imp.release_lock()
    assert get_run().status == "cancelled"

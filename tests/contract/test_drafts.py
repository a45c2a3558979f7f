"""Drafts: steps that are ready, and are performed when a person releases them."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import wait_for, wait_until

from pipedeco import PipedecoError, RunCancelled, component, get_run, pipeline, value
from pipedeco.store.database import connect_to_read

in_workers = pytest.mark.parametrize("mode", ["local", "remote"], indirect=True)
COMMAND = str(Path(sys.executable).with_name("pipedeco"))


@component
def echo(x=None):
    return x


@component(draft=True)
def publish(log, x=None):
    """Notes each time that it is performed."""
    with open(log, "a") as file:
        file.write("x")
    return x


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log"
    path.touch()
    return path


@contextmanager
def started(body, *args):
    """A run in a thread, as its call may wait; gives what tells of it."""
    results = []

    def call():
        try:
            results.append(body(*args))
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            results.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield results
    finally:
        thread.join(20)


def waiting(step="publish"):
    """The latest run, once that step waits."""

    def look():
        try:
            run = get_run()
        except PipedecoError:  # it is not recorded yet
            return None
        return run if run.waits(step) else None

    return wait_until(look, f"{step} waits")


def command(*words):
    return subprocess.run(
        [COMMAND, *words], capture_output=True, text=True, timeout=30, check=False
    )


def states(run):
    return {name: step.state for name, step in run.steps.items()}


def test_a_draft_waits_until_it_is_released(mode, log, capsys):
    """Its record and one line on stderr say how; then it is performed, once."""

    @pipeline
    def body():
        return echo(publish(log, echo(1)))

    with started(body) as results:
        run = waiting()
        record = run.steps["publish"]
        assert record.state == "pending"
        assert record.reason == f"waits for: pipedeco release {run.id} publish"
        assert run.steps["echo"].state == "completed"
        assert log.read_text() == ""
        run.release("publish")
    assert results == [1]
    assert log.read_text() == "x"
    done = get_run().steps["publish"]
    assert (done.state, done.reason, len(done.attempts)) == ("completed", None, 1)
    line = f"pipedeco: step publish of body waits for: pipedeco release {run.id} publish\n"
    assert capsys.readouterr().err.count(line) == 1


def test_releasing_from_another_process(mode, log):
    """`pipedeco release RUN STEP` tells when it goes on."""

    @pipeline
    def body():
        return publish(log, 1)

    with started(body) as results:
        run = waiting()
        done = command("release", run.id, "publish")
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"step publish of {run.name} {run.id} is released\n"
    assert results == [1]
    assert log.read_text() == "x"


def test_releasing_twice(mode, log):
    """The second one is told that there is nothing to release; the step is performed once."""

    @pipeline
    def body():
        return publish(log, 1)

    with started(body):
        run = waiting()
        run.release("publish")
    with pytest.raises(PipedecoError, match="does not wait to be released: it is completed"):
        get_run(run.id).release("publish")
    done = command("release", run.id, "publish")
    assert done.returncode == 2
    assert "does not wait to be released: it is completed" in done.stderr
    assert log.read_text() == "x"


def test_what_cannot_be_released(mode, log):
    """A step that does not wait, one that there is not, and a run that there is not."""

    @pipeline
    def body():
        return publish(log, echo(1))

    with started(body):
        run = waiting()
        for step, what in [
            ("echo", f"step echo of run {run.id} does not wait to be released: it is completed"),
            ("nope", f"there is no step 'nope' in run {run.id}"),
        ]:
            with pytest.raises(PipedecoError, match=what):
                run.release(step)
            done = command("release", run.id, step)
            assert (done.returncode, done.stdout) == (2, "")
            assert what in done.stderr
            assert f"pipedeco show {run.id}" in done.stderr
        run.release("publish")
    assert command("release", "feed", "publish").returncode == 2


@in_workers
def test_other_steps_go_on(mode, log):
    """A draft keeps no worker, and holds up only what needs it."""

    @pipeline
    def body():
        draft = publish(log, 1)
        others = [echo(i) for i in range(5)]
        assert sum(others) == 10
        get_run().release("publish")
        return draft

    run = body.with_options(workers=1).start()
    assert run.result(10) == 1


@in_workers
def test_a_draft_that_is_not_ready(mode, log, tmp_path):
    """It cannot be released before it waits."""

    @component
    def slow():
        wait_for(tmp_path / "gate")

    @pipeline
    def body():
        return publish(log, slow())

    run = body.start()
    wait_until(lambda: "publish" in run.steps)
    with pytest.raises(PipedecoError, match="it is no draft, or not ready yet"):
        run.release("publish")
    (tmp_path / "gate").touch()
    waiting()
    run.release("publish")
    run.result(10)


def test_cancelling_a_run_with_a_draft(mode, log):
    """It ends, the draft is never performed, and cannot be released any more."""

    @pipeline
    def body():
        return publish(log, 1)

    with started(body) as results:
        run = waiting()
        done = command("cancel", run.id)
        assert done.returncode == 0, done.stderr
    assert isinstance(results[0], RunCancelled)
    assert states(get_run(run.id)) == {"publish": "cancelled"}
    assert "process" in get_run(run.id).steps["publish"].reason
    assert log.read_text() == ""
    with pytest.raises(PipedecoError, match="it is cancelled"):
        get_run(run.id).release("publish")


@in_workers
def test_cancelling_a_draft(mode, log):
    """One step alone may be cancelled while it waits."""

    @pipeline
    def body():
        draft = publish(log, 1)
        waiting()
        assert draft.cancel()
        return value(echo(2))

    run = body.start()
    assert run.result(10) == 2
    assert states(run) == {"publish": "cancelled", "echo": "completed"}


def test_ctrl_c_while_a_draft_waits(mode, log):
    """KeyboardInterrupt leaves the call; the record is that of a cancelled run."""

    @pipeline
    def body():
        return value(publish(log, 1))

    def press():
        waiting()
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        body()
    thread.join()
    run = get_run()
    assert run.status == "cancelled"
    assert states(run) == {"publish": "cancelled"}
    assert log.read_text() == ""


def test_a_draft_with_callbacks(mode, log):
    """before_step comes after the release, right before the step is performed."""
    order = []

    @pipeline(before_step=lambda step, inputs: order.append((step.name, step.reason)))
    def body():
        return publish(log, 1)

    with started(body):
        run = waiting()
        assert order == []
        run.release("publish")
    assert order == [("publish", None)]


def test_a_draft_with_retries(mode, log):
    """It is released once, whatever its attempts."""

    @component(draft=True, retries=1)
    def flaky():
        with open(log, "a") as file:
            file.write("x")
        if log.stat().st_size < 2:
            raise ValueError("not yet")
        return log.stat().st_size

    @pipeline
    def body():
        return flaky()

    with started(body) as results:
        waiting("flaky").release("flaky")
    assert results == [2]


def test_a_draft_of_a_child_run(mode, log):
    """It is the child that is named."""

    @pipeline
    def child():
        return publish(log, 1)

    @pipeline
    def parent():
        return child()

    with started(parent) as results:

        def child_run():
            run = get_run() if results else _child_of_latest()
            return run if run is not None and run.waits("publish") else None

        run = wait_until(child_run, "the child's step waits")
        assert run.parent_step == "child"
        done = command("release", run.id, "publish")
        assert done.returncode == 0, done.stderr
    assert results == [1]


def _child_of_latest():
    try:
        child = get_run().steps["child"].child_run
        return get_run(child) if child else None
    except (PipedecoError, KeyError):
        return None


def stop_at_echo(step, inputs):
    if step.name == "echo" and inputs["x"] == 1 and os.environ.get("STOPPED"):
        raise OSError("stopped here")


@pipeline(before_step=stop_at_echo)
def twice(log):
    return publish(log, echo(publish(log, 1)))


def resume():
    return get_run().resume().result(20)


def test_a_resumed_run_keeps_a_released_draft(mode, log, monkeypatch):
    """What was performed is not asked for again; what was not, is."""
    monkeypatch.setenv("STOPPED", "yes")
    with started(twice, str(log)) as results:
        waiting().release("publish")
    assert isinstance(results[0], OSError)
    monkeypatch.delenv("STOPPED")
    with started(resume) as results:
        waiting("publish-2").release("publish-2")
    assert results == [1]
    assert log.read_text() == "xx"


def test_a_release_that_nobody_heard(mode, log):
    """A run that is resumed asks again."""
    with started(twice, str(log)):
        run = waiting()
        run.cancel()
    connection = connect_to_read(run.store)
    connection.execute("insert into release select seq, 'publish' from run")
    connection.close()
    with started(resume) as results:
        run = waiting()
        assert log.read_text() == ""
        run.release("publish")
        waiting("publish-2").release("publish-2")
    assert results == [1]


def test_a_run_without_drafts(mode):
    """A run without drafts asks the store for no releases."""

    @pipeline
    def body():
        return echo(1)

    execution = body.prepare((), {})
    assert execution.execute() == 1
    assert list(execution.log.drafts) == []
    assert execution.hooks is None

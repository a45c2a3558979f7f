"""The recorder: groups, order, who owns a run, and what others see of it meanwhile."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import closing

import pytest
from conftest import wait_for, wait_until

from pipedeco import RunBusy, component, get_run, pipeline, runs, value
from pipedeco.fingerprint.code import CodeKey
from pipedeco.graph import COMPLETED, RUNNING, Called, Graph, Outcome
from pipedeco.store.database import database_path
from pipedeco.store.owner import OwnerLock, is_alive
from pipedeco.store.recorder import GROUP_SIZE, Recorder, RunLog


@component
def work(x=0):
    return x


class Desk:
    """A recorder, and one run of which it is told."""

    def __init__(self, folder):
        self.folder = folder
        self.recorder = Recorder(folder)
        self.statements = []
        self.recorder.connection.set_trace_callback(self.statements.append)
        self.graph = Graph()
        self.called = Called(work, "work", work.options, is_pipeline=False)
        self.errors, self.asked = [], []
        self.log = RunLog(
            self.facts("cafe"), self.graph.steps, {}, self.errors.append,
            cancel=self.asked.append, release=self.asked.append,
            code_of=lambda fn: (CodeKey("0", (), ()), {}),
            progress=lambda: 0.5, logs=str(folder), body=f"{folder}/body.events",
        )  # fmt: skip
        self.recorder.begin(self, self.log)
        self.recorder.flush(self)

    def facts(self, name):
        texts = dict.fromkeys(("python", "host", "module", "qualname", "file"), "")
        nothing = dict.fromkeys(("version", "parent_run", "parent_step", "args"))
        own = {"fn": None, "id": name, "pipeline": "p", "mode": "debug", "started": time.time()}
        return {**own, **texts, **nothing, "parameters": "{}", "command": "[]"}

    def step(self, state=COMPLETED):
        step = self.graph.add(self, self.called)
        step.state = state
        step.attempt = 1
        step.outcome = Outcome(COMPLETED, 1.0, 0.5) if state == COMPLETED else None
        return step

    def end(self, status="completed"):
        facts = {"status": status, "ended": time.time(), "steps": len(self.graph)}
        rest = ("reads", "value", "preview", "error_type", "error_text", "traceback", "error")
        self.recorder.end(self, {**facts, **dict.fromkeys(rest)})

    def query(self, statement, *parameters):
        """What somebody else finds, who sees only what is committed."""
        with closing(sqlite3.connect(database_path(self.folder))) as connection:
            return connection.execute(statement, parameters).fetchall()

    def count(self, beginning):
        return sum(statement.lower().startswith(beginning) for statement in self.statements)


@pytest.fixture
def desk(tmp_path):
    desk = Desk(str(tmp_path / "store"))
    yield desk
    desk.recorder.close()


# -- groups ----------------------------------------------------------------------------------


def test_a_group_is_committed_by_itself(desk):
    """Nobody need ask: what was noted is there a moment later."""
    desk.recorder.changed(desk.step())
    wait_until(lambda: desk.query("select state from step") == [("completed",)])


def test_many_steps_are_few_commits_and_few_statements(desk):
    """A commit costs a sync of the disk, a statement a pass through SQLite."""
    desk.statements.clear()
    count = 4 * GROUP_SIZE
    for _ in range(count):
        desk.recorder.changed(desk.step())
    desk.recorder.flush(desk)
    assert desk.query("select count(*) from step") == [(count,)]
    assert desk.count("commit") <= 20
    assert desk.count("insert or replace into step") <= 100


def test_a_step_that_changes_often_is_one_row_of_a_group(desk):
    """Its last state counts."""
    step = desk.step(RUNNING)
    desk.statements.clear()
    entries = [step] * 500
    step.state = COMPLETED
    desk.recorder._queue.extend(entries)  # at once, so that they are one group
    desk.recorder.flush(desk)
    assert desk.query("select state from step") == [("completed",)]
    assert desk.count("insert or replace into step") == 1
    assert desk.count("commit") == 1


def test_a_flush_loses_nothing(desk):
    """What a thread noted before its flush is committed when that returns, whoever else writes."""
    missing = []

    def write():
        for _ in range(20):
            steps = [desk.step() for _ in range(7)]
            for step in steps:
                desk.recorder.changed(step)
            desk.recorder.flush(desk)
            found = {row[0] & 0xFFFFFFFF for row in desk.query("select id from step")}
            missing.extend(step for step in steps if step.position not in found)

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert missing == []
    positions = {step.position for step in desk.graph}
    rows = desk.query("select id from step")
    assert {row[0] & 0xFFFFFFFF for row in rows} == positions


def test_closing_loses_nothing(tmp_path):
    """What was noted before the close is there after it, without a flush."""
    desk = Desk(str(tmp_path / "store"))
    for _ in range(3000):
        desk.recorder.changed(desk.step())
    desk.end()
    desk.recorder.close()
    assert desk.query("select count(*) from step") == [(3000,)]
    assert desk.query("select status, steps from run") == [("completed", 3000)]


def test_a_flush_records_what_is_under_way(desk):
    """Pending and running steps too, as they are."""
    steps = [desk.step(RUNNING), desk.step("pending"), desk.step()]
    desk.recorder.changed(steps[2])
    desk.recorder.flush(desk)
    found = desk.query("select state from step order by id")
    assert found == [("running",), ("pending",), ("completed",)]


def test_attempts_are_rows_of_their_own(desk):
    """Only those that another followed."""
    step = desk.step()
    step.attempt = 2
    desk.recorder.attempt(step, 1, Outcome("failed", 1.0, 0.5))
    desk.recorder.changed(step)
    desk.recorder.flush(desk)
    assert desk.query("select number, state from attempt") == [(1, "failed")]
    assert desk.query("select attempt, state from step") == [(2, "completed")]


def test_a_run_that_is_not_begun_has_no_steps(desk):
    """Steps of a run that was forgotten are not written."""
    desk.recorder.forget(desk)
    desk.recorder.changed(desk.step())
    desk.recorder.flush()
    assert desk.query("select count(*) from step") == [(0,)]


# -- one owner -------------------------------------------------------------------------------


def take_over(folder):
    """What another controller does that takes over the runs of this store."""
    with closing(sqlite3.connect(database_path(folder))) as connection, connection:
        connection.execute("update run set epoch = epoch + 1")


def test_a_former_owner_writes_nothing(desk):
    """Neither steps nor attempts nor the end; the run is told once, and flush raises it."""
    desk.recorder.changed(desk.step())
    desk.recorder.flush(desk)
    take_over(desk.folder)
    late = desk.step()
    desk.recorder.attempt(late, 1, Outcome("failed", 1.0, 0.5))
    desk.recorder.changed(late)
    desk.end()
    with pytest.raises(RunBusy, match="run cafe was taken over by another controller"):
        desk.recorder.flush(desk)
    assert desk.query("select count(*) from step") == [(1,)]
    assert desk.query("select count(*) from attempt") == [(0,)]
    assert desk.query("select status, epoch from run") == [("running", 2)]
    assert len(desk.errors) == 1


def test_a_run_that_was_taken_over_ends_with_run_busy(mode, tmp_path):
    """Behind the back of a run its epoch rises: the former owner stops and changes nothing."""
    folder = str(tmp_path / "store")
    ready = tmp_path / "ready"

    @pipeline
    def body():
        assert value(work(1)) == 1
        wait_until(lambda: count("step") == 1, "the first step is recorded")
        take_over(folder)
        ready.touch()
        return [value(work(n)) for n in range(2000)]

    def count(table):
        if not os.path.exists(database_path(folder)):
            return 0
        with closing(sqlite3.connect(database_path(folder))) as connection:
            return connection.execute(f"select count(*) from {table}").fetchone()[0]

    with pytest.raises(RunBusy, match="taken over"):
        body()
    assert ready.exists()
    assert (count("step"), count("run")) == (1, 1)
    with closing(sqlite3.connect(database_path(folder))) as connection:
        found = connection.execute("select status, epoch, ended from run").fetchall()
    assert found == [("running", 2, None)]


# -- the lock --------------------------------------------------------------------------------


def test_a_lock_is_held_until_its_release(tmp_path):
    """Other processes see it; nobody may break it by asking."""
    folder = str(tmp_path)
    lock = OwnerLock(folder)
    code = "import sys; from pipedeco.store.owner import is_alive; print(is_alive(*sys.argv[1:]))"
    for _ in range(2):
        asked = subprocess.run(
            [sys.executable, "-c", code, folder, lock.name], capture_output=True, check=True
        )
        assert asked.stdout == b"True\n"
        assert is_alive(folder, lock.name)
    lock.release()
    assert not is_alive(folder, lock.name)
    assert os.listdir(os.path.join(folder, "owners")) == []


def test_a_forked_child_does_not_hold_the_lock(tmp_path):
    """Else a run would look alive for as long as any child of its controller."""
    lock = OwnerLock(str(tmp_path))
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        theirs.send(b"here")
        theirs.recv(1)
        os._exit(0)
    theirs.close()
    try:
        assert ours.recv(4) == b"here"
        os.close(lock._file)  # as if the parent had died
        lock._file = None
        assert not is_alive(str(tmp_path), lock.name)
    finally:
        ours.close()
        os.waitpid(pid, 0)


@pytest.mark.parametrize("name", ["", "1-a", "../owners", "a/b", "1-a\n", "%", "é"])
def test_an_owner_that_never_was_is_not_alive(tmp_path, name):
    """A strange name reaches no file."""
    OwnerLock(str(tmp_path)).release()
    assert not is_alive(str(tmp_path), name)


LONG = """
import sys, time
from pathlib import Path
from pipedeco import component, pipeline, value

@component
def long(x):
    Path("began").touch()
    while not Path("go").exists():
        time.sleep(0.01)
    return x

@component
def after(x):
    return x

@pipeline(mode="local", workers=1)
def body():
    return value(after(long(1)))

print(body())
"""
UNDER_WAY = {"long": "running", "after": "pending"}


@pytest.fixture
def other(tmp_path, monkeypatch):
    """A run in another process, whose first step waits for the file `go`."""
    monkeypatch.setenv("PIPEDECO_STORE", str(tmp_path / "store"))
    (tmp_path / "script.py").write_text(textwrap.dedent(LONG))
    process = subprocess.Popen(
        [sys.executable, "script.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    try:
        wait_for(tmp_path / "began", timeout=20)
        wait_until(runs, "it is recorded")
        yield process
    finally:
        process.kill()
        process.communicate()


def states():
    return {name: step.state for name, step in get_run().steps.items()}


def test_long_steps_are_seen_by_others(other, tmp_path):
    """A step under way is recorded as running, what waits for it as pending; then as ended."""
    wait_until(lambda: states() == UNDER_WAY, "another process sees the steps")
    shown = subprocess.run(
        [sys.executable, "-m", "pipedeco", "show", "latest", "--json"],
        capture_output=True,
        check=True,
    )
    facts = json.loads(shown.stdout)
    assert facts["status"] == "running"
    assert {name: step["state"] for name, step in facts["steps"].items()} == UNDER_WAY
    (tmp_path / "go").touch()
    assert other.communicate(timeout=20)[0] == "1\n"
    assert states() == {"long": "completed", "after": "completed"}
    assert get_run().status == "completed"


def test_interrupted_is_true_at_the_first_question(other):
    """As long as its controller lives a run is running, and interrupted as soon as that is dead."""
    wait_until(lambda: states() == UNDER_WAY, "another process sees the steps")
    run = get_run()
    assert (run.status, run.progress) == ("running", 0.0)
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert run.status == get_run().status == "interrupted"
    assert states() == {"long": "interrupted", "after": "pending"}


def test_a_stopped_controller_is_not_interrupted(other):
    """Silence is no death: a process that sleeps still owns its run."""
    wait_until(lambda: states() == UNDER_WAY, "another process sees the steps")
    other.send_signal(signal.SIGSTOP)
    try:
        assert get_run().status == "running"
    finally:
        other.send_signal(signal.SIGCONT)

"""Processes that steps start: what a library keeps serves the next step, and what failed is gone."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import pytest
from conftest import wait_for, wait_until

from pipedeco import component, pipeline, value
from pipedeco.worker.children import MANY_DEAD

in_workers = pytest.mark.parametrize("mode", ["local", "remote"], indirect=True)
in_local = pytest.mark.parametrize("mode", ["local"], indirect=True)
KEPT = {}  # by a worker, from step to step


@pytest.fixture(autouse=True)
def nothing_kept():
    """What this process has kept in debug mode ends with its test."""
    yield
    if "echo" in KEPT:
        KEPT["echo"].communicate()
    if "pool" in KEPT:
        KEPT["pool"].terminate()
        KEPT["pool"].join()
    if "executor" in KEPT:
        KEPT["executor"].shutdown()
    KEPT.clear()


def echoing():
    """A process that a module keeps, as a language server or a gateway is."""
    if "echo" not in KEPT:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        KEPT["echo"] = subprocess.Popen(["cat"], **pipes)
    return KEPT["echo"]


def by_process(text):
    process = echoing()
    process.stdin.write(f"{text}\n".encode())
    process.stdin.flush()
    return process.stdout.readline().decode().strip()


def by_pool(text):
    if "pool" not in KEPT:
        KEPT["pool"] = multiprocessing.get_context("fork").Pool(1)
    return KEPT["pool"].map(str, [text])[0]


def by_executor(text):
    if "executor" not in KEPT:
        KEPT["executor"] = ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
    return next(iter(KEPT["executor"].map(str, [text])))


def by_fork_server(text):
    """The server itself stays, the pool does not."""
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        return pool.map(str, [text])[0]


def by_joblib(text):
    joblib = pytest.importorskip("joblib")
    calls = [joblib.delayed(str)(text), joblib.delayed(str)(text)]
    return joblib.Parallel(n_jobs=2)(calls)[0]


WAYS = [by_process, by_pool, by_executor, by_fork_server, by_joblib]


@component(timeout=60)
def use(way, text):
    return os.getpid(), way(text)


@component
def fail(folder, number):
    """Leaves a process where a folder is given."""
    if folder is not None:
        child = subprocess.Popen(["sleep", "600"])
        Path(folder, "child").write_text(str(child.pid))
    raise ValueError(number)


def is_alive(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] != b"Z"


@pytest.mark.parametrize("way", WAYS)
def test_what_a_step_keeps_serves_the_next(mode, way):
    """A pool, an executor, a server or a process of a library's or a module's."""
    if mode == "debug" and way in (by_fork_server, by_joblib):
        pytest.skip("their servers and trackers would stay in this process")

    @pipeline(workers=1)
    def body():
        return [value(use(way, text)) for text in ("a", "b", "c")]

    told = body()
    assert [text for _, text in told] == ["a", "b", "c"]
    if mode != "remote":  # whose two processes have a worker each
        assert len({pid for pid, _ in told}) == 1


@in_workers
@pytest.mark.parametrize("way", WAYS)
def test_a_failure_breaks_nothing_that_others_keep(mode, way, tmp_path):
    """Its own process is gone at once, and the next step has what it needs."""
    folder = str(tmp_path)

    @component
    def child_lives(number):
        return is_alive(number)

    @pipeline(workers=1)
    def body():
        value(use(way, "before"))
        with pytest.raises(ValueError, match="7"):
            value(fail(folder, 7))
        child = int((tmp_path / "child").read_text())
        return value(child_lives(child)), value(use(way, "after"))[1]

    assert body() == (False, "after")


@in_local
def test_a_failure_that_leaves_nothing_keeps_its_worker(mode):
    """What others have left there is no reason to begin again."""

    @pipeline(workers=1)
    def body():
        before = value(use(by_process, "a"))
        time.sleep(2 / os.sysconf("SC_CLK_TCK"))  # to the system these began at the same time
        with pytest.raises(ValueError, match="1"):
            value(fail(None, 1))
        return before, value(use(by_process, "b"))

    before, after = body()
    assert before[0] == after[0]


@component(timeout=2)
def hold_until_killed(folder):
    _note_shared_memory(folder)
    time.sleep(600)


@component
def hold_until_cancelled(folder):
    _note_shared_memory(folder)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(600)


@component
def hold_and_crash(folder):
    _note_shared_memory(folder)
    os._exit(3)


def _note_shared_memory(folder):
    KEPT["memory"] = memory = SharedMemory(create=True, size=1 << 16)
    Path(folder, "name.part").write_text(memory.name)
    Path(folder, "name.part").rename(Path(folder, "name"))


@in_workers
@pytest.mark.parametrize("step", [hold_until_killed, hold_until_cancelled, hold_and_crash])
def test_shared_memory_of_a_killed_step_is_unlinked(mode, step, tmp_path, monkeypatch):
    """By its resource tracker, which sees the end of the step and has a moment for it."""
    for module in ("runners.local", "worker.station"):
        monkeypatch.setattr(f"pipedeco.{module}.GRACE", 0.2)

    @pipeline
    def body():
        return step(str(tmp_path))

    run = body.start()
    wait_for(tmp_path / "name")
    if step is hold_until_cancelled:
        run.cancel()
    assert run.wait(30)
    name = (tmp_path / "name").read_text()
    wait_until(lambda: not Path("/dev/shm", name).exists(), "the memory is unlinked")


@in_local
def test_dead_children_of_many_steps(mode):
    """Who starts processes and waits for none does not fill the table of processes."""

    @component
    def start(number):
        os.posix_spawn("/bin/true", ["true"], os.environ)
        return os.getpid()

    @pipeline(workers=1)
    def body():
        return [start(number) for number in range(2 * MANY_DEAD + 2)]

    assert len(set(value(body()))) == 2


def test_functions_that_are_listened_to_are_pickled_by_their_names(mode):
    """As a pool of processes needs whose initializer is os.nice."""

    @component
    def work():
        functions = os.nice, signal.alarm, signal.setitimer, signal.signal
        return pickle.loads(pickle.dumps(functions)) == functions

    @pipeline
    def run():
        return work().result()

    assert run()

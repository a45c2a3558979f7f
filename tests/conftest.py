"""What tests share: a store of their own, the modes, and a check that nothing is left behind."""

import compileall
import json
import os
import signal
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("pipedeco", deadline=None)  # a busy machine is no failure
settings.load_profile("pipedeco")

DEADLINE = 20.0  # seconds; far more than anything waited for takes, on a busy machine too
MARK = "PIPEDECO_TESTS"
ROOT = Path(__file__).resolve().parent.parent


def wait_for(*paths, timeout=DEADLINE):
    """Wait until all these files are there; used in steps and in bodies alike."""
    wait_until(lambda: all(Path(path).exists() for path in paths), f"{paths} appear", timeout)


def wait_until(condition, what="it becomes true", timeout=DEADLINE):
    """Wait until `condition()` is true; what it then is."""
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s until {what}")
        time.sleep(0.002)


# What runs on remote in every run of the tests.  The other modules do where PIPEDECO_TESTS_REMOTE is
# the URL of an engine, which is then used by all: local://2, or that of a cluster that somebody has
# started.  tests/remote/conftest.py shows how.
REMOTE = os.environ.get("PIPEDECO_TESTS_REMOTE", "")
ON_REMOTE = frozenset(
    f"test_{name}.py"
    for name in (
        "results", "failure", "retries", "nesting", "cancel", "reports", "priorities",
        "environments", "seeds", "setup", "collect", "children", "logging", "ambient", "cache_files",
        "resume_order", "loading_exits", "exceptions", "frames", "outputs", "containers", "iterators",
        "pending", "operations", "changes",
    )
)  # fmt: skip


# The files that take longest, of which none is to begin last.
FIRST = (
    "test_parity",
    "test_dask", "test_resume_processes", "test_demo", "test_checkers", "test_runner_contract",
    "test_objects", "test_results", "test_reports", "test_layouts", "test_ray", "test_examples",
    "test_cache_processes", "test_cli_run", "test_retries", "test_cli_reports",
)  # fmt: skip
RANK = {f"{name}.py": rank for rank, name in enumerate(FIRST)}


def pytest_configure(config):
    """Compile pipedeco, once, for the thousands of processes that will import it.

    Where PYTHONDONTWRITEBYTECODE is set, as in many containers, each would do so for itself.
    """
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(ROOT / "pipedeco", quiet=2)


def pytest_collection_modifyitems(config, items):
    """Begin with long files, as one that begins last is waited for by an idle processor.

    Leave out what is for remote mode in modules that do without.
    """
    items.sort(key=lambda item: RANK.get(item.path.name, len(RANK)))
    if REMOTE:
        return
    out = [item for item in items if _is_remote(item) and item.path.name not in ON_REMOTE]
    items[:] = [item for item in items if item not in set(out)]
    if out:
        config.hook.pytest_deselected(items=out)


def _is_remote(item):
    found = getattr(item, "callspec", None)
    return found is not None and found.params.get("mode") == "remote"


@pytest.fixture(scope="session", autouse=True)
def mark():
    """Mark every process that the tests start, however far it wanders."""
    os.environ[MARK] = uuid.uuid4().hex
    os.environ["PIPEDECO_PROGRESS"] = "off"  # tests of the display turn it on
    # A shell has what it starts in the background ignore Ctrl-C, which tests press.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup has them ignore
    yield os.environ[MARK]
    _close_pipedeco()
    wait_until(lambda: not _marked(os.environ[MARK]), "no marked process is left")


@pytest.fixture(scope="module", autouse=True)
def none_left_by_the_module(mark):
    """After a module pipedeco is closed, and no process is left at all."""
    yield
    _close_pipedeco()
    wait_until(lambda: not _descendants(os.getpid()), "no process is left")


@pytest.fixture(autouse=True)
def nothing_left(mark):
    """After a test no run is alive, no thread hangs, no process is left but idle workers."""
    before = set(threading.enumerate())
    alive = set(_live_runs())  # of a test that failed
    yield
    wait_until(lambda: alive.issuperset(_live_runs()), "no run is alive")
    wait_until(lambda: not _new_threads(before), "no thread is left")
    wait_until(lambda: not _strangers(), "no process is left")


@pytest.fixture(params=["debug", "local", "remote"])
def mode(request, tmp_path, monkeypatch):
    """Each runner in turn, with two workers and a store of the test's own.

    All tests of a module use the same engine of remote mode: two processes of this machine, if
    nothing else is asked for.
    """
    import pipedeco

    store = str(tmp_path / "store")
    monkeypatch.setenv("PIPEDECO_STORE", store)
    monkeypatch.setenv("PIPEDECO_QUEUES", json.dumps({"default": REMOTE or "local://2"}))
    pipedeco.configure(mode=request.param, workers=2)
    yield request.param
    pipedeco.configure(mode=None, workers=None)
    controller = _controller()
    if controller is not None and store in controller.recorders:
        controller.recorders.pop(store).close()


def _controller():
    """pipedeco's own, where a run was ever made; tests of other parts need not load it."""
    module = sys.modules.get("pipedeco.process")
    return getattr(module, "CONTROLLER", None)


def _is_bridge(pid):
    """Whether it holds the connection to a Ray cluster, as one process does for each queue."""
    try:
        return b"pipedeco.engines.ray_client" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _close_pipedeco():
    controller = _controller()
    if controller is not None:
        controller.unread.clear()  # failures that tests make on purpose
        controller.close()


def _live_runs():
    controller = _controller()
    return list(controller.live) if controller is not None else []


def _new_threads(before):
    # One a process, shared by all runs.
    kept = (
        "pipedeco-loop", "pipedeco-recorder", "pipedeco-keeper", "pipedeco-capture",
        "pipedeco-engine", "IO loop",  # of Dask's client
    )  # fmt: skip
    return [t for t in threading.enumerate() if t not in before and t.name not in kept]


def _strangers():
    """Processes below this one that are no engine, no nursery and no idle worker.

    What an idle worker has below it, a step that succeeded has left there.
    """
    controller = _controller()
    runners = list(controller.runners.values()) if controller is not None else []
    parents = _parents()
    found = _descendants(os.getpid(), parents)
    stations = {pid for r in runners for pid in _stations(r)}
    pools = [r.pool for r in runners if hasattr(r, "pool")]
    nests = [nest for pool in pools for nest in pool.nests.values()]
    guards = {nest.pid for nest in nests if hasattr(nest, "pid")}
    of_stations = {pid for pid in found if parents.get(pid) in stations}
    guards |= of_stations
    nurseries = {pid for pid in found if parents.get(pid) in guards}
    # A station has as many children as it has had payloads at once: those of local:// one, for
    # each environment.
    allowed = len([slot for r in runners for slot in getattr(r, "slots", {}).values()])
    allowed += len(of_stations)
    workers = [pid for pid in found if parents.get(pid) in nurseries]
    stations |= {pid for pid in found if _is_bridge(pid)}
    kept = [pid for worker in workers[:allowed] for pid in _descendants(worker, parents)]
    known = {*stations, *guards, *nurseries, *workers, *kept}
    return [pid for pid in found if pid not in known] + workers[allowed:]


def _stations(runner):
    """The processes of local:// engines."""
    queues = getattr(runner, "queues", None)
    engines = [] if queues is None else list(queues.engines)
    return [pid for engine in engines for pid in getattr(engine.executor, "pids", ())]


def _parents():
    """pid -> pid of its parent, of every process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        found[int(folder.name)] = int(fields[1])
    return found


def _descendants(root, parents=None):
    parents = _parents() if parents is None else parents
    found = []
    level = {root}
    while level:
        level = {pid for pid, parent in parents.items() if parent in level}
        found += level
    return sorted(found)


def _marked(value):
    """Processes with our mark in their environment; this one got it after its start."""
    wanted = f"{MARK}={value}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "environ").read_bytes() and int(folder.name) != os.getpid():
                found.append(int(folder.name))
        except OSError:  # it ended meanwhile, or is another user's
            continue
    return found


def function_message(number, name, module="os", *, auto_log=False):
    """What a worker is told of a function, as `Function` tells it."""
    retry_on, collect, cached = None, (), False
    facts = name.encode(), retry_on, name, auto_log, collect, cached
    return ("function", number, "name", module, *facts)

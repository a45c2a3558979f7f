"""What every engine does, whatever it is made of: real ones, and payloads of real stations."""

from __future__ import annotations

import marshal
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import pytest
from conftest import function_message, wait_until

from pipedeco.engines import open_engine
from pipedeco.engines.dask import DaskEngine
from pipedeco.engines.ray import RayEngine
from pipedeco.errors import ConfigError, StepFailed
from pipedeco.worker.batch import Batch
from pipedeco.worker.environment import here
from pipedeco.worker.messages import Decoder
from pipedeco.worker.station import close_stations
from pipedeco.worker.travel import setting_of, write_setting

DEADLINE = 60.0  # seconds; an engine's workers import much at their first task
ENGINES = ["local", "threads", "processes", "dask", "ray"]

pytestmark = pytest.mark.timeout(180)


def threads():
    return ThreadPoolExecutor(2)


def processes():
    # By fork, as spawn leaves a tracker of resources for the rest of the process's life.
    return ProcessPoolExecutor(2, get_context("fork"))


@pytest.fixture(scope="module", params=ENGINES)
def engine(request):
    """Each in turn; they are opened once, as some take long."""
    name = request.param
    urls = {
        "local": "local://2",
        "threads": f"executor://{__name__}:threads",
        "processes": f"executor://{__name__}:processes",
    }
    url = urls.get(name) or request.getfixturevalue(name).url
    opened = open_engine(url)
    yield opened
    opened.close()
    assert not opened.alive
    close_stations()


class Batches:
    """Payloads of one run, which call functions of os."""

    def __init__(self, folder):
        self.folder = folder
        self.count = 0
        names = ("blobs", "archives", "logs")
        facts = {name: str(folder / name) for name in names}
        more = {"run": "r", "pipeline": "p", "log_prefix": ""}
        write_setting(str(folder / "run"), setting_of(here(), "", None, **facts, **more))

    def payload(self, function, *arguments):
        """A batch of one call."""
        self.count += 1
        known = function_message(self.count, function)
        call = (1, self.count, pickle.dumps((arguments, {})), None, 1, 1)
        name = f"b{self.count}"
        batch = Batch(
            str(self.folder / "run"), name, "nursery", [known], [], [], [call], {}, fresh=False
        )
        return marshal.dumps(tuple(batch))

    def has_begun(self, number):
        return (self.folder / "run" / f"b{number}.words").exists()


@pytest.fixture
def batches(tmp_path):
    return Batches(tmp_path)


def value_of(future):
    """What the one call of a payload has returned."""
    [(kind, outcome, _)] = Decoder().feed(future.result(DEADLINE))
    assert (kind, outcome[1]) == ("outcome", "completed")
    return pickle.loads(outcome[4])


def test_payloads_are_performed(engine, batches):
    """Each future has the words of its own payload."""
    futures = [engine.submit(batches.payload("fspath", f"{n}"), {}) for n in range(20)]
    assert [value_of(future) for future in futures] == [f"{n}" for n in range(20)]
    assert engine.alive


def test_slots(engine):
    """How many payloads are performed at once."""
    wait_until(lambda: engine.slots == 2, "both workers are known")


def test_what_waits_can_be_cancelled(engine, batches):
    """`submit` returns at once, however much is under way; what is cancelled never begins.

    To Ray that is a wish, which may come too late.
    """
    gate = batches.folder / "gate"
    wait = f"while [ ! -e '{gate}' ]; do sleep 0.02; done"
    held = [engine.submit(batches.payload("system", wait), {}) for _ in range(2)]
    wait_until(lambda: batches.has_begun(1) and batches.has_begun(2), "two begin", DEADLINE)
    waiting = [engine.submit(batches.payload("system", wait), {}) for _ in range(6)]
    assert not any(future.done() for future in held + waiting)
    assert waiting[-1].cancel()
    gate.touch()
    assert [value_of(future) for future in held + waiting[:-1]] == [0] * 7
    value_of(engine.submit(batches.payload("getpid"), {}))  # whoever comes last has been asked
    assert isinstance(engine, RayEngine) or not batches.has_begun(8)


def test_what_is_no_payload(engine):
    """An error becomes one of ours, with its text; the engine goes on, or is opened again."""
    error = engine.submit(b"", {}).exception(DEADLINE)
    told = engine.explain(error)
    assert isinstance(told, StepFailed)
    assert "EOF read where object expected" in str(told) or "exit status" in str(told)


def test_resources(engine, batches):
    """Dask and Ray take them, and refuse what is none; others say that they take none."""
    assert engine.takes_resources == isinstance(engine, DaskEngine | RayEngine)
    if engine.takes_resources:
        with pytest.raises(ConfigError, match="the resource memory is a number or a size"):
            engine.submit(batches.payload("getpid"), {"memory": "much"})


def test_what_it_lacks(engine):
    """Nothing for a plain payload; who takes resources says which nobody has."""
    wait_until(lambda: engine.slots == 2, "both workers are known")
    assert engine.lacks({}) == ""
    said = engine.lacks({"UNICORN": 2})
    if engine.takes_resources:
        assert said.startswith(f"no worker of {engine.url} has ")
        assert "UNICORN: 2 (the most that one has: " in said
    else:
        assert said == ""

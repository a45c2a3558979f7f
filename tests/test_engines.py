"""Engines and queues: URLs, settings, what is refused, and what a dead process means."""

import os
import signal
import threading
import time
from concurrent.futures import BrokenExecutor, CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest
from conftest import wait_for, wait_until

import pipedeco
from pipedeco import ConfigError, component, config, pipeline
from pipedeco.engines import open_engine, parse
from pipedeco.engines.executor import ExecutorEngine
from pipedeco.engines.resources import lack
from pipedeco.errors import EngineLost, PipedecoError, WorkerDied
from pipedeco.process import CONTROLLER
from pipedeco.runners import queues, remote
from pipedeco.worker.station import close_stations, perform_batch


def threads():
    """A factory of an executor, for executor://."""
    return ThreadPoolExecutor(3)


def nothing():
    return None


# -- URLs


def test_a_url_has_parts():
    """Scheme, address, options."""
    url = parse("dask://host:8786?resources=GPU:1")
    assert (url.scheme, url.address) == ("dask", "host:8786")
    assert url.options == {"resources": "GPU:1"}


@pytest.mark.parametrize(
    ("address", "place"),
    [("h:1", ("h", 1)), ("a.b-c", ("a.b-c", 7)), ("[::1]:80", ("::1", 80)), ("[::1]", ("::1", 7))],
)
def test_the_place_of_an_address(address, place):
    """Host and port, of which the latter may have a default."""
    assert parse(f"dask://{address}").place(7) == place


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("local", "is no URL of an engine"),
        ("kafka://here", "there are dask://, executor://, local://"),
        ("local://many", "number of processes is a number of 1 or more, not 'many'"),
        ("local://0", "1 or more"),
        ("local://2?color=red", "has no option 'color'; there are max_in_flight"),
        ("dask://h:1?color=red", "has no option 'color'; there are resources, workers"),
        ("dask://h:1?resources=GPU", "written as GPU:1"),
        ("dask://h:1?resources=GPU:some", "a size such as 8GB, not 'some'"),
        ("dask://h", "is to name a host and a port, such as dask://head:8786"),
        ("dask://h:8786/", "with nothing behind"),
        ("dask://h:99999", "is to name a host and a port"),
        ("executor://test_engines:absent", "names what is not there"),
        ("dask://h:1?workers=2", "is for a cluster of our own"),
        ("executor://test_engines", "is to name a function"),
        ("executor://test_engines:nothing", "gave None, which is no executor"),
        ("executor://test_engines:threads?slots=x", "slots is a number"),
    ],
)
def test_a_wrong_url_is_refused(url, said):
    """The sentence says what is wrong, before anything is started."""
    with pytest.raises(ConfigError, match=said.replace("?", r"\?")):
        open_engine(url)


def test_an_entry_point_adds_an_engine(tmp_path, monkeypatch):
    """Its name is the scheme."""
    folder = tmp_path / "extra-1.0.dist-info"
    folder.mkdir()
    points = "[pipedeco.engines]\nextra = test_engines:open_extra\n"
    (folder / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(tmp_path)
    assert open_engine("extra://place?a=b") == "an engine at place"


def open_extra(url):
    return f"an engine at {url.address}"


# -- queues


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "SETTINGS", config.Settings())
    monkeypatch.delenv("PIPEDECO_QUEUES", raising=False)
    monkeypatch.setenv("PIPEDECO_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_precedence_of_queues(project, monkeypatch):
    """configure() > PIPEDECO_QUEUES > pyproject.toml."""
    assert config.find_queues() == {}
    text = '[tool.pipedeco.queues]\ndefault = "local://1"\n'
    (project / "pyproject.toml").write_text(text)
    assert config.find_queues() == {"default": "local://1"}
    monkeypatch.setenv("PIPEDECO_QUEUES", '{"gpu": "local://2"}')
    assert config.find_queues() == {"gpu": "local://2"}
    pipedeco.configure(queues={"io": "local://3"})
    assert config.find_queues() == {"io": "local://3"}


@pytest.mark.parametrize("text", ["{", '["a"]', '{"a": 1}', '{"a": "nowhere"}'])
def test_wrong_queues_are_refused_with_their_source(project, monkeypatch, text):
    """The sentence says where they stand."""
    monkeypatch.setenv("PIPEDECO_QUEUES", text)
    with pytest.raises(ConfigError, match="PIPEDECO_QUEUES"):
        config.find_queues()


@component(queue="gpu")
def on_gpu(x):
    return x


@pipeline(mode="remote")
def asks():
    return on_gpu(1)


def test_a_queue_that_is_not_configured(project):
    """The call raises; the sentence names the component, the queue, and those that there are."""
    pipedeco.configure(queues={"default": "local://1", "io": "local://1"})
    with pytest.raises(ConfigError, match=r"on_gpu .* 'gpu' is not configured .*default, io"):
        asks()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("local://2?color=red", r"has no option 'color'; there are max_in_flight"),
        ("dask://host", "is to name a host and a port"),
        ("executor://module", "is to name a function"),
    ],
)
def test_a_queue_whose_url_is_wrong(project, url, said):
    """The call raises, before anything is sent."""
    pipedeco.configure(queues={"gpu": url})
    with pytest.raises(ConfigError, match=f"component on_gpu of run .*: .*{said}"):
        asks()


def test_a_default_queue(project):
    """A pipeline's own serves components that name none, in its child runs, too."""

    @component
    def plain():
        return os.getppid()

    @pipeline
    def child():
        return plain()

    @pipeline(mode="remote", default_queue="mine")
    def parent():
        return [plain(), child()]

    pipedeco.configure(queues={"mine": "local://1"})
    first, second = parent()
    assert first == second


def test_resources_that_an_engine_does_not_know(project):
    """They are refused, not dropped."""

    @component(resources={"GPU": 1})
    def greedy():
        return 1

    pipedeco.configure(queues={"default": "local://1"})

    @pipeline(mode="remote")
    def body():
        return greedy()

    with pytest.raises(PipedecoError, match="knows no resources, and the step asks for GPU"):
        body()


@pytest.mark.parametrize(
    "options",
    [{"queue": ""}, {"queue": 1}, {"resources": 1}, {"resources": {"GPU": None}}],
    ids=str,
)
def test_wrong_options_are_refused(options):
    """With the name of the option."""
    with pytest.raises(ConfigError):
        component(**options)(on_gpu.fn)


def test_an_executor_of_the_users(project):
    """Whatever is an executor serves; its steps are in processes of their own all the same."""
    pipedeco.configure(queues={"gpu": "executor://test_engines:threads"})
    try:
        assert asks() == 1
    finally:
        CONTROLLER.close()  # the executor's threads, and the station in this process
        close_stations()


# -- late results


class Losing(ThreadPoolExecutor):
    """Says of its first payload that it is lost, though its worker goes on with it."""

    first = True
    began: ClassVar = None  # a file that is there once the first attempt has begun
    late: ClassVar = []

    def submit(self, fn, /, *args, **kwargs):
        going = super().submit(fn, *args, **kwargs)
        if not Losing.first:
            return going
        Losing.first = False
        Losing.late.append(going)
        lost: Future[bytes] = Future()
        threading.Thread(target=self.lose, args=(lost,)).start()
        return lost

    def lose(self, lost):
        wait_for(Losing.began)
        lost.set_exception(BrokenExecutor("so it says"))


def losing():
    return Losing(2)


def test_a_late_result_of_a_lost_attempt_is_refused(project):
    """What the record has is what the attempt after it returned."""
    began, gate = project / "began", project / "gate"
    Losing.began = began

    @component(retries=1, queue="gpu")
    def twice():
        if began.exists():
            gate.touch()
            return "second"
        began.touch()
        wait_for(gate)
        return "late"

    @pipeline(mode="remote")
    def body():
        found = twice().result()
        Losing.late[0].result(30)  # the first ends while the run goes on
        return found

    pipedeco.configure(queues={"gpu": "executor://test_engines:losing"})
    try:
        run = body.start()
        assert run.result(30) == "second"
        attempts = [attempt.state for attempt in run.steps["twice"].attempts]
        assert attempts == ["failed", "completed"]
        assert run.steps["twice"].result() == "second"
    finally:
        CONTROLLER.close()
        close_stations()


class Scarce(ExecutorEngine):
    """Begins nothing before it has grown, as a cluster whose workers are still to come."""

    takes_resources = True

    def __init__(self, url, grown):
        super().__init__(url, ThreadPoolExecutor(2), 2)
        self.grown = grown

    def submit(self, payload, resources, priority=0):
        return self.executor.submit(self.perform, payload)

    def perform(self, payload):
        self.grown.wait(30)
        return perform_batch(payload)

    def lacks(self, resources):
        return f"nobody has {resources}"


def test_a_step_that_nobody_can_begin_says_why(project, monkeypatch, caplog):
    """Once, after some patience; it is performed as soon as somebody can."""
    grown = threading.Event()
    monkeypatch.setattr(remote, "PATIENCE", 0.05)
    monkeypatch.setattr(queues, "open_engine", lambda url: Scarce(url, grown))

    @component(resources={"GPU": 1})
    def train(x):
        return x

    @pipeline(mode="remote")
    def body():
        return train(1), train(2)

    pipedeco.configure(queues={"default": "executor://test_engines:threads"})
    try:
        with caplog.at_level("INFO", "pipedeco"):
            run = body.start()
            wait_until(lambda: "waits" in caplog.text, "the reason is told")
            asked = caplog.text.count("waits")
            grown.set()
            assert tuple(run.result(30)) == (1, 2)
        assert caplog.messages.count("train waits: nobody has {'GPU': 1}") == 1
        assert asked <= 2  # once for each of the steps, however often the engine was asked
    finally:
        CONTROLLER.close()
        close_stations()


@pytest.mark.parametrize(
    ("wanted", "workers", "said"),
    [
        ({}, [], "x:// has no workers"),
        ({}, [{}], ""),
        ({"GPU": 1}, [{}, {"GPU": 1}], ""),
        ({"GPU": 2}, [{}, {"GPU": 1}], "no worker of x:// has GPU: 2 (the most that one has: GPU: 1)"),
        (
            {"A": 0.5, "B": 9e6},
            [{"A": 1}, {"B": 1e7}],  # never both
            "no worker of x:// has A: 0.5, B: 9,000,000 (the most that one has: A: 1, B: 10,000,000)",
        ),
    ],
)  # fmt: skip
def test_what_no_worker_has(wanted, workers, said):
    """One of them must have all of it at once."""
    assert lack("x://", wanted, workers) == said


# -- limits


@component(queue="one")
def alone(path):
    with open(path, "a") as file:
        file.write("b")
    time.sleep(0.02)
    with open(path, "a") as file:
        file.write("e")


def test_a_queue_with_a_limit(project):
    """No more of its steps at once, in all runs together; another queue of the engine has room."""
    path, seen = str(project / "path"), project / "seen"

    @component(queue="two")
    def other():
        seen.touch()

    @component(queue="one")
    def held():
        wait_for(seen)

    @pipeline(mode="remote")
    def body():
        held()
        other()
        for _ in range(5):
            alone(path)

    url = "local://2?max_in_flight=1"
    pipedeco.configure(queues={"one": url, "two": url})  # each has its own
    runs = [body.start(), body.start()]
    for run in runs:
        run.result(30)
    assert Path(path).read_text() == "be" * 10


@pytest.mark.parametrize("limit", ["0", "many", "-1"])
def test_a_wrong_limit_is_refused(limit):
    """As any other part of a URL."""
    with pytest.raises(ConfigError, match="max_in_flight is a number of 1 or more"):
        parse(f"local://2?max_in_flight={limit}")


def test_queues_share_an_engine():
    """A limit is the queue's, the rest the engine's."""
    limited = parse("dask://h:1?resources=GPU:1,memory:8GB&max_in_flight=3")
    assert limited.max_in_flight == 3
    assert limited.engine == parse("dask://h:1?resources=GPU:1,memory:8GB").engine


# -- processes of this machine


def test_a_process_that_dies_is_replaced():
    """Its payload ends as WorkerDied; the engine goes on."""
    engine = open_engine("local://1")
    try:
        first = engine.submit(b"", {})
        assert "exit status" in str(
            engine.explain(first.exception(20))
        )  # what it got is no payload
        second = engine.submit(b"", {})
        wait_until(lambda: engine.executor.pids)
        assert isinstance(engine.explain(second.exception(20)), WorkerDied)
        assert engine.alive
        assert engine.slots == 1
    finally:
        engine.close()
    assert not engine.alive
    assert engine.executor.pids == []


def test_what_errors_say():
    """A cancelled future of nobody's wish is a lost engine; a missing module names what to do."""
    engine = open_engine("executor://test_engines:threads")
    try:
        assert isinstance(engine.explain(CancelledError()), EngineLost)
        told = engine.explain(ModuleNotFoundError("No module named 'pipedeco'"))
        assert "need Python and pipedeco" in str(told)
        assert engine.slots == 3
    finally:
        engine.close()


def test_a_killed_station_leaves_nobody(project):
    """Its children die with it, and the attempt is WorkerDied, retried as any."""
    tried = project / "tried"

    @component(retries=1)
    def once():
        with open(tried, "a") as file:
            file.write("x")
        if tried.read_text() == "x":
            station = _parent(os.getppid())
            os.kill(station, signal.SIGKILL)
            signal.pause()
        return os.getpid()

    pipedeco.configure(queues={"default": "local://1"})

    @pipeline(mode="remote")
    def body():
        return once()

    run = body.start()
    assert run.result(30) > 0
    assert [attempt.state for attempt in run.steps["once"].attempts] == ["failed", "completed"]
    assert "WorkerDied" in run.steps["once"].attempts[0].error


def _parent(pid):
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])

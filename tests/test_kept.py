"""What processes that live for weeks keep of what is over: nothing that grows with the runs."""

import gc
import os
import sys
import tempfile
import threading
import time
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import wait_until

import pipedeco
from pipedeco.blobs import BlobStore
from pipedeco.process import CONTROLLER, UNREAD, Controller
from pipedeco.runners.bundle import Bundles
from pipedeco.runners.exchange import FolderExchange
from pipedeco.runners.local import LocalRunner
from pipedeco.runners.remote import RemoteRunner
from pipedeco.worker import moved
from pipedeco.worker import unpacked as unpacking
from pipedeco.worker.environment import here
from pipedeco.worker.loop import FEW, Loop
from pipedeco.worker.places import private_root
from pipedeco.worker.station import SPARE, Station
from pipedeco.worker.travel import SETTING, setting_of

HOUR = 3600.0
DAYS = 3 * 86400.0


class Thing:
    """What a timer would keep."""


@pytest.fixture
def loop():
    loop = Loop("pipedeco-test")
    loop.start()
    yield loop
    loop.close()


def on(loop, action):
    """What an action that a loop performs returns."""
    found = []
    done = threading.Event()
    loop.post(lambda: (found.append(action()), done.set()))
    assert done.wait(10)
    return found[0]


def test_a_cancelled_timer_keeps_nothing(loop):
    """Neither what it was to use, nor its own place, however far its time is."""
    thing = Thing()
    gone = weakref.ref(thing)
    timer = loop.later(HOUR, print, thing)
    del thing
    on(loop, lambda: loop.cancel(timer))
    assert gone() is None
    for _ in range(10):
        timers = [loop.later(HOUR, print) for _ in range(100)]
        on(loop, lambda timers=timers: [loop.cancel(timer) for timer in timers])
    assert len(loop._timers) <= 2 * FEW + 2


def test_timers_beside_cancelled_ones_are_kept(loop):
    """In their order; one that is cancelled is not heard of, nor is its second cancel."""
    heard = []
    over = threading.Event()

    def begin():
        loop.later(0.02, heard.append, "second")
        wrong = [loop.later(0.015, heard.append, "never") for _ in range(3 * FEW)]
        loop.later(0.01, heard.append, "first")
        loop.later(0.03, over.set)
        loop.post(lambda: [loop.cancel(timer) for timer in wrong + wrong])

    loop.post(begin)
    assert over.wait(10)
    assert heard == ["first", "second"]
    assert on(loop, lambda: (len(loop._timers), loop._cancelled)) == (0, 0)


@pipedeco.component(timeout=HOUR)
def timed(number):
    return number


@pytest.mark.parametrize("mode", ["local"], indirect=True)
def test_a_long_timeout_of_a_short_step(mode):
    """Its timer is not kept until then: a service makes many in an hour."""

    @pipedeco.pipeline
    def body():
        return sum(timed(number).result() for number in range(3))

    body()
    [runner] = [runner for key, runner in CONTROLLER.runners.items() if key[0] == mode]
    for _ in range(FEW):
        assert body() == 3
    waiting = [entry for entry in runner._timers if entry[2].action == runner._check_timeout]
    assert len(waiting) <= 1  # the last one's worker may be about to be free


def test_a_run_that_is_over_is_free(tmp_path, monkeypatch):
    """Its signs of life end with it, and nothing waits for the next one."""

    monkeypatch.setenv("PIPEDECO_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("PIPEDECO_QUEUES", '{"default": "local://1"}')
    opened = []
    begin = RemoteRunner.open

    def noted(runner, facts):
        session = begin(runner, facts)
        opened.append(weakref.ref(session))
        return session

    monkeypatch.setattr(RemoteRunner, "open", noted)

    @pipedeco.pipeline(mode="remote")
    def body():
        return timed(1)

    assert body() == 1
    [session] = opened

    def is_free():
        gc.collect()
        return session() is None

    wait_until(is_free, "the run's session is free")


def test_failures_that_nobody_asks_for(capfd):
    """Of the last ones it is told at the end, and how many there were before."""
    controller = Controller()
    for number in range(UNREAD + 5):
        execution = SimpleNamespace(
            id=f"r{number}", error=ValueError("wrong"), pipeline=SimpleNamespace(name="body")
        )
        controller.note_unread(execution)
    controller.unread.pop("r50")  # somebody has asked
    controller.close()
    told = capfd.readouterr().err
    assert told.startswith(
        "pipedeco: 5 runs before these have failed, too\npipedeco: run r5 of body"
    )
    assert told.count("nobody asked") == UNREAD - 1


# -- on disk -----------------------------------------------------------------------------------


@pytest.fixture
def unpacked(tmp_path, monkeypatch):
    """Unpacks a project of one file, whose text is given; the folder where it stands."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    archives = BlobStore(str(tmp_path / "archives"))

    def unpack(text):
        project = tmp_path / "project"
        project.mkdir(exist_ok=True)
        (project / "code.py").write_text(text)
        return unpacking.unpacked(Bundles().bundle(str(project), archives), archives).folder

    return unpack


def make_old(path):
    os.utime(path, (time.time() - DAYS, time.time() - DAYS))


def test_code_that_nobody_uses_goes(unpacked):
    """When other code comes, so that a worker's disk does not fill with every version of it."""
    first, second, third = (unpacked(f"version = {number}") for number in range(3))
    root = Path(private_root())
    left, others = root / "unpacking-killed", root / "runs"
    left.mkdir()
    others.mkdir()
    for path in (first, second, left, others):
        make_old(path)
        if os.path.exists(f"{path}.files"):
            make_old(f"{path}.files")
    assert unpacked("version = 1") == second  # in use again
    fourth = unpacked("version = 3")
    kept = [os.path.basename(path) for path in (second, third, fourth)]
    found = {path.name for path in root.iterdir()} - {"runs", "unpacking.lock"}
    assert found == {*kept, *(f"{name}.files" for name in kept)}


def test_code_of_a_long_run_stays(unpacked):
    """Its station says now and then that it is used."""
    folder = unpacked("version = 1")
    make_old(f"{folder}.files")
    unpacking.keep(folder)
    unpacked("version = 2")
    assert os.path.exists(os.path.join(folder, "code.py"))


def test_folders_of_controllers_that_were_killed(tmp_path):
    """They go when another run begins, once no station can still work for them."""
    shared = tmp_path / "remote"
    for name in ("aaaaaaaaaaaa-00000000", "bbbbbbbbbbbb-00000000", "code"):
        (shared / name).mkdir(parents=True)
    for name in ("aaaaaaaaaaaa-00000000", "bbbbbbbbbbbb-00000000"):
        (shared / name / SETTING).touch()
    make_old(shared / "aaaaaaaaaaaa-00000000" / SETTING)
    blobs = BlobStore(str(tmp_path / "blobs"))
    facts = SimpleNamespace(id="cccccccccccc", blobs=blobs, logs=str(tmp_path / "logs"))
    exchange = FolderExchange(facts, str(shared), print)
    names = {"run": "r1", "pipeline": "p", "log_prefix": ""}
    exchange.open(setting_of(here(), "", None, **names))
    own = os.path.basename(exchange.address)
    assert sorted(os.listdir(shared)) == sorted(["bbbbbbbbbbbb-00000000", "code", own])


# -- in workers --------------------------------------------------------------------------------


def test_former_places_of_code(monkeypatch):
    """A worker knows where its modules are from, not where those of former runs were."""
    monkeypatch.setattr(moved, "_origins", {})
    monkeypatch.setattr(sys, "path_hooks", list(sys.path_hooks))
    for number in range(3):
        moved.name_by_origin(f"/unpacked/{number}", "/project")
    assert moved._origins == {"/unpacked/2": "/project"}
    assert sys.path_hooks.count(moved._finder) == 1


@pytest.mark.parametrize(("idle", "kept"), [(2, 2), (3, 3), (4, 4), (6, 4)])
def test_idle_workers_of_other_environments(idle, kept):
    """As many stay as a run may have busy; where there are fewer, all do."""
    slots = [SimpleNamespace(worker=SimpleNamespace(venv="venv")) for _ in range(idle)]
    sessions = [SimpleNamespace(facts=SimpleNamespace(workers=4))]
    pool = SimpleNamespace(retire=lambda worker: None)
    runner = SimpleNamespace(idle=list(slots), sessions=sessions, pool=pool)
    LocalRunner._dismiss(runner)
    assert runner.idle == slots[idle - kept :]
    children = [SimpleNamespace(worker=None, venv="venv") for _ in range(SPARE + idle - 4)]
    station = SimpleNamespace(idle=list(children), pool=pool)
    Station._dismiss(station)
    assert station.idle == children[idle - kept :]

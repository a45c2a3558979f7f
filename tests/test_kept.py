"""What processes that live for weeks keep of what is over: nothing that grows with the runs."""

import gc
import threading
import weakref

import pytest
from conftest import wait_until

import pipedeco
from pipedeco.process import CONTROLLER
from pipedeco.runners.remote import RemoteSession
from pipedeco.worker.loop import FEW, Loop

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

    @pipedeco.pipeline(mode="remote")
    def body():
        return timed(1)

    assert body() == 1

    def sessions():
        gc.collect()
        return [found for found in gc.get_objects() if isinstance(found, RemoteSession)]

    wait_until(lambda: not sessions(), "the run's session is free")

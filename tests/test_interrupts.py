"""Signals of the thread that executes a run: raised where that is safe, else kept."""

import threading

import pytest

from pipedeco.errors import Terminated
from pipedeco.interrupts import Interrupts, wait_in_parts


def test_shut_at_first():
    interrupts = Interrupts()
    interrupts.arrived(KeyboardInterrupt())
    assert isinstance(interrupts.kept, KeyboardInterrupt)


def test_what_was_kept_is_raised_on_opening():
    interrupts = Interrupts()
    interrupts.arrived(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        interrupts.open()
    assert interrupts.kept is None


def test_open_raises_each_time():
    interrupts = Interrupts()
    interrupts.open()
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            interrupts.arrived(KeyboardInterrupt())


def test_open_once_keeps_the_second():
    interrupts = Interrupts()
    interrupts.open(once=True)
    with pytest.raises(KeyboardInterrupt):
        interrupts.arrived(KeyboardInterrupt())
    interrupts.arrived(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        interrupts.open(once=True)
    interrupts.raises = False
    assert interrupts.kept is None


def test_sigterm_outranks_ctrl_c():
    interrupts = Interrupts()
    interrupts.arrived(Terminated())
    interrupts.arrived(KeyboardInterrupt())
    assert isinstance(interrupts.kept, Terminated)


@pytest.mark.parametrize(("timeout", "happens"), [(None, True), (30.0, True), (0.0, False)])
def test_waiting_in_parts(timeout, happens):
    event = threading.Event()
    if happens:
        threading.Timer(0.3, event.set).start()
    assert wait_in_parts(event.wait, timeout) is happens

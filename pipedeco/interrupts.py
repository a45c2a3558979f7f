"""Ctrl-C and SIGTERM in the thread that executes a run: raised where that is safe, else kept.

An exception that a signal handler raises comes between any two lines, ours too.  So ours are
shut while they record or wind up, and open where the user's body runs or where nothing but
waiting is done.
"""

from __future__ import annotations

import _imp
import signal
from typing import TYPE_CHECKING

from pipedeco.errors import Terminated

if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds.  A signal that comes in the moment before a thread blocks in a lock does not wake it
# (CPython looks for signals before it, not in it), so the main thread blocks for no longer.
LONGEST_WAIT = 0.25
# Signals that ask a process to end, the second where its terminal is closed; Windows has one.
ENDS = tuple(getattr(signal, n) for n in ("SIGTERM", "SIGHUP") if hasattr(signal, n))


class Interrupts:
    """What a signal does to the thread that executes one run.

    Attributes: `kept`, the exception of a signal that came where nothing may be raised; `raises`,
    whether it may be.  Assigning False to it shuts: between the lines of an `except` clause no call
    may come before, as Python looks for signals when a function begins.
    """

    __slots__ = ("_once", "kept", "raises")

    def __init__(self) -> None:
        self.kept: BaseException | None = None
        self.raises = False
        self._once = False

    def open(self, *, once: bool = False) -> None:
        """From now on signals are raised, the one that was kept at once.

        Parameters
        ----------
        once: shut again with the first of them, so that who catches it meets no second.
        """
        self._once = once
        self.raises = True
        if self.kept is not None:
            kept, self.kept = self.kept, None
            self.arrived(kept)

    def arrived(self, error: BaseException) -> None:
        """A signal has come; raises `error`, or keeps it for later."""
        if not self.raises:
            if not isinstance(self.kept, Terminated):  # which ends more than a run
                self.kept = error
            return
        if self._once:
            self.raises = False
        raise error


def release_imports() -> None:
    """Give back the lock of Python's import system, in a thread that is in no import.

    Importlib takes it in one line and begins its `try` in the next: an interrupt between the two
    leaves it taken for ever, and every other thread waits at its next import.
    """
    try:
        while True:
            _imp.release_lock()
    except RuntimeError:  # it is not ours
        pass


def wait_in_parts(wait: Callable[[float], bool], timeout: float | None) -> bool:
    """Wait so that no signal is slept through.

    Parameters
    ----------
    wait: waits for at most so many seconds; whether what it waits for has happened.
    timeout: seconds in all, or None for as long as it takes.
    """
    from time import monotonic

    if timeout is None:
        while not wait(LONGEST_WAIT):
            pass
        return True
    deadline = monotonic() + timeout
    while True:
        left = max(0.0, deadline - monotonic())
        if wait(min(left, LONGEST_WAIT)):
            return True
        if left <= LONGEST_WAIT:
            return False

"""One thread that owns files, timers and whatever else must not be touched by two at once."""

from __future__ import annotations

import heapq
import os
import selectors
import threading
import time
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_SLEEP = 3600.0  # seconds; the system's own limit is some weeks
FEW = 64  # cancelled timers that may lie about


class Timer:
    """What is to be done at a time, unless that is cancelled before."""

    __slots__ = ("action", "args", "listed", "when")

    def __init__(self, when: float, action: Callable[..., None], args: tuple[Any, ...]) -> None:
        self.when = when
        self.action: Callable[..., None] | None = action  # None once it is over
        self.args = args
        self.listed = False

    def clear(self) -> None:
        """It is over, and keeps nothing."""
        self.action = None
        self.args = ()


class Loop:
    """The loop of a thread of its own, which `start` begins; the methods below are its to fill in.

    Registered files carry a callable as data, which is called with the events.

    Parameters
    ----------
    name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self.numbers = count(1)
        self.selector = selectors.DefaultSelector()
        self._inbox: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._cancelled = 0  # of these
        self._asleep = False
        self._closing = False
        self._ears, self._mouth = os.pipe()
        os.set_blocking(self._mouth, False)
        self.selector.register(self._ears, selectors.EVENT_READ, self._woken)
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)

    # -- what a loop is for ----------------------------------------------------------------

    def act(self) -> None:
        """Called each turn, when what was posted and what was due is done."""

    def patience(self, now: float) -> float | None:
        """Seconds after which `act` is to be called, whatever happens; None for never."""
        return None

    def crashed(self, error: BaseException) -> None:
        """A defect of ours has ended the loop; nobody must wait for it."""

    def ended(self) -> None:
        """The last thing that the thread does."""

    def abandon(self) -> None:
        """In a forked child: nothing here is ours."""
        self.selector.close()

    # -- from any thread -------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()
        os.register_at_fork(after_in_child=self.abandon)

    def post(self, action: Callable[..., None], *args: Any) -> None:
        """Have `action(*args)` called on the thread, in order; never waits."""
        self._inbox.append((action, args))
        if self._asleep:
            self._wake()

    def later(self, seconds: float, action: Callable[..., None], *args: Any) -> Timer:
        """The same after a time."""
        timer = Timer(time.monotonic() + seconds, action, args)
        self.post(self._set_timer, timer)
        return timer

    @property
    def alive(self) -> bool:
        return not self._closing

    def on_loop(self) -> bool:
        """Whether the caller is the loop's own thread, in a callback of the user's."""
        return threading.get_ident() == self._thread.ident

    def stop(self) -> None:
        self._closing = True
        self._wake()

    def close(self) -> None:
        self.stop()
        self._thread.join(5.0)

    def _wake(self) -> None:
        try:
            os.write(self._mouth, b"!")
        except BlockingIOError:  # the pipe is full of wake-ups
            pass

    # -- the thread ------------------------------------------------------------------------

    def _live(self) -> None:
        try:
            while not self._closing:
                self._turn()
        except BaseException as error:  # noqa: BLE001 - a defect of ours must not leave others waiting for ever
            self._closing = True
            self.crashed(error)
        finally:
            self.ended()

    def _turn(self) -> None:
        """One turn: what was posted, what is due, what is to be done, what came in."""
        inbox = self._inbox
        while inbox:
            action, args = inbox.popleft()
            action(*args)
            del action, args  # the thread may sleep for long, and a run is in them
        if self._timers:
            self._run_timers()
        self.act()
        self._asleep = True
        timeout = 0.0 if inbox else self._sleep()
        events = self.selector.select(timeout)
        self._asleep = False
        for key, mask in events:
            key.data(mask)

    def _woken(self, events: int) -> None:
        os.read(self._ears, 4096)

    def cancel(self, timer: Timer | None) -> None:
        """Forget a timer, which may be over; what it would have used is free at once."""
        if timer is None or timer.action is None:
            return
        timer.clear()
        self._cancelled += timer.listed
        crowded = self._cancelled > FEW + len(self._timers) // 2
        if crowded:  # those of an hour would lie there for it
            self._timers = [entry for entry in self._timers if entry[2].action is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def _set_timer(self, timer: Timer) -> None:
        if timer.action is not None:
            timer.listed = True
            heapq.heappush(self._timers, (timer.when, next(self.numbers), timer))

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            action, args = timer.action, timer.args
            timer.clear()
            if action is None:
                self._cancelled -= 1
            else:
                action(*args)

    def _sleep(self) -> float | None:
        """How long the loop may sleep."""
        now = time.monotonic()
        wanted = self.patience(now)
        if self._timers:
            due = self._timers[0][0] - now
            wanted = due if wanted is None else min(wanted, due)
        return None if wanted is None else min(max(0.0, wanted), LONGEST_SLEEP)

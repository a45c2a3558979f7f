"""Which step a thread is at work for, and where what it shows goes."""

from __future__ import annotations

import os
from contextvars import ContextVar
from threading import get_ident
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

if TYPE_CHECKING:
    from pipedeco.autolog.tensorboard import EventFiles
    from pipedeco.media import Media


class Reporter(Protocol):
    """Takes what a step logs."""

    def metric(
        self, name: str, value: float, step: int | None = None, time: float | None = None
    ) -> None: ...

    def text(
        self, name: str, text: str, step: int | None = None, time: float | None = None
    ) -> None: ...

    def media(
        self,
        kind: str,
        name: str,
        media: Media,
        step: int | None = None,
        time: float | None = None,
    ) -> None: ...


class Showing:
    """One step, as long as it is performed.

    Parameters
    ----------
    reporter: takes what the step shows.
    outer: the step that performs this one, where a step runs a pipeline in its own process.
    """

    # Most steps log nothing of their own accord: what they do not need costs them nothing here.
    live = True
    drew = False  # whether it opened a figure
    files: EventFiles | None = None
    counts: dict[str, int] | None = None  # figures by their names
    warned: set[str] | None = None
    windows: dict[int, bytes] | None = None

    def __init__(self, reporter: Reporter, outer: Showing | None) -> None:
        self.reporter = reporter
        self.outer = outer

    @property
    def shown(self) -> dict[int, bytes]:
        """What was handed over last of each window."""
        if self.windows is None:
            self.windows = {}
        return self.windows

    def count(self, name: str) -> int:
        """How many figures of this name came before."""
        if self.counts is None:
            self.counts = {}
        number = self.counts.get(name, 0)
        self.counts[name] = number + 1
        return number

    def failed(self, what: str, error: Exception) -> None:
        """Go on without what could not be logged, and say so once; a cancel is passed on."""
        from pipedeco.errors import StepCancelled

        if isinstance(error, StepCancelled):
            raise error
        if self.warned is None:
            self.warned = set()
        if what not in self.warned:
            import logging

            self.warned.add(what)
            logging.getLogger("pipedeco").warning(
                "%s is not logged: %s: %s", what, type(error).__name__, error
            )


class Sleeper(Protocol):
    """Performs steps, and has nothing to do for one until it imports what is watched for."""

    def is_of(self, thread: int) -> bool: ...
    def wake(self) -> None: ...


class Present:
    """The steps that this process performs: one in a worker, and more where runs are debugged."""

    def __init__(self) -> None:
        self.live: list[Showing] = []
        self.sleepers: WeakSet[Sleeper] = WeakSet()
        self._of_thread: ContextVar[Showing | None] = ContextVar("pipedeco-step", default=None)
        os.register_at_fork(after_in_child=self._forget)

    def wake(self) -> None:
        """What is watched for is imported: by the step of this thread, or by the only one."""
        here = get_ident()
        found = [sleeper for sleeper in list(self.sleepers) if sleeper.is_of(here)]
        for sleeper in found or list(self.sleepers):
            sleeper.wake()

    def begin(self, reporter: Reporter) -> Showing:
        session = Showing(reporter, self._of_thread.get())
        self._of_thread.set(session)
        self.live.append(session)
        return session

    def end(self, session: Showing) -> None:
        session.live = False
        try:
            self.live.remove(session)
        except ValueError:  # this process was forked from the step's
            pass
        self._of_thread.set(session.outer)

    def find(self) -> Showing | None:
        """The step that this thread is at work for.

        A thread that a step started begins with an empty context.  It is taken for the only
        step there is, and where there are more, nothing is guessed.
        """
        session = self._of_thread.get()
        if session is not None:
            return session if session.live else None
        waiting = {id(session.outer) for session in self.live}
        found = [session for session in list(self.live) if id(session) not in waiting]
        return found[0] if len(found) == 1 else None

    def _forget(self) -> None:
        """A child of the step's process has no way to the step's reporter."""
        self.sleepers.clear()
        for session in self.live:
            session.live = False
        self.live.clear()


PRESENT = Present()

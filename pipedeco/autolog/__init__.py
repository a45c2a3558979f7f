"""What the usual libraries show is logged without a call to us: matplotlib's figures, event files.

A worker, or who debugs, says when a step begins and when it ends.  Until a step imports one of these
libraries nothing is done but to note where its figures would go.
"""

from __future__ import annotations

import sys
from threading import get_ident
from typing import TYPE_CHECKING

from pipedeco.autolog.backend import Backend
from pipedeco.autolog.present import PRESENT
from pipedeco.autolog.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipedeco.autolog.present import Reporter, Showing

__all__ = ["AutoLog"]

_BACKEND = Backend()
_WATCH = Watch(_BACKEND)


class AutoLog:
    """Auto-logging of the steps that one thread performs, one after the other.

    Parameters
    ----------
    ours: whether the process is ours, as a worker is; in the user's own process the user's backend
        is there again after each step.
    """

    def __init__(self, *, ours: bool = True) -> None:
        self._ours = ours
        self._session: Showing | None = None
        self._idle: Reporter | None = None  # of a step that has used nothing of this yet
        self._thread = 0
        PRESENT.sleepers.add(self)

    def begin(self, reporter: Reporter) -> None:
        """A step begins; `reporter` takes what it shows."""
        if not _WATCH.started:
            _WATCH.start()
        self._idle = reporter
        self._thread = get_ident()
        modules = sys.modules
        if "matplotlib.pyplot" in modules:
            self.wake()

    def wake(self) -> None:
        """The step is about to use what is watched for, or may do so."""
        if self._idle is None or self._session is not None:
            return
        self._session = PRESENT.begin(self._idle)
        _gently(self._session, self._put)

    def is_of(self, thread: int) -> bool:
        """Whether a step of this thread is under way."""
        return self._idle is not None and self._thread == thread

    def poll(self) -> None:
        """Report what came into event files since; for a thread beside the step's."""
        session = self._session
        if session is not None and session.files is not None:
            session.files.poll()

    def end(self) -> None:
        """The step ended; what it left open is read and forgotten."""
        self._idle = None
        session, self._session = self._session, None
        if session is None:
            return
        try:
            _end(session, ours=self._ours)
        finally:
            if not self._ours:
                _gently(session, _BACKEND.leave)

    def _put(self) -> None:
        if not self._ours:
            _BACKEND.enter()
        elif "matplotlib.pyplot" in sys.modules:
            _BACKEND.put()


def _gently(session: Showing, change: Callable[[], None]) -> None:
    try:
        change()
    except Exception as error:  # noqa: BLE001 - matplotlib as we do not know it; the step goes on
        session.failed("what matplotlib shows", error)


def _end(session: Showing, *, ours: bool) -> None:
    try:
        if session.files is not None:
            session.files.finish()
        if session.drew or (ours and "matplotlib.pyplot" in sys.modules):
            from pipedeco.autolog.pyplot import close

            close(session, foreign=ours)
    except Exception as error:  # noqa: BLE001 - what is left of a log never fails the step
        session.failed("what a step left open", error)
    finally:
        PRESENT.end(session)

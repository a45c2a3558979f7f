"""What the usual libraries show is logged without a call to us: matplotlib's figures, event files.

A worker, or who debugs, says when a step begins and when it ends.  Until a step imports one of these
libraries nothing is done but to note where its figures would go.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pipedeco.autolog.backend import Backend
from pipedeco.autolog.present import PRESENT
from pipedeco.autolog.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from pipedeco.autolog.present import Reporter, Session

__all__ = ["AutoLog"]

_BACKEND = Backend()
_WATCH = Watch(_BACKEND)


class AutoLog:
    """Auto-logging of the steps that one thread performs, one after the other."""

    def __init__(self) -> None:
        self._session: Session | None = None

    def begin(self, reporter: Reporter) -> None:
        """A step begins in a process that is ours; matplotlib is ours as well."""
        self._session = PRESENT.begin(reporter)
        if not _WATCH.started:
            _WATCH.start()
            _BACKEND.keep()
        if "matplotlib.pyplot" in sys.modules:
            _gently(self._session, _BACKEND.put)

    def poll(self) -> None:
        """Report what came into event files since; for a thread beside the step's."""
        session = self._session
        if session is not None and session.files is not None:
            session.files.poll()

    def end(self) -> None:
        """The step ended; what it left open is read and forgotten."""
        session, self._session = self._session, None
        if session is not None:
            _end(session, ours=True)

    def in_place(self, reporter: Reporter) -> InPlace:
        """Round a step in the user's own process, whose backend is there again afterwards."""
        return InPlace(reporter)


class InPlace:
    """One step in the user's own process, as a context manager."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._session: Session | None = None

    def __enter__(self) -> None:
        self._session = PRESENT.begin(self._reporter)
        if not _WATCH.started:
            _WATCH.start()
        _gently(self._session, _BACKEND.enter)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._session is not None
        try:
            _end(self._session, ours=False)
        finally:
            _gently(self._session, _BACKEND.leave)


def _gently(session: Session, change: Callable[[], None]) -> None:
    try:
        change()
    except Exception as error:  # noqa: BLE001 - matplotlib as we do not know it; the step goes on
        session.failed("what matplotlib shows", error)


def _end(session: Session, *, ours: bool) -> None:
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

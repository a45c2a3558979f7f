"""Sees each log record that a step makes, and which handlers have taken it.

Two methods of `logging` are wrapped, and call what was there before, whose ever that is.
"""

from __future__ import annotations

import logging
import threading
from functools import wraps
from typing import Any, Protocol


class Keeper(Protocol):
    """What is to know of records."""

    def begin(self) -> Any:
        """A record is about to be handled; None where nobody wants to know of it."""

    def took(
        self, record: logging.LogRecord, handlers: list[logging.Handler], begun: object
    ) -> None:
        """It was handled by these; `begun` is what `begin` has returned."""


class RecordWatch:
    """Tells a keeper of every record that handlers have taken.

    Parameters
    ----------
    keeper : Keeper
        Called in the thread that logs.
    """

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self._here = _Here()
        self._wrapped: list[tuple[type, str, Any, Any]] = []

    @property
    def watching(self) -> bool:
        """Whether this thread is handling a record of which the keeper will hear."""
        return self._here.taken is not None

    def install(self) -> None:
        self._wrap(logging.Logger, "callHandlers", self._calling)
        self._wrap(logging.Handler, "handle", self._handling)

    def remove(self) -> None:
        """Put back what was there, unless somebody else has wrapped it again."""
        for owner, name, before, ours in self._wrapped:
            if getattr(owner, name) is ours:
                setattr(owner, name, before)
        self._wrapped.clear()

    def _wrap(self, owner: type, name: str, make: Any) -> None:
        before = getattr(owner, name)
        ours = wraps(before)(make(before))
        setattr(owner, name, ours)
        self._wrapped.append((owner, name, before, ours))

    def _calling(self, before: Any) -> Any:
        here, keeper = self._here, self.keeper

        def call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
            begun = keeper.begin()
            if begun is None:
                before(logger, record)
                return
            outer, here.taken = here.taken, []  # a handler may log itself
            try:
                before(logger, record)
                taken = here.taken
            finally:
                here.taken = outer
            if taken:
                keeper.took(record, taken, begun)

        return call_handlers

    def _handling(self, before: Any) -> Any:
        here = self._here

        def handle(handler: logging.Handler, record: logging.LogRecord) -> Any:
            taken = before(handler, record)
            if taken and here.taken is not None:
                here.taken.append(handler)
            return taken

        return handle


class _Here(threading.local):
    """Who has taken the record that this thread handles; None between records."""

    taken: list[logging.Handler] | None = None

"""Logging: a step's records go where the program's own would, and into the step's log."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipedeco.ambient.workerlogs import Loggers


class Logs:
    """The part of the ambient state that the standard `logging` is.

    It costs nothing where nobody has imported `logging`.
    """

    name = "logging"
    needs = "logging"

    def __init__(self) -> None:
        self._loggers: Loggers | None = None  # of this worker, from the first use of logging on
        self._state: Any = None

    def capture(self) -> Any:
        if "logging" not in sys.modules:
            return None
        from pipedeco.ambient import loggers

        return loggers.capture()

    def enter(self, state: Any) -> None:
        self._state = state
        if self._loggers is not None:
            self._loggers.enter(state)
        elif state is not None or "logging" in sys.modules:
            self._begin()

    def restore(self) -> None:
        if self._loggers is not None:
            self._loggers.restore()
        elif "logging" in sys.modules:  # the step is the first to use it
            self._begin()

    def adopt(self) -> None:
        """Keep what setup= has set up."""
        if self._loggers is None and "logging" in sys.modules:
            self._loggers = self._made()
        if self._loggers is not None:
            self._loggers.adopt()

    def _begin(self) -> None:
        self._loggers = self._made()
        self._loggers.enter(self._state)

    @staticmethod
    def _made() -> Loggers:
        from pipedeco.ambient.workerlogs import Loggers

        return Loggers()

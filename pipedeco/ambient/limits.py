"""The limits of resources that this process has."""

from __future__ import annotations

import os
import sys
from typing import Any

from pipedeco.ambient.calls import Calls
from pipedeco.ambient.interpreter import CannotRestore


class Niceness:
    """Puts the priority of this process back after a step, where that may be done."""

    name = "nice"

    def __init__(self, calls: Calls | None) -> None:
        self._calls = calls
        self._wanted = 0

    def capture(self) -> None:
        """It does not travel: workers inherit it."""

    def enter(self, state: None) -> None:
        if hasattr(os, "getpriority"):
            self._wanted = os.getpriority(os.PRIO_PROCESS, 0)

    def adopt(self) -> None:
        """As setup= has set it."""
        if hasattr(os, "getpriority"):
            self._wanted = os.getpriority(os.PRIO_PROCESS, 0)

    def restore(self) -> None:
        """Raises CannotRestore where only root may go back."""
        if self._calls is None or not self._calls.noted:
            return
        if os.getpriority(os.PRIO_PROCESS, 0) != self._wanted:
            try:
                os.setpriority(os.PRIO_PROCESS, 0, self._wanted)
            except OSError as error:
                raise CannotRestore("the priority of the process") from error
        self._calls.noted = False


class Limits:
    """Puts them back after a step.  They do not travel: workers inherit them.

    Reading them takes a call of the system for each, so this is done after a step that has called
    what sets them.
    """

    name = "limits"
    needs = "resource"

    def __init__(self, calls: Calls | None) -> None:
        self._kinds: list[int] = []
        self._wanted: list[tuple[int, int]] = []
        self._calls = calls

    def capture(self) -> None:
        pass

    def enter(self, state: None) -> None:
        pass

    def adopt(self) -> None:
        """As setup= has set them."""
        resource: Any = sys.modules.get("resource")
        if resource is not None:
            self._kinds = _kinds_of(resource)
            self._wanted = list(map(resource.getrlimit, self._kinds))

    def restore(self) -> None:
        """Raises CannotRestore where a step has lowered a limit that only root may raise."""
        if self._calls is None or not self._calls.noted:
            return
        self._calls.noted = False
        resource: Any = sys.modules["resource"]
        if not self._kinds:
            self._begin(resource)
        now = list(map(resource.getrlimit, self._kinds))
        if now == self._wanted:
            return
        for kind, limits, wanted in zip(self._kinds, now, self._wanted, strict=True):
            if limits != wanted:
                try:
                    resource.setrlimit(kind, wanted)
                except (OSError, ValueError) as error:
                    raise CannotRestore(f"the limit {kind} of resources") from error

    def _begin(self, resource: Any) -> None:
        """Find the limits with which this process began."""
        self._kinds = _kinds_of(resource)
        try:
            self._wanted = [resource.prlimit(os.getppid(), kind) for kind in self._kinds]
        except (AttributeError, OSError):  # not Linux, or another user's: as they are now
            self._wanted = list(map(resource.getrlimit, self._kinds))


def _kinds_of(resource: Any) -> list[int]:
    return sorted({kind for name, kind in vars(resource).items() if name[:7] == "RLIMIT_"})

"""What a program can put in the place of the interpreter's own functions and streams."""

from __future__ import annotations

import sys
import threading
import warnings
from typing import Any

_PLACES = (
    (sys, "excepthook"),
    (sys, "displayhook"),
    (sys, "unraisablehook"),
    (sys, "breakpointhook"),
    (sys, "stdin"),
    (warnings, "showwarning"),
    (warnings, "formatwarning"),
    (threading, "excepthook"),
)


def _read() -> list[Any]:
    """What stands in these places; spelled out, as it is done after each step."""
    return [
        sys.excepthook,
        sys.displayhook,
        sys.unraisablehook,
        sys.breakpointhook,
        sys.stdin,
        warnings.showwarning,
        warnings.formatwarning,
        threading.excepthook,
    ]


class Hooks:
    """Puts them back after a step; what workers have there is theirs, so none travels."""

    name = "hooks"

    def __init__(self) -> None:
        self._wanted: list[Any] = []

    def capture(self) -> None:
        pass

    def enter(self, state: None) -> None:
        self._wanted = _read()

    def restore(self) -> None:
        if _read() != self._wanted:
            for (module, name), wanted in zip(_PLACES, self._wanted, strict=True):
                setattr(module, name, wanted)

"""What a program can put in the place of the interpreter's own functions and streams."""

from __future__ import annotations

import os
import pickle
import sys
import threading
import warnings
from typing import Any

from pipedeco.main_file import MAIN, is_users
from pipedeco.tracing import warn_user

_OF_WARNINGS = ("showwarning", "formatwarning")
_STANDARD = os.__file__  # stands for the file of a module that has none

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
    """Puts them back after a step.

    What workers have there is theirs, and does not travel, but for the program's own ways of
    showing warnings.  What a module puts there as it is imported stays.
    """

    name = "hooks"

    def __init__(self) -> None:
        self._wanted: list[Any] = []
        self._own: dict[str, Any] = {}  # what stood in the places of the program's

    def capture(self) -> dict[str, bytes] | None:
        found = {}
        for name in _OF_WARNINGS:
            function = getattr(warnings, name)
            if _is_programs(function):
                packed = _packed(name, function)
                if packed is not None:
                    found[name] = packed
        return found or None

    def enter(self, state: dict[str, bytes] | None) -> None:
        for name, function in self._own.items():
            setattr(warnings, name, function)
        self._own.clear()
        for name, packed in (state or {}).items():
            try:
                function = pickle.loads(packed)
            except Exception as error:  # noqa: BLE001 - the user's modules
                sys.stderr.write(f"pipedeco: warnings.{name} cannot be loaded here: {error!r}\n")
            else:
                self._own[name] = getattr(warnings, name)
                setattr(warnings, name, function)
        self.adopt()

    def adopt(self) -> None:
        """Take what stands there for what is to stand there."""
        self._wanted = _read()

    def restore(self) -> None:
        if _read() != self._wanted:
            for (module, name), wanted in zip(_PLACES, self._wanted, strict=True):
                setattr(module, name, wanted)


def _is_programs(function: Any) -> bool:
    """Whether a function is of the program, and of no library."""
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    if module is None:
        return False
    return module.__name__ == MAIN or is_users(getattr(module, "__file__", None) or _STANDARD)


def _packed(name: str, function: Any) -> bytes | None:
    """A function for another process; the user is told where it cannot go there."""
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(function))
    except Exception as error:  # noqa: BLE001 - whatever the function reaches
        warn_user(
            f"warnings.{name} is a function of the program's that cannot be pickled ({error}): "
            "steps show warnings as Python does, unless setup= sets it in each worker"
        )
        return None

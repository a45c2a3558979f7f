"""What is said where a library gets a result of a step in the place of its value."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_OURS = os.path.dirname(__file__) + os.sep


def note_future(error: TypeError, step: str) -> None:
    """Say why a library was refused that asked a method of ours, two calls up."""
    if _is_library(sys._getframe(2)):
        error.add_note(
            f"a library got the result of step {step}, a StepResult, in the place of its value; pass "
            "it pipedeco.value(...)"
        )


def warn_of_index(value: Any, step: str) -> None:
    """Warn where pandas, two calls up, takes a column or a table for an array."""
    asking = sys._getframe(2)
    if _top(asking.f_globals) != "pandas" or not hasattr(value, "index"):
        return
    import warnings

    place: FrameType | None = asking
    while place is not None and _is_library(place):
        place = place.f_back
    place = place or asking
    warnings.warn_explicit(
        f"pandas takes the result of step {step} for an array, and the {type(value).__name__} loses "
        "its index: use pipedeco.value(...)",
        UserWarning,
        place.f_code.co_filename,
        place.f_lineno,
        registry=place.f_globals.setdefault("__warningregistry__", {}),
    )


def _top(names: dict[str, Any]) -> str:
    return str(names.get("__name__", "")).partition(".")[0]


def _is_library(frame: FrameType) -> bool:
    path = frame.f_code.co_filename
    return path.startswith(_OURS) or any(part in path for part in _INSTALLED)

"""What is said where a library gets a result of a step in the place of its value."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from pipedeco.user_frames import PACKAGE

if TYPE_CHECKING:
    from types import FrameType

_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def note_future(error: TypeError, step: str) -> None:
    """Say why a library was refused that asked a method of a result."""
    if _is_installed(_caller()):
        error.add_note(
            f"a library got the result of step {step}, a StepResult, in the place of its value; pass "
            "it pipedeco.value(...)"
        )


def warn_of_index(value: Any, step: str) -> None:
    """Warn where pandas takes a column or a table for an array."""
    asking = _caller()
    if _top(asking.f_globals) != "pandas" or not hasattr(value, "index"):
        return
    import warnings

    place: FrameType | None = asking
    while place is not None and (_is_installed(place) or _is_ours(place)):
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


def _caller() -> FrameType:
    """Who asked: the nearest frame that is not of pipedeco."""
    frame = sys._getframe(2)
    while _is_ours(frame) and frame.f_back is not None:
        frame = frame.f_back
    return frame


def _top(names: dict[str, Any]) -> str:
    return str(names.get("__name__", "")).partition(".")[0]


def _is_ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(PACKAGE)


def _is_installed(frame: FrameType) -> bool:
    path = frame.f_code.co_filename
    return not _is_ours(frame) and any(part in path for part in _INSTALLED)

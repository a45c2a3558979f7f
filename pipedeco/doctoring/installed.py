"""Callbacks that installed distributions bring: each run calls them, and needs all of them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pipedeco.doctoring.lines import ERROR, OK, Line
from pipedeco.plugins import unusable_callbacks

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLBACKS = "callbacks"


def look_at_callbacks() -> Iterator[Line]:
    """Load them as a run does; most projects have none."""
    points, wrong = unusable_callbacks(sys.path)
    for error in wrong:
        yield Line(CALLBACKS, ERROR, f"every run fails: {error}")
    if points and not wrong:
        named = [f"{point.name} ({point.distribution})" for point in points]
        yield Line(CALLBACKS, OK, f"{', '.join(named)}, called for every run")

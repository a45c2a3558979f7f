"""How two values differ: the places, and what stands there on either side.

    contrast     two values
      -> walk    containers and objects, part by part
      -> arrays, frames, texts    what is compared as a whole
      -> Found   a few lines; what is beyond them is counted

Output, time and depth have limits, so that values of gigabytes may be given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SECONDS = 3.0  # for one pair of values


@dataclass(frozen=True, slots=True)
class Contrast:
    """What was found: lines for a person, and whether the values are known to be equal."""

    lines: list[str]
    equal: bool


def contrast(left: Any, right: Any, *, seconds: float = SECONDS) -> Contrast:
    """In what two values differ; objects by their attributes, whether they define `==` or not."""
    from pipedeco.contrast.found import Found
    from pipedeco.contrast.walk import Walk

    found = Found(seconds)
    Walk(found).compare("", left, right)
    return Contrast(found.told(), equal=not found.count and not found.doubts)

"""What steps ask of an engine beside a slot: numbers and sizes by name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pipedeco.errors import ConfigError

if TYPE_CHECKING:
    from pipedeco.engines import EngineURL

_UNITS: dict[str, int] = {
    "": 1,
    "B": 1,
    **{f"{letter}B": 1000**n for n, letter in enumerate("KMGTP", 1)},
    **{f"{letter}IB": 1024**n for n, letter in enumerate("KMGTP", 1)},
}


def amount(name: str, given: float | str) -> float:
    """A number, or a size in bytes: 8GB are 8e9 of them, 8GiB are 2**33.

    Raises ConfigError for what is neither.
    """
    if not isinstance(given, str):
        return float(given)
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", given)
    if found is None or found[2].upper() not in _UNITS:
        raise ConfigError(f"the resource {name} is a number or a size such as 8GB, not {given!r}")
    return float(found[1]) * _UNITS[found[2].upper()]


def listed(url: EngineURL, text: str) -> dict[str, float]:
    """`GPU:1,memory:8GB`, from a URL."""
    found = {}
    for part in text.split(",") if text else ():
        name, colon, given = part.partition(":")
        if not name or not colon or not given:
            raise ConfigError(f"{url.text}: resources are written as GPU:1,memory:8GB")
        found[name] = amount(name, given)
    return found

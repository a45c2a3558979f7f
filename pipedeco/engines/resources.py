"""What steps ask of an engine beside a slot: numbers and sizes by name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pipedeco.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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


def lack(url: str, wanted: Mapping[str, float], workers: Iterable[Mapping[str, float]]) -> str:
    """What is said where no worker has at once all that is wanted; empty where one has.

    Parameters
    ----------
    workers: what each of them has, busy or not.
    """
    has = list(workers)
    if not has:
        return f"{url} has no workers"
    if any(all(one.get(name, 0) >= need for name, need in wanted.items()) for one in has):
        return ""
    most = {name: max(one.get(name, 0) for one in has) for name in wanted}
    return f"no worker of {url} has {_told(wanted)} (the most that one has: {_told(most)})"


def _told(amounts: Mapping[str, float]) -> str:
    return ", ".join(f"{n}: {v:,.0f}" if v >= 1e6 else f"{n}: {v:g}" for n, v in amounts.items())

"""How runs are chosen on the command line: `--param n=3`, `--metric "accuracy>0.9"`."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

from pipedeco.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

# The last operator counts: names of metrics may be any text.
BOUND = re.compile(r"(?P<name>.*[^<>=!])(?P<sign>>=|<=|!=|==|=|>|<)(?P<number>[^<>=!]*)", re.DOTALL)
COMPARISONS = {">": "gt", ">=": "ge", "<": "lt", "<=": "le", "=": "eq", "==": "eq", "!=": "ne"}


def parse_params(given: Sequence[str]) -> dict[str, Any]:
    """`NAME=VALUE` by name; a value is JSON where it can be read as such, else text.

    Raises ConfigError, also for two values of one name, which no run has.
    """
    found: dict[str, Any] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise ConfigError(f"--param takes NAME=VALUE, as in --param n=3, not {text!r}")
        if name.strip() in found:
            raise ConfigError(f"--param names {name.strip()!r} twice; a run has one value of it")
        found[name.strip()] = _parse_value(value)
    return found


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def parse_metrics(given: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """`accuracy>0.9` and its like as the keyword arguments of `pipedeco.runs`.

    Raises ConfigError.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for text in given:
        parts = BOUND.fullmatch(text)
        if parts is None or not parts["name"].strip():
            raise ConfigError(
                f"--metric takes a name, one of > >= < <= = != and a number, as in "
                f"--metric 'accuracy>0.9', not {text!r}"
            )
        bounds = found.setdefault(f"metric__{COMPARISONS[parts['sign']]}", {})
        bounds.setdefault(parts["name"].strip(), []).append(_parse_number(parts["number"], text))
    return found


def _parse_number(text: str, whole: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isnan(number):  # which is more, less or equal to nothing
        raise ConfigError(f"--metric compares with a number, not {text.strip()!r}, in {whole!r}")
    return number

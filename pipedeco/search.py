"""Which runs a person means: by tag, by parameters, by the last values of metrics."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from pipedeco.errors import ConfigError
from pipedeco.records import Row, query
from pipedeco.text import preview

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# The last part of `metric__gt` and its like, and what it asks.
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "": operator.eq,
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


def chosen_runs(
    folder: str,
    tags: tuple[str, ...],
    params: Mapping[str, Any],
    metrics: Mapping[str, Mapping[str, float]],
) -> set[int] | None:
    """The numbers in the store of the runs that meet every one of these; None where none is asked.

    Parameters
    ----------
    tags: that the run or a step of it has.
    params: name -> value, of the call or reported; compared by what is shown of them.
    metrics: comparison -> name -> number, of the run's own metrics' last values.
    """
    found = [_runs(query(folder, "runs_with_tag", tag=tag)) for tag in tags]
    for name, value in params.items():
        found.append(_runs(query(folder, "runs_with_param", param=name, value=preview(value))))
    for comparison, bounds in metrics.items():
        for name, bound in bounds.items():
            found.append(_with_metric(folder, name, comparison, bound))
    return set.intersection(*found) if found else None


def _runs(rows: list[Row]) -> set[int]:
    return {row["run"] for row in rows}


def _with_metric(folder: str, name: str, comparison: str, bound: float) -> set[int]:
    holds = COMPARISONS[comparison]
    rows = query(folder, "runs_with_metric", metric=name)
    return {row["run"] for row in rows if row["number"] is not None and holds(row["number"], bound)}


def parse_criteria(criteria: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """`metric={"loss": 0.5}` and `metric__gt={"accuracy": 0.9}` as comparison -> name -> number.

    Raises ConfigError for any other name, and for what is no dict of numbers.
    """
    found: dict[str, Mapping[str, float]] = {}
    for given, bounds in criteria.items():
        what, _, comparison = given.partition("__")
        if what != "metric" or comparison not in COMPARISONS:
            known = ", ".join(f"metric__{name}" for name in COMPARISONS if name)
            raise ConfigError(f"runs are not found by {given!r}; there are metric, {known}")
        numbers = isinstance(bounds, dict) and all(
            isinstance(bound, int | float) for bound in bounds.values()
        )
        if not numbers:
            example = f"{given}={{'accuracy': 0.9}}"
            raise ConfigError(f"{given} takes a dict of numbers by metric, as {example}")
        found[comparison] = bounds
    return found

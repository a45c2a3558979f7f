"""Which runs a person means: by tag, by parameters, by the last values of metrics."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.errors import ConfigError
from pipedeco.records import Row, query
from pipedeco.text import preview

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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


class Bound(NamedTuple):
    """What is asked of the last value of a metric."""

    metric: str
    comparison: str
    number: float


def chosen_runs(
    folder: str,
    tags: tuple[str, ...],
    params: Mapping[str, Any],
    bounds: Sequence[Bound],
) -> set[int] | None:
    """The numbers in the store of the runs that meet every one of these; None where none is asked.

    Parameters
    ----------
    tags: that the run or a step of it has.
    params: name -> value, of the call or reported; compared by what is shown of them.
    bounds: of the run's own metrics' last values.
    """
    found = [_runs(query(folder, "runs_with_tag", tag=tag)) for tag in tags]
    for name, value in params.items():
        found.append(_runs(query(folder, "runs_with_param", param=name, value=preview(value))))
    found += [_with_metric(folder, bound) for bound in bounds]
    return set.intersection(*found) if found else None


def _runs(rows: list[Row]) -> set[int]:
    return {row["run"] for row in rows}


def _with_metric(folder: str, bound: Bound) -> set[int]:
    holds = COMPARISONS[bound.comparison]
    return {
        row["run"]
        for row in query(folder, "runs_with_metric", metric=bound.metric)
        if row["number"] is not None and holds(row["number"], bound.number)
    }


def parse_criteria(criteria: Mapping[str, Any]) -> list[Bound]:
    """`metric={"loss": 0.5}` and `metric__gt={"accuracy": 0.9}` as bounds.

    Raises ConfigError for any other name, and for what is no dict of numbers, or of lists of them.
    """
    found: list[Bound] = []
    for given, bounds in criteria.items():
        what, _, comparison = given.partition("__")
        if what != "metric" or comparison not in COMPARISONS:
            known = ", ".join(f"metric__{name}" for name in COMPARISONS if name)
            raise ConfigError(
                f"runs are not found by {given!r}; there are pipeline, version, status, tag, param, "
                f"archived, metric, {known}"
            )
        listed = _listed(bounds)
        if not all(isinstance(bound, int | float) for _, bound in listed):
            example = f"{given}={{'accuracy': 0.9}}"
            raise ConfigError(f"{given} takes a dict of numbers by metric, as {example}")
        found += [Bound(name, comparison, bound) for name, bound in listed]
    return found


def _listed(bounds: Any) -> list[tuple[Any, Any]]:
    """Names with what is asked of each, of which several must hold where it is a list."""
    if not isinstance(bounds, dict):
        return [(None, None)]
    return [
        (name, bound)
        for name, given in bounds.items()
        for bound in (given if isinstance(given, list) else [given])
    ]

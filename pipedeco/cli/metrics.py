"""The command that shows the metrics of a run or a step."""

from __future__ import annotations

import sys
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from cyclopts import Parameter

from pipedeco.cli.debugging import complete_step
from pipedeco.cli.output import print_json, print_table, quoted, say
from pipedeco.cli.reading import Json, Name, Store, find_step
from pipedeco.errors import ConfigError
from pipedeco.text import BARS, plain_text, short_number, sparkline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipedeco.run import Run

    Point = dict[str, Any]

COLUMNS = ("name", "value", "step", "time", "source")
CELLS = 24  # of a sparkline
NAMED = 10  # steps or metrics that a sentence lists
Flag = Annotated[bool, Parameter(negative="")]


class Curve(NamedTuple):
    """The points of one metric from one source."""

    name: str
    source: str | None
    values: list[float]


def metrics(
    run: Name = "latest",
    step: Annotated[str | None, Parameter(completer=complete_step)] = None,
    /,
    *,
    name: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    last: Flag = False,
    all_: Annotated[bool, Parameter(name=("--all", "--points"), negative="")] = False,
    json: Json = False,
    csv: Flag = False,
    store: Store = None,
) -> None:
    """Show the metrics of a run, or of one of its steps.

    A line a metric: the number of its points, the first, the last, the least and the greatest
    value. Points of a metric that several steps reported have a line for each.

    Args:
        step: The metrics of this step in the place of the run's own.
        name: Only this metric, or those that a pattern such as 'val/*' fits; may be given again.
        last: Only the last point of each metric.
        all_: Every point.
        csv: Print the points as CSV.
    """
    from pipedeco.run import get_run

    if json and csv:
        raise ConfigError("the points are printed as --json or as --csv, not as both")
    if last and all_:
        raise ConfigError("--last and --all contradict each other")
    found = get_run(run, store=store)
    points = (found if step is None else find_step(found, step)).points
    points = _named(points, name)
    if last:
        points = list({(point["name"], point["source"]): point for point in points}.values())
    if json:
        print_json(points)
    elif csv:
        _print_csv(points)
    elif not points:
        _say_none(found, step)
    elif last or all_:
        print_table(COLUMNS, [_point_row(point) for point in points])
    else:
        _print_curves(curves(points))


def _named(points: list[Point], patterns: Sequence[str]) -> list[Point]:
    """The points of these metrics.  Raises ConfigError for a name that there is not."""
    names = list(dict.fromkeys(point["name"] for point in points))
    for pattern in patterns:
        if not any(_fits(name, pattern) for name in names):
            known = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
            raise ConfigError(f"there is no metric {pattern!r}; there are: {known or 'none'}")
    chosen = {name for name in names for pattern in patterns if _fits(name, pattern)}
    return [point for point in points if point["name"] in chosen] if patterns else points


def _fits(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)


def curves(points: Sequence[Point]) -> list[Curve]:
    """Points by metric and source, in the order of the first points."""
    found: dict[tuple[str, str | None], list[float]] = {}
    for point in points:
        found.setdefault((point["name"], point["source"]), []).append(point["value"])
    return [Curve(name, source, values) for (name, source), values in found.items()]


def _print_curves(found: Sequence[Curve]) -> None:
    head: tuple[str, ...] = ("metric", "source", "points", "first", "last", "least", "greatest")
    rows = [_curve_row(curve) for curve in found]
    if sys.stdout.isatty() and _prints_bars():
        head = (*head, "")
        rows = [
            (*row, sparkline(curve.values, CELLS)) for row, curve in zip(rows, found, strict=True)
        ]
    print_table(head, rows)


def _prints_bars() -> bool:
    try:
        BARS.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _curve_row(curve: Curve) -> tuple[str, ...]:
    numbers = [value for value in curve.values if value == value] or curve.values  # noqa: PLR0124 - NaN
    shown = (curve.values[0], curve.values[-1], min(numbers), max(numbers))
    count = f"{len(curve.values):,}"
    return (curve.name, curve.source or "", count, *(short_number(value) for value in shown))


def _point_row(point: Point) -> tuple[str, ...]:
    return (
        point["name"],
        short_number(point["value"]),
        "" if point["step"] is None else str(point["step"]),
        _moment(point["time"]),
        point["source"] or "",
    )


def _moment(seconds: float) -> str:
    """A time with its milliseconds: points come quickly."""
    from datetime import datetime

    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def _print_csv(points: Sequence[Point]) -> None:
    """A line a point, whatever stands in the names: control characters as their escapes."""
    from csv import writer

    sheet = writer(sys.stdout, lineterminator="\n")
    sheet.writerow(COLUMNS)
    for point in points:
        texts = {name: plain_text(point[name] or "") for name in ("name", "source")}
        sheet.writerow([{**point, **texts}[column] for column in COLUMNS])


def _say_none(run: Run, step: str | None) -> None:
    if step is not None:
        child = child_of(run, step, "metrics")
        say(f"step {plain_text(step)} of run {run.id} has reported no metrics{child}")
    else:
        say(f"run {run.id} has no metrics of its own{where_metrics_are(run)}")


def child_of(run: Run, step: str, command: str) -> str:
    """`; it is run 4a6f: pipedeco metrics 4a6f` of a step that is a run, else nothing."""
    child = find_step(run, step).child_run
    return "" if child is None else f"; it is run {child}: pipedeco {command} {child}"


def where_metrics_are(run: Run) -> str:
    """`; its steps fit, score have: pipedeco metrics RUN STEP`, or nothing where none has any."""
    names = [plain_text(step.name) for step in run.steps.values() if step.has_metrics]
    if not names:
        return ""
    if len(names) == 1:
        return f"; its step {names[0]} has: pipedeco metrics {run.id} {quoted(names[0])}"
    listed = ", ".join(names[:NAMED])
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return f"; its steps {listed}{more} have: pipedeco metrics {run.id} STEP"

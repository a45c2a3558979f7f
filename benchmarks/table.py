"""The table that is printed: a line for each contender, in groups, with ratios and goals."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.rows import OURS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.rows import Goal, Row

Result = list[float] | str
"""Samples, or why there are none."""

WIDTH = 140
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "KB": 1024.0, "steps/s": 1.0}


def print_table(
    results: Mapping[str, Mapping[str, Result]], rows: Mapping[str, Row], caption: str
) -> None:
    """Print what was measured: row name -> contender name -> result."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=caption, caption_justify="left")
    for heading in ("what", "system"):
        table.add_column(heading, no_wrap=True)
    for heading in ("median", "spread", "ours/theirs", "goal"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for name, measured in results.items():
        for line in _lines(rows[name], measured):
            table.add_row(*line)
        table.add_section()
    console = Console(highlight=False)
    console.width = max(console.width, WIDTH)
    console.print(table)


def _lines(row: Row, measured: Mapping[str, Result]) -> list[tuple[str, ...]]:
    ours = _median(measured[OURS])
    lines: list[tuple[str, ...]] = []
    for name, result in measured.items():
        value = _median(result)
        if value is None:
            middle = (str(result), "", "")
        else:
            ratio = ours / value if ours is not None and name != OURS else None
            middle = (_show(value, row.unit), _spread(result), _times(ratio))
        known = value if name == OURS else ours and value and ours / value
        title = row.title if name == OURS else ""
        lines.append((title, name, *middle, *_verdict(row, name, known)))
    return lines


def _median(result: Result) -> float | None:
    return None if isinstance(result, str) else statistics.median(result)


def _spread(result: Result) -> str:
    """Return half the distance of the quartiles, against the median: what noise does."""
    if isinstance(result, str) or len(result) < 3:
        return ""
    low, median, high = statistics.quantiles(result, method="inclusive")
    return f"± {(high - low) / 2 / median:.0%}"


def _verdict(row: Row, name: str, value: float | None) -> tuple[str, str]:
    goal: Goal | None = row.goals.get(name)
    if goal is None:
        return "", ""
    bound = _show(goal.bound, row.unit) if name == OURS else _times(goal.bound)
    if value is None:
        return f"{goal.relation} {bound}", "unknown"
    return f"{goal.relation} {bound}", "met" if goal.met(value) else "not met"


def _show(value: float, unit: str) -> str:
    number = value / UNITS[unit]
    return f"{number:,.{_decimals(number)}f} {unit}"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.{_decimals(ratio)}f}x"


def _decimals(number: float) -> int:
    """Return how many decimals give some three digits."""
    size = abs(number)
    return 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 else 3

"""`python -m benchmarks [--row NAME] [--quick]`: measure, then print one table."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from benchmarks.measure import NotMeasured, samples_of
from benchmarks.rows import ROWS
from benchmarks.table import print_table

if TYPE_CHECKING:
    from benchmarks.rows import Contender, Row
    from benchmarks.table import Result

ROUNDS = 3


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--row", action="append", choices=ROWS, help="only this row (repeatable)")
    parser.add_argument("--quick", action="store_true", help="one round, few samples")
    arguments = parser.parse_args()
    rows = {name: ROWS[name] for name in arguments.row or ROWS}
    results = {name: _measure(row, quick=arguments.quick) for name, row in rows.items()}
    print_table(results, rows)


def _measure(row: Row, *, quick: bool) -> dict[str, Result]:
    """Measure a row in rounds, its contenders in turn: a machine that drifts, drifts for all."""
    results: dict[str, Result] = {contender.name: [] for contender in row.contenders}
    for _ in range(1 if quick else ROUNDS):
        for contender in row.contenders:
            _add(results, row, contender, quick=quick)
    return results


def _add(results: dict[str, Result], row: Row, contender: Contender, *, quick: bool) -> None:
    so_far = results[contender.name]
    if isinstance(so_far, str):
        return
    print(f"{row.name}: {contender.name}", file=sys.stderr)
    try:
        so_far += samples_of(row, contender, quick=quick)
    except NotMeasured as error:
        results[contender.name] = error.verdict
        print(f"  {error.verdict}: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()

"""`python -m benchmarks [--row NAME] [--quick]`: measure, then print one table."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from typing import TYPE_CHECKING

from benchmarks.measure import NotMeasuredError, samples_of
from benchmarks.rows import ROWS
from benchmarks.systems import WORKERS
from benchmarks.table import print_table

if TYPE_CHECKING:
    from benchmarks.rows import Row
    from benchmarks.table import Result

ROUNDS = 3


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--row", action="append", choices=ROWS, help="only this row (repeatable)")
    parser.add_argument("--quick", action="store_true", help="one round, few samples")
    arguments = parser.parse_args()
    rows = {name: ROWS[name] for name in arguments.row or ROWS}
    machine = _machine()
    results = {name: _measure(row, quick=arguments.quick) for name, row in rows.items()}
    print_table(results, rows, machine)


def _machine() -> str:
    """Return what the numbers depend on; a machine that is busy already measures nothing well."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    load = f", load {os.getloadavg()[0]:.1f} before the start" if hasattr(os, "getloadavg") else ""
    return f"{python}, {platform.system()}, {os.cpu_count()} CPUs, {WORKERS} workers{load}"


def _measure(row: Row, *, quick: bool) -> dict[str, Result]:
    """Measure a row in rounds, its contenders in turn: a machine that drifts, drifts for all."""
    samples: dict[str, list[float]] = {contender.name: [] for contender in row.contenders}
    verdicts: dict[str, str] = {}
    for _ in range(1 if quick else ROUNDS):
        for contender in row.contenders:
            name = contender.name
            print(f"{row.name}: {name}", file=sys.stderr)
            try:
                samples[name] += samples_of(row, contender, quick=quick)
            except NotMeasuredError as error:
                verdicts[name] = error.verdict
                print(f"  {error.verdict}: {error}", file=sys.stderr)
    return {name: found or verdicts[name] for name, found in samples.items()}


if __name__ == "__main__":
    main()

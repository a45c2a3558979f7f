"""A cache hit: 500 of them in a fresh process, whose results another process has made."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from benchmarks.measure import ROOT

if TYPE_CHECKING:
    from benchmarks.measure import Measure

COUNT = 500  # as the scripts have it


def hits(script: str, *arguments: str) -> Measure:
    """Return seconds a hit of a script in benchmarks/cold, which prints the seconds of all."""

    def measure(quick: bool) -> list[float]:
        with tempfile.TemporaryDirectory(prefix="hits-") as place:
            command = [sys.executable, str(ROOT / "benchmarks" / "cold" / script)]
            command += [argument.format(place=place) for argument in arguments]
            _printed(command)  # makes what the others find
            return [_printed(command) / COUNT for _ in range(3 if quick else 7)]

    return measure


def _printed(command: list[str]) -> float:
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)

"""What it takes to begin: importing, and ten steps from a cold start. Whole processes are timed.

Bytecode is cached, as it is on anyone's second run: measure.py has removed what forbids it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks.measure import ROOT, timed

if TYPE_CHECKING:
    from benchmarks.measure import Measure


def imports(statement: str) -> Measure:
    """Return the seconds that a statement adds to a Python that does nothing."""

    def measure(quick: bool) -> list[float]:
        _python("-c", statement)
        pairs = [(_python("-c", statement), _python("-c", "")) for _ in range(5 if quick else 7)]
        bare = statistics.median(without for _, without in pairs)
        return [seconds - bare for seconds, _ in pairs]

    return measure


def ten_steps(script: str, *arguments: str) -> Measure:
    """Return the seconds of a script of ten steps, from the start of Python to its end."""

    def measure(quick: bool) -> list[float]:
        path = str(ROOT / "benchmarks" / "cold" / script)
        _python(path, *arguments)
        return [_python(path, *arguments) for _ in range(2 if quick else 3)]

    return measure


def _python(*arguments: str) -> float:
    command = [sys.executable, *arguments]
    return timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))

"""One measurement in a process of its own: a crash, a hang or a big heap stays there.

`samples_of` starts `python -m benchmarks.measure ROW CONTENDER`, which prints its samples as JSON.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.rows import Contender, Row

    Measure = Callable[[bool], list[float]]
    """Takes whether to be quick, and returns samples in the unit of the row."""

ROOT = Path(__file__).resolve().parent.parent
DEADLINE = 120.0


class NotMeasuredError(Exception):
    """There is no number: a word for the table's cell, and a sentence why."""

    def __init__(self, verdict: str, why: str) -> None:
        super().__init__(why)
        self.verdict = verdict


def timed(run: Callable[[], object]) -> float:
    """Return the seconds that a call takes, with no garbage of earlier ones to collect."""
    gc.collect()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def clean_environment() -> dict[str, str]:
    """Return an environment in which bytecode is cached and nobody's pipedeco settings count."""
    dropped = {"PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONPROFILEIMPORTTIME"}
    return {
        name: value
        for name, value in os.environ.items()
        if name not in dropped and not name.startswith("PIPEDECO_")
    }


def samples_of(row: Row, contender: Contender, *, quick: bool) -> list[float]:
    """Measure one contender of one row in a fresh process with a fresh store."""
    if contender.needs and not find_spec(contender.needs):
        raise NotMeasuredError("not installed", f"there is no module {contender.needs}")
    command = [sys.executable, "-m", "benchmarks.measure", row.name, contender.name]
    with (
        tempfile.TemporaryDirectory(prefix="pipedeco-bench-", ignore_cleanup_errors=True) as place,
        subprocess.Popen(
            command + ["--quick"] * quick,
            cwd=ROOT,
            env=clean_environment() | {"PIPEDECO_STORE": f"{place}/store", "TMPDIR": place},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            output, errors = process.communicate(timeout=DEADLINE)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise NotMeasuredError("too slow", f"took more than {DEADLINE:.0f} s") from None
            raise
    if process.returncode:
        reason = (errors.strip() or f"exit code {process.returncode}").splitlines()[-1]
        raise NotMeasuredError("failed", reason)
    samples: list[float] = json.loads(output.splitlines()[-1])
    return samples


def main(arguments: list[str]) -> None:
    """Measure in this process and print the samples."""
    from benchmarks.rows import ROWS

    row, contender = arguments[:2]
    samples = ROWS[row].contender(contender).measure("--quick" in arguments)
    print(json.dumps(samples))


if __name__ == "__main__":
    main(sys.argv[1:])

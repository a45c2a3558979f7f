"""Many small steps, and a few on a big array: fan-out, chain, growth, share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from benchmarks.measure import timed
from benchmarks.systems import open_system

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.measure import Measure
    from benchmarks.systems import Spreading, System

WARM_UP = 100
"""Steps before the clock starts: workers have started and know the function."""

ARRAY_LENGTH = 256 * 2**20 // 8
CONSUMERS = 4


def fan_out(system: str, count: int) -> Measure:
    """Return independent steps a second."""
    return _repeat(system, lambda it: count / timed(lambda: it.fan_out(count)))


def chain(system: str, count: int) -> Measure:
    """Return seconds a step when each needs the one before."""
    return _repeat(system, lambda it: timed(lambda: it.chain(count)) / count)


def share(system: str) -> Measure:
    """Return seconds to make 256 MB in one step and read it in four."""

    def sample(it: System) -> float:
        _fetch_memory()
        return timed(lambda: it.share(ARRAY_LENGTH, CONSUMERS))

    def warm_up(it: System) -> None:
        it.share(ARRAY_LENGTH, CONSUMERS)

    return _repeat(system, sample, warm_up, samples=5)


def hand_over(system: str) -> Measure:
    """Return seconds from the end of a step that made 256 MB until another worker has read it."""

    def sample(it: System) -> float:
        spreading = cast("Spreading", it)
        while True:
            _fetch_memory()
            others = [seconds for other, seconds in spreading.hand_over(ARRAY_LENGTH) if other]
            if others:
                return min(others)

    return _repeat(system, sample, sample, samples=9)


def _fetch_memory() -> None:
    """Touch memory and free it, that systems measure themselves and not the machine's host.

    A virtual machine gives its host back what it does not use, and gets it again some ten times
    slower than memory that it has: 0.4 s for 256 MB where this was written.
    """
    import numpy as np

    np.ones(8 * ARRAY_LENGTH)


def growth(system: str, count: int) -> Measure:
    """Return seconds a step in a run of count steps: whatever grows faster than the run shows."""
    return _repeat(system, lambda it: timed(lambda: it.fan_out(count)) / count, samples=1)


def memory(system: str, count: int) -> Measure:
    """Return bytes that the driving process holds at its peak, for each of count steps."""

    def sample(it: System) -> float:
        before = _peak_memory()
        it.fan_out(count)
        return (_peak_memory() - before) / count

    return _repeat(system, sample, samples=1)


def _warm_up(it: System) -> None:
    it.fan_out(WARM_UP)


def _repeat(
    system: str,
    sample: Callable[[System], float],
    warm_up: Callable[[System], object] = _warm_up,
    samples: int = 3,
) -> Measure:
    def measure(quick: bool) -> list[float]:
        with open_system(system) as it:
            warm_up(it)
            return [sample(it) for _ in range(1 if quick else samples)]

    return measure


def _peak_memory() -> int:
    """Return the most memory that this process has ever held, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: on Linux it starts from what the parent held when it started this process.
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

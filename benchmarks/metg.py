"""METG(50%): how small steps may be before a system spends half of the machine on itself.

The measure is that of Slaughter et al., "Task Bench: A Parameterized Benchmark for Evaluating
Parallel Runtime Performance", SC20. The graph is its 1-D stencil: in each row, task i reads tasks
i-1, i and i+1 of the row above (those that exist). Every task computes for the same number of
iterations of a small loop.

1. Peak: what one iteration takes when every worker's core computes and nothing else runs.
2. For a number of iterations, time the whole graph. Its *efficiency* is the time that the
   iterations would take at the peak on all cores, over the time that it took. Its *granularity*
   is cores x time / tasks: what a task costs, all overhead included.
3. Double the iterations until efficiency passes 50 %, and interpolate (both axes logarithmic):
   the granularity at 50 % is METG(50%). Smaller is better; below it, half of the machine is lost.

The paper's kernel runs as compiled code; ours is a loop in Python, which changes the peak and not
the method. The time of a graph includes all of a call: for pipedeco, the final commit as well.
"""

from __future__ import annotations

import statistics
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from math import exp, log
from typing import TYPE_CHECKING

from benchmarks.measure import timed
from benchmarks.steps import relax
from benchmarks.systems import WORKERS, open_system

if TYPE_CHECKING:
    from benchmarks.measure import Measure
    from benchmarks.systems import System

WIDTH = 4
EFFICIENCY = 0.5
FIRST_TASK = 20e-6
LARGEST_TASK = 0.1
LONGEST_GRAPH = 1.0
"""Seconds of computing in a graph; graphs of large tasks have fewer rows for it."""


def stencil(system: str, height: int) -> Measure:
    """Return the seconds of METG(50%) for a graph of WIDTH x height tasks."""

    def measure(quick: bool) -> list[float]:
        peak = _seconds_an_iteration()
        with open_system(system) as it:
            it.stencil(1, WIDTH, 10)
            return [_search(it, height, peak, samples=1 if quick else 3)]

    return measure


def _search(it: System, height: int, peak: float, samples: int) -> float:
    """Double the size of tasks until they pass the efficiency, and return the granularity there."""
    below = None
    task = FIRST_TASK
    while task < LARGEST_TASK:
        iterations = round(task / peak)
        rows = min(height, round(LONGEST_GRAPH * WORKERS / (WIDTH * task)))
        times = [timed(partial(it.stencil, iterations, WIDTH, rows)) for _ in range(samples)]
        granularity = WORKERS * statistics.median(times) / (WIDTH * rows)
        efficiency = iterations * peak / granularity
        if efficiency >= EFFICIENCY:
            return _between(below, (efficiency, granularity)) if below else granularity
        below = (efficiency, granularity)
        task *= 2
    raise RuntimeError(f"less than {EFFICIENCY:.0%} efficient even with tasks of {LARGEST_TASK} s")


def _between(below: tuple[float, float], above: tuple[float, float]) -> float:
    """Return the granularity at EFFICIENCY on the line between two points."""
    (low, fine), (high, coarse) = below, above
    share = log(EFFICIENCY / low) / log(high / low)
    return exp(log(fine) + share * log(coarse / fine))


def _seconds_an_iteration(iterations: int = 200_000, batches: int = 10) -> float:
    """Return the peak: the median of several batches, run on all workers' cores at once."""
    with ProcessPoolExecutor(WORKERS) as pool:
        times = pool.map(_time_relax, [iterations] * (WORKERS * batches))
        return statistics.median(times) / iterations


def _time_relax(iterations: int) -> float:
    return timed(partial(relax, iterations))

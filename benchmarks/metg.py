"""METG(50%): how small steps may be before a system spends half of the machine on itself.

The measure is that of Slaughter et al., "Task Bench: A Parameterized Benchmark for Evaluating
Parallel Runtime Performance", SC20. The graph is its 1-D stencil: in each row, task i reads tasks
i-1, i and i+1 of the row above (those that exist). Every task computes for the same number of
iterations of a small loop.

1. Peak: what one iteration takes when processes, one for each worker, do nothing but compute. It is
   measured before and after each graph, so that a machine shared with others slows both alike.
2. For a number of iterations, time the whole graph. Its *efficiency* is the time that the
   iterations would take at the peak on all cores, over the time that it took. Its *granularity*
   is cores x time / tasks: what a task costs, all overhead included.
3. Double the iterations until efficiency passes 50 %, and interpolate (both axes logarithmic):
   the granularity at 50 % is METG(50%). Smaller is better; below it, half of the machine is lost.

The paper's kernel runs as compiled code; ours is a loop in Python, which changes the peak and not
the method. The time of a graph includes all of a call: for pipedeco, the final commit as well.
"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from math import exp, log
from multiprocessing import get_context
from typing import TYPE_CHECKING

from benchmarks.measure import timed
from benchmarks.steps import relax
from benchmarks.systems import WORKERS, open_system

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

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

    def measure(_quick: bool) -> list[float]:
        with closing(_Peak()) as peak, open_system(system) as it:
            it.stencil(1, WIDTH, 10)
            return [_search(it, height, peak)]

    return measure


def _search(it: System, height: int, peak: _Peak) -> float:
    """Double the size of tasks until they pass the efficiency, and return the granularity there."""
    below = None
    task = FIRST_TASK
    before = peak.measure()
    while task < LARGEST_TASK:
        iterations = round(task / before)
        rows = min(height, round(LONGEST_GRAPH * WORKERS / (WIDTH * task)))
        seconds = timed(partial(it.stencil, iterations, WIDTH, rows))
        after = peak.measure()
        granularity = WORKERS * seconds / (WIDTH * rows)
        efficiency = iterations * (before + after) / 2 / granularity
        if efficiency >= EFFICIENCY:
            return _between(below, (efficiency, granularity)) if below else granularity
        below = (efficiency, granularity)
        before = after
        task *= 2
    raise RuntimeError(f"less than {EFFICIENCY:.0%} efficient even with tasks of {LARGEST_TASK} s")


def _between(below: tuple[float, float], above: tuple[float, float]) -> float:
    """Return the granularity at EFFICIENCY on the line between two points."""
    (low, fine), (high, coarse) = below, above
    share = log(EFFICIENCY / low) / log(high / low)
    return exp(log(fine) + share * log(coarse / fine))


class _Peak:
    """Processes that compute side by side on request. No threads, so that systems may fork."""

    def __init__(self) -> None:
        context = get_context("spawn")
        self.ends = []
        for _ in range(WORKERS):
            ours, theirs = context.Pipe()
            context.Process(target=_compute, args=(theirs,), daemon=True).start()
            self.ends.append(ours)
        self.measure()

    def measure(self, iterations: int = 2_000_000) -> float:
        """Return the seconds of one iteration when all processes compute at once."""
        for end in self.ends:
            end.send(iterations)
        return sum(end.recv() for end in self.ends) / WORKERS / iterations

    def close(self) -> None:
        """Let the processes end."""
        for end in self.ends:
            end.send(0)


def _compute(requests: Connection) -> None:
    while iterations := requests.recv():
        requests.send(timed(partial(relax, iterations)))

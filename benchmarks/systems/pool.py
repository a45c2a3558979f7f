"""concurrent.futures.ProcessPoolExecutor, as a careful user drives it by hand."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager

from benchmarks.steps import consume, increment, produce, relax
from benchmarks.systems import WORKERS, neighbours


class Local(AbstractContextManager["Local"]):
    """A pool with the platform's own start method."""

    def __init__(self) -> None:
        self.pool = ProcessPoolExecutor(WORKERS)

    def __exit__(self, *_: object) -> None:
        """Stop the workers."""
        self.pool.shutdown()

    def fan_out(self, count: int) -> int:
        """Submit all, then read all."""
        futures = [self.pool.submit(increment, i) for i in range(count)]
        return len([future.result() for future in futures])

    def chain(self, count: int) -> int:
        """Read each result to submit the next step."""
        x = 0
        for _ in range(count):
            x = self.pool.submit(increment, x).result()
        return x

    def stencil(self, iterations: int, width: int, height: int) -> list[float]:
        """Submit each step once its own inputs are there, not when the whole row is."""
        row = [self.pool.submit(relax, iterations) for _ in range(width)]
        for _ in range(height - 1):
            row = [
                self.pool.submit(relax, iterations, *(f.result() for f in neighbours(row, i)))
                for i in range(width)
            ]
        return [future.result() for future in row]

    def share(self, length: int, consumers: int) -> list[float]:
        """Let the array travel through the pool's pipes."""
        array = self.pool.submit(produce, length).result()
        futures = [self.pool.submit(consume, array) for _ in range(consumers)]
        return [future.result() for future in futures]

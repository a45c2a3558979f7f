"""joblib with loky, its own default, which batches small steps and maps large arguments."""

from __future__ import annotations

from contextlib import AbstractContextManager

from joblib import Parallel, delayed

from benchmarks.steps import consume, increment, produce, relax
from benchmarks.systems import WORKERS, neighbours


class Local(AbstractContextManager["Local"]):
    """One pool, kept through all calls."""

    def __init__(self) -> None:
        self.parallel = Parallel(n_jobs=WORKERS)

    def __enter__(self) -> Local:
        """Start the pool."""
        self.parallel.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the pool."""
        self.parallel.__exit__(None, None, None)

    def fan_out(self, count: int) -> int:
        """Leave the size of batches to joblib."""
        return len(self.parallel(delayed(increment)(i) for i in range(count)))

    def chain(self, count: int) -> int:
        """Make one call a step, for a call is where joblib's results come back."""
        x = 0
        for _ in range(count):
            [x] = self.parallel([delayed(increment)(x)])
        return x

    def stencil(self, iterations: int, width: int, height: int) -> list[float]:
        """Make one call a row, without batches: they would put a whole row into one worker."""
        self.parallel.batch_size = 1
        row: list[float] = self.parallel(delayed(relax)(iterations) for _ in range(width))
        for _ in range(height - 1):
            above = row
            row = self.parallel(
                delayed(relax)(iterations, *neighbours(above, i)) for i in range(width)
            )
        return row

    def share(self, length: int, consumers: int) -> list[float]:
        """Leave the large argument to joblib."""
        [array] = self.parallel([delayed(produce)(length)])
        results: list[float] = self.parallel(delayed(consume)(array) for _ in range(consumers))
        return results

"""ProcessPoolExecutor, with the large value in a file that is written once and mapped."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.steps import consume, produce
from benchmarks.systems import pool


class Local(pool.Local):
    """What a careful user does about large values."""

    def share(self, length: int, consumers: int) -> list[float]:
        """Let only the file's name travel."""
        path = Path(tempfile.mkdtemp(), "array.npy")
        self.pool.submit(_produce, path, length).result()
        futures = [self.pool.submit(_consume, path) for _ in range(consumers)]
        results = [future.result() for future in futures]
        return results


def _produce(path: Path, length: int) -> None:
    np.save(path, produce(length))


def _consume(path: Path) -> float:
    return consume(np.load(path, mmap_mode="c"))

"""ProcessPoolExecutor, with the large value in a file that is written once and mapped."""

from __future__ import annotations

import os
import tempfile

import numpy as np

from benchmarks.steps import consume, produce
from benchmarks.systems import pool


class Local(pool.Local):
    """What a careful user does about large values."""

    def share(self, length: int, consumers: int) -> list[float]:
        """Let only the file's name travel."""
        handle, path = tempfile.mkstemp(suffix=".npy")
        os.close(handle)
        self.pool.submit(_produce, path, length).result()
        futures = [self.pool.submit(_consume, path) for _ in range(consumers)]
        results = [future.result() for future in futures]
        os.unlink(path)
        return results


def _produce(path: str, length: int) -> None:
    np.save(path, produce(length))


def _consume(path: str) -> float:
    return consume(np.load(path, mmap_mode="c"))

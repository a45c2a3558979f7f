"""ProcessPoolExecutor, with the large value in a file that is written once and mapped."""

from __future__ import annotations

import atexit
import shutil
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
        # Not before the end: the next file would get the same pages, which no other system does.
        atexit.register(shutil.rmtree, path.parent)
        self.pool.submit(_produce, path, length).result()
        futures = [self.pool.submit(_consume, path) for _ in range(consumers)]
        return [future.result() for future in futures]


def _produce(path: Path, length: int) -> None:
    np.save(path, produce(length))


def _consume(path: Path) -> float:
    return consume(np.load(path, mmap_mode="c"))

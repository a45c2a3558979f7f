"""Dask's distributed scheduler with worker processes on this machine."""

from __future__ import annotations

import itertools
import logging
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from dask.distributed import Client, LocalCluster

from benchmarks.steps import consume, give, increment, produce, relax, take
from benchmarks.systems import WORKERS, neighbours

if TYPE_CHECKING:
    from collections.abc import Callable

    from dask.distributed import Future


class Local(AbstractContextManager["Local"]):
    """One cluster, kept through all calls; pure=False, for each call is to be performed."""

    def __init__(self) -> None:
        self.cluster = LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            silence_logs=logging.ERROR,
        )
        self.client = Client(self.cluster)

    def __exit__(self, *_: object) -> None:
        """Stop the cluster."""
        self.client.close()
        self.cluster.close()

    def fan_out(self, count: int) -> int:
        """Submit all in one call, as Dask advises, then gather all."""
        return len(self.client.gather(self.client.map(increment, range(count), pure=False)))

    def chain(self, count: int) -> int:
        """Pass each future on without reading it."""
        x = self.client.submit(increment, 0, pure=False)
        for _ in range(count - 1):
            x = self.client.submit(increment, x, pure=False)
        return x.result()

    def stencil(self, iterations: int, width: int, height: int) -> list[float]:
        """Pass each row of futures on to the next."""
        submit = self.client.submit
        row = [submit(relax, iterations, pure=False) for _ in range(width)]
        for _ in range(height - 1):
            row = [submit(relax, iterations, *neighbours(row, i), pure=False) for i in range(width)]
        return self.client.gather(row)

    def share(self, length: int, consumers: int) -> list[float]:
        """Read the array in turn on both workers."""
        return self._spread(consume, self.client.submit(produce, length, pure=False), consumers)

    def hand_over(self, length: int) -> list[tuple[bool, float]]:
        """Let each worker take an array, of which one has made it."""
        return self._spread(take, self.client.submit(give, length, pure=False), WORKERS)

    def _spread(self, function: Callable[..., Any], array: Future, count: int) -> list[Any]:
        """Call a function on each worker in turn: left alone, Dask reads where it was made."""
        workers = itertools.cycle(sorted(self.client.nthreads()))
        return self.client.gather(
            [
                self.client.submit(function, array, pure=False, workers=[next(workers)])
                for _ in range(count)
            ]
        )

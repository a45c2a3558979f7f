"""A point of a metric, reported from a loop inside a step, which a killed process would not lose."""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

from benchmarks.measure import timed

POINTS = 100_000


def pipedeco(quick: bool) -> list[float]:
    """Return seconds a point of log_metric in a step of a worker."""
    from pipedeco import component, log_metric, pipeline, value

    @component
    def loop(points: int) -> float:
        begin = time.perf_counter()
        for i in range(points):
            log_metric("loss", i * 0.5, i)
        return (time.perf_counter() - begin) / points

    @pipeline(mode="local", workers=1)
    def body(rounds: int) -> list[float]:
        return [value(loop(POINTS)) for _ in range(rounds)]

    return body(2 if quick else 7)


def by_hand(quick: bool) -> list[float]:
    """Return seconds a line of the same content that is formatted and written at once."""
    with tempfile.NamedTemporaryFile() as file:

        def loop() -> None:
            for i in range(POINTS):
                line = f'["loss", {time.time()!r}, {i}, {i * 0.5!r}]\n'
                os.write(file.fileno(), line.encode())

        return [timed(loop) / POINTS for _ in range(2 if quick else 7)]


def tensorboard(quick: bool) -> list[float]:
    """Return seconds a point of tensorboardX, whose writer keeps them for up to 120 s."""
    from tensorboardX import SummaryWriter

    points = POINTS // 10
    with tempfile.TemporaryDirectory() as folder, SummaryWriter(folder) as writer:

        def loop(writer: Any = writer) -> None:
            for i in range(points):
                writer.add_scalar("loss", i * 0.5, i)

        return [timed(loop) / points for _ in range(2 if quick else 7)]

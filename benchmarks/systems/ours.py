"""pipedeco in local mode: every step recorded, and committed before a call returns."""

from __future__ import annotations

from contextlib import AbstractContextManager

import numpy as np

from benchmarks import steps
from benchmarks.systems import WORKERS, neighbours
from pipedeco import component, pipeline


@component
def increment(x: int) -> int:
    """See steps.increment."""
    return steps.increment(x)


@component
def relax(iterations: int, *above: float) -> float:
    """See steps.relax."""
    return steps.relax(iterations, *above)


@component
def produce(length: int) -> np.ndarray:
    """See steps.produce."""
    return steps.produce(length)


@component
def consume(array: np.ndarray) -> float:
    """See steps.consume."""
    return steps.consume(array)


@component
def give(length: int) -> np.ndarray:
    """See steps.give."""
    return steps.give(length)


@component
def take(array: np.ndarray) -> tuple[bool, float]:
    """See steps.take."""
    return steps.take(array)


@pipeline
def fan_out(count: int) -> int:
    """Hold all results, read none: the call returns when all steps are done and recorded."""
    results = [increment(i) for i in range(count)]
    return len(results)


@pipeline
def chain(count: int) -> int:
    """Pass each result on without reading it."""
    x = 0
    for _ in range(count):
        x = increment(x)
    return x


@pipeline
def stencil(iterations: int, width: int, height: int) -> list[float]:
    """Pass each row on to the next without reading it."""
    row = [relax(iterations) for _ in range(width)]
    for _ in range(height - 1):
        row = [relax(iterations, *neighbours(row, i)) for i in range(width)]
    return row


@pipeline
def share(length: int, consumers: int) -> list[float]:
    """Give one step's array to several."""
    array = produce(length)
    return [consume(array) for _ in range(consumers)]


@pipeline
def hand_over(length: int) -> list[tuple[bool, float]]:
    """Let each worker take an array, of which one has made it."""
    array = give(length)
    return [take(array) for _ in range(WORKERS)]


class Local(AbstractContextManager["Local"]):
    """The pool lives as long as the process, so there is nothing to open or to close."""

    fan_out = staticmethod(fan_out.with_options(workers=WORKERS))
    chain = staticmethod(chain.with_options(workers=WORKERS))
    stencil = staticmethod(stencil.with_options(workers=WORKERS))
    share = staticmethod(share.with_options(workers=WORKERS))

    def __exit__(self, *_: object) -> None:
        """Leave the workers to the end of the process."""

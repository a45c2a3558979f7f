"""The functions that every system runs: plain, small, importable."""

from __future__ import annotations

import os
import time

import numpy as np


def increment(x: int) -> int:
    """Do as little as a step can do and still depend on the one before."""
    return x + 1


def relax(iterations: int, *neighbours: float) -> float:
    """Compute for a time proportional to iterations: the kernel of a Task Bench task."""
    value = sum(neighbours, 1.0)
    for _ in range(iterations):
        value = value * 0.5 + 1.0
    return value


def produce(length: int) -> np.ndarray:
    """Make an array of length float64 numbers, never the same: no system may have it already."""
    array = np.arange(length, dtype=np.float64)
    array[0] = time.time_ns()
    return array


def consume(array: np.ndarray) -> float:
    """Read every number of an array."""
    return float(array.sum())


def give(length: int) -> np.ndarray:
    """Make an array that tells who made it, and when that was done."""
    array = produce(length)
    array[:2] = os.getpid(), time.monotonic()
    return array


def take(array: np.ndarray) -> tuple[bool, float]:
    """Read every number; whether another process made them, and the seconds since it had."""
    maker, made = array[:2].tolist()
    consume(array)
    return os.getpid() != int(maker), time.monotonic() - made

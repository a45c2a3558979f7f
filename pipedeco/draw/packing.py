"""Room on a line and on a sheet."""

from __future__ import annotations

import math
from itertools import accumulate


def spread(wanted: list[float], weights: list[float], apart: list[float]) -> list[float]:
    """Places in this order, each nearest to the wanted one, neighbours at least so far apart.

    The sum of the weighted squares of the distances is the least there can be: what would
    overlap moves as one block to its weighted mean (pool adjacent violators).
    """
    offsets = [0.0, *accumulate(apart)]
    blocks: list[tuple[float, float, int]] = []  # mean, weight, how many
    for want, weight, offset in zip(wanted, weights, offsets, strict=True):
        mean, mass, size = want - offset, weight, 1
        while blocks and blocks[-1][0] > mean:
            other, more, count = blocks.pop()
            mean = (mean * mass + other * more) / (mass + more)
            mass, size = mass + more, size + count
        blocks.append((mean, mass, size))
    starts = (mean for mean, _, size in blocks for _ in range(size))
    return [start + offset for start, offset in zip(starts, offsets, strict=True)]


def pack(
    sizes: list[tuple[float, float]], gap: float
) -> tuple[list[tuple[float, float]], tuple[float, float]]:
    """Left upper corners of rectangles set in rows like words, and the size of the whole."""
    area = sum((width + gap) * (height + gap) for width, height in sizes)
    limit = max([math.sqrt(area * 1.8), *(width for width, _ in sizes)], default=0.0)
    corners = []
    x = y = row = right = 0.0
    for width, height in sizes:
        if x and x + width > limit:
            x, y, row = 0.0, y + row + gap, 0.0
        corners.append((x, y))
        x, row = x + width + gap, max(row, height)
        right = max(right, x - gap)
    return corners, (right, y + row)

"""Recursion in steps, in bodies, and pipelines that call themselves."""

import sys
from functools import cache

from pipedeco import component, pipeline, value


@cache
def partitions(n, largest):
    if n == 0:
        return 1
    return sum(partitions(n - k, k) for k in range(1, min(n, largest) + 1))


def depth_of(tree):
    return 1 + max(map(depth_of, tree), default=0)


def deep(n):
    return n if n == 0 else 1 + deep(n - 1)


@component
def leaf(n):
    return partitions(n, n)


@component
def add(a, b):
    return a + b


@component
def endless(n):
    return endless_helper(n)


def endless_helper(n):
    return endless_helper(n + 1)


@pipeline
def total(low, high):
    if high - low == 1:
        return leaf(low)
    middle = (low + high) // 2
    return add(total(low, middle), total(middle, high))


def fold(values):
    first, *rest = values
    return add(first, fold(rest)) if rest else first


@pipeline
def main():
    sys.setrecursionlimit(800)
    print(fold([1, 2, 3, 4]) + 0, depth_of([[], [[[]]]]), deep(300))
    try:
        value(endless(0))
    except RecursionError as error:
        print(str(error)[:32])
    return total(1, 5)


if __name__ == "__main__":
    print(main())

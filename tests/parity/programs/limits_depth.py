"""Pipelines that nest until Python's recursion limit: README's Limits."""

import sys

from pipedeco import component, pipeline, value


@component
def leaf(n):
    return n


@pipeline
def down(n):
    return down(n - 1) + 1 if n else value(leaf(0))


if __name__ == "__main__":
    sys.setrecursionlimit(400)
    try:
        print(down(180))
    except RecursionError:
        print("too deep")

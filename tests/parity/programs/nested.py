"""Pipelines within pipelines, and deep values, some way below Python's recursion limit."""

import sys

from pipedeco import component, pipeline, value


@component
def leaf(n):
    return n


@component
def join(*parts):
    return "".join(map(str, parts))


@component
def depth_of(tree):
    depth = 0
    while tree:
        (tree,), depth = tree, depth + 1
    return depth


@component
def chain_of(n):
    tree = []
    for _ in range(n):
        tree = [tree]
    return tree


@pipeline
def down(n):
    return join(n, down(n - 1)) if n else leaf("!")


@pipeline
def hanoi(n, a, b, c):
    if n == 0:
        return ""
    return join(hanoi(n - 1, a, c, b), f"{a}{c} ", hanoi(n - 1, b, a, c))


@pipeline
def fails(n):
    if n:
        return fails(n - 1)
    return value(leaf(1)) / 0


@pipeline
def main():
    print(down(5) + "", hanoi(2, "a", "b", "c") + "")
    tree = chain_of(200)
    print(depth_of(tree) + 0, depth_of(chain_of(3)) + 0)
    try:
        value(fails(3))
    except ZeroDivisionError as error:
        print(error)
    return tree


if __name__ == "__main__":
    tree, depth = main(), 0
    while tree:
        (tree,), depth = tree, depth + 1
    sys.exit(depth != 200)

"""What comes before what: cycles broken, parts told apart, and a layer for each step."""

from __future__ import annotations

from typing import NamedTuple


class Line(NamedTuple):
    """An edge to lay out: positions of two boxes, and what may share its way."""

    source: int
    target: int
    kind: str = ""


def forward_edges(count: int, lines: list[Line]) -> list[Line]:
    """The same edges, some of them turned round, so that there is no cycle.

    None is turned where there was no cycle, and no data edge where those alone have none.
    """
    position = _positions(count, lines)
    if any(position[a] > position[b] for a, b, _ in lines):
        position = _positions(count, [line for line in lines if line.kind in {"", "data"}])
    return [
        line
        if position[line.source] <= position[line.target]
        else line._replace(source=line.target, target=line.source)
        for line in lines
    ]


def _positions(count: int, lines: list[Line]) -> list[int]:
    """A place for each vertex, after all that lead to it where that can be: depth first."""
    after: list[list[int]] = [[] for _ in range(count)]
    entered = [0] * count
    for a, b, _ in lines:
        if a != b:
            after[a].append(b)
            entered[b] += 1
    seen = [False] * count
    left: list[int] = []  # vertices in the order in which the search is done with them
    for root in sorted(range(count), key=lambda v: (entered[v] > 0, v)):
        if seen[root]:
            continue
        seen[root] = True
        stack = [(root, iter(after[root]))]
        while stack:
            vertex, rest = stack[-1]
            child = next((c for c in rest if not seen[c]), None)
            if child is None:
                left.append(vertex)
                stack.pop()
            else:
                seen[child] = True
                stack.append((child, iter(after[child])))
    position = [0] * count
    for i, vertex in enumerate(reversed(left)):
        position[vertex] = i
    return position


def weak_components(count: int, lines: list[Line]) -> list[list[int]]:
    """The vertices of each connected part, parts and vertices in their order."""
    parent = list(range(count))

    def root(vertex: int) -> int:
        while parent[vertex] != vertex:
            parent[vertex] = vertex = parent[parent[vertex]]
        return vertex

    for a, b, _ in lines:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    parts: dict[int, list[int]] = {}
    for vertex in range(count):
        parts.setdefault(root(vertex), []).append(vertex)
    return list(parts.values())


def rank_vertices(count: int, lines: list[Line], widest: int) -> list[int]:
    """The layer of each vertex: below all that lead to it, and at most `widest` in one."""
    before: list[list[int]] = [[] for _ in range(count)]
    after: list[list[int]] = [[] for _ in range(count)]
    for a, b, _ in lines:
        after[a].append(b)
        before[b].append(a)
    position = _positions(count, lines)
    ordered = sorted(range(count), key=position.__getitem__)
    rank = [0] * count
    for vertex in ordered:
        rank[vertex] = max((rank[b] + 1 for b in before[vertex]), default=0)
    for vertex in reversed(ordered):  # close to what it is for, rather than to where it came from
        if len(after[vertex]) > len(before[vertex]):
            rank[vertex] = min(rank[a] for a in after[vertex]) - 1
    return _in_rows(rank, widest)


def _in_rows(rank: list[int], widest: int) -> list[int]:
    """Several layers in place of one that is too wide."""
    layers: dict[int, list[int]] = {}
    for vertex, number in enumerate(rank):
        layers.setdefault(number, []).append(vertex)
    rows = [0] * len(rank)
    first = 0
    for number in sorted(layers):
        layer = layers[number]
        count = -(-len(layer) // widest)
        for i, vertex in enumerate(layer):
            rows[vertex] = first + i * count // len(layer)
        first += count
    return rows

"""Steps as the boxes of a picture: each its own, or one for each component."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pipedeco.draw.text import STATES, badness
from pipedeco.text import duration, plain_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipedeco.draw import Edge, Node


class Box(NamedTuple):
    """What one box says."""

    name: str
    lines: tuple[str, ...]  # below the name
    state: str
    note: str  # the tooltip
    steps: int = 1


class Link(NamedTuple):
    """What goes from one box to another, by their positions."""

    source: int
    target: int
    kind: str
    edges: int = 1


def single_boxes(nodes: Sequence[Node], edges: Sequence[Edge]) -> tuple[list[Box], list[Link]]:
    """A box for each step."""
    index = {node.name: i for i, node in enumerate(nodes)}
    links = dict.fromkeys(Link(index[e.source], index[e.target], e.kind) for e in edges)
    return [_box(node) for node in nodes], list(links)


def grouped_boxes(nodes: Sequence[Node], edges: Sequence[Edge]) -> tuple[list[Box], list[Link]]:
    """A box for each component of each stage, in the order of their first steps."""
    groups: dict[tuple[str | None, str], list[Node]] = {}
    for node in nodes:
        groups.setdefault((node.stage, node.component), []).append(node)
    components = [component for _, component in groups]
    boxes = [
        _group(members, stage if components.count(component) > 1 else None)
        for (stage, component), members in groups.items()
    ]
    index = {node.name: i for i, group in enumerate(groups.values()) for node in group}
    counts: dict[tuple[int, int, str], int] = {}
    for edge in dict.fromkeys(edges):
        key = (index[edge.source], index[edge.target], edge.kind)
        counts[key] = counts.get(key, 0) + 1
    return boxes, [Link(*key, count) for key, count in counts.items()]


def _box(node: Node) -> Box:
    time = duration(node.duration) if node.duration is not None else ""
    facts = [fact for fact in (time, plain_text(node.state)) if fact]
    note = [plain_text(node.name)]
    if node.component != node.name:
        note.append(f"component {plain_text(node.component)}")
    if node.stage:
        note.append(f"stage {plain_text(node.stage)}")
    lines = (" · ".join(facts),) if facts else ()
    return Box(plain_text(node.name), lines, node.state, "\n".join([*note, *facts]))


def _group(nodes: list[Node], stage: str | None) -> Box:
    if len(nodes) == 1:
        return _box(nodes[0])
    name = plain_text(nodes[0].component)
    if stage:
        name = f"{plain_text(stage)}: {name}"
    counts: dict[str, int] = {}
    for node in nodes:
        counts[node.state] = counts.get(node.state, 0) + 1
    states = sorted(counts, key=lambda s: (STATES.index(s) if s in STATES else -1, s))
    said = ", ".join(f"{counts[s]:,} {plain_text(s)}" for s in states if s)
    times = [n.duration for n in nodes if n.duration is not None]
    spent = ""
    if times:
        spent = f"{duration(sum(times))}, longest {duration(max(times))}"
    title = f"{name} \u00d7 {len(nodes):,}"
    lines = tuple(line for line in (said, spent) if line)
    worst = max(counts, key=lambda s: (badness(s), s))
    return Box(title, lines, worst, "\n".join([title, *lines]), len(nodes))

"""Steps as the boxes of a picture: each its own, or one for each stage and component."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pipedeco.draw.text import STATES, badness
from pipedeco.text import duration, plain_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipedeco.draw import Edge, Node

MOST_NAMED = 3  # components of a stage


class Box(NamedTuple):
    """What one box says."""

    name: str
    lines: tuple[str, ...]  # below the name
    state: str
    note: str  # the tooltip
    steps: int = 1
    stage: str = ""  # of a single step

    @property
    def told(self) -> tuple[str, ...]:
        """The lines, and before them the stage, for pictures that have no other place for it."""
        return (f"stage {self.stage}", *self.lines) if self.stage else self.lines


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
    """A box for each stage, and for each component of steps without one; the first steps first."""
    groups: dict[tuple[bool, str], list[Node]] = {}
    for node in nodes:
        group = (True, node.stage) if node.stage else (False, node.component)
        groups.setdefault(group, []).append(node)
    boxes = [_group(members) for members in groups.values()]
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
    stage = plain_text(node.stage or "")
    return Box(plain_text(node.name), lines, node.state, "\n".join([*note, *facts]), stage=stage)


def _group(nodes: list[Node]) -> Box:
    if len(nodes) == 1:
        return _box(nodes[0])
    first = nodes[0]
    name = plain_text(first.stage or first.component)
    by = _makers(nodes) if first.stage else ""
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
    lines = tuple(line for line in (by, said, spent) if line)
    worst = max(counts, key=lambda s: (badness(s), s))
    return Box(title, lines, worst, "\n".join([title, *lines]), len(nodes))


def _makers(nodes: list[Node]) -> str:
    """Which components made the steps of a stage."""
    names = list(dict.fromkeys(plain_text(node.component) for node in nodes))
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return f"by {', '.join(names[:MOST_NAMED])}{more}"

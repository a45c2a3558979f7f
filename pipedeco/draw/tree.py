"""Boxes and links as a tree for the terminal: each step below the last that it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipedeco.draw.order import Line, forward_edges
from pipedeco.draw.text import COLOURS, SIGNS
from pipedeco.text import plain_text, shortened

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from pipedeco.draw.grouping import Box, Link

DEEPEST = 12  # levels; what is deeper stands at this one
MOST_BOXES = 60


def terminal_tree(boxes: list[Box], links: list[Link], title: str) -> Tree:
    """The first boxes, and how many steps there are beyond them."""
    from rich.text import Text
    from rich.tree import Tree

    steps = sum(box.steps for box in boxes)
    head = Text(plain_text(title) or "pipeline", style="bold")
    head.append(f"  {steps:,} step{'s' if steps != 1 else ''}" if steps else "  no steps", "dim")
    root = Tree(head, guide_style="dim")
    needs: list[list[int]] = [[] for _ in boxes]
    for link in _forward(len(boxes), links):
        if link.source != link.target and link.source not in needs[link.target]:
            needs[link.target].append(link.source)
    branches: list[tuple[Tree, int]] = []  # and their levels
    for i, box in enumerate(boxes[:MOST_BOXES]):
        known = [n for n in needs[i] if n < len(branches)]
        parent = max(known, key=lambda n: (branches[n][1], n), default=-1)
        place, level = branches[parent] if known else (root, 0)
        while level >= DEEPEST:
            parent = max(n for n in needs[parent] if n < len(branches))
            place, level = branches[parent]
        others = [boxes[n].name for n in needs[i] if n != parent]
        branches.append((place.add(_label(box, others)), level + 1))
    if len(boxes) > MOST_BOXES:
        more = sum(box.steps for box in boxes[MOST_BOXES:])
        root.add(Text(f"... and {more:,} more", style="dim"))
    return root


def _forward(count: int, links: list[Link]) -> list[Link]:
    lines = [Line(link.source, link.target, link.kind) for link in links]
    turned = forward_edges(count, lines)
    return [link for link, line, now in zip(links, lines, turned, strict=True) if line == now]


def _label(box: Box, others: list[str]) -> Text:
    from rich.text import Text

    text = Text(no_wrap=True, overflow="ellipsis")
    colour = COLOURS.get(box.state, "dim")
    if box.state:
        text.append(SIGNS.get(box.state, "○") + " ", colour)
    text.append(shortened(box.name, 40))
    if box.told:
        text.append("  " + " · ".join(box.told), colour if box.state == "failed" else "dim")
    if others:
        named = ", ".join(shortened(name, 24) for name in others[:3])
        more = f" and {len(others) - 3:,} more" if len(others) > 3 else ""
        text.append(f"  (needs {named}{more})", "dim")
    return text

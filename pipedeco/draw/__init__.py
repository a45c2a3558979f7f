"""A graph of steps as a picture: SVG, Mermaid text, a tree for the terminal.

    nodes, edges    what a run or a trace knows, told plainly
      -> boxes      one a step; a stage or a component where there are many  grouping.py, text.py
      -> places     layers, rows, columns, the ways of the edges           layout.py, order.py, packing.py
      -> a picture                                                         svg.py, mermaid.py, tree.py

Everything that is drawn passes text.plain_text and the escaping of its format: names are foreign text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pipedeco.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.tree import Tree

    from pipedeco.draw.grouping import Box, Link

MOST_SINGLE = 60  # steps; of more than these each stage and each component becomes one box
KINDS = ("data", "order", "control")

__all__ = ["Drawing", "Edge", "Node"]


class Node(NamedTuple):
    """A step.  `state` is empty where nothing was performed; `duration` is in seconds."""

    name: str
    component: str
    state: str = ""
    duration: float | None = None
    stage: str | None = None


class Edge(NamedTuple):
    """From one step to another, by names.

    `kind`: "data" (a value goes there), "order" (depends_on) or "control" (the body read the
    source before it called the target).
    """

    source: str
    target: str
    kind: str


class Drawing:
    """Steps and the edges between them, to be shown.

    Each form takes `group`: whether the steps of one stage become one box, and those without a
    stage one for each component.  By default they do where there are more than 60 steps.  Raises
    GraphError for two steps of one name, an edge from or to a step that is not there, and an edge
    of an unknown kind.
    """

    __slots__ = ("edges", "nodes", "title")

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    title: str

    def __init__(self, nodes: Sequence[Node], edges: Sequence[Edge], title: str = "") -> None:
        object.__setattr__(self, "nodes", tuple(nodes))
        object.__setattr__(self, "edges", tuple(edges))
        object.__setattr__(self, "title", title)
        names = {node.name for node in self.nodes}
        if len(names) != len(self.nodes):
            raise GraphError("two steps of a drawing have the same name")
        for edge in self.edges:
            if edge.kind not in KINDS:
                raise GraphError(f"an edge is one of {', '.join(KINDS)}, not {edge.kind!r}")
            for name in (edge.source, edge.target):
                if name not in names:
                    raise GraphError(f"an edge names the step {name!r}, which is not drawn")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Drawing does not change; make a new one")

    def __repr__(self) -> str:
        return f"<drawing of {len(self.nodes)} steps and {len(self.edges)} edges>"

    def svg(self, *, group: bool | None = None) -> str:
        """A whole SVG document that stands alone, or goes into a page as it is."""
        from pipedeco.draw.svg import svg_text

        return svg_text(*self._boxes(group), self.title)

    def mermaid(self, *, group: bool | None = None) -> str:
        """The text of a Mermaid flowchart, for Markdown."""
        from pipedeco.draw.mermaid import mermaid_text

        return mermaid_text(*self._boxes(group), self.title)

    def tree(self, *, group: bool | None = None) -> Tree:
        """A tree for rich to print."""
        from pipedeco.draw.tree import terminal_tree

        return terminal_tree(*self._boxes(group), self.title)

    def lines(self) -> list[str]:
        """The tree as plain lines."""
        from pipedeco.terminal import plain_lines

        return plain_lines(self.tree(), 200)

    def _boxes(self, group: bool | None) -> tuple[list[Box], list[Link]]:
        from pipedeco.draw.grouping import grouped_boxes, single_boxes

        together = len(self.nodes) > MOST_SINGLE if group is None else group
        make = grouped_boxes if together else single_boxes
        return make(self.nodes, self.edges)

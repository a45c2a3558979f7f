"""Boxes and links as the text of a Mermaid flowchart, which Markdown pages draw themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipedeco.draw.text import STATES
from pipedeco.text import plain_text, shortened

if TYPE_CHECKING:
    from pipedeco.draw.grouping import Box, Link

ARROWS = {"data": "-->", "order": "-.->", "control": "-.->"}
COLOURS = {  # fill, stroke; black text is readable on each of them
    "cached": ("#ddebf7", "#2f78b7"),
    "completed": ("#dcf1e8", "#1b8a66"),
    "failed": ("#fbe3d8", "#c8500a"),
    "running": ("#fdf0c8", "#a87900"),
    "interrupted": ("#f3e0d6", "#8a4b2a"),
    "cancelled": ("#f3e1ec", "#a3537e"),
    "queued": ("#e9e6f6", "#6f63b5"),
}
SIMPLE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 -_.,:\u00d7·…")


def mermaid_text(boxes: list[Box], links: list[Link], title: str) -> str:
    """`flowchart TD` with a line a box and a line a link, and a frame round each stage."""
    out = []
    if title:
        out += ["---", f'title: "{_title(title)}"', "---"]
    out.append("flowchart TD")
    if not boxes:
        out.append('    none["no steps"]')
    stages: dict[str, list[str]] = {}
    for i, box in enumerate(boxes):
        stages.setdefault(box.stage, []).append(_node(i, box))
    out += stages.pop("", [])
    for i, (stage, nodes) in enumerate(stages.items()):
        name = _label(shortened(stage, 60))
        out += [f'    subgraph s{i}["{name}"]', *(f"    {node}" for node in nodes), "    end"]
    for link in links:
        label = f'|"\u00d7{link.edges}"|' if link.edges > 1 else ""
        out.append(f"    n{link.source} {ARROWS[link.kind]}{label} n{link.target}")
    dotted = [str(i) for i, link in enumerate(links) if link.kind == "control"]
    if dotted:
        out.append(f"    linkStyle {','.join(dotted)} stroke-dasharray:1 4")
    used = {box.state for box in boxes}
    for state, (fill, stroke) in COLOURS.items():
        if state in used:
            out.append(f"    classDef {state} fill:{fill},stroke:{stroke},color:#111")
    return "\n".join(out) + "\n"


def _node(number: int, box: Box) -> str:
    text = "<br/>".join(map(_label, (shortened(box.name, 60), *box.lines)))
    known = box.state and box.state in STATES
    return f'    n{number}["{text}"]' + (f":::{box.state}" if known else "")


def _label(text: str) -> str:
    """With every character that could mean something to Mermaid as its number.

    A backslash before n would still be a new line, and two dollars a formula: a space of no
    width follows them.
    """
    return "".join(
        c if c in SIMPLE or ord(c) > 127 else f"#{ord(c)};" + "#8203;" * (c in "\\$") for c in text
    )


def _title(text: str) -> str:
    """A string of YAML, in its double quotes."""
    return plain_text(text).replace("\\", "\\\\").replace('"', '\\"')

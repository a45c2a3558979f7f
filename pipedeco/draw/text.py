"""The states of steps as people read them, and text for XML."""

from __future__ import annotations

from pipedeco.text import plain_text

# The best first.  What is not listed counts as pending.
STATES = (
    *("", "cached", "completed", "pending", "queued", "running"),
    *("skipped", "cancelled", "interrupted", "failed"),
)
SIGNS = {  # for a terminal; the picture has its own
    "cached": "↺",
    "completed": "✓",
    "pending": "○",
    "queued": "…",
    "running": "▶",
    "skipped": "»",
    "cancelled": "⊘",
    "interrupted": "↯",
    "failed": "✗",
}
COLOURS = {  # on a terminal
    "cached": "blue",
    "completed": "green",
    "queued": "cyan",
    "running": "cyan",
    "skipped": "yellow",
    "cancelled": "magenta",
    "interrupted": "red",
    "failed": "red",
}


def badness(state: str) -> int:
    """How much a state asks for attention."""
    return STATES.index(state if state in STATES else "pending")


def escape(text: str) -> str:
    """Plain text for XML, in elements and in attributes."""
    text = plain_text(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace('"', "&quot;").replace("'", "&#39;")

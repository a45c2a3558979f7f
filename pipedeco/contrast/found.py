"""Differences as they are found."""

from __future__ import annotations

import time
from typing import Any

from pipedeco.text import preview, shortened

LINES = 10  # differences that are told in full
DOUBTS = 3  # parts that could not be compared
WIDTH = 60  # characters of a value
ROOM = 80  # of a path


class Found:
    """Collects lines; counts what is beyond the first few.

    Parameters
    ----------
    seconds: after which nothing more is looked at.

    Attributes: `count` (of differences), `doubts` (what was not compared, and why).
    """

    def __init__(self, seconds: float) -> None:
        self.count = 0
        self.doubts: list[str] = []
        self._lines: list[str] = []
        self._deadline = time.monotonic() + seconds

    def tell(self, path: str, text: str, more: list[str] | None = None) -> None:
        """A difference; `more` are lines that belong to it."""
        self.count += 1
        if len(self._lines) < LINES:
            self._lines.append(_at(path, text))
            self._lines += [f"    {line}" for line in more or ()]

    def doubt(self, path: str, text: str) -> None:
        """A part of which nothing is known."""
        self.doubts.append(_at(path, text))

    def is_late(self) -> bool:
        """Whether to stop looking."""
        return time.monotonic() > self._deadline

    def told(self) -> list[str]:
        """All of it, for a person."""
        lines = list(self._lines)
        beyond = self.count - sum(not line.startswith("    ") for line in lines)
        if beyond:
            lines.append(f"... and {beyond:,} more differences")
        lines += self.doubts[:DOUBTS]
        if len(self.doubts) > DOUBTS:
            lines.append(f"... and {len(self.doubts) - DOUBTS:,} more parts that were not compared")
        return lines


def _at(path: str, text: str) -> str:
    return f"{shortened(path, ROOM)}: {text}" if path else text


def counted(count: int, what: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def shown(value: Any) -> str:
    """A value within a line."""
    if type(value).__module__ == "numpy" and hasattr(value, "item") and not value.shape:
        value = str(value) if value.dtype.kind in "mM" else value.item()
    text = preview(value)
    if text.isidentifier() or "." in text:  # the name of its type alone, perhaps
        try:
            told = repr(value)
        except Exception:  # noqa: BLE001 - the user's class
            told = text
        text = told if "\n" not in told and " at 0x" not in told else text
    return shortened(text, WIDTH)


def beside(left: Any, right: Any) -> str:
    """Two values within a line; their types where they would look alike."""
    texts = shown(left), shown(right)
    if texts[0] != texts[1]:
        return f"{texts[0]} / {texts[1]}"
    return f"{texts[0]} ({type_name(left)}) / {texts[1]} ({type_name(right)})"


def type_name(value: Any) -> str:
    """Where its class is defined; classes of one name are one here, as a script may be loaded
    twice."""
    kind = type(value)
    module = str(kind.__module__)
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"

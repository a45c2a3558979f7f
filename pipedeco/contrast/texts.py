"""How two texts differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipedeco.text import shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipedeco.contrast.found import Found

WINDOW = 20  # characters before the first difference
SHORT = 60  # characters of a text that is shown whole
LINES = 12  # of a text's difference
WIDTH = 100  # characters of such a line
MANY = 400  # lines of which a difference is made; it takes the square of them
NEWLINE = "\n"
BLOCK = 1 << 16  # bytes that are compared at once


def compare_texts(found: Found, path: str, left: str, right: str) -> None:
    """By lines where there are any."""
    at = first_difference(left, right)
    if "\n" in left or "\n" in right:
        _compare_lines(found, path, left, right, at)
    elif len(left) <= SHORT and len(right) <= SHORT:
        found.tell(path, f"{left!r} / {right!r}")
    else:
        start = max(0, at - WINDOW)
        ends = (left[start : start + SHORT], right[start : start + SHORT])
        found.tell(
            path,
            f"{len(left):,} / {len(right):,} characters, from {start:,} on: "
            f"{ends[0]!r} / {ends[1]!r}",
        )


def compare_bytes(found: Found, path: str, left: bytes, right: bytes) -> None:
    at = first_difference(left, right)
    sizes = f"{len(left):,} / {len(right):,} bytes"
    found.tell(path, f"{sizes}, from {at:,} on: {left[at : at + 16]!r} / {right[at : at + 16]!r}")


def first_difference(left: Sequence[object], right: Sequence[object]) -> int:
    """The first place at which two texts differ."""
    start = 0
    while left[start : start + BLOCK] == right[start : start + BLOCK] and start < len(left):
        start += BLOCK
    pairs = zip(left[start : start + BLOCK], right[start : start + BLOCK], strict=False)
    for offset, (one, other) in enumerate(pairs):
        if one != other:
            return start + offset
    return min(len(left), len(right))


def _compare_lines(found: Found, path: str, left: str, right: str, at: int) -> None:
    """Without making lists of all lines; a text may have many millions."""
    start = left.rfind("\n", 0, at) + 1
    end = _common_end(left, right, start)
    old, new = (_lines(text, start, len(text) - end) for text in (left, right))
    lines = [shortened(line, WIDTH) for line in _unified(old, new)]
    more = [f"... {len(lines) - LINES:,} more lines"] if len(lines) > LINES else []
    found.tell(
        path,
        f"{left.count(NEWLINE) + 1:,} / {right.count(NEWLINE) + 1:,} lines, which differ from line "
        f"{left.count(NEWLINE, 0, start) + 1:,} on",
        lines[:LINES] + more,
    )


def _common_end(left: str, right: str, start: int) -> int:
    """How many characters at the end are the same, none of them before `start`."""
    size, room = 0, min(len(left), len(right)) - start
    while size < room:
        block = min(BLOCK, room - size)
        one = left[len(left) - size - block : len(left) - size]
        other = right[len(right) - size - block : len(right) - size]
        if one != other:
            return size + first_difference(one[::-1], other[::-1])
        size += block
    return size


def _lines(text: str, start: int, end: int) -> list[str]:
    """The whole lines of a part, as far as a difference of them is made."""
    if end <= start:
        return []
    stop = text.find(NEWLINE, end - 1)
    part = text[start : min(start + MANY * WIDTH, len(text) if stop < 0 else stop)]
    return part.split(NEWLINE)


def _unified(old: list[str], new: list[str]) -> list[str]:
    if len(old) > MANY or len(new) > MANY:
        return [*(f"-{line}" for line in old[:LINES]), *(f"+{line}" for line in new[:LINES])]
    from difflib import unified_diff

    return [line for line in unified_diff(old, new, lineterm="", n=0) if line[:2] not in DECOR]


DECOR = ("--", "++", "@@")  # names of files, and places within the cut

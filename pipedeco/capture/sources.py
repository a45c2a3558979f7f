"""Files of a project that git does not know: their digests, and the text of Python among them."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

MANY = 1000  # files
TEXT = 100 << 10  # bytes of a file whose text is kept
TEXTS = 1 << 20  # bytes of all texts
LARGE = 8 << 20  # bytes of a file that is not read
ALL = 64 << 20  # bytes that are read
ENDINGS = (
    ".py", ".pyi", ".pyx", ".pxd", ".ipynb", ".toml", ".cfg", ".ini", ".yaml", ".yml", ".json",
    ".txt", ".sql", ".sh", ".r", ".jl", ".c", ".h", ".cc", ".cpp", ".hpp", ".cu", ".rs", ".j2",
    ".lock",
)  # fmt: skip


def add_sources(top: str, paths: Sequence[str], found: dict[str, Any], deadline: float) -> None:
    """Fill `untracked` and `sources` of git's record; what is left out becomes a note.

    Parameters
    ----------
    top: the folder that the paths are relative to.
    paths: as git lists them; a repository within the repository ends with a slash.
    found: git's record.
    deadline: on the monotonic clock, after which nothing more is read.
    """
    sources = sorted(path for path in paths if path.lower().endswith(ENDINGS))
    left: dict[str, int] = {
        "files that are no sources": len(paths) - len(sources),
        "sources beyond the first thousand": max(0, len(sources) - MANY),
    }
    room, unread = TEXTS, ALL
    for path in sources[:MANY]:
        over = unread <= 0 or time.monotonic() > deadline
        content = None if over else _read(os.path.join(top, path))
        if content is None:
            _count(left, "sources that are many, large, special or not readable")
            continue
        unread -= len(content)
        found["untracked"][path] = _digest(content)
        if not path.endswith(".py"):
            continue
        if len(content) > min(TEXT, room):
            _count(left, "Python files too large for their text to be kept")
        else:
            room -= len(content)
            found["sources"][path] = content.decode("utf-8", "surrogateescape")
    found["notes"] += [f"untracked and left out: {n} {what}" for what, n in left.items() if n]


def _count(left: dict[str, int], what: str) -> None:
    left[what] = left.get(what, 0) + 1


def _read(path: str) -> bytes | None:
    """The content of an ordinary file; a link is not followed, a pipe not waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    with open(descriptor, "rb", buffering=0) as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > LARGE:
            return None
        try:
            return file.read(LARGE)
        except OSError:
            return None


def _digest(content: bytes) -> str:
    from blake3 import blake3

    return str(blake3(content).hexdigest())

"""The lowest lines of a terminal, which are drawn again and again below what is printed.

The cursor stays where the printed text has ended; the lines stand below it.  So whatever prints
(the streams of this process, its children, the echo of what is typed) goes on as if they were not
there.  Before a stream of ours writes, the lines are erased, and soon after drawn anew.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

    from rich.console import Console, RenderableType

OFF_TERMINAL = 160  # columns of what goes into a file
AGAIN = 0.1  # seconds between two drawings that only put the lines back
NARROWEST, LOWEST = 20, 4  # columns and rows of a terminal that is drawn into
ERASE = "\x1b[J"  # from the cursor to the screen's end
READ = {"x86_64": "0", "aarch64": "63"}  # number of the system call


def is_terminal(stream: Any) -> bool:
    """Whether a stream leads to a terminal that can move its cursor."""
    try:
        return stream.isatty() and os.environ.get("TERM") not in (None, "dumb", "unknown")
    except (AttributeError, ValueError):  # None, or closed
        return False


def room_of(stream: Any) -> tuple[int, int] | None:
    """Columns and rows of a terminal; None where they are not known, or too few to draw into.

    A terminal that nobody has told its size, as in a container, says that it has none.
    """
    try:
        columns, rows = os.get_terminal_size(stream.fileno())
    except (
        OSError,
        ValueError,
        AttributeError,
    ):  # closed, None, or it leads to no terminal any more
        return None
    columns = columns or _number("COLUMNS")
    rows = rows or _number("LINES")
    return (columns, rows) if columns >= NARROWEST and rows >= LOWEST else None


def can_be_drawn_into(stream: Any) -> bool:
    """Whether lines of a terminal can be drawn again."""
    return is_terminal(stream) and room_of(stream) is not None


def _number(variable: str) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else 0


def make_console(file: Any, width: int | None = None) -> Console:
    """A rich console on which nothing is guessed about what a text means.

    In a notebook rich would display what is printed, even into a file.
    """
    from rich.console import Console

    return Console(
        file=file, width=width, highlight=False, markup=False, emoji=False, force_jupyter=False
    )


class Indulgent:
    """A stream for what nobody needs to hear: it may be None, full, or an object that raises anything."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(Exception):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(Exception):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def plain_lines(renderable: RenderableType, width: int) -> list[str]:
    """Something of rich's as lines without colours and without spaces at their ends."""
    text = io.StringIO()
    make_console(text, width).print(renderable)
    return [line.rstrip() for line in text.getvalue().splitlines()]


class Region:
    """The lines below what is printed to `sys.stderr`, a terminal."""

    def __init__(self) -> None:
        self._stream = sys.stderr
        self._write = self._stream.write
        self._lock = threading.RLock()
        self._lines: list[str] = []
        self._drawn = False
        self._when = 0.0
        self._patched: list[Any] = []

    def open(self) -> None:
        """From now on streams make room before they write."""
        for stream in {id(s): s for s in (sys.stdout, sys.stderr)}.values():
            if is_terminal(stream) and "write" not in getattr(stream, "__dict__", {"write": 0}):
                stream.__dict__["write"] = self._making_room(stream.write)
                self._patched.append(stream)

    def close(self) -> None:
        """Erase the lines; streams are as they were."""
        self.hide()
        self.abandon()

    def abandon(self) -> None:
        """Leave the streams alone, also in a forked child whose lock another thread had."""
        while self._patched:
            self._patched.pop().__dict__.pop("write", None)

    def draw(self, renderable: RenderableType) -> None:
        room = room_of(self._stream)
        if room is None:
            self.hide()
            return
        columns, rows = room
        text = io.StringIO()
        console = make_console(text, columns)
        console._force_terminal = True
        console.print(renderable)
        with self._lock:
            self._lines = text.getvalue().splitlines()[: rows - 2]
            if self._lines:
                self._put()

    def hide(self) -> None:
        with self._lock:
            self._lines = []
            self._erase()

    def _put(self) -> None:
        """Draw the lines below the cursor, which stays where it is."""
        count = len(self._lines)
        # ESC D goes down in the same column, and scrolls; ESC 7 and 8 keep the place.
        room = "\x1bD" * count + f"\x1b[{count}A"
        body = "".join(f"\r\n{line}" for line in self._lines)
        self._write(f"{ERASE}{room}\x1b7{body}\x1b8")
        self._stream.flush()
        self._drawn = True
        self._when = time.monotonic()

    def _erase(self) -> None:
        if self._drawn:
            self._write(ERASE)
            self._stream.flush()
            self._drawn = False

    def _making_room(self, write: Any) -> Any:
        def making_room(text: str) -> int:
            with self._lock:
                self._erase()
                written: int = write(text)
                quiet = time.monotonic() - self._when > AGAIN
                if self._lines and quiet and not is_typed_to([sys._getframe(1)]):
                    sys.stdout.flush()
                    self._put()
                return written

        return making_room


def is_typed_to(frames: Iterable[FrameType]) -> bool:
    """Whether one of these stands in pdb, or the main thread reads from the terminal."""
    if _main_reads():
        return True
    if "bdb" not in sys.modules:
        return False
    for frame in frames:
        outer: FrameType | None = frame
        while outer is not None:
            if outer.f_globals.get("__name__") in ("bdb", "pdb"):
                return True
            outer = outer.f_back
    return False


def _main_reads() -> bool:
    """Whether the main thread waits for stdin, as in `input()`; known on Linux alone."""
    if sys.platform != "linux":
        return False
    read = READ.get(os.uname().machine)
    try:
        with open(f"/proc/self/task/{os.getpid()}/syscall", encoding="ascii") as file:
            call = file.read().split()
    except OSError:
        return False
    return read is not None and call[:2] == [read, "0x0"]

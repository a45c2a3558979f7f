"""The one line of a notebook's cell that is drawn again and again, on its stderr."""

from __future__ import annotations

import sys
import threading
from typing import Any

KERNEL = "ipykernel.iostream"  # of what stands in the place of sys.stderr there
WIDTH = 24  # characters of a bar


def is_kernel(stream: Any) -> bool:
    """Whether a stream ends in a notebook's cell, where a carriage return goes to the line's begin."""
    return type(stream).__module__ == KERNEL


def bar(share: float) -> str:
    """How much is done of what there is to do, 0 to 1."""
    done = round(WIDTH * min(max(share, 0.0), 1.0))
    return "━" * done + "─" * (WIDTH - done)


class CellLine:
    """The last line of `sys.stderr`; what else is written there takes its place."""

    def __init__(self) -> None:
        self._stream = sys.stderr
        self._write = self._stream.write
        self._lock = threading.RLock()
        self._length = 0
        self._amid = False  # whether somebody else's line has not ended yet
        self._stream.__dict__["write"] = self._making_room

    def draw(self, text: str) -> None:
        with self._lock:
            if not self._amid:
                self._write(f"\r{text.ljust(self._length)}")
                self._length = len(text)
                self._stream.flush()

    def close(self) -> None:
        """Erase the line; the stream is as it was."""
        self._erase()
        self.abandon()

    def abandon(self) -> None:
        self._stream.__dict__.pop("write", None)

    def _erase(self) -> None:
        with self._lock:
            if self._length:
                self._write(f"\r{' ' * self._length}\r")
                self._length = 0

    def _making_room(self, text: str) -> Any:
        with self._lock:
            self._erase()
            self._amid = not text.endswith("\n") if text else self._amid
            return self._write(text)

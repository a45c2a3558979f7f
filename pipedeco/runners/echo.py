"""Shows what steps write while they write it: stdout to stdout, stderr to stderr.

What they log goes to the program's own handlers at the same time.
"""

from __future__ import annotations

import codecs
import os
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from pipedeco.config import find_progress
from pipedeco.runners.delivery import Delivery, here
from pipedeco.text import plain_text, write_stderr

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL = 0.05  # seconds between two looks
CHUNK = 1 << 16


class _Tail:
    """One growing log file."""

    def __init__(self, path: str, stream: str, current: Callable[[], str]) -> None:
        self.path = path
        self.stream = stream  # "stdout" or "stderr"
        self.position = 0
        self.parts: deque[tuple[int, str]] = deque()  # (end, step) of the parts that ended
        self.current = current  # names the step under way
        self.line_begins = True
        self.step = ""  # whose line was the last
        # A look may end within a character.
        self.decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def read(self) -> list[tuple[str, bytes]]:
        """(step, bytes) that came since the last look."""
        try:
            size = os.stat(self.path).st_size
        except FileNotFoundError:
            return []
        found = []
        while self.position < size:
            end, name = self.parts[0] if self.parts else (size, self.current())
            if end <= self.position:
                self.parts.popleft()
                continue
            found.append((name, self._bytes(min(end, size, self.position + CHUNK))))
        return found

    def _bytes(self, end: int) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self.position)
            data = file.read(end - self.position)
        self.position += len(data) or end - self.position
        return data


class Echo:
    """Copies the logs of one run to this process's own streams, in a thread.

    Parameters
    ----------
    folder: of the run's logs.
    run: its id.
    """

    def __init__(self, folder: str, run: str) -> None:
        self.folder = folder
        self._run = run
        self._dead: set[str] = set()  # streams that could not be written to
        self._tails: dict[str, tuple[_Tail, _Tail]] = {}
        self._lock = threading.RLock()  # a stream may read a step's value, which leads here
        self._records = Delivery(folder, here())
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="pipedeco-echo", daemon=True)
        self._thread.start()

    def add(self, worker: str, current: Callable[[], str]) -> None:
        """Watch the logs of a worker that enters the run; `current` names its step."""
        if worker not in self._tails:
            path = os.path.join(self.folder, worker)
            out = _Tail(f"{path}.out", "stdout", current)
            self._tails[worker] = out, _Tail(f"{path}.err", "stderr", current)
            self._records.add(worker)

    def ended(self, worker: str, step: str, ends: tuple[int, int]) -> None:
        """A step ended; its output goes to these places of both files."""
        for tail, end in zip(self._tails[worker], ends, strict=True):
            tail.parts.append((end, step))

    def tell(self, text: str) -> None:
        """Show a line of ours on stderr, where runs are shown at all."""
        import logging

        logging.getLogger("pipedeco").info(text)
        if find_progress() == "off":
            return
        with self._lock:
            self._write(_Tail("", "stderr", str), "pipedeco", f"{text}\n".encode())

    def close(self) -> None:
        """Show the rest."""
        self._over.set()
        self._thread.join(5.0)
        self.show()
        self._records.deliver()
        with self._lock:
            for tail in (tail for pair in self._tails.values() for tail in pair):
                self._write(tail, tail.step, b"", final=True)

    def catch_up(self, worker: str, ends: tuple[int, int, int]) -> None:
        """Show and deliver what comes before these places of the three files of a worker."""
        tails = self._tails.get(worker, ())
        if any(tail.position < end for tail, end in zip(tails, ends, strict=False)):
            self.show()
        if self._records.is_behind(worker, ends[2]):
            self._records.deliver()

    def _watch(self) -> None:
        while not self._over.wait(INTERVAL):
            self.show()
            self._records.deliver()

    def show(self) -> None:
        """Copy what came since the last time."""
        with self._lock:
            for pair in list(self._tails.values()):
                for tail in pair:
                    for step, data in tail.read():
                        self._write(tail, step, data)

    def _write(self, tail: _Tail, step: str, data: bytes, *, final: bool = False) -> None:
        stream: Any = getattr(sys, tail.stream)
        text = tail.decoder.decode(data, final)
        if not text or stream is None:  # which print() leaves alone, too
            return
        try:
            if not final and _is_terminal(stream):
                text = _labelled(tail, step, text)
            _put(stream, text)
        except Exception as error:  # noqa: BLE001 - full, closed, or an object of the user's
            self._tell_loss(tail.stream, error)

    def _tell_loss(self, stream: str, error: Exception) -> None:
        """The steps go on, as what they write is recorded."""
        if stream not in self._dead:
            self._dead.add(stream)
            write_stderr(
                f"pipedeco: what the steps write cannot be shown on {stream}: {error}; it is "
                f"recorded: pipedeco logs {self._run}\n"
            )


def _put(stream: Any, text: str) -> None:
    try:
        stream.write(text)
    except UnicodeEncodeError:  # a terminal that knows fewer characters
        stream.write(text.encode(stream.encoding, "backslashreplace").decode(stream.encoding))
    if hasattr(stream, "flush"):  # print() needs none
        stream.flush()


def _labelled(tail: _Tail, step: str, text: str) -> str:
    """Each line with its step in front, for people; another step begins a line of its own."""
    labelled = []
    if not tail.line_begins and tail.step != step:
        labelled.append("\n")
        tail.line_begins = True
    tail.step = step
    for line in text.splitlines(keepends=True):
        label = f"[{plain_text(step)}] " if step and tail.line_begins else ""
        labelled.append(label + line)
        tail.line_begins = line.endswith("\n")
    return "".join(labelled)


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # None, or closed
        return False

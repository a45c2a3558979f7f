"""Pickles of what a program has set up: its streams stand for themselves in workers.

sys.stdout and sys.stderr are the step's there; what is written to another stream comes back to the
program, which writes it.
"""

from __future__ import annotations

import base64
import io
import sys
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

from pipedeco.errors import PipedecoError
from pipedeco.events import LOG
from pipedeco.picklers import cloud_pickler
from pipedeco.tracing import reporting

if TYPE_CHECKING:
    from pipedeco.reporter import Reporter


def carried(value: object) -> bytes | None:
    """A pickle that any process can load; None where that cannot be."""
    buffer = io.BytesIO()
    try:
        _pickler()(buffer).dump(value)
    except Exception:  # noqa: BLE001 - the user's classes
        return None
    return buffer.getvalue()


@cache
def _pickler() -> Any:
    class Carrying(cloud_pickler()):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, io.TextIOBase):
                return _reduced(obj)
            if isinstance(obj, type(threading.Lock())):
                return threading.Lock, ()
            return super().reducer_override(obj)

    return Carrying


def _reduced(stream: io.TextIOBase) -> tuple[Any, ...]:
    for name in ("stdout", "stderr"):
        if stream is getattr(sys, name):
            return getattr, (sys, name)
    return ForwardedStream, (id(stream),)


class ForwardedStream(io.TextIOBase):
    """Stands for a stream of the program's."""

    def __init__(self, key: int) -> None:
        self.key = key

    def write(self, text: str) -> int:
        report("stream", [self.key], text, {"written": text})
        return len(text)

    def writable(self) -> bool:
        return True


def report(kind: str, to: list[Any], text: str, payload: dict[str, Any]) -> None:
    """Report what goes to something of the program's, and stands in the step's log."""
    reporter: Reporter | None = reporting.get() or noted_reporter()
    if reporter is None:
        return
    try:
        reporter.emit(LOG, kind, {"kind": kind, "to": to, "text": text, **payload})
    except PipedecoError as error:  # a full disk, or a thread whose step is over
        sys.stderr.write(f"pipedeco: {error}\n")


def noted_reporter() -> Any:
    """What reports for the step that has started this thread."""
    noted = threading.current_thread().__dict__.get("_pipedeco_reporter")
    return None if noted is None else noted[0]


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()

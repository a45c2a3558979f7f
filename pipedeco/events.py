"""What steps and bodies report, as lines of a file that is only ever appended to.

A worker has one such file for each run, beside its logs, and each of its steps a part of it:

    ["kin", "0000"]                                      changes when another process writes
    ["begin", 17]                                        a step's first line, with its number
    ["metric", 0, "loss", 1764111111.12, 5, 0.25]        kind, scope, name, time, step, payload
    ["figure", 1, "roc", 1764111112.34, null, {"mime": "image/png", "blob": "<digest>"}]
    ["log", 0, "app", 1764111112.51, null, {...}]        a log record, see ambient/wire.py
    ["end", 17, 163, {...}]                              its last: bytes before it, and a Summary

The scope says whether it is the step's own or the run's.  Every line is written by one call of
the system at once, so who is killed loses nothing that it reported.  A line is JSON, in which
NaN and Infinity stand as Python's json has them.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

METRIC = "metric"
PARAM = "param"
TEXT = "text"
TABLE = "table"
FIGURE = "figure"
IMAGE = "image"
ARTIFACT = "artifact"
MODEL = "model"
PROGRESS = "progress"
TAG = "tag"
LOG = "log"

OF_STEP = 0
OF_RUN = 1

BEGIN = b'["begin", '
END = b'["end", '
LOGGED = b'["log", '
HEAD = b'["kin", "0000"]\n'
KIN = slice(9, 13)  # the bytes of the head that change
CHUNK = 1 << 20
TAIL = 1 << 12  # bytes that are looked at first for a last line


class Event(NamedTuple):
    """One thing that was reported."""

    kind: str
    scope: int  # OF_STEP or OF_RUN
    name: str
    time: float  # seconds since the epoch
    step: int | None  # the caller's own count, of epochs say
    payload: Any  # a metric's number; else what stands for the thing


class Part(NamedTuple):
    """Where a step's events stand: from which byte to which; -1 where it has no end yet.

    Lines of another step may stand there, too: where a worker died, and where it goes on.
    """

    path: str
    start: int
    end: int
    number: int  # that the step begins with; 0 of a body, whose file is its own


class Summary(NamedTuple):
    """What is searched by, and which blobs are named, in a part of events."""

    metrics: list[tuple[int, str, float, float]]  # scope, name, last value, its time
    params: list[tuple[int, str, dict[str, Any], float]]  # scope, name, payload, time
    tags: list[tuple[int, str]]  # scope, tag
    blobs: list[str]


class Tally:
    """Makes a Summary of events, one after another."""

    def __init__(self) -> None:
        self.metrics: dict[tuple[int, str], tuple[float, float]] = {}
        self._params: dict[tuple[int, str], tuple[dict[str, Any], float]] = {}
        self._tags: dict[tuple[int, str], None] = {}
        self._blobs: dict[str, None] = {}

    def add(self, event: Event) -> None:
        if event.kind == METRIC:
            self.metrics[event.scope, event.name] = event.payload, event.time
        elif event.kind == PARAM:
            self._params[event.scope, event.name] = event.payload, event.time
        elif event.kind == TAG:
            self._tags[event.scope, event.name] = None
        if isinstance(event.payload, dict) and "blob" in event.payload:
            self._blobs[event.payload["blob"]] = None

    def summary(self) -> Summary:
        return Summary(
            [(*key, *last) for key, last in self.metrics.items()],
            [(*key, *last) for key, last in self._params.items()],
            list(self._tags),
            list(self._blobs),
        )


def encoded(event: Event) -> bytes:
    """The line of an event."""
    return json.dumps(event).encode("utf-8", "backslashreplace") + b"\n"


def begin(number: int) -> bytes:
    """The line before a step's first; `number` tells it from others of the same file."""
    return b"%b%d]\n" % (BEGIN, number)


def end(number: int, before: int, summary: Summary) -> bytes:
    """The line after a step's last; `before` is how many bytes its process wrote before it."""
    return b"%b%d, %d, %b]\n" % (END, number, before, json.dumps(summary).encode())


def metric_head(scope: int, name: str) -> str:
    """How the line of each point of one metric begins; the time, the step and the number follow."""
    return f'["{METRIC}", {scope}, {json.dumps(name)}, '


def read(part: Part, *, metrics: bool = True) -> Iterator[Event]:
    """The events of a step in the order in which they were reported, but for log records.

    Parameters
    ----------
    metrics: False leaves these out, which may be many, without looking at them.
    """
    without = (END, LOGGED) if metrics else (END, LOGGED, b'["metric"')
    for line in _own_lines(part):
        if not line.startswith(without):
            event = decoded(line)
            if event is not None:
                yield event


def log_texts(part: Part) -> Iterator[str]:
    """The texts of a step's log records that stand neither in its stdout nor in its stderr."""
    for line in _own_lines(part):
        event = decoded(line) if line.startswith(LOGGED) else None
        if event is not None and isinstance(event.payload, dict):
            yield event.payload.get("text", "")


def decoded(line: bytes) -> Event | None:
    """The event of a line; None of one that a full disk or a crash of the machine has torn."""
    try:
        return Event(*json.loads(line))
    except (ValueError, TypeError):
        return None


def summarise(part: Part) -> Summary:
    """The Summary that stands at a part's end where it is of all of it, else one that is made."""
    line = _last_line(part) if part.end > part.start else b""
    if line.startswith(END):
        try:
            _, number, before, found = json.loads(line)
            if (number, before + len(line) + 1) == (part.number, part.end - part.start):
                return Summary(*found)
        except (ValueError, TypeError):
            pass
    tally = Tally()
    for event in read(part):
        tally.add(event)
    return tally.summary()


def length(path: str) -> int:
    """The length of a file of events; 0 where nothing was reported."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def last_progress(part: Part) -> float | None:
    """The last progress that was reported; quick where there are many events."""
    found = None
    for event in read(part, metrics=False):
        if event.kind == PROGRESS:
            found = float(event.payload)
    return found


def blobs_of(folder: str) -> Iterator[str]:
    """The digests of the blobs that the events of a run's folder of logs name."""
    if not os.path.isdir(folder):
        return
    for name in sorted(os.listdir(folder)):
        if name.endswith(".events"):
            for line in _lines(Part(os.path.join(folder, name), 0, -1, 0)):
                if b'"blob": "' in line:
                    digest = line.partition(b'"blob": "')[2][:64]
                    yield digest.decode("ascii", "replace")


def _own_lines(part: Part) -> Iterator[bytes]:
    """The lines of a part that are of its step, or of processes that this has started."""
    own, mine = begin(part.number)[:-1], True  # until another begins
    for line in _lines(part):
        if line.startswith(BEGIN):
            mine = line == own
        elif mine:
            yield line


def _lines(part: Part) -> Iterator[bytes]:
    """The whole lines of a part."""
    try:
        file = open(part.path, "rb")  # noqa: SIM115 - closed below; the error is about opening alone
    except FileNotFoundError:
        return
    with file:
        file.seek(part.start)
        left = part.end - part.start if part.end >= 0 else -1
        rest = b""
        while left:
            data = file.read(CHUNK if left < 0 else min(CHUNK, left))
            if not data:
                return
            left -= len(data) if left > 0 else 0
            *lines, rest = (rest + data).split(b"\n")
            yield from lines


def _last_line(part: Part) -> bytes:
    """The last line of a part that has an end; empty where the file has not that much."""
    try:
        file = open(part.path, "rb")  # noqa: SIM115 - closed below; the error is about opening alone
    except OSError:
        return b""
    with file:
        size = TAIL
        while True:
            start = max(part.start, part.end - size)
            file.seek(start)
            data = file.read(part.end - start)
            _, newline, last = data[:-1].rpartition(b"\n")
            if newline or start == part.start:
                return last if data.endswith(b"\n") else b""
            size *= 4

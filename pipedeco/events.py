"""What steps and bodies report, as lines of a file that is only ever appended to.

A worker has one such file for each run, beside its logs, and each of its steps a part of it:

    ["begin", 17]                                        a step's first line
    ["metric", 0, "loss", 1764111111.12, 5, 0.25]        kind, scope, name, time, step, payload
    ["figure", 1, "roc", 1764111112.34, null, {"mime": "image/png", "blob": "<digest>"}]

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

OF_STEP = 0
OF_RUN = 1

BEGIN = b'["begin", '
CHUNK = 1 << 20


class Event(NamedTuple):
    """One thing that was reported."""

    kind: str
    scope: int  # OF_STEP or OF_RUN
    name: str
    time: float  # seconds since the epoch
    step: int | None  # the caller's own count, of epochs say
    payload: Any  # a metric's number; else what stands for the thing


class Part(NamedTuple):
    """Where a step's events stand: from which byte to which; -1 where it has no end yet."""

    path: str
    start: int
    end: int


def encoded(event: Event) -> bytes:
    """The line of an event."""
    return json.dumps(event).encode("utf-8", "backslashreplace") + b"\n"


def begin(number: int) -> bytes:
    """The line before a step's first; `number` tells it from others of the same file."""
    return b"%b%d]\n" % (BEGIN, number)


def metric_head(scope: int, name: str) -> str:
    """How the line of each point of one metric begins; the time, the step and the number follow."""
    return f'["{METRIC}", {scope}, {json.dumps(name)}, '


def read(part: Part, *, metrics: bool = True) -> Iterator[Event]:
    """The events of a part in the order in which they were reported.

    Parameters
    ----------
    metrics: False leaves these out, which may be many, without looking at them.
    """
    points = b'["metric"'
    begun = None
    for line in _lines(part):
        if line.startswith(BEGIN):
            if begun not in (None, line) and part.end < 0:  # the worker has gone on to another step
                return
            begun = line
        elif metrics or not line.startswith(points):
            try:
                yield Event(*json.loads(line))
            except (ValueError, TypeError):  # torn by a crash of the machine
                continue


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
            path = os.path.join(folder, name)
            for event in read(Part(path, 0, length(path)), metrics=False):
                if isinstance(event.payload, dict) and "blob" in event.payload:
                    yield event.payload["blob"]


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

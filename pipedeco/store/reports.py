"""What the database knows of what was reported: what runs are searched by, and which blobs.

The events themselves stay in their files, which are read when somebody asks.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.events import METRIC, OF_STEP, PARAM, TAG, Part, read
from pipedeco.monitors import name_on_run

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from pipedeco.events import Event
    from pipedeco.graph import Logs

STEP_TAG = "step_tag"


class Reported(NamedTuple):
    """A row of the table of that name, without its run."""

    kind: str
    name: str
    number: float | None = None
    text: str | None = None


class Index(NamedTuple):
    """What is to be recorded of a part of events."""

    reported: list[Reported]
    attachments: set[str]


def part_of(folder: str, logs: Logs | None) -> Part | None:
    """Where a step's events stand; None where it reported nothing.

    Parameters
    ----------
    folder: of the run's logs.
    """
    if logs is None or logs.events_start == logs.events_end:
        return None
    path = os.path.join(folder, f"{logs.name}.events")
    return Part(path, logs.events_start, logs.events_end)


def index(part: Part, monitors: Mapping[str, Any]) -> Index:
    """What concerns the run in a part of events; the last of each name counts."""
    found: dict[tuple[str, str], Reported] = {}
    attachments: set[str] = set()
    for event in read(part):
        if isinstance(event.payload, dict) and "blob" in event.payload:
            attachments.add(event.payload["blob"])
        for row in _rows(event, monitors):
            found[row.kind, row.name] = row
    return Index(list(found.values()), attachments)


def step_tags(tags: Iterable[str]) -> list[Reported]:
    return [Reported(STEP_TAG, tag) for tag in tags]


def run_tags(tags: Iterable[str]) -> list[Reported]:
    return [Reported(TAG, tag) for tag in tags]


def put(
    connection: sqlite3.Connection, statements: Mapping[str, str], run: int, found: Index
) -> None:
    """Write the rows of a run."""
    for row in found.reported:
        connection.execute(statements["put_reported"], {"run": run, **row._asdict()})
    for digest in found.attachments:
        connection.execute(statements["put_attachment"], {"run": run, "digest": digest})


def _rows(event: Event, monitors: Mapping[str, Any]) -> list[Reported]:
    if event.kind == TAG:
        return [Reported(STEP_TAG if event.scope == OF_STEP else TAG, event.name)]
    if event.kind not in (METRIC, PARAM):
        return []
    name = name_on_run(event, monitors)
    if name is None:
        return []
    if event.kind == METRIC:
        return [Reported(METRIC, name, number=_real(event.payload))]
    return [Reported(PARAM, name, text=param_text(event.payload))]


def param_text(payload: Mapping[str, Any]) -> str:
    """A parameter as it is shown, and searched by."""
    from pipedeco.text import preview

    return str(payload["preview"]) if "preview" in payload else preview(payload.get("value"))


def _real(number: float) -> float:
    try:
        return float(number)
    except OverflowError:  # a whole number beyond any float
        return float("inf") if number > 0 else float("-inf")

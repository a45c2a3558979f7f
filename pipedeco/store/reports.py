"""What the database knows of what was reported: what runs are searched by, and which blobs.

The events themselves stay in their files, which are read when somebody asks.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.events import METRIC, OF_STEP, PARAM, TAG, Part, length, read
from pipedeco.monitors import names_on_run
from pipedeco.store.database import queries
from pipedeco.store.rows import unpack_logs

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from pipedeco.events import Event
    from pipedeco.graph import Logs, Outcome, Step

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


def index(part: Part, monitors: Mapping[str, Any], step: str = "") -> Index:
    """What concerns the run in a part of events; the last of each name counts.

    Parameters
    ----------
    monitors: of the component of the step that reported it, and `step` its name.
    """
    found: dict[tuple[str, str], Reported] = {}
    attachments: set[str] = set()
    for event in read(part):
        if isinstance(event.payload, dict) and "blob" in event.payload:
            attachments.add(event.payload["blob"])
        for row in _rows(event, monitors, step):
            found[row.kind, row.name] = row
    return Index(list(found.values()), attachments)


def tags_of_steps(tags: Iterable[str]) -> Index:
    return Index([Reported(STEP_TAG, tag) for tag in tags], set())


def tags_of_run(tags: Iterable[str]) -> Index:
    return Index([Reported(TAG, tag) for tag in tags], set())


class GroupReports:
    """What the steps of one group of records have reported: read first, then written with them.

    Parameters
    ----------
    connection: of the recorder.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._found: dict[Any, Index] = {}

    def read_step(self, logs: str, step: Step) -> None:
        """What a step has reported that ended; `logs` is the folder of its run's."""
        outcome = step.outcome
        assert outcome is not None
        part = part_of(logs, outcome.logs)
        if step.key is not None and step.key.origin is not None:  # its value is another's
            part = self._part_of_origin(os.path.dirname(logs), step.key.origin)
        if part is not None:
            self._found[step] = index(part, step.called.options.monitors, step.name)

    def read_attempt(self, logs: str, step: Step, number: int, outcome: Outcome) -> None:
        """Of an attempt that was followed by another only what it has kept counts."""
        part = part_of(logs, outcome.logs)
        if part is not None:
            self._found[step, number] = Index([], index(part, {}).attachments)

    def read_body(self, path: str) -> None:
        self._found[path] = index(Part(path, 0, length(path)), {})

    def write(self, what: Any, run: int) -> None:
        """Write what was read of a step, of an attempt, or of a body."""
        found = self._found.get(what) if self._found else None
        if found is not None:
            self.put(run, found)

    def put(self, run: int, found: Index) -> None:
        for row in found.reported:
            facts = {"run": run, **row._asdict()}
            self._connection.execute(queries()["put_reported"], facts)
        for digest in found.attachments:
            facts = {"run": run, "digest": digest}
            self._connection.execute(queries()["put_attachment"], facts)

    def clear(self) -> None:
        self._found.clear()

    def _part_of_origin(self, logs: str, origin: int) -> Part | None:
        row = self._connection.execute(queries()["step_logs"], {"step": origin}).fetchone()
        return None if row is None else part_of(os.path.join(logs, row[0]), unpack_logs(row[1]))


def _rows(event: Event, monitors: Mapping[str, Any], step: str) -> list[Reported]:
    if event.kind == TAG:
        return [Reported(STEP_TAG if event.scope == OF_STEP else TAG, event.name)]
    if event.kind not in (METRIC, PARAM):
        return []
    names = names_on_run(event, monitors, step)
    if event.kind == METRIC:
        return [Reported(METRIC, name, number=_real(event.payload)) for name in names]
    return [Reported(PARAM, name, text=param_text(event.payload)) for name in names]


def param_text(payload: Mapping[str, Any]) -> str:
    """A parameter as it is shown, and searched by."""
    from pipedeco.text import preview

    return str(payload["preview"]) if "preview" in payload else preview(payload.get("value"))


def _real(number: float) -> float:
    try:
        return float(number)
    except OverflowError:  # a whole number beyond any float
        return float("inf") if number > 0 else float("-inf")

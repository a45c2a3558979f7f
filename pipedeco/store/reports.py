"""What the database knows of what was reported: what runs are searched by, and which blobs.

The events themselves stay in their files, which are read when somebody asks.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.blobs import make_private
from pipedeco.events import HEAD, METRIC, OF_RUN, OF_STEP, PARAM, TAG, Part, length, summarise
from pipedeco.graph import Logs
from pipedeco.monitors import names_on_run
from pipedeco.store.database import queries

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from pipedeco.graph import Outcome, Step

STEP_TAG = "step_tag"
OPTION = "option"  # of the run's pipeline
ADOPTED = "from-"  # how a file of another run's events is called here


class IndexRow(NamedTuple):
    """A row of the table `reported`, without its run."""

    kind: str
    name: str
    number: float | None = None
    text: str | None = None
    time: float = 0.0


class Index(NamedTuple):
    """What is to be recorded of a part of events."""

    rows: list[IndexRow]
    blobs: list[str]


def part_of(folder: str, logs: Logs | None) -> Part | None:
    """Where a step's events stand; None where it reported nothing.

    Parameters
    ----------
    folder: of the run's logs.
    """
    if logs is None or logs.events_start == logs.events_end:
        return None
    path = os.path.join(folder, f"{logs.name}.events")
    return Part(path, logs.events_start, logs.events_end, logs.number)


def adopt(store: str, run: str, logs: Logs | None, folder: str) -> Logs | None:
    """Take what a step of another run has reported for a step whose value is that one's.

    The file is linked into the folder, so it stays when that run is removed.

    Parameters
    ----------
    store: its folder.
    run, logs: of the step that reported.
    folder: of the logs of the run that takes it over.
    """
    part = part_of(os.path.join(store, "logs", run), logs)
    if part is None or logs is None:
        return None
    name = logs.name if logs.name.startswith(ADOPTED) else f"{ADOPTED}{run}-{logs.name}"
    target = os.path.join(folder, f"{name}.events")
    try:
        make_private(folder)
        os.link(part.path, target)
    except FileExistsError:
        pass
    except OSError:  # it is gone, or nothing can be linked here
        if not _copied(part.path, target):
            return None
    return Logs(name, 0, 0, 0, 0, *logs[5:])


def _copied(path: str, target: str) -> bool:
    import shutil

    try:
        shutil.copyfile(path, target)
    except OSError:
        return False
    return True


def index(part: Part, monitors: Mapping[str, Any], step: str = "") -> Index:
    """What concerns the run in a part of events; the last of each name counts.

    Parameters
    ----------
    monitors: of the component of the step that reported it, and `step` its name.
    """
    known = summarise(part)
    rows = [IndexRow(STEP_TAG if scope == OF_STEP else TAG, tag) for scope, tag in known.tags]
    for scope, name, value, time in known.metrics:
        rows += [
            IndexRow(METRIC, shown, number=_real(value), time=time)
            for shown in names_on_run(METRIC, scope, name, monitors, step)
        ]
    rows += [
        IndexRow(PARAM, name, text=param_text(payload), time=time)
        for scope, name, payload, time in known.params
        if scope == OF_RUN
    ]
    return Index(rows, known.blobs)


def tags_of_steps(tags: Iterable[str]) -> Index:
    return Index([IndexRow(STEP_TAG, tag) for tag in tags], [])


def tags_of_run(tags: Iterable[str]) -> Index:
    return Index([IndexRow(TAG, tag) for tag in tags], [])


def options_of_run(seed: int | None) -> Index:
    """What the run was asked to do, where others need it to do the same."""
    return Index([] if seed is None else [IndexRow(OPTION, "seed", text=str(seed))], [])


class GroupReports:
    """What the steps of one group of records have reported: read first, then written with them.

    Parameters
    ----------
    connection: of the recorder.

    Attributes: `found`, what was read, by the step, the attempt or the body that it is of.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.found: dict[Any, Index] = {}

    def read_step(self, logs: str, step: Step) -> None:
        """What a step has reported that ended; `logs` is the folder of its run's."""
        assert step.outcome is not None
        part = part_of(logs, step.outcome.logs)
        if part is not None:
            self.found[step] = index(part, step.called.options.monitors, step.name)

    def read_attempt(self, logs: str, step: Step, number: int, outcome: Outcome) -> None:
        """Of an attempt that was followed by another only what it has kept counts."""
        part = part_of(logs, outcome.logs)
        if part is not None:
            self.found[step, number] = Index([], index(part, {}).blobs)

    def read_body(self, path: str) -> None:
        start = len(HEAD)
        self.found[path] = index(Part(path, start, max(start, length(path)), 0), {})

    def write(self, what: Any, run: int) -> None:
        """Write what was read of a step, of an attempt, or of a body."""
        found = self.found.get(what)
        if found is not None:
            self.put(run, found)

    def put(self, run: int, found: Index) -> None:
        for row in found.rows:
            facts = {"run": run, **row._asdict(), "name": storable(row.name)}
            self._connection.execute(queries()["put_reported"], facts)
        for digest in found.blobs:
            facts = {"run": run, "digest": storable(digest)}
            self._connection.execute(queries()["put_attachment"], facts)

    def clear(self) -> None:
        self.found.clear()


def storable(text: str) -> str:
    """The text with lone surrogates escaped, which no database takes."""
    return text.encode("utf-8", "backslashreplace").decode()


def param_text(payload: Mapping[str, Any]) -> str:
    """A parameter as it is shown, and searched by."""
    from pipedeco.text import preview

    return storable(
        str(payload["preview"]) if "preview" in payload else preview(payload.get("value"))
    )


def _real(number: float) -> float:
    try:
        return float(number)
    except OverflowError:  # a whole number beyond any float
        return float("inf") if number > 0 else float("-inf")

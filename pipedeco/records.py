"""What is remembered of the steps of a run, and how it is read from a store."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from pipedeco.blobs import BlobStore
from pipedeco.draw import Edge, Node
from pipedeco.errors import BlobCorrupt, StepFailed, StepSkipped, StoreError
from pipedeco.events import OF_STEP, last_progress, log_texts, read, summarise
from pipedeco.graph import (
    CANCELLED,
    SKIPPED,
    SUCCESS,
    Call,
    Drawn,
    Logs,
    edges_between,
)
from pipedeco.reported import MISSING, Entry, ReportView, frame
from pipedeco.requirements import Requirements
from pipedeco.serialization import UNRECORDED, unpack, unpack_arguments, unpack_exception
from pipedeco.store import rows
from pipedeco.store.database import connect_to_read, fetch, queries
from pipedeco.store.reports import is_adopted, part_of
from pipedeco.text import duration
from pipedeco.user_frames import hides_frames

if TYPE_CHECKING:
    from pipedeco.events import Event, Part
    from pipedeco.explaining import Why
    from pipedeco.reported import Artifact, Figure, Item, Items, Table, Text

Row = dict[str, Any]


class Recorded(Protocol):
    """What records ask of their run."""

    id: str
    store: str

    @property
    def blobs(self) -> BlobStore: ...


class Steps(Mapping[str, "StepRecord"]):
    """Step records by name, in the order of the calls."""

    def __init__(self) -> None:
        self._records: dict[str, StepRecord] = {}
        self._by_position: dict[int, StepRecord] = {}

    def _add(self, record: StepRecord) -> None:
        self._records[record.name] = record
        self._by_position[record.position] = record

    def __getitem__(self, name: str) -> StepRecord:
        """The record of a step; KeyError names the steps there are."""
        if name not in self._records:
            known = ", ".join(list(self._records)[:20]) or "none"
            raise KeyError(f"there is no step {name!r}; there are: {known}")
        return self._records[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def at(self, position: int) -> StepRecord:
        return self._by_position[position]

    def __repr__(self) -> str:
        return f"<{len(self)} steps: {', '.join(list(self)[:10])}>"

    def _repr_html_(self) -> str:
        from pipedeco.html import table

        return table(("step", "state", "time", "result"), [each.row() for each in self.values()])


class AttemptRecord:
    """One try of a step: `number`, `state`, `worker`, `started`, `ended`, `duration`, `error`."""

    def __init__(self, run: Recorded, step: str, row: Row) -> None:
        self._run = run
        self._step = step
        self._row = row
        self.number: int = row["number"]
        self.state: str = row["state"]
        self.worker: str | None = row["worker"]
        self.started: float | None = row["started"]
        self.duration: float | None = row["duration"]
        self.error = error_text(row)
        self.traceback: str | None = row["traceback"]

    @property
    def ended(self) -> float | None:
        known = self.started is not None and self.duration is not None
        return self.started + self.duration if known else None  # type: ignore[operator]

    def logs(self) -> str:
        """What the attempt wrote: stdout, stderr, then log records that went to neither."""
        return read_logs(self._run, rows.unpack_logs(self._row["logs"]))

    @property
    def metrics(self) -> Any:
        """The points that the attempt reported, as `StepRecord.metrics`."""
        part = part_of(logs_folder(self._run), rows.unpack_logs(self._row["logs"]))
        events = read(part) if part is not None else ()
        own = [Entry(e, self._step) for e in events if e.scope == OF_STEP]
        return frame(ReportView(lambda metrics: own, self._run.blobs).points())

    def to_json(self) -> dict[str, Any]:
        names = ("number", "state", "worker", "started", "ended", "duration", "error")
        return {name: getattr(self, name) for name in names}

    def __repr__(self) -> str:
        return f"<attempt {self.number} {self.state}>"


class LastValues(dict[str, float]):
    """The last value of each metric, by its name."""

    def __missing__(self, name: str) -> float:
        known = ", ".join(list(self)[:20]) or "none"
        raise KeyError(f"there is no metric {name!r}; there are: {known}")


class HasReports:
    """What was reported on a step or a run."""

    @property
    def _reported(self) -> ReportView:
        raise NotImplementedError

    @property
    def metrics(self) -> Any:
        """The points of all metrics in order: a DataFrame of pandas where that is installed, else
        a list of dicts.  Columns: name, value, step, time (seconds since the epoch), source (the
        step that reported it)."""
        return frame(self.points)

    @property
    def points(self) -> list[dict[str, Any]]:
        """The rows of `metrics`, whatever is installed."""
        return self._reported.points()

    @property
    def last_metrics(self) -> dict[str, float]:
        """The last value of each metric."""
        return LastValues(self._reported.last_values())

    @property
    def artifacts(self) -> Items[Artifact]:
        """Artifacts by name, the last of each: `.load()`, `.path()`, `.save(path)`."""
        return self._reported.artifacts()

    @property
    def models(self) -> Items[Artifact]:
        """Models by name, as `artifacts`."""
        return self._reported.models()

    @property
    def figures(self) -> Items[Figure]:
        """Figures and images by name, the last of each; `.history(name)` has all."""
        return self._reported.figures()

    @property
    def tables(self) -> Items[Table]:
        """Tables by name: `.columns`, `.rows`, `.frame()`."""
        return self._reported.tables()

    @property
    def texts(self) -> Items[Text]:
        """Texts by name: `.text`."""
        return self._reported.texts()

    @property
    def reported_items(self) -> list[Item]:
        """All of these: the last of each kind and name, kind by kind."""
        return self._reported.everything()


class StepRecord(HasReports):
    """What is remembered of a step.

    Attributes: `name`, `component`, `state`, `attempts` (records of all, the last included),
    `started`, `ended`, `duration` (of the last attempt, seconds), `worker`, `inputs` (parameter
    name -> value), `error` (text or None), `traceback`, `reason` (why it was skipped or
    cancelled), `preview` (of its value), `parents` and `after` (names of steps), `child_run` (the
    id of the run that a pipeline's step is), `stage`, `tags`, `params` (that it reported),
    `progress` (its own, 0 to 1), `metrics` and what else it reported; of a step whose value came
    from the cache what the step reported that made it.
    """

    def __init__(
        self, run: Recorded, steps: Steps, row: Row, attempts: list[Row], child: str | None
    ) -> None:
        self._run = run
        self._steps = steps
        self._row = row
        self._earlier = attempts
        self.name: str = row["name"]
        self.component: str = row["component_name"]
        self.position: int = row["id"] & 0xFFFFFFFF
        self.state: str = row["state"]
        self.worker: str | None = row["worker"]
        self.started: float | None = row["started"]
        self.duration: float | None = row["duration"]
        self.error = error_text(row)
        self.traceback: str | None = row["traceback"]
        self.reason: str | None = row["reason"]
        self.preview: str | None = row["preview"]
        self.child_run: str | None = child
        self.reads: int = row["reads"]  # how many results the body had read before the call
        facts = json.loads(row["facts"]) if row["facts"] else {}
        self.stage: str | None = facts.get("stage")
        own = facts.get("environment")  # packages of its own, and Python
        self.environment: str | None = own and Requirements.recorded(own).text
        self.monitors: dict[str, list[list[str]]] = facts.get("monitors", {})
        self._tags: list[str] = facts.get("tags", [])

    @property
    def tags(self) -> list[str]:
        """Of its component, and those that it was given while it ran."""
        return list(dict.fromkeys([*self._tags, *self._reported.tags()]))

    @property
    def params(self) -> dict[str, Any]:
        """The parameters that it reported; by preview where they are no plain values."""
        return self._reported.params()

    @property
    def progress(self) -> float:
        """How far it is, as far as it has told: 0 to 1; 1 when it has ended well."""
        if self.state in SUCCESS:
            return 1.0
        part = self._part()
        return (last_progress(part) or 0.0) if part is not None else 0.0

    @property
    def has_metrics(self) -> bool:
        """Whether it reported any point; quick where there are many."""
        return bool(self.last_metrics)

    @property
    def last_metrics(self) -> dict[str, float]:
        """The last value of each metric; quick where there are many points."""
        part = self._part()
        known = summarise(part).metrics if part is not None else []
        return LastValues((name, value) for scope, name, value, _ in known if scope == OF_STEP)

    @property
    def _reported(self) -> ReportView:
        return ReportView(self._own_entries, self._run.blobs)

    def _own_entries(self, *, metrics: bool) -> list[Entry]:
        return [Entry(e, self.name) for e in self.events(metrics=metrics) if e.scope == OF_STEP]

    def events(self, *, metrics: bool) -> Iterable[Event]:
        """What it reported, on itself and on its run, in order."""
        part = self._part()
        return read(part, metrics=metrics) if part is not None else ()

    def _part(self) -> Part | None:
        """Where its events stand; of a cached step those of the step that made its value."""
        return part_of(logs_folder(self._run), rows.unpack_logs(self._row["logs"]))

    @property
    def ended(self) -> float | None:
        known = self.started is not None and self.duration is not None
        return self.started + self.duration if known else None  # type: ignore[operator]

    @property
    def attempts(self) -> list[AttemptRecord]:
        found = [AttemptRecord(self._run, self.name, row) for row in self._earlier]
        if self._row["attempt"] > len(found):  # else it ended between two of them
            last = {**self._row, "number": self._row["attempt"]}
            found.append(AttemptRecord(self._run, self.name, last))
        return found

    @property
    def parents(self) -> list[str]:
        """The steps whose values stand in the arguments."""
        return [self._steps.at(p).name for p in rows.unpack_positions(self._row["inputs"])]

    @property
    def after(self) -> list[str]:
        """The steps that it depends on without their values."""
        return [self._steps.at(p).name for p in rows.unpack_positions(self._row["after"])]

    @property
    def inputs(self) -> dict[str, Any]:
        """The arguments by parameter name, as the function got them.

        Raises StoreError where they were not recorded, BlobCorrupt where they are lost.
        """
        if self._row["args"] == UNRECORDED:
            raise StoreError(f"the arguments of step {self.name} could not be recorded")
        positions = rows.unpack_positions(self._row["inputs"])
        args, kwargs = unpack_arguments(
            self._row["args"], self._run.blobs, lambda n: self._steps.at(positions[n]).result()
        )
        names = json.loads(self._row["parameters"])
        named = {
            names[i] if i < len(names) else f"args[{i}]": value for i, value in enumerate(args)
        }
        return {**named, **kwargs}

    @hides_frames
    def result(self) -> Any:
        """The value; raises the step's failure, or StepSkipped where it was not performed."""
        if self.state in SUCCESS:
            return load(
                self._row["value"],
                self._run.blobs,
                f"the result of step {self.name} of run {self._run.id}",
            )
        raise recorded_error(
            self._row, f"step {self.name} of run {self._run.id} is {self.state}", self.reason
        )

    def why(self) -> Why:
        """Why it was performed, or was not."""
        from pipedeco.explaining import why

        return why(self._run.store, self._run.id, self.name)

    def replay(self, *, break_: bool = False, debugger: bool = True) -> Any:
        """Call the step's function with its recorded inputs, in this process; gives its value.

        Nothing is recorded.  On a terminal pdb stops at the line that fails, and with `break_` at
        the first line; under the debugger of an IDE, and with `debugger=False`, the function is
        simply called.

        Raises what it raises, ConfigError where it is not found or the step cannot be replayed,
        StoreError and BlobCorrupt where its inputs are not there any more.
        """
        from pipedeco.replay import replay

        return replay(self.recorded(), break_=break_, debugger=debugger)

    def recorded(self) -> Any:
        """The `replay.Recorded` of the step."""
        from pipedeco.replay import Recorded as RecordedStep

        return RecordedStep(
            self._run.store,
            self._row["id"],
            self.state,
            self.child_run,
            lambda position: self._steps.at(position).result(),
        )

    def logs(self) -> str:
        """What the last attempt wrote: stdout, stderr, then log records that went to neither."""
        return read_logs(self._run, rows.unpack_logs(self._row["logs"]))

    def to_json(self) -> dict[str, Any]:
        """The record under the names of its attributes, as plain types."""
        names = (
            "name", "component", "state", "worker", "started", "ended", "duration", "error",
            "reason", "parents", "after", "child_run", "stage", "tags", "progress", "environment",
        )  # fmt: skip
        found = {name: getattr(self, name) for name in names}
        found["attempts"] = [attempt.to_json() for attempt in self.attempts]
        found["result"] = self.preview
        return found

    def __repr__(self) -> str:
        return f"<step {self.name} {self.state}>"

    def row(self) -> tuple[str, str, str, str]:
        """Name, state, time, and the result or what there is in its place, as text."""
        took = "" if self.duration is None else duration(self.duration)
        return self.name, self.state, took, self.error or self.reason or self.preview or ""

    def _repr_html_(self) -> str:
        from pipedeco.html import facts

        name, state, took, result = self.row()
        needs = ", ".join(dict.fromkeys([*self.parents, *self.after]))
        pairs = [("step", name), ("component", self.component), ("state", state), ("time", took)]
        return facts([*pairs, ("needs", needs), ("worker", self.worker), ("result", result)])


class RunGraph(Drawn):
    """The steps of a run and the edges between them, as recorded.

    Parameters
    ----------
    title: of drawings.
    records: of the steps.
    reads: positions of the steps that the body read, in that order.
    """

    def __init__(self, title: str, records: Steps, reads: list[int]) -> None:
        self.title = title
        self._records = records
        self._reads = reads

    @property
    def steps(self) -> list[str]:
        """The names of the steps in the order of the calls."""
        return list(self._records)

    @property
    def nodes(self) -> list[Node]:
        return [
            Node(step.name, step.component, step.state, step.duration, step.stage)
            for step in self._records.values()
        ]

    @property
    def edges(self) -> list[Edge]:
        calls = (
            Call(step.name, step.parents, step.after, step.reads) for step in self._records.values()
        )
        return edges_between(calls, [self._records.at(p).name for p in self._reads])

    def __repr__(self) -> str:
        return f"<graph of {len(self._records)} steps>"


def query(folder: str, name: str, /, **parameters: Any) -> list[Row]:
    import sqlite3

    connection = connect_to_read(folder)
    try:
        return fetch(connection, name, **parameters)
    except sqlite3.Error as error:
        raise StoreError(f"the store {folder} cannot be read: {error}") from error
    finally:
        connection.close()


def execute(folder: str, name: str, /, **parameters: Any) -> None:
    """Change something in the store, in a transaction of its own."""
    import sqlite3

    connection = connect_to_read(folder)
    try:
        connection.execute(queries()[name], parameters)
    except sqlite3.Error as error:
        raise StoreError(f"the store {folder} cannot be written: {error}") from error
    finally:
        connection.close()


def load(packed: Any, blobs: BlobStore, what: str) -> Any:
    if packed == UNRECORDED:
        raise StoreError(f"{what} could not be recorded: it cannot be pickled")
    try:
        return unpack(packed, blobs, verify=True)
    except BlobCorrupt as error:
        raise BlobCorrupt(f"{what}: {error}") from error
    except Exception as error:  # whatever the classes of the value raise, or their absence
        raise StoreError(
            f"{what} cannot be loaded in this process: {type(error).__name__}: {error}; {MISSING}"
        ) from error


def error_text(row: Row) -> str | None:
    parts = [row["error_type"], row["error_text"]]
    return ": ".join(part for part in parts if part) if row["error_type"] else None


def recorded_error(row: Row, what: str, reason: str | None = None) -> BaseException:
    """The exception that a record holds, or one that tells what is known."""
    if row["error"] is not None:
        with suppress(Exception):  # its class is not to be had in this process
            return unpack_exception(row["error"])
    if row.get("state") == SKIPPED:
        return StepSkipped(f"{what}: {reason}")
    if row.get("state") == CANCELLED:
        from pipedeco.errors import StepCancelled  # loads concurrent.futures

        return StepCancelled(f"{what}: {reason}")
    text = f"{what}: {error_text(row)}" if row["error_type"] else what
    return StepFailed(text, type=row["error_type"], traceback=row["traceback"])


def logs_folder(run: Recorded) -> str:
    return os.path.join(run.store, "logs", run.id)


def read_logs(run: Recorded, logs: Logs | None) -> str:
    if logs is None:
        return ""
    parts = (("out", logs.out_start, logs.out_end), ("err", logs.err_start, logs.err_end))
    text = "".join(_read_part(run, f"{logs.name}.{stream}", a, b) for stream, a, b in parts)
    part = part_of(logs_folder(run), logs)
    if part is None or is_adopted(logs):
        return text
    return text + "".join(log_texts(part))


def _read_part(run: Recorded, name: str, start: int, end: int) -> str:
    path = os.path.join(run.store, "logs", run.id, name)
    if not os.path.exists(path):
        return ""
    with open(path, "rb") as file:
        file.seek(start)
        return file.read(-1 if end < 0 else end - start).decode("utf-8", "backslashreplace")

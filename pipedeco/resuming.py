"""Going on with a run that has not been completed: what it has recorded is not performed again.

    take_over     another controller's run becomes ours, in one transaction
    Resumption    gives a step the value that it had, where code and inputs are the same

What was recorded before stands in the table `earlier` until the run is completed, so that a
resumed run may be killed and resumed again.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.blobs import BlobStore, blobs_of
from pipedeco.cache import Codes, held_files, lost_module
from pipedeco.earlier import Call, Children, Earlier, Known, packed_digest
from pipedeco.errors import (
    BlobCorrupt,
    ConfigError,
    PipedecoError,
    RunBusy,
    RunNotFound,
    StoreError,
)
from pipedeco.fingerprint.files import Contents, files_met
from pipedeco.fingerprint.naming import layout
from pipedeco.fingerprint.unproven import Unproven
from pipedeco.fingerprint.values import value_digest
from pipedeco.graph import SUCCESS, Outcome, Step, StepCall, StepError
from pipedeco.loading import find_recorded
from pipedeco.serialization import (
    UNRECORDED,
    Packed,
    Pickler,
    main_names,
    unpack,
    unpack_arguments,
)
from pipedeco.store import rows
from pipedeco.store.database import connect_to_read, fetch, queries
from pipedeco.store.owner import is_alive
from pipedeco.tracing import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipedeco.cache import ResultCache
    from pipedeco.graph import Called, StepKey
    from pipedeco.runners import Session

Row = dict[str, Any]
BESIDE = ("args", "value", "error")  # columns of `earlier` that JSON does not hold


class TakenOver(NamedTuple):
    """A run that is ours now."""

    row: Row
    epoch: int
    earlier: dict[str, Known]  # by what tells the records apart: the step's name, or the like of it
    unfinished: dict[str, Call]  # the calls of the other steps, by their names
    children: list[Row]  # its child runs, the newest first
    seconds: float  # that it has taken


def take_over(
    folder: str,
    run: str,
    owner: str,
    *,
    mode: str | None = None,
    completed: bool = False,
    step: str | None = None,
) -> TakenOver:
    """Make the run this controller's, with what it has recorded.

    Parameters
    ----------
    folder: of the store.
    run: its id.
    owner: the name of this controller's lock.
    mode: in which it goes on; by default its own.
    completed: whether it may be completed, as a child of a run that is not.
    step: of its parent, that it is now; by default the one that it was.

    Raises RunNotFound, RunBusy where a living process has the run, PipedecoError where it is
    completed, and StoreError.
    """
    connection = connect_to_read(folder)
    try:
        connection.execute("begin immediate")
        found = fetch(connection, "run_by_id", id=run)
        if not found:
            raise RunNotFound(f"run {run} is not in the store {folder}")
        row = found[0]
        check_free(folder, row, completed=completed)
        seconds = _seconds_of(connection, row)
        facts = {"run": row["seq"], "seconds": seconds, "began": time.time()}
        connection.execute(queries()["put_seconds"], facts)
        children = fetch(connection, "children_to_resume", parent=run)
        unfinished = _put_aside(connection, row["seq"], children)
        earlier = {item["name"]: _known(item) for item in fetch(
            connection, "earlier_steps", run=row["seq"]
        )}  # fmt: skip
        facts = {"seq": row["seq"], "owner": owner, "mode": mode or row["mode"], "step": step}
        connection.execute(queries()["take_over"], facts)
        connection.execute("commit")
    except sqlite3.Error as error:
        raise StoreError(f"the store {folder} cannot be written: {error}") from error
    finally:
        connection.close()
    return TakenOver(row, row["epoch"] + 1, earlier, unfinished, children, seconds)


def give_up(folder: str, run: str, epoch: int, error: BaseException) -> None:
    """What was taken over cannot be gone on with; it may be resumed again."""
    facts = {"id": run, "epoch": epoch, "ended": time.time()}
    connection = connect_to_read(folder)
    try:
        known = {"type": type(error).__name__, "text": str(error)[:1000]}
        connection.execute(queries()["give_up"], {**facts, **known})
    finally:
        connection.close()


def check_free(folder: str, row: Row, *, completed: bool = False) -> None:
    """Raise PipedecoError where a run is completed, RunBusy where a living process has it."""
    if row["status"] == "completed" and not completed:
        raise PipedecoError(
            f"run {row['id']} of {row['pipeline']} is completed; there is nothing to resume",
            run=row["id"],
        )
    if row["status"] == "running" and is_alive(folder, row["owner"]):
        process = str(row["owner"]).partition("-")[0]
        raise RunBusy(
            f"run {row['id']} of {row['pipeline']} is performed by process {process}; wait for it, "
            f"or cancel it with: pipedeco cancel {row['id']}",
            run=row["id"],
        )


def _put_aside(connection: sqlite3.Connection, seq: int, children: list[Row]) -> dict[str, Call]:
    """Move the steps that ended well to `earlier`, and forget the others: they are performed.

    Returns the calls of the latter by their names.
    """
    within = {"first": rows.step_id(seq, 0), "last": rows.step_id(seq + 1, 0)}
    steps = fetch(connection, "steps_to_resume", **within)
    attempts: dict[int, list[Row]] = {}
    for row in fetch(connection, "run_attempts", **within):
        attempts.setdefault(row["step"], []).append(row)
    _name_inputs(steps)
    fresh = [row for row in steps if _has_value(row)]
    unfinished = {
        row["name"]: (row["args"], tuple(row["given"])) for row in steps if not _has_value(row)
    }
    _make_room(connection, seq, fresh)
    for row in fresh:
        beside = {name: row.pop(name) for name in BESIDE}
        row["after"] = None
        row["attempts"] = attempts.get(row["id"], [])
        row["children"] = [c["id"] for c in children if c["parent_step"] == row["name"]]
        facts = {"run": seq, "name": row["name"], "row": json.dumps(row), **beside}
        connection.execute(queries()["put_earlier"], facts)
    for name in (
        *("forget_cached", "forget_origins", "forget_keys", "forget_attempts", "forget_steps"),
    ):
        connection.execute(queries()[name], within)
    connection.execute(queries()["forget_components"], {"run": seq})
    connection.execute(queries()["forget_reported"], {"run": seq})
    connection.execute(queries()["forget_releases"], {"run": seq})  # nobody has heard them
    return unfinished


def _seconds_of(connection: sqlite3.Connection, row: Row) -> float:
    """How long a run has gone, without the time that it lay dead.

    Of one whose controller was killed: up to the last that is known of it.
    """
    if row["ended"] is not None:
        taken = row["seconds"] if row["seconds"] is not None else row["ended"] - row["started"]
        return max(0.0, float(taken))
    known = fetch(connection, "seconds_of_run", run=row["seq"])
    before, began = (known[0]["number"], known[0]["time"]) if known else (0.0, row["started"])
    within = {"first": rows.step_id(row["seq"], 0), "last": rows.step_id(row["seq"] + 1, 0)}
    seen = fetch(connection, "last_seen", **within)[0]["time"]
    return float(before) + max(0.0, float(seen or began) - float(began))


def _make_room(connection: sqlite3.Connection, seq: int, fresh: list[Row]) -> None:
    """Leave of the records of before what no step of now has: others may have had its name.

    The next part of the run may have been killed before it came to all that it could keep.
    """
    executions = {Known(row, None, None).execution for row in fresh}
    calls = {row["name"]: (row["args"], row["given"]) for row in fresh}
    for item in fetch(connection, "earlier_steps", run=seq):
        known, name = _known(item), item["name"]
        facts = {"run": seq, "name": name}
        if known.execution in executions:
            connection.execute(queries()["forget_earlier_step"], facts)
        elif name in calls and (known.args, known.row["given"]) != calls[name]:
            facts["as"] = f"{name} of {known.row['started']!r}"
            connection.execute(queries()["rename_earlier_step"], facts)


def _name_inputs(steps: list[Row]) -> None:
    """Say which steps a step's inputs are, and which values it got from them.

    The values, too: the input may be performed again with another one before the step is.
    """
    named = {row["id"] & 0xFFFFFFFF: row["name"] for row in steps}
    given = {row["id"] & 0xFFFFFFFF: packed_digest(row["value"]) for row in steps}
    for row in steps:
        positions = rows.unpack_positions(row["inputs"])
        # Of a step that never ran, an input may not have been recorded.
        row["inputs"] = [named.get(p, "") for p in positions]
        row["given"] = [given.get(p, "") for p in positions]


def _has_value(row: Row) -> bool:
    return row["state"] in SUCCESS and row["value"] != UNRECORDED


def _same_content(
    one: Packed | None, other: Packed | None, digest: Callable[[Packed | None], str]
) -> bool:
    """By their pickles; where these differ (as sets do, in another process), by content."""
    if UNRECORDED in (one, other):
        return False
    if one == other:
        return True
    if one is None or other is None:
        return False
    try:
        return digest(one) == digest(other)
    except (Unproven, BlobCorrupt):
        return False
    except Exception:  # noqa: BLE001 - users' classes are unpickled here
        return False


def _known(item: Row) -> Known:
    return Known(json.loads(item["row"]), item["args"], item["value"])


class Resumption:
    """Knows the steps of the run that are recorded; a scheduler's Recall.

    Parameters
    ----------
    taken: what was recorded.
    blobs, session: of the run.
    codes: gives the present code's keys.
    attempt: records an attempt that was followed by another.
    moved: records that a child run is a step of another name.
    seeded: whether its steps draw from a seed by their names, which count then.
    """

    def __init__(
        self,
        taken: TakenOver,
        blobs: BlobStore,
        session: Session,
        *,
        codes: Callable[[], Codes],
        attempt: Callable[[Step, int, Outcome], None],
        moved: Callable[[str, str], None],
        seeded: bool,
    ) -> None:
        self.blobs = blobs
        self.session = session
        self.codes = codes
        self.attempt = attempt
        self.moved = moved
        self.cache: ResultCache | None = None  # asked for what is not recorded here
        self._earlier = Earlier(
            taken.earlier.values(),
            unfinished=taken.unfinished,
            arguments=lambda packed: _or_none(self._arguments_digest, packed),
            value=lambda packed: _or_none(self._value_digest, packed),
            by_name=seeded,
        )
        self._children = Children(taken.children, self._earlier, by_name=seeded)
        self._contents = Contents()
        self._layout = layout()
        self._present: dict[Called, str] = {}  # digests of the code as it is now
        self._sure: dict[Step, tuple[Known, Any]] = {}  # steps that were asked for, and are kept
        self._remade: set[Step] = set()  # as files that their values name are not what they were

    def covers(self, step: Step) -> bool:
        return self._earlier.has(step) or (self.cache is not None and self.cache.covers(step))

    def keeps(self, step: Step) -> bool:
        if not self._earlier.has(step):
            return False
        token = current.set(None)  # looking at code may import modules
        try:
            for known in self._earlier.candidates(step, self._code(step.called)):
                loaded = self._loaded(known) if self._is_same(step, known) else None
                if loaded is not None:
                    self._take(step, known, loaded)
                    return True
        finally:
            current.reset(token)
        return False

    def _take(self, step: Step, known: Known, loaded: Any) -> None:
        self._earlier.take(known)
        self._sure[step] = known, loaded
        if step in self._remade:  # the files of another record of the same call are gone
            self._remade.discard(step)
            if step.key is not None:
                step.key.note = None

    def unfinished_child(self, step: Step, args: Packed | None) -> str | None:
        """The id of the child run that the step was, with the same arguments."""

        def is_same(known: Packed | None) -> bool:
            return _same_content(args, known, lambda x: value_digest(unpack(x, self.blobs)))

        return self._children.take(step, is_same)

    def take(self, call: StepCall) -> bool:
        step = call.step
        if step in self._sure or self.keeps(step):
            self._keep(call, *self._sure.pop(step))
            return True
        return self.cache is not None and self.cache.take(call)

    def stop(self) -> list[StepCall]:
        return self.cache.stop() if self.cache is not None else []

    def withdraw(self, call: StepCall) -> bool:
        return self.cache is not None and self.cache.withdraw(call)

    # -- whether nothing has changed -----------------------------------------------------------

    def _is_same(self, step: Step, known: Known) -> bool:
        row = known.row
        if (
            row["component_name"] != step.called.name
            or row["is_pipeline"] != step.called.is_pipeline
        ):
            return False
        if row["code"] != self._code(step.called):
            return False
        if len(row["given"]) != len(step.inputs) or not _has_same_key(step.key, row):
            return False
        if not all(map(self._has_same_value, step.inputs, row["given"])):
            return False
        if not _same_content(step.args, known.args, self._arguments_digest):
            return False
        if not _is_intact(known.value, self.blobs) or not self._can_load(known):
            return False
        return self._has_same_files(step, known)

    def _can_load(self, known: Known) -> bool:
        """Whether its modules are found, where they may have other names than they had."""
        return not self._layout or lost_module(self._main_part(known.value)) is None

    def _has_same_files(self, step: Step, known: Known) -> bool:
        """Whether the files that the value names are there, and, of a cached one, as they were."""
        changed = self._contents.changed(held_files(known.row.get("key_parts")))
        if changed is None and b"fingerprint.files" in self._main_part(known.value):
            changed = self._missing_file(known.value)
        if changed is None:
            return True
        self._remade.add(step)
        if step.key is not None:
            step.key.note = f"{changed}: it is in the value that was recorded"
        return False

    def _missing_file(self, packed: Packed | None) -> str | None:
        """The first file that a value names and that is not there, in words."""
        with files_met() as met:
            value = _or_none(lambda x: unpack(x, self.blobs), packed)
            Pickler.meets({}, value, [])
        gone = next((path for path in met if not os.path.lexists(path)), None)
        return None if gone is None else f"File({gone!r}) is not there"

    def _main_part(self, packed: Packed | None) -> bytes:
        return b"" if packed is None else bytes(self.blobs.main_part(packed))

    def _code(self, called: Called) -> str:
        if called not in self._present:
            self._present[called] = self.codes().of(called.component.fn).digest
        return self._present[called]

    def _has_same_value(self, dep: Step, given: str) -> bool:
        """Whether an input has the value that was given to the step when it was performed."""
        outcome = dep.outcome
        if outcome is None or outcome.value == UNRECORDED or dep in self._remade:
            return False
        if packed_digest(outcome.value) == given:
            return True
        # The same content may have another pickle; large values are not looked into here.
        known = self._earlier.value(given)
        if not isinstance(known, bytes) or not isinstance(outcome.value, bytes):
            return False
        return _same_content(outcome.value, known, self._value_digest)

    def _value_digest(self, packed: Packed | None) -> str:
        return value_digest(unpack(packed, self.blobs), code_digest=self.codes().digest)

    def _arguments_digest(self, packed: Packed | None) -> str:
        arguments = unpack_arguments(packed, self.blobs, _Input)
        return value_digest(arguments, code_digest=self.codes().digest)

    # -- keeping ---------------------------------------------------------------------------------

    def _loaded(self, known: Known) -> Any:
        """What goes with a kept value; None where it cannot be used.

        In debug mode the value itself: the body cannot go on with one that raises on loading,
        which a step that is performed gives all the same.
        """
        if not self.session.in_process:
            return ()
        try:
            return (unpack(known.value, self.blobs),)
        except Exception:  # noqa: BLE001 - whatever the user's classes raise
            return None

    def _keep(self, call: StepCall, known: Known, loaded: Any) -> None:
        step, row = call.step, known.row
        for item in row["attempts"]:
            self.attempt(step, item["number"], _outcome_of(item))
        step.attempt = call.attempt = row["attempt"]
        if step.key is not None and row["key"] is not None:
            step.key.key = row["key"]
            step.key.fingerprint = row["fingerprint"]
            step.key.origin = self._origin(row)
            step.key.inputs = json.loads(row.get("key_parts") or "{}").get("inputs", {})
        if step.name != row["name"]:
            for child in row.get("children", ()):
                self.moved(child, step.name)
        outcome = _outcome_of(row)._replace(
            value=known.value,
            preview=row["preview"],
            names=self._names(known.value),
            kept=loaded or None,
            files=held_files(row.get("key_parts")),
        )
        self.session.post(call.done, call, outcome)  # not at once: chains may be long

    def _origin(self, row: Row) -> int | None:
        """The recorded step whose value it is; those of this run have other numbers now."""
        origin: int | None = row["origin"]
        own = origin is not None and origin >> rows.SHIFT == row["run"]
        return None if own else origin

    def _names(self, value: Packed | None) -> tuple[str, ...]:
        if value is None or b"__main__" not in self._main_part(value):
            return ()
        return main_names(self.blobs.main_part(value), sys.modules["__main__"].__dict__)


def _or_none(look: Callable[[Packed | None], Any], packed: Packed | None) -> Any:
    """What a look into a packed value finds; None where that raises."""
    try:
        return look(packed)
    except Exception:  # noqa: BLE001 - users' classes are unpickled there
        return None


def _has_same_key(key: StepKey | None, row: Row) -> bool:
    """Whether nothing has changed that only the key of a cached component's step tells.

    That is the cache's version, the content of files, and the code of functions among the
    arguments.
    """
    if key is None or not row.get("key_parts"):
        return True
    parts = json.loads(row["key_parts"])
    if (parts.get("version"), parts.get("environment")) != (key.cache.version, key.environment):
        return False
    unproven = key.unproven or parts.get("unproven")
    return bool(unproven) or parts.get("arguments", {}) == key.arguments


def _is_intact(value: Packed | None, blobs: BlobStore) -> bool:
    return not isinstance(value, str) or blobs.is_intact(value)


def _outcome_of(row: Row) -> Outcome:
    error = None
    if row["error_type"]:
        error = StepError(row["error_type"], row["error_text"], row["traceback"], None)
    return Outcome(
        row["state"],
        row["started"],
        row["duration"],
        error=error,
        logs=rows.unpack_logs(row["logs"]),
        worker=row["worker"] or "",
    )


class _Input:
    """Stands for an input's value, and for what is taken from it, where arguments are compared."""

    def __init__(self, number: int, path: tuple[Any, ...] = ()) -> None:
        self.__dict__.update(number=number, path=path)

    def __getitem__(self, key: Any) -> _Input:
        return _Input(self.__dict__["number"], (*self.__dict__["path"], ("item", key)))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Input(self.__dict__["number"], (*self.__dict__["path"], ("attribute", name)))

    def __pipedeco_fingerprint__(self) -> Any:
        return self.__dict__["number"], self.__dict__["path"]


# -- what would be done ----------------------------------------------------------------------


NOT_DONE = {
    "pending": "it was not begun",
    "queued": "it was not begun",
    "running": "it was interrupted",
    "failed": "it failed",
    "skipped": "it was skipped",
    "cancelled": "it was cancelled",
}


def plan_of(folder: str, seq: int) -> list[tuple[str, str, str]]:
    """What resuming a run would do: (step, "kept" or "performed", why), as far as records tell.

    Parameters
    ----------
    folder: of the store.
    seq: of the run.

    A step after one that is performed is listed as performed; it is kept if that gives the value
    that it gave.
    """
    found = _recorded(folder, seq)
    values = _Values(found)
    present = _Present()
    blobs = blobs_of(folder, lazy=True)
    performed = {row["name"]: why for row in found if (why := _why_lost(row, present, blobs))}
    while True:  # records of several resumptions have no common order
        known = len(performed)
        for row in found:
            if row["name"] not in performed:
                why = _why_after(row, values, performed)
                if why:
                    performed[row["name"]] = why
        if len(performed) == known:
            break
    told = []
    for row in found:
        why = performed.get(row["name"], "")
        told.append((row["name"], "performed" if why else "kept", why or _proviso(row)))
    return told


def _recorded(folder: str, seq: int) -> list[Row]:
    """The best record of each step: where the present one has no value, that of before."""
    connection = connect_to_read(folder)
    try:
        within = {"first": rows.step_id(seq, 0), "last": rows.step_id(seq + 1, 0)}
        found = fetch(connection, "steps_to_resume", **within)
        earlier = [_known(item) for item in fetch(connection, "earlier_steps", run=seq)]
    finally:
        connection.close()
    _name_inputs(found)
    before = {k.row["name"]: {**k.row, "value": k.value} for k in earlier}
    best = [row if _has_value(row) else before.get(row["name"], row) for row in found]
    there = {row["name"] for row in found}
    rest = [row for name, row in before.items() if name not in there]
    return best + sorted(rest, key=lambda row: int(row["id"]))


def _why_lost(row: Row, present: _Present, blobs: BlobStore) -> str:
    """Why a record is of no use, whatever the others are."""
    if row["state"] not in SUCCESS:
        return NOT_DONE.get(row["state"], f"it is {row['state']}")
    if row["value"] == UNRECORDED:
        return "its value could not be recorded"
    if not _proviso(row):
        code = present[row["module"], row["qualname"], row["file"]]
        if code is None:
            return "its function is not found"
        if code != row["code"]:
            return "its code has changed"
    if not _is_intact(row["value"], blobs):
        return "its value is missing or damaged"
    return Contents().changed(held_files(row.get("key_parts"))) or ""


class _Values:
    """The values of recorded steps.

    An input may have had another number when a step took its value, but no other component.
    """

    def __init__(self, found: list[Row]) -> None:
        self._components = {row["name"]: row["component_name"] for row in found}
        self._known = {(row["component_name"], packed_digest(row["value"])) for row in found}

    def has(self, name: str, digest: str) -> bool:
        return (self._components.get(name), digest) in self._known


def _why_after(row: Row, values: _Values, performed: dict[str, str]) -> str:
    needs = [name for name in row["inputs"] if name in performed]
    if needs:
        return f"it needs {', '.join(needs)}"
    given = zip(row["inputs"], row["given"], strict=True)
    changed = [name for name, value in given if not values.has(name, value)]
    return f"the value of {', '.join(changed)} has changed" if changed else ""


def _proviso(row: Row) -> str:
    """What must hold besides: a function that has no name of its own is found by the body alone."""
    return "if its function, made while running, is the same" if "<" in row["qualname"] else ""


class _Present(dict[tuple[str, str, str | None], str | None]):
    """The digests of functions as they are now, by module, name and file; None for lost ones."""

    def __init__(self) -> None:
        super().__init__()
        self.codes = Codes()

    def __missing__(self, named: tuple[str, str, str | None]) -> str | None:
        try:
            found = find_recorded(*named)
        except ConfigError:
            found = None
        fn = getattr(found, "fn", found)
        code = self[named] = str(self.codes.of(fn).digest) if callable(fn) else None
        return code

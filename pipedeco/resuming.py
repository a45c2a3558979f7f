"""Going on with a run that has not been completed: what it has recorded is not performed again.

    take_over     another controller's run becomes ours, in one transaction
    Resumption    gives a step the value that it had, where name, code and inputs are the same

What was recorded before stands in the table `earlier` until the run is completed, so that a
resumed run may be killed and resumed again.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from blake3 import blake3

from pipedeco.blobs import BlobStore, blobs_of
from pipedeco.cache import Codes
from pipedeco.errors import (
    BlobCorrupt,
    ConfigError,
    PipedecoError,
    RunBusy,
    RunNotFound,
    StoreError,
)
from pipedeco.fingerprint.unproven import Unproven
from pipedeco.fingerprint.values import value_digest
from pipedeco.graph import SUCCESS, Outcome, Step, StepCall, StepError
from pipedeco.loading import find_recorded
from pipedeco.serialization import UNRECORDED, Packed, main_names, unpack, unpack_arguments
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


class Known(NamedTuple):
    """What was recorded of a step that ended well.

    `row` is of the table step, with component_name, is_pipeline, code, module, qualname, file, key,
    fingerprint and origin beside; `inputs` are names, `given` the digests of the values that these
    had, and `attempts` the rows of the attempts before the last.
    """

    row: Row
    args: Packed | None
    value: Packed | None


class TakenOver(NamedTuple):
    """A run that is ours now."""

    row: Row
    epoch: int
    earlier: dict[str, Known]


def take_over(
    folder: str, run: str, owner: str, *, mode: str | None = None, completed: bool = False
) -> TakenOver:
    """Make the run this controller's, with what it has recorded.

    Parameters
    ----------
    folder: of the store.
    run: its id.
    owner: the name of this controller's lock.
    mode: in which it goes on; by default its own.
    completed: whether it may be completed, as a child of a run that is not.

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
        _put_aside(connection, row["seq"])
        earlier = {item["name"]: _known(item) for item in fetch(
            connection, "earlier_steps", run=row["seq"]
        )}  # fmt: skip
        facts = {"seq": row["seq"], "owner": owner, "mode": mode or row["mode"]}
        connection.execute(queries()["take_over"], facts)
        connection.execute("commit")
    except sqlite3.Error as error:
        raise StoreError(f"the store {folder} cannot be written: {error}") from error
    finally:
        connection.close()
    return TakenOver(row, row["epoch"] + 1, earlier)


def unfinished_child(folder: str, run: str, step: str, args: Packed | None) -> str | None:
    """The id of the child run that a step began with the same arguments and did not complete."""
    connection = connect_to_read(folder)
    try:
        found = fetch(connection, "earlier_child", parent=run, step=step)
    finally:
        connection.close()
    blobs = blobs_of(folder)
    same = found and _same_content(
        args, found[0]["args"], lambda packed: value_digest(unpack(packed, blobs))
    )
    return found[0]["id"] if same else None


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


def _put_aside(connection: sqlite3.Connection, seq: int) -> None:
    """Move the steps that ended well to `earlier`, and forget the others: they are performed."""
    within = {"first": rows.step_id(seq, 0), "last": rows.step_id(seq + 1, 0)}
    steps = fetch(connection, "steps_to_resume", **within)
    attempts: dict[int, list[Row]] = {}
    for row in fetch(connection, "run_attempts", **within):
        attempts.setdefault(row["step"], []).append(row)
    _name_inputs(steps)
    for row in steps:
        if _has_value(row):
            beside = {name: row.pop(name) for name in BESIDE}
            row["after"] = None
            row["attempts"] = attempts.get(row["id"], [])
            facts = {"run": seq, "name": row["name"], "row": json.dumps(row), **beside}
            connection.execute(queries()["put_earlier"], facts)
    for name in (
        *("forget_cached", "forget_origins", "forget_keys", "forget_attempts", "forget_steps"),
    ):
        connection.execute(queries()[name], within)
    connection.execute(queries()["forget_components"], {"run": seq})
    connection.execute(queries()["forget_reported"], {"run": seq})
    connection.execute(queries()["forget_releases"], {"run": seq})  # nobody has heard them


def _name_inputs(steps: list[Row]) -> None:
    """Say which steps a step's inputs are, and which values it got from them.

    The values, too: the input may be performed again with another one before the step is.
    """
    named = {row["id"] & 0xFFFFFFFF: row["name"] for row in steps}
    given = {row["id"] & 0xFFFFFFFF: _packed_digest(row["value"]) for row in steps}
    for row in steps:
        positions = rows.unpack_positions(row["inputs"])
        # Of a step that never ran, an input may not have been recorded.
        row["inputs"] = [named.get(p, "") for p in positions]
        row["given"] = [given.get(p, "") for p in positions]


def _has_value(row: Row) -> bool:
    return row["state"] in SUCCESS and row["value"] != UNRECORDED


def _packed_digest(value: Packed | None) -> str:
    return blake3(value).hexdigest() if isinstance(value, bytes) else value or "None"


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
    earlier: what was recorded, by the names of steps.
    blobs, session: of the run.
    codes: gives the present code's keys.
    attempt: records an attempt that was followed by another.
    """

    def __init__(
        self,
        earlier: dict[str, Known],
        blobs: BlobStore,
        session: Session,
        codes: Callable[[], Codes],
        attempt: Callable[[Step, int, Outcome], None],
    ) -> None:
        self.earlier = earlier
        self.blobs = blobs
        self.session = session
        self.codes = codes
        self.attempt = attempt
        self.cache: ResultCache | None = None  # asked for what is not recorded here
        self._present: dict[Called, str] = {}  # digests of the code as it is now
        self._sure: dict[Step, tuple[Known, Any]] = {}  # steps that were asked for, and are kept

    def covers(self, step: Step) -> bool:
        return step.name in self.earlier or (self.cache is not None and self.cache.covers(step))

    def keeps(self, step: Step) -> bool:
        known = self.earlier.get(step.name)
        if known is None:
            return False
        token = current.set(None)  # looking at code may import modules
        try:
            loaded = self._loaded(known) if self._is_same(step, known) else None
        finally:
            current.reset(token)
        if loaded is None:
            return False
        self._sure[step] = known, loaded
        return True

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
        if row["inputs"] != [dep.name for dep in step.inputs]:
            return False
        if len(row["given"]) != len(step.inputs) or not _has_same_key(step.key, row):
            return False
        if not all(map(self._has_same_value, step.inputs, row["given"])):
            return False
        same = _same_content(step.args, known.args, self._arguments_digest)
        return same and _is_intact(known.value, self.blobs)

    def _code(self, called: Called) -> str:
        if called not in self._present:
            self._present[called] = self.codes().of(called.component.fn).digest
        return self._present[called]

    def _has_same_value(self, dep: Step, given: str) -> bool:
        """Whether an input has the value that was given to the step when it was performed."""
        outcome = dep.outcome
        if outcome is None or outcome.value == UNRECORDED:
            return False
        if _packed_digest(outcome.value) == given:
            return True
        # The same content may have another pickle; large values are not looked into here.
        known = self.earlier.get(dep.name)
        if known is None or not isinstance(known.value, bytes):
            return False
        if not isinstance(outcome.value, bytes) or _packed_digest(known.value) != given:
            return False
        return _same_content(outcome.value, known.value, self._value_digest)

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
        outcome = _outcome_of(row)._replace(
            value=known.value,
            preview=row["preview"],
            names=self._names(known.value),
            kept=loaded or None,
        )
        self.session.post(call.done, call, outcome)  # not at once: chains may be long

    def _origin(self, row: Row) -> int | None:
        """The recorded step whose value it is; those of this run have other numbers now."""
        origin: int | None = row["origin"]
        own = origin is not None and origin >> rows.SHIFT == row["run"]
        return None if own else origin

    def _names(self, value: Packed | None) -> tuple[str, ...]:
        if value is None or b"__main__" not in bytes(self.blobs.main_part(value)):
            return ()
        return main_names(self.blobs.main_part(value), sys.modules["__main__"].__dict__)


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
    values = {row["name"]: _packed_digest(row["value"]) for row in found}
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
    return "" if _is_intact(row["value"], blobs) else "its value is missing or damaged"


def _why_after(row: Row, values: dict[str, str], performed: dict[str, str]) -> str:
    needs = [name for name in row["inputs"] if name in performed]
    if needs:
        return f"it needs {', '.join(needs)}"
    given = zip(row["inputs"], row["given"], strict=True)
    changed = [name for name, value in given if values.get(name) != value]
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

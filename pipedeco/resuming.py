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
from typing import TYPE_CHECKING, Any, NamedTuple

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
from pipedeco.serialization import Packed, main_names, unpack_arguments
from pipedeco.store import rows
from pipedeco.store.database import connect_to_read, fetch, queries
from pipedeco.store.owner import is_alive
from pipedeco.tracing import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipedeco.blobs import BlobStore
    from pipedeco.cache import ResultCache
    from pipedeco.runners import Session

Row = dict[str, Any]
BESIDE = ("args", "value", "error")  # columns of `earlier` that JSON does not hold


class Known(NamedTuple):
    """What was recorded of a step that ended well."""

    row: Row  # of the table step, with component_name, code, inputs and attempts beside
    args: Packed | None
    value: Packed | None


class TakenOver(NamedTuple):
    """A run that is ours now."""

    row: Row
    epoch: int
    earlier: dict[str, Known]


def take_over(folder: str, run: str, owner: str) -> TakenOver:
    """Make the run this controller's, with what it has recorded.

    Parameters
    ----------
    folder: of the store.
    run: its id.
    owner: the name of this controller's lock.

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
        _check_free(folder, row)
        _put_aside(connection, row["seq"])
        earlier = {item["name"]: _known(item) for item in fetch(
            connection, "earlier_steps", run=row["seq"]
        )}  # fmt: skip
        connection.execute(queries()["take_over"], {"seq": row["seq"], "owner": owner})
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
        found = fetch(connection, "unfinished_child", parent=run, step=step)
    finally:
        connection.close()
    return found[0]["id"] if found and found[0]["args"] == args else None


def _check_free(folder: str, row: Row) -> None:
    if row["status"] == "completed":
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
    names = {row["id"] & 0xFFFFFFFF: row["name"] for row in steps}
    attempts: dict[int, list[Row]] = {}
    for row in fetch(connection, "run_attempts", **within):
        attempts.setdefault(row["step"], []).append(row)
    for row in steps:
        if row["state"] in SUCCESS and row["value"] != rows.UNRECORDED:
            beside = {name: row.pop(name) for name in BESIDE}
            row["inputs"] = [names[p] for p in rows.unpack_positions(row["inputs"])]
            row["after"] = None
            row["attempts"] = attempts.get(row["id"], [])
            facts = {"run": seq, "name": row["name"], "row": json.dumps(row), **beside}
            connection.execute(queries()["put_earlier"], facts)
    for name in ("forget_cached", "forget_keys", "forget_attempts", "forget_steps"):
        connection.execute(queries()[name], within)
    connection.execute(queries()["forget_components"], {"run": seq})


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
        self._kept: set[Step] = set()

    def covers(self, step: Step) -> bool:
        return step.name in self.earlier or (self.cache is not None and self.cache.covers(step))

    def take(self, call: StepCall) -> bool:
        step = call.step
        known = self.earlier.get(step.name)
        token = current.set(None)  # looking at code may import modules
        try:
            same = known is not None and self._is_same(step, known)
        finally:
            current.reset(token)
        if known is not None and same:
            self._keep(call, known)
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
        if row["code"] != self.codes().of(step.called.component.fn).digest:
            return False
        if row["inputs"] != [dep.name for dep in step.inputs]:
            return False
        if not all(self._has_same_value(dep) for dep in step.inputs):
            return False
        return self._has_same_arguments(step, known) and self._is_intact(known.value)

    def _has_same_value(self, dep: Step) -> bool:
        if dep in self._kept:
            return True
        known = self.earlier.get(dep.name)
        outcome = dep.outcome
        return known is not None and outcome is not None and outcome.value == known.value

    def _has_same_arguments(self, step: Step, known: Known) -> bool:
        """By their pickles; where these differ (as sets do, in another process), by content."""
        if step.args == known.args:
            return True
        if rows.UNRECORDED in (step.args, known.args):
            return False
        try:
            return self._arguments_digest(step.args) == self._arguments_digest(known.args)
        except (Unproven, BlobCorrupt):
            return False
        except Exception:  # noqa: BLE001 - users' classes are unpickled here
            return False

    def _arguments_digest(self, packed: Packed | None) -> str:
        arguments = unpack_arguments(packed, self.blobs, _Input)
        return value_digest(arguments, code_digest=self.codes().digest)

    def _is_intact(self, value: Packed | None) -> bool:
        if not isinstance(value, str):
            return True
        try:
            self.blobs.get(value, verify=True)
        except BlobCorrupt:
            return False
        return True

    # -- keeping ---------------------------------------------------------------------------------

    def _keep(self, call: StepCall, known: Known) -> None:
        step, row = call.step, known.row
        self._kept.add(step)
        for item in row["attempts"]:
            self.attempt(step, item["number"], _outcome_of(item))
        step.attempt = call.attempt = row["attempt"]
        if step.key is not None and row["key"] is not None:
            step.key.key = row["key"]
            step.key.fingerprint = row["fingerprint"]
            step.key.origin = row["origin"]
        outcome = _outcome_of(row)._replace(
            value=known.value, preview=row["preview"], names=self._names(known.value)
        )
        self.session.post(call.done, call, outcome)  # not at once: chains may be long

    def _names(self, value: Packed | None) -> tuple[str, ...]:
        if value is None or b"__main__" not in bytes(self.blobs.main_part(value)):
            return ()
        return main_names(self.blobs.main_part(value), sys.modules["__main__"].__dict__)


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


def plan_of(folder: str, seq: int) -> list[tuple[str, str, str]]:
    """What resuming a run would do: (step, "kept" or "performed", why), as far as records tell.

    Parameters
    ----------
    folder: of the store.
    seq: of the run.

    A step after one that is performed is listed as performed; it is kept if that gives the value
    that it gave.
    """
    connection = connect_to_read(folder)
    try:
        within = {"first": rows.step_id(seq, 0), "last": rows.step_id(seq + 1, 0)}
        found = fetch(connection, "steps_to_resume", **within)
        earlier = [_known(item) for item in fetch(connection, "earlier_steps", run=seq)]
    finally:
        connection.close()
    names = {row["id"] & 0xFFFFFFFF: row["name"] for row in found}
    for row in found:
        row["inputs"] = [names[p] for p in rows.unpack_positions(row["inputs"])]
    there = set(names.values())
    # Recorded before the last resumption, which did not come so far.
    found += [{**k.row, "value": k.value} for k in earlier if k.row["name"] not in there]
    codes = Codes()
    performed: dict[str, str] = {}
    told = []
    for row in found:
        why = _why_performed(row, codes, performed)
        if why:
            performed[row["name"]] = why
        told.append((row["name"], "performed" if why else "kept", why))
    return told


def _present_code(row: Row, codes: Codes) -> str | None:
    """The digest of a component's code as it is now."""
    try:
        found = find_recorded(row["module"], row["qualname"], row["file"])
    except ConfigError:
        return None
    return str(codes.of(getattr(found, "fn", found)).digest)


def _why_performed(row: Row, codes: Codes, performed: dict[str, str]) -> str:
    if row["state"] not in SUCCESS:
        return f"it is {row['state']}"
    if row["value"] == rows.UNRECORDED:
        return "its value could not be recorded"
    present = _present_code(row, codes)
    if present is None:
        return "its function is not found"
    if present != row["code"]:
        return "its code has changed"
    needs = [name for name in row["inputs"] if name in performed]
    return f"it needs {', '.join(needs)}" if needs else ""

"""How house-keeping reads and changes a store, and who else is at work there."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from pipedeco.errors import RunBusy, RunNotFound, StoreError
from pipedeco.graph import RUNNING
from pipedeco.process import CONTROLLER
from pipedeco.run import Run, find_run
from pipedeco.store.database import as_dicts, connect_to_read, queries
from pipedeco.store.owner import is_alive
from pipedeco.store.rows import step_id

Row = dict[str, Any]
Runs = Run | str | Iterable[Run | str]

SETTLING = 10.0  # seconds for which the file of a new lock may not be locked yet


# -- the database --------------------------------------------------------------------------


@contextmanager
def reading(folder: str) -> Iterator[sqlite3.Connection]:
    """The database as it is at one moment.  Raises StoreError where it cannot be read."""
    with closing(connect_to_read(folder)) as connection:
        try:
            connection.execute("begin")
            yield connection
        except sqlite3.Error as error:
            raise StoreError(
                f"the store {folder} cannot be read: {error}; check it with: pipedeco fsck"
            ) from error


@contextmanager
def writing(folder: str, *, keep: bool = True) -> Iterator[sqlite3.Connection]:
    """One transaction, committed at the end; with `keep=False` undone, to see what it would do.

    Raises StoreError where the database cannot be written.
    """
    with closing(connect_to_read(folder)) as connection:
        try:
            connection.execute("begin immediate")
            yield connection
            connection.execute("commit" if keep else "rollback")
        except sqlite3.Error as error:
            raise StoreError(
                f"the store {folder} cannot be written: {error}; nothing was changed"
            ) from error
        finally:
            if connection.in_transaction:
                connection.execute("rollback")


def run_query(connection: sqlite3.Connection, name: str, **parameters: Any) -> sqlite3.Cursor:
    return connection.execute(queries("housekeeping.sql")[name], parameters)


def fetch(connection: sqlite3.Connection, name: str, **parameters: Any) -> list[Row]:
    return as_dicts(run_query(connection, name, **parameters))


def span(seq: int) -> dict[str, int]:
    """A run's number and the ids that its steps lie between."""
    return {"seq": seq, "first": step_id(seq, 0), "last": step_id(seq + 1, 0)}


# -- runs ----------------------------------------------------------------------------------


def named_runs(runs: Runs, store: str | None) -> tuple[str, list[str]]:
    """The store and the ids of runs, given as handles or as names that `find_run` takes."""
    if isinstance(runs, Run | str):
        runs = [runs]
    found = [run if isinstance(run, Run) else find_run(run, store=store) for run in runs]
    if not found:
        raise RunNotFound("no run was named; list the runs with: pipedeco runs")
    folders = {run.store for run in found}
    if len(folders) > 1:
        raise StoreError("the runs are of several stores; name those of one store at a time")
    return folders.pop(), [run.id for run in found]


def find(connection: sqlite3.Connection, run: str) -> Row:
    found = fetch(connection, "run_facts", id=run)
    if not found:
        raise RunNotFound(f"there is no run {run!r} any more; list the runs with: pipedeco runs")
    return found[0]


def with_children(connection: sqlite3.Connection, runs: Iterable[Row]) -> list[Row]:
    """The runs and all that are steps of theirs, each once, parents first."""
    found: dict[int, Row] = {}
    waiting = list(runs)
    for row in waiting:  # which grows
        if row["seq"] not in found:
            found[row["seq"]] = row
            waiting += fetch(connection, "children", id=row["id"])
    return list(found.values())


def goes_on(folder: str, row: Row) -> bool:
    """Whether a living controller performs the run."""
    return row["status"] == RUNNING and is_alive(folder, row["owner"])


def refuse_living(folder: str, connection: sqlite3.Connection, runs: Iterable[Row]) -> None:
    """Raises RunBusy where one of the runs, or one that it is a step of, goes on."""
    for row in runs:
        for member in (row, *_ancestors(connection, row)):
            if goes_on(folder, member):
                raise RunBusy(
                    f"run {member['id']} of {member['pipeline']} goes on; wait for its end, or "
                    f"cancel it with: pipedeco cancel {member['id']}"
                )


def _ancestors(connection: sqlite3.Connection, row: Row) -> Iterator[Row]:
    known = {row["id"]}
    while row["parent_step"] is not None and row["parent_run"] not in known:
        found = fetch(connection, "run_facts", id=row["parent_run"])
        if not found:
            return
        row = found[0]
        known.add(row["id"])
        yield row


# -- controllers ---------------------------------------------------------------------------


def someone_lives(folder: str) -> bool:
    """Whether a controller is at work in the store; this process's own only while it has a run."""
    idle = _own_idle(folder)
    return any(name != idle and not _is_dead(folder, name) for name in _owners(folder))


def dead_locks(folder: str) -> list[str]:
    """The files that killed controllers left."""
    owners = os.path.join(folder, "owners")
    return [os.path.join(owners, name) for name in _owners(folder) if _is_dead(folder, name)]


def _owners(folder: str) -> list[str]:
    try:
        return os.listdir(os.path.join(folder, "owners"))
    except FileNotFoundError:
        return []


def _is_dead(folder: str, name: str) -> bool:
    try:
        age = time.time() - os.stat(os.path.join(folder, "owners", name)).st_mtime
    except FileNotFoundError:  # it has ended meanwhile
        return True
    # A file that has just been made is not asked: its owner may be about to lock it.
    return abs(age) > SETTLING and not is_alive(folder, name)


def _own_idle(folder: str) -> str | None:
    """The lock of this process where it performs no run; it is held until the process ends."""
    recorder = CONTROLLER.recorders.get(folder)
    if recorder is None or any(e.plan.store == folder for e in list(CONTROLLER.live)):
        return None
    return recorder.owner.name

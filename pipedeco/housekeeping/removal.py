"""Hiding runs and removing them."""

from __future__ import annotations

import math
import os
import re
import shutil
import time
from typing import TYPE_CHECKING, NamedTuple

from pipedeco.blobs import blobs_of
from pipedeco.config import find_store
from pipedeco.errors import ConfigError, StoreError
from pipedeco.graph import RUNNING
from pipedeco.housekeeping.access import (
    Row,
    Runs,
    fetch,
    find,
    goes_on,
    named_runs,
    refuse_living,
    run_query,
    span,
    with_children,
    writing,
)
from pipedeco.housekeeping.garbage import collect, logs_of, references, size_of, touch
from pipedeco.worker.unpacked import remove_unused

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_TABLES = (
    "rm_attempts",
    "rm_keys",
    "rm_steps",
    "rm_earlier",
    "rm_releases",
    "rm_components",
    "rm_reported",
    "rm_attachments",
    "rm_run",
)


class Gone(NamedTuple):
    """A run that was removed, or would be."""

    id: str
    name: str
    status: str
    started: float
    parent_run: str | None  # of a run that is a step: it follows its parent


class Pruned(NamedTuple):
    """What was removed, or would be.

    `freed`: bytes of the blobs and logs that these runs alone need.  (The database keeps its size
    and uses the room of removed rows again.)  `waiting`: of these, the bytes that stay for now, as
    a controller is at work in the store; the next removal that finds them old frees them.
    `unpacked`: bytes of the projects' code and the working directories that remote steps had on
    this machine, outside of the store.
    """

    runs: list[Gone]
    freed: int
    waiting: int = 0
    unpacked: int = 0


def archive(runs: Runs, *, store: str | None = None) -> list[str]:
    """Hide runs and their children; they serve no cache hits until they are unarchived.

    Parameters
    ----------
    runs: handles or names of runs.
    store: where names are looked up; by default the one that a run here would use.

    Returns the ids of the runs that were named.  Raises RunNotFound, RunBusy, StoreError.
    """
    return _set_archived(runs, store, 1)


def unarchive(runs: Runs, *, store: str | None = None) -> list[str]:
    """Show archived runs and their children again; see `archive`."""
    return _set_archived(runs, store, 0)


def _set_archived(runs: Runs, store: str | None, archived: int) -> list[str]:
    folder, ids = named_runs(runs, store)
    with writing(folder) as connection:
        chosen = with_children(connection, [find(connection, run) for run in ids])
        refuse_living(folder, connection, chosen)
        for row in chosen:
            run_query(connection, "set_archived", seq=row["seq"], archived=archived)
    return ids


def remove(runs: Runs, *, dry_run: bool = False, store: str | None = None) -> Pruned:
    """Remove runs with their children: records, cached values, logs, and blobs of nobody else.

    Parameters
    ----------
    runs: handles or names of runs.
    dry_run: change nothing, and tell what would be removed.
    store: where names are looked up; by default the one that a run here would use.

    A step of another run that took its value from the cache keeps it.
    Raises RunNotFound, RunBusy for a run that goes on, StoreError.
    """
    folder, ids = named_runs(runs, store)

    def choose(connection: sqlite3.Connection) -> list[Row]:
        chosen = with_children(connection, [find(connection, run) for run in ids])
        refuse_living(folder, connection, chosen)
        return chosen

    return _remove(folder, choose, dry_run)


def prune(
    pipeline: str | None = None,
    *,
    keep_last: int | None = None,
    older_than: str | float | None = None,
    interrupted: bool = False,
    dry_run: bool = False,
    store: str | None = None,
) -> Pruned:
    """Remove old runs that have ended, with their children.  Archived runs stay.

    What remote steps of this user have unpacked on this machine goes, too, where no run uses it.

    Parameters
    ----------
    pipeline: only runs of the pipeline of this name.
    keep_last: the newest of each pipeline that stay, whatever became of them.
    older_than: remove only what began so long ago: seconds, or text as "30d", "12h", "2w".
    interrupted: also runs whose controller died; they could be resumed.
    dry_run: change nothing, and tell what would be removed.
    store: the folder of the store; by default the one that a run here would use.

    Of `keep_last` and `older_than` at least one is needed; with both, both must hold.
    Raises ConfigError, StoreError.
    """
    if keep_last is None and older_than is None:
        raise ConfigError(
            "what to remove is not said; name --keep-last N, --older-than 30d, or both"
        )
    if keep_last is not None and keep_last < 0:
        raise ConfigError(f"--keep-last {keep_last} is below 0; name how many runs to keep")
    folder = find_store(store)
    before = math.inf if older_than is None else time.time() - parse_age(older_than)

    def choose(connection: sqlite3.Connection) -> list[Row]:
        return [
            row
            for family in _ended(connection, pipeline, keep_last or 0, before, interrupted)
            if not any(goes_on(folder, member) for member in family)
            for row in family
        ]

    pruned = _remove(folder, choose, dry_run)
    return pruned if dry_run else pruned._replace(unpacked=remove_unused())


def _ended(
    connection: sqlite3.Connection,
    pipeline: str | None,
    kept: int,
    before: float,
    interrupted: bool,
) -> Iterator[list[Row]]:
    """Old runs, each with its children; the newest `kept` of each pipeline are left out."""
    seen: dict[str, int] = {}
    for row in fetch(connection, "prunable", pipeline=pipeline):  # the newest first
        seen[row["pipeline"]] = seen.get(row["pipeline"], 0) + 1
        ended = row["status"] != RUNNING or interrupted
        if ended and seen[row["pipeline"]] > kept and row["started"] < before:
            yield with_children(connection, [row])


def parse_age(age: str | float) -> float:
    """Seconds from text as "30d", "12h", "2w", "1.5h"; a number is taken as it is."""
    if isinstance(age, str):
        found = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([smhdw])\s*", age, re.ASCII)
        if found is None:
            raise ConfigError(
                f"{age!r} is no age; write a number with s, m (minutes), h, d or w, as in 30d"
            )
        return float(found[1]) * _UNITS[found[2]]
    if not 0 <= age < math.inf:
        raise ConfigError(f"{age!r} is no age; name seconds, or text as 30d")
    return float(age)


def _remove(
    folder: str, choose: Callable[[sqlite3.Connection], list[Row]], dry_run: bool
) -> Pruned:
    """Remove in one transaction the runs that are chosen in it; then their files."""
    blobs = blobs_of(folder)
    with writing(folder, keep=not dry_run) as connection:
        doomed = choose(connection)
        own: set[str] = set()
        for row in doomed:
            own.update(d for (d,) in run_query(connection, "digests_of_run", **span(row["seq"])))
        _remove_rows(connection, doomed)
        alone = own - references(connection)
        logs = [logs_of(folder, row["id"]) for row in doomed]
        freed = sum(map(size_of, logs)) + sum(size_of(blobs.path(digest)) for digest in alone)
        if not dry_run:
            touch(blobs, alone)  # before others can see that nothing refers to them
    waiting = 0
    if not dry_run:
        _remove_logs(logs)
        collect(folder)
        waiting = sum(size_of(blobs.path(digest)) for digest in alone)
    return Pruned([_gone(row) for row in doomed], freed, waiting)


def _gone(row: Row) -> Gone:
    return Gone(
        row["id"],
        f"{row['pipeline']}#{row['number']}",
        "interrupted" if row["status"] == RUNNING else row["status"],
        row["started"],
        row["parent_run"] if row["parent_step"] is not None else None,
    )


def _remove_rows(connection: sqlite3.Connection, doomed: list[Row]) -> None:
    run_query(connection, "make_doomed")
    for row in doomed:
        run_query(connection, "doom", seq=row["seq"])
        for statement in _TABLES:
            run_query(connection, statement, **span(row["seq"]))
    run_query(connection, "rm_cached")
    if doomed:
        run_query(connection, "rm_sources")


def _remove_logs(folders: list[str]) -> None:
    for folder in folders:
        try:
            if os.path.isdir(folder):
                shutil.rmtree(folder)
        except OSError as error:
            raise StoreError(
                f"{folder} cannot be deleted: {error.strerror}; the records are in order, and the "
                "next removal tries again"
            ) from error

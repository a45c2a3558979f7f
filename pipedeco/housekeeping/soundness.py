"""Whether a store is whole: its database, its blobs, its logs, and what others left behind."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from pipedeco.blobs import BlobStore, blobs_of
from pipedeco.config import find_store
from pipedeco.errors import BlobCorrupt, StoreError
from pipedeco.housekeeping.access import dead_locks, fetch, goes_on, reading, run_query, writing
from pipedeco.housekeeping.garbage import (
    DIGEST,
    collect,
    find_garbage,
    logs_of,
    references,
    size_of,
)
from pipedeco.store.database import database_path
from pipedeco.store.rows import unpack_logs
from pipedeco.text import data_size

_AGAIN = "the step is performed again when its pipeline is run again, or pipedeco rm the run"
_ORPHANS = {
    "steps_without_run": "steps belong to no run",
    "steps_without_component": "steps name a component that is not there",
    "components_without_run": "components belong to no run",
    "reported_without_run": "reports belong to no run",
    "attempts_without_step": "attempts belong to no step",
    "keys_without_step": "cache keys belong to no step",
    "earlier_without_run": "earlier records belong to no run",
    "missing_sources": "texts of code are named and not there",
}
_COPY = "copy the folder away, and export what can still be read with: pipedeco export RUN FILE.zip"


class Finding(NamedTuple):
    """Something that a check found.

    `kind`: database, records, cache, blob, log, lock, garbage.  `damaged`: whether something is
    lost or wrong, rather than merely lying about.
    """

    kind: str
    text: str
    advice: str
    damaged: bool = True

    def __str__(self) -> str:
        return f"{self.text}; {self.advice}"


def check(store: str | None = None) -> list[Finding]:
    """Look at everything in a store; nothing is changed.

    Parameters
    ----------
    store: the folder of the store; by default the one that a run here would use.

    Raises StoreError where there is no store, or one of another version.
    """
    folder = find_store(store)
    try:
        found = list(_check_database(folder))
    except sqlite3.DatabaseError as error:
        return [_unreadable(folder, error)]
    for look in (_check_records, _check_blobs, _check_logs, _check_leftovers):
        try:
            found += look(folder)
        except StoreError as error:  # a part of the database that cannot be read
            if not isinstance(error.__cause__, sqlite3.DatabaseError):
                raise
            if not any(finding.kind == "database" for finding in found):
                found.append(_unreadable(folder, error.__cause__))
    return found


def repair(store: str | None = None) -> list[str]:
    """Remove cache rows without a step, locks of dead processes, and files that nobody needs.

    Returns what was done, in sentences.  What is lost cannot be brought back.
    Raises StoreError where there is no store, or one that cannot be read.
    """
    folder = find_store(store)
    done = []
    with writing(folder) as connection:
        count = run_query(connection, "rm_dangling_cached").rowcount
    if count:
        done.append(f"removed {count} cache rows without a step")
    locks = dead_locks(folder)
    for lock in locks:
        os.unlink(lock)
    if locks:
        done.append(f"removed {len(locks)} lock files of processes that died")
    garbage = collect(folder)
    if garbage:
        size = data_size(sum(left.size for left in garbage))
        done.append(f"removed {len(garbage)} files and folders that nothing refers to, {size}")
    return done


def _unreadable(folder: str, error: BaseException | None) -> Finding:
    path = database_path(folder)
    return Finding("database", f"the database {path} is damaged: {error}", _COPY)


def _check_database(folder: str) -> Iterator[Finding]:
    path = database_path(folder)
    try:
        with reading(folder) as connection:
            told = [text for (text,) in connection.execute("pragma integrity_check")]
    except StoreError as error:
        if isinstance(error.__cause__, sqlite3.DatabaseError):
            raise error.__cause__ from None
        raise
    if told != ["ok"]:
        lines = [line.strip() for text in told for line in str(text).splitlines()]
        more = f" (and {len(lines) - 3} more)" if len(lines) > 3 else ""
        yield Finding(
            "database", f"the database {path} is damaged: {', '.join(lines[:3])}{more}", _COPY
        )


def _check_records(folder: str) -> Iterator[Finding]:
    with reading(folder) as connection:
        for query, text in _ORPHANS.items():
            count = run_query(connection, query).fetchone()[0]
            if count:
                yield Finding("records", f"{count} {text}", "they are not shown; " + _COPY)
        count = run_query(connection, "cached_without_step").fetchone()[0]
    if count:
        yield Finding(
            "cache",
            f"{count} cache rows name a step that is not there",
            "remove them with: pipedeco fsck --repair",
        )


# -- blobs ---------------------------------------------------------------------------------


def _check_blobs(folder: str) -> Iterator[Finding]:
    holders: dict[str, str] = {}
    with reading(folder) as connection:
        for what, digest in run_query(connection, "holders"):
            holders.setdefault(digest, what)
    blobs = blobs_of(folder)
    wrong = {}
    for digest in holders:
        why = _fault(blobs, digest)
        if why is not None:
            wrong[digest] = why
    if not wrong:
        return
    with reading(folder) as connection:  # a run may have been removed meanwhile
        still = references(connection)
    for digest in sorted(wrong.keys() & still):
        yield Finding("blob", f"{holders[digest]} cannot be read: {wrong[digest]}", _AGAIN)


def _fault(blobs: BlobStore, digest: str) -> str | None:
    """Why a blob is not what it should be; None where it is."""
    if not DIGEST.fullmatch(digest):
        return f"{digest[:80]!r} is no digest"
    if not blobs.is_here(digest) and blobs.is_there(digest):
        return None  # its digest is checked by whoever fetches it
    try:
        blobs.get(digest, verify=True)
    except BlobCorrupt as error:
        return str(error).removeprefix("a recorded value cannot be read: ").partition(";")[0]
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    return None


# -- logs ----------------------------------------------------------------------------------


def _check_logs(folder: str) -> Iterator[Finding]:
    """A line for each file that is too short for what its steps wrote."""
    short: dict[str, str] = {}
    sizes: dict[str, int] = {}
    with reading(folder) as connection:
        for row in fetch(connection, "logs"):
            if goes_on(folder, row):
                continue
            for path, end in _parts(folder, row["id"], row["logs"]):
                if path not in sizes:
                    sizes[path] = size_of(path)
                if end > sizes[path]:
                    short.setdefault(path, f"step {row['name']} of run {row['id']}")
    for path, step in short.items():
        yield Finding(
            "log",
            f"the log {path} ends before what {step} wrote",
            "its end is lost; the values are not",
        )


def _parts(folder: str, run: str, text: str) -> Iterator[tuple[str, int]]:
    """The files in which a step's output stands, and up to where it reaches."""
    try:
        logs = unpack_logs(text)
        assert logs is not None
        base = os.path.join(logs_of(folder, run), logs.name)
    except (ValueError, TypeError, StoreError):
        yield os.path.join(folder, "logs", f"{run}: {text[:80]!r}"), 1  # of no file there
        return
    yield f"{base}.out", max(logs.out_start, logs.out_end)
    yield f"{base}.err", max(logs.err_start, logs.err_end)
    yield f"{base}.events", max(logs.events_start, logs.events_end)


# -- what lies about -----------------------------------------------------------------------


def _check_leftovers(folder: str) -> Iterator[Finding]:
    advice = "remove them with: pipedeco fsck --repair"
    texts = {
        "blob": "blobs that nothing refers to",
        "log": "folders of logs that belong to no run",
        "temporary": "files that were never finished",
    }
    garbage = find_garbage(folder)
    for kind, text in texts.items():
        found = [leftover.size for leftover in garbage if leftover.kind == kind]
        if found:
            told = f"{len(found)} {text}, {data_size(sum(found))}"
            yield Finding("garbage", told, advice, damaged=False)
    locks = dead_locks(folder)
    if locks:
        told = f"{len(locks)} lock files of processes that died"
        yield Finding("lock", told, advice, damaged=False)

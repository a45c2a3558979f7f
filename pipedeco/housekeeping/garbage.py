"""Files that no record refers to: which they are, and when they may be deleted.

Somebody may be about to refer to a file that no record names yet: a value is written before the
step that made it is recorded, and a cached step takes over the blob of a run that is removed at
this moment.  Therefore:

1.  The files are listed first, then it is asked who lives, then the references are read.  A
    controller that began later wrote its files later, and `put` makes a file young that is there: a
    file that is not as it was listed any more stays.
2.  While a controller is at work, nothing is deleted that is younger than an hour, or than its
    oldest run.  Removing a run makes its blobs young (`touch`) before they lose their references,
    so that an hour passes for whoever has just found one in the cache.

What stays is found by the next collection.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from pipedeco import events
from pipedeco.blobs import BlobStore
from pipedeco.errors import StoreError
from pipedeco.housekeeping.access import fetch, goes_on, reading, run_query, someone_lives
from pipedeco.housekeeping.elsewhere import collect_elsewhere

if TYPE_CHECKING:
    import sqlite3

GRACE = 3600.0  # seconds
MARGIN = 60.0  # before a run's start; the clock of a file system may differ from ours
DIGEST = re.compile(r"[0-9a-f]{64}")
_TEMPORARY = re.compile(r"(writing|removing)-[0-9a-f-]+")
_EXCHANGE = re.compile(r"([0-9a-f]{12}|doctor)-[0-9a-f]{8}")
_STAGING = re.compile(r"importing-[0-9a-f-]+")


class Leftover(NamedTuple):
    """A file or folder that nothing refers to; `kind` is blob, log or temporary."""

    kind: str
    path: str
    size: int
    identity: tuple[int, int]  # inode and time of the last change
    changed: float


def logs_of(folder: str, run: str) -> str:
    """The folder of a run's logs; the id may come from a damaged store."""
    if not re.fullmatch(r"[\w-]+", run):
        raise StoreError(f"{run!r} is not the id of a run; check the store with: pipedeco fsck")
    return os.path.join(folder, "logs", run)


def references(connection: sqlite3.Connection) -> set[str]:
    """The digests of all blobs that are recorded somewhere.

    A pickle names no blob: a value that is too large to be a row is one blob as a whole.
    """
    return {digest for (digest,) in run_query(connection, "digests")}


def touch(blobs: BlobStore, digests: Iterable[str]) -> None:
    """Make blobs young."""
    for digest in digests:
        try:
            os.utime(blobs.path(digest))
        except FileNotFoundError:
            pass


def collect(folder: str) -> list[Leftover]:
    """Delete what nothing refers to and may be deleted; tells what it was."""
    garbage = find_garbage(folder)
    try:
        for leftover in garbage:
            _delete(folder, leftover)
    except OSError as error:
        raise StoreError(
            f"{error.filename} cannot be deleted: {error.strerror}; the records are in order, and "
            "the next removal tries again"
        ) from error
    collect_elsewhere(folder, lambda connection: _known(folder, connection))
    return garbage


def find_garbage(folder: str) -> list[Leftover]:
    """What nothing refers to and may be deleted."""
    listed = list(_files(folder))  # before anything is asked: see above
    alive = someone_lives(folder)
    with reading(folder) as connection:
        known = _known(folder, connection)
        known.update(f"run {run}" for (run,) in run_query(connection, "run_ids"))
        horizon = _horizon(folder, connection) if alive else math.inf
    return [left for name, left in listed if name not in known and left.changed < horizon]


def _known(folder: str, connection: sqlite3.Connection) -> set[str]:
    """The digests that are recorded somewhere, or will be."""
    known = references(connection)
    for row in fetch(connection, "running"):  # and interrupted ones: told of at their end
        known.update(events.blobs_of(logs_of(folder, row["id"])))
    return known


def _horizon(folder: str, connection: sqlite3.Connection) -> float:
    """Before when a file was changed that may be deleted while a controller is at work."""
    rows = [row for row in fetch(connection, "running") if goes_on(folder, row)]
    return min(time.time() - GRACE, *(float(row["started"]) - MARGIN for row in rows), math.inf)


# -- files ---------------------------------------------------------------------------------


def _files(folder: str) -> Iterator[tuple[str, Leftover]]:
    """Every file that might be garbage, and what a record that needs it would name."""
    for entry in _entries(folder):
        if _STAGING.fullmatch(entry.name):
            yield from _one(entry, "temporary", "")
    for entry in _entries(os.path.join(folder, "blobs")):
        yield from _blob_files(entry)
    for entry in _entries(os.path.join(folder, "files")):  # copies of blobs, under their names
        if DIGEST.fullmatch(entry.name):
            yield from _one(entry, "temporary", entry.name)
    for entry in _entries(os.path.join(folder, "remote")):  # a killed controller has left them
        if _EXCHANGE.fullmatch(entry.name):
            yield from _one(entry, "temporary", "")
    for entry in _entries(os.path.join(folder, "logs")):
        yield from _one(entry, "log", f"run {entry.name}")


def _blob_files(entry: os.DirEntry[str]) -> Iterator[tuple[str, Leftover]]:
    """What stands in a folder of the folder of blobs."""
    if _TEMPORARY.fullmatch(entry.name):
        yield from _one(entry, "temporary", "")
    elif len(entry.name) == 2 and entry.is_dir(follow_symlinks=False):
        for blob in _entries(entry.path):
            if DIGEST.fullmatch(blob.name):
                yield from _one(blob, "blob", blob.name)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []


def _one(entry: os.DirEntry[str], kind: str, name: str) -> Iterator[tuple[str, Leftover]]:
    try:
        stat = entry.stat(follow_symlinks=False)
        size = size_of(entry.path)
    except FileNotFoundError:  # it was temporary indeed
        return
    yield (
        name,
        Leftover(kind, entry.path, size, (stat.st_ino, stat.st_mtime_ns), stat.st_mtime),
    )


def size_of(path: str) -> int:
    """Bytes of a file, or of all files below a folder; 0 where there is none."""
    if not os.path.isdir(path):
        return os.lstat(path).st_size if os.path.lexists(path) else 0
    return sum(
        os.lstat(os.path.join(above, name)).st_size
        for above, _, names in os.walk(path)
        for name in names
    )


def _delete(folder: str, leftover: Leftover) -> None:
    if leftover.kind == "blob":
        _delete_blob(folder, leftover)
    elif os.path.isdir(leftover.path):
        shutil.rmtree(leftover.path)
    else:
        _unlink(leftover.path)


def _delete_blob(folder: str, leftover: Leftover) -> None:
    """Delete a blob unless somebody has written it again since it was listed."""
    aside = os.path.join(folder, "blobs", f"removing-{os.getpid()}-{os.urandom(8).hex()}")
    try:
        os.rename(leftover.path, aside)
    except FileNotFoundError:  # somebody else collects, too
        return
    stat = os.stat(aside)
    if (stat.st_ino, stat.st_mtime_ns) != leftover.identity:
        os.rename(aside, leftover.path)
    else:
        _unlink(aside)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass

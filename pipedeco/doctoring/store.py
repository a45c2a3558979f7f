"""Can the store be written, read and locked, and is it one that this pipedeco knows?"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from pipedeco.blobs import BlobStore
from pipedeco.doctoring.lines import ERROR, OK, WARNING, Line
from pipedeco.errors import PipedecoError
from pipedeco.store.database import VERSION, connect_to_read, database_path
from pipedeco.text import data_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipedeco.doctoring.scratch import Scratch

STORE = "store"
BLOBS = "blobs"
BUSY = 5000  # milliseconds to wait for who writes just now
SMALL = 10**9  # bytes that are soon full
MOUNTS = "/proc/self/mountinfo"
# File systems of a network, on which one machine does not see the shared memory of another.
SHARED = frozenset({
    "nfs", "nfs3", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs",
    "glusterfs", "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone",
})  # fmt: skip
_ELSEWHERE = "set PIPEDECO_STORE, or configure(store=...), to a folder that you may write"


class _Mount(NamedTuple):
    folder: str
    kind: str


def look_at_store(scratch: Scratch) -> Iterator[Line]:
    """The line of the store, and one for each thing that is not well with it."""
    if scratch.trouble:
        yield Line(STORE, ERROR, f"it cannot be written: {scratch.trouble}", _ELSEWHERE)
        return
    try:
        _try_database(scratch)
        _try_blob(scratch)
        known = _try_own_database(scratch.store)
    except (PipedecoError, OSError, sqlite3.Error) as error:
        yield Line(
            STORE, ERROR, f"{scratch.store} does not keep what is written: {error}", _advice(error)
        )
        return
    free = shutil.disk_usage(scratch.store).free
    text = f"{scratch.store}, {known}, can be written and read, {data_size(free)} free"
    yield Line(STORE, OK, text)
    yield from _troubles(scratch, free)


def look_at_blobs(scratch: Scratch) -> Iterator[Line]:
    """The line of the object store, where the settings name one."""
    if scratch.distance:
        yield Line(BLOBS, ERROR, scratch.distance, "remote mode needs it; local mode does not")
    elif scratch.objects is not None:
        url = os.path.dirname(scratch.objects.url)
        yield Line(BLOBS, OK, f"{url} can be written and read")


def _advice(error: Exception) -> str:
    """A sentence of ours says itself what to do."""
    if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
        return f"a process has held its database for {BUSY / 1000:g} s: see who writes there"
    return "" if isinstance(error, PipedecoError) else _ELSEWHERE


def _troubles(scratch: Scratch, free: int) -> Iterator[Line]:
    if free < SMALL:
        advice = "free some with: pipedeco prune --older-than 30d"
        yield Line(STORE, WARNING, f"only {data_size(free)} are free", advice)
    mount = find_mount(scratch.store)
    if mount.kind in SHARED:
        yield Line(
            STORE, WARNING, f"it lies on {mount.kind} ({mount.folder})",
            "let only one machine start runs and read them, as its database shares memory among "
            "processes; workers elsewhere may use it",
        )  # fmt: skip
    if not _locks(scratch):
        yield Line(
            STORE, ERROR, "two processes can lock one file at once on this file system",
            "put the store on another one, with PIPEDECO_STORE",
        )  # fmt: skip
    mode = os.stat(scratch.store).st_mode & 0o077
    if mode & 0o022:
        yield Line(
            STORE, WARNING, "others can write into it, and whoever reads what they write runs it",
            f"take that away with: chmod go-rwx {scratch.store}",
        )  # fmt: skip


def _try_database(scratch: Scratch) -> None:
    """Write a row in one connection and read it in another, as runs and commands do."""
    path = scratch.place("trial.db")
    writer = sqlite3.connect(path, isolation_level=None)
    try:
        writer.execute("pragma journal_mode = wal")
        writer.execute("pragma synchronous = full")
        writer.execute("create table trial (word text)")
        writer.execute("insert into trial values (?)", (scratch.hello,))
        reader = sqlite3.connect(path)
        try:
            found = reader.execute("select word from trial").fetchall()
        finally:
            reader.close()
    finally:
        writer.close()
    if found != [(scratch.hello,)]:
        raise OSError(f"a row that was written to {path} is not there")


def _try_blob(scratch: Scratch) -> None:
    blobs = BlobStore(scratch.place("blobs"))
    content = scratch.hello.encode()
    digest = blobs.put([content])
    if bytes(blobs.get(digest, verify=True)[0]) != content:
        raise OSError(f"a value that was written to {blobs.folder} is another one")


def _try_own_database(store: str) -> str:
    """Write into the database that is there, and undo it; what is to be said of it."""
    if not os.path.exists(database_path(store)):
        return f"to be made by the first run (schema {VERSION})"
    connection = connect_to_read(store)  # checks the schema
    try:
        connection.execute(f"pragma busy_timeout = {BUSY}")
        connection.execute("begin immediate")
        connection.execute("create table doctor_trial (word text)")
        connection.execute("rollback")
        count = connection.execute("select count(*) from run").fetchone()[0]
    finally:
        connection.close()
    return f"schema {VERSION}, {count:,} run{'s' * (count != 1)}"


def _locks(scratch: Scratch) -> bool:
    """Whether a lock of one keeps another out."""
    path = scratch.place("lock")
    with open(path, "wb") as first, open(path, "wb") as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def find_mount(folder: str, mounts: str = MOUNTS) -> _Mount:
    """The mount that a folder lies on; of no kind where the system does not tell."""
    folder = os.path.realpath(folder)
    best = _Mount("", "")
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:  # no Linux
        return best
    for line in lines:
        left, _, right = line.partition(" - ")
        fields, kinds = left.split(" "), right.split(" ")
        if len(fields) < 5:
            continue
        place = fields[4].replace("\\040", " ")
        inside = folder == place or folder.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best.folder):  # of two in one place the later one counts
            best = _Mount(place, kinds[0])
    return best

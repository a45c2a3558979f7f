"""A zip file that `export` wrote, as a run of this store.

The file may come from anywhere, so nothing in it is believed: its names must be those that
`export` gives, each once; sizes are limited; blobs and texts must have the digests that they are
named by; columns must have their types; and no path is made of a text in it that is not checked.
Everything is unpacked into a folder of its own first, and becomes part of the store in one
transaction.  What is *in* the pickled values is not looked at: loading them executes code, so
importing a run means trusting whoever made the file.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import shutil
import sqlite3
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import IO, Any, NamedTuple

from pipedeco.blobs import BlobStore, blobs_of, hasher_for, make_private
from pipedeco.config import find_store
from pipedeco.errors import StoreError
from pipedeco.housekeeping.access import Row, run_query, writing
from pipedeco.housekeeping.garbage import DIGEST, collect, logs_of
from pipedeco.housekeeping.packing import CHUNK, FORMAT, LOG, MANIFEST, PACKED, ROWS, TABLES
from pipedeco.store.database import VERSION, connect
from pipedeco.store.owner import OwnerLock
from pipedeco.store.rows import SHIFT, step_id

LIMIT = 64 * 10**9  # bytes of everything, unpacked
LINE = 64 * 2**20  # bytes of a row; its values are at most 64 KiB, its texts rarely long
MANIFEST_LIMIT = 2**16
MOST_FILES = 1_000_000

_ID = re.compile(r"[0-9a-f]{6,64}")
_LOGS = re.compile(r"[\w-][\w.-]*( -?\d{1,18}){7}", re.ASCII)
_POSITION = (1 << SHIFT) - 1
_TYPES: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "real": (int, float),
    "text": (str,),
    "blob": (bytes,),
    "any": (bytes, str),
}
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Imported(NamedTuple):
    """A run that was imported; `was` is the name that it had where it came from."""

    id: str
    name: str
    was: str


def import_run(path: str, *, store: str | None = None, limit: int = LIMIT) -> str:
    """Add the run of a zip file that `export` wrote; returns its id, which stays the same.

    Parameters
    ----------
    path: the file.
    store: the folder of the store; by default the one that a run here would use.
    limit: how many bytes everything in it may be when unpacked.

    Only import what you trust as you trust code: values are pickles, and reading them executes
    what they say.  Where the run's number is taken, it gets the next one of its pipeline.  Its
    steps serve no cache hits.

    Raises StoreError where the file is damaged, is not one that `export` wrote, is too large, or
    where the run is in the store already.
    """
    return import_file(path, store=store, limit=limit).id


def import_file(path: str, *, store: str | None = None, limit: int = LIMIT) -> Imported:
    """As `import_run`, with the run's names."""
    folder = find_store(store)
    with _opened(path) as source:
        run, files = _inspect(source, limit)
        connect(folder).close()  # makes the store if need be
        lock = OwnerLock(folder)  # so that nobody takes our blobs for garbage
        staging = os.path.join(folder, f"importing-{lock.name}")
        whole = False
        try:
            imported = _Import(folder, staging, source, run, files).perform()
            whole = True
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            lock.release()
            if not whole:
                collect(folder)
    return imported


@contextmanager
def _opened(path: str) -> Iterator[zipfile.ZipFile]:
    """The zip file; whatever is wrong with it, raised from reading it too, is a StoreError."""
    try:
        with zipfile.ZipFile(path) as source:
            yield source
    except (
        zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError,
        ValueError, KeyError,
    ) as error:  # fmt: skip
        raise StoreError(
            f"{path} cannot be imported: it is damaged, or not a file that pipedeco export wrote "
            f"({error})"
        ) from error
    except OSError as error:
        raise StoreError(f"{path} cannot be imported: {error.strerror or error}") from error


def _inspect(source: zipfile.ZipFile, limit: int) -> tuple[str, list[zipfile.ZipInfo]]:
    """The id of the run, and the files beside the rows; nothing is unpacked yet."""
    infos = source.infolist()
    names = {info.filename for info in infos}
    if len(names) != len(infos) or len(infos) > MOST_FILES:
        raise ValueError("it names a file twice, or has too many")
    for info in infos:
        if info.compress_type not in _METHODS or info.flag_bits & 1:
            raise ValueError(f"{info.filename!r} is packed in another way")
    size = sum(info.file_size for info in infos)
    if size > limit:
        raise StoreError(
            f"{source.filename} cannot be imported: unpacked it has {size:,} bytes, and the limit "
            f"is {limit:,}; raise it with --limit if you trust the file"
        )
    files = [info for info in infos if info.filename not in (MANIFEST, ROWS)]
    for info in files:
        _parsed(info.filename)
    return _read_manifest(source), files


def _read_manifest(source: zipfile.ZipFile) -> str:
    with source.open(MANIFEST) as file:
        manifest = json.loads(file.read(MANIFEST_LIMIT))
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError("its manifest is of another format")
    if manifest.get("schema") != VERSION:
        raise StoreError(
            f"{source.filename} cannot be imported: it was exported by another version of pipedeco "
            f"(schema {manifest.get('schema')!r}, this one knows {VERSION})"
        )
    run = manifest.get("run")
    if not isinstance(run, str) or not _ID.fullmatch(run):
        raise ValueError("its manifest names no run")
    return run


def _parsed(name: str) -> tuple[str, str, str]:
    """("blobs", digest, "") or ("logs", run, file); ValueError for any other name."""
    kind, _, rest = name.partition("/")
    if kind == "blobs" and DIGEST.fullmatch(rest):
        return kind, rest, ""
    run, _, log = rest.partition("/")
    if kind == "logs" and _ID.fullmatch(run) and LOG.fullmatch(log):
        return kind, run, log
    raise ValueError(f"it has a file of the name {name[:80]!r}")


class _Import:
    """One import: unpack, insert, put in place, commit."""

    def __init__(
        self,
        folder: str,
        staging: str,
        source: zipfile.ZipFile,
        run: str,
        files: list[zipfile.ZipInfo],
    ) -> None:
        self.folder = folder
        self.staging = staging
        self.source = source
        self.run = run
        self.files = files
        self.blobs: set[str] = set()
        self.logs: set[str] = set()

    def perform(self) -> Imported:
        with closing(connect(self.folder)) as connection:
            if _is_known(connection, self.run):
                raise _known(self.run)
        self._unpack()
        return self._commit()

    # -- files -----------------------------------------------------------------------------

    def _unpack(self) -> None:
        for kind in ("blobs", "logs"):
            make_private(os.path.join(self.staging, kind))
        for info in self.files:
            kind, name, log = _parsed(info.filename)
            with self.source.open(info) as packed:
                if kind == "blobs":
                    self._unpack_blob(packed, name)
                else:
                    make_private(os.path.join(self.staging, "logs", name))
                    self.logs.add(name)
                    _copy(packed, os.path.join(self.staging, "logs", name, log), None)

    def _unpack_blob(self, packed: IO[bytes], digest: str) -> None:
        hasher = hasher_for(CHUNK)
        _copy(packed, os.path.join(self.staging, "blobs", digest), hasher)
        if hasher.hexdigest() != digest:
            raise ValueError(f"the blob {digest} is not what its name says")
        self.blobs.add(digest)

    def _commit(self) -> Imported:
        """Insert the rows, put the files in place, and make it all count at once."""
        placed: list[str] = []
        try:
            with writing(self.folder) as connection:
                rows = _Rows(connection, self.run, self.blobs)
                with self.source.open(ROWS) as lines:
                    rows.insert_all(lines)
                if not self.logs <= set(rows.ids):
                    raise ValueError("it has logs of a run that it does not have")
                self._place_blobs(blobs_of(self.folder), rows.digests)
                self._place_logs(placed)
        except BaseException:
            for folder in placed:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        return Imported(self.run, rows.name, rows.was)

    def _place_blobs(self, blobs: BlobStore, digests: set[str]) -> None:
        for digest in sorted(digests):
            make_private(os.path.dirname(blobs.path(digest)))
            os.rename(os.path.join(self.staging, "blobs", digest), blobs.path(digest))
            blobs.sync(digest)

    def _place_logs(self, placed: list[str]) -> None:
        make_private(os.path.join(self.folder, "logs"))
        for run in sorted(self.logs):
            final = logs_of(self.folder, run)
            if os.path.isdir(final):  # of a run that was removed
                shutil.rmtree(final)
            placed.append(final)
            os.rename(os.path.join(self.staging, "logs", run), final)


def _copy(packed: IO[bytes], path: str, hasher: Any) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        while chunk := packed.read(CHUNK):
            if hasher is not None:
                hasher.update(chunk)
            file.write(chunk)


def _is_known(connection: sqlite3.Connection, run: str) -> bool:
    return run_query(connection, "run_facts", id=run).fetchone() is not None


def _known(run: str) -> StoreError:
    return StoreError(f"run {run} is in the store already; look at it with: pipedeco show {run}")


# -- rows ----------------------------------------------------------------------------------


class _Column(NamedTuple):
    name: str
    types: tuple[type, ...]
    required: bool


class _Rows:
    """The rows of the file as rows of this store, under numbers that are free here."""

    def __init__(self, connection: sqlite3.Connection, run: str, blobs: set[str]) -> None:
        self.connection = connection
        self.run = run
        self.blobs = blobs
        self.digests: set[str] = set()  # that the rows refer to
        self.ids: list[str] = []
        self.name = self.was = ""
        self._seqs: dict[int, int] = {}  # there -> here
        self._columns = {name: _columns(connection, name) for name in (*TABLES, "source")}

    def insert_all(self, lines: IO[bytes]) -> None:
        while line := lines.readline(LINE + 1):
            if len(line) > LINE:
                raise ValueError(f"a row has more than {LINE:,} bytes")
            parsed = json.loads(line)  # nested too deeply: RecursionError, a RuntimeError
            if not isinstance(parsed, list) or len(parsed) != 2 or not isinstance(parsed[0], str):
                raise ValueError("a row is written in another form")
            table, row = parsed
            if table not in self._columns:
                raise ValueError(f"it has rows of a table {table[:80]!r}")
            self._insert(table, self._decoded(table, row))
        if not self.ids:
            raise ValueError(f"it has no row of run {self.run}")

    def _decoded(self, table: str, row: Any) -> Row:
        """The row with the types that its columns must have."""
        columns = self._columns[table]
        if not isinstance(row, dict) or row.keys() != {column.name for column in columns}:
            raise ValueError(f"a row of {table} has other columns")
        found = {column.name: _value(table, column, row[column.name]) for column in columns}
        for name in PACKED.get(table, ()):
            digest = found[name]
            if isinstance(digest, str):
                if digest not in self.blobs:
                    raise ValueError(f"it lacks the blob {digest[:80]!r}")
                self.digests.add(digest)
        logs = found.get("logs")
        if logs is not None and not _LOGS.fullmatch(logs):
            raise ValueError(f"a row of {table} names logs in another form")
        return found

    def _insert(self, table: str, row: Row) -> None:
        if table == "source":
            self._insert_source(row)
            return
        if table == "run":
            there = row.pop("seq")
            self._seqs[there] = self._put("run", self._as_run(row))
            return
        for name in ("run", "step", "id", "origin"):
            if name in row:
                row[name] = self._here(name, row[name])
        if table == "step" and row["id"] >> SHIFT != row["run"]:
            raise ValueError("a step is of another run than its id says")
        self._put(table, row)

    def _here(self, name: str, number: int | None) -> int | None:
        """The number of a run, or the id of a step, in this store."""
        if name == "run":
            return self._seqs[number or 0]
        if name == "origin" and (number is None or number >> SHIFT not in self._seqs):
            return None  # the value came from a run that is not in the file
        assert number is not None
        return step_id(self._seqs[number >> SHIFT], number & _POSITION)

    def _as_run(self, row: Row) -> Row:
        """A run as it is here: under a number that is free, and nobody's."""
        run = row["id"]
        if not _ID.fullmatch(run) or not self._belongs(row) or not 0 < row["number"] < 10**9:
            raise ValueError(f"its run {run[:80]!r} is not the one that it is of, or a child")
        if _is_known(self.connection, run):
            raise _known(run)
        was = f"{row['pipeline']}#{row['number']}"
        row["number"] = self._free_number(row["pipeline"], row["number"])
        if not self.ids:
            self.was, self.name = was, f"{row['pipeline']}#{row['number']}"
            if row["parent_run"] is None or not _is_known(self.connection, row["parent_run"]):
                row["parent_step"] = None  # without its parent it stands for itself
        self.ids.append(run)
        return {**row, "owner": "imported", "cancel": None}

    def _belongs(self, row: Row) -> bool:
        """Whether a run is the one that was exported, which comes first, or a step of one."""
        if not self.ids:
            return bool(row["id"] == self.run)
        return row["parent_step"] is not None and row["parent_run"] in self.ids

    def _free_number(self, pipeline: str, number: int) -> int:
        taken = {"pipeline": pipeline, "number": number}
        if run_query(self.connection, "number_is_taken", **taken).fetchone() is None:
            return number
        return int(run_query(self.connection, "next_number", pipeline=pipeline).fetchone()[0])

    def _insert_source(self, row: Row) -> None:
        hasher = hasher_for(len(row["text"]))
        hasher.update(row["text"].encode())
        if hasher.hexdigest() == row["digest"]:
            run_query(self.connection, "put_source", **row)
        elif "\ufffd" not in row["text"]:  # there, a character was no text at all
            raise ValueError(f"the text of code {row['digest'][:80]!r} is not what its name says")

    def _put(self, table: str, row: Row) -> int:
        names = ", ".join(f'"{name}"' for name in row)
        marks = ", ".join("?" * len(row))
        statement = f'insert into "{table}" ({names}) values ({marks})'  # noqa: S608 - names of our schema
        try:
            return self.connection.execute(statement, list(row.values())).lastrowid or 0
        except sqlite3.IntegrityError as error:
            raise ValueError(f"its rows contradict each other: {error}") from error


def _columns(connection: sqlite3.Connection, table: str) -> list[_Column]:
    found = connection.execute(f"pragma table_info({table})").fetchall()
    return [
        _Column(name, _TYPES[kind.lower()], bool(required or key))
        for _, name, kind, required, _, key in found
    ]


def _value(table: str, column: _Column, value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"bytes"}:
        try:
            value = base64.b64decode(value["bytes"], validate=True)
        except (TypeError, binascii.Error):
            raise ValueError(f"bytes in {table}.{column.name} are not base64") from None
    if value is None and not column.required:
        return None
    if isinstance(value, bool) or not isinstance(value, column.types):
        raise ValueError(f"{table}.{column.name} has another type")  # noqa: TRY004 - of the file
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{table}.{column.name} is too large")
    return value

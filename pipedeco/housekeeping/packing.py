"""A run as a zip file, to be kept or to be carried to another store.

    manifest.json        format, schema, the run's id
    rows.jsonl           one [table, {column: value}] a line; bytes as {"bytes": base64}
    blobs/DIGEST         the values that are blobs
    logs/RUN/NAME.out    what the steps wrote; .err, and .events for what they reported

A step's row comes after its run's, a child's after its parent's.
"""

from __future__ import annotations

import base64
import json
import os
import re
import zipfile
from itertools import chain
from typing import TYPE_CHECKING, Any

from pipedeco import events
from pipedeco.blobs import blobs_of, hasher_for
from pipedeco.config import working_directory
from pipedeco.errors import BlobCorrupt, StoreError
from pipedeco.housekeeping.access import (
    Row,
    find,
    named_runs,
    reading,
    refuse_living,
    run_query,
    span,
    with_children,
)
from pipedeco.housekeeping.garbage import logs_of
from pipedeco.store.database import VERSION

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from typing import IO

    from pipedeco.run import Run

FORMAT = 1
MANIFEST = "manifest.json"
ROWS = "rows.jsonl"
LOG = re.compile(r"[\w-][\w.-]*\.(out|err|events)", re.ASCII)
TABLES = ("run", "component", "step", "step_key", "attempt", "earlier", "reported", "attachment")
PACKED = {
    "run": ("args", "value"),
    "step": ("args", "value"),
    "earlier": ("args", "value"),
    "attachment": ("digest",),
}
CHUNK = 1 << 20


def export(run: Run | str, path: str, *, store: str | None = None) -> None:
    """Write a run with its children, their values and their logs into a zip file.

    Parameters
    ----------
    run: a handle or a name.
    path: the file to write, which must not be there.
    store: where the name is looked up; by default the one that a run here would use.

    The file holds pickled values: who imports it must trust it as code.
    Raises RunNotFound, RunBusy for a run that goes on, StoreError, BlobCorrupt.
    """
    folder, (run_id,) = named_runs(run, store)
    if not os.path.isabs(path):
        path = os.path.join(working_directory("the file would be there"), path)
    path = os.path.normpath(path)
    if os.path.lexists(path):
        raise StoreError(f"{path} is there already; choose another name or remove it")
    temporary = f"{path}.writing-{os.getpid()}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            _write(folder, run_id, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        if os.path.lexists(temporary):
            os.unlink(temporary)


def _write(folder: str, run: str, file: IO[bytes]) -> None:
    with zipfile.ZipFile(
        file, "w", zipfile.ZIP_DEFLATED, compresslevel=1, strict_timestamps=False
    ) as target:
        manifest = {"format": FORMAT, "schema": VERSION, "run": run}
        target.writestr(MANIFEST, json.dumps(manifest))
        digests: dict[str, None] = {}
        with reading(folder) as connection:
            runs = with_children(connection, [find(connection, run)])
            refuse_living(folder, connection, runs)
            with target.open(ROWS, "w", force_zip64=True) as lines:
                for table, row in chain(_rows(connection, runs), _untold(folder, connection, runs)):
                    for name in PACKED.get(table, ()):
                        if isinstance(row[name], str):
                            digests[row[name]] = None
                    lines.write(_line(table, row))
        for digest in digests:
            _write_blob(folder, digest, target)
        for row in runs:
            _write_logs(folder, row["id"], target)


def _rows(connection: sqlite3.Connection, runs: list[Row]) -> Iterator[tuple[str, Row]]:
    sources: dict[str, None] = {}
    for run in runs:
        places = span(run["seq"])
        for table in TABLES:
            yield from _table(connection, table, f"export_{table}", **places)
        found = run_query(connection, "sources_of_run", **places)
        sources.update((digest, None) for (digest,) in found)
    for digest in sources:
        yield from _table(connection, "source", "export_source", digest=digest)


def _untold(
    folder: str, connection: sqlite3.Connection, runs: list[Row]
) -> Iterator[tuple[str, Row]]:
    """The blobs that an interrupted run reported and had not recorded."""
    blobs = blobs_of(folder)
    for run in runs:
        told = {digest for (digest,) in run_query(connection, "attached", seq=run["seq"])}
        named = set(events.blobs_of(logs_of(folder, run["id"])))
        for digest in sorted(named - told):
            if blobs.is_here(digest) or blobs.is_there(digest):
                yield "attachment", {"run": run["seq"], "digest": digest}


def _table(
    connection: sqlite3.Connection, table: str, query: str, **parameters: Any
) -> Iterator[tuple[str, Row]]:
    cursor = run_query(connection, query, **parameters)
    names = [column[0] for column in cursor.description]
    for row in cursor:
        yield table, dict(zip(names, row, strict=True))


def _line(table: str, row: Row) -> bytes:
    plain = {
        name: {"bytes": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
        for name, value in row.items()
    }
    return json.dumps([table, plain]).encode() + b"\n"


def _write_blob(folder: str, digest: str, target: zipfile.ZipFile) -> None:
    blobs = blobs_of(folder)
    blobs.bring(digest)  # raises BlobCorrupt where there is none
    size = blobs.size(digest)
    hasher = hasher_for(min(size, CHUNK))
    entry = target.open(f"blobs/{digest}", "w", force_zip64=size >= 1 << 30)
    with open(blobs.path(digest), "rb") as source, entry as copy:
        while chunk := source.read(CHUNK):
            hasher.update(chunk)
            copy.write(chunk)
    if hasher.hexdigest() != digest:
        raise BlobCorrupt(
            f"the run cannot be exported: the blob {blobs.path(digest)} is damaged; see what it "
            "belongs to with: pipedeco fsck"
        )


def _write_logs(folder: str, run: str, target: zipfile.ZipFile) -> None:
    logs = logs_of(folder, run)
    names = sorted(os.listdir(logs)) if os.path.isdir(logs) else []
    for name in names:
        path = os.path.join(logs, name)
        if LOG.fullmatch(name) and os.path.isfile(path):
            target.write(path, f"logs/{run}/{name}")

"""The database of a store: how it is opened, and its statements by name."""

from __future__ import annotations

import os
import sqlite3
import time
from functools import cache
from typing import TYPE_CHECKING, Any

from pipedeco.blobs import make_private
from pipedeco.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION = 4
APPLICATION = 0x70697065  # "pipe", so that `file` can tell the database
BUSY = 30.0  # seconds to wait for another writer


@cache
def queries(file: str = "queries.sql") -> dict[str, str]:
    """The statements of a file by name; each file is read when first asked for."""
    found: dict[str, str] = {}
    for part in _text(file).split("-- name: ")[1:]:
        name, _, statement = part.partition("\n")
        found[name.strip()] = statement.strip()
    return found


def _text(name: str) -> str:
    with open(os.path.join(os.path.dirname(__file__), name), encoding="utf-8") as file:
        return file.read()


def connect(folder: str) -> sqlite3.Connection:
    """Open the database of the store in `folder` for writing; makes the store if need be.

    Raises StoreError where the folder cannot be written, the file is no store, or its schema
    is of another version.
    """
    make_store(folder)
    path = database_path(folder)
    try:
        _touch(path)
        connection = _open(f"file:{_quoted(path)}", lambda new: _prepare(new, path))
    except sqlite3.Error as error:
        raise StoreError(f"the store {path} cannot be opened: {error}") from error
    except OSError as error:
        raise StoreError(
            f"the store {path} cannot be opened: {error.strerror}; set PIPEDECO_STORE to a "
            "folder that you may write"
        ) from error
    return connection


def connect_to_read(folder: str) -> sqlite3.Connection:
    """Open the database of an existing store for reading.

    Raises StoreError where there is none.
    """
    path = database_path(folder)
    if not os.path.exists(path):
        raise StoreError(f"there is no store in {folder}; it is made by the first run")
    try:
        connection = _open(f"file:{_quoted(path)}?mode=rw", lambda new: _check_version(new, path))
    except sqlite3.Error as error:
        raise StoreError(f"the store {path} cannot be opened: {error}") from error
    return connection


def database_path(folder: str) -> str:
    return os.path.join(folder, "pipedeco.db")


def make_store(folder: str) -> None:
    """The folder of a store, private to its user and unknown to git."""
    try:
        make_private(folder)
        ignore = os.path.join(folder, ".gitignore")
        if not os.path.exists(ignore):
            with open(ignore, "w", encoding="utf-8") as file:
                file.write("*\n")
    except OSError as error:
        raise StoreError(
            f"the store {folder} cannot be made: {error.strerror}; set PIPEDECO_STORE to a "
            "folder that you may write"
        ) from error


def _touch(path: str) -> None:
    """The database's mode is ours; its -wal and -shm files follow it."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _quoted(path: str) -> str:
    for character, escape in (("%", "%25"), ("?", "%3f"), ("#", "%23")):
        path = path.replace(character, escape)
    return path


def _open(uri: str, check: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
    """A connection that `check` has found good; one that it raises for is closed."""
    connection = sqlite3.connect(
        uri, timeout=BUSY, isolation_level=None, check_same_thread=False, uri=True
    )
    try:
        connection.execute("pragma synchronous = full")
        check(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: str) -> None:
    if _version(connection) or not _is_empty(connection):
        _check_version(connection, path)
        return
    _switch_to_wal(connection)
    connection.execute("begin immediate")
    try:
        if _version(connection) == 0 and _is_empty(connection):
            for statement in _statements(_text("schema.sql")):
                connection.execute(statement)
            connection.execute(f"pragma application_id = {APPLICATION}")
            connection.execute(f"pragma user_version = {VERSION}")
        connection.execute("commit")
    finally:
        if connection.in_transaction:
            connection.execute("rollback")
    _check_version(connection, path)


def _statements(script: str) -> list[str]:
    lines = [line.partition("--")[0] for line in script.splitlines()]
    return [part for part in "\n".join(lines).split(";") if part.strip()]


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Switching needs the file for itself and does not wait for it, so we do."""
    deadline = time.monotonic() + BUSY
    while True:
        try:
            connection.execute("pragma journal_mode = wal")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("pragma user_version").fetchone()[0])


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("select 1 from sqlite_master limit 1").fetchone() is None


def _check_version(connection: sqlite3.Connection, path: str) -> None:
    version = _version(connection)
    ours = connection.execute("pragma application_id").fetchone()[0] == APPLICATION
    if ours and version == VERSION:
        return
    if ours and version > VERSION:
        raise StoreError(
            f"the store {path} was written by a newer pipedeco (schema {version}, this one knows "
            f"{VERSION}); upgrade pipedeco, or set PIPEDECO_STORE to another folder"
        )
    if ours:
        raise StoreError(
            f"the store {path} was written by an older pipedeco (schema {version}, this one knows "
            f"{VERSION}); move it away, or set PIPEDECO_STORE to another folder"
        )
    raise StoreError(f"{path} is not a store of pipedeco; set PIPEDECO_STORE to another folder")


def fetch(connection: sqlite3.Connection, query: str, **parameters: Any) -> list[dict[str, Any]]:
    """The rows of a named query as dicts."""
    return as_dicts(connection.execute(queries()[query], parameters))


def as_dicts(cursor: sqlite3.Cursor) -> list[dict[str, Any]]:
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

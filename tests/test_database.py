"""The database of a store: how it comes to be, who may see it, and which one is refused."""

import os
import re
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from pipedeco import StoreError
from pipedeco.store import rows
from pipedeco.store.database import (
    APPLICATION,
    VERSION,
    connect,
    connect_to_read,
    database_path,
    fetch,
    make_store,
    queries,
)

CALLERS = 10


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / "store")


def pragma(connection, name):
    return connection.execute(f"pragma {name}").fetchone()[0]


def test_a_store_is_made_at_the_first_connection(folder):
    """WAL, synchronous=FULL, our application id and version, and git looks away."""
    with closing(connect(folder)) as connection:
        assert pragma(connection, "journal_mode") == "wal"
        assert pragma(connection, "synchronous") == 2
        assert pragma(connection, "application_id") == APPLICATION
        assert pragma(connection, "user_version") == VERSION
        assert pragma(connection, "integrity_check") == "ok"
    assert Path(folder, ".gitignore").read_text() == "*\n"


def test_every_statement_is_sql_of_the_schema(folder):
    """SQLite compiles each named query against the tables that schema.sql makes."""
    with closing(connect(folder)) as connection:
        for name, statement in queries().items():
            many = rows.COLUMNS.get(name, 0)
            values = " (" + ",".join("?" * many) + ")" if many else ""
            text = statement.rstrip(";") + values
            names = dict.fromkeys(re.findall(r":([a-z_]+)", text))
            connection.execute("explain " + text, [None] * many if many else names)


def test_a_second_connection_finds_what_the_first_wrote(folder):
    """Opening again makes nothing new."""
    with closing(connect(folder)) as connection:
        connection.execute(
            "insert into attempt values (1, 1, 'failed', null, 0, 0, '', '', '', '')"
        )
    with closing(connect(folder)) as connection, closing(connect_to_read(folder)) as reader:
        for each in (connection, reader):
            found = fetch(each, "run_attempts", first=0, last=9)
            assert [row["number"] for row in found] == [1]


def test_reading_makes_no_store(folder):
    """Who only looks leaves nothing behind."""
    with pytest.raises(StoreError, match="there is no store in"):
        connect_to_read(folder)
    assert not os.path.exists(folder)


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_modes_are_private_whatever_the_umask(folder, umask):
    """0700 for folders and 0600 for the database and what SQLite puts beside it."""
    before = os.umask(umask)
    try:
        with closing(connect(folder)) as connection:
            connection.execute("create table t (a)")
            found = {
                path.name: stat.S_IMODE(path.stat().st_mode) for path in Path(folder).iterdir()
            }
            own = stat.S_IMODE(os.stat(folder).st_mode)
    finally:
        os.umask(before)
    del found[".gitignore"]
    assert own == 0o700
    names = ("pipedeco.db", "pipedeco.db-wal", "pipedeco.db-shm")
    assert found == dict.fromkeys(names, 0o600)


def test_a_folder_may_have_any_name(tmp_path):
    """Characters that mean something in SQLite's URIs are just characters."""
    for name in ("a b", "100%", "what?", "a#b", "%41", "ü", "a&mode=memory"):
        folder = str(tmp_path / name)
        connect(folder).close()
        assert os.path.getsize(database_path(folder)) > 0


@pytest.mark.parametrize("open_it", [connect, connect_to_read])
def test_a_newer_version_is_refused(folder, open_it):
    """The sentence says both versions and the cure; the file stays as it was."""
    with closing(connect(folder)) as connection:
        connection.execute(f"pragma user_version = {VERSION + 7}")
    before = Path(database_path(folder)).read_bytes()
    with pytest.raises(StoreError) as caught:
        open_it(folder)
    for part in (f"schema {VERSION + 7}", f"knows {VERSION}", "upgrade pipedeco", "PIPEDECO_STORE"):
        assert part in str(caught.value)
    assert Path(database_path(folder)).read_bytes() == before


@pytest.mark.parametrize("open_it", [connect, connect_to_read])
@pytest.mark.parametrize("kind", ["database", "foreign version", "text"])
def test_a_foreign_file_is_refused_and_untouched(folder, kind, open_it):
    """What somebody else made under our name is neither used nor changed."""
    make_store(folder)
    path = Path(database_path(folder))
    if kind == "text":
        path.write_text("This is my diary. " * 100)
    else:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("create table mine (a)")
            if kind == "foreign version":  # another program counts its versions too
                connection.execute(f"pragma user_version = {VERSION}")
                connection.execute("pragma application_id = 1234")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=str(path)):
        open_it(folder).close()
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == [".gitignore", "pipedeco.db"]


def test_ten_threads_open_a_new_store_at_once(folder):
    """One makes it, the others wait; nobody sees an error."""
    gate = threading.Barrier(CALLERS)
    found = []

    def open_it():
        gate.wait()
        try:
            with closing(connect(folder)) as connection:
                found.append(pragma(connection, "user_version"))
        except Exception as error:  # noqa: BLE001 - told by the assertion
            found.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [VERSION] * CALLERS


def test_ten_processes_open_a_new_store_at_once(folder):
    """The same between processes, which start when all of them are there."""
    code = (
        "import sys; from pipedeco.store.database import connect; print('here', flush=True);"
        "sys.stdin.readline(); connect(sys.argv[1]).execute('select * from run')"
    )
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", code, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(CALLERS)
    ]
    for job in jobs:
        assert job.stdout.readline() == "here\n"
    for job in jobs:
        job.stdin.write("\n")
        job.stdin.flush()
    ends = [(*job.communicate(timeout=40), job.returncode) for job in jobs]
    assert ends == [("", "", 0)] * CALLERS


def test_queries_have_names_and_one_statement_each():
    """The file of statements is read as it is meant."""
    assert {"begin_run", "end_run", "owns", "put_steps", "find_runs"} <= set(queries())
    assert all(statement.count(";") <= 1 for statement in queries().values())


def _of_another_program(folder):
    with closing(sqlite3.connect(database_path(folder))) as connection:
        connection.execute("create table t (x)")


def _damaged(folder):
    Path(database_path(folder)).write_bytes(b"no database at all " * 1000)


@pytest.mark.parametrize("spoil", [_of_another_program, _damaged])
@pytest.mark.parametrize("opens", [connect, connect_to_read])
def test_a_connection_that_is_refused_is_closed(folder, spoil, opens):
    """Python 3.13 warns of one that nobody has closed."""
    make_store(folder)
    spoil(folder)
    with pytest.raises(StoreError):
        opens(folder)
    opened = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    assert database_path(os.path.realpath(folder)) not in opened

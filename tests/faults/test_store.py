"""Stores that are shared, full, foreign, closed or damaged."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess

import pytest

from pipedeco import get_run
from pipedeco.errors import BlobCorrupt

SMALL = """
@component
def work(n):
    return n


@pipeline(workers=2)
def main(n):
    return value([work(n + i) for i in range(3)])


"""


def test_ten_processes_make_and_use_one_store(lab):
    """Nobody ever sees a lock error; every run is recorded, with a number of its own."""
    source = SMALL + (
        'note(f"here-{sys.argv[0][-4]}")\nwait_for("go", 60)\n'
        "for n in range(5):\n    assert main(n) == [n, n + 1, n + 2]\n"
    )
    jobs = [lab.start(source) for _ in range(10)]
    for number in range(10):
        jobs[number].note(f"here-{number}")
    (lab.folder / "go").touch()
    done = [job.finish(50.0) for job in jobs]
    assert [(end.code, end.err) for end in done] == [(0, "")] * 10
    lab.assert_sound()
    with contextlib.closing(sqlite3.connect(lab.store / "pipedeco.db")) as connection:
        found = connection.execute("select number, status from run order by number").fetchall()
        steps = connection.execute("select count(*) from step where state = 'completed'").fetchone()
    assert found == [(number, "completed") for number in range(1, 51)]
    assert steps == (150,)


def test_a_store_of_a_newer_version_is_refused(lab):
    """One clear sentence with the cure, and the file stays as it was."""
    lab.run(SMALL + "main(1)\n")
    path = lab.store / "pipedeco.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma user_version = 999")
    done = lab.start(SMALL + "main(1)\n").finish()
    last = done.err.splitlines()[-1]
    assert done.code == 1
    assert "StoreError" in last
    assert "999" in last
    assert "newer pipedeco" in last
    assert "PIPEDECO_STORE" in last
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("select count(*) from run").fetchone() == (1,)


@pytest.mark.parametrize("kind", ["text", "empty text", "another database", "folder"])
def test_what_is_no_store_is_refused_and_left_alone(lab, kind):
    """A file that pipedeco did not make is neither used nor changed."""
    lab.store.mkdir()
    path = lab.store / "pipedeco.db"
    if kind == "folder":
        path.mkdir()
    elif kind == "another database":
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("create table mine (a)")
    else:
        path.write_text("This is my diary. " * 400 if kind == "text" else " " * 5000)
    before = None if kind == "folder" else path.read_bytes()
    done = lab.start(SMALL + "main(1)\n").finish()
    assert done.code == 1
    last = done.err.splitlines()[-1]
    assert "StoreError" in last
    assert str(path) in last
    assert kind == "folder" or path.read_bytes() == before


def test_a_store_below_a_file_is_refused(lab):
    """The message names the folder and the way out."""
    (lab.folder / "file").write_text("")
    done = lab.start(SMALL + "main(1)\n", PIPEDECO_STORE=str(lab.folder / "file/x")).finish()
    last = done.err.splitlines()[-1]
    assert done.code == 1
    assert "StoreError" in last
    assert "PIPEDECO_STORE" in last


@contextlib.contextmanager
def mounted(folder, options: str):
    """A tmpfs on the folder."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_read_only_store_is_refused(lab):
    """On a file system that cannot be written, the first thing said is that."""
    with mounted(lab.folder / "ro", "size=1m,ro") as folder:
        done = lab.start(SMALL + "main(1)\n", PIPEDECO_STORE=str(folder / "store")).finish()
    last = done.err.splitlines()[-1]
    assert done.code == 1
    assert "StoreError" in last
    assert "Read-only" in last


def test_a_store_that_becomes_read_only_is_refused(lab):
    """A store that was good once and is now on a read-only file system."""
    with mounted(lab.folder / "ro", "size=4m") as folder:
        lab.run(SMALL + "main(1)\n", PIPEDECO_STORE=str(folder))
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        done = lab.start(SMALL + "main(1)\n", PIPEDECO_STORE=str(folder)).finish()
    assert done.code == 1
    assert "StoreError" in done.err.splitlines()[-1]


FULL = """
@component
def work(n):
    return os.urandom({size})


@pipeline(workers=2)
def main():
    found = [work(n) for n in range({count})]
    return sum(len(value(r)) for r in found)


main()
"""


@pytest.mark.parametrize(("size", "count"), [(3000, 1000), (200_000, 20)])
def test_a_full_disk_fails_the_run_with_a_store_error(lab, size, count):
    """Inline values and blobs alike: StoreError names the store, and nothing hangs."""
    with mounted(lab.folder / "small", "size=1m") as folder:
        source = FULL.format(size=size, count=count)
        done = lab.start(source, PIPEDECO_STORE=str(folder)).finish()
    assert done.code == 1
    assert "StoreError" in done.err, done.err
    assert str(folder) in done.err


def test_a_store_is_private(lab):
    """Folder 0700, files 0600, whatever the umask."""
    lab.run("os.umask(0)\n" + SMALL.replace("return n", "return bytes(100_000)") + "main(1)\n")
    for path in [lab.store, *lab.store.rglob("*")]:
        if path.name != ".gitignore":
            assert path.stat().st_mode & 0o077 == 0, path


BLOB = """
@component
def make():
    return bytes(range(256)) * 1000


@component
def use(data):
    return len(data)


@pipeline
def main():
    made = make()
    made.exception()
    {between}
    return made.result() if {read} else use(made)


"""


def damage(path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
        return
    if how == "flipped":
        data[len(data) // 2] ^= 1
    path.write_bytes(data[: {"flipped": None, "truncated": 5000, "empty": 0}[how]])


@pytest.mark.parametrize("how", ["missing", "flipped", "truncated", "empty"])
def test_a_damaged_value_of_a_recorded_run_is_told_by_its_step(lab, how):
    """BlobCorrupt names the step; a damaged object is never returned."""
    lab.run(BLOB.format(between="pass", read=False) + "main()\n")
    (blob,) = (path for path in (lab.store / "blobs").rglob("*") if path.is_file())
    damage(blob, how)
    run = get_run("latest", store=str(lab.store))
    with pytest.raises(BlobCorrupt, match=r"step make\b"):
        run.steps["make"].result()
    with pytest.raises(BlobCorrupt, match=r"\bmake\b"):
        _ = run.steps["use"].inputs
    assert run.result() == 256_000


REMOVE = "[p.unlink() for p in Path('store/blobs').rglob('*') if p.is_file()]"


def test_a_value_lost_under_the_run_is_told_to_the_body(lab):
    """Who reads it in the body gets BlobCorrupt with the step's name."""
    source = BLOB.format(between=REMOVE, read=True)
    done = lab.start(source + "main()\n").finish()
    assert done.code == 1
    assert "BlobCorrupt: step make" in done.err


def test_a_value_lost_under_the_run_fails_the_step_that_needs_it(lab):
    """The consumer fails with BlobCorrupt, which names it and the step that made the value."""
    source = BLOB.format(between=REMOVE, read=False)
    done = lab.run(source + "try:\n    main()\nexcept BlobCorrupt as error:\n    tell(error)\n")
    assert done.out.startswith("BlobCorrupt")
    assert "step use" in done.out
    assert "make" in done.out.partition("/store/")[2]

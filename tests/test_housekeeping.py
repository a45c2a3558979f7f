"""Archive, rm, prune, fsck, export, import: on real runs in real stores."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from conftest import wait_for, wait_until

import pipedeco
from pipedeco import (
    BlobCorrupt,
    ConfigError,
    RunBusy,
    RunNotFound,
    StoreError,
    component,
    get_run,
    pipeline,
    runs,
)
from pipedeco.cli import main
from pipedeco.housekeeping import (
    archive,
    check,
    export,
    garbage,
    import_run,
    prune,
    remove,
    repair,
    unarchive,
    unpacking,
)
from pipedeco.housekeeping.garbage import collect, find_garbage
from pipedeco.housekeeping.removal import parse_age
from pipedeco.store.database import VERSION, connect, queries

LARGE = 100_000  # bytes; a blob
OLD = time.time() - 7200

SCRIPT = """
import pathlib, sys, time
from pipedeco import component, pipeline

@component
def large(letter):
    return letter * 100_000

@component
def wait(folder, text):
    pathlib.Path(folder, "waiting").touch()
    while not pathlib.Path(folder, "go").exists():
        time.sleep(0.005)
    return len(text)

@pipeline(mode="debug")
def waiting(folder):
    return wait(folder, large("w"))

waiting(sys.argv[1])
"""


@component
def large(letter):
    print("large", letter)
    return letter * LARGE


@component(cache=True)
def known(letter):
    return letter * LARGE


@component
def small(x):
    return x + 1


@component(retries=1)
def second_time(folder):
    print("an attempt")
    if not Path(folder, "tried").exists():
        Path(folder, "tried").touch()
        raise OSError("the first time")
    return "ok"


@pipeline
def values(letters):
    return len([large(letter) for letter in letters])


@pipeline
def cached(letter):
    return len(known(letter))


@pipeline
def inner(letter):
    return small(len(large(letter)))


@pipeline
def outer(letter):
    return inner(letter)


@pipeline
def rich(folder):
    """Of everything a little: a child, an attempt more, logs, blobs as argument and value."""
    second_time(folder)
    return inner("c"), large("v"), small(len("a" * LARGE)), large(large("b")[:1])


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    folder = str(tmp_path / "store")
    monkeypatch.setenv("PIPEDECO_STORE", folder)
    pipedeco.configure(mode="debug", workers=2)
    yield folder
    pipedeco.configure(mode=None, workers=None)
    _close_recorders()


def _close_recorders():
    from pipedeco.process import CONTROLLER

    for folder in list(CONTROLLER.recorders):
        CONTROLLER.recorders.pop(folder).close()


@pytest.fixture
def living(store, tmp_path):
    """A controller in another process whose run waits in a step."""
    (tmp_path / "script.py").write_text(SCRIPT)
    process = subprocess.Popen([sys.executable, str(tmp_path / "script.py"), str(tmp_path)])
    wait_for(tmp_path / "waiting")
    wait_until(lambda: [r for r in runs() if r.pipeline == "waiting" and len(r.steps) == 2])
    yield process
    (tmp_path / "go").touch()
    process.wait(10)


def started(pipeline, *args, **options):
    run = pipeline.with_options(**options).start(*args)
    run.wait()
    return get_run(run.id)


def blobs(store):
    return sorted(path.name for path in Path(store, "blobs").glob("??/*"))


def files(folder):
    """Everything below a folder with its content, except the database's side files."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


def query(store, statement, *parameters):
    with contextlib.closing(sqlite3.connect(f"{store}/pipedeco.db")) as connection, connection:
        return connection.execute(statement, parameters).fetchall()


def contents(store):
    """All rows of all tables."""
    names = [name for (name,) in query(store, "select name from sqlite_master where type='table'")]
    return {name: query(store, f"select * from {name}") for name in names}


def age(path):
    os.utime(path, (OLD, OLD))


def kinds(found):
    return sorted(finding.kind for finding in found)


def refused(capsys, *arguments):
    capsys.readouterr()  # what the steps wrote
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("pipedeco: ")
    assert err.count("\n") == 1
    return err


def shown(capsys, *arguments, code=0):
    capsys.readouterr()  # what the steps wrote
    assert main(list(arguments)) == code
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_every_statement_is_sql_of_the_schema(store):
    """SQLite compiles each named statement against the tables that schema.sql makes."""
    import re

    with contextlib.closing(connect(store)) as connection:
        connection.execute(queries("housekeeping.sql")["make_doomed"])
        for statement in queries("housekeeping.sql").values():
            connection.execute(
                "explain " + statement, dict.fromkeys(re.findall(r":([a-z_]+)", statement))
            )


# -- archive ---------------------------------------------------------------------------------


def test_archive_hides_a_run_with_its_children(capsys):
    """And unarchive shows them again; the run itself can still be named."""
    run = started(outer, "a")
    values(["b"])
    assert shown(capsys, "archive", "outer#1") == f"archived {run.id}\n"
    assert [r.pipeline for r in runs()] == ["values"]
    assert len(runs(archived=True)) == 3
    assert get_run(run.id).result() == LARGE + 1
    assert shown(capsys, "unarchive", run.id) == f"unarchived {run.id}\n"
    assert len(runs()) == 3


def test_archived_runs_serve_no_cache_hits():
    """Until they are shown again."""
    cached("a")
    cached("a")
    first, second = get_run("cached#1"), get_run("cached#2")
    assert [r.steps["known"].state for r in (first, second)] == ["completed", "cached"]
    archive([first, second])
    cached("a")
    assert get_run("latest").steps["known"].state == "completed"
    archive("latest")
    unarchive("cached#3")
    cached("a")
    assert get_run("latest").steps["known"].state == "cached"


def test_one_wrong_name_changes_nothing(capsys):
    """Of several runs either all are changed or none."""
    values(["a"])
    assert "nonsense" in refused(capsys, "archive", "latest", "nonsense")
    assert "nonsense" in refused(capsys, "rm", "latest", "nonsense")
    assert len(runs()) == 1
    assert "no run was named" in refused(capsys, "rm")


# -- rm --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["debug", "local"])
def test_rm_leaves_nothing(store, tmp_path, capsys, mode):
    """Rows of every table, logs, blobs, the child run: the store is as it was."""
    run = started(rich, str(tmp_path), mode=mode)
    assert run.status == "completed", run.error
    assert len(runs()) == 2
    assert len(run.steps["second_time"].attempts) == 2
    assert len(blobs(store)) >= 3
    out = shown(capsys, "rm", run.id)
    assert "removed 2 runs, freed" in out
    left = contents(store)
    left.pop("sqlite_sequence")
    assert not any(left.values()), left
    assert blobs(store) == []
    assert list(Path(store, "logs").iterdir()) == []
    assert check(store) == []
    with pytest.raises(RunNotFound):
        get_run(run.id)


def test_rm_of_one_of_two_that_share_a_blob(store):
    """The other still loads its value; removed too, the blob goes."""
    first = started(values, ["a", "b"])
    second = started(values, ["b", "c"])
    a, b, c = (r.steps[n]._row["value"] for r, n in
               ((first, "large"), (first, "large-2"), (second, "large-2")))  # fmt: skip
    gone = remove(first)
    assert [run.id for run in gone.runs] == [first.id]
    assert LARGE < gone.freed < 2 * LARGE
    assert gone.waiting == 0
    assert blobs(store) == sorted([b, c])
    assert a not in blobs(store)
    assert get_run(second.id).steps["large"].result() == "b" * LARGE
    assert remove(second).freed > 2 * LARGE
    assert blobs(store) == []


def test_a_cached_step_keeps_the_value_of_a_removed_run():
    """Its own row names the blob; and the cache does not know the removed step any more."""
    first, second = started(cached, "a"), started(cached, "a")
    assert second.steps["known"].state == "cached"
    remove(first)
    assert get_run(second.id).steps["known"].result() == "a" * LARGE
    assert started(cached, "a").status == "completed"
    assert check() == []


def test_numbers_of_removed_runs_are_not_used_again(store):
    """A step id never comes to mean another step."""
    first = started(cached, "a")
    (seq,) = query(store, "select seq from run where id = ?", first.id)[0]
    remove(first)
    second = started(cached, "a")
    assert query(store, "select seq from run where id = ?", second.id)[0][0] > seq


def test_rm_dry_run_changes_nothing(store, capsys):
    """Not even the time of a file."""
    run = started(outer, "a")
    from pipedeco.process import CONTROLLER

    CONTROLLER.close()  # what a run's surroundings were may be recorded after its end
    before, rows = files(store), contents(store)
    times = {path: path.stat().st_mtime_ns for path in Path(store, "blobs").rglob("*")}
    out = shown(capsys, "rm", run.id, "--dry-run")
    assert "would remove 2 runs" in out
    assert out.count(run.id) == 2  # itself, and as the parent of the other
    found = json.loads(shown(capsys, "rm", run.id, "--dry-run", "--json"))
    assert found["dry_run"] is True
    assert {r["id"] for r in found["runs"]} == {r.id for r in runs()}
    assert (files(store), contents(store)) == (before, rows)
    assert times == {path: path.stat().st_mtime_ns for path in Path(store, "blobs").rglob("*")}
    assert remove(run.id).freed == found["freed"]


def test_a_run_that_goes_on_is_refused(living, capsys, tmp_path):
    """In one sentence, by every command that would change or take it; and it is sound."""
    assert check() == []
    for arguments in (["archive"], ["rm"], ["rm", "--dry-run"]):
        text = refused(capsys, *arguments, "waiting#1")
        assert "goes on" in text
        assert "pipedeco cancel" in text
    assert "goes on" in refused(capsys, "export", "waiting#1", str(tmp_path / "x.zip"))
    assert not list(tmp_path.glob("x.zip*"))
    assert prune(keep_last=0, interrupted=True).runs == []
    with pytest.raises(RunBusy):
        remove("waiting#1")
    assert get_run("waiting#1").status == "running"


def test_an_ended_child_of_a_run_that_goes_on_is_refused(living, store):
    """The parent may still want it."""
    child = started(values, ["a"])
    parent = get_run("waiting#1").id
    query(
        store,
        "update run set parent_run = ?, parent_step = 'inner' where id = ?",
        parent,
        child.id,
    )
    with pytest.raises(RunBusy, match=parent):
        remove(child.id)


def test_while_another_controller_works_blobs_wait_an_hour(living, store, tmp_path):
    """A cached step of its may have found them just now; what it wrote since its start stays."""
    run = started(values, ["a"])
    blob = run.steps["large"]._row["value"]
    age(Path(store, "blobs", *parts(blob)))
    assert remove(run).waiting > LARGE
    assert blob in blobs(store)
    assert check() == []  # what waits is no finding
    theirs = get_run("waiting#1").steps["large"]._row["value"]
    query(store, "update step set value = null where value = ?", theirs)  # as if not recorded yet
    query(store, "update step set args = null")
    collect(store)
    assert {blob, theirs} <= set(blobs(store))
    query(store, "update run set started = ?", OLD + 600)
    age(Path(store, "blobs", *parts(blob)))
    collect(store)
    assert blob not in blobs(store)
    assert theirs in blobs(store)
    (tmp_path / "go").touch()
    living.wait(10)
    collect(store)
    assert theirs not in blobs(store)


def parts(digest):
    return digest[:2], digest


def test_a_blob_that_is_written_again_meanwhile_stays(store):
    """It was listed as garbage, and then a run that began later made the same value."""
    run = started(values, ["a"])
    digest = run.steps["large"]._row["value"]
    query(store, "update step set value = null")
    (listed,) = find_garbage(store)
    started(values, ["a"])
    garbage._delete(store, listed)
    assert get_run("latest").steps["large"].result() == "a" * LARGE
    assert blobs(store) == [digest]


def test_files_of_dead_writers_go(store):
    """Blobs half written, imports half done, logs without a run; what is not ours stays."""
    values(["a"])
    for name in ("blobs/writing-1-ab", "blobs/removing-1-cd", "blobs/notes.txt"):
        Path(store, name).write_bytes(b"x")
    for name in ("importing-1-ab/blobs", "logs/0123456789ab"):
        Path(store, name).mkdir(parents=True)
    collect(store)
    assert not list(Path(store).glob("importing*"))
    assert [p.name for p in Path(store, "blobs").iterdir() if p.is_file()] == ["notes.txt"]
    assert [p.name for p in Path(store, "logs").iterdir()] == [get_run("latest").id]


def test_an_interrupted_run_can_be_removed(living, store):
    """Its controller was killed; its lock lies about, and its blobs go."""
    living.kill()
    living.wait()
    (lock,) = (p for p in Path(store, "owners").iterdir() if str(living.pid) in p.name)
    age(lock)
    assert prune(keep_last=0).runs == []
    assert kinds(check()) == ["lock"]
    assert repair() == ["removed 1 lock files of processes that died"]
    (gone,) = prune(keep_last=0, interrupted=True).runs
    assert (gone.name, gone.status) == ("waiting#1", "interrupted")
    assert blobs(store) == []
    assert check() == []


# -- prune -----------------------------------------------------------------------------------


def test_prune_keeps_the_newest_of_each_pipeline(capsys):
    """Children do not count and follow their parents; archived runs stay."""
    for letter in "abc":
        outer(letter)
        values([letter])
    archive("values#1")
    out = shown(capsys, "prune", "--keep-last", "1", "--dry-run")
    assert "would remove 5 runs" in out
    assert len(runs(archived=True)) == 9
    found = json.loads(shown(capsys, "prune", "--keep-last", "1", "--json"))
    names = {"outer#1", "outer#2", "inner#1", "inner#2", "values#2"}
    assert {run["name"] for run in found["runs"]} == names
    assert {run.name for run in runs(archived=True)} == {
        "outer#3",
        "inner#3",
        "values#3",
        "values#1",
    }
    assert get_run("values#3").steps["large"].result() == "c" * LARGE
    assert check() == []


def test_prune_by_age_and_pipeline(store, capsys):
    """Both conditions must hold."""
    for letter in "abc":
        values([letter])
        cached(letter)
    query(store, "update run set started = ?, ended = ? where number < 3", OLD, OLD)
    assert "would remove 0 runs" in shown(capsys, "prune", "--older-than", "1d", "--dry-run")
    both = prune("values", older_than="1h", keep_last=2, dry_run=True)
    assert [run.name for run in both.runs] == ["values#1"]
    assert sorted(run.name for run in prune("values", older_than="1h").runs) == [
        "values#1",
        "values#2",
    ]
    assert len(runs("cached")) == 3


def test_prune_wants_a_condition(capsys):
    """And a sensible one."""
    assert "--keep-last" in refused(capsys, "prune")
    assert "-1" in refused(capsys, "prune", "--keep-last", "-1")
    assert "'30'" in refused(capsys, "prune", "--older-than", "30")
    assert "no store" in refused(capsys, "prune", "--keep-last", "1")


def test_ages():
    """A number and a unit."""
    ages = [parse_age(text) for text in ("90s", "2m", "12h", "30d", "1.5w", " 1 d ")]
    assert ages == [90, 120, 43200, 2592000, 907200, 86400]
    assert parse_age(5) == 5.0
    for wrong in ("", "d", "-1d", "1e3d", "1y", "٣d", float("nan"), -1):
        with pytest.raises(ConfigError):
            parse_age(wrong)


# -- fsck ------------------------------------------------------------------------------------


def test_a_sound_store(tmp_path, capsys):
    """In both forms; with a run of every kind in it."""
    started(rich, str(tmp_path), mode="local")
    cached("a")
    cached("a")
    assert shown(capsys, "fsck") == "the store is sound\n"
    assert json.loads(shown(capsys, "fsck", "--json")) == {
        "sound": True, "findings": [], "repaired": [],
    }  # fmt: skip


def test_flipped_and_missing_blobs(store, capsys):
    """Each is named with whose value it is; the exit code is 1."""
    run = started(values, ["a", "b", "c"])
    digests = [step._row["value"] for step in run.steps.values()]
    flip(Path(store, "blobs", *parts(digests[0])), 5000)
    Path(store, "blobs", *parts(digests[1])).unlink()
    lines = shown(capsys, "fsck", code=1).splitlines()
    assert len(lines) == 2
    (first,) = (line for line in lines if digests[0] in line)
    assert f"the value of step large of run {run.id}" in first
    assert "not what was written" in first
    (second,) = (line for line in lines if digests[1] in line)
    assert "missing" in second
    assert "large-2" in second


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 0xFF]))


def damaged_database(store, pages):
    """Fold the log into the file and scribble over pages."""
    for _ in range(5):
        values([1])
    _close_recorders()
    query(store, "pragma wal_checkpoint(truncate)")
    path = Path(store, "pipedeco.db")
    with open(path, "r+b") as file:
        for page in pages:
            file.seek(page * 4096)
            file.write(b"\xa5" * 512)


@pytest.mark.parametrize("page", [1, 2, 3, 5, 8])
def test_a_damaged_database(store, capsys, page):
    """One line says so, whichever part it is; nothing is repaired."""
    damaged_database(store, [page])
    found = json.loads(shown(capsys, "fsck", "--json", code=1))
    assert found["sound"] is False
    assert "database" in {finding["kind"] for finding in found["findings"]}
    assert all(
        "pipedeco export" in f["advice"] for f in found["findings"] if f["kind"] == "database"
    )
    assert main(["fsck", "--repair"]) == 1
    assert "nothing was repaired" in capsys.readouterr().err


def test_no_database_at_all(store, capsys):
    """The head of the file is gone; and without a store there is nothing to check."""
    assert "no store" in refused(capsys, "fsck")
    values(["a"])
    _close_recorders()
    query(store, "pragma wal_checkpoint(truncate)")
    with open(f"{store}/pipedeco.db", "r+b") as file:
        file.write(bytes(100))
    assert "is damaged" in shown(capsys, "fsck", code=1)


def test_records_that_hang_in_the_air(store, capsys):
    """Each kind is counted; repair removes the cache rows alone."""
    cached("a")
    query(store, "insert into cache values ('k', 99999, 1.0)")
    query(store, "delete from component")
    query(store, "insert into step_key values (88888, null, '{}', null, null)")
    found = check()
    assert kinds(found) == ["cache", "records", "records"]
    out = shown(capsys, "fsck", "--repair", code=1)
    assert out.startswith("removed 1 cache rows")
    assert kinds(check()) == ["records", "records"]


def test_a_log_that_is_cut(store):
    """The step whose output is lost is named."""
    run = started(values, ["a", "b"])
    (log,) = (p for p in Path(store, "logs", run.id).glob("*.out") if p.stat().st_size)
    os.truncate(log, 10)
    (finding,) = check()
    assert (finding.kind, finding.damaged) == ("log", True)
    assert "step large-2" in finding.text
    log.unlink()
    assert "step large of" in check()[0].text
    query(store, "update step set logs = '../../x y 1 2 3'")
    assert kinds(check()) == ["log"]


def test_garbage_is_told_and_is_no_damage(store, capsys):
    """Exit code 0; --repair takes it away."""
    run = started(values, ["a"])
    query(store, "update step set value = null")
    Path(store, "blobs", "writing-1-ab").touch()
    out = shown(capsys, "fsck")
    assert "1 blobs that nothing refers to, 100 kB" in out
    assert "1 files that were never finished" in out
    assert out.endswith("the store is sound\n")
    assert "removed 2 files" in shown(capsys, "fsck", "--repair")
    assert blobs(store) == []
    assert get_run(run.id).status == "completed"


# -- export and import -----------------------------------------------------------------------


@pytest.fixture
def packed(tmp_path):
    """A run of everything, and its file."""
    run = started(rich, str(tmp_path), mode="local")
    unknown = "select 1 from run where parent_run is null and capture is null"
    wait_until(lambda: not query(tmp_path / "store", unknown))  # it may come after the run's end
    path = tmp_path / "run.zip"
    export(run, str(path))
    return run, path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The file of such a run, for those who only want to spoil it."""
    folder = tmp_path_factory.mktemp("made")
    run = rich.with_options(mode="debug", store=str(folder / "store")).start(str(folder))
    run.wait()
    export(run, str(folder / "run.zip"))
    return folder / "run.zip"


def told(run):
    """What a run tells of itself, without its number and what its database calls it."""
    facts = run.to_json()
    for name in ("name", "number"):
        facts.pop(name)
    return facts


def test_a_run_travels_whole(packed, tmp_path, capsys):
    """Into an empty store: facts, values, attempts, logs, graph, children."""
    run, path = packed
    assert path.stat().st_mode & 0o777 == 0o600
    there = str(tmp_path / "there")
    out = shown(capsys, "import", str(path), "--store", there)
    assert out == f"imported rich#1  {run.id}\n"
    other = get_run(run.id, store=there)
    assert other.to_json() == run.to_json()
    assert other.result() == run.result()
    assert other.logs() == run.logs()
    assert "an attempt" in other.logs()
    assert [a.error for a in other.steps["second_time"].attempts] == [
        "OSError: the first time",
        None,
    ]
    assert other.graph.to_json() == run.graph.to_json()
    child = other.steps["inner"].child_run
    assert get_run(child, store=there).steps["large"].result() == "c" * LARGE
    for name, step in run.steps.items():
        assert repr(other.steps[name].inputs) == repr(step.inputs)
    assert check(there) == []
    assert list(Path(there, "owners").iterdir()) == []


def test_import_where_the_numbers_are_taken(packed, tmp_path, capsys, monkeypatch):
    """It gets the next number and ids of its own; neither run touches the other."""
    run, path = packed
    there = str(tmp_path / "there")
    monkeypatch.setenv("PIPEDECO_STORE", there)
    first = started(rich, str(tmp_path))
    before = told(first)
    out = shown(capsys, "import", str(path))
    assert f"imported rich#2  {run.id}" in out
    assert "it was rich#1" in out
    other = get_run("rich#2")
    assert told(other) == told(run)
    assert told(get_run(first.id)) == before
    assert check() == []
    remove(first.id)
    assert get_run(run.id).result() == run.result()
    assert check() == []
    assert started(rich, str(tmp_path)).name == "rich#3"


def test_import_twice_is_refused(packed, tmp_path, capsys):
    """One sentence; after rm it works again."""
    run, path = packed
    before, rows = files(tmp_path / "store"), contents(tmp_path / "store")
    assert "in the store already" in refused(capsys, "import", str(path))
    assert contents(tmp_path / "store") == rows
    assert files(tmp_path / "store").keys() == before.keys()
    result = run.result()
    remove(run.id)
    assert import_run(str(path)) == run.id
    assert get_run(run.id).result() == result


def test_imported_steps_serve_no_cache_hits(store, tmp_path):
    """The run is foreign; and its own hit names the step that made the value only within it."""
    cached("a")
    hit = started(cached, "a")
    export(hit, str(tmp_path / "hit.zip"))
    remove(["cached#1", "cached#2"])
    import_run(str(tmp_path / "hit.zip"))
    assert query(store, "select count(*) from cache") == [(0,)]
    assert query(store, "select origin from step_key") == [(None,)]
    assert started(cached, "a").steps["known"].state == "completed"


def test_a_child_alone_stands_for_itself(store, tmp_path):
    """Exported without its parent, it is a run like any other where the parent is not."""
    outer("a")
    child = get_run("inner#1")
    export(child, str(tmp_path / "child.zip"))
    there = str(tmp_path / "there")
    import_run(str(tmp_path / "child.zip"), store=there)
    assert get_run("latest", store=there).id == child.id


def test_export_refuses_what_is_there_and_what_is_damaged(packed, store, tmp_path, capsys):
    """Nothing is replaced, and nothing half is left."""
    run, path = packed
    before = path.read_bytes()
    assert "is there already" in refused(capsys, "export", run.id, str(path))
    assert path.read_bytes() == before
    flip(Path(store, "blobs", *parts(run.steps["large"]._row["value"])), 5000)
    with pytest.raises(BlobCorrupt, match="pipedeco fsck"):
        export(run, str(tmp_path / "other.zip"))
    assert "cannot be written" in refused(capsys, "export", run.id, str(tmp_path / "no" / "x.zip"))
    assert [p.name for p in tmp_path.iterdir() if "zip" in p.name] == ["run.zip"]


def assert_refused(capsys, path, there, *words):
    """Nothing is left in the store, and nothing outside it."""
    around = {p for p in there.parent.rglob("*") if there not in p.parents and p != there}
    text = refused(capsys, "import", str(path), "--store", str(there))
    for word in words:
        assert word in text
    if there.exists():
        left = contents(there)
        left.pop("sqlite_sequence")
        assert not any(left.values())
        assert [p for p in there.rglob("*") if p.is_file() and "pipedeco.db" not in p.name] == [
            there / ".gitignore"
        ]
    assert around == {
        p for p in there.parent.rglob("*") if there not in p.parents and p != there
    }  # fmt: skip


def test_a_cut_file(path, tmp_path, capsys):
    """At whatever byte."""
    data = path.read_bytes()
    for length in (0, 10, len(data) // 3, len(data) // 2, len(data) - 10):
        (tmp_path / "cut.zip").write_bytes(data[:length])
        assert_refused(capsys, tmp_path / "cut.zip", tmp_path / "there", "damaged")
    assert_refused(capsys, tmp_path / "none.zip", tmp_path / "there", "No such file")
    assert_refused(capsys, tmp_path, tmp_path / "there")


def test_flipped_bytes(path, tmp_path, capsys):
    """All over the file: refused, or nothing that counts was touched."""
    size = path.stat().st_size
    for offset in range(0, size, size // 25):
        shutil.copy(path, tmp_path / "flipped.zip")
        flip(tmp_path / "flipped.zip", offset)
        code = main(["import", str(tmp_path / "flipped.zip"), "--store", str(tmp_path / "there")])
        err = capsys.readouterr().err
        assert (code, err.count("\n")) in [(0, 0), (2, 1)], err
        if code == 0:
            other = get_run("latest", store=str(tmp_path / "there"))
            assert other.result()[3] == "b" * LARGE
            assert check(str(tmp_path / "there")) == []
            remove(other)


def rebuilt(path, target, change=lambda name, data: data, extra=()):
    """A copy of a zip with other contents; None leaves a file out."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            data = change(name, source.read(name))
            if data is not None:
                copy.writestr(name, data)
        for name, data in extra:
            copy.writestr(name, data)
    return target


@pytest.mark.parametrize(
    "name",
    [
        "../evil", "/tmp/evil", "logs/../../evil.out", "blobs/../evil", "blobs/" + "0" * 63,
        "logs/../x.out", "logs/0123456789ab/../../../x.out", "logs/0123456789ab/.out",
        "logs/0123456789ab/a/b.out", "pipedeco.db", "owners/1-a", "C:\\evil", "blobs/", "x\x00y",
        "logs/0123456789ab/w1.out", "blobs/" + "0" * 64,
    ],
)  # fmt: skip
def test_hostile_names(path, tmp_path, capsys, name):
    """A name that export does not give is refused, and so is a file of no run or wrong digest."""
    rebuilt(path, tmp_path / "evil.zip", extra=[(name, b"evil")])
    assert_refused(capsys, tmp_path / "evil.zip", tmp_path / "there")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_given_twice(path, tmp_path, capsys):
    """Which of the two counts is nobody's business."""
    rebuilt(path, tmp_path / "evil.zip", extra=[("rows.jsonl", b"")])
    assert_refused(capsys, tmp_path / "evil.zip", tmp_path / "there", "twice")


def test_a_bomb(path, tmp_path, capsys, monkeypatch):
    """The limit counts what is unpacked; a row has a limit of its own."""
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("blobs/" + "0" * 64, bytes(10_000_000))
    assert (tmp_path / "bomb.zip").stat().st_size < 20_000
    with pytest.raises(StoreError, match="10,000,000 bytes, and the limit is 1,000,000"):
        import_run(str(tmp_path / "bomb.zip"), store=str(tmp_path / "there"), limit=1_000_000)
    text = refused(capsys, "import", str(path), "--limit", "0.0001", "--store", str(tmp_path / "t"))
    assert "--limit" in text
    assert not (tmp_path / "there").exists()
    monkeypatch.setattr(unpacking, "LINE", 1000)
    assert_refused(capsys, path, tmp_path / "there", "a row has more")


def rows_changed(path, target, table, **columns):
    def change(name, data):
        if name != "rows.jsonl":
            return data
        lines = [json.loads(line) for line in data.splitlines()]
        for kind, row in lines:
            if kind == table:
                row.update(columns)
        return "".join(json.dumps(line) + "\n" for line in lines)

    return rebuilt(path, target, change)


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("run", {"id": "../../x"}),
        ("run", {"id": "0123456789ab"}),
        ("run", {"number": 2**63 - 1}),
        ("run", {"number": 0}),
        ("run", {"started": "soon"}),
        ("run", {"pipeline": None}),
        ("run", {"more": 1}),
        ("run", {"value": "0" * 64}),
        ("run", {"value": "../../../etc/passwd"}),
        ("step", {"value": 7}),
        ("step", {"logs": "../../../../etc/passwd 0 10 0 0"}),
        ("step", {"logs": "w1 0 10 0"}),
        ("step", {"id": 5}),
        ("step", {"id": 2**70}),
        ("step", {"run": 77}),
        ("step", {"name": {"bytes": "YQ=="}}),
        ("step", {"inputs": {"bytes": "not base64"}}),
        ("step", {"inputs": {"bytes": 5}}),
        ("step", {"attempt": True}),
        ("attempt", {"step": 1}),
        ("component", {"number": 0}),
        ("source", {"text": "something else"}),
    ],
    ids=str,
)
def test_hostile_rows(path, tmp_path, capsys, table, columns):
    """Paths, types, numbers and digests that export does not write."""
    rows_changed(path, tmp_path / "evil.zip", table, **columns)
    assert_refused(capsys, tmp_path / "evil.zip", tmp_path / "there", "cannot be imported")


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "5", '["run"]', '[["run"], {}]', '["sqlite_master", {}]', '["run", []]',
     '["run", {}]', "{" * 10, "[" * 100_000, "\xff"],
)  # fmt: skip
def test_rows_that_are_none(path, tmp_path, capsys, text):
    """Whatever stands in the place of rows."""
    data = text.encode("latin-1")
    rebuilt(path, tmp_path / "evil.zip", lambda name, old: data if name == "rows.jsonl" else old)
    assert_refused(capsys, tmp_path / "evil.zip", tmp_path / "there", "cannot be imported")


@pytest.mark.parametrize(
    "manifest", ["", "[]", "{}", '{"format": 1, "schema": 2, "run": "0123456789ab"}', None,
                 '{"format": 9}', f'{{"format": 1, "schema": {VERSION}, "run": "../x"}}'],
)  # fmt: skip
def test_another_manifest(path, tmp_path, capsys, manifest):
    """Of another version, or none."""
    rebuilt(
        path, tmp_path / "evil.zip", lambda name, old: manifest if name == "manifest.json" else old
    )
    assert_refused(capsys, tmp_path / "evil.zip", tmp_path / "there", "cannot be imported")


def test_a_missing_or_wrong_blob(path, tmp_path, capsys):
    """Every value is there with the right digest before anything counts."""
    for change in (lambda data: None, lambda data: data + b"x"):
        rebuilt(
            path,
            tmp_path / "evil.zip",
            lambda name, data, change=change: change(data) if name[:5] == "blobs" else data,
        )
        assert_refused(capsys, tmp_path / "evil.zip", tmp_path / "there", "blob")


def test_a_failure_while_files_are_put_in_place(path, tmp_path, capsys, monkeypatch):
    """As with a full disk just before the commit: rows, blobs and logs are undone."""

    def fail(self, placed):
        unpacking.shutil.copytree(f"{self.staging}/logs", f"{self.folder}/logs")
        placed += [f"{self.folder}/logs/{run}" for run in self.logs]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(unpacking._Import, "_place_logs", fail)
    assert_refused(capsys, path, tmp_path / "there", "No space left")


def test_an_interrupted_run_travels_as_that(living, tmp_path):
    """Wherever it comes to, nobody performs it."""
    living.send_signal(signal.SIGKILL)
    living.wait()
    export("waiting#1", str(tmp_path / "killed.zip"))
    there = str(tmp_path / "there")
    run = import_run(str(tmp_path / "killed.zip"), store=there)
    assert get_run(run, store=there).status == "interrupted"
    assert remove(run, store=there).runs[0].status == "interrupted"


def test_what_killed_controllers_have_left_in_the_exchange(store):
    """The folder of a run, and that of doctor, are garbage; archives of code and others are not."""
    started(outer, "a")
    left = [Path(store, "remote", name) for name in ("0123456789ab-01234567", "doctor-01234567")]
    kept = [Path(store, "remote", name) for name in ("code", "notes")]
    for folder in left + kept:
        folder.mkdir(parents=True)
        (folder / "setting").touch()
        age(folder)
    collect(store)
    assert not any(folder.exists() for folder in left)
    assert all(folder.exists() for folder in kept)

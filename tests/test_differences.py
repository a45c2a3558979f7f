"""The comparison of two runs, as an object and as a command."""

import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from conftest import wait_until

import pipedeco
from pipedeco import StoreError, component, differences, get_run, pipeline
from pipedeco.cli import main
from pipedeco.differences import NOT_FOUND, WITHIN, Change, compare
from pipedeco.store.database import connect, connect_to_read, database_path, queries

CONTROLS = "\x1b[31mred\x1b]0;title\x07\r\b\x00\x9b2J\u202egnp.exe"


@component
def double(x):
    return 2 * x


@component
def maybe(x):
    if x == "fail":
        raise ValueError("no luck")
    return x


@component
def large(x):
    return x * 100_000


@component(name="other")
def also_double(x):
    return 2 * x


@pipeline
def total(n, what=1):
    maybe(what)
    return sum(double(x) for x in range(n))


@pipeline
def mixed(flag):
    return also_double(3) if flag else double(3)


@pipeline
def sized(letter):
    return large(letter)


@pipeline
def nested(x):
    return {"x": [x, {"deep": x}], "long": ["y"] * 50 + [x]}


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    """A store of the test's own."""
    folder = str(tmp_path / "store")
    monkeypatch.setenv("PIPEDECO_STORE", folder)
    monkeypatch.delenv("PIPEDECO_MODE", raising=False)
    pipedeco.configure(mode="debug")
    yield folder
    pipedeco.configure(mode=None, workers=None)


def make(function, *args):
    """A run of a pipeline, as it is recorded; failed or not."""
    try:
        function(*args)
    except ValueError:
        pass
    return get_run("latest")


def change(store, statement, *values):
    with closing(sqlite3.connect(database_path(store))) as connection, connection:
        connection.execute(statement, values)


def put_code(store, run, name, code, parts, texts):
    """What the recorder writes of a component's code."""
    for text in texts.values():
        change(store, "insert or ignore into source values (?, ?)", f"d{hash(text)}", text)
    change(
        store,
        "update component set code = ?, parts = ?, sources = ? where name = ? and run ="
        " (select seq from run where id = ?)",
        code,
        json.dumps(parts),
        json.dumps({part: f"d{hash(text)}" for part, text in texts.items()}),
        name,
        run.id,
    )


def put_capture(store, run, **parts):
    record = {
        "format": 1,
        "python": {"version": "3.12.1", "implementation": "cpython", "optimize": 0},
        "platform": {"system": "Linux", "machine": "x86_64", "host": "here"},
        "packages": {"numpy": "2.0", "pandas": "2.2"},
        "environment": {"OMP_NUM_THREADS": "1"},
        "git": {"commit": "a" * 40, "branch": "main", "dirty": False, "untracked": {}, "notes": []},
        "notes": [],
        **parts,
    }
    wait_until(lambda: run.capture is not None, "its own capture is recorded")
    change(store, "update run set capture = ? where id = ?", json.dumps(record), run.id)


def told(changes):
    return {c.name: (c.left, c.right) for c in changes}


def command(capsys, *arguments, code):
    """What the command prints."""
    assert main(["diff", *arguments]) == code
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refresh(*runs):
    return [get_run(run.id) for run in runs]


# -- the object ------------------------------------------------------------------------------


def test_every_statement_is_sql_of_the_schema(store):
    """SQLite compiles each of them."""
    with closing(connect(store)) as connection:
        for statement in queries("comparing.sql").values():
            names = dict.fromkeys(re.findall(r":([a-z_]+)", statement))
            connection.execute("explain " + statement, names)


@pytest.mark.parametrize("mode", ["debug", "local"])
def test_the_same_run_twice_has_only_other_times(mode):
    """Values of every size are the same; the times are told."""
    pipedeco.configure(mode=mode, workers=1)
    for function, args in ((total, (3,)), (sized, ("a",)), (nested, (1.5,))):
        found = compare(make(function, *args), make(function, *args))
        assert not found
        assert found.to_json()["equal"] is True
        assert found.times[0].name == "(run)"
        assert found.times[0].ratio == pytest.approx(found.times[0].right / found.times[0].left)


def test_parameters_results_and_steps():
    """By preview, side by side, steps that only one has included."""
    found = compare(make(total, 2), make(total, 3, 7))
    assert found
    assert told(found.parameters) == {"n": ("2", "3"), "what": ("1", "7")}
    assert told(found.run) == {"result": ("2", "6")}
    assert told(found.steps) == {"maybe": ("1", "7"), "double-3": (None, "4")}
    assert [t.name for t in found.times] == ["(run)", "maybe", "double", "double-2"]
    back = compare(get_run("total#2"), get_run("total#1"))
    assert told(back.steps)["double-3"] == ("4", None)


def test_values_that_look_the_same_are_told_apart():
    """A preview shows the beginning only; blobs and inline values alike."""
    found = compare(make(sized, "a"), make(sized, "b"))
    assert [c.name for c in found.steps] == ["large"]
    assert found.steps[0].details[0].startswith("100,000 / 100,000 characters, from 0 on: 'aaa")
    found = compare(make(nested, ["z"] * 9 + [1]), make(nested, ["z"] * 9 + [2]))
    looks = [get_run("latest")._fresh()["preview"]] * 2
    lines = ["['x'][0][9]: 1 / 2"]  # and not at each place where the list stands again
    assert found.run == [Change("result", *looks, WITHIN, lines)]
    assert found.parameters == [Change("(all)", None, None, WITHIN, ["['x'][9]: 1 / 2"])]


def test_a_failure_beside_a_success():
    """State, error and what it meant for the run."""
    found = compare(make(total, 1, "ok"), make(total, 1, "fail"))
    assert told(found.run) == {
        "status": ("completed", "failed"),
        "error": (None, "ValueError: no luck"),
        "result": ("0", None),
    }
    assert told(found.steps)["maybe"] == ("'ok'", "failed: ValueError: no luck")
    again = compare(get_run("latest"), make(total, 1, "fail"))
    assert not again


def test_a_value_from_the_cache_is_no_difference(store):
    """A fingerprint, where both have one, decides before the stored bytes do."""
    runs = make(total, 1), make(total, 1)
    change(store, "update step set state = 'cached' where run = 2")
    assert not compare(*refresh(*runs))
    change(
        store,
        "update step set value = cast(x'00' || value as blob) where run = 2 and name = 'maybe'",
    )
    (step,) = compare(*refresh(*runs)).steps
    assert step.note == WITHIN
    assert step.details[0].startswith("not compared: it cannot be loaded in this process")
    for seq in (1, 2):
        change(
            store,
            "insert into step_key select id, null, '[]', 'same', null from step where run = ?",
            seq,
        )
    assert not compare(*refresh(*runs))
    change(store, "update step_key set fingerprint = step")
    found = compare(*refresh(*runs)).steps
    assert [(c.name, c.note) for c in found] == [("maybe", WITHIN), ("double", NOT_FOUND)]


def test_a_set_in_another_order_is_no_difference(store):
    """Its bytes are others; loaded, the two are equal."""
    import pickle

    runs = make(total, 1), make(total, 1)
    for run, order in zip(runs, (["a", "b"], ["b", "a"]), strict=True):
        change(
            store,
            "update step set value = ?, preview = '{...}' where name = 'maybe' and run ="
            " (select seq from run where id = ?)",
            pickle.dumps({order[0], order[1]}) + pickle.dumps(order),  # what follows is not read
            run.id,
        )
    assert not compare(*refresh(*runs))


def test_what_was_not_recorded_is_not_known_to_differ(store):
    """An empty value says that it could not be pickled."""
    runs = make(total, 1), make(total, 1)
    change(store, "update step set value = x'' where run = 2")
    change(store, "update run set value = x'', args = x'' where seq = 2")
    assert not compare(*refresh(*runs))


def test_components_come_and_go(store):
    """By name; with other options too."""
    found = compare(make(mixed, True), make(mixed, False))
    assert told(found.components) == {"other": ("there", None), "double": (None, "there")}
    change(store, """update component set options = '{"retries": "3"}' where run = 1""")
    runs = get_run("mixed#1"), make(mixed, True)
    (options,) = compare(*runs).components
    assert options == Change("other", '{"retries": "3"}', '{"name": "\'other\'"}', "options") or (
        options.left == '{"retries": "3"}' and options.note == "options"
    )


def test_changed_code_is_told_part_by_part(store):
    """Digests and versions of parts, and the sources' difference, once for all components."""
    left, right = make(total, 1), make(total, 1)
    helper = "function lib.helper"
    for name in ("double", "maybe"):
        put_code(
            store, left, name, "c1",
            [[helper, "1"], ["package numpy", "2.0"], ["value lib.OLD", "9"], ["python", "3.12"]],
            {helper: "def helper(x):\n    return x + 1\n", "class lib.Same": "class Same: ..."},
        )  # fmt: skip
        put_code(
            store, right, name, "c2",
            [[helper, "2"], ["package numpy", "2.1"], ["value lib.NEW", "9"], ["python", "3.12"]],
            {helper: "def helper(x):\n    return x + 2\n", "class lib.Same": "class Same: ..."},
        )  # fmt: skip
    found = compare(*refresh(left, right))
    assert [c.name for c in found.code] == ["maybe", "double"]
    assert told(found.code[0].parts) == {
        helper: ("1", "2"),
        "package numpy": ("2.0", "2.1"),
        "value lib.OLD": ("9", None),
        "value lib.NEW": (None, "9"),
    }
    assert list(found.sources) == [helper]
    assert found.sources[helper].split("\n")[1:4] == [
        " def helper(x):", "-    return x + 1", "+    return x + 2",
    ]  # fmt: skip


def test_code_that_was_recorded_once_is_a_note(store):
    """It cannot be compared, and is no difference."""
    left, right = make(total, 1), make(total, 1)
    put_code(store, left, "double", "c1", [], {})
    put_code(store, right, "double", None, [], {})
    found = compare(*refresh(left, right))
    assert not found
    assert "the code of component double was recorded in one run only" in found.notes


def test_captures_are_compared(store):
    """Python, machine, commit, uncommitted changes, packages, environment."""
    left, right = make(total, 1), make(total, 1)
    put_capture(store, left, notes=["a note"])
    put_capture(store, right)
    found = compare(*refresh(left, right))
    assert not found
    assert found.notes == [f"run {left.id}: a note"]
    put_capture(
        store,
        right,
        python={"version": "3.13.0", "implementation": "cpython", "optimize": 0},
        packages={"numpy": "2.1", "scipy": "1.0"},
        environment={},
        git={
            "commit": "b" * 40, "branch": "main", "dirty": True, "diff_bytes": 1234,
            "diff_digest": "f" * 64, "untracked": {"new.py": "e" * 64}, "notes": ["of git"],
        },
    )  # fmt: skip
    found = compare(*refresh(left, right))
    assert told(found.python) == {"python": ("3.12.1", "3.13.0"), **told(found.python[1:])}
    assert told(found.packages) == {
        "numpy": ("2.0", "2.1"), "pandas": ("2.2", None), "scipy": (None, "1.0"),
    }  # fmt: skip
    assert told(found.environment) == {"OMP_NUM_THREADS": ("1", None)}
    assert told(found.git) == {
        "commit": ("a" * 40, "b" * 40),
        "uncommitted diff": (None, "1,234 bytes, ffffffffffff"),
        "untracked new.py": (None, "eeeeeeeeeeee"),
    }
    assert f"run {right.id}: of git" in found.notes


@pytest.mark.parametrize(
    "record",
    [{}, {"git": None}, {"git": {"commit": None}, "notes": ["no time"]}, {"packages": {}}],
)
def test_a_capture_that_is_not_complete_is_compared_as_far_as_it_goes(store, record):
    """Parts may be missing on either side."""
    left, right = make(total, 1), make(total, 1)
    put_capture(store, left)
    change(store, "update run set capture = ? where id = ?", json.dumps(record), right.id)
    for runs in ((left, right), (right, left), (right, right)):
        json.dumps(compare(*refresh(*runs)).to_json())


def test_runs_without_a_capture_say_so(store):
    """Of which run it is missing."""
    left, right = make(total, 1), make(total, 1)
    put_capture(store, left)
    change(store, "update run set capture = null where id = ?", right.id)
    (note,) = compare(*refresh(left, right)).notes
    assert note.endswith(f"were not recorded of run {right.id}")


def test_runs_of_two_pipelines_and_two_stores(tmp_path):
    """Any two runs can be compared."""
    one = make(total, 1)
    other = str(tmp_path / "elsewhere")
    mixed.with_options(store=other)(True)
    found = compare(one, get_run("latest", store=other))
    assert told(found.run)["pipeline"] == ("total", "mixed")


def test_a_run_that_goes_on_can_be_compared(monkeypatch):
    """With what is recorded of it so far; nothing differs from itself, whatever ends meanwhile."""

    def read_and_wait(*args):
        side = read(*args)
        run.result(20)
        wait_until(lambda: get_run(run.id).status == "completed")
        return side

    read = differences._read
    monkeypatch.setattr(differences, "_read", read_and_wait)
    pipedeco.configure(mode="local", workers=1)
    run = total.start(2)
    found = compare(run, get_run(run.id))
    assert not found
    assert found.left == found.right


def test_a_store_that_cannot_be_read_is_an_error(store):
    """A sentence, not sqlite's exception."""
    run = make(total, 1)
    change(store, "drop table source")
    change(store, "drop table step_key")
    with pytest.raises(StoreError, match="cannot be read"):
        compare(run, run)


def test_many_steps_are_read_without_their_values(store):
    """Of a large value only a digest is held."""
    run = make(sized, "a")
    with closing(connect_to_read(store)) as connection:
        from pipedeco.differences import _read_steps

        (row,) = _read_steps(connection, run._facts["seq"], "completed").values()
    assert len(row["value"]) <= 64


# -- the command -----------------------------------------------------------------------------


def test_equal_runs_exit_with_0(capsys, store):
    """And say that there is nothing to say."""
    for _ in range(2):
        put_capture(store, make(total, 2))
    out = command(capsys, "total#1", "total#2", code=0)
    assert "no differences but times" in out
    assert [line.split() for line in out.splitlines()[:2]] == [
        ["left", "total#1", get_run("total#1").id, "completed"],
        ["right", "total#2", get_run("total#2").id, "completed"],
    ]
    assert json.loads(command(capsys, "total#1", "latest", "--json", code=0))["equal"] is True


def test_different_runs_exit_with_1(capsys, store):
    """Each section has its rows; JSON is what the object gives."""
    left, right = make(total, 1), make(total, 2, "x")
    put_code(store, left, "double", "1", [["function f", "1"]], {"function f": "one\n\ttab\n"})
    put_code(store, right, "double", "2", [["function f", "2"]], {"function f": "two\n\ttab\n"})
    out = command(capsys, "total#1", "total#2", code=1)
    for line in (
        r"result +0 +2", r"n +1 +2", r"what +1 +'x'", r"function f +1 +2", r"-one", r"\+two",
        r"double-2 +- +2", r"\(run\) .*x",
    ):  # fmt: skip
        assert re.search(rf"^{line}", out, re.MULTILINE), line
    assert "no differences" not in out
    found = json.loads(command(capsys, left.id, right.id, "--json", code=1))
    assert found == compare(*refresh(left, right)).to_json()


def test_foreign_text_is_harmless(capsys, store):
    """Names, values, parts, sources and notes come from anywhere."""
    left, right = make(total, 1, CONTROLS), make(total, 1, CONTROLS + "x")
    put_code(store, left, "double", "1", [[CONTROLS, CONTROLS]], {CONTROLS: f"{CONTROLS}\n1"})
    put_code(store, right, "double", "2", [[CONTROLS, "2"]], {CONTROLS: f"{CONTROLS}2\n1"})
    put_capture(store, left, packages={CONTROLS: CONTROLS}, notes=[CONTROLS])
    put_capture(store, right, git={"commit": CONTROLS, "untracked": {CONTROLS: CONTROLS}})
    out = command(capsys, left.id, right.id, code=1)
    assert all(character.isprintable() or character == "\n" for character in out)
    command(capsys, left.id, right.id, "--json", code=1)


def test_long_sections_are_cut(capsys, store):
    """And say how much more there is."""
    left, right = make(total, 50), make(total, 1)
    texts = {"function f": "\n".join(f"line {n}" for n in range(500))}
    put_code(store, left, "double", "1", [], texts)
    put_code(store, right, "double", "2", [], {"function f": ""})
    out = command(capsys, left.id, right.id, code=1)
    assert "... and 29 more; --json has all" in out
    assert len(out.splitlines()) < 200


def test_a_user_s_mistake_is_a_sentence(capsys):
    """Exit code 2, as everywhere."""
    make(total, 1)
    assert main(["diff", "total#1", "nothing"]) == 2
    assert main(["diff", "total#1"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err


# -- values ----------------------------------------------------------------------------------

SCRIPT = """
import numpy, pandas
from pipedeco import component, pipeline

print("top level")

class Model:
    def __init__(self, weight):
        self.weight = weight

@component
def fit(k):
    return {"model": Model(k), "all": numpy.full(3, k)}

@component
def table(k):
    return pandas.DataFrame({"a": [k, 1], "b": [0, 0]})

@pipeline
def training(k: int = 1):
    return [fit(k), table(k)]

training(1)
training(2)
"""


def test_values_of_a_script_are_looked_into(tmp_path):
    """Its classes are in the script, which is loaded for its definitions; stdout is the report's."""
    (tmp_path / "app.py").write_text(SCRIPT)

    def called(*command):
        return subprocess.run(
            [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    assert called("app.py").returncode == 0
    done = called("-m", "pipedeco", "diff", "training#1", "training#2")
    assert done.returncode == 1, done.stderr
    assert "top level" not in done.stdout
    for line in (
        "step fit\n  ['model'].weight: 1 / 2\n  ['all']: 3 of 3 values differ",
        "step table\n  ['a']: 1 of 2 cells differ, the largest difference is 1: 0: 1 / 2\n",
        "\nresult\n  [0]['model'].weight: 1 / 2\n",
    ):
        assert line in done.stdout
    found = json.loads(called("-m", "pipedeco", "diff", "training#1", "latest", "--json").stdout)
    assert [step["note"] for step in found["steps"]] == [WITHIN, WITHIN]
    (tmp_path / "app.py").unlink()
    done = called("-m", "pipedeco", "diff", "training#1", "training#2")
    assert done.returncode == 1
    assert "step fit\n  not compared: it cannot be loaded in this process" in done.stdout


def test_not_all_of_many_values_are_looked_at(monkeypatch):
    """That there are more is told."""
    monkeypatch.setattr("pipedeco.recorded_values.MANY", 1)
    found = compare(make(sized, "a"), make(sized, "b"))
    assert "values that were not looked at: 1" in found.notes
    monkeypatch.setattr("pipedeco.recorded_values.LARGEST", 10)
    monkeypatch.setattr("pipedeco.recorded_values.MANY", 20)
    (step,) = compare(make(sized, "a"), make(sized, "b")).steps
    assert step.details == ["not compared: its 100 kB are too much to be loaded for that"]

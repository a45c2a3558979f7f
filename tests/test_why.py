"""Why a step was performed or was not, and the commands on the cache."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import pipedeco
from pipedeco import Cache, ConfigError, RunNotFound, StoreError, component, get_run, pipeline
from pipedeco.cli import main
from pipedeco.explaining import why, why_all
from pipedeco.housekeeping import archive, export, import_run, remove, unarchive
from pipedeco.housekeeping.entries import count_entries, entries, remove_entries
from pipedeco.store.database import connect, database_path, queries

CONTROLS = "\x1b[31mred\x1b]0;title\x07\r\b\x00\x9b2J\u202egnp.exe"
RATE = 2
STREAM = None


def helper(x):
    return x * RATE


@dataclass
class Model:
    size: int


class Trap:
    """Leaves a trace where it is unpickled."""

    traces: ClassVar = []

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        return spring, (self.number,)


def spring(number):
    Trap.traces.append(number)
    return Trap(number)


@component(cache=True)
def load(n):
    return [n] * 3


@component(cache=True)
def fit(data, rounds=100, *, model=None):
    return helper(len(data)) + rounds


@component
def plain(x):
    return x


@component(cache=True)
def large(letter):
    return letter * 100_000


@component(cache=True)
def guarded(path):
    if not Path(path).exists():
        raise OSError("it is not there")
    return 1


@component(cache=True)
def streamed(x):
    return x if STREAM is None else next(STREAM)


@pipeline
def flow(n=1, rounds=100, model=None):
    return fit(load(n), rounds, model=model)


@pipeline
def many(sizes, extra=0):
    return [fit([n], extra).result() for n in sizes]


@pipeline
def single(step, *args, **kwargs):
    return step(*args, **kwargs).result()


@pipeline
def nested(n):
    return flow(n)


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    """A store of the test's own."""
    folder = str(tmp_path / "store")
    monkeypatch.setenv("PIPEDECO_STORE", folder)
    monkeypatch.delenv("PIPEDECO_MODE", raising=False)
    pipedeco.configure(mode="debug")
    yield folder
    pipedeco.configure(mode=None)


def answer(step, run="latest"):
    run = get_run(run)
    return why(run.store, run.id, step)


def said(step, run="latest"):
    """The reasons' sentences."""
    return [reason.text for reason in answer(step, run).reasons]


def change(store, statement, *values):
    with closing(sqlite3.connect(database_path(store))) as connection, connection:
        connection.execute(statement, values)


def shown(capsys, *arguments):
    assert main(list(arguments)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refused(capsys, *arguments):
    """The one sentence with which the command refuses."""
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_every_statement_is_sql_of_the_schema(store):
    """SQLite compiles each of them."""
    with closing(connect(store)) as connection:
        for statement in queries("explaining.sql").values():
            names = dict.fromkeys(re.findall(r":([a-z_]+)", statement))
            connection.execute(f"explain {statement}", names)


# -- steps that were not performed -----------------------------------------------------------


@pytest.mark.parametrize("mode", ["debug", "local"])
def test_a_cached_step_names_the_step_whose_value_it_has(mode):
    """The run by id and name, and when the value was made."""
    flow.with_options(mode=mode)()
    first = get_run()
    flow.with_options(mode=mode)()
    found = answer("fit")
    assert (found.state, found.run_name, found.component) == ("cached", "flow#2", "fit")
    assert found.other == {"run": first.id, "run_name": "flow#1", "step": "fit"}
    head = f"step fit of run {get_run().id} (flow#2) was not performed: it has the value of "
    source = f"step fit of run {first.id} (flow#1), made 20"
    assert str(found).startswith(head + source)
    assert str(found).endswith("; the same code and arguments")


def test_a_cached_step_whose_run_was_removed_or_archived():
    """The value stays; where it came from is said as far as it is known."""
    flow()
    flow()
    archive("flow#1")
    assert "(flow#1), which is archived since, made" in said("fit")[0]
    remove("flow#1")
    found = answer("fit")
    assert found.other is None
    assert "the run that made it was removed since" in found.text


def test_steps_that_did_not_end_well(tmp_path):
    """A failed step tells its error, a skipped one what it lacked."""
    with pytest.raises(OSError, match="not there"):
        single(guarded, str(tmp_path / "a"))
    assert said("guarded") == ["OSError: it is not there; failures are not kept"]
    assert "was" not in str(answer("guarded")).partition(":")[0]

    @pipeline(mode="local")
    def chain():
        fit(guarded(str(tmp_path / "b")))

    with pytest.raises(pipedeco.RunFailed):
        chain()
    assert said("fit") == ["step guarded, which it needs, failed"]
    assert " was skipped: step guarded" in str(answer("fit"))


@pytest.mark.parametrize(
    ("status", "state", "text"),
    [
        ("cancelled", "cancelled", "was cancelled: Ctrl-C"),
        ("running", "running", "was interrupted: its controller was killed while it ran"),
        ("running", "queued", "has not begun: whether its value is known"),
        ("failed", "pending", "has not begun: the run is failed"),
    ],
)
def test_steps_that_were_stopped_or_never_begun(store, status, state, text):
    """Each state has a sentence of its own; a dead controller is noticed."""
    flow()
    change(store, "update run set status = ?, owner = '1-ab'", status)
    change(store, "update step set state = ?, reason = 'Ctrl-C' where name = 'fit'", state)
    assert text in str(answer("fit"))


def test_a_step_of_a_living_run():
    """It is not interrupted, and why it is performed is recorded when it ends."""

    @component(cache=True)
    def curious():
        run = get_run()
        assert run.steps["curious"].state == "running"  # which has it recorded
        return str(why(run.store, run.id, "curious"))

    assert single(curious).endswith(" is being performed: why is recorded when it ends")


def test_a_pipeline_is_never_cached():
    """Its run has the answers."""
    nested(1)
    child = get_run("flow#1")
    assert said("flow", "nested#1") == [
        f"a pipeline is never cached as a whole; see its run {child.id}"
    ]
    nested(1)
    assert answer("fit", "flow#2").state == "cached"


# -- components without cache -----------------------------------------------------------------


def test_a_component_that_is_not_cached():
    """What would cache it is said."""
    single(plain, 1)
    assert said("plain") == ["component plain is not cached; @component(cache=True) would cache it"]


def test_a_component_whose_cache_was_switched_off():
    """The run is named in which it was on."""
    single(load, 1)
    single(load.with_options(cache=False), 1)
    (text,) = said("load")
    assert "is not cached here, as it was in run" in text
    assert "(single#1)" in text


def test_a_pipeline_whose_cache_was_off():
    """The component says cache, the run said no."""
    flow()
    flow.with_options(cache=False)()
    assert said("fit") == ["the cache was off: its pipeline was run with cache=False"]


# -- the first time -----------------------------------------------------------------------------


def test_the_first_run_has_nothing_to_be_compared_with():
    """Other steps of the same run are no earlier run."""
    many([1, 2])
    for step in ("fit", "fit-2"):
        assert said(step) == ["no earlier run has performed component fit with the cache on"]


def test_another_pipeline_is_compared_with_where_this_one_has_none():
    """The same function anywhere is better than nothing."""
    single(load, 1)
    flow(2)
    found = answer("load")
    assert found.other["run_name"] == "single#1"
    assert found.text == "argument n differs (1 -> 2)"


# -- arguments ----------------------------------------------------------------------------------


def test_an_argument_differs():
    """With what it was and what it is."""
    flow()
    flow(rounds=150)
    found = answer("fit")
    assert [tuple(reason.__getattribute__(n) for n in ("part", "name", "before", "now"))
            for reason in found.reasons] == [("argument", "rounds", "100", "150")]  # fmt: skip
    head, line = str(found).splitlines()
    assert head.endswith(f"compared with step fit of run {get_run('flow#1').id} (flow#1):")
    assert line == "  argument rounds differs (100 -> 150)"
    assert answer("load").state == "cached"


def test_an_argument_that_one_call_leaves_out():
    """The default is named as such."""
    single(fit, [1])
    single(fit, [1], rounds=5)
    assert said("fit") == ["argument rounds differs (its default -> 5)"]
    single(fit, [1], 7, model={"deep": [1, 2]})
    assert said("fit") == [
        "argument rounds differs (5 -> 7)",
        "argument model differs (its default -> {'deep': [1, 2]})",
    ]


def test_previews_execute_nothing():
    """An object of the user's is not unpickled to be shown; of what holds it, the rest is."""
    single(fit, [1], model=Trap(1))
    single(fit, [1], model=Trap(2))
    Trap.traces.clear()
    assert said("fit") == ["argument model differs"]
    single(fit, [1], model=[1, Trap(2)])
    assert said("fit") == ["argument model differs (... -> [1, ...])"]
    single(fit, [1], model=Model(3))
    Trap.traces.clear()
    assert said("fit") == ["argument model differs ([1, ...] -> Model)"]
    assert Trap.traces == []


def test_large_arguments_beside_small_ones():
    """Arrays stand beside the pickle and are not touched."""
    array = np.zeros(100_000)
    single(fit, array, 1)
    single(fit, array + 1, 2)
    assert said("fit") == ["argument data differs", "argument rounds differs (1 -> 2)"]
    small = np.zeros(3)
    single(fit, small, 3)
    single(fit, small + 1, 4)
    assert said("fit") == ["argument data differs", "argument rounds differs (3 -> 4)"]


def test_arguments_that_are_lost():
    """Without their record it is said only that they differ."""
    single(load, "a" * 100_000)
    single(load, "b" * 100_000)
    assert said("load")[0].startswith("argument n differs ('aaa")
    run = get_run("single#1")
    for path in (Path(run.store) / "blobs").glob("*/*"):
        path.unlink()
    assert said("load") == ["argument n differs"]


def test_results_among_the_arguments():
    """They are named by their step and what is taken of it."""

    @pipeline(name="picking")
    def first():
        return fit([load(1)[0]]).result()

    @pipeline(name="picking")
    def second():
        return fit([load(1)[1]]).result()

    first()
    second()
    assert said("fit") == ["argument data differs ([load[0]] -> [load[1]])"]


def test_an_ignored_argument_that_counts_now():
    """Cache(ignore=...) takes a part away, and gives it back."""
    single(fit.with_options(cache=Cache(ignore=("rounds",))), [1], 1)
    single(fit, [1], 2)
    assert said("fit") == ["argument rounds counts, and did not before"]
    single(fit.with_options(cache=Cache(ignore=("rounds", "data"))), [2], 2)
    assert said("fit") == ["argument data counts no more", "argument rounds counts no more"]


def test_the_step_of_the_same_name_is_compared_else_the_likest():
    """What a loop makes more of is compared with what is nearest to it."""
    many([1, 2], extra=5)
    many([1, 3, 2, 4], extra=5)
    assert [answer(name).state for name in ("fit", "fit-2", "fit-3")] == [
        "cached", "completed", "cached",
    ]  # fmt: skip
    assert said("fit-2") == ["argument data differs ([2] -> [3])"]
    last = answer("fit-4")
    assert last.other["step"] == "fit"
    assert last.text == "argument data differs ([1] -> [4])"


# -- values of other steps ----------------------------------------------------------------------


def test_the_value_of_another_step_differs():
    """With both previews; a step that gave the same value makes no difference."""
    flow(1)
    flow(2)
    assert said("fit") == ["the value of step load differs ([1, 1, 1] -> [2, 2, 2])"]
    assert answer("fit").reasons[0].part == "input"


def test_code_of_the_class_of_a_value_has_changed(store):
    """The digest of the value is the same, that of its class is not."""
    flow(1)
    flow(2)
    for run, print_ in ((1, "aa bb"), (2, "aa cc")):
        change(
            store,
            "update step_key set parts = json_set(parts, '$.inputs.load', ?) where step >> 32 = ?",
            print_,
            run,
        )
    assert said("fit") == ["code of what the value of step load holds has changed"]


# -- code ---------------------------------------------------------------------------------------


def test_a_value_that_the_code_reads_has_changed(monkeypatch):
    """The name of the value, and where to see the code."""
    flow()
    monkeypatch.setattr(sys.modules[__name__], "RATE", 3)
    flow()
    found = answer("fit")
    assert found.text == f"code: value {__name__}.RATE has changed"
    assert str(found).splitlines()[-1] == (
        f"the code of both: pipedeco diff {get_run('flow#1').id} {get_run('flow#2').id}"
    )
    assert answer("load").state == "cached"


def test_versions_of_packages_and_of_python_have_changed(store):
    """They are told as versions; what is new or gone as such."""
    flow(1)
    flow(2)
    sets = (
        [["function a.b", "1"], ["package numpy", "2.3"], ["python", "3.11"]],
        [["class a.C", "1"], ["package numpy", "2.4"], ["python", "3.12"]],
    )
    for run, parts in enumerate(sets, 1):
        statement = "update component set parts = ? where run = ?"
        change(store, statement, json.dumps(parts), run)
        key = "update step_key set parts = json_set(parts, '$.code', ?) where step >> 32 = ?"
        change(store, key, f"code {run}", run)
    assert said("load") == [
        "code: class a.C is new",
        "code: function a.b is gone",
        "code: package numpy 2.3 -> 2.4",
        "code: python 3.11 -> 3.12",
        "argument n differs (1 -> 2)",
    ]
    change(store, "update component set parts = null")
    assert said("load")[0] == "code: it differs; the records do not tell in which part"


SCRIPT = """
from pipedeco import component, pipeline
RATE = 1
def helper(x):
    return x * RATE
@component(cache=True)
def fit(x):
    return helper(x)
@pipeline(mode="debug")
def training():
    return fit(2)
training()
"""


def test_edits_between_processes(tmp_path):
    """Each edit is named; a comment is none."""
    path = tmp_path / "app.py"
    edits = [
        SCRIPT,
        SCRIPT.replace("x * RATE", "x * RATE  # times"),
        SCRIPT.replace("x * RATE", "x + RATE"),
        SCRIPT.replace("x * RATE", "x + RATE").replace("RATE = 1", "RATE = 2").replace(
            "return helper(x)", "return other(helper(x))"
        ) .replace("def helper", "def other(x):\n    return x\ndef helper"),
    ]  # fmt: skip
    for text in edits:
        path.write_text(text)
        subprocess.run([sys.executable, str(path)], check=True, timeout=20)
    assert answer("fit", "training#2").state == "cached"
    assert said("fit", "training#3") == ["code: function __main__.helper has changed"]
    assert said("fit", "training#4") == [
        "code: function __main__.fit has changed",
        "code: function __main__.other is new",
        "code: value __main__.RATE has changed",
    ]


def test_the_version_of_the_cache_differs():
    """Which is counted by hand."""
    single(load.with_options(cache=Cache(version=1)), 1)
    single(load.with_options(cache=Cache(version=2)), 1)
    assert said("load") == ["Cache(version=...) differs (1 -> 2)"]


# -- what was in the way --------------------------------------------------------------------------


def test_a_value_that_is_too_old():
    """The time to live is over."""
    short = load.with_options(cache=Cache(ttl=0.001))
    single(short, 1)
    time.sleep(0.01)
    single(short, 1)
    assert said("load") == ["the known value is older than 0.001 s"]


@pytest.mark.parametrize("how", ["all", "name", "option"])
def test_a_value_that_was_to_be_refreshed(how):
    """By the run, by name, or by the component."""
    flow()
    step = load.with_options(cache=Cache(refresh=True)) if how == "option" else load
    refresh = {"all": True, "name": "load", "option": False}[how]
    single.with_options(refresh=refresh)(step, 1)
    assert said("load") == ["it was to be refreshed"]


def test_a_value_that_is_lost(store):
    """Its blob is not there."""
    single(large, "a")
    for path in Path(store, "blobs").glob("*/*"):
        path.unlink()
    single(large, "a")
    assert said("large") == ["the known value is missing or damaged"]


def test_equality_that_cannot_be_proven(monkeypatch):
    """The sentence says what is in the way, then and later."""
    monkeypatch.setattr(sys.modules[__name__], "STREAM", (n for n in (1, 2)))
    with pytest.warns(
        UserWarning, match=r"streamed is cached, but .* each time: test_why\.STREAM is"
    ):
        single(streamed, 1)
    (text,) = said("streamed")
    assert text.startswith("equality cannot be proven: ")
    assert "STREAM" in text
    monkeypatch.setattr(sys.modules[__name__], "STREAM", None)
    single(streamed, 1)
    (later,) = said("streamed")
    assert later == text.replace(
        "equality cannot be proven", "nothing could be proven equal to that one"
    )
    assert answer("streamed").other["run_name"] == "single#1"


def test_an_earlier_failure(tmp_path):
    """All is equal, but failures are not kept."""
    path = tmp_path / "late"
    with pytest.raises(OSError, match="not there"):
        single(guarded, str(path))
    path.touch()
    single(guarded, str(path))
    assert said("guarded") == ["all parts are equal; that one failed, and only values are kept"]
    assert answer("guarded").other["run_name"] == "single#1"


def test_an_archived_run_serves_no_hits():
    """As long as it is archived."""
    flow()
    archive("flow#1")
    flow()
    first = get_run("flow#1").id
    assert said("fit") == [f"all parts are equal; run {first}, which made the value, is archived"]
    unarchive("flow#1")
    assert "its run was archived" in said("fit")[0]


def test_an_imported_run_serves_no_hits(tmp_path, monkeypatch):
    """Whoever made it."""
    flow()
    export(get_run(), str(tmp_path / "run.zip"))
    store = str(tmp_path / "other")
    monkeypatch.setenv("PIPEDECO_STORE", store)
    import_run(str(tmp_path / "run.zip"))
    flow()
    assert "was imported, and serves no hits" in said("fit")[0]


def test_the_run_that_made_the_value_was_removed():
    """Who had it from there keeps it, and serves nobody."""
    flow()
    flow()
    remove("flow#1")
    flow()
    assert said("fit") == ["all parts are equal; the run that made the value was removed"]
    assert answer("fit").other["run_name"] == "flow#2"


def test_an_entry_that_was_removed():
    """The run is there, the entry is not."""
    flow()
    assert len(remove_entries(everything=True)) == 2
    flow()
    (text,) = said("fit")
    assert text.startswith(
        "all parts are equal; the cache did not have that value then: it was removed"
    )


def test_a_value_that_could_not_be_recorded(store):
    """Nor one that was made at the same time."""
    flow()
    remove_entries(everything=True)
    flow()
    change(store, "update step set value = x'' where run = 1")
    assert said("fit") == ["all parts are equal; its value could not be recorded"]
    change(store, "update step set value = null, duration = 1e6 where run = 1")
    assert said("fit") == ["all parts are equal; it was being performed at the same time"]


# -- the object -----------------------------------------------------------------------------------


def test_plain_types_and_one_sentence():
    """What --json prints."""
    flow()
    flow(rounds=150)
    facts = answer("fit").to_json()
    assert json.loads(json.dumps(facts)) == {
        "run": get_run().id,
        "run_name": "flow#2",
        "step": "fit",
        "component": "fit",
        "state": "completed",
        "reasons": [
            {
                "part": "argument",
                "text": "argument rounds differs (100 -> 150)",
                "name": "rounds",
                "before": "100",
                "now": "150",
            }
        ],
        "other": {"run": get_run("flow#1").id, "run_name": "flow#1", "step": "fit"},
    }


def test_steps_and_runs_that_are_not_there(store, tmp_path):
    """The usual errors."""
    flow()
    with pytest.raises(RunNotFound, match="there is no step 'nosuch'"):
        answer("nosuch")
    with pytest.raises(RunNotFound, match="run nosuch is not in the store"):
        why(store, "nosuch", "fit")
    with pytest.raises(StoreError, match="there is no store"):
        why(str(tmp_path / "no"), "nosuch", "fit")


@pytest.mark.parametrize("parts", ["", "[]", "{", '"x"', "{}", '{"arguments": 3, "inputs": [1]}'])
def test_records_that_are_not_what_they_should_be(store, parts):
    """An imported run may hold anything."""
    flow(1)
    flow(2)
    change(store, "update step_key set parts = ?", parts)
    assert said("fit") == ["the key differs; the records do not tell in which part"]


def test_many_steps_take_one_look(store):
    """A run of many steps is explained in a moment."""
    many(list(range(300)), extra=1)
    many(list(range(1, 600, 2)), extra=2)
    begin = time.monotonic()
    run = get_run()
    found = why_all(run.store, run.id)
    assert time.monotonic() - begin < 2
    assert len(found) == 300
    assert found[1].text == "argument data differs ([1] -> [3]); argument rounds differs (1 -> 2)"


# -- the commands ---------------------------------------------------------------------------------


def test_why_of_one_step(capsys):
    """As `str` and `to_json` have it."""
    flow()
    flow(rounds=150)
    assert shown(capsys, "why", "latest", "fit") == f"{answer('fit')}\n"
    assert json.loads(shown(capsys, "why", "flow#2", "fit", "--json")) == answer("fit").to_json()


def test_why_of_a_run(capsys):
    """A line for each step of a cached component."""
    flow()
    flow(rounds=150)
    head, one, two = shown(capsys, "why", "flow#2").splitlines()
    assert head.split() == ["step", "state", "against", "why"]
    assert re.split(" {2,}", one)[:3] == ["load", "cached", "flow#1"]
    assert re.split(" {2,}", two) == [
        "fit", "completed", "flow#1", "argument rounds differs (100 -> 150)",
    ]  # fmt: skip
    found = json.loads(shown(capsys, "why", "flow#2", "--json"))
    assert [item["step"] for item in found] == ["load", "fit"]
    single(plain, 1)
    assert shown(capsys, "why").startswith("no component of run ")
    assert shown(capsys, "why", "latest", "--json") == "[]\n"


def test_why_of_what_is_not_there(capsys):
    """One sentence."""
    flow()
    assert "there is no step 'nosuch'" in refused(capsys, "why", "latest", "nosuch")
    assert "there is no run 'nosuch'" in refused(capsys, "why", "nosuch", "fit")


def test_foreign_text_does_nothing_to_the_terminal(capsys):
    """Neither values nor names."""
    named = fit.with_options(name=f"x{CONTROLS}")
    single(named, [1], 1)
    single(named, [1], model={CONTROLS: 2})
    for command in (["why", "latest"], ["why", "latest", named.name], ["cache", "ls"]):
        out = shown(capsys, *command)
        assert "\\x1b" in out
        assert all(line.isprintable() for line in out.splitlines())


def test_cache_ls(capsys, store):
    """The newest first, with hits and sizes."""
    assert shown(capsys, "cache", "ls") == f"the cache in {store} knows no values\n"
    assert shown(capsys, "cache", "ls", "--json") == "[]\n"
    single(large, "a")
    flow()
    flow()
    head, first, second, third = shown(capsys, "cache", "ls").splitlines()
    assert head.split() == ["key", "component", "step", "run", "made", "size", "hits", "value"]
    assert re.split(" {2,}", first)[1:4] == ["fit", "fit", "flow#1"]
    assert re.split(" {2,}", first)[5:] == ["5 bytes", "1", "106"]
    assert re.split(" {2,}", second)[1] == "load"
    assert re.split(" {2,}", third)[5:7] == ["100 kB", "0"]
    found = json.loads(shown(capsys, "cache", "ls", "fit", "--json"))
    assert [(item["run_name"], item["hits"], item["archived"]) for item in found] == [
        ("flow#1", 1, False)
    ]
    assert re.fullmatch("[0-9a-f]{64}", found[0]["key"])
    assert "knows no values of component nosuch" in shown(capsys, "cache", "ls", "nosuch")


def test_cache_ls_with_a_limit_and_with_what_is_amiss(capsys, store):
    """How many more there are; a lost value and an archived run are told."""
    single(large, "a")
    flow()
    lines = shown(capsys, "cache", "ls", "--limit", "1").splitlines()
    assert lines[-1] == "... and 2 more; --limit 3 lists all"
    assert "--limit is a number" in refused(capsys, "cache", "ls", "--limit", "-1")
    archive("single#1")
    for path in Path(store, "blobs").glob("*/*"):
        path.unlink()
    assert "single#1 (archived)" in (line := shown(capsys, "cache", "ls", "large"))
    assert " lost " in line


def test_cache_rm_by_key(capsys):
    """A prefix is enough; the run keeps its value, and the step is performed again."""
    flow()
    flow(2)
    key = entries("fit")[0].key
    assert shown(capsys, "cache", "rm", key[:12], "--dry-run") == (
        "would remove 1 entry of the cache; nothing was changed\n"
    )
    assert count_entries() == 4
    assert shown(capsys, "cache", "rm", key[:12].upper(), key) == "removed 1 entry of the cache\n"
    assert get_run("flow#2").steps["fit"].result() == 106
    flow(2)
    assert [answer(name).state for name in ("load", "fit")] == ["cached", "completed"]


def test_cache_rm_of_what_is_not_there(capsys):
    """Nothing is removed then."""
    flow()
    key = entries("fit")[0].key
    assert "no key of the cache begins with 'ffff_%'" in refused(
        capsys, "cache", "rm", key, "ffff_%"
    )
    assert count_entries() == 2
    for n in range(3, 20):
        single(load, n)
    assert "more than one key begins with" in refused(
        capsys, "cache", "rm", next(d for d in "0123456789abcdef" if _begin(d) > 1)
    )


def _begin(digit):
    return sum(entry.key.startswith(digit) for entry in entries())


def test_cache_rm_by_component_and_age(capsys, store):
    """Both must hold where both are named."""
    flow()
    flow(2)
    assert shown(capsys, "cache", "rm", "--older-than", "1h") == "removed 0 entries of the cache\n"
    change(store, "update cache set created = created - 7200 where step >> 32 = 1")
    found = json.loads(
        shown(capsys, "cache", "rm", "--older-than", "1h", "--component", "fit", "--json")
    )
    assert len(found["removed"]) == 1
    assert found["dry_run"] is False
    assert [entry.run_name for entry in entries("fit")] == ["flow#2"]
    assert shown(capsys, "cache", "rm", "--component", "load") == "removed 2 entries of the cache\n"
    assert shown(capsys, "cache", "rm", "--all") == "removed 1 entry of the cache\n"
    assert shown(capsys, "cache", "rm", "--all") == "removed 0 entries of the cache\n"


def test_cache_rm_wants_to_be_told_what(capsys, tmp_path):
    """Neither nothing nor two ways at once."""
    flow()
    assert "what to remove is not said" in refused(capsys, "cache", "rm")
    assert "name either keys, or --all" in refused(capsys, "cache", "rm", "ab", "--all")
    assert "is no age" in refused(capsys, "cache", "rm", "--older-than", "soon")
    assert count_entries() == 2
    nowhere = ["--store", str(tmp_path / "no")]
    assert shown(capsys, "cache", "rm", "--all", *nowhere) == "removed 0 entries of the cache\n"
    assert "there is no store" in refused(capsys, "cache", "rm", "ab", *nowhere)
    assert not os.path.exists(nowhere[1])
    with pytest.raises(ConfigError, match="is not said"):
        remove_entries()


def test_completion_knows_components_and_keys():
    """Of what there is."""
    from pipedeco.cli.caching import complete_component, complete_key

    assert complete_component(None) == complete_key(None) == []
    flow()
    assert complete_component(None) == ["fit", "load"]
    assert complete_key(None) == [entry.key[:12] for entry in entries()]

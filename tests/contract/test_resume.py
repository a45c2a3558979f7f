"""Resuming a run in one process: what is recorded is not performed again, and all else is."""

import dataclasses
import os
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from conftest import wait_for, wait_until

from pipedeco import (
    Cache,
    ConfigError,
    File,
    PipedecoError,
    RunBusy,
    RunCancelled,
    RunFailed,
    component,
    get_run,
    pipeline,
    value,
)
from pipedeco.resuming import take_over

in_workers = pytest.mark.parametrize("mode", ["local", "remote"], indirect=True)
only_debug = pytest.mark.parametrize("mode", ["debug"], indirect=True)

RATE = [1]  # code that uses it is other code when it holds another number


class Bench:
    """A folder where steps note their names, and the file that mends a failing step."""

    def __init__(self, folder):
        self.log = str(folder / "log")
        self.cure = str(folder / "cure")

    def mend(self):
        Path(self.cure).touch()

    def performed(self):
        """How often each name was noted since the last question."""
        found = Path(self.log).read_text().split() if os.path.exists(self.log) else []
        Path(self.log).unlink(missing_ok=True)
        return dict(Counter(found))


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def note(bench, name):
    with open(bench.log, "a") as file:
        file.write(f"{name}\n")


@component
def give(bench, name, x):
    note(bench, name)
    print(f"giving {name}")
    return x


@component
def need(bench, *x):
    """Fails until it is mended."""
    note(bench, "need")
    print("needing")
    if not os.path.exists(bench.cure):
        raise ValueError("mend me")
    return x[0] if x else None


@component
def rated(bench, x):
    note(bench, "rated")
    return x * RATE[0]


@component
def sign(bench, x):
    note(bench, "sign")
    return -1 if x < 0 else RATE[0] // RATE[0]


@component(cache=True)
def cached(bench, x):
    note(bench, "cached")
    return x * 2


def fails(p, *args, **kwargs):
    """A run of the pipeline, which fails."""
    run = p.start(*args, **kwargs)
    with pytest.raises(Exception, match="mend me"):
        run.result(10)
    assert run.status == "failed"
    return run


def earlier(run):
    with closing(sqlite3.connect(Path(run.store) / "pipedeco.db")) as connection:
        return [name for (name,) in connection.execute("select name from earlier order by name")]


def states(run):
    return {name: step.state for name, step in run.steps.items()}


def plan(run):
    return {step: what for step, what, _ in run.resume_plan()}


@pipeline
def chain(bench):
    first = give(bench, "first", 20)
    aside = give(bench, "aside", 2)
    last = give(bench, "last", need(bench, first))
    return value(last) + value(aside)


# -- what is kept, what is performed


def test_a_failed_run(mode, bench):
    """Its steps that ended well keep their values; the failed one and those after it run."""
    run = fails(chain, bench)
    assert bench.performed() == {"first": 1, "aside": 1, "need": 1}
    before = get_run(run.id)
    known = before.steps["give"]
    bench.mend()
    resumed = run.resume()
    assert resumed.result(10) == 22
    assert bench.performed() == {"need": 1, "last": 1}
    after = get_run(run.id)
    assert (after.id, after.number, after.started) == (run.id, before.number, before.started)
    assert after.version == before.version
    assert (after.status, after.error, after.progress) == ("completed", None, 1.0)
    assert list(after.steps) == ["give", "give-2", "need", "give-3"]
    assert set(states(after).values()) == {"completed"}
    kept = after.steps["give"]
    assert (kept.started, kept.duration, kept.worker, kept.preview) == (
        known.started,
        known.duration,
        known.worker,
        "20",
    )
    assert after.steps["need"].parents == ["give"]
    assert after.steps["need"].started > kept.started
    assert after.steps["need"].attempts[-1].error is None
    assert [tuple(edge) for edge in after.graph.edges if edge[2] == "data"] == [
        ("give", "need", "data"),
        ("need", "give-3", "data"),
    ]
    assert earlier(after) == []
    assert after.result() == resumed.result() == 22


def test_it_fails_again(mode, bench):
    """A run may be resumed until it is completed, by any handle of it."""
    run = fails(chain, bench)
    bench.performed()
    for _ in range(3):
        again = get_run(run.id).resume()
        with pytest.raises(Exception, match="mend me"):
            again.result(10)
        assert again.status == "failed"
        assert bench.performed() == {"need": 1}
    bench.mend()
    assert get_run(run.id).resume().result(10) == 22
    assert bench.performed() == {"need": 1, "last": 1}


def test_a_handle_of_before(mode, bench):
    """The handle that was resumed tells how the run is now."""
    run = get_run(fails(chain, bench).id)
    assert run.status == "failed"
    bench.mend()
    run.resume().result(10)
    assert run.status == "completed"
    assert run.error is None
    assert run.result() == 22


@pipeline
def without_return(bench):
    give(bench, "first", None)
    need(bench)


def test_no_value(mode, bench):
    """None is a value that is kept; a failure that nobody reads can be mended, too."""
    run = without_return.start(bench)
    if mode != "debug":
        with pytest.raises(RunFailed):
            run.result(10)
    else:
        with pytest.raises(ValueError, match="mend me"):
            run.result(10)
    bench.mend()
    assert run.resume().result(10) is None
    assert bench.performed() == {"first": 1, "need": 2}


@pytest.mark.parametrize("where", ["debug", "local"])
def test_another_mode(mode, bench, where):
    """A run is resumed in its own mode, or in the one that is asked for."""
    run = fails(chain, bench)
    bench.performed()
    bench.mend()
    resumed = run.resume(mode=where)
    assert resumed.result(10) == 22
    assert bench.performed() == {"need": 1, "last": 1}
    worker = get_run(run.id).steps["need"].worker
    assert (worker == "debug") == (where == "debug")
    assert get_run(run.id).mode == where


@pipeline
def all_kinds(bench, *rest, plain, **more):
    numbers = give(bench, "numbers", np.arange(5))
    large = give(bench, "large", np.arange(100_000))
    text = give(bench, "text", "x" * 100_000)
    table = give(bench, "table", {"a": [1, 2], "b": (3,)})
    a, b = pair(bench)
    gives = [
        give(bench, "sum", value(numbers.sum() + large.sum())),
        give(bench, "selected", [table["a"][1], {"deep": table["b"]}]),
        give(bench, "unpacked", (b, a)),
        give(bench, "field", point(bench).x),
        give(bench, "length", [text]),
        give.with_options(name="named")(bench, name="named", x=[rest, more, plain]),
        keywords(bench, 1, b=a, **more),
    ]
    need(bench)
    return gives[0], gives[1], gives[2], gives[3], len(value(gives[4])[0]), gives[5], gives[6]


@component
def pair(bench) -> tuple[int, str]:
    note(bench, "pair")
    return 1, "one"


@dataclasses.dataclass
class Point:
    x: int


@component
def point(bench) -> Point:
    note(bench, "point")
    return Point(7)


@component
def keywords(bench, a, *rest, b=2, **more):
    note(bench, "keywords")
    return a, rest, b, more


def test_all_kinds_of_arguments(mode, bench):
    """Arrays, large values, parts of results, keywords and variable arguments are recognized."""
    run = all_kinds.start(bench, 1, 2, plain={3}, z=4)
    with pytest.raises(Exception, match="mend me"):
        run.result(10)
    assert set(bench.performed().values()) == {1}
    bench.mend()
    assert run.resume().result(10) == (
        4999950010,
        [2, {"deep": (3,)}],
        ("one", 1),
        7,
        100_000,
        [(1, 2), {"z": 4}, {3}],
        (1, (), 1, {"z": 4}),
    )
    assert bench.performed() == {"need": 1}


@pipeline
def of_sets(bench):
    mended = os.path.exists(bench.cure)
    # The same set, which pickles in another order.
    items = [8, 0] if mended else [0, 8]
    give(bench, "set", {items[0], items[1]})
    give(bench, "in a dict", {"k": frozenset((items[0], items[1]))})
    give(bench, "with an input", [give(bench, "input", 1), {items[0], items[1]}])
    give(bench, "other", {9, len(items) + mended})
    need(bench)


def test_arguments_by_content(mode, bench):
    """Equal arguments with other pickles are the same, and others are not."""
    run = of_sets.start(bench)
    with pytest.raises(Exception, match="mend me"):
        run.result(10)
    bench.performed()
    bench.mend()
    run.resume().result(10)
    assert bench.performed() == {"other": 1, "need": 1}


@pipeline
def in_another_order(bench):
    names = ["one", "two", "three"]
    if os.path.exists(bench.cure):
        names = ["two", "one", "three"]
    given = [give(bench, name, name) for name in names]
    need(bench)
    return [value(r) for r in given]


def test_calls_in_another_order(mode, bench):
    """A step is what it is called with, whatever its number is."""
    run = in_another_order.start(bench)
    with pytest.raises(Exception, match="mend me"):
        run.result(10)
    bench.performed()
    bench.mend()
    assert run.resume().result(10) == ["two", "one", "three"]
    assert bench.performed() == {"need": 1}


@pipeline
def fewer_calls(bench):
    if not os.path.exists(bench.cure):
        give(bench, "only before", 1)
        need(bench)
    return rated(bench, 5)


def test_steps_that_are_no_more(mode, bench):
    """What the body does not call this time is no step of the run any more."""
    run = fewer_calls.start(bench)
    with pytest.raises(Exception, match="mend me"):
        run.result(10)
    bench.mend()
    assert run.resume().result(10) == 5
    assert list(get_run(run.id).steps) == ["rated"]
    assert earlier(run) == []


# -- edges, failures and attempts


@pipeline
def with_order(bench):
    first = give(bench, "first", 1)
    broken = allowed(bench)
    second = give.with_options(depends_on=[first, broken])(bench, "second", 2)
    third = give.with_options(depends_on=[second])(bench, "third", 3)
    need(bench)
    return [value(second), value(third)]


@component(allow_failure=True)
def allowed(bench):
    note(bench, "allowed")
    raise KeyError("allowed")


def test_order_and_allowed_failures(mode, bench):
    """Steps after a failure that was allowed are kept; the failure itself is tried again."""
    run = with_order.start(bench)
    with pytest.raises(Exception, match="mend me"):
        run.result(10)
    assert bench.performed() == {"first": 1, "allowed": 1, "second": 1, "third": 1, "need": 1}
    bench.mend()
    assert run.resume().result(10) == [2, 3]
    assert bench.performed() == {"allowed": 1, "need": 1}
    found = get_run(run.id)
    assert states(found) == {
        "give": "completed",
        "allowed": "failed",
        "give-2": "completed",
        "give-3": "completed",
        "need": "completed",
    }
    assert found.steps["give-2"].after == ["give", "allowed"]


@component(retries=2)
def flaky(bench, name):
    note(bench, name)
    tries = Path(bench.log).read_text().split().count(name)
    print(f"try {tries} of {name}")
    if tries < 3:
        raise OSError(f"flaky {tries}")
    return name


@pipeline
def with_retries(bench):
    kept = flaky(bench, "kept")
    value(need(bench))
    return value(kept), value(flaky(bench, "new"))


def test_attempts_are_kept(mode, bench):
    """A kept step has its attempts, with their errors and logs."""
    run = with_retries.start(bench)
    with pytest.raises(Exception, match="mend me"):
        run.result(10)
    assert bench.performed() == {"kept": 3, "need": 1}
    bench.mend()
    assert run.resume().result(10) == ("kept", "new")
    assert bench.performed() == {"need": 1, "new": 3}
    steps = get_run(run.id).steps
    for name, called in (("flaky", "kept"), ("flaky-2", "new")):
        tries = [(a.number, a.state, a.error, a.logs()) for a in steps[name].attempts]
        assert tries == [
            (1, "failed", "OSError: flaky 1", f"try 1 of {called}\n"),
            (2, "failed", "OSError: flaky 2", f"try 2 of {called}\n"),
            (3, "completed", None, f"try 3 of {called}\n"),
        ]


def test_logs(mode, bench):
    """Logs of kept steps stay as they were; those of this time are beside them."""
    run = fails(chain, bench)
    for _ in range(2):
        with pytest.raises(Exception, match="mend me"):
            run.resume().result(10)
    bench.mend()
    run.resume().result(10)
    found = get_run(run.id)
    assert found.steps["give"].logs() == "giving first\n"
    assert found.steps["give-2"].logs() == "giving aside\n"
    assert found.steps["need"].logs() == "needing\n"
    assert found.steps["give-3"].logs() == "giving last\n"
    names = os.listdir(Path(run.store) / "logs" / run.id)
    assert {name.partition("-")[0] for name in names if name.startswith("e")} == {"e2", "e3", "e4"}
    assert any(not name.startswith("e") for name in names)


# -- code that was mended


@pipeline
def mended(bench):
    x = rated(bench, 10)
    after = give(bench, "after", x)
    far = give(bench, "far", after)
    same = give(bench, "same", sign(bench, 3))
    give(bench, "other", 1)
    need(bench)
    return value(far), value(same)


@pytest.fixture
def rate(monkeypatch):
    def change(number):
        monkeypatch.setitem(globals(), "RATE", [number])

    return change


@only_debug  # workers have the former code; files that change are in tests/faults
def test_mended_code(mode, bench, rate):
    """Steps whose code has changed run again, and those after them unless the value is equal."""
    run = mended.start(bench)
    with pytest.raises(Exception, match="mend me"):
        run.result(10)
    bench.performed()
    rate(2)
    assert {name for name, what in plan(run).items() if what == "performed"} == {
        "rated",
        "give",  # after
        "give-2",  # far
        "sign",
        "give-3",  # same: kept as soon as its value is known to be
        "need",
    }
    bench.mend()
    assert run.resume().result(10) == (20, 1)
    assert bench.performed() == {"rated": 1, "sign": 1, "after": 1, "far": 1, "need": 1}


@pipeline
def held_between(bench):
    x = rated(bench, 10)
    if os.path.exists(bench.cure + "-hold"):
        value(need(bench))
    return (
        give(bench, "after", x)
        if os.path.exists(bench.cure)
        else need(bench, give(bench, "after", x))
    )


@only_debug  # workers have the former code; files that change are in tests/faults
def test_an_input_that_changed_a_resumption_ago(mode, bench, rate):
    """What was made of a former value is not kept, however often the run was resumed since."""
    run = held_between.start(bench)
    with pytest.raises(Exception, match="mend me"):
        run.result(10)
    assert bench.performed() == {"rated": 1, "after": 1, "need": 1}
    rate(3)
    Path(bench.cure + "-hold").touch()
    with pytest.raises(Exception, match="mend me"):  # rated is performed, after is not reached
        run.resume().result(10)
    assert bench.performed() == {"rated": 1, "need": 1}
    assert plan(get_run(run.id)) == {"rated": "kept", "need": "performed", "give": "performed"}
    bench.mend()
    assert run.resume().result(10) == 30
    assert bench.performed() == {"after": 1, "need": 1}


@component
def listed(bench):
    note(bench, "listed")
    one = str(10**5)
    return [one, one] if RATE[0] == 1 else [one, str(10**5)]


@pipeline
def equal_lists(bench):
    give(bench, "after", listed(bench))
    need(bench)


@only_debug  # workers have the former code; files that change are in tests/faults
def test_an_equal_value_with_another_pickle(mode, bench, rate):
    """Whether a value is the same is a matter of its content."""
    run = equal_lists.start(bench)
    with pytest.raises(Exception, match="mend me"):
        run.result(10)
    bench.performed()
    rate(2)
    bench.mend()
    run.resume().result(10)
    assert bench.performed() == {"listed": 1, "need": 1}


# -- what cannot be kept


@component
def blob(bench, name):
    note(bench, name)
    return name * 100_000


@pipeline
def blobs(bench):
    found = [blob(bench, name) for name in "abc"]
    lengths = [
        give(bench, f"length-{name}", value(b)[:3]) for name, b in zip("abc", found, strict=True)
    ]
    need(bench, found)
    return [value(x) for x in lengths], [len(value(b)) for b in found]


@pytest.mark.parametrize("harm", ["missing", "flipped", "torn"])
def test_a_harmed_blob(mode, bench, harm):
    """A value that is missing or damaged is made again; who has got it keeps theirs."""
    run = fails(blobs, bench)
    bench.performed()
    name = get_run(run.id).steps["blob-2"]._row["value"]
    path = Path(run.store) / "blobs" / name[:2] / name
    data = path.read_bytes()
    if harm == "missing":
        path.unlink()
    elif harm == "torn":
        path.write_bytes(data[:5000])
    else:
        path.write_bytes(data[:90_000] + b"!" + data[90_001:])
    told = {step: why for step, what, why in get_run(run.id).resume_plan() if what == "performed"}
    assert told["blob-2"] == "its value is missing or damaged"
    bench.mend()
    assert run.resume().result(10) == (["aaa", "bbb", "ccc"], [100_000] * 3)
    assert bench.performed() == {"b": 1, "need": 1}
    assert path.read_bytes() == data


class Stubborn:
    """Loads only where the cure is."""

    def __init__(self, cure):
        self.cure = cure

    def __setstate__(self, state):
        if not os.path.exists(state["cure"]):
            raise RuntimeError("mend me")
        self.__dict__.update(state)


@component
def stubborn(bench):
    note(bench, "stubborn")
    return Stubborn(bench.cure)


@component
def look(bench, x):
    note(bench, "look")
    return type(x).__name__


@pipeline
def looks(bench):
    return look(bench, stubborn(bench))


@in_workers
def test_a_value_that_does_not_load(mode, bench):
    """It is kept, and who needs it fails as before, until loading is mended."""
    run = looks.start(bench)
    with pytest.raises(Exception, match="mend me"):
        run.result(10)
    with pytest.raises(Exception, match="mend me"):
        run.resume().result(10)
    bench.mend()
    assert run.resume().result(10) == "Stubborn"
    assert bench.performed() == {"stubborn": 1, "look": 1}


@pipeline
def looks_and_needs(bench):
    looked = look(bench, stubborn(bench))
    need(bench)
    return value(looked), value(look(bench, stubborn(bench)))


@only_debug
def test_a_value_that_does_not_load_in_debug_mode(mode, bench, monkeypatch):
    """It is made again, as the body got it from the step before, too."""
    run = fails(looks_and_needs, bench)
    bench.performed()
    monkeypatch.setattr(need.fn, "__code__", (lambda bench, *x: None).__code__)
    assert run.resume().result(10) == ("Stubborn", "Stubborn")
    assert bench.performed() == {"stubborn": 2, "look": 1}


@component
def generator(bench):
    note(bench, "generator")
    return (n for n in range(3))


@component
def take(bench, items):
    note(bench, "take")
    return list(items)


@pipeline
def generated(bench):
    taken = take(bench, generator(bench))
    need(bench)
    return taken


@only_debug
def test_a_value_that_was_not_recorded(mode, bench):
    """What cannot be pickled is made again, and those after it."""
    with pytest.warns(UserWarning, match="cannot be pickled"):
        run = fails(generated, bench)
    bench.performed()
    assert ("generator", "performed", "its value could not be recorded") in run.resume_plan()
    bench.mend()
    with pytest.warns(UserWarning, match="cannot be pickled"):
        assert run.resume().result(10) == [0, 1, 2]
    assert bench.performed() == {"generator": 1, "take": 1, "need": 1}


@pipeline
def takes(bench):
    last = 2 if os.path.exists(bench.cure) else 1
    taken = take(bench, (n for n in range(last)))
    need(bench)
    return taken


@only_debug
def test_arguments_that_were_not_recorded(mode, bench):
    """A step whose arguments cannot be compared is performed."""
    with pytest.warns(UserWarning, match="cannot be pickled"):
        run = fails(takes, bench)
    bench.performed()
    bench.mend()
    with pytest.warns(UserWarning, match="cannot be pickled"):
        assert run.resume().result(10) == [0, 1]
    assert bench.performed() == {"take": 1, "need": 1}


# -- cached components


@pipeline
def caches(bench):
    first = cached(bench, 1)
    second = cached(bench, first)
    value(need(bench))
    return value(first), value(second), value(cached(bench, second))


def test_cached_components(mode, bench):
    """They are kept like others, and serve hits to other runs before and after."""
    run = fails(caches, bench)
    assert bench.performed() == {"cached": 2, "need": 1}
    bench.mend()
    assert run.resume().result(10) == (2, 4, 8)
    assert bench.performed() == {"cached": 1, "need": 1}
    assert states(get_run(run.id)) == {
        "cached": "completed",
        "cached-2": "completed",
        "need": "completed",
        "cached-3": "completed",
    }
    other = caches.start(bench)
    assert other.result(10) == (2, 4, 8)
    assert bench.performed() == {"need": 1}
    assert [s.state for n, s in other.steps.items() if n != "need"] == ["cached"] * 3


def test_hits_are_kept(mode, bench):
    """A step that was a hit is one in the resumed run, even where the cache knows it no more."""
    pipeline(lambda: cached(bench, 1))()
    run = fails(caches, bench)
    bench.performed()
    with closing(sqlite3.connect(Path(run.store) / "pipedeco.db")) as connection, connection:
        connection.execute("delete from cache")
    bench.mend()
    assert run.resume().result(10) == (2, 4, 8)
    assert bench.performed() == {"cached": 1, "need": 1}
    assert states(get_run(run.id))["cached"] == "cached"


@component(cache=True)
def lines(bench, file):
    note(bench, "lines")
    return Path(file).read_text().split()


@pipeline
def reads_a_file(bench, path):
    found = lines(bench, File(path))
    value(need(bench))
    return found


def test_a_file_that_was_mended(mode, bench, tmp_path):
    """A cached component's files count by content in a resumed run, too."""
    path = tmp_path / "data"
    path.write_text("a b")
    run = fails(reads_a_file, bench, str(path))
    bench.mend()
    path.write_text("a b c")
    assert run.resume().result(10) == ["a", "b", "c"]
    assert bench.performed() == {"lines": 2, "need": 2}
    assert reads_a_file(bench, str(path)) == ["a", "b", "c"]
    assert bench.performed() == {"need": 1}


@component
def passes(bench, x):
    return x


@pipeline
def of_version(bench, version):
    mended = os.path.exists(bench.cure)
    called = cached.with_options(cache=Cache(version="2" if mended else version))
    found = called(bench, passes(bench, 1))
    value(need(bench))
    return found


@pytest.mark.parametrize("version", ["1", "2"])
def test_the_version_of_a_cached_component(mode, bench, version):
    """Another version is performed again; what a kept one is known by is recorded as before."""
    run = fails(of_version, bench, version)
    before = _key_of(run, "cached")
    bench.mend()
    assert run.resume().result(10) == 2
    assert bench.performed() == {"cached": 1 + (version == "1"), "need": 2}
    assert (_key_of(run, "cached") == before) == (version == "2")


@pipeline
def caches_in_an_order(bench):
    mended = os.path.exists(bench.cure)
    found = [value(cached(bench, x)) for x in ([5, 7] if mended else [7, 5])]
    value(need(bench))
    return found


@pipeline
def takes_from_another(bench, began):
    first = cached(bench, 7)
    value(first)
    open(began, "w").close()
    wait_for(bench.cure + "-go")
    return cached(bench, first)


@in_workers
def test_a_fingerprint_that_comes_late(mode, bench, tmp_path):
    """A value's fingerprint is not noted at a step that has got the value's former number."""
    began = str(tmp_path / "began")
    run = fails(caches_in_an_order, bench)
    other = takes_from_another.start(bench, began)
    wait_for(began)
    bench.mend()
    assert run.resume().result(10) == [10, 14]  # the first step is another one now
    Path(bench.cure + "-go").touch()
    assert other.result(10) == 28
    assert pipeline(lambda: cached(bench, cached(bench, 5)))() == 20


def _key_of(run, step):
    """What is recorded of a step's key, but for its numbers."""
    with closing(sqlite3.connect(Path(run.store) / "pipedeco.db")) as connection:
        query = (
            "select key, parts from step_key join step on step.id = step_key.step where name = ?"
        )
        return connection.execute(query, (step,)).fetchall()


# -- child runs


@pipeline
def child(bench, x):
    made = give(bench, f"in-child-{x}", x)
    need(bench) if x == 2 else None
    return made


@pipeline
def parent(bench):
    first = child(bench, give(bench, "argument", 1))
    second = child(bench, 2)
    return value(first), value(second)


def test_child_runs(mode, bench):
    """A completed child is kept; one that failed goes on under its id."""
    run = parent.start(bench)
    with pytest.raises(Exception, match="mend me"):
        run.result(10)
    bench.performed()
    before = [step.child_run for step in get_run(run.id).steps.values()]
    bench.mend()
    assert run.resume().result(10) == (1, 2)
    assert bench.performed() == {"need": 1}
    found = get_run(run.id)
    assert [step.child_run for step in found.steps.values()] == before
    for step in found.steps.values():
        if step.child_run:
            assert get_run(step.child_run).status == "completed"
    assert earlier(run) == []


def test_a_child_run_that_was_resumed_alone(mode, bench):
    """Its parent, resumed later, keeps what it has recorded."""
    run = parent.start(bench)
    with pytest.raises(Exception, match="mend me"):
        run.result(10)
    bench.performed()
    failed = get_run(run.id).steps["child-2"].child_run
    bench.mend()
    assert get_run(failed).resume().result(10) == 2
    with pytest.raises(PipedecoError, match="completed"):
        get_run(failed).resume()
    assert bench.performed() == {"need": 1}
    assert run.resume().result(10) == (1, 2)
    assert bench.performed() == {}
    assert get_run(run.id).steps["child-2"].child_run == failed


@pipeline
def child_of_set(bench, items):
    made = give(bench, "in-child", sorted(items))
    need(bench)
    return made


@pipeline
def parent_of_set(bench):
    items = [8, 0] if os.path.exists(bench.cure) else [0, 8]
    return child_of_set(bench, {items[0], items[1]})


def test_a_child_run_by_the_content_of_its_arguments(mode, bench):
    """The same arguments with another pickle are of the same child run."""
    run = parent_of_set.start(bench)
    with pytest.raises(Exception, match="mend me"):
        run.result(10)
    before = get_run(run.id).steps["child_of_set"].child_run
    bench.performed()
    bench.mend()
    assert run.resume().result(10) == [0, 8]
    assert bench.performed() == {"need": 1}
    assert get_run(run.id).steps["child_of_set"].child_run == before


@pipeline
def rated_child(bench):
    other = give(bench, "other", 1)
    return value(rated(bench, 10)) + value(other)


@pipeline
def rated_parent(bench):
    found = rated_child(bench)
    need(bench, found)
    return found


@only_debug  # workers have the former code; files that change are in tests/faults
def test_mended_code_within_a_completed_child(mode, bench, rate):
    """Only the steps of the child whose code has changed run again."""
    run = rated_parent.start(bench)
    with pytest.raises(Exception, match="mend me"):
        run.result(10)
    bench.performed()
    before = get_run(run.id).steps["rated_child"].child_run
    rate(2)
    bench.mend()
    assert run.resume().result(10) == 21
    assert bench.performed() == {"rated": 1, "need": 1}
    assert get_run(run.id).steps["rated_child"].child_run == before


def test_a_child_that_was_completed_when_its_parent_was_killed(mode, bench):
    """The child's end is recorded before that of its step: what it has recorded is kept."""
    run = fails(rated_parent, bench)
    bench.performed()
    before = get_run(run.id).steps["rated_child"].child_run
    with closing(sqlite3.connect(Path(run.store) / "pipedeco.db")) as connection, connection:
        connection.execute("delete from step where name = 'rated_child'")
    bench.mend()
    assert run.resume().result(10) == 11
    assert bench.performed() == {"need": 1}
    assert get_run(run.id).steps["rated_child"].child_run == before


# -- cancelled runs


@component
def hang(bench, began):
    note(bench, "hang")
    if os.path.exists(bench.cure):
        return 5
    open(began, "w").close()
    return wait_for("/nowhere", timeout=20)


@pipeline
def hangs(bench, began):
    first = give(bench, "first", 1)
    return value(first) + value(hang(bench, began))


@in_workers
def test_a_cancelled_run(mode, bench, tmp_path):
    """It goes on where it was cancelled, and nobody's wish to cancel it is left."""
    began = str(tmp_path / "began")
    run = hangs.start(bench, began)
    wait_for(began)
    get_run(run.id).cancel()
    run.cancel()
    with pytest.raises(RunCancelled):
        run.result(10)
    assert plan(get_run(run.id)) == {"give": "kept", "hang": "performed"}
    bench.mend()
    resumed = run.resume()
    assert resumed.result(10) == 6
    assert bench.performed() == {"first": 1, "hang": 2}
    assert get_run(run.id).status == "completed"


@component
def interrupts(bench):
    note(bench, "interrupts")
    if not os.path.exists(bench.cure):
        raise KeyboardInterrupt
    return 5


@pipeline
def interrupted(bench):
    first = give(bench, "first", 1)
    return value(first) + value(interrupts(bench))


@only_debug
def test_an_interrupted_run(mode, bench):
    """Ctrl-C ends a debug run as cancelled; it can be resumed."""
    with pytest.raises(KeyboardInterrupt):
        interrupted(bench)
    run = get_run()
    assert run.status == "cancelled"
    bench.mend()
    assert run.resume().result(10) == 6
    assert bench.performed() == {"first": 1, "interrupts": 2}


# -- who may


def test_a_completed_run(mode, bench):
    """It refuses in one sentence."""
    bench.mend()
    run = chain.start(bench)
    run.result(10)
    for handle in (run, get_run(run.id)):
        with pytest.raises(PipedecoError, match=rf"run {run.id} .* completed"):
            handle.resume()
    assert get_run(run.id).status == "completed"


@in_workers
def test_a_living_run(mode, bench, tmp_path):
    """It refuses and names the process, to each of its handles."""
    began = str(tmp_path / "began")
    run = hangs.start(bench, began)
    wait_for(began)
    for handle in (run, get_run(run.id)):
        with pytest.raises(RunBusy, match=str(os.getpid())):
            handle.resume()
    run.cancel()
    run.wait(10)
    bench.mend()
    resumed = run.resume()
    assert resumed.result(10) == 6


@in_workers
def test_two_resumptions(mode, bench, tmp_path):
    """While one goes on the other is refused, by handles of before, too."""
    began = str(tmp_path / "began")
    run = hangs.start(bench, began)
    wait_for(began)
    run.cancel()
    run.wait(10)
    handles = [run, get_run(run.id), get_run(run.id)]
    assert {handle.status for handle in handles} == {"cancelled"}
    Path(began).unlink()
    resumed = run.resume()
    wait_for(began)
    for handle in handles:
        with pytest.raises(RunBusy, match=str(os.getpid())):
            handle.resume()
    resumed.cancel()
    resumed.wait(10)
    assert bench.performed() == {"first": 1, "hang": 2}


@in_workers
def test_a_run_that_was_taken_over(mode, bench, tmp_path, monkeypatch):
    """What a former owner would still write is refused, and its run ends with RunBusy."""
    monkeypatch.setattr("pipedeco.runners.local.GRACE", 600.0)  # it ends without that
    began = str(tmp_path / "began")
    run = hangs.start(bench, began)
    wait_for(began)
    wait_until(lambda: states(get_run(run.id)) == {"give": "completed", "hang": "running"})
    with closing(sqlite3.connect(Path(run.store) / "pipedeco.db")) as connection, connection:
        connection.execute(
            "update run set epoch = epoch + 1, owner = '1-dead' where id = ?", (run.id,)
        )
        before = connection.execute("select * from run").fetchall()
    run.cancel()
    with pytest.raises(RunBusy, match="taken over"):
        run.result(10)
    with closing(sqlite3.connect(Path(run.store) / "pipedeco.db")) as connection:
        now = connection.execute("select * from run").fetchall()
        assert [row[:30] for row in now] == [row[:30] for row in before]
        assert connection.execute("select state from step order by id").fetchall() == [
            ("completed",),
            ("running",),
        ]
    bench.mend()
    other = get_run(run.id)
    other._execution = None
    assert other.status == "interrupted"
    assert other.resume().result(10) == 6


def test_killed_just_after_it_was_taken_over(mode, bench):
    """All that was recorded is still known, and the run can be looked at."""
    run = fails(chain, bench)
    bench.performed()
    for _ in range(2):
        taken = take_over(run.store, run.id, "1-dead")
        assert set(taken.earlier) == {"give", "give-2"}
        found = get_run(run.id)
        assert found.status == "interrupted"
        assert found.error.endswith(f"pipedeco resume {run.id}")
        assert found.ended is None
        assert found.graph.edges == []
        assert str(found)
        assert found.to_json()["status"] == "interrupted"
        assert plan(found) == {"give": "kept", "give-2": "kept"}
    bench.mend()
    assert get_run(run.id).resume().result(10) == 22
    assert bench.performed() == {"need": 1, "last": 1}


@pipeline
def named_backwards(bench):
    last = give.with_options(name="z")(bench, "z", rated(bench, 1))
    far = give.with_options(name="a")(bench, "a", last)
    need(bench)
    return far


def test_the_plan_of_what_was_resumed_in_vain(mode, bench, rate):
    """Steps that need one that is performed are told as such, whatever their names."""
    run = fails(named_backwards, bench)
    assert plan(get_run(run.id)) == {
        "rated": "kept", "z": "kept", "a": "kept", "need": "performed",
    }  # fmt: skip
    take_over(run.store, run.id, "1-dead")
    assert plan(get_run(run.id)) == {"rated": "kept", "z": "kept", "a": "kept"}
    rate(2)
    assert get_run(run.id).resume_plan() == [
        ("rated", "performed", "its code has changed"),
        ("z", "performed", "it needs rated"),
        ("a", "performed", "it needs z"),
    ]


def test_a_pipeline_that_is_not_found(mode, bench):
    """It is told in one sentence, and nothing has changed."""

    @pipeline
    def local(bench):
        return need(bench)

    run = fails(local, bench)
    with pytest.raises(ConfigError, match="does not define") as caught:
        get_run(run.id).resume()
    assert "\n" not in str(caught.value)
    assert get_run(run.id).status == "failed"
    bench.mend()
    assert run.resume().result(10) is None  # this handle has it


made_otherwise = pipeline(lambda bench: need(bench, 3))


def _bare(bench):
    return need(bench, 4)


decorated_otherwise = pipeline(_bare)


@pytest.mark.parametrize("p", [made_otherwise, decorated_otherwise])
def test_a_pipeline_under_another_name(mode, bench, p):
    """`p = pipeline(f)` is found by the function that it is of."""
    run = fails(p, bench)
    bench.mend()
    assert get_run(run.id).resume().result(10) in (3, 4)


@only_debug  # workers have the former code; files that change are in tests/faults
def test_version_of_an_older_run(mode, bench, rate):
    """A run whose code is as it was keeps its version, whatever later runs have."""

    run = fails(rated_parent, bench)
    version = get_run(run.id).version
    rate(2)
    later = fails(rated_parent, bench)
    assert later.version != version
    rate(1)
    bench.mend()
    assert run.resume().result(10) == 11
    assert get_run(run.id).version == version


def test_the_read_error_of_a_kept_step(mode, bench):
    """A failure that the body reads and survives is tried again in the resumed run."""

    @component
    def sometimes(bench):
        note(bench, "sometimes")
        raise LookupError(str(os.path.exists(bench.cure)))

    @pipeline
    def body(bench):
        try:
            value(sometimes(bench))
        except LookupError as error:
            told = str(error)
        need(bench)
        return told

    run = fails(body, bench)
    bench.mend()
    assert run.resume().result(10) == "True"
    assert bench.performed() == {"sometimes": 2, "need": 2}


def test_options_of_a_resumption(mode, bench):
    """Options that there are not are refused before anything is taken over."""
    run = fails(chain, bench)
    with pytest.raises((TypeError, ConfigError)):
        run.resume(bogus=1)
    with pytest.raises(ConfigError):
        run.resume(mode="bogus")
    assert get_run(run.id).status == "failed"

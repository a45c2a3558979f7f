"""A resumed run whose body makes its calls in another order: nothing recorded is performed again."""

import os
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from pipedeco import File, RunFailed, component, get_run, pipeline, value
from pipedeco.resuming import take_over


class Bench:
    """A folder where steps note what they did; it says what a body is to do."""

    def __init__(self, folder):
        self.log = str(folder / "log")
        self.word = str(folder / "word")
        self.folder = str(folder)

    def note(self, text):
        with open(self.log, "a") as file:
            file.write(f"{text}\n")

    def performed(self):
        """How often each text was noted since the last question."""
        found = Path(self.log).read_text().split() if os.path.exists(self.log) else []
        Path(self.log).unlink(missing_ok=True)
        return dict(Counter(found))

    def say(self, text):
        """The order of the next part of the run; "!" at its end lets it succeed."""
        Path(self.word).write_text(text)

    def order(self):
        return Path(self.word).read_text().rstrip("!")


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@component
def each(bench, name):
    bench.note(name)
    return name


@component
def post(bench, name):
    bench.note(f"post-{name}")
    return name.upper()


@component
def tag(bench, names):
    bench.note("tag")
    return sorted(names)


@component
def last(bench, *rows):
    if not Path(bench.word).read_text().endswith("!"):
        raise ValueError("not yet")
    return sorted(value(list(rows)))


@component
def count_up(bench, name):
    """Gives another number each time, to steps side by side, too."""
    bench.note(name)
    number = 1
    while True:
        try:
            (Path(bench.folder) / f"count{number}").touch(exist_ok=False)
        except FileExistsError:
            number += 1
        else:
            return number


def part(bench, order, start):
    """One part of a run; its result, or None where it has failed."""
    bench.say(order)
    run = start()
    if order.endswith("!"):
        return run, run.result(20)
    with pytest.raises((ValueError, RunFailed), match="not yet"):
        run.result(20)
    return run, None


@pipeline
def fan_out(bench):
    return value(last(bench, *[post(bench, each(bench, name)) for name in bench.order()]))


def test_another_order(mode, bench):
    """Steps and those that take their values are found under their former numbers."""
    run, _ = part(bench, "abcd", lambda: fan_out.start(bench))
    assert len(bench.performed()) == 8
    _, found = part(bench, "dbca!", run.resume)
    assert found == ["A", "B", "C", "D"]
    assert bench.performed() == {}
    steps = get_run(run.id).steps
    assert steps["each"].result() == "d"
    assert steps["each"].inputs["name"] == "d"
    assert steps["post-4"].result() == "A"
    assert "each" in steps["post"].parents


def test_an_order_of_its_own_each_time(mode, bench):
    """However often the run fails, and where only some of the calls are made in between."""
    run, _ = part(bench, "abcd", lambda: fan_out.start(bench))
    bench.performed()
    for order in ("dc", "", "bda", "cadb"):
        part(bench, order, run.resume)
        assert bench.performed() == {}
    _, found = part(bench, "bade!", run.resume)
    assert found == ["A", "B", "D", "E"]
    assert bench.performed() == {"e": 1, "post-e": 1}


def test_taken_over_amid(mode, bench):
    """The records of calls that the next part has not made are not overwritten."""
    run, _ = part(bench, "abc", lambda: fan_out.start(bench))
    bench.performed()
    part(bench, "c", run.resume)
    take_over(run.store, run.id, "1-dead")
    _, found = part(bench, "bca!", get_run(run.id).resume)
    assert found == ["A", "B", "C"]
    assert bench.performed() == {}
    with closing(sqlite3.connect(Path(run.store) / "pipedeco.db")) as connection:
        assert connection.execute("select count(*) from earlier").fetchone() == (0,)


@pipeline
def equal_calls(bench):
    return value(last(bench, *[count_up(bench, name) for name in bench.order()]))


def test_equal_calls(mode, bench):
    """Each record serves one call: as many are kept as there were."""
    run, _ = part(bench, "aab", lambda: equal_calls.start(bench))
    if mode == "debug":
        assert [s.result() for s in list(get_run(run.id).steps.values())[:3]] == [1, 2, 3]
    made = {step.result() for step in list(get_run(run.id).steps.values())[:3]}
    bench.performed()
    part(bench, "baa", run.resume)
    assert {step.result() for step in list(get_run(run.id).steps.values())[:3]} == made
    assert bench.performed() == {}
    part(bench, "aaba", run.resume)
    assert bench.performed() == {"a": 1}
    part(bench, "a", run.resume)
    part(bench, "abaa!", run.resume)
    assert bench.performed() == {}


@pipeline
def of_sets(bench):
    found = [tag(bench, frozenset({name, name * 2})) for name in bench.order()]
    return value(last(bench, *[post(bench, names[0]) for names in found]))


def test_arguments_by_content(mode, bench):
    """Sets have another pickle in each process, and are the same."""
    run, _ = part(bench, "abc", lambda: of_sets.start(bench))
    bench.performed()
    _, found = part(bench, "cab!", run.resume)
    assert found == ["A", "B", "C"]
    assert bench.performed() == {}


@pipeline(seed=1)
def seeded(bench):
    return value(last(bench, *[each(bench, name) for name in bench.order()]))


def test_a_seed(mode, bench):
    """What a step draws from it goes by the step's name, which counts then."""
    run, _ = part(bench, "abc", lambda: seeded.start(bench))
    bench.performed()
    _, found = part(bench, "bac!", run.resume)
    assert found == ["a", "b", "c"]
    assert bench.performed() == {"a": 1, "b": 1}


# -- child pipelines


@component
def stop(bench, name):
    if name in "xy" and not os.path.exists(f"{bench.word}-{name}"):
        raise ValueError("not yet")


@pipeline
def child(bench, name):
    found = value(each(bench, name))
    stop(bench, name)
    return found.upper()


@pipeline
def of_children(bench):
    return value(last(bench, *[child(bench, name) for name in bench.order()]))


def test_child_runs(mode, bench):
    """Those that ended well are kept, and stay the runs of their steps."""
    run, _ = part(bench, "abc", lambda: of_children.start(bench))
    bench.performed()
    before = {s.result(): s.child_run for s in get_run(run.id).steps.values() if s.child_run}
    _, found = part(bench, "cab!", run.resume)
    assert found == ["A", "B", "C"]
    assert bench.performed() == {}
    steps = get_run(run.id).steps.values()
    assert {s.result(): s.child_run for s in steps if s.child_run} == before
    assert len(get_run(run.id).children) == 3


def test_child_runs_that_did_not_end(mode, bench):
    """They are gone on with, under whatever number."""
    run, _ = part(bench, "xayb" if mode != "debug" else "axyb", lambda: of_children.start(bench))
    noted = bench.performed()
    assert "a" in noted
    for name in "xy":
        Path(f"{bench.word}-{name}").touch()
    _, found = part(bench, "byax!", run.resume)
    assert found == ["A", "B", "X", "Y"]
    done = bench.performed()
    assert not set(noted) & set(done), "performed twice"
    children = get_run(run.id).children
    assert {c.parent_step: c.params["name"] for c in children} == {
        "child": "b", "child-2": "y", "child-3": "a", "child-4": "x",
    }  # fmt: skip


# -- files that values name


@component
def make(bench, name):
    bench.note(f"make-{name}")
    path = Path(bench.folder) / f"{name}.txt"
    path.write_text(name)
    return {"made": File(path)}


@component(cache=True)
def make_cached(bench, name):
    return make.fn(bench, name)


@component
def grow(bench, made):
    bench.note("grow")
    with open(made["made"], "a") as file:
        file.write("+")
    return Path(made["made"]).read_text()


@pipeline
def of_files(bench, cached):
    return value(last(bench, grow(bench, (make_cached if cached else make)(bench, "a"))))


@pytest.mark.parametrize("cached", [False, True])
def test_a_file_that_is_gone(mode, bench, cached):
    """Its step is performed again, and so are those that took its value."""
    run, _ = part(bench, "", lambda: of_files.start(bench, cached))
    assert bench.performed() == {"make-a": 1, "grow": 1}
    (Path(bench.folder) / "a.txt").unlink()
    _, found = part(bench, "!", run.resume)
    assert found == ["a+"]
    assert bench.performed() == {"make-a": 1, "grow": 1}


@component
def make_next(bench):
    """Makes another file each time."""
    number = count_up.fn(bench, "made")
    path = Path(bench.folder) / f"{number}.txt"
    path.touch()
    return File(path)


@pipeline
def of_two_files(bench):
    return value(last(bench, *[str(made) for made in value([make_next(bench), make_next(bench)])]))


def test_one_of_two_files_is_gone(mode, bench):
    """The record of the other serves once, and what was remade is as good as any."""
    run, _ = part(bench, "", lambda: of_two_files.start(bench))
    names = {str(step.result()) for step in list(get_run(run.id).steps.values())[:2]}
    assert bench.performed() == {"made": 2}
    gone = str(next(iter(get_run(run.id).steps.values())).result())
    os.remove(gone)
    _, found = part(bench, "!", run.resume)
    assert bench.performed() == {"made": 1}
    assert len(set(found)) == 2
    assert set(found) & names == names - {gone}


@pipeline
def of_one_file(bench):
    return value(last(bench, make_cached(bench, "a")["made"]))


def test_a_file_that_has_changed(mode, bench):
    """A cached component's step is performed again, as its file counts by content."""
    run, _ = part(bench, "", lambda: of_one_file.start(bench))
    bench.performed()
    (Path(bench.folder) / "a.txt").write_text("other")
    plan = {step: (what, why) for step, what, why in get_run(run.id).resume_plan()}
    assert plan["make_cached"][0] == "performed"
    assert "has changed" in plan["make_cached"][1]
    part(bench, "", run.resume)
    assert bench.performed() == {"make-a": 1}
    assert "has changed" in get_run(run.id).steps["make_cached"].why().text
    part(bench, "!", run.resume)
    assert bench.performed() == {}


@component
def draw(bench):
    """Another text each time; the first call of all fails."""
    bench.note("draw")
    first = Path(bench.folder) / "first"
    if not first.exists():
        first.touch()
        raise ValueError("not yet")
    return os.urandom(8).hex()


def drawn_or_none(bench):
    try:
        return value(draw(bench))
    except ValueError:
        return None


@pipeline
def drawing(bench):
    first = drawn_or_none(bench)
    posted = value(post(bench, value(draw(bench))))
    if first is None:
        raise ValueError("not yet")
    return posted


def test_a_call_that_failed_does_not_take_the_value_of_an_equal_one(mode, bench):
    """Others have used that value, and would be performed again with another one."""
    run = drawing.start(bench)
    with pytest.raises(ValueError, match="not yet"):
        run.result(20)
    posted = run.steps["post"].result()
    bench.performed()
    assert run.resume().result(20) == posted
    assert bench.performed() == {"draw": 1}

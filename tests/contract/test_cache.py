"""The cache: which steps are performed again, and which get the value that is known."""

import dataclasses
import linecache
import os
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from conftest import wait_for, wait_until

from pipedeco import (
    Cache,
    ConfigError,
    File,
    RunCancelled,
    RunFailed,
    StoreError,
    component,
    get_run,
    pipeline,
    value,
)

in_workers = pytest.mark.parametrize("mode", ["local", "remote"], indirect=True)

RATE = [2]


def note(log):
    """Say in a file that a step was performed."""
    with open(log, "a") as file:
        file.write("x")


def count(log):
    """How often a step said so."""
    return len(Path(log).read_text()) if os.path.exists(log) else 0


def states(run):
    return [step.state for step in run.steps.values()]


@component
def plain(x):
    return x


@component(cache=True)
def double(log, x):
    note(log)
    return x * 2


@component(cache=True)
def give(log, x):
    note(log)
    return x


@pipeline
def doubles(log, *numbers):
    return [double(log, n) for n in numbers]


@pipeline
def gives(log, x):
    return give(log, x)


@pytest.fixture
def log(tmp_path):
    return str(tmp_path / "log")


@pytest.fixture
def log2(tmp_path):
    return str(tmp_path / "log2")


# -- hits and misses


def test_a_hit(mode, log):
    """A step that is known is not performed; its record says so and has the value."""
    first = doubles.start(log, 21)
    assert first.result(10) == [42]
    assert states(first) == ["completed"]
    again = doubles.start(log, 21)
    assert again.result(10) == [42]
    assert count(log) == 1
    step = again.steps["double"]
    assert step.state == "cached"
    assert step.result() == 42
    assert step.duration == 0.0
    assert step.preview == "42"
    assert step.worker == "cache"
    assert step.started is not None
    assert step.error is None
    assert step.inputs == {"log": log, "x": 21}
    assert [(a.number, a.state) for a in step.attempts] == [(1, "cached")]
    assert get_run(again.id).steps["double"].result() == 42
    assert again.progress == 1.0


def test_other_arguments_miss(mode, log):
    """A value serves for arguments of the same types and content alone."""
    numbers = [1, 1.0, True, "1", b"1", -0.0, 0.0, (1,), [1]]
    expected = [n * 2 for n in numbers]
    assert doubles(log, *numbers) == expected
    assert count(log) == len(numbers)
    assert doubles(log, *numbers) == expected
    assert count(log) == len(numbers)


def test_uncached_by_default(mode, log):
    """Without the option a step is performed each time."""
    body = pipeline(lambda: double.with_options(cache=False)(log, 1))
    assert [body(), body()] == [2, 2]
    assert count(log) == 2


@component(cache=True)
def many(log, a, b=5, *rest, c=7, **more):
    note(log)
    return [a, b, *rest, c, *more.items()]


def test_how_arguments_are_given(mode, log):
    """By place, by name or by default is one; what is beyond the signature counts."""

    @pipeline
    def body(*args, **kwargs):
        return many(log, *args, **kwargs)

    assert body(1) == [1, 5, 7]
    assert body(a=1) == body(1, 5) == body(1, b=5, c=7) == [1, 5, 7]
    assert count(log) == 1
    assert body(1, 5, 6) == [1, 5, 6, 7]
    assert body(1, 5, 8) == [1, 5, 8, 7]
    assert body(1, d=3) == [1, 5, 7, ("d", 3)]
    assert body(1, e=3) == [1, 5, 7, ("e", 3)]
    assert count(log) == 5
    assert body(1, e=3, d=2) == [1, 5, 7, ("e", 3), ("d", 2)]


@component(cache=True)
def same_names(x, /, **more):
    return x, more


@component(cache=True)
def variadic(*args, **more):
    return args, more


def test_a_name_that_is_given_twice(mode):
    """A positional parameter and a keyword may have one name; both count."""

    @pipeline
    def body(called, *args, **kwargs):
        return called(*args, **kwargs)

    for x in (1, 2, 1):
        assert body(same_names, x, x=3) == (x, {"x": 3})
        assert body(variadic, x, **{"args[0]": 3}) == ((x,), {"args[0]": 3})


def swapped(fn):
    def wrapper(b, a):
        return fn(a, b)

    wrapper.__wrapped__ = fn
    return wrapper


@component(cache=True)
@swapped
def minus(a, b):
    return a - b


def test_a_decorator_that_changes_the_signature(mode):
    """By place and by name are two things where the names are those of the wrapped function."""

    @pipeline
    def by_place():
        return minus(1, 2)

    @pipeline
    def by_name():
        return minus(a=1, b=2)

    assert (by_place(), by_name()) == (1, -1)
    assert (by_place(), by_name()) == (1, -1)


def test_order_of_dicts(mode, log):
    """Of dicts and sets the order does not count, of lists it does."""
    assert gives(log, {"a": 1, "b": {1, 2, 3}}) == {"a": 1, "b": {1, 2, 3}}
    assert gives(log, {"b": {3, 2, 1}, "a": 1}) == {"a": 1, "b": {1, 2, 3}}
    assert count(log) == 1
    assert gives(log, [2, 1]) == [2, 1]
    assert gives(log, [1, 2]) == [1, 2]
    assert count(log) == 3


def test_none_is_a_value(mode, log):
    """A result that is None is known like any other."""
    assert gives(log, None) is None
    run = gives.start(log, None)
    assert run.result(10) is None
    assert states(run) == ["cached"]
    assert count(log) == 1


def test_modes_share(mode, log):
    """What one mode has made serves in the other."""
    other = gives.debug if mode != "debug" else gives.local
    assert gives(log, "v") == "v"
    assert other(log, "v") == "v"
    assert count(log) == 1
    assert gives(log, "w") == other(log, "w") == "w"
    assert count(log) == 2


def test_the_same_call_within_a_run(mode, log):
    """Equal calls of one run are performed once."""
    run = doubles.start(log, 4, 4, 4)
    assert run.result(10) == [8, 8, 8]
    assert count(log) == 1
    assert sorted(states(run)) == ["cached", "cached", "completed"]


# -- chains


@component
def read(path):
    return int(Path(path).read_text())


@component
def tens(path):
    return read.fn(path) // 10


def test_a_chain(mode, log):
    """Known steps on known steps are all hits, in any number."""

    @pipeline
    def chain(length):
        x = 0
        for _ in range(length):
            x = add_one(log, x)
        return x

    assert chain(5) == 5
    run = chain.start(5)
    assert run.result(10) == 5
    assert states(run) == ["cached"] * 5
    longer = chain.start(7)
    assert longer.result(10) == 7
    assert states(longer) == ["cached"] * 5 + ["completed"] * 2
    assert count(log) == 7


@component(cache=True)
def add_one(log, x):
    note(log)
    return x + 1


def test_early_cutoff(mode, log, tmp_path):
    """What was performed again with an equal value lets its dependants hit, else miss."""
    source = tmp_path / "number"

    @pipeline
    def body():
        return add_one(log, double(log, tens(str(source))))

    source.write_text("71")
    assert body() == 15
    source.write_text("79")
    run = body.start()
    assert run.result(10) == 15
    assert states(run) == ["completed", "cached", "cached"]
    source.write_text("81")
    run = body.start()
    assert run.result(10) == 17
    assert states(run) == ["completed", "completed", "completed"]
    assert count(log) == 4


def test_early_cutoff_between_cached_steps(mode, log, log2):
    """Also where the step that is performed again is itself cached."""

    @pipeline
    def body(n):
        return double(log2, parity(log, n))

    assert body(3) == 2
    run = body.start(5)
    assert run.result(10) == 2
    assert states(run) == ["completed", "cached"]
    assert (count(log), count(log2)) == (2, 1)


@component(cache=True)
def parity(log, n):
    note(log)
    return n % 2


@dataclasses.dataclass
class Pair:
    left: object
    right: object


@component(cache=True)
def total(log, item):
    note(log)
    if isinstance(item, Pair):
        item = [item.left, *item.right.values()]
    return sum(item)


def test_results_within_containers(mode, log, tmp_path):
    """A result counts by its value wherever it stands, and where it stands counts."""

    @pipeline
    def body(a, b):
        one, two = read(a), read(b)
        return [
            total(log, [one, two]),
            total(log, (one, 5)),
            total(log, Pair(one, {"x": two})),
        ]

    paths = [str(tmp_path / name) for name in ("a", "b", "c", "d")]
    for path, text in zip(paths, ("1", "2", "1", "2"), strict=True):
        Path(path).write_text(text)
    a, b, c, d = paths
    assert body(a, b) == [3, 6, 3]
    assert body(c, d) == [3, 6, 3]
    assert count(log) == 3
    assert body(b, a) == [3, 7, 3]
    assert count(log) == 6


@component
def facts(path):
    n = int(Path(path).read_text())
    return {"x": n, "y": n + 1, "z": [n, n]}


@component
def two(path) -> tuple[int, int]:
    n = int(Path(path).read_text())
    return n, n + 1


def test_selections(mode, log, tmp_path):
    """Which part of a result is taken counts."""
    path = tmp_path / "n"
    path.write_text("1")

    @pipeline
    def body():
        found = facts(str(path))
        one, other = two(str(path))
        return [
            double(log, found["x"]), double(log, found["y"]), double(log, found["z"][0]),
            double(log, one), double(log, other),
        ]  # fmt: skip

    assert body() == [2, 4, 2, 2, 4]
    before = count(log)
    assert body() == [2, 4, 2, 2, 4]
    assert count(log) == before
    path.write_text("5")
    assert body() == [10, 12, 10, 10, 12]


def test_values_of_a_module_class(mode, log, log2):
    """Instances pass through the cache."""

    @pipeline
    def body():
        return total(log2, give(log, Pair(1, {"a": 2})))

    assert [body(), body()] == [3, 3]
    assert (count(log), count(log2)) == (1, 1)


@component(cache=True)
def produce(log, size):
    import numpy as np

    note(log)
    return np.arange(size)


@component(cache=True)
def add_up(log, array):
    note(log)
    return int(array.sum())


def blobs(tmp_path):
    return sorted(path for path in (tmp_path / "store" / "blobs").glob("*/*") if path.is_file())


def test_a_large_value(mode, log, log2, tmp_path):
    """A hit refers to the same blob; nothing is written."""

    @pipeline
    def body(size):
        array = produce(log, size)
        return add_up(log2, array), plain(array.shape), tuple(array[:2])

    first = body(50_000)
    before = [(path, path.stat().st_mtime_ns) for path in blobs(tmp_path)]
    run = body.start(50_000)
    assert run.result(10) == first == (1249975000, (50_000,), (0, 1))
    assert states(run) == ["cached", "cached", "completed"]
    assert len(before) == 1
    assert [(path, path.stat().st_mtime_ns) for path in blobs(tmp_path)] == before
    assert (count(log), count(log2)) == (1, 1)


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.unlink()
    path.write_bytes(data)


DAMAGE = {
    "flipped": flip,
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_blob(mode, log, tmp_path, damage):
    """It is as if the value was not known; it is made again, and the blob is right then."""
    import numpy as np

    @pipeline
    def body():
        return produce(log, 50_000)

    body()
    [path] = [path for path in blobs(tmp_path) if path.stat().st_size > 300_000]
    good = path.read_bytes()
    DAMAGE[damage](path)
    run = body.start()
    assert (run.result(10) == np.arange(50_000)).all()
    assert states(run) == ["completed"]
    assert path.read_bytes() == good
    assert (body() == np.arange(50_000)).all()
    assert count(log) == 2


# -- what cannot be proven equal


class Locked:
    """Pickles, but says by a lock that it has an identity."""

    def __init__(self):
        self.lock = threading.Lock()

    def __getstate__(self):
        return {"lock": None}


class Opaque:
    """Refuses to have a fingerprint."""

    def __pipedeco_fingerprint__(self):
        raise RuntimeError("no two are equal")


@component
def opaque():
    return Opaque()


@component
def with_lock():
    import dill  # noqa: F401 - carries it

    return {"lock": threading.Lock()}


@component(cache=True)
def take(log, item):
    note(log)
    return type(item).__name__


@pytest.mark.parametrize("producer", [opaque, with_lock])
def test_an_input_without_a_fingerprint(mode, log, producer):
    """What depends on such a value is performed each time, and so is a cached step on that."""

    @pipeline
    def body():
        return [take(log, producer()), take(log, producer())]

    with pytest.warns(UserWarning, match="take is cached, but .* each time: the value of") as said:
        kinds = body()
    assert len(said) == 1
    assert said[0].filename == __file__
    with pytest.warns(UserWarning, match="take is cached"):
        assert kinds == body()
    assert count(log) == 4


def test_an_argument_without_a_fingerprint(mode, log):
    """As an input without one; a run says so once, at the call."""

    @pipeline
    def body():
        return [take(log, [Opaque()]), take(log, [Opaque()])]

    with pytest.warns(UserWarning, match=r"take is cached.*item\[0\] is a .*Opaque") as said:
        assert body() == ["list", "list"]
    assert len(said) == 1
    assert linecache.getline(said[0].filename, said[0].lineno).strip().startswith("return [take(")
    with pytest.warns(UserWarning, match=r"Cache\(ignore=\.\.\.\)"):
        body()
    assert count(log) == 4


def test_a_local_function_as_a_value(mode, log):
    """A function that nobody can import counts by its code, if at all: never a wrong hit."""

    def made(factor):
        return lambda x: x * factor

    @component
    def make(factor):
        return made(factor)

    @component(cache=True)
    def call(log, function):
        note(log)
        return function(10)

    @pipeline
    def body(factor):
        return call(log, make(factor))

    assert [body(2), body(3), body(2), body(3)] == [20, 30, 20, 30]
    assert 2 <= count(log) <= 4


@component(cache=True)
def dynamic(log, name):
    note(log)
    return eval(name)


def test_code_that_may_reach_anything(mode, log):
    """It is performed each time."""

    @pipeline
    def body():
        return dynamic(log, "1 + 1")

    with pytest.warns(UserWarning, match="dynamic is cached, .* eval, which may reach anything$"):
        assert body() == 2
    with pytest.warns(UserWarning, match="dynamic is cached"):
        assert body() == 2
    assert count(log) == 2


# -- code of one process


def test_closures(mode, log):
    """What a function closes over counts."""

    def make(factor):
        @component(cache=True)
        def times(log, x):
            note(log)
            return x * factor

        return times

    @pipeline
    def body(factor):
        return make(factor)(log, 10)

    assert [body(2), body(3), body(2), body(3)] == [20, 30, 20, 30]
    assert count(log) == 2


def test_a_function_is_defined_again(mode, log):
    """As in a notebook: the code counts that the name has now."""

    def define(body):
        names = {"component": component, "note": note, "__name__": "a_notebook"}
        text = (
            f"def helper(x):\n    return {body}\n\n"
            "@component(cache=True)\ndef cell(log, x):\n    note(log)\n    return helper(x)\n"
        )
        exec(text, names)
        return pipeline(lambda: names["cell"](log, 10))

    assert define("x + 1")() == 11
    assert define("x + 2")() == 12
    assert define("x + 1")() == 11
    assert define("x + 2")() == 12


@component(cache=True)
def rated(log, x):
    note(log)
    return x * RATE[0]


@pytest.mark.parametrize("mode", ["debug"], indirect=True)
def test_a_value_of_the_module_changes(mode, log, monkeypatch):
    """A global counts as it is when the run begins."""
    body = pipeline(lambda: rated(log, 10))
    monkeypatch.setattr(f"{__name__}.RATE", [2])
    assert body() == 20
    RATE[0] = 3
    assert body() == 30
    RATE[0] = 2
    assert body() == 20
    assert count(log) == 2


# -- options


def test_a_run_without_the_cache(mode, log):
    """`with_options(cache=False)` neither takes nor leaves anything."""
    off = gives.with_options(cache=False)
    assert off(log, 1) == gives(log, 1) == 1
    assert count(log) == 2
    assert off(log, 1) == 1
    assert count(log) == 3


@component(cache=True)
def tick(log):
    note(log)
    return count(log)


@pipeline
def ticks(log):
    return tick(log)


def test_refresh(mode, log, log2):
    """All is performed, or what is named, and what is known then is the new value."""

    @pipeline
    def both():
        return [tick(log), double(log2, 3)]

    assert both() == [1, 6]
    assert both.with_options(refresh=True)() == [2, 6]
    assert count(log2) == 2
    assert both() == [2, 6]
    assert both.with_options(refresh=("tick",))() == [3, 6]
    assert both.with_options(refresh="tick")() == [4, 6]
    assert both.with_options(refresh=("nothing",))() == [4, 6]
    assert count(log2) == 2
    body = pipeline(lambda: tick.with_options(cache=Cache(refresh=True))(log))
    assert body() == 5
    assert both() == [5, 6]


def test_refresh_names_a_step(mode, log):
    """A step's own name chooses it among others of its component."""
    assert doubles(log, 1, 2) == [2, 4]
    run = doubles.with_options(refresh=("double-2",)).start(log, 1, 2)
    assert run.result(10) == [2, 4]
    assert states(run) == ["cached", "completed"]


def test_ttl(mode, log):
    """A value serves for that long."""
    long = pipeline(lambda: tick.with_options(cache=Cache(ttl=3600))(log))
    short = pipeline(lambda: tick.with_options(cache=Cache(ttl=0.05))(log))
    assert [long(), long()] == [1, 1]
    over = time.time() + 0.05  # what is known was made before
    wait_until(lambda: time.time() > over, "the time is over")
    assert short() == 2
    assert long() == 2
    with pytest.raises(ConfigError, match="ttl"):
        Cache(ttl=0)


def test_ignore(mode, log):
    """Parameters that are named there do not count, given in whatever way."""

    @component(cache=Cache(ignore=("verbose",)))
    def loud(log, x, verbose=False):
        note(log)
        return x

    @pipeline
    def body(*args, **kwargs):
        return loud(log, *args, **kwargs)

    assert body(1) == body(1, True) == body(1, verbose=2) == body(1, verbose=Opaque()) == 1
    assert count(log) == 1
    assert body(2) == 2
    assert count(log) == 2


def test_version(mode, log):
    """A version counts beside the code."""

    @pipeline
    def body(version):
        return tick.with_options(cache=Cache(version=version))(log)

    assert [body("1"), body("2"), body("1"), body(1), body(None)] == [1, 2, 1, 1, 3]


@component(cache=True)
def letters(log, file):
    note(log)
    if os.path.isdir(file):
        return sum(len(path.read_text()) for path in Path(file).rglob("*.txt"))
    return len(Path(file).read_text())


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_files(mode, log, tmp_path, kind):
    """A File counts by its content, wherever it stands; a path as text does not."""
    path = tmp_path / "data.txt" if kind == "file" else tmp_path / "data"
    data = path if kind == "file" else path / "below" / "a.txt"
    data.parent.mkdir(parents=True, exist_ok=True)

    @pipeline
    def by_content():
        return letters(log, File(path))

    data.write_text("abc")
    assert [by_content(), by_content()] == [3, 3]
    os.utime(data, (1, 1))
    assert by_content() == 3
    assert count(log) == 1
    data.write_text("abcd")
    assert by_content() == 4
    if kind == "folder":
        (path / "b.txt").write_text("e")
        assert by_content() == 5
    other = tmp_path / f"other{path.suffix}"
    path.rename(other)
    before = count(log)
    body = pipeline(lambda: letters(log, File(other)))
    assert body() == (4 if kind == "file" else 5)
    assert count(log) == before, "where it stands does not count"


def test_a_file_that_is_not_there(mode, log):
    """A step on it is performed, and what it says of that is the user's to read."""
    body = pipeline(lambda: letters(log, File("/nowhere/at all")))
    for _ in range(2):
        with pytest.raises((FileNotFoundError, RunFailed)):
            body()
    assert count(log) == 2


@in_workers
def test_a_file_that_changes_before_the_step_reads_it(mode, log, tmp_path):
    """What was made of the new content is not known under the old."""
    path, gate = tmp_path / "data.txt", str(tmp_path / "gate")

    @component
    def wait(gate):
        wait_for(gate)

    @pipeline
    def late():
        found = letters.with_options(depends_on=[wait(gate)])(log, File(path))
        path.write_text("other")
        Path(gate).touch()
        return found

    path.write_text("abc")
    assert late() == 5
    path.write_text("abc")
    assert pipeline(lambda: letters(log, File(path)))() == 3


# -- what is not cached


@component(cache=True)
def shaky(log, good):
    note(log)
    if count(log) < good:
        raise ValueError(f"attempt {count(log)}")
    return count(log)


def test_failures_are_not_cached(mode, log):
    """A step that failed is performed again; once it succeeds, that is known."""
    body = pipeline(lambda: value(shaky(log, 3)))
    for n in (1, 2):
        with pytest.raises(ValueError, match=f"attempt {n}"):
            body()
    assert [body(), body()] == [3, 3]
    assert count(log) == 3


def test_retries(mode, log):
    """Attempts after the first are made as without a cache; a hit has one attempt."""
    body = pipeline(lambda: shaky.with_options(retries=3, retry_delay=0.001)(log, 3))
    run = body.start()
    assert run.result(10) == 3
    assert [a.state for a in run.steps["shaky"].attempts] == ["failed", "failed", "completed"]
    run = body.start()
    assert run.result(10) == 3
    assert [a.state for a in run.steps["shaky"].attempts] == ["cached"]
    assert count(log) == 3


def test_retries_in_vain(mode, log):
    """Whoever fails for good lets others compute the key."""
    body = pipeline(lambda: value(shaky.with_options(retries=1)(log, 99)))
    for _ in range(2):
        with pytest.raises(ValueError, match="attempt"):
            body()
    assert count(log) == 4


def test_allow_failure(mode, log, log2):
    """What is after an allowed failure runs, and is known the next time."""

    @pipeline
    def body():
        first = shaky.with_options(allow_failure=True)(log, 99)
        return double.with_options(depends_on=[first])(log2, 4)

    runs = [body.start() for _ in range(2)]
    assert [run.result(10) for run in runs] == [8, 8]
    # Either may be the one that performs it.
    assert sorted(states(run) for run in runs) == [["failed", "cached"], ["failed", "completed"]]


def test_depends_on(mode, log, log2):
    """It orders, and does not count: the step before may have another value."""

    @pipeline
    def body(n):
        return double.with_options(depends_on=[give(log, n)])(log2, 4)

    assert [body(1), body(2), body(1)] == [8, 8, 8]
    assert (count(log), count(log2)) == (2, 1)


def test_skipped_after_a_failure(mode, log, log2):
    """A cached step whose input failed is skipped."""

    @pipeline
    def body():
        double(log2, shaky.with_options(allow_failure=True)(log, 99))

    run = body.start()
    run.wait(10)
    assert states(run) == ["failed", "skipped"]
    assert count(log2) == 0


def test_child_pipelines(mode, log):
    """Their steps are known too, and their values count as those of steps."""

    @pipeline
    def child(n):
        return double(log, n)

    @pipeline
    def body(n):
        return add_one(log, child(n))

    assert body(4) == 9
    run = body.start(4)
    assert run.result(10) == 9
    assert count(log) == 2
    assert run.steps["add_one"].state == "cached"
    below = get_run(run.steps["child"].child_run)
    assert states(below) == ["cached"]
    assert body.with_options(cache=False)(4) == 9


@pytest.mark.parametrize("options", [{"cache": False}, {"refresh": True}, {"refresh": "tick"}])
def test_options_reach_child_pipelines(mode, log, options):
    """Who asks a run for fresh values gets them from its children too."""
    child = pipeline(lambda: tick(log))
    body = pipeline(lambda: value(child()))
    assert [body(), body(), body.with_options(**options)()] == [1, 1, 2]


def test_results_of_another_run(mode, log):
    """A result that was made in another run counts by its value, or is no proof; never wrong."""
    kept = []

    @pipeline
    def first(n):
        kept.append(plain(n))
        return value(kept[-1])

    @pipeline
    def second():
        return [double(log, kept[-1]), double(log, [kept[-1]][0])]

    for n in (1, 2, 1):
        first(n)
        assert second() == [2 * n, 2 * n]
    assert 2 <= count(log) <= 6


# -- one computation of a key at a time


@component(cache=True)
def slow(log, begun, gate):
    note(log)
    Path(begun).touch()
    wait_for(gate)
    return 7


def in_threads(*functions):
    """Call each in a thread; what they returned, once all have."""
    found = [None] * len(functions)

    def call(i):
        found[i] = functions[i]()

    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    return threads, found


def test_two_runs_at_once(mode, log, tmp_path):
    """One computes, the other waits and gets the value."""
    begun, gate, second = (str(tmp_path / name) for name in ("begun", "gate", "second"))

    @pipeline
    def body(is_second):
        if is_second:
            wait_for(begun)
            Path(second).touch()
        return slow(log, begun, gate)

    runs = []
    threads, found = in_threads(
        lambda: runs.append(body.start(False)) or runs[-1].result(10),
        lambda: runs.append(body.start(True)) or runs[-1].result(10),
    )
    wait_for(second)
    Path(gate).touch()
    for thread in threads:
        thread.join(10)
    assert found == [7, 7]
    assert count(log) == 1
    assert sorted(states(run)[0] for run in runs) == ["cached", "completed"]


def test_two_runs_at_once_and_the_first_fails(mode, log, tmp_path):
    """A computation that fails lets the other begin."""
    begun, gate, second = (str(tmp_path / name) for name in ("begun", "gate", "second"))

    @component(cache=True)
    def fails_first():
        note(log)
        if count(log) == 1:
            Path(begun).touch()
            wait_for(gate)
            raise ValueError
        return 5

    @pipeline
    def body(is_second):
        if is_second:
            wait_for(begun)
            Path(second).touch()
        return value(fails_first.with_options(allow_failure=True)())

    def outcome(is_second):
        try:
            return body(is_second)
        except ValueError:
            return "failed"

    threads, found = in_threads(lambda: outcome(False), lambda: outcome(True))
    wait_for(second)
    Path(gate).touch()
    for thread in threads:
        thread.join(10)
    assert found == ["failed", 5]
    assert count(log) == 2


@in_workers
@pytest.mark.parametrize("how", ["run", "step"])
def test_cancel_while_another_computes(mode, log, tmp_path, how):
    """A call that is held is cancelled at once; the other run is not touched."""
    begun, gate = str(tmp_path / "begun"), str(tmp_path / "gate")

    @pipeline
    def compute():
        return slow(log, begun, gate)

    @pipeline
    def wait():
        held = slow(log, begun, gate)
        after = add_one(log, held)
        Path(gate + "-held").touch()
        if how == "step":
            return held.cancel(), held.cancelled(), after.cancelled()
        return value(after)

    first = compute.start()
    wait_for(begun)
    second = wait.start()
    wait_for(gate + "-held")
    if how == "run":
        second.cancel()
        with pytest.raises(RunCancelled):
            second.result(5)
        assert states(second)[0] == "cancelled"
        assert states(second)[1] in ("cancelled", "skipped")
    else:
        assert second.result(5)[:2] == (True, True)
        assert states(second) == ["cancelled", "skipped"]
    wait_until(lambda: states(first) == ["running"])
    Path(gate).touch()
    assert first.result(10) == 7
    assert count(log) == 1


@in_workers
def test_a_cancelled_step_is_not_cached(mode, log, tmp_path):
    """A computation that was cancelled leaves its key to others."""
    begun, gate = str(tmp_path / "begun"), str(tmp_path / "gate")
    body = pipeline(lambda: slow(log, begun, gate))
    run = body.start()
    wait_for(begun)
    run.cancel()
    with pytest.raises(RunCancelled):
        run.result(10)
    Path(gate).touch()
    run = body.start()
    assert run.result(10) == 7
    assert states(run) == ["completed"]
    assert count(log) == 2


# -- the store


def test_a_store_that_cannot_be_read(mode, log, monkeypatch):
    """The steps are performed as without a cache."""
    assert gives(log, 1) == 1

    def refuse(folder):
        raise StoreError("it is not there")

    with monkeypatch.context() as changed:
        changed.setattr("pipedeco.cache.connect_to_read", refuse)
        run = gives.start(log, 1)
        assert run.result(10) == 1
    assert states(run) == ["completed"]
    assert count(log) == 2
    assert gives(log, 1) == 1
    assert count(log) == 2


def test_a_store_that_cannot_be_written_for_a_while(mode, log, tmp_path):
    """The run fails that could not be recorded; later ones compute its keys."""
    assert gives(log, 1) == 1
    path = tmp_path / "store" / "pipedeco.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("alter table cache rename to elsewhere")
    with pytest.raises(StoreError):
        gives(log, 2)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("alter table elsewhere rename to cache")
    run = gives.start(log, 2)
    assert run.wait(5), "the key is still claimed by the run that failed"
    assert run.result() == 2
    assert gives(log, 1) == 1


def test_archived_runs_serve_nothing(mode, log, tmp_path):
    """A value of an archived run is not taken."""
    run = gives.start(log, 1)
    run.result(10)
    with closing(sqlite3.connect(tmp_path / "store" / "pipedeco.db")) as connection:
        connection.execute("update run set archived = 1 where id = ?", (run.id,))
        connection.commit()
    assert gives(log, 1) == 1
    assert count(log) == 2
    assert gives(log, 1) == 1
    assert count(log) == 2


# -- many


def test_a_long_chain_of_hits(mode, log):
    """Five hundred hits, each on the one before, are no depth of calls."""

    @component(cache=True)
    def successor(x):
        return x + 1

    @pipeline
    def chain(length):
        x = 0
        for _ in range(length):
            x = successor(x)
        return x

    assert chain(500) == 500
    run = chain.start(500)
    assert run.result(20) == 500
    assert set(states(run)) == {"cached"}


def test_many_hits(mode, log):
    """Two thousand hits leave neither a descriptor nor a thread behind."""

    @component(cache=True)
    def square(x):
        return x * x

    @pipeline
    def body(length):
        return sum(value([square(i) for i in range(length)]))

    body(10)
    body.start(10).result(10)  # the threads that stay for the process's life are there by now
    fds, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    expected = sum(i * i for i in range(2000))
    assert body(2000) == expected
    run = body.start(2000)
    assert run.result(20) == expected
    assert set(states(run)) == {"cached"}
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= fds, "all descriptors are closed")
    wait_until(lambda: threading.active_count() <= threads, "the run's own thread has ended")

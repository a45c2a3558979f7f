"""Resuming in fresh processes: after kill -9 at any point, after a failure, after Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import sqlite3
import sys
import time
from collections import Counter

import pytest

from pipedeco import get_run

from .support import wait_until

PIPEDECO = [sys.executable, "-m", "pipedeco"]
KILLS = 50 if os.environ.get("PIPEDECO_NIGHTLY") else 5

# Steps say when they begin and end, in one file, of which no line is ever torn.
COUNTED = """
import os, sys, time
from pathlib import Path
from pipedeco import component, pipeline, value


def count(word):
    file = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{word}\\n".encode())
    os.close(file)


"""


def cli(lab, *words, **variables):
    return lab.command([*PIPEDECO, *map(str, words)], **variables)


def resume(lab, run, *words, code=0, deadline=25.0, **variables):
    """`pipedeco resume RUN`, which must end with that exit code."""
    done = cli(lab, "resume", getattr(run, "id", run), *words, **variables).finish(deadline)
    assert done.code == code, f"exit code {done.code}\n{done.out[-2000:]}\n{done.err[-5000:]}"
    return done


def plan(lab, run):
    """What `pipedeco resume RUN --plan` tells, by step."""
    lines = resume(lab, run, "--plan").out.splitlines()[1:]
    return {line.split()[0]: line.split()[1] for line in lines}


def performed(lab):
    """How often each word was noted since the last question."""
    log = lab.folder / "log"
    found = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return dict(Counter(found))


def query(lab, statement, *parameters):
    with contextlib.closing(sqlite3.connect(lab.store / "pipedeco.db")) as connection, connection:
        return connection.execute(statement, parameters).fetchall()


def start(lab, script="app.py", **variables):
    return lab.command([sys.executable, script], **variables)


def kill(lab, job):
    """SIGKILL, and no process is left."""
    job.kill()
    lab.assert_empty()


# -- killed at random

BIG = (
    COUNTED
    + """
def noted(fn):
    def step(name, *args):
        count(f"+{name}")
        time.sleep(0.003)
        found = fn(name, *args)
        count(f"-{name}")
        return found

    step.__name__ = step.__qualname__ = fn.__name__
    step.__module__ = fn.__module__
    step.__wrapped__ = fn
    return step


@component
@noted
def begin(name, n):
    return n


@component
@noted
def link(name, x, kinds={"a", "b", "c"}):
    return (x * 7 + len(kinds)) % 10007


@component(cache=True)
@noted
def known(name, x):
    return x + 1


@component
@noted
def large(name, x):
    return bytes([x % 256]) * 100_000


@component
@noted
def measure(name, data):
    return len(data) + data[0]


@component(retries=2)
@noted
def flaky(name, x):
    if not os.path.exists(f"tried-{name}"):
        Path(f"tried-{name}").touch()
        raise OSError(name)
    return x


@component
@noted
def gather(name, items):
    return sum(items)


@pipeline
def nested(n, name):
    first = begin(f"{name}-first", n)
    links = [link(f"{name}-{i}", first) for i in range(8)]
    return gather(f"{name}-sum", links)


@pipeline(workers=2)
def main():
    sums = []
    for c in range(10):
        x = begin(f"begin-{c}", c)
        for i in range(13):
            x = link(f"link-{c}-{i}", x)
        sums.append(x)
    sums.append(nested(3, "child"))
    sums += [known(f"known-{i}", s) for i, s in enumerate(sums[:10])]
    wide = [large(f"large-{i}", i) for i in range(10)]
    sums += [measure(f"measure-{i}", data) for i, data in enumerate(wide)]
    sums += [flaky(f"flaky-{i}", i) for i in range(5)]
    if value(sums[0]) % 2 == 0:
        sums.append(begin("even", 1))
    sums.append(nested(value(sums[3]) % 5, "other"))
    fans = [gather(f"fan-{i}", sums[i::5]) for i in range(5)]
    fans += [link(f"after-{i}", f) for i, f in enumerate(fans)]
    return value(gather("all", fans)), len(sums), {"done": fans}


if __name__ == "__main__":
    print(main())
"""
)


def recorded(lab):
    """The words of the steps that the store has as completed, of child runs, too."""
    # What a step is called with begins with its word; the pickle has it near its beginning.
    found = query(lab, "select args from step where state in ('completed', 'cached')")
    found += query(lab, "select args from earlier")
    words = re.compile(rb"\x8c.([a-z]+-[a-z0-9-]+|all|even)\x94")
    return {m[1].decode() for (args,) in found if args and (m := words.search(args))}


@pytest.mark.timeout(60 * KILLS)
def test_killed_at_random(lab):
    """However often it is killed, the result is the same; no recorded step is performed again."""
    lab.write("app.py", BIG)
    lab.command([sys.executable, "app.py"], PIPEDECO_STORE=str(lab.folder / "undisturbed")).finish()
    expected = lab.jobs[-1].out()
    assert expected.startswith("(")
    assert len(performed(lab)) >= 200 * 2
    chance = random.Random(20240611)
    for round_ in range(KILLS):
        for path in lab.folder.glob("tried-*"):
            path.unlink()
        lab.store = lab.folder / f"store-{round_}"
        _kill_and_resume(lab, chance, expected)


def _kill_and_resume(lab, chance, expected):
    before: set[str] = set()
    job = start(lab)
    for _ in range(chance.randint(1, 4)):
        _kill_within(lab, job, chance)
        if not (lab.store / "pipedeco.db").exists() or not lab._rows():
            performed(lab)
            job = start(lab)  # there is nothing to resume yet
            continue
        again = {word[1:] for word in performed(lab) if word[0] == "+"} & before
        assert not again, "recorded steps were performed again"
        before = recorded(lab)
        run = _main_run(lab)
        if run.status == "completed":  # the kill came too late
            break
        assert run.status == "interrupted"
        kept = {step for step, what, _ in run.resume_plan() if what == "kept"}
        assert len(kept) <= len(before)
        job = cli(lab, "resume", run.id)
    done = job.finish()
    again = {word[1:] for word in performed(lab) if word[0] == "+"} & before
    assert not again, "recorded steps were performed again at last"
    run = _main_run(lab)
    assert run.status == "completed", done.err
    assert repr(run.result()) == expected.strip()
    assert query(lab, "select count(*) from earlier") == [(0,)]
    assert {step.state for step in run.steps.values()} <= {"completed", "cached"}
    assert query(lab, "select count(*) from run") == [(3,)]  # no child run was begun again
    lab.assert_sound()
    lab.assert_empty()


def _kill_within(lab, job, chance):
    """Kill a process at a random moment: of its start, or of its work."""
    log = lab.folder / "log"
    moment = time.monotonic() + chance.uniform(0.1, 0.8)
    size = chance.randint(1, 4500) if chance.random() < 0.7 else None

    def due():
        if size is None:
            return time.monotonic() > moment
        return log.exists() and log.stat().st_size >= size

    wait_until(lambda: job.process.poll() is not None or due())
    if job.process.poll() is None:
        job.kill()
    lab.assert_empty()


def _main_run(lab):
    [(found,)] = query(lab, "select id from run where parent_run is null")
    return get_run(found, store=str(lab.store))


def _kill_after(lab, job, seconds):
    """Kill a process that long after it has begun, unless it has ended before."""
    end = time.monotonic() + seconds
    with contextlib.suppress(AssertionError):
        wait_until(lambda: job.process.poll() is not None or time.monotonic() > end, 30)
    if job.process.poll() is None:
        job.kill()
    lab.assert_empty()


# -- killed where it is known to be

HELD = (
    COUNTED
    + """
import numpy as np


class Model:
    def __init__(self, weights):
        self.weights = weights


@component
def fit(words, numbers):
    count("fit")
    print("fitting")
    return Model(sorted(words) + [int(numbers.sum())])


@component
def score(model, *rest, **more):
    count("score")
    return len(model.weights), rest, more


@component
def hold(*after):
    count("hold")
    Path("held").touch()
    while not Path("go").exists():
        time.sleep(0.005)
    print("held")
    return after


@component
def last(x):
    count("last")
    return x


@pipeline(workers=1)
def main(words, *rest, scale=1, **more):
    model = fit(words, np.arange(20_000))
    scored = score(model, {"u", "v", "w"}, {"k": {"x", "y", "z"}}, scale=scale)
    return last(hold(scored)), sorted(words), rest, more


main({"alpha", "beta", "gamma", "delta"}, 1, scale=2, color={"red", "blue"})
"""
)


FORMER = (
    COUNTED
    + """
@component
def first():
    count("first")
    return 1


@component
def hold(x):
    count("hold")
    Path("held").touch()
    while not Path("go").exists():
        time.sleep(0.005)
    return x + 1


@component
def last(x):
    count(f"last-by-{os.environ['WHO']}")
    return x


@pipeline(workers=1)
def main():
    return last(hold(first()))


if __name__ == "__main__":
    print(main())
"""
)


def hold(lab, job):
    wait_until(lambda: (lab.folder / "held").exists() or job.process.poll() is not None)
    assert job.process.poll() is None, job.finish().err
    wait_until(lambda: query(lab, "select 1 from step where name = 'hold' and state = 'running'"))
    (lab.folder / "held").unlink()


def test_another_hash_seed(lab):
    """Sets of strings and instances of the script's classes are the same in another process."""
    lab.write("app.py", HELD)
    job = start(lab, PYTHONHASHSEED="1")
    hold(lab, job)
    kill(lab, job)
    run = lab.latest()
    assert run.status == "interrupted"
    assert performed(lab) == {"fit": 1, "score": 1, "hold": 1}
    assert plan(lab, run) == {
        "fit": "kept", "score": "kept", "hold": "performed", "last": "performed",
    }  # fmt: skip
    (lab.folder / "go").touch()
    resume(lab, run, PYTHONHASHSEED="2")
    assert performed(lab) == {"hold": 1, "last": 1}
    found = lab.latest()
    assert found.id == run.id
    assert found.number == run.number
    assert found.started == run.started
    assert found.status == "completed"
    assert found.steps["fit"].logs() == "fitting\n"
    assert found.steps["hold"].logs() == "held\n"
    (inner, words, rest, more), _ = found.result(), None
    assert words == ["alpha", "beta", "delta", "gamma"]
    assert rest == (1,)
    assert more == {"color": {"red", "blue"}}
    assert inner[0][0] == 5


REORDERED = (
    COUNTED
    + """
from concurrent.futures import as_completed


@component
def each(name):
    count(f"each-{name}")
    while name != os.environ["FIRST"] and not Path("ended").exists():
        time.sleep(0.005)
    Path("ended").touch()
    return name


@component
def post(name):
    count(f"post-{name}")
    return name


@component
def last(rows):
    if not Path("go").exists():
        raise ValueError("not yet")
    return "".join(sorted(rows))


@pipeline(workers=3)
def by_set():
    return last([post(each(name)) for name in {"a", "b", "c"}])


@pipeline(workers=3)
def by_time():
    return last([post(one) for one in as_completed([each(name) for name in "abc"])])
"""
)


@pytest.mark.parametrize("name", ["by_set", "by_time"])
def test_a_fan_out_in_another_order(lab, name):
    """A set has another order in each process, `as_completed` that of the clock."""
    lab.write("app.py", REORDERED)
    first = {"PYTHONHASHSEED": "1", "FIRST": "c"}
    assert cli(lab, "run", f"app.py:{name}", **first).finish().code == 1
    assert set(performed(lab).values()) == {1}
    (lab.folder / "go").touch()
    done = resume(lab, lab.latest(), PYTHONHASHSEED="2", FIRST="a")
    assert "abc" in done.out
    assert performed(lab) == {}


def test_interrupted_at_once(lab):
    """`pipedeco runs` says so at the first question after the kill, and a resumption is refused
    as long as a process has the run."""
    lab.write("app.py", HELD)
    job = start(lab)
    hold(lab, job)
    run = lab.latest()
    done = resume(lab, run, code=2)
    assert str(job.pid) in done.err
    assert "Traceback" not in done.err
    assert run.id in done.err
    resume(lab, run, "--mode", "debug", code=2)
    job.kill()
    done = cli(lab, "runs").finish()
    assert "interrupted" in done.out
    lab.assert_empty()
    other = cli(lab, "resume", run.id)
    hold(lab, other)
    done = resume(lab, run, code=2)  # two at once
    assert str(other.pid) in done.err
    (lab.folder / "go").touch()
    assert other.finish().code == 0
    done = resume(lab, run, code=2)
    assert "completed" in done.err
    assert performed(lab) == {"fit": 1, "score": 1, "hold": 2, "last": 1}


def test_two_resumptions_at_once(lab):
    """Of several that begin together one acts, the others are told who has the run."""
    lab.write("app.py", HELD)
    job = start(lab)
    hold(lab, job)
    kill(lab, job)
    run = lab.latest()
    jobs = [cli(lab, "resume", run.id) for _ in range(4)]
    wait_until(lambda: sum(job.process.poll() is not None for job in jobs) == 3)
    (lab.folder / "go").touch()
    ends = [job.finish() for job in jobs]
    assert sorted(end.code for end in ends) == [0, 2, 2, 2]
    [acted] = [job for job, end in zip(jobs, ends, strict=True) if end.code == 0]
    for end in ends:
        if end.code == 2:
            assert str(acted.pid) in end.err
    assert performed(lab) == {"fit": 1, "score": 1, "hold": 2, "last": 1}


def test_killed_three_times(lab):
    """A resumption that is killed is resumed; each of them keeps what all before have recorded."""
    lab.write("app.py", HELD)
    job = start(lab)
    hold(lab, job)
    kill(lab, job)
    run = lab.latest()
    for _ in range(3):
        job = cli(lab, "resume", run.id)
        hold(lab, job)
        kill(lab, job)
        assert lab.latest().status == "interrupted"
    assert plan(lab, run)["fit"] == "kept"
    shown = json.loads(cli(lab, "show", run.id, "--json").finish().out)
    assert shown["status"] == "interrupted"
    assert {name: step["state"] for name, step in shown["steps"].items()} == {
        "fit": "completed", "score": "completed", "hold": "interrupted", "last": "pending",
    }  # fmt: skip
    assert lab.latest().graph.edges
    (lab.folder / "go").touch()
    resume(lab, run)
    assert performed(lab) == {"fit": 1, "score": 1, "hold": 5, "last": 1}
    assert query(lab, "select count(*) from earlier") == [(0,)]
    assert {step.state for step in lab.latest().steps.values()} == {"completed"}


@pytest.mark.parametrize("modes", [("debug", "local"), ("local", "debug")])
def test_killed_in_one_mode_and_resumed_in_the_other(lab, modes):
    """What a run has recorded in one mode is kept in the other."""
    lab.write("app.py", HELD)
    job = start(lab, PIPEDECO_MODE=modes[0])
    if modes[0] == "debug":  # a step that runs is recorded with the next look
        wait_until((lab.folder / "held").exists)
        wait_until(
            lambda: query(lab, "select 1 from step where name = 'score' and state = 'completed'")
        )
        (lab.folder / "held").unlink()
    else:
        hold(lab, job)
    kill(lab, job)
    (lab.folder / "go").touch()
    resume(lab, lab.latest(), "--mode", modes[1])
    assert performed(lab) == {"fit": 1, "score": 1, "hold": 2, "last": 1}
    run = lab.latest()
    assert run.status == "completed"
    assert run.steps["fit"].logs() == "fitting\n"
    assert run.steps["hold"].logs() == "held\n"


def test_interrupted_by_a_person(lab):
    """Ctrl-C ends with 130 in the first run and in its resumption, which can be resumed again."""
    lab.write("app.py", FORMER)
    job = cli(lab, "run", "app.py", WHO="one")
    hold(lab, job)
    job.process.send_signal(signal.SIGINT)
    assert job.finish().code == 130
    run = lab.latest()
    assert run.status == "cancelled"
    job = cli(lab, "resume", run.id, WHO="two")
    hold(lab, job)
    job.process.send_signal(signal.SIGINT)
    assert job.finish().code == 130
    assert lab.latest().status == "cancelled"
    job = cli(lab, "resume", run.id, WHO="three")
    hold(lab, job)
    assert cli(lab, "cancel", run.id).finish().code == 0
    assert job.finish().code == 130
    (lab.folder / "go").touch()
    assert resume(lab, "latest", WHO="four").out == "2\n"
    assert performed(lab) == {"first": 1, "hold": 4, "last-by-four": 1}


# -- mended

MENDED = (
    COUNTED
    + """
from lib import RATE


@component
def load(n):
    count(f"load-{n}")
    return list(range(n))


@component
def scale(items):
    count("scale")
    return [x * RATE for x in items]


@component
def total(items):
    count("total")
    return sum(items)


@component
def sign(x):
    count("sign")
    return x > 0  # mend here


@component
def told(x):
    count("told")
    return str(x)


@component
def check(x):
    count("check")
    raise ValueError("mend me")


@pipeline(workers=2)
def main():
    items = load(10)
    found = total(scale(items))
    positive = told(sign(total.with_options(name="aside")(load(5))))
    return check(found), value(positive)


if __name__ == "__main__":
    try:
        print(main())
    except ValueError as error:
        sys.exit(str(error))
"""
)


def mend(lab, old, new, name="app.py"):
    path = lab.folder / name
    text = path.read_text()
    assert old in text
    lab.write(name, text.replace(old, new))


@pytest.fixture
def failed(lab):
    lab.write("lib.py", "RATE = 2\n")
    lab.write("app.py", MENDED)
    done = start(lab).finish()
    assert done.code == 1
    assert performed(lab) == {
        "load-10": 1, "load-5": 1, "scale": 1, "total": 2, "sign": 1, "told": 1, "check": 1,
    }  # fmt: skip
    return lab.latest()


def test_the_failed_step_is_mended(lab, failed):
    """It is performed, and nothing else is; the plan tells so before."""
    before = resume(lab, failed, code=1)
    assert "mend me" in before.err
    assert performed(lab) == {"check": 1}
    mend(lab, 'raise ValueError("mend me")', "return x")
    assert {step for step, what in plan(lab, failed).items() if what == "performed"} == {"check"}
    assert performed(lab) == {}
    assert lab.latest().status == "failed"
    done = resume(lab, failed)
    assert done.out.strip() == "(90, 'True')"
    assert performed(lab) == {"check": 1}
    assert lab.latest().version != failed.version


def test_a_recorded_step_is_mended(lab, failed):
    """It and what depends on it are performed; where its value is equal, nothing after it is."""
    mend(lab, 'raise ValueError("mend me")', "return x")
    mend(lab, "RATE = 2", "RATE = 3", "lib.py")
    mend(lab, "return x > 0  # mend here", "return x >= 1")
    told = {step for step, what in plan(lab, failed).items() if what == "performed"}
    assert told == {"scale", "total", "sign", "told", "check"}
    done = resume(lab, failed)
    assert done.out.strip() == "(135, 'True')"
    assert performed(lab) == {"scale": 1, "total": 1, "sign": 1, "check": 1}


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("deleted", "app.py"),
        ("renamed", "does not define main"),
        ("broken", "SyntaxError|is no Python file"),
        ("no pipeline", "is no pipeline"),
    ],
)
def test_a_pipeline_that_is_not_there(lab, failed, harm, said):
    """It is told in one sentence with exit code 2, and the run is as it was."""
    if harm == "deleted":
        (lab.folder / "app.py").unlink()
    elif harm == "renamed":
        mend(lab, "main()", "other()")
    elif harm == "broken":
        mend(lab, "def main():", "def main(:")
    else:
        mend(lab, "@pipeline(workers=2)\n", "")
    for words in ([], ["--plan"]):
        done = resume(lab, failed, *words, code=2)
        assert re.search(said, done.err), done.err
        assert "Traceback" not in done.err
    assert lab.latest().status == "failed"
    assert performed(lab) == {}


def test_runs_that_are_not_there(lab, failed):
    """Unknown names, ambiguous prefixes and empty stores are told with exit code 2."""
    start(lab).finish()
    ids = [found for (found,) in query(lab, "select id from run")]
    query(lab, "update run set id = 'abc1' where id = ?", ids[0])
    query(lab, "update run set id = 'abc2' where id = ?", ids[1])
    for name in ("nothing", "main#77", "abc"):
        done = resume(lab, name, code=2)
        assert "Traceback" not in done.err
        assert len(done.err.strip().splitlines()) == 1
    resume(lab, "latest", "--mode", "bogus", code=2)


# -- modules, and what is not a file

PACKAGED = {
    "main.py": "import shop.train\n\nshop.train.training(3)\n",
    "shop/__init__.py": "",
    "shop/train.py": COUNTED
    + """
@component
def first(n):
    count("first")
    return n


@component
def second(n):
    count("second")
    if not Path("go").exists():
        raise ValueError("mend me")
    return int(n) + 1


@pipeline
def training(n):
    return second(first(n))
""",
}


def test_a_pipeline_of_a_module(lab):
    """It is imported as it was, from any working directory."""
    for name, text in PACKAGED.items():
        lab.write(name, text)
    assert start(lab, "main.py").finish().code == 1
    run = lab.latest()
    elsewhere = lab.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "go").touch()
    lab.folder, folder = elsewhere, lab.folder
    assert plan(lab, run) == {"first": "kept", "second": "performed"}
    assert resume(lab, run).out.strip() == "4"
    assert performed(lab) == {"second": 1}
    lab.folder = folder
    assert performed(lab) == {"first": 1, "second": 1}


def test_a_module_that_calls_its_pipeline(lab):
    """Importing what a run was of starts no other run."""
    lab.write("lib.py", PACKAGED["shop/train.py"] + "\n\ntraining(3)\n")
    # In debug mode, as a worker would import the module, and so call the bare pipeline.
    assert cli(lab, "run", "lib", "--n", "3", "--mode", "debug").finish().code == 1
    (lab.folder / "go").touch()
    run = lab.latest()
    assert plan(lab, run) == {"first": "kept", "second": "performed"}
    resume(lab, run)
    assert query(lab, "select status from run") == [("completed",)]
    assert performed(lab) == {"first": 1, "second": 2}


def test_a_module_that_cannot_be_imported(lab):
    """It is told with the user's own traceback and one sentence."""
    for name, text in PACKAGED.items():
        lab.write(name, text)
    start(lab, "main.py").finish()
    mend(lab, "@pipeline", "1 / 0\n\n@pipeline", "shop/train.py")
    done = resume(lab, "latest", code=2)
    assert "ZeroDivisionError" in done.err
    assert "pipedeco/loading.py" not in done.err
    assert lab.latest().status == "failed"


def test_a_prompt(lab):
    """What was typed is found by the process in which it was typed, and by no other."""
    source = (
        PACKAGED["shop/train.py"]
        + """
try:
    training(3)
except ValueError:
    pass
Path("go").touch()
from pipedeco import get_run
if "leave" in sys.argv:
    sys.exit()
print(get_run("latest").resume().result())
"""
    )
    done = lab.command([sys.executable, "-"], stdin=source.encode()).finish()
    assert done.out == "4\n", done.err
    assert performed(lab) == {"first": 1, "second": 2}
    (lab.folder / "go").unlink()
    assert lab.command([sys.executable, "-", "leave"], stdin=source.encode()).finish().code == 0
    done = resume(lab, "latest", code=2)
    assert "Traceback" not in done.err


# -- two owners


def test_a_former_owner(lab):
    """Whose lock is gone loses the run: the database refuses what it would still write."""
    lab.write("app.py", FORMER)
    job = start(lab, WHO="former")
    hold(lab, job)
    for path in (lab.store / "owners").iterdir():
        path.unlink()
    run = lab.latest()
    assert run.status == "interrupted"
    other = cli(lab, "resume", run.id, WHO="other")
    hold(lab, other)
    before = query(lab, "select status, owner, epoch from run")
    assert before[0][1].startswith(f"{other.pid}-")
    (lab.folder / "go").touch()
    done = job.finish()
    assert done.code == 1
    assert "RunBusy" in done.err
    assert "taken over" in done.err
    assert other.finish().code == 0
    assert lab.latest().status == "completed"
    assert lab.latest().result() == 2
    assert query(lab, "select count(*) from step") == [(3,)]
    assert performed(lab)["first"] == 1
    lab.assert_sound()

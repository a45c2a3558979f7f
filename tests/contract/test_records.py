"""What is remembered of a run."""

import json
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import wait_for, wait_until

from pipedeco import (
    RunFailed,
    RunNotFound,
    StepSkipped,
    StoreError,
    component,
    get_run,
    pipeline,
    runs,
    value,
)
from pipedeco.housekeeping.removal import archive, remove

in_workers = pytest.mark.parametrize("mode", ["local", "remote"], indirect=True)


@component
def echo(x):
    return x


@component
def add(a, b=10, *rest, scale=1, **named):
    return a + b


@component
def fail(text="no"):
    raise ValueError(text)


@pipeline
def simple(x, y=2):
    return add(echo(x), y)


def recorded(run):
    """The same run as somebody else finds it in the store."""
    run.wait(10)
    return get_run(run.id)


# -- the run


def test_what_is_known_of_a_run(mode):
    """Id, name, number, pipeline, mode, status, times, parameters, error."""
    begin = time.time()
    run = simple.start(1)
    assert run.result(10) == 3
    for found in (run, recorded(run)):
        assert found.id == run.id
        assert re.fullmatch("[0-9a-f]{8,}", found.id)
        assert (found.name, found.number, found.pipeline) == ("simple#1", 1, "simple")
        assert (found.mode, found.status, found.error) == (mode, "completed", None)
        assert found.params == {"x": 1, "y": 2}  # the defaults too
        assert begin - 1 <= found.started <= found.ended <= time.time()
        assert found.progress == 1.0
        assert found.result() == 3
        assert found.version == "1.0.0"
        assert found.parent_run is None


def test_numbers_count_per_pipeline(mode):
    """Runs are numbered from 1 for each pipeline by itself."""

    @pipeline
    def other():
        return echo(1)

    assert [simple.start(1).name for _ in range(2)] == ["simple#1", "simple#2"]
    run = other.start()
    assert run.name == "other#1"
    run.wait(10)
    last = simple.start(1)
    assert last.number == 3
    last.wait(10)


def test_parameters(mode):
    """Arguments by parameter name, as they were given; variadic ones too."""

    @pipeline
    def body(a, *rest, flag=False, **named):
        return echo(a)

    run = body.start([1], 2, 3, flag=True, other={"k": 4})
    run.wait(10)
    found = recorded(run).params
    assert found["a"] == [1]
    assert found["flag"] is True
    assert found["other"] == {"k": 4}
    assert list(found.values()) == [[1], 2, 3, True, {"k": 4}]


def test_parameters_are_as_at_the_call(mode):
    """What the body does to its argument is not in the record."""

    @pipeline
    def body(rows):
        rows.append(2)
        return echo(rows)

    run = body.start([1])
    assert run.result(10) == [1, 2]
    assert recorded(run).params == {"rows": [1]}


def test_parameters_that_cannot_be_pickled(mode):
    """A pipeline takes any argument; what cannot be recorded is shown by its preview."""

    @pipeline
    def body(numbers):
        return echo(sum(numbers))

    run = body.start(i for i in range(3))
    assert run.result(10) == 3
    assert recorded(run).params == {"numbers": "generator"}


def test_a_result_that_cannot_be_pickled(mode):
    """A body may return anything; the record says that it has no value."""

    @pipeline
    def body():
        echo(1)
        return (i for i in range(3))

    run = body.start()
    assert list(run.result(10)) == [0, 1, 2]
    with pytest.raises(StoreError, match="could not be recorded"):
        recorded(run).result()


def test_name_and_version(mode):
    """`name=` and `version=` are recorded."""

    @pipeline(name="train", version="2.1")
    def body():
        return echo.with_options(name="first")(1)

    run = body.start()
    run.wait(10)
    found = recorded(run)
    assert (found.pipeline, found.name, found.version) == ("train", "train#1", "2.1")
    assert found.steps["first"].component == "first"


def test_a_failed_run(mode):
    """Status, error and the exception itself are there afterwards."""

    @pipeline
    def body():
        return value(fail("broken"))

    run = body.start()
    found = recorded(run)
    assert (found.status, found.error) == ("failed", "ValueError: broken")
    with pytest.raises(ValueError, match="broken"):
        found.result()


@in_workers
def test_a_run_with_an_unread_failure(mode):
    """The record holds the RunFailed that the call raised."""

    @pipeline
    def body():
        fail("broken")

    found = recorded(body.start())
    assert found.status == "failed"
    assert "RunFailed" in found.error
    with pytest.raises(RunFailed, match="step fail raised ValueError: broken"):
        found.result()


# -- steps


def test_steps_are_a_mapping_in_order(mode):
    """`run.steps` maps names to records in the order of the calls."""

    @pipeline
    def body():
        return [echo(1), add(1), echo(2), simple(1)]

    run = body.start()
    assert run.result(10) == [1, 11, 2, 3]
    for steps in (run.steps, recorded(run).steps):
        assert list(steps) == ["echo", "add", "echo-2", "simple"]
        assert len(steps) == 4
        assert "echo-2" in steps
        assert [s.component for s in steps.values()] == ["echo", "add", "echo", "simple"]
        with pytest.raises(KeyError, match=r"nope.*echo-2"):
            steps["nope"]


def test_what_is_known_of_a_step(mode):
    """State, times, value, inputs, attempts."""
    run = simple.start(1)
    step = recorded(run).steps["add"]
    assert (step.name, step.component, step.state) == ("add", "add", "completed")
    assert (step.error, step.reason) == (None, None)
    assert run.started - 0.1 <= step.started <= step.ended <= run.ended + 0.1
    assert step.duration == pytest.approx(step.ended - step.started, abs=1e-5)
    assert step.result() == 3
    assert step.inputs == {"a": 1, "b": 2}
    assert [(a.number, a.state) for a in step.attempts] == [(1, "completed")]
    assert step.parents == ["echo"]


def test_inputs(mode):
    """Inputs by parameter name as the function got them, results replaced by their values."""

    @pipeline
    def body():
        r = echo(1)
        return add(r, 2, 3, [r], scale=r, other={"deep": (r,)})

    run = body.start()
    run.wait(10)
    found = recorded(run).steps["add"].inputs
    assert {k: found[k] for k in ("a", "b", "scale", "other")} == {
        "a": 1, "b": 2, "scale": 1, "other": {"deep": (1,)},
    }  # fmt: skip
    assert list(found.values()) == [1, 2, 3, [1], 1, {"deep": (1,)}]


def test_inputs_are_as_at_the_call(mode):
    """What the body does to an argument afterwards is not in the record."""

    @pipeline
    def body():
        rows = [1]
        echo(rows)
        rows.append(2)

    run = body.start()
    assert run.wait(10)
    assert recorded(run).steps["echo"].inputs == {"x": [1]}


def test_large_values_are_recorded(mode):
    """Large inputs and results can be read later."""
    array = np.arange(100_000)

    @pipeline
    def body():
        return echo(echo(array))

    run = body.start()
    run.wait(10)
    found = recorded(run)
    for item in (found.result(), found.steps["echo"].inputs["x"], found.steps["echo-2"].result()):
        assert np.array_equal(item, array)


def test_a_failed_step(mode):
    """Error, traceback and the exception itself."""

    @pipeline
    def body():
        with pytest.raises(ValueError, match="broken"):
            value(fail("broken"))

    step = recorded(body.start()).steps["fail"]
    assert (step.state, step.error) == ("failed", "ValueError: broken")
    assert __file__ in step.traceback
    assert "raise ValueError(text)" in step.traceback
    with pytest.raises(ValueError, match="broken"):
        step.result()


@in_workers
def test_a_skipped_step(mode):
    """Its reason names what failed; there is no attempt and no value."""

    @pipeline
    def body():
        return echo(fail("broken"))

    step = recorded(body.start()).steps["echo"]
    assert step.state == "skipped"
    assert "fail" in step.reason
    assert (step.attempts, step.started, step.duration) == ([], None, None)
    with pytest.raises(StepSkipped, match="fail"):
        step.result()


def test_none_is_a_value(mode):
    """A step that returned None is completed and has the value None."""

    @pipeline
    def body():
        echo(None)

    run = recorded(body.start())
    assert run.steps["echo"].result() is None
    assert run.steps["echo"].inputs == {"x": None}
    assert run.result() is None


@in_workers
def test_records_while_it_runs(mode, tmp_path):
    """Steps under way can be looked at: what has ended, what runs, what waits."""
    gate, began = tmp_path / "gate", tmp_path / "began"

    @component
    def waiting(x):
        began.touch()
        wait_for(gate)
        return x

    @pipeline
    def body():
        value(echo(1))
        return echo(waiting(2))

    run = body.start()
    wait_for(began)
    for found in (run, get_run(run.id), get_run("latest")):
        assert found.status == "running"
        assert found.ended is None
        expected = {"echo": "completed", "waiting": "running", "echo-2": "pending"}
        wait_until(lambda: {n: s.state for n, s in found.steps.items()} == expected)  # noqa: B023
        assert 0 < found.progress < 1
    gate.touch()
    assert run.result(10) == 2


# -- logs


@component
def speak(text):
    print(text)
    print(f"{text} err", file=sys.stderr)


def test_logs(mode, capsys):
    """A step's stdout and stderr are kept by step, and shown on ours."""

    @pipeline
    def body():
        value(speak("one"))
        value(echo(1))
        value(speak("two"))

    run = body.start()
    run.wait(10)
    for found in (run, recorded(run)):
        assert found.logs("speak") == "one\none err\n"
        assert found.steps["speak-2"].logs() == "two\ntwo err\n"
        assert found.logs("echo") == ""
        assert found.logs() == "one\none err\ntwo\ntwo err\n"
    captured = capsys.readouterr()
    assert captured.out == "one\ntwo\n"
    assert captured.err == "one err\ntwo err\n"


@in_workers
def test_logs_of_everything_below(mode):
    """Output of subprocesses and of file descriptors is the step's too."""

    @component
    def below():
        subprocess.run(["/bin/sh", "-c", "echo child; echo child err >&2"], check=True)
        os.write(1, b"descriptor\n")
        print("print", end="")

    @pipeline
    def body():
        below()

    run = body.start()
    run.wait(10)
    assert run.logs("below") == "child\ndescriptor\nprintchild err\n"


def test_logs_of_a_failed_step(mode):
    """What a step wrote before it failed is kept."""

    @component
    def tries():
        print("about to fail")
        raise ValueError("broken")

    @pipeline
    def body():
        return value(tries())

    assert recorded(body.start()).logs("tries") == "about to fail\n"


def test_logs_by_attempt(mode, tmp_path):
    """Each attempt has its own."""
    path = tmp_path / "n"

    @component(retries=1)
    def tries():
        n = len(path.read_text()) if path.exists() else 0
        path.write_text("x" * (n + 1))
        print(f"attempt {n + 1}")
        if n == 0:
            raise ValueError("first")

    @pipeline
    def body():
        tries()

    step = recorded(body.start()).steps["tries"]
    assert [a.logs() for a in step.attempts] == ["attempt 1\n", "attempt 2\n"]
    assert step.logs() == "attempt 2\n"


@in_workers
def test_logs_of_a_step_that_died(mode):
    """What a step wrote before its worker died is kept."""

    @component(allow_failure=True)
    def dies():
        print("last words", flush=True)
        os._exit(1)

    @pipeline
    def body():
        dies()

    assert recorded(body.start()).logs("dies") == "last words\n"


@in_workers
def test_logs_do_not_mix(mode):
    """Many steps side by side: each has its own lines."""

    @pipeline
    def body():
        for i in range(40):
            speak(f"step {i}")

    run = body.start()
    run.wait(10)
    found = [step.logs() for step in run.steps.values()]
    assert found == [f"step {i}\nstep {i} err\n" for i in range(40)]


# -- the graph


def test_graph(mode):
    """Edges of data, of order and of control, with the names of steps."""

    @pipeline
    def body():
        a = echo(1)
        b = echo([a, a])
        c = add.with_options(depends_on=[a])(1)
        if value(c):
            d = echo.with_options(name="last")(b)
        return d

    run = body.start()
    run.wait(10)
    for found in (run, recorded(run)):
        assert found.graph.steps == ["echo", "echo-2", "add", "last"]
        assert set(found.graph.edges) == {
            ("echo", "echo-2", "data"),
            ("echo", "add", "order"),
            ("echo-2", "last", "data"),
            ("add", "last", "control"),
        }
        assert len(found.graph.edges) == 4
        assert found.steps["add"].after == ["echo"]


def test_trace(mode):
    """`p.trace(...)` gives the graph and performs nothing, records nothing."""

    @pipeline
    def body(n):
        made = [fail(str(i)) for i in range(n)]
        return echo(made)

    graph = body.trace(2)
    assert [step.name for step in graph] == ["fail", "fail-2", "echo"]
    assert graph.edges == [("fail", "echo", "data"), ("fail-2", "echo", "data")]
    assert runs() == []


# -- finding runs


def test_get_run(mode):
    """By "latest", id, prefix and "name#number"."""
    first, second = simple.start(1), None
    first.wait(10)
    second = simple.start(2)
    second.wait(10)
    assert get_run().id == get_run("latest").id == second.id
    assert get_run(first.id).id == first.id
    assert get_run(first.id[:9]).id == first.id
    assert get_run("simple#1").id == first.id
    assert get_run("simple#2").id == second.id


def test_get_run_by_the_name_of_a_pipeline(mode):
    """It is the latest run of that name, where no id answers; archived ones come last."""
    other = pipeline(name="other")(simple.fn)
    inner = simple.with_options(name="inner")
    outer = pipeline(name="outer")(lambda x: inner(x))  # noqa: PLW0108
    runs_of = [p.start(1) for p in (simple, simple, other, outer)]
    for run in runs_of:
        run.wait(10)
    assert get_run("simple").name == "simple#2"
    assert get_run("other").id == runs_of[2].id
    assert get_run("inner").parent_run == runs_of[3].id
    assert get_run(runs_of[0].id[:9]).id == runs_of[0].id
    named = pipeline(name=runs_of[0].id)(simple.fn).start(1)
    named.wait(10)
    assert get_run(runs_of[0].id).id == runs_of[0].id  # an id comes first
    archive("simple#2")
    assert get_run("simple").name == "simple#1"
    archive("simple#1")
    assert get_run("simple").name == "simple#2"
    with pytest.raises(RunNotFound, match="did you mean simple#2, the latest of its runs"):
        remove("simple")  # which would leave others


@pytest.mark.parametrize("name", ["zzz", "simple#9", "other#1", "simple#x", "", "%", "_" * 12])
def test_run_not_found(mode, name):
    """A name that no run answers to is RunNotFound, which says what to do."""
    simple(1)
    with pytest.raises(RunNotFound, match="pipedeco runs"):
        get_run(name)


def test_an_ambiguous_prefix(mode):
    """A prefix of several ids is RunNotFound, which says so."""
    ids = []
    while len({i[0] for i in ids}) == len(ids):
        run = simple.start(1)
        run.wait(10)
        ids.append(run.id)
    shared = next(i[0] for i in ids if sum(other[0] == i[0] for other in ids) > 1)
    with pytest.raises(RunNotFound, match="more than one"):
        get_run(shared)


def test_runs(mode):
    """`runs()` are the newest first, of one pipeline where it is named, so many at most."""

    @pipeline
    def other():
        return echo(1)

    for _ in range(3):
        simple(1)
    other()
    assert [r.name for r in runs()] == ["other#1", "simple#3", "simple#2", "simple#1"]
    assert [r.name for r in runs("simple", limit=2)] == ["simple#3", "simple#2"]
    assert runs("nobody") == []


def test_no_store(mode):
    """Where nothing ever ran there is no run."""
    assert runs() == []
    with pytest.raises((RunNotFound, StoreError)):
        get_run("latest")


def test_another_store(mode, tmp_path):
    """`store=` moves the store of a pipeline's runs, and is how they are found."""
    elsewhere = str(tmp_path / "elsewhere")
    run = simple.with_options(store=elsewhere).start(1)
    assert run.result(10) == 3
    assert get_run("simple#1", store=elsewhere).id == run.id
    assert [r.id for r in runs(store=elsewhere)] == [run.id]
    assert runs() == []


# -- as JSON, from elsewhere


def test_to_json(mode):
    """`to_json()` holds the same names as plain types."""

    @pipeline
    def body(x, array):
        return echo([x]), value(add(x))

    run = body.start(1, np.zeros(3))
    run.wait(10)
    found = json.loads(json.dumps(recorded(run).to_json()))
    names = ["id", "name", "number", "pipeline", "mode", "status", "progress"]
    assert [found[n] for n in names] == [run.id, "body#1", 1, "body", mode, "completed", 1.0]
    assert found["error"] is None
    assert found["params"]["x"] == "1"
    assert list(found["steps"]) == ["echo", "add"]
    step = found["steps"]["echo"]
    assert (step["state"], step["component"]) == ("completed", "echo")
    assert [a["state"] for a in step["attempts"]] == ["completed"]


def test_to_json_of_a_failed_run(mode):
    """Also of a run that failed."""

    @pipeline
    def body():
        return value(fail("broken"))

    found = json.loads(json.dumps(recorded(body.start()).to_json()))
    assert found["error"] == "ValueError: broken"
    assert found["steps"]["fail"]["error"] == "ValueError: broken"


def test_from_another_process(mode):
    """A returned result is committed: another process reads it at once."""
    run = simple.start(5)
    assert run.result(10) == 7
    script = (
        "from pipedeco import get_run; r = get_run('latest');"
        "print(r.id, r.status, r.result(), r.steps['add'].result(), *r.steps)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.split() == [run.id, "completed", "7", "7", "echo", "add"]


# -- progress


@in_workers
def test_progress(mode, tmp_path):
    """Ended steps of the steps known; it never falls, and ends at 1."""
    gates = [tmp_path / f"gate-{i}" for i in range(4)]

    @component
    def waiting(path):
        wait_for(path)

    @pipeline
    def body():
        made = [waiting(str(gate)) for gate in gates]
        return value(made)

    run = body.start()
    seen = [run.progress]
    for i, gate in enumerate(gates):
        gate.touch()
        wait_until_progress(run, (i + 1) / 4)
        seen.append(run.progress)
    run.result(10)
    assert [*seen, run.progress] == sorted([*seen, run.progress])
    assert run.progress == 1.0


def wait_until_progress(run, least):
    deadline = time.monotonic() + 10
    while run.progress < least:
        assert time.monotonic() < deadline, f"progress stays at {run.progress}"
        time.sleep(0.002)


@in_workers
def test_progress_never_falls(mode, tmp_path):
    """Also where the body makes its calls one after another."""

    @pipeline
    def body():
        for i in range(30):
            value(echo(i))

    run = body.start()
    seen = []
    while not run.wait(0):
        seen.append(run.progress)
    assert seen == sorted(seen)
    assert run.progress == 1.0


@in_workers
def test_progress_knows_the_last_run(mode, tmp_path):
    """A run's length is expected to be that of the version's last completed run."""
    gate = tmp_path / "gate"

    @pipeline
    def body():
        for i in range(4):
            value(echo(i))
        wait_for(gate)
        for i in range(4):
            value(echo(i))

    gate.touch()
    body()
    gate.unlink()
    run = body.start()
    wait_until_progress(run, 0.5)
    assert run.progress == 0.5
    gate.touch()
    run.result(10)

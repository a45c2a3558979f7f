"""What steps and bodies report while they run: the same records in every mode."""

import asyncio
import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import wait_for, wait_until
from hypothesis import given, settings
from hypothesis import strategies as st

import pipedeco
from pipedeco import (
    ConfigError,
    ReportError,
    RunNotFound,
    WorkerDied,
    add_tags,
    component,
    current_run,
    current_step,
    get_logger,
    get_run,
    log_artifact,
    log_metric,
    log_metrics,
    log_model,
    log_param,
    log_table,
    log_text,
    pipeline,
    runs,
    set_progress,
    value,
)
from pipedeco.events import METRIC, Event, Part, encoded, metric_head, read

in_workers = pytest.mark.parametrize("mode", ["local", "remote"], indirect=True)


def points(holder):
    """(name, value, step, source) of all points."""
    return [(p["name"], p["value"], p["step"], p["source"]) for p in holder._reported.points()]


# -- metrics


def test_metrics_of_a_step(mode):
    """Points stand under the step, in order, with the caller's own count and the time."""

    @component
    def train():
        for epoch in range(3):
            log_metric("loss", 1.0 / (epoch + 1), epoch)
        log_metrics({"accuracy": 0.5, "recall": 1}, step=7)

    @pipeline
    def body():
        value(train())

    body()
    run = get_run()
    step = run.steps["train"]
    assert points(step) == [
        ("loss", 1.0, 0, "train"),
        ("loss", 0.5, 1, "train"),
        ("loss", 1.0 / 3, 2, "train"),
        ("accuracy", 0.5, 7, "train"),
        ("recall", 1, 7, "train"),
    ]
    assert points(run) == []
    frame = step.metrics
    assert list(frame.columns) == ["name", "value", "step", "time", "source"]
    assert abs(frame["time"].iloc[0] - run.started) < 60
    assert step.last_metrics == {"loss": 1.0 / 3, "accuracy": 0.5, "recall": 1}


def test_metrics_without_pandas(mode, monkeypatch):
    """Where pandas is not installed, a list of dicts with the same names."""

    @pipeline
    def body():
        log_metric("a", 1)

    body()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (point,) = get_run().metrics
    assert set(point) == {"name", "value", "step", "time", "source"}
    assert (point["name"], point["value"], point["source"]) == ("a", 1, None)


def test_metrics_of_a_run(mode):
    """What the body logs, and what a step logs on the run, is the run's own."""

    @component
    def score(x):
        log_metric("mine", x)
        current_run().log_metric("best", x * 10)
        return x

    @pipeline
    def body():
        log_metric("before", 1)
        value(score(2))
        current_run().log_metric("after", 3)

    body()
    run = get_run()
    assert points(run) == [("before", 1, None, None), ("best", 20, None, "score"),
                           ("after", 3, None, None)]  # fmt: skip
    assert points(run.steps["score"]) == [("mine", 2, None, "score")]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 10**400, -0.0, True, 1e-320])
def test_numbers_are_kept(mode, number):
    """NaN, infinities and numbers beyond a float's reach arrive as they were."""

    @component
    def report(number):
        log_metric("x", number)

    @pipeline
    def body():
        value(report(number))
        log_metric("y", number)

    body()
    run = get_run()
    for ((_, kept, _, _),) in (points(run), points(run.steps["report"])):
        assert repr(float(kept) if number is True else kept) == repr(1.0 if number is True else number)  # fmt: skip


def test_numbers_of_numpy(mode):
    """Scalars and arrays of one element are numbers."""
    import numpy as np

    @component
    def report():
        log_metric("a", np.float32(0.5))
        log_metric("b", np.int64(3), step=np.int32(4))
        log_metric("c", np.array(2.5))
        log_metric("d", np.bool_(True))

    @pipeline
    def body():
        value(report())

    body()
    found = points(get_run().steps["report"])
    assert [(name, number) for name, number, _, _ in found] == [
        ("a", 0.5), ("b", 3), ("c", 2.5), ("d", 1),
    ]  # fmt: skip
    assert found[1][2] == 4


@pytest.mark.parametrize(
    "name", ["a/b/c", "größe ☃", "two\nlines", '"] , [', "\x1b[31mred", "\u2028"]
)
def test_unusual_names(mode, name):
    """Any text is a name, and breaks nothing."""

    @component
    def report(name):
        log_metric(name, 1)
        log_text(name, "text")
        log_artifact(name, {"x": 1})
        add_tags(name)

    @pipeline
    def body():
        value(report(name))

    body()
    step = get_run().steps["report"]
    assert (
        list(step.last_metrics) == list(step.texts) == list(step.artifacts) == step.tags == [name]
    )


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: log_metric("loss", "0.5"), r"log_metric\('loss'\) in step bad of run \w+: a metric is a number, not a str"),
        (lambda: log_metric("loss", [1, 2]), "a metric is a number, not a list"),
        (lambda: log_metric("loss", 1, step="two"), "step is a whole number, not a str"),
        (lambda: log_metric(5, 1), "a name is a text"),
        (lambda: log_metric([], 1), "a name is a text"),
        (lambda: log_metric("", 1), "a name is a text"),
        (lambda: log_metrics([1]), "it takes a dict, not a list"),
        (lambda: log_text("t", 3), "it takes a text, not an int"),
        (lambda: log_artifact("a", "no/such/file.csv"), "there is no file 'no/such/file.csv'"),
        (lambda: log_artifact("a", sys._getframe()), "frame"),
        (lambda: log_model("m", "/nowhere/model.pt"), "there is no file"),
        (lambda: set_progress(2), "a number from 0 to 1, not 2"),
        (lambda: set_progress("half"), "a number from 0 to 1, not a str: 'half'"),
        (lambda: add_tags("a", 3), "a tag is a text, not 3"),
        (lambda: log_table("t", 3), r"log_table\('t'\) in step bad"),
        (lambda: pipedeco.log_figure("f", 3), r"log_figure\('f'\) in step bad"),
        (lambda: pipedeco.log_image("i", "/nowhere.png"), r"log_image\('i'\) in step bad"),
    ],
)  # fmt: skip
def test_bad_input_names_step_and_call(mode, call, says):
    """What cannot be recorded is told at its call; the step may go on."""

    @component
    def bad():
        with pytest.raises(ReportError, match=says) as caught:
            call()
        log_metric("after", 1)
        return caught.value.step, caught.value.run

    @pipeline
    def body():
        return bad()

    step, run = body()
    assert (step, run) == ("bad", get_run().id)
    assert get_run().steps["bad"].last_metrics == {"after": 1}


def test_outside_of_any_run(monkeypatch):
    """A clear error, or nothing at all with PIPEDECO_STRICT=0."""
    for call in (lambda: log_metric("a", 1), current_step, current_run, lambda: set_progress(0.5)):
        with pytest.raises(RunNotFound, match="outside of any run"):
            call()
    monkeypatch.setenv("PIPEDECO_STRICT", "0")
    log_metric("a", 1)
    log_artifact("a", object())
    log_table("t", [{"a": 1}])
    set_progress(0.5)
    current_run().log_text("a", "b")
    with pytest.raises(ReportError):
        log_metric("a", "text")


def test_a_bare_component(mode):
    """A component that is called outside of a pipeline is the bare function, which reports nowhere."""

    @component
    def report():
        log_metric("a", 1)

    with pytest.raises(RunNotFound, match="PIPEDECO_STRICT=0"):
        report()


def test_current_step_and_run(mode):
    """Who is being performed, with retries, and only there."""

    @component(retries=1)
    def who():
        step, run = current_step(), current_run()
        if step.attempt == 1:
            raise ValueError
        return step.name, step.component, step.attempt, step.run, run.id, run.pipeline

    @pipeline
    def body():
        with pytest.raises(RunNotFound, match="the body of body"):
            current_step()
        return who(), who.with_options(name="other")(), current_run().id

    first, second, in_body = body()
    run = get_run().id
    assert first == ("who", "who", 2, run, run, "body")
    assert second == ("other", "other", 2, run, run, "body")
    assert in_body == run


def test_attempts_have_reports_of_their_own(mode):
    """The step shows its last attempt's, each attempt its own."""

    @component(retries=1)
    def flaky():
        log_metric("tries", current_step().attempt)
        if current_step().attempt == 1:
            raise ValueError

    @pipeline
    def body():
        value(flaky())

    body()
    step = get_run().steps["flaky"]
    assert points(step) == [("tries", 2, None, "flaky")]
    assert [list(attempt.metrics["value"]) for attempt in step.attempts] == [[1], [2]]


def test_threads_and_children_of_a_step(mode):
    """Threads that a step starts report for it, and so do processes that it forks."""

    def work(x):
        log_metric("from", x)

    @component
    def parallel():
        thread = threading.Thread(target=work, args=(1,))
        thread.start()
        thread.join()
        child = multiprocessing.get_context("fork").Process(target=work, args=(2,))
        child.start()
        child.join()
        assert child.exitcode == 0

    @component
    def next_one():
        log_metric("own", 3)

    @pipeline(workers=1)
    def body():
        value(parallel())
        value(next_one())

    body()
    run = get_run()
    assert [number for _, number, _, _ in points(run.steps["parallel"])] == [1, 2]
    assert points(run.steps["next_one"]) == [("own", 3, None, "next_one")]


def in_a_pool(x):
    log_metric("pool", x)
    return x


@in_workers
def test_pools_of_processes_that_a_step_spawns(mode):
    """A spawned pool and joblib's workers report for the step that started them.

    (Both leave a process of their own for the process's life; a worker's is killed after the step.)
    """
    import joblib

    @component
    def spawns():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            pool.map(in_a_pool, [1])
        joblib.Parallel(2)(joblib.delayed(in_a_pool)(x) for x in (2, 3))

    @component
    def other():
        log_metric("own", 5)

    @pipeline(workers=1)
    def body():
        value(spawns())
        value(other())

    body()
    run = get_run()
    assert sorted(number for _, number, _, _ in points(run.steps["spawns"])) == [1, 2, 3]
    assert points(run.steps["other"]) == [("own", 5, None, "other")]


def test_another_python_that_a_step_starts(mode):
    """It reports for the step, and nothing does once the run has ended."""

    @component
    def starts():
        code = "import pipedeco; pipedeco.log_metric('n', 4); pipedeco.log_artifact('a', 5)"
        subprocess.run([sys.executable, "-c", code], check=True)

    @pipeline
    def body():
        value(starts())

    body()
    step = get_run().steps["starts"]
    assert points(step) == [("n", 4, None, "starts")]
    assert step.artifacts["a"].load() == 5
    with pytest.raises(RunNotFound):
        log_metric("after", 1)


def test_async_steps_and_pools_of_threads(mode):
    """Tasks and the threads of executors report for the step, too."""

    @component
    async def several():
        async def task(x):
            await asyncio.sleep(0)
            log_metric("task", x)

        await asyncio.gather(task(1), task(2))
        await asyncio.to_thread(log_metric, "thread", 3)
        await asyncio.get_running_loop().run_in_executor(None, log_metric, "pool", 4)

    @pipeline
    def body():
        value(several())

    body()
    found = points(get_run().steps["several"])
    assert [number for _, number, _, _ in found] == [1, 2, 3, 4]


@in_workers
def test_points_are_seen_while_the_step_runs(mode, tmp_path):
    """Another process reads what a running step has reported, and nothing of the next step."""

    @component
    def slow(gate):
        log_metric("loss", 0.25)
        set_progress(0.5)
        wait_for(gate, timeout=40)

    @pipeline
    def body():
        slow(str(tmp_path / "gate"))

    run = body.start()
    assert get_run(run.id).status == "running"  # it is recorded
    script = (
        "import sys, json, pipedeco; r = pipedeco.get_run(sys.argv[1]); s = r.steps.get('slow')\n"
        "print(json.dumps([s and s.last_metrics, s and s.progress, r.progress]))"
    )

    def seen():
        done = subprocess.run(
            [sys.executable, "-c", script, run.id], capture_output=True, text=True, check=True
        )
        found = json.loads(done.stdout)
        return found if all(found) else None

    assert wait_until(seen, timeout=20) == [{"loss": 0.25}, 0.5, 0.5]
    assert run.progress == 0.5
    (tmp_path / "gate").touch()
    assert run.wait(10)
    assert (run.progress, run.steps["slow"].progress) == (1.0, 1.0)


@in_workers
def test_a_killed_step_keeps_its_points(mode):
    """Every point is in the file before the call returns; nothing of another step is mixed in."""

    @component
    def dies():
        for number in range(5000):
            log_metric("n", number)
        os.kill(os.getpid(), signal.SIGKILL)

    @component
    def lives(n):
        log_metric("m", n)

    @pipeline(workers=1)
    def body():
        value(lives(1))
        with pytest.raises(WorkerDied):
            value(dies())
        value(lives(2))

    body()
    run = get_run()
    assert [number for _, number, _, _ in points(run.steps["dies"])] == list(range(5000))
    assert points(run.steps["lives"]) == [("m", 1, None, "lives")]
    assert points(run.steps["lives-2"]) == [("m", 2, None, "lives-2")]


@in_workers
def test_many_points_cost_little_memory(mode):
    """A hundred thousand points leave the worker as small as it was."""

    @component
    def loop():
        import resource

        log_metric("x", 0.0)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(100_000):
            log_metric("x", number * 0.5, number)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    @pipeline
    def body():
        return loop()

    assert body() < 2000  # KiB
    assert len(get_run().steps["loop"].metrics) == 100_001


# -- other things


def test_params_texts_and_tags(mode):
    """They stand under the step, or under the run."""

    @component(tags=["fixed"])
    def report():
        log_param("rate", 0.1)
        log_param("shape", (1, 2))
        log_text("note", "first")
        log_text("note", "second", step=2)
        log_text("long", "x" * 20_000)
        add_tags("fast", "fixed")

    @pipeline(tags=["nightly"])
    def body(n: int = 3):
        value(report())
        log_param("found", "here")
        add_tags("good")

    body()
    run = get_run()
    step = run.steps["report"]
    assert step.params == {"rate": 0.1, "shape": "(1, 2)"}
    assert step.texts["note"].text == "second"
    assert [(t.text, t.step) for t in step.texts.history("note")] == [
        ("first", None),
        ("second", 2),
    ]
    assert len(step.texts["long"].text) == 20_000
    assert step.tags == ["fixed", "fast"]
    assert run.params == {"n": 3, "found": "here"}
    assert run.tags == ["good", "nightly"]
    run.add_tags("best")
    assert set(get_run(run.id).tags) == {"best", "good", "nightly"}
    with pytest.raises(ConfigError, match="tags"):
        run.add_tags("")


def test_a_param_does_not_hide_an_argument(mode):
    """What the pipeline was called with is what it was called with."""

    @pipeline
    def body(n: int):
        log_param("n", 7)

    body(3)
    assert get_run().params == {"n": 3}


def test_artifacts(mode, tmp_path):
    """Objects, files and folders; loaded, or as paths; the last of a name counts."""
    big = list(range(50_000))
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "empty").touch()
    (folder / "sub" / "run.sh").write_text("#!/bin/sh")
    (folder / "sub" / "run.sh").chmod(0o755)
    (tmp_path / "data.csv").write_text("x,y\n")

    @component
    def keep():
        log_artifact("small", {"a": 1})
        log_artifact("big", big)
        log_artifact("file", tmp_path / "data.csv")
        log_artifact("folder", str(folder))
        log_artifact("small", {"a": 2})
        (tmp_path / "data.csv").write_text("changed since")

    @pipeline
    def body():
        value(keep())
        log_artifact("of the run", 5)

    body()
    run = get_run()
    found = run.steps["keep"].artifacts
    assert list(found) == ["small", "big", "file", "folder"]
    assert (found["small"].load(), found["big"].load()) == ({"a": 2}, big)
    assert found["small"].preview == "{'a': 2}"
    assert Path(found["file"].path()).read_text() == "x,y\n"
    assert os.path.basename(found["file"].load()) == "data.csv"
    kept = found["folder"].path()
    assert sorted(os.listdir(kept)) == ["a.txt", "empty", "sub"]
    assert os.access(os.path.join(kept, "sub", "run.sh"), os.X_OK)
    assert not os.access(os.path.join(kept, "a.txt"), os.X_OK)
    found["folder"].save(tmp_path / "copy")
    assert (tmp_path / "copy" / "a.txt").read_text() == "a"
    with pytest.raises(pipedeco.StoreError, match="is there already"):
        found["file"].save(tmp_path / "copy")
    with pytest.raises(pipedeco.StoreError, match="an object"):
        found["small"].path()
    with pytest.raises(KeyError, match="there is no artifact 'other'; there are: small, big"):
        found["other"]
    assert list(run.artifacts) == ["of the run"]
    assert run.artifacts["of the run"].load() == 5


def test_models(mode, tmp_path):
    """What made a model is told by the object, the file's name, or the caller."""
    (tmp_path / "net.onnx").write_bytes(b"net")

    @component
    def train():
        from sklearn.linear_model import LinearRegression

        log_model("line", LinearRegression())
        log_model("net", tmp_path / "net.onnx")
        log_model("own", {"w": 1}, framework="by hand")

    @pipeline
    def body():
        value(train())

    body()
    models = get_run().steps["train"].models
    assert [model.framework for model in models.values()] == ["sklearn", "onnx", "by hand"]
    assert models["own"].load() == {"w": 1}
    assert get_run().steps["train"].artifacts == {}


def test_tables(mode):
    """Rows of dicts, sequences or a DataFrame; NaN is kept."""
    import pandas as pd

    @component
    def tabulate():
        log_table("dicts", [{"a": 1, "b": "x"}, {"a": math.nan}])
        log_table("frame", pd.DataFrame({"n": [1, 2], "t": ["x", "y"]}))

    @pipeline
    def body():
        value(tabulate())

    body()
    tables = get_run().steps["tabulate"].tables
    assert tables["dicts"].columns == ["a", "b"]
    assert tables["dicts"].rows[0] == [1, "x"]
    assert math.isnan(tables["dicts"].rows[1][0])
    assert list(tables["frame"].frame()["t"]) == ["x", "y"]


def test_a_blob_that_was_damaged(mode):
    """An error that names it, never another value."""

    @pipeline
    def body():
        log_artifact("a", 1)

    body()
    run = get_run()
    artifact = run.artifacts["a"]
    path = run.blobs.path(artifact._payload["blob"])
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.seek(-1, 2)
        file.write(b"!")
    with pytest.raises(pipedeco.BlobCorrupt):
        artifact.load()


def test_a_logger(mode):
    """Records stand in the step's log with level and time, debug ones too."""

    @component
    def talk():
        logger = get_logger()
        logger.debug("small")
        logger.warning("large")

    @pipeline
    def body():
        value(talk())

    body()
    first, second = get_run().logs("talk").splitlines()
    assert first.endswith(" DEBUG small")
    assert second.endswith(" WARNING large")
    assert first[:4].isdecimal()


# -- monitors


def test_monitors(mode):
    """What a step reports is mirrored onto the run: all points, by patterns, under other names."""

    @component(
        monitor_metrics=["loss", ("val/*", "validation/*"), ("accuracy", "best")],
        monitor_artifacts=["report"],
        monitor_models=[("net", "model")],
    )
    def train():
        for number in (3.0, 2.0, 1.0):
            log_metric("loss", number)
        log_metric("val/f1", 0.5)
        log_metric("accuracy", 0.9)
        log_metric("hidden", 1)
        log_artifact("report", b"text")
        log_artifact("hidden", 2)
        log_model("net", {"w": 1})

    @pipeline
    def body():
        value(train())

    body()
    run = get_run()
    assert points(run) == [
        ("loss", 3.0, None, "train"),
        ("loss", 2.0, None, "train"),
        ("loss", 1.0, None, "train"),
        ("validation/f1", 0.5, None, "train"),
        ("best", 0.9, None, "train"),
    ]
    assert list(run.artifacts) == ["report"]
    assert run.artifacts["report"].source == "train"
    assert run.models["model"].load() == {"w": 1}
    assert len(points(run.steps["train"])) == 6


@pytest.mark.parametrize("bad", [3, [3], [("a",)], [("a", 2)], [""]])
def test_bad_monitors(bad):
    with pytest.raises(ConfigError, match="monitor_metrics"):
        component(monitor_metrics=bad)


def test_reports_of_a_cached_step(mode):
    """They are those of the step that made the value, mirrored ones too."""

    @component(cache=True, monitor_metrics=["*"])
    def train(x):
        log_metric("loss", x)
        log_artifact("a", x)
        return x

    @pipeline
    def body():
        return train(3)

    body(), body()
    run = get_run()
    assert run.steps["train"].state == "cached"
    assert points(run) == [("loss", 3, None, "train")]
    assert run.steps["train"].artifacts["a"].load() == 3
    assert run.id in [found.id for found in runs(metric__ge={"loss": 3})]


# -- finding runs


def test_finding_runs(mode):
    """By status, tags of runs and steps, parameters, and the last values of metrics."""

    @component(tags=["heavy"])
    def work(n):
        if n == 3:
            raise ValueError(n)
        current_run().log_metric("score", n / 10)

    @pipeline
    def body(n: int):
        log_param("half", n / 2)
        if n == 2:
            add_tags("two")
        value(work(n))

    made = []
    for n in (1, 2, 3):
        if n == 3:
            with pytest.raises(ValueError, match="3"):
                body(n)
        else:
            body(n)
        made.append(get_run().id)

    def found(**criteria):
        return [made.index(run.id) + 1 for run in runs(**criteria)]

    assert found() == [3, 2, 1]
    assert found(status="completed") == [2, 1]
    assert found(status="failed") == [3]
    assert found(status="completed", limit=1) == [2]
    assert found(tag="two") == [2]
    assert found(tag="heavy") == [3, 2, 1]
    assert found(tag=["heavy", "two"]) == [2]
    assert found(param={"n": 1}) == [1]
    assert found(param={"half": 1.0}) == [2]
    assert found(metric__gt={"score": 0.1}) == [2]
    assert found(metric__ge={"score": 0.1}) == [2, 1]
    assert found(metric__lt={"score": 0.2}, pipeline="body") == [1]
    assert found(metric={"score": 0.2}) == [2]
    assert found(metric__gt={"other": 0}) == []
    with pytest.raises(ConfigError, match="metric__gt"):
        runs(metrics__gt={"a": 1})
    with pytest.raises(ConfigError, match="a dict of numbers"):
        runs(metric__gt=3)


# -- resuming and keeping


@component
def kept():
    log_metric("kept", 1)
    current_run().log_metric("from kept", 1)
    return 1


@component
def mends(gate):
    if not os.path.exists(gate):
        raise ValueError("not yet")
    log_metric("mended", 2)


@pipeline
def to_resume(gate: str):
    log_metric("body", 1)
    value(kept())
    value(mends(gate))


def test_reports_of_a_resumed_run(mode, tmp_path):
    """Steps that are kept keep what they reported; the body's reports are its last execution's."""
    gate = tmp_path / "gate"
    with pytest.raises(ValueError, match="not yet"):
        to_resume(str(gate))
    gate.touch()
    run = get_run()
    run.resume().result(20)
    run = get_run(run.id)
    assert sorted(points(run)) == [("body", 1, None, None), ("from kept", 1, None, "kept")]
    assert points(run.steps["kept"]) == [("kept", 1, None, "kept")]
    assert points(run.steps["mends"]) == [("mended", 2, None, "mends")]
    assert [found.id for found in runs(metric={"from kept": 1})] == [run.id]


@component
def report(x):
    log_metric("a", x)
    return x


def test_replay_reports_nothing(mode):
    """A step is replayed with its reports dropped."""

    @pipeline
    def body():
        return report(3)

    body()
    assert get_run().steps["report"].replay(debugger=False) == 3
    assert len(points(get_run().steps["report"])) == 1


# -- the form of the files

EVENTS = st.builds(
    Event,
    st.sampled_from(["text", "param", METRIC]),
    st.integers(0, 1),
    st.text(max_size=20),
    st.floats(0, 2e9),
    st.none() | st.integers(),
    st.floats() | st.text() | st.dictionaries(st.text(), st.integers() | st.floats()),
)


@settings(max_examples=50, deadline=None)
@given(events=st.lists(EVENTS, max_size=8), torn=st.integers(0, 40))
def test_events_come_back(tmp_path_factory, events, torn):
    """Whatever is reported is read as it was; a torn end loses its own line alone."""
    path = str(tmp_path_factory.mktemp("events") / "e")
    lines = [encoded(event) for event in events]
    with open(path, "wb") as file:
        file.write(b"".join(lines)[: len(b"".join(lines)) - torn])
    whole = 0
    left = len(b"".join(lines)) - torn
    for line in lines:
        left -= len(line)
        whole += left >= 0
    assert repr(list(read(Part(path, 0, -1, 0)))) == repr(events[:whole])


def test_a_metric_line_is_an_event(tmp_path):
    """The quick way to write a point gives what the general one gives."""
    path = str(tmp_path / "e")
    line = f"{metric_head(0, 'a' + chr(34))}{1.5!r}, 7, {0.25!r}]\n".encode()
    assert line == encoded(Event(METRIC, 0, 'a"', 1.5, 7, 0.25))
    (tmp_path / "e").write_bytes(line)
    assert list(read(Part(path, 0, -1, 0))) == [Event(METRIC, 0, 'a"', 1.5, 7, 0.25)]


def test_callbacks_report_on_the_run(mode):
    """Whatever callbacks log is the run's, on_run_end's too, and runs are found by it."""

    @component(after_step=lambda step: log_metric("after", 1))
    def work():
        log_metric("own", 1)

    @pipeline(on_run_end=lambda run: log_metric("at the end", len(run.steps)))
    def body():
        value(work())

    body()
    run = get_run()
    assert [point[:2] for point in points(run)] == [("after", 1), ("at the end", 1)]
    assert [found.id for found in runs(metric={"at the end": 1})] == [run.id]


@pytest.mark.parametrize("name", ["t\udcff", "a\ud800b"])
def test_names_that_are_no_text_fail_nothing(mode, name):
    """A lone surrogate, as os.listdir gives it, is kept; no other run notices."""

    @component(monitor_metrics=["*"])
    def report():
        log_metric(name, 1)
        add_tags(name)
        log_param(name, name)
        current_run().log_param(name, name)

    @pipeline
    def body():
        add_tags(name)
        value(report())

    body()
    run = get_run()
    assert run.steps["report"].last_metrics == {name: 1}
    assert run.steps["report"].tags == [name]
    assert len(runs()) == 1


@in_workers
def test_a_dead_workers_batch_is_not_mixed(mode):
    """Points of steps that travelled in one message stay with their steps when the last one dies."""

    @component
    def work(n):
        log_metric("n", n)
        if n == 300:
            os._exit(3)

    @pipeline(workers=1)
    def body():
        made = [work(n) for n in range(301)]
        with pytest.raises(WorkerDied):
            value(made[-1])

    body()
    run = get_run()
    for number, step in enumerate(run.steps.values()):
        assert [found for _, found, _, _ in points(step)] == [number]


def test_a_thread_that_outlives_its_step(mode, tmp_path):
    """What it reports later is nobody's, and told to it."""
    said = tmp_path / "said"

    def late():
        wait_for(tmp_path / "gate")
        try:
            log_metric("late", 1)
        except RunNotFound as error:
            said.write_text(str(error))

    @component
    def first():
        threading.Thread(target=late, daemon=True).start()
        log_metric("first", 1)

    @component
    def second():
        (tmp_path / "gate").touch()
        wait_for(said)
        log_metric("second", 2)

    @component
    def third():
        pass

    @pipeline(workers=1)
    def body():
        value(first())
        value(second())
        value(third())

    body()
    run = get_run()
    assert [points(step) for step in run.steps.values()] == [
        [("first", 1, None, "first")], [("second", 2, None, "second")], [],
    ]  # fmt: skip
    assert "whose step has ended" in said.read_text()


def test_progress_begins_anew(mode):
    """The second step tells the same share as the first, after a metric."""

    @component
    def work():
        log_metric("a", 1)
        set_progress(0.5)
        raise ValueError("stop")

    @pipeline(workers=1)
    def body():
        for _ in range(2):
            with pytest.raises(ValueError, match="stop"):
                value(work())

    body()
    assert [step.progress for step in get_run().steps.values()] == [0.5, 0.5]


def test_runs_are_found_by_what_is_read(mode):
    """The last point by its time counts, whoever recorded it first."""

    @component(monitor_metrics=["loss"])
    def work():
        log_metric("loss", 2)

    @pipeline
    def body():
        log_metric("loss", 1)
        value(work())

    body()
    run = get_run()
    assert run.last_metrics == {"loss": 2}
    assert [found.id for found in runs(metric={"loss": 2})] == [run.id]
    assert runs(metric={"loss": 1}) == []


def test_reports_of_a_cached_step_outlive_their_origin(mode):
    """They are the cached step's own, when the run that made its value is removed, too."""
    from pipedeco.housekeeping import check, remove

    @component(cache=True)
    def train(x):
        log_metric("loss", x)
        log_artifact("a", x)
        return x

    @pipeline
    def body():
        return train(4)

    body(), body(), body()
    third, second, first = runs()
    remove([first]), remove([second])
    assert points(third.steps["train"]) == [("loss", 4, None, "train")]
    assert third.steps["train"].artifacts["a"].load() == 4
    assert check() == []


def test_an_empty_path_is_not_the_working_directory(mode):
    """An empty text is no path."""

    @component
    def keep():
        with pytest.raises(ReportError, match="there is no file"):
            log_artifact("note", "")

    @pipeline
    def body():
        value(keep())

    body()


def test_results_of_steps_are_logged_as_their_values(mode):
    """In a body a result may stand wherever its value may."""

    @component
    def number():
        return 0.5

    @component
    def settings():
        return {"a": 1}

    @pipeline
    def body():
        result = number()
        log_metric("metric", result)
        log_metrics({"one": result})
        log_param("param", result)
        log_artifact("artifact", settings())
        log_artifact("many", [result, result])
        log_model("model", settings())
        log_table("table", [settings()])

    body()
    run = get_run()
    assert run.last_metrics == {"metric": 0.5, "one": 0.5}
    assert run.params == {"param": 0.5}
    assert run.artifacts["artifact"].load() == {"a": 1}
    assert run.artifacts["many"].load() == [0.5, 0.5]
    assert run.models["model"].load() == {"a": 1}
    assert run.tables["table"].rows == [[1]]


def test_several_monitors_of_one_metric(mode):
    """Each that fits applies; `{step}` is the step's name."""

    @component(monitor_metrics=["loss", ("loss", "{step}/loss"), ("*/*", "m-*-*")])
    def work():
        log_metric("loss", 1)
        log_metric("x*y/z", 2)

    @pipeline
    def body():
        value(work())
        value(work())

    body()
    assert get_run().last_metrics == {
        "loss": 1, "work/loss": 1, "m-x*y-z": 2, "work-2/loss": 1,
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"more `\*`"):
        component(monitor_metrics=[("a", "b*")])

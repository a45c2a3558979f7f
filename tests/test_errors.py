"""Each error says what happened, to which step of which run, and what to do next."""

import concurrent.futures
import contextlib
import os
import pickle
import re
import signal
import sqlite3
import sys
import threading
from pathlib import Path

import pytest

import pipedeco
from pipedeco import (
    BlobCorrupt,
    ConfigError,
    GraphError,
    NotPicklable,
    PipedecoError,
    RunCancelled,
    RunFailed,
    RunNotFound,
    StepCancelled,
    StepFailed,
    StepSkipped,
    StepTimeout,
    StoreError,
    WorkerDied,
    component,
    errors,
    get_run,
    pipeline,
    runs,
    value,
)

NAMES = re.findall(r"[├└]── (\w+)", errors.__doc__)


@component
def double(x):
    return 2 * x


@component
def boom(text="boom"):
    raise ValueError(text)


@component
def leave(code):
    sys.exit(code)


@component
def die(number):
    os.kill(os.getpid(), number)


@component
def vanish(code):
    os._exit(code)


@component(timeout=0.2)
def sleep():
    signal.pause()


@component
def listed():
    return [1]


class Holder:
    def __init__(self, held):
        self.held = held


@component
def open_database():
    holder = Holder(Holder(sqlite3.connect(":memory:")))
    holder.held.name = "db"
    return holder


@component
def give(x):
    return x


@pytest.fixture(autouse=True, scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPEDECO_STORE", str(folder))
        yield folder


def play(body, mode="local", **options):
    """Run a body under the name `body` and return its handle, ended."""

    def plain():
        return body()

    run = pipeline(plain).with_options(name="body", mode=mode, workers=2, **options).start()
    run.wait(30)
    return run


def told(error):
    """All that a person is shown of an exception: its message and its notes."""
    return "\n".join([str(error), *getattr(error, "__notes__", ())])


def error_of(run, kind):
    with pytest.raises(kind) as caught:
        run.result()
    assert type(caught.value) is kind
    return caught.value


def read_error_of(body, kind):
    """The exception that reading `body()` raises in a run, and that run's handle."""
    found = []

    def reading():
        with pytest.raises(kind) as caught:
            value(body())
        found.append(caught.value)

    run = play(reading)
    run.result()
    assert type(found[0]) is kind
    return found[0], run


# -- the tree ------------------------------------------------------------------------------


def test_the_tree_is_the_one_in_the_docstring():
    """Classes and bases stand in errors.py as its docstring draws them."""
    parents = [PipedecoError]
    drawn = {"PipedecoError": "Exception"}
    for line in errors.__doc__.splitlines():
        match = re.match(r"    ([│ ]*)[├└]── (\w+)", line)
        if match:
            depth = len(match[1]) // 4 + 1
            del parents[depth:]
            drawn[match[2]] = parents[-1].__name__
            parents.append(getattr(errors, match[2]))
    defined = {
        name: kind.__bases__[0].__name__
        for name in dir(pipedeco)
        if isinstance(kind := getattr(pipedeco, name), type) and issubclass(kind, BaseException)
    }
    assert drawn == defined


def test_the_tree_has_every_error_of_the_design():
    """The errors that DESIGN section 11 lists, ReportError and EnvironmentFailed, exist and are public."""
    listed = (
        "RunFailed StepFailed StepTimeout WorkerDied NotPicklable StepSkipped StepCancelled "
        "RunCancelled RunBusy RunNotFound StoreError BlobCorrupt EngineLost ConfigError GraphError "
        "ReportError EnvironmentFailed"
    )
    assert set(listed.split()) == set(NAMES)
    assert set(NAMES) < set(pipedeco.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_errors_survive_pickling(name):
    """Type, message, facts and notes arrive whole in another process."""
    kind = getattr(errors, name)
    error = kind("what happened; what to do", run="abc", step="fit-2")
    error.add_note("a note")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert (str(back), back.run, back.step) == (str(error), "abc", "fit-2")
    assert back.__notes__ == ["a note"]


@pytest.mark.parametrize("name", NAMES)
def test_errors_are_documented(name):
    """Every class says in one sentence when it is raised."""
    assert getattr(errors, name).__doc__.strip()


def test_a_cancelled_step_is_cancelled_for_concurrent_futures():
    """Handlers written for futures catch StepCancelled, wherever it is imported from."""
    assert issubclass(StepCancelled, concurrent.futures.CancelledError)
    assert StepCancelled is errors.StepCancelled is pipedeco.StepCancelled


# -- runs ----------------------------------------------------------------------------------


def test_run_failed():
    """It names run, pipeline, step and cause, how many failed, and how to see the run."""

    def body():
        boom("first line\nsecond line")
        boom()

    run = play(body)
    error = error_of(run, RunFailed)
    assert str(error) == (
        f"run {run.id} of body failed: step boom raised ValueError: first line "
        f"(and 1 more: boom-2); see it with: pipedeco show {run.id}"
    )
    assert (error.run, error.step) == (run.id, "boom")
    assert repr(error.__cause__) == "ValueError('first line\\nsecond line')"


def test_run_cancelled(tmp_path):
    """It names run and pipeline, who cancelled, and how to see the run."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    @component
    def wait_for_ever(path):
        Path(path).open("wb").close()
        signal.pause()

    run = pipeline(lambda: value(wait_for_ever(str(fifo)))).with_options(name="body", mode="local")
    run = run.start()
    fifo.open("rb").close()
    run.cancel()
    error = error_of(run, RunCancelled)
    assert str(error).startswith(f"run {run.id} of body was cancelled: it was cancelled")
    assert f"pipedeco show {run.id}" in str(error)
    assert error.run == run.id


def test_run_not_found(store):
    """It repeats the name, says where it looked, and how to list the runs."""
    play(lambda: None, mode="debug")
    with pytest.raises(RunNotFound) as caught:
        get_run("no-such-run")
    assert str(caught.value) == (
        f"there is no run 'no-such-run' in {store}; list the runs with: pipedeco runs"
    )


def test_run_found_twice():
    """A prefix of several runs asks for more of the id."""
    for _ in range(17):  # ids begin with one of sixteen digits
        play(lambda: None, mode="debug")
    found = [run.id[0] for run in runs()]
    twice = next(first for first in found if found.count(first) > 1)
    with pytest.raises(RunNotFound, match=f"more than one run begins with '{twice}'; type more"):
        get_run(twice)


# -- steps ---------------------------------------------------------------------------------


def test_the_note_on_a_steps_own_exception():
    """The original exception has a note: step, attempt, worker, run, line, and what to do."""
    error, run = read_error_of(boom, ValueError)
    note = "\n".join(error.__notes__)
    assert str(error) == "boom"
    assert re.search(rf"in step boom, attempt 1 on worker \w+, of run {run.id} \(body\)", note)
    assert f"called at {__file__}:" in note
    assert f"see it with: pipedeco show {run.id}" in note
    assert f"step through it with: pipedeco debug {run.id} boom" in note


@pytest.mark.parametrize("mode", ["debug", "local"])
def test_step_failed(mode):
    """SystemExit of a step arrives as StepFailed: step, run, type, text and traceback."""
    found = []

    def body():
        with pytest.raises(StepFailed) as caught:
            leave("bye").result()
        found.append(caught.value)

    run = play(body, mode)
    run.result()
    (error,) = found
    assert type(error) is StepFailed
    assert str(error).startswith(f"step leave of run {run.id} raised SystemExit: bye")
    assert (error.run, error.step, error.type) == (run.id, "leave", "SystemExit")
    assert "sys.exit(code)" in error.traceback
    assert f"pipedeco show {run.id}" in told(error)


def test_worker_died_of_a_signal():
    """It names step, run and signal, and what the memory's peak was."""
    error, run = read_error_of(lambda: die(int(signal.SIGKILL)), WorkerDied)
    assert (error.signal, error.exitcode) == ("SIGKILL", None)
    assert error.peak_memory > 2**20
    assert (error.run, error.step) == (run.id, "die")
    assert "killed by SIGKILL, peak memory" in str(error)
    assert "when memory runs out" in str(error)
    assert f"step die, attempt 1 on worker {run.steps['die'].worker}, of run {run.id}" in told(
        error
    )


def test_worker_died_of_an_exit():
    """os._exit is a death too, with its exit status."""
    error, run = read_error_of(lambda: vanish(3), WorkerDied)
    assert (error.signal, error.exitcode) == (None, 3)
    assert "exit status 3" in str(error)
    assert f"in step vanish, attempt 1 on worker {run.steps['vanish'].worker}" in told(error)


def test_step_timeout():
    """It names the step, the run and the time that was over."""
    error, run = read_error_of(sleep, StepTimeout)
    assert error.timeout == 0.2
    assert (error.run, error.step) == (run.id, "sleep")
    assert "it ran longer than its timeout of 0.2 s and was killed" in str(error)
    assert f"of run {run.id}" in told(error)


def test_not_picklable_result():
    """It names the step, the path to the culprit, its type, and the cure."""
    error, run = read_error_of(open_database, NotPicklable)
    assert "result.held.held is a sqlite3.Connection" in str(error)
    assert "make it in the step that needs it" in str(error)
    assert (error.run, error.step) == (run.id, "open_database")
    assert "in step open_database" in told(error)


def test_not_picklable_argument():
    """The call itself raises, and names the component and the argument."""

    def body():
        with contextlib.closing(sqlite3.connect(":memory:")) as connection:
            give({"database": [connection]})

    error = error_of(play(body), NotPicklable)
    assert "give" in str(error)
    assert "x['database'][0] is a sqlite3.Connection" in str(error)
    assert "make it inside the step" in str(error)
    assert error.step == "give"


def test_step_skipped():
    """The record of a skipped step names the step that failed."""

    def body():
        double(boom())

    run = play(body)
    with pytest.raises(StepSkipped) as caught:
        run.steps["double"].result()
    assert str(caught.value) == (
        f"step double of run {run.id} is skipped: step boom, which it needs, failed"
    )


def test_step_cancelled(tmp_path):
    """It names step and run, and says why."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    found = []

    @component
    def held(path):
        return Path(path).read_text()

    def body():
        waiting = double(held(str(fifo)))
        waiting.cancel()
        with pytest.raises(StepCancelled) as caught:
            waiting.result()
        found.append(caught.value)
        fifo.write_text("x")

    run = play(body)
    run.result()
    assert str(found[0]) == (
        f"step double of run {run.id} was cancelled: it was cancelled before it began"
    )
    assert (found[0].run, found[0].step) == (run.id, "double")


def test_a_cancelled_step_is_cancelled_in_the_records(tmp_path):
    """Reading the record of a cancelled step raises StepCancelled, as the future did."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    @component
    def held(path):
        return Path(path).read_text()

    def body():
        double(held(str(fifo))).cancel()
        fifo.write_text("x")

    run = play(body)
    run.result()
    with pytest.raises(StepCancelled, match=f"step double of run {run.id} is cancelled"):
        run.steps["double"].result()


# -- the store -----------------------------------------------------------------------------


def test_store_error_of_a_folder_that_cannot_be(tmp_path):
    """It names the store and the variable that moves it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError) as caught:
        pipeline(lambda: None).with_options(mode="debug", store=tmp_path / "file" / "store")()
    assert f"the store {tmp_path}/file/store cannot be made: Not a directory" in str(caught.value)
    assert "set PIPEDECO_STORE to a folder that you may write" in str(caught.value)


def test_run_not_found_where_there_is_no_store(tmp_path):
    """Reading where nothing ever ran says so."""
    with pytest.raises(RunNotFound, match=f"nothing was recorded in {tmp_path} yet"):
        get_run(store=str(tmp_path))


def test_store_error_of_a_value_that_was_not_recorded():
    """What could not be pickled in debug mode is missing in the records, and they say so."""
    with pytest.warns(UserWarning, match="sqlite3.Connection"):
        run = play(open_database, mode="debug")
    with pytest.raises(
        StoreError, match=f"step open_database of run {run.id} could not be recorded"
    ):
        run.steps["open_database"].result()


def test_blob_corrupt(store):
    """A recorded value whose file is gone names the step, the file and the cure."""
    run = play(lambda: len(give(bytes(100_000))), mode="debug")
    for blob in (store / "blobs").glob("*/*"):
        blob.unlink()
    with pytest.raises(BlobCorrupt) as caught:
        run.steps["give"].result()
    assert "the file is missing" in str(caught.value)
    assert "run the step again" in str(caught.value)
    assert f"step give of run {run.id}" in str(caught.value)


# -- what a user wrote ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: component(retries=-1), "retries is a whole number of 0 or more, not -1"),
        (lambda: component(retry=1), "there is no option 'retry'"),
        (lambda: pipeline(mode="fast"), "mode is one of debug, local.*, not 'fast'"),
        (lambda: pipeline(lambda: 0).with_options(worker=1), "there is no option 'worker'"),
        (lambda: pipedeco.configure(folder="x"), "there is no setting 'folder'"),
        (lambda: component(3), "only a function can be decorated, not 3"),
        (lambda: component(double), "<component double> is decorated already"),
    ],
)
def test_config_error(wrong, sentence):
    """It names the option, what it may be, and what it was."""
    with pytest.raises(ConfigError, match=sentence):
        wrong()


def test_config_error_of_an_async_pipeline():
    """An async pipeline is refused with the cure."""

    async def body():
        pass

    with pytest.raises(ConfigError, match=r"pipeline body is async; make it a plain function"):
        pipeline(body)


@pytest.mark.parametrize("mode", ["debug", "local"])
def test_graph_error_of_a_thread(mode):
    """A component called in a thread of the body's making names the cure."""

    def body():
        found = []

        def call():
            try:
                found.append(repr(double(1)))
            except GraphError as error:
                found.append(str(error))

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        return found

    (message,) = play(body, mode).result()
    assert message.startswith("double is called in a thread that the pipeline's body started")
    assert "contextvars.copy_context().run" in message


def test_graph_error_of_a_value_changed_in_place():
    """A value that was read, changed and passed on names its step and the cure."""

    def body():
        result = listed()
        result.append(2)
        double(result)

    error = error_of(play(body), GraphError)
    assert "the value of step listed was changed by the body" in str(error)
    assert "pipedeco.value(...)" in str(error)


def test_graph_error_of_depends_on():
    """depends_on takes results and nothing else."""
    error = error_of(play(lambda: double.with_options(depends_on=[3])(1)), GraphError)
    assert str(error) == "depends_on takes results of steps, not 3"


def test_graph_error_of_a_start_inside_a_run():
    """start(...) in a body names the call that is meant."""
    child = pipeline(lambda: 1).with_options(name="child")
    error = error_of(play(child.start), GraphError)
    assert str(error) == "child.start(...) is called inside a run; call child(...)"


def test_graph_error_of_a_trace_that_reads():
    """A trace performs nothing, so a body that reads is told which step it read."""

    def body():
        return double(1) + 1

    with pytest.raises(GraphError, match="reads the result of step double; a trace performs no"):
        pipeline(body).trace()


def test_graph_error_of_a_submit_outside():
    """submit(...) is for bodies."""
    with pytest.raises(GraphError, match=r"double.submit\(...\) is for the body of a pipeline"):
        double.submit(1)


def test_type_error_of_a_change_in_place():
    """Changing a result itself names the step and the cure."""

    def body():
        listed()[0] = 2

    error = error_of(play(body), TypeError)
    assert "the result of step listed cannot be changed in place" in str(error)
    assert "pipedeco.value(...)" in str(error)

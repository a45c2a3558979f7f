"""Values whose classes end the process as they are loaded: an error that names them, everywhere."""

import asyncio
import subprocess
import sys

import pytest

from pipedeco import StepFailed, StoreError, component, get_run, pipeline, value

in_workers = pytest.mark.parametrize("mode", ["local", "remote"], indirect=True)


class Leaving:
    """Raises as it is loaded."""

    def __init__(self, raised):
        self.raised = raised

    def __reduce__(self):
        return _leave, (self.raised,)


def _leave(raised):
    raise raised


EXITS = [SystemExit("bye"), GeneratorExit(), asyncio.CancelledError()]


@component(cache=True)
def make(raised, size=0):
    return Leaving(raised), "x" * size


@component
def take(one):
    return 1


@component
def around(wrapped):
    return 2


@pytest.mark.parametrize("raised", EXITS, ids=lambda raised: type(raised).__name__)
@pytest.mark.parametrize("size", [0, 100_000])
@in_workers
def test_a_read_of_the_body(mode, raised, size):
    """The step and the value are named, and the body can go on."""

    @pipeline
    def body():
        try:
            value(make(raised, size))
        except StepFailed as error:
            return str(error)

    text = body()
    assert text.startswith("step make of run")
    assert "its value cannot be loaded" in text
    assert f"loading it raised {type(raised).__name__}" in text


@in_workers
def test_an_input(mode):
    """The step that is given the value fails, and says whose it is."""

    @pipeline
    def body():
        try:
            value(take(make(SystemExit("bye"))))
        except StepFailed as error:
            return str(error)

    text = body()
    assert "step take of run" in text
    assert "the value of step make, cannot be loaded: loading it raised SystemExit: bye" in text


@in_workers
def test_an_argument(mode):
    @pipeline
    def body():
        try:
            value(around([Leaving(SystemExit(3))]))
        except StepFailed as error:
            return str(error)

    assert "step around" in body()
    assert "its arguments cannot be loaded: loading it raised SystemExit: 3" in body()


def test_records(mode):
    """Who reads a record gets an error, too."""

    @pipeline
    def body():
        make(SystemExit("bye"))

    body()
    with pytest.raises(StoreError, match=r"step make of run .* loading it raised SystemExit: bye"):
        get_run().steps["make"].result()
    body()  # a hit, which needs no value
    assert get_run().steps["make"].state == "cached"


@pipeline
def returned():
    return make(SystemExit("bye"))


@in_workers
def test_what_a_pipeline_returns(mode):
    with pytest.raises(StepFailed, match=r"step make .* loading it raised SystemExit"):
        returned()


@pipeline
def child():
    return make(SystemExit("bye"))


@in_workers
def test_a_child_pipeline(mode):
    body = pipeline(lambda: take(child()))
    with pytest.raises(StepFailed, match="loading it raised SystemExit"):
        body()


@pytest.mark.parametrize("mode", ["debug"], indirect=True)
def test_a_hit_in_debug_mode(mode):
    """The value is loaded there for the first time."""
    pipeline(lambda: [make(SystemExit("bye")), None][1])()
    with pytest.raises(StepFailed, match=r"step make .* loading it raised SystemExit"):
        pipeline(lambda: value(make(SystemExit("bye"))))()


@pytest.mark.parametrize("mode", ["local"], indirect=True)
def test_the_command_line(mode, tmp_path):
    """Commands that look at the run end as they do otherwise."""

    @pipeline(name="kept")
    def body(n):
        make(SystemExit("bye"), n)

    body(0)
    body(1)
    for words in (["show", "kept#1"], ["diff", "kept#1", "kept#2"], ["why", "kept#2"]):
        done = subprocess.run(
            [sys.executable, "-m", "pipedeco", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode in (0, 1), done.stderr
        assert done.stdout
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("mode", ["debug", "local"], indirect=True)
def test_an_interrupt(mode):
    """KeyboardInterrupt is a person's Ctrl-C, whoever raises it."""
    pipeline(lambda: [make(KeyboardInterrupt()), None][1])()
    with pytest.raises(KeyboardInterrupt):
        pipeline(lambda: value(make(KeyboardInterrupt())))()
    assert get_run().status == "cancelled"


@component
def fail(raised):
    raise ValueError("no", Leaving(raised))


@pytest.mark.parametrize("raised", EXITS, ids=lambda raised: type(raised).__name__)
def test_an_exception_that_holds_one(mode, raised):
    """It arrives as what it is, without the worker's or the program's end."""

    @pipeline
    def body():
        value(fail(raised))

    with pytest.raises(ValueError, match="no"):
        body()

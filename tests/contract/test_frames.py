"""Tracebacks have the user's lines alone, in the body and outside, and all of ours where we are wrong."""

import traceback
from pathlib import Path

import pytest

import pipedeco
from pipedeco import RunFailed, component, get_run, pipeline, value

HERE = str(Path(pipedeco.__file__).parent)


@component
def divide(x, *_):
    return 1 / x


@component
def give(x):
    return x


@pipeline
def reads():
    return value(divide(0))


class Methods:
    @pipeline
    def reads(self):
        return divide(0) + 1


def names_of(error):
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def ours_in(error):
    """The frames of pipedeco in the tracebacks of an error and of what caused it."""
    found = []
    while error is not None:
        frames = traceback.extract_tb(error.__traceback__)
        found += [frame.name for frame in frames if frame.filename.startswith(HERE)]
        error = error.__cause__ or error.__context__
    return found


@pytest.mark.parametrize(
    "call",
    [
        reads,
        Methods().reads,
        reads.with_options(tags=["t"]),
        lambda: reads("too many"),
        lambda: reads.start().result(20),
        lambda: divide(0),
        pipeline(lambda: give(1) + "x"),
        pipeline(lambda: give({})["no"]),
        pipeline(lambda: divide(1, 2, 3) and give()),
    ],
)
def test_outside(mode, call):
    """What leaves a call has no frame of ours, not even that of the call."""
    with pytest.raises((ZeroDivisionError, TypeError, KeyError)) as caught:
        call()
    assert ours_in(caught.value) == []


def test_the_lines_of_the_user(mode):
    """The caller's line, the body's, the step's."""
    with pytest.raises(ZeroDivisionError) as caught:
        reads()
    assert names_of(caught.value)[1:] == ["reads", "divide"]


def test_a_run_that_failed(mode):
    """RunFailed and its cause have none, either; nor has what is read from the record."""

    @pipeline
    def careless():
        divide(0)
        return 1

    with pytest.raises((RunFailed, ZeroDivisionError)) as caught:
        careless()
    assert ours_in(caught.value) == []
    with pytest.raises(ZeroDivisionError) as caught:
        get_run().steps["divide"].result()
    assert ours_in(caught.value) == []


READS = {
    "result": lambda r: r.result(),
    "value": value,
    "in a list": lambda r: value([r]),
    "add": lambda r: r + 1,
    "reflected": lambda r: 1 + r,
    "neg": lambda r: -r,
    "bool": bool,
    "str": str,
    "format": "{}".format,
    "iter": list,
    "contains": lambda r: 1 in r,
    "attribute": lambda r: r.real,
    "compare": lambda r: r < 1,
}


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
def test_in_the_body(mode, read):
    """What the body catches where it reads a value has none, however it reads."""
    found = []

    @pipeline
    def body():
        try:
            read(divide(0))
        except ZeroDivisionError as error:
            found.append(error)

    body()
    assert ours_in(found[0]) == []
    assert names_of(found[0])[-1] == "divide"


def test_a_mistake_of_ours(mode, monkeypatch):
    """An error that is raised by a mistake of pipedeco has its frames: they tell of it."""

    code = compile("def broken(*_): return {}['mistake']", f"{HERE}/execution.py", "exec")
    made = {}
    exec(code, made)
    monkeypatch.setattr("pipedeco.tracing.Trace._called", made["broken"])

    @pipeline
    def body():
        return value(give(1))

    with pytest.raises(KeyError, match="mistake") as caught:
        body()
    assert names_of(caught.value)[-1] == "broken"

"""Operations on results, seen by the warnings and errors that they give."""

import os
import traceback
import warnings

import numpy as np
import pandas as pd
import pytest

from pipedeco import component, pipeline


@component
def zeros():
    return np.zeros(2)


@component
def column():
    return pd.Series([1.0, 0.0])


@component
def zero():
    return 0.0


def warned(body):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        body()
    return [(warning.filename, warning.lineno) for warning in told]


def lines(function, *numbers):
    first = function.__code__.co_firstlineno
    return [(__file__, first + number) for number in numbers]


def test_each_line_warns_once_at_its_place(mode):
    @pipeline
    def body():
        a, b = zeros(), zeros()
        x = a / 0.0
        y = 1.0 / b
        for _ in range(2):
            y = a / b
        z = np.ones(2) / zero()
        return x, y, z

    assert warned(body) == lines(body.fn, 3, 4, 6, 7)


def test_warnings_are_those_of_the_module_of_the_body(mode):
    """A filter by module finds them."""

    @pipeline
    def body():
        return zeros() / 0.0

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module=__name__)
        body()


@pytest.mark.parametrize("operate", [lambda a, b: a + b, lambda a, b: b - a], ids=["+", "r-"])
def test_an_error_of_an_operation_has_the_frames_of_the_program(mode, operate):
    @pipeline
    def body():
        return operate(zeros(), np.zeros(3))

    with pytest.raises(ValueError, match="broadcast") as caught:
        body()
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-2:] == ["body", "<lambda>"]
    assert names.count("<lambda>") == 1


@pytest.mark.parametrize(
    "operate",
    [
        *(lambda r: r + None, lambda r: "" - r, lambda r: r < "", lambda r: pow(r, "")),
        *(lambda r: list(reversed(r)), lambda r: 3 in r, os.fspath, bytes, len),
    ],
)
def test_an_error_that_python_itself_raises_has_no_frames_of_pipedeco(mode, operate):
    """Such an error has no frame below the operation, which is performed in a module of ours."""

    @pipeline
    def body():
        return operate(zero())

    with pytest.raises(TypeError) as caught:
        body()
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert {frame.filename for frame in frames} == {__file__}


class Deprecated:
    """Tells who uses its property."""

    @property
    def size(self):
        warnings.warn("use length", FutureWarning, stacklevel=2)
        return 3

    @property
    def broken(self):
        return {}["k"]


@component
def deprecated():
    return Deprecated()


def test_a_property_that_warns_names_the_line_that_reads_it(mode):
    @pipeline
    def body():
        one = deprecated()
        a = one.size
        return a + one.size

    assert warned(body) == lines(body.fn, 3, 4)


def test_a_property_that_fails_has_no_frames_of_ours(mode):
    @pipeline
    def body():
        return deprecated().broken

    with pytest.raises(KeyError) as caught:
        body()
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[1:] == ["body", "broken"]

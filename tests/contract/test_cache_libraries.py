"""The cache and what popular libraries make: found again in every mode, and never stale."""

import os
import threading
import warnings
from pathlib import Path
from random import shuffle

import dask.base
import numpy as np
import pandas as pd
import pydantic
import pytest
import rich.console
import sympy
import xarray
from loguru import logger
from numpy.random import randn
from omegaconf import OmegaConf
from sklearn.feature_extraction.text import CountVectorizer

from pipedeco import component, get_run, pipeline

console = rich.console.Console(width=80)
flag = threading.Event()  # a global that nobody can compare


class Model(pydantic.BaseModel):
    a: int = 1

    @pydantic.field_validator("a")
    @classmethod
    def positive(cls, value):
        return abs(value)


class Later(dask.base.DaskMethodsMixin):
    """As dask.delayed(Path.read_text)(path)."""

    def __init__(self, path):
        self.path = path

    def read(self):
        return self.path.read_text()


VALUES = {
    "a frequency": lambda: pd.Series([1.0, 2.0], pd.date_range("2020", periods=2, freq="D")),
    "pandas.NA": lambda: [pd.NA, pd.Period("2020", "M"), pd.offsets.BusinessDay(2)],
    "a generator": lambda: np.random.default_rng(3),
    "a state": lambda: np.random.RandomState(3),
    "a model": lambda: Model(a=2),
    "an expression": lambda: sympy.symbols("x") ** 2,
    "a configuration": lambda: OmegaConf.create({"a": 1, "b": "${a}"}),
    "a dataset": lambda: xarray.Dataset({"a": ("x", [1, 2])}),
    "words": lambda: CountVectorizer().fit(["a bb ccc"]),
}


def note(log):
    with open(log, "a") as file:
        file.write("x")


def count(log):
    return len(Path(log).read_text()) if os.path.exists(log) else 0


@component(cache=True)
def look(log, item):
    note(log)
    return type(item).__name__


@component
def make(name):
    return VALUES[name]()


@component(cache=True)
def drawn(log):
    note(log)
    items = [1, 2, 3]
    shuffle(items)
    return len(items) + len(randn(2))


@component(cache=True)
def told(log):
    note(log)
    logger.debug("told")
    console.print("told")
    return 1


@component(cache=True)
def opened(log):
    note(log)
    return flag.is_set()


@pytest.fixture
def log(tmp_path):
    return str(tmp_path / "log")


@pytest.mark.parametrize("name", VALUES)
def test_values(mode, log, name):
    """As an argument, and as the value of another step."""

    @pipeline
    def body():
        return [look(log, VALUES[name]()), look(log, make(name))]

    first = body()
    done = count(log)
    assert done >= 1
    assert body() == first
    assert count(log) == done
    assert [step.state for step in get_run().steps.values()] == ["cached", "completed", "cached"]


@pytest.mark.parametrize("step", [drawn, told])
def test_globals(mode, log, step):
    """Methods of hidden generators, loggers and consoles."""

    @pipeline
    def body():
        return step(log)

    assert body() == body()
    assert count(log) == 1


def test_a_global_that_nobody_can_compare(mode, log):
    """The run says which it is, and what to do."""

    @pipeline
    def body():
        return opened(log)

    for n in (1, 2):
        with pytest.warns(UserWarning, match=r"opened is cached, but .*test_cache_libraries\.flag"):
            assert body() is False
        assert count(log) == n


def test_a_handle_of_data_elsewhere(mode, log, tmp_path):
    """What is read in a step is what is there then."""
    path = tmp_path / "numbers"

    @component(cache=True)
    def total(log, text):
        note(log)
        return text.read()

    @pipeline
    def body():
        return total(log, Later(path))

    for text in ("1", "2"):
        path.write_text(text)
        with pytest.warns(UserWarning, match="total is cached, but .* compute it before$"):
            assert body() == text
    assert count(log) == 2


@component(cache=True)
def flagged(x):
    return flag.is_set(), x


@component
def same(x):
    return x


def test_a_warning_made_an_error_leaves_no_step_behind(mode):
    """The call that raised it is none; the run completes with the others."""

    @pipeline
    def body():
        with pytest.raises(UserWarning, match="flagged is cached, but"):
            call(1)
        return same(2)

    def call(x):
        return flagged(x)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert body() == 2
    run = get_run("latest")
    assert run.status == "completed"
    assert [step.name for step in run.steps.values()] == ["same"]

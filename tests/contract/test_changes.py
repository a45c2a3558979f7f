"""What debug mode says of arguments that a step changes in place: what the other modes would lose."""

import collections
import io
import random
from pathlib import Path
from types import SimpleNamespace

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from sklearn.linear_model import LinearRegression

from pipedeco import GraphError, component, pipeline

only_debug = pytest.mark.parametrize("mode", ["debug"], indirect=True)
CHANGED = "step act changed its argument in place"
FEATURES, TARGET = np.array([[1.0], [2.0], [3.0]]), np.array([1.0, 2.0, 3.0])


class Cart:
    """Remembers its total when it is asked for it."""

    def __init__(self):
        self.items = [1, 2]
        self._total = None
        self._last = None

    @property
    def total(self):
        if self._total is None:
            self._total = sum(self.items)
        return self._total

    @property
    def most(self):
        if not hasattr(self, "_most"):
            self._most = max(self.items)
        return self._most

    def touch(self, item):
        self._last = item


def drawing():
    figure = Figure()
    axes = figure.subplots()
    axes.plot([1, 2, 3], [3, 4, 5], label="line")
    axes.legend()
    return figure


def saved():
    figure = drawing()
    save(figure)
    return figure


def save(figure):
    figure.savefig(io.BytesIO(), bbox_inches="tight", dpi=40)


def fit(model):
    return model.fit(FEATURES, TARGET)


def look_at(graph):
    list(graph.nodes), list(graph.edges), graph.degree[1], graph.adj
    return nx.shortest_path(graph, 0, 3), nx.pagerank(graph)


READ = {
    "a graph": (lambda: nx.path_graph(4), look_at),
    "a drawing that is saved": (drawing, save),
    "axes that are asked": (lambda: drawing().axes[0], lambda a: (a.get_xticks(), a.get_ylim())),
    "a property that remembers": (Cart, lambda cart: cart.total + cart.most),
    "a frame": (
        lambda: pd.DataFrame({"x": [1, 2], "day": pd.to_datetime(["2024", "2025"])}),
        lambda frame: (frame[frame.x > 1], frame.groupby("x").count(), frame.columns.get_loc("x")),
    ),
    "groups": (lambda: pd.DataFrame({"x": [1, 1], "y": [1, 2]}).groupby("x"), lambda g: g.sum()),
    "a window": (lambda: pd.Series([1.0, 2.0]).rolling(2), lambda window: window.mean()),
    "an array of axes": (lambda: Figure().subplots(2), lambda axes: axes[0].get_xticks()),
    "a fitted model": (lambda: fit(LinearRegression()), lambda m: m.predict(FEATURES).sum()),
    "a model that is fitted and returned": (LinearRegression, fit),
    "one that is returned among others": (LinearRegression, lambda m: {"m": fit(m), "n": 1}),
    "a list that is returned": (lambda: [1], lambda items: items.append(2) or items),
    "an exception": (lambda: ValueError("x"), str),
    "a path": (lambda: Path("a"), lambda path: (path.parts, hash(path), str(path))),
}

CHANGE = {
    "a list": (lambda: [1], lambda x: x.append(2)),
    "a dict": (lambda: {"a": {"b": [1]}}, lambda x: x["a"]["b"].append(2)),
    "a set": (lambda: {1}, lambda x: x.add(2)),
    "a deque": (lambda: collections.deque([1]), lambda x: x.append(2)),
    "a bytearray": (lambda: bytearray(b"a"), lambda x: x.extend(b"b")),
    "an array": (lambda: np.zeros(2), lambda x: x.__setitem__(0, 1)),
    "a column": (lambda: pd.DataFrame({"x": [1]}), lambda x: x.__setitem__("y", 2)),
    "a cell": (lambda: pd.DataFrame({"x": [1]}), lambda x: x.loc.__setitem__((0, "x"), 5)),
    "a column of a long frame": (
        lambda: pd.DataFrame({"x": np.arange(100_000)}),
        lambda x: x.__setitem__("y", 2),
    ),
    "an item of a long list": (lambda: [0] * 100_000, lambda x: x.append(1)),
    "a line, after the drawing was saved": (saved, lambda figure: len(figure.axes[0].plot([5, 6]))),
    "axes in an array": (lambda: Figure().subplots(2), lambda axes: len(axes[0].plot([1]))),
    "an edge": (lambda: nx.path_graph(4), lambda x: x.add_edge(8, 9)),
    "a weight": (lambda: nx.Graph([(1, 2, {"w": 1})]), lambda x: x[1][2].update(w=2)),
    "a line": (lambda: drawing().axes[0], lambda x: len(x.plot([5, 6]))),
    "a title": (drawing, lambda x: x.axes[0].set_title("t").get_text()),
    "a grid": (drawing, lambda x: x.axes[0].grid(visible=True)),
    "the data of a line": (drawing, lambda x: x.axes[0].lines[0].set_ydata([9, 9, 9])),
    "a model": (LinearRegression, lambda x: float(fit(x).coef_[0])),
    "a private attribute": (Cart, lambda x: x.touch(1)),
    "the items of an object": (Cart, lambda x: x.items.append(3)),
    "an attribute": (SimpleNamespace, lambda x: setattr(x, "a", 1)),
    "a generator of numbers": (lambda: np.random.default_rng(0), lambda x: x.random()),
    "a generator of Python's": (lambda: random.Random(0), lambda x: x.random()),
    "one, and another is returned": (lambda: [[1], [2]], lambda x: x[0].append(2) or x[1]),
}


def run(make, act):
    step = component(act).with_options(name="act")

    @pipeline
    def body():
        return step(make())

    return body()


@only_debug
@pytest.mark.parametrize("case", READ)
def test_reading_is_no_change(mode, case, recwarn):
    run(*READ[case])
    assert not [warning for warning in recwarn.list if CHANGED in str(warning.message)]


@only_debug
@pytest.mark.parametrize("case", CHANGE)
def test_a_change_is_warned_of(mode, case):
    with pytest.warns(UserWarning, match=CHANGED):
        run(*CHANGE[case])


@only_debug
def test_figures_that_are_compared_are_not_shown(mode):
    """They come out of pickles, and pyplot must not find them."""
    figure, axes = plt.subplots()
    try:
        axes.plot([1, 2])
        run(lambda: figure, save)
        assert plt.get_fignums() == [figure.number]
        assert plt.gcf() is figure
    finally:
        plt.close("all")


@only_debug
def test_datasets_of_xarray(mode, recwarn):
    import xarray

    def make():
        return xarray.Dataset({"a": ("x", [1, 2])})

    run(make, lambda data: (repr(data), data.indexes, data.a.encoding, float(data.a.mean()))[3])
    assert not [warning for warning in recwarn.list if CHANGED in str(warning.message)]
    with pytest.warns(UserWarning, match=CHANGED):
        run(make, lambda data: data.attrs.update(unit="m"))


@component
def give(make):
    return make()


@pytest.mark.parametrize("make", [lambda: pd.DataFrame({"x": [1, 2]}), lambda: np.zeros(2), dict])
def test_a_result_that_the_body_changes_is_not_passed_on(mode, make):
    """Whatever its type makes of a question for its truth."""

    @pipeline
    def body():
        found = give(make)
        found.result().__setitem__(0, 5)
        return give.with_options(name="next")(found)

    with pytest.raises(GraphError, match="step give was changed by the body"):
        body()


@component
def long_list(n):
    return [str(i) for i in range(n)]


@component
def long_frame(n):
    return pd.DataFrame({"x": np.arange(n), "y": np.arange(n)})


@component
def length(items):
    return len(items)


@component
def names(frame):
    return list(frame.columns)


LONG = 50_000

BODY_CHANGES = {
    "an item": (long_list, lambda items: items.append("x")),
    "the order": (long_list, lambda items: items.sort()),
    "a column": (long_frame, lambda frame: frame.insert(0, "z", 1)),
}


@pytest.mark.parametrize("case", BODY_CHANGES)
def test_a_large_result_that_the_body_changes_is_not_passed_on(mode, case):
    make, change = BODY_CHANGES[case]

    @pipeline
    def body():
        made = make(LONG)
        change(made)
        return length(made)

    with pytest.raises(GraphError, match="was changed by the body"):
        body()


def test_a_large_result_that_is_read_is_passed_on_again_and_again(mode):
    @pipeline
    def body():
        frame, items = long_frame(LONG), long_list(LONG)
        counts = [length(items) for _ in range(3) if items[0] == "0"]
        return (
            names(frame),
            frame.groupby("y").sum().shape,
            names(frame),
            counts,
            length(frame["x"]),
        )

    assert body() == (["x", "y"], (LONG, 1), ["x", "y"], [LONG] * 3, LONG)

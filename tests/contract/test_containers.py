"""Results in containers, tables and objects: what leaves a pipeline or goes to a step holds values."""

import collections
import dataclasses
import types
from typing import NamedTuple

import attrs
import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.dummy import DummyRegressor

from pipedeco import StepResult, component, get_run, pipeline, value


@component
def give(x):
    return x


@component
def fail():
    raise KeyError("k")


@component
def dtypes(table):
    return {name: str(kind) for name, kind in dict(getattr(table, "dtypes", {})).items()}


@component
def dtype(column):
    return str(column.dtype)


class Point(NamedTuple):
    x: object


class Words(list):
    """A list with an attribute."""


class Report:
    """An object of the user's."""

    def __init__(self, score):
        self.score = score


class Slotted:
    __slots__ = ("__hidden", "unset")

    def __init__(self, hidden):
        self.__hidden = hidden

    def shown(self):
        return self.__hidden


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    part: object


@attrs.frozen
class Attributes:
    part: object


def objects(*items):
    made = np.empty(len(items), dtype=object)
    made[:] = items
    return made


def words(item):
    made = Words([item])
    made.extra = item
    return made


def knot(item):
    made = [item]
    made.append(made)
    return made


# What a body makes of a result, and what is then to be seen of it.
CASES = {
    "a deque": (lambda r: collections.deque([r], maxlen=2), lambda d: (*d, d.maxlen)),
    "a defaultdict": (
        lambda r: collections.defaultdict(list, a=[r]),
        lambda d: (d, d.default_factory),
    ),
    "an OrderedDict": (
        lambda r: collections.OrderedDict([("b", r), ("a", 1)]),
        lambda d: list(d.items()),
    ),
    "a Counter": (lambda r: collections.Counter(a=r), dict),
    "a UserDict": (lambda r: collections.UserDict(a=r), dict),
    "a ChainMap": (lambda r: collections.ChainMap({"a": r}), dict),
    "a mappingproxy": (lambda r: types.MappingProxyType({"a": r}), dict),
    "a namespace": (lambda r: types.SimpleNamespace(a=r), lambda n: n.a),
    "values of a dict": (lambda r: {"a": r}.values(), list),
    "a key": (lambda r: {r: 1}, dict),
    "a named tuple": (lambda r: Point([r]), lambda p: (p.x, p)),
    "a list of a class": (words, lambda w: (*w, w.extra)),
    "an object": (Report, lambda r: r.score),
    "an object with slots": (Slotted, lambda s: s.shown()),
    "a frozen dataclass": (lambda r: [Frozen(r)], lambda f: f[0].part),
    "an attrs class": (lambda r: {"k": Attributes(r)}, lambda a: a["k"].part),
    "a list that holds itself": (knot, lambda k: (k[0], k[1] is k)),
    "an object array": (lambda r: objects(r, "x"), lambda a: (a.tolist(), str(a.dtype))),
    "an object of a library": (
        lambda r: DummyRegressor(strategy="constant", constant=r),
        lambda m: m.constant,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_pipeline_returns_holds_values(mode, case):
    make, seen = CASES[case]

    @pipeline
    def body():
        return make(give(3))

    found, bare = body(), make(3)
    assert type(found) is type(bare)
    assert seen(found) == seen(bare)
    assert seen(get_run().result()) == seen(bare)


@pytest.mark.parametrize("case", [case for case in CASES if "library" not in case])
def test_value_makes_copies_of_what_holds_results(mode, case):
    make, seen = CASES[case]

    @pipeline
    def body():
        made = make(give(3))
        return seen(value(made)) == seen(make(3)) and value(made) is not made

    assert body()


def test_what_is_returned_is_the_same_object(mode):
    """As in the bare program, where it would have got the values as they were put in."""
    kept = []
    report = Report(None)

    @pipeline
    def body():
        kept.append(give(1))
        report.score = give(2)
        return kept, report

    found, told = body()
    assert found is kept
    assert told is report
    assert (kept, report.score) == ([1], 2)


def test_value_leaves_neighbours_alone(mode):
    """Only what holds a result is copied."""
    report = Report(1)

    @pipeline
    def body():
        return value([report, give(1)])[0] is report

    assert body()


def test_a_failure_in_a_container_is_raised(mode):
    @pipeline
    def body():
        return Report([give(1), fail()])

    with pytest.raises(KeyError):
        body()


def test_a_value_nested_without_end(mode):
    @pipeline
    def body():
        made = [give(1)]
        for _ in range(20_000):
            made = [made]
        return value(made) is not made and len(made)

    assert body() == 1


# -- tables


def scores():
    return [give(x) for x in (1.0, 2.0)]


def by_item(frame):
    frame["score"] = scores()
    return frame


def by_name(frame):
    results = scores()
    column = {"score": results}
    return frame.assign(**column)


TABLES = {"df[...] = [...]": by_item, "df.assign": by_name}


@pytest.mark.filterwarnings("ignore:.*holds futures")
@pytest.mark.parametrize("form", TABLES)
def test_columns_of_results(mode, form):
    """Returned, and given to a step, they have the type of their values."""
    fill = TABLES[form]

    @pipeline
    def returned():
        return fill(pd.DataFrame({"x": [1, 2], "name": ["a", None]}))

    @pipeline
    def passed():
        return dtypes(fill(pd.DataFrame({"x": [1, 2]})))

    bare = pd.DataFrame({"x": [1, 2], "name": ["a", None], "score": [1.0, 2.0]})
    pd.testing.assert_frame_equal(returned(), bare)
    assert passed() == {"x": "int64", "score": "float64"}


def test_a_table_given_to_a_step_is_as_in_the_bare_program_afterwards(mode):
    @pipeline
    def body():
        frame = by_item(pd.DataFrame({"x": [1, 2]}))
        told = dtypes(frame)
        return told, str(frame["score"].dtype), float(frame["score"].mean())

    assert body() == ({"x": "int64", "score": "float64"}, "float64", 1.5)


def test_series_and_indexes(mode):
    def series(items):
        return pd.Series(list(items), index=["p", "q"], name="n")

    @pipeline
    def body():
        column = series(scores())
        labels = pd.Series([1, 2], index=list(map(give, "ab")))
        return dtype(column), column, labels

    told, column, labels = body()
    assert told == "float64"
    pd.testing.assert_series_equal(column, series([1.0, 2.0]))
    pd.testing.assert_series_equal(labels, pd.Series([1, 2], index=["a", "b"]))


def test_cells_among_others_keep_the_type(mode):
    @pipeline
    def body():
        return pd.DataFrame({"mixed": objects(give(1), "x")})

    pd.testing.assert_frame_equal(body(), pd.DataFrame({"mixed": objects(1, "x")}))


def test_columns_of_polars(mode):
    @pipeline
    def body():
        return pl.DataFrame([pl.Series("a", scores(), dtype=pl.Object)])

    assert body().equals(pl.DataFrame({"a": [1.0, 2.0]}))


def test_arrays_of_results(mode):
    """numpy asks each for its value."""

    @pipeline
    def body():
        made = np.array(scores())
        filled = np.zeros(2)
        filled[0] = give(5.0)
        return made, filled, any(isinstance(x, StepResult) for x in made)

    made, filled, is_future = body()
    assert (made.tolist(), str(made.dtype), filled.tolist()) == ([1, 2], "float64", [5, 0])
    assert not is_future


@component
def scored():
    return pd.Series([1.0, 2.0], index=[1, 0])


def put(table, name, item):
    """In a function of its own, so that `@pipeline` does not see it."""
    table[name] = item


def test_a_cell_that_is_set_to_a_result(mode):
    """pandas refuses what it takes for a list; the cure is told."""

    @pipeline
    def body():
        put(pd.DataFrame(index=["a", "b"]), "score", give(1.0))

    with pytest.raises(TypeError, match="has no len") as caught:
        body()
    assert "pass it pipedeco.value(...)" in "".join(caught.value.__notes__)


def test_a_column_that_is_set_to_a_series(mode):
    """pandas takes it for an array; the line that did so is told."""

    @pipeline
    def body():
        table = pd.DataFrame({"x": [1, 2]})
        put(table, "score", scored())
        return table

    with pytest.warns(UserWarning, match="step scored for an array, and the Series loses") as told:
        body()
    assert [(warning.filename, warning.lineno) for warning in told] == [
        (__file__, put.__code__.co_firstlineno + 2)
    ]

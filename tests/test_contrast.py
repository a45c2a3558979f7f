"""In what two values differ: places, few lines, little time, and nothing that is not so."""

import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import pathlib
import re

import numpy as np
import pandas as pd
import pytest

from pipedeco.contrast import contrast


class Model:
    def __init__(self, weight):
        self.weight = weight
        self.same = [1, 2]


class Slotted:
    __slots__ = ("__hidden", "size")

    def __init__(self, size):
        self.size = size
        self.__hidden = -size


class Strange:
    """Neither equal nor to be reduced."""

    def __eq__(self, other):
        raise RuntimeError("not to be asked")

    __hash__ = None

    def __reduce_ex__(self, protocol):
        raise RuntimeError("nor that")


class Marked(int):
    pass


def marked(number, mark):
    found = Marked(number)
    found.mark = mark
    return found


def noted(text):
    error = ValueError(text)
    error.add_note("here")
    return error


@dataclasses.dataclass
class Point:
    x: int
    more: list


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


def cyclic(value):
    found = [value]
    found.append(found)
    return found


def nested(levels, value):
    for _ in range(levels):
        value = [value]
    return value


GRID = np.arange(12.0).reshape(3, 4)
OTHER = GRID.copy()
OTHER[1, 2], OTHER[2, 3] = 50, np.nan
TWO = "2 of 12 values differ, the largest difference is 44 at"
FRAME = pd.DataFrame({"n": [1, 2, 3], "s": ["x", "y", None]})
CHANGED = FRAME.copy()
CHANGED.loc[1, "n"] = 20
CHANGED.loc[2, "s"] = "z"

DIFFERENT = [
    (1, 2, ["1 / 2"]),
    (1, 1.0, ["1 (int) / 1.0 (float)"]),
    ("abc", "abd", ["'abc' / 'abd'"]),
    ("x" * 1000 + "a", "x" * 1000 + "b", [
        f"1,001 / 1,001 characters, from 980 on: '{'x' * 20}a' / '{'x' * 20}b'"]),
    ("a\nb\nc\n", "a\nB\nc\n", ["4 / 4 lines, which differ from line 2 on", "    -b", "    +B"]),
    ("a\nb\n", "a\nb\nc\n", ["3 / 4 lines, which differ from line 3 on", "    +c"]),
    (b"abc", b"abd", ["3 / 3 bytes, from 2 on: b'c' / b'd'"]),
    ({"a": {"b": [1, {"c": 2}]}}, {"a": {"b": [1, {"c": 3}]}, "z": 1}, [
        "'z' only on the right: 1", "['a']['b'][1]['c']: 2 / 3"]),
    ([1, 2, 3], [1, 5], ["3 / 2 elements", "[1]: 2 / 5"]),
    ({1, 2}, {2, 3}, ["1 element only on the left: 1", "1 element only on the right: 3"]),
    (collections.Counter("ab"), collections.Counter("abb"), ["['b']: 1 / 2"]),
    (collections.deque([1]), collections.deque([2]), ["deque([1]) / deque([2])"]),
    (Model(1), Model(2), [".weight: 1 / 2"]),
    (Model(GRID), Model(OTHER), [f".weight: {TWO} [1, 2]: [1, 2] 6.0 / 50.0, [2, 3] 11.0 / nan"]),
    (Slotted(1), Slotted(2), [".__hidden: -1 / -2", ".size: 1 / 2"]),
    (marked(1, "x"), marked(2, "x"), ["1 / 2"]),
    (marked(1, "x"), marked(1, "y"), [".mark: 'x' / 'y'"]),
    (noted("a"), noted("b"), ["ValueError('a') / ValueError('b')"]),
    (Point(1, [2]), Point(1, [3]), [".more[0]: 2 / 3"]),
    (Colour.RED, Colour.BLUE, ["<Colour.RED: 1> / <Colour.BLUE: 2>"]),
    (cyclic(1), cyclic(2), ["[0]: 1 / 2"]),
    (datetime.date(2024, 1, 1), datetime.date(2024, 1, 2), ["2024-01-01 / 2024-01-02"]),
    (decimal.Decimal("1.0"), decimal.Decimal("1.5"), ["Decimal('1.0') / Decimal('1.5')"]),
    (pathlib.PurePosixPath("a"), pathlib.PurePosixPath("b"), ["'a' / 'b'"]),
    (re.compile("a"), re.compile("b"), ["re.compile('a') / re.compile('b')"]),
    (range(3), range(4), ["range(0, 3) / range(0, 4)"]),
    (functools.partial(int, 1), functools.partial(int, 2), [
        "functools.partial(<class 'int'>, 1) / functools.partial(<class 'int'>, 2)"]),
    (lambda x: x + 1, lambda x: x + 2, ["the code of <lambda> differs"]),
    (int, str, ["<class 'int'> / <class 'str'>"]),
    (GRID.T, OTHER.T, [f"{TWO} [2, 1]: [2, 1] 6.0 / 50.0, [3, 2] 11.0 / nan"]),
    (GRID, GRID.astype(int), ["dtype float64 / int64"]),
    (GRID, GRID[:2], ["shape (3, 4) / (2, 4)"]),
    (np.array(1), np.array(2), ["1 of 1 values differ, the largest difference is 1: 1 / 2"]),
    (np.float64(1), np.float64(2), ["1.0 / 2.0"]),
    (np.uint8([1]), np.uint8([255]), [
        "1 of 1 values differ, the largest difference is 254 at [0]: [0] 1 / 255"]),
    (np.array([True, False]), np.array([True, True]), ["1 of 2 values differ: [1] False / True"]),
    (np.array(["a", "b"]), np.array(["a", "c"]), ["1 of 2 values differ: [1] 'b' / 'c'"]),
    (np.array([1, None], object), np.array([1, [2]], object), [
        "[1]: None (NoneType) / [2] (list)"]),
    (np.array([(1, 2.0)], [("p", int), ("q", float)]), np.array([(1, 3.0)], [("p", int), ("q", float)]), [
        "['q']: 1 of 1 values differ, the largest difference is 1 at [0]: [0] 2.0 / 3.0"]),
    (np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2], mask=[0, 0]), [
        ".mask: 1 of 2 values differ: [1] True / False"]),
    (FRAME, CHANGED, [
        "['n']: 1 of 3 cells differ, the largest difference is 18: 1: 2 / 20",
        "['s']: 1 of 3 cells differ: 2: nan / 'z'"]),
    (FRAME, FRAME.drop(columns="s"), ["columns only on the left: 's'"]),
    (FRAME, FRAME[["s", "n"]], ["columns in another order"]),
    (FRAME, FRAME.iloc[:2], ["3 / 2 rows", "1 row only on the left: 2"]),
    (FRAME, FRAME.iloc[::-1], ["rows in another order"]),
    (FRAME, FRAME.astype({"n": float}), ["['n']: dtype int64 / float64"]),
    (FRAME.n, CHANGED.n, ["1 of 3 cells differ, the largest difference is 18: 1: 2 / 20"]),
    (FRAME.n, FRAME.n.rename("m"), ["name 'n' / 'm'"]),
    (pd.Index([1, 2]), pd.Index([1, 3]), [
        "1 of 2 cells differ, the largest difference is 1: 1: 2 / 3"]),
    (pd.Series([1, None], dtype="Int64"), pd.Series([None, 2], dtype="Int64"), [
        "2 of 2 cells differ: 0: 1 / <NA>, 1: <NA> / 2"]),
    (pd.Series(["a"], dtype="category"), pd.Series(["b"], dtype="category"), [
        "other category dtypes", "1 of 1 cells differ: 0: 'a' / 'b'"]),
    (pd.Series([[1], [2]]), pd.Series([[1], [3]]), ["1 of 2 cells differ: 1: [2] / [3]"]),
    (pd.Series([np.array([1, 2])]), pd.Series([np.array([1, 3])]), [
        ".loc[0]: 1 of 2 values differ, the largest difference is 1 at [1]: [1] 2 / 3"]),
    (pd.DataFrame([[1, 2]], columns=["a", "a"]), pd.DataFrame([[1, 3]], columns=["a", "a"]), [
        "['a']: 1 of 1 cells differ, the largest difference is 1: 0: 2 / 3"]),
]  # fmt: skip


@pytest.mark.parametrize(("left", "right", "lines"), DIFFERENT)
def test_the_places_that_differ(left, right, lines):
    """And what stands there."""
    found = contrast(left, right)
    assert not found.equal
    assert found.lines == lines


@pytest.mark.parametrize("module", ["polars", "pyarrow"])
def test_tables_of_other_libraries(module):
    """By column."""
    package = pytest.importorskip(module)
    make = package.DataFrame if module == "polars" else package.table
    found = contrast(make({"a": [1, 2], "b": [1, 1]}), make({"a": [1, 3], "c": [1, 1]}))
    assert found.lines == [
        "columns only on the left: 'b'",
        "columns only on the right: 'c'",
        "['a']: 1 of 2 values differ, the largest difference is 1 at [1]: [1] 2 / 3",
    ]
    column = package.Series if module == "polars" else package.array
    assert contrast(column([1, 2]), column([1, 3])).lines[0].startswith("1 of 2 values differ")


EQUAL = [
    (float("nan"), float("nan")),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ({"x", "y"}, {"y", "x"}),
    (OTHER, OTHER.copy()),
    (np.array(["NaT", "2024"], "M8[D]"), np.array(["NaT", "2024"], "M8[D]")),
    (CHANGED, CHANGED.copy()),
    (pd.Series([1, None], dtype="Int64"), pd.Series([1, None], dtype="Int64")),
    (Model(GRID), Model(GRID.copy())),
    (nested(50, "x"), nested(50, "x")),
    (noted("a"), noted("a")),
    (marked(1, "x"), marked(1, "x")),
]


@pytest.mark.parametrize(("left", "right"), EQUAL)
def test_what_is_equal_is_said_to_be(left, right):
    """Missing values are equal to each other, and the order of keys does not count."""
    assert contrast(left, right) == type(contrast(1, 1))([], equal=True)


def test_what_cannot_be_compared_is_not_said_to_be_equal():
    """Classes whose methods raise, and what is too deep."""
    found = contrast([Strange()], [Strange()])
    assert (found.equal, found.lines) == (
        False,
        ["[0]: cannot be compared: RuntimeError: nor that"],
    )
    found = contrast(nested(500, 1), nested(500, 1))
    assert not found.equal
    assert found.lines[0].endswith("deeper than 100 levels is not compared")


def test_many_differences_are_counted():
    """Ten are shown."""
    found = contrast([1] * 100, [2] * 100)
    assert len(found.lines) == 11
    assert found.lines[-1] == "... and 90 more differences"


def test_a_long_comparison_is_given_up():
    """What was not looked at is told, and the values are not said to be equal."""
    for left, right in (
        ([[i] for i in range(1000)], [[i] for i in range(1000)]),
        ({i: [i] for i in range(1000)}, {i: [i] for i in range(1000)}),
        (GRID, GRID.copy()),
        (FRAME, FRAME.copy()),
    ):
        found = contrast(left, right, seconds=-1.0)
        assert not found.equal
        assert "not compared" in found.lines[0]


def test_large_texts_and_arrays_are_compared_in_blocks(monkeypatch):
    """A difference is found wherever it stands: before, at and behind the ends of blocks."""
    from pipedeco.contrast import arrays, texts

    monkeypatch.setattr(arrays, "BLOCK", 4)
    monkeypatch.setattr(texts, "BLOCK", 4)
    for place in range(13):
        numbers = np.zeros(13)
        numbers[place] = 1
        (line,) = contrast(np.zeros(13), numbers).lines
        assert line.endswith(f"at [{place}]: [{place}] 0.0 / 1.0")
        letters = ["a\n"] * 13
        letters[place] = "b\n"
        assert contrast("a\n" * 13, "".join(letters)).lines == [
            f"14 / 14 lines, which differ from line {place + 1} on", "    -a", "    +b",
        ]  # fmt: skip

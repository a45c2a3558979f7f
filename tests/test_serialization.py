"""Values to bytes or blobs and back, and the path to what cannot travel."""

import ast
import contextlib
import copyreg
import datetime
import enum
import importlib
import json
import pickle
import sqlite3
import subprocess
import sys
import threading
import traceback
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipedeco import GraphError, NotPicklable, StepFailed
from pipedeco.blobs import BlobStore
from pipedeco.serialization import (
    INLINE_LIMIT,
    Pickler,
    contains,
    pack_exception,
    pickle_mark,
    unpack,
    unpack_exception,
)
from pipedeco.text import preview

atoms = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    atoms | st.binary(max_size=100),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=20,
)


class Marker:
    """Found while pickling, in the place of a StepResult."""

    def __reduce__(self):
        return str, ("not found",)


@dataclass
class Box:
    held: Any = None
    more: dict = field(default_factory=dict)


class Point(NamedTuple):
    x: int
    y: tuple


class Shade(enum.Enum):
    DARK = 1


class TwoArguments(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")


@pytest.fixture
def blobs(tmp_path):
    return BlobStore(str(tmp_path / "blobs"))


@pytest.fixture
def pickler(blobs):
    return Pickler(blobs)


# -- round trips ---------------------------------------------------------------------------


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=values)
def test_any_value_makes_the_round_trip(blobs, pickler, value):
    """One pickler carries one value after another, unharmed by the one before."""
    packed = pickler.dump(value, "value")
    assert isinstance(packed, bytes)
    assert unpack(packed, blobs) == value


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.integers(INLINE_LIMIT - 200, INLINE_LIMIT + 200),
    kind=st.sampled_from([bytes, bytearray]),
)
def test_values_around_the_limit_make_the_round_trip(blobs, pickler, size, kind):
    """Up to 64 KiB a value is inline, above it is a blob; it comes back the same."""
    value = [kind(size), "end"]
    packed = pickler.dump(value, "value")
    assert isinstance(packed, bytes) == (len(pickle.dumps(value, 5)) <= INLINE_LIMIT)
    assert unpack(packed, blobs, verify=True) == value


@pytest.mark.parametrize("size", [10, 1000, 100_000])
def test_arrays_make_the_round_trip_and_may_be_changed(blobs, pickler, size):
    """Inline or mapped, an array can be written to, and a second reader does not see it."""
    array = np.arange(size, dtype="f8")
    packed = pickler.dump({"a": array, "b": array}, "value")
    first, second = unpack(packed, blobs), unpack(packed, blobs)
    first["a"][0] = -1
    assert np.array_equal(second["a"], array)
    assert first["a"] is first["b"]


def test_none_stands_for_itself(blobs):
    """None is packed as None."""
    assert unpack(None, blobs) is None


def test_what_pickle_refuses_goes_through_cloudpickle(blobs, pickler):
    """A closure is carried, and one plain pickler serves on afterwards."""
    n = 3
    function = unpack(pickler.dump(lambda x: x + n, "value"), blobs)
    assert function(4) == 7
    assert unpack(pickler.dump([1], "value"), blobs) == [1]


def test_what_cloudpickle_refuses_goes_through_dill(blobs, pickler):
    """dill carries a lock."""
    found = unpack(pickler.dump({"lock": threading.Lock()}, "value"), blobs)
    assert found["lock"].acquire(blocking=False)


@pytest.mark.parametrize(
    "beside",
    [lambda: None, lambda: lambda: 1, threading.Lock],
    ids=["pickle", "cloudpickle", "dill"],
)
def test_reducers_hold_for_every_pickler(blobs, beside):
    """What stands for a StepResult is found whichever of the three carries the rest."""
    met = []
    pickler = Pickler(blobs, {Marker: lambda marker: (met.append(marker), (str, ("found",)))[1]})
    packed = pickler.dump([beside(), Marker()], "value")
    assert met
    assert unpack(packed, blobs)[1] == "found"


def test_an_error_of_ours_in_a_reducer_is_raised(blobs):
    """A GraphError that a reducer raises is the answer, not a reason to try another pickler."""

    def refuse(marker):
        raise GraphError("changed in place")

    pickler = Pickler(blobs, {Marker: refuse})
    for beside in (1, lambda: 1, threading.Lock()):
        with pytest.raises(GraphError, match="changed in place"):
            pickler.dump([beside, Marker()], "value")
    assert pickler.dump([1], "value")


# -- culprits ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda x: x, "result"),
        (lambda x: [1, x], "result[1]"),
        (lambda x: (1, 2, x), "result[2]"),
        (lambda x: {"k": {3: x}}, "result['k'][3]"),
        (Box, "result.held"),
        (lambda x: Box(more={"a": [Box(x)]}), "result.more['a'][0].held"),
        (lambda x: [0] * 12 + [x], "result[12]"),
        (lambda x: [[x]] * 2, "result[0][0]"),
    ],
)
def test_the_culprit_is_named_with_its_path(pickler, wrap, path):
    """The path says how a person reaches it from the value."""
    with sqlite3.connect(":memory:") as connection, pytest.raises(NotPicklable) as caught:
        pickler.dump(wrap(connection), "result")
    connection.close()
    assert str(caught.value).startswith(f"{path} is a sqlite3.Connection, which cannot be pickled")


def test_the_culprit_beside_what_only_dill_carries(pickler):
    """A lock beside it is not blamed."""
    connection = sqlite3.connect(":memory:")
    with pytest.raises(NotPicklable, match=r"^result\[1\] is a sqlite3.Connection"):
        pickler.dump([threading.Lock(), connection], "result")
    connection.close()


def test_the_culprit_is_a_file_open_for_writing(pickler, tmp_path):
    """dill alone would carry it, and truncate it where it arrives."""
    with (tmp_path / "out").open("w") as file, pytest.raises(NotPicklable) as caught:
        pickler.dump({"a": [1, file]}, "result")
    assert str(caught.value).startswith("result['a'][1] is a _io.TextIOWrapper, which cannot")


def test_an_object_whose_reducer_raises_is_the_culprit(pickler):
    """Its own reason stands in the message."""

    class Stubborn:
        def __reduce__(self):
            raise RuntimeError("I stay here")

    with pytest.raises(NotPicklable, match=r"result\['a'\] is a .*Stubborn.*\(I stay here\)"):
        pickler.dump({"a": Stubborn()}, "result")


def test_after_a_failure_the_pickler_serves_on(blobs, pickler):
    """Nothing of the failed value is left in it."""
    connection = sqlite3.connect(":memory:")
    with pytest.raises(NotPicklable):
        pickler.dump([np.arange(100_000), connection], "result")
    connection.close()
    assert unpack(pickler.dump("x", "value"), blobs) == "x"


# -- looking at values ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "there"),
    [
        (Marker(), True),
        ([{"a": (Marker(),)}], True),
        (Box(Marker()), True),
        ([1, "a", Box(3)], False),
        ([threading.Lock(), Marker()], True),
        ([Marker(), threading.Lock()], True),
    ],
    ids=["bare", "nested", "attribute", "none", "after a lock", "before a lock"],
)
def test_contains(value, there):
    """A type is found at any depth, beside what cannot be pickled too."""
    assert contains(value, Marker) is there


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (3.5, "3.5"),
        ("a" * 5, "'aaaaa'"),
        ([1, 2], "[1, 2]"),
        ((1,), "(1,)"),
        ({"a": 1}, "{'a': 1}"),
        ({1}, "{1}"),
        (frozenset(), "frozenset()"),
        (set(), "set()"),
        (list(range(100)), "[0, 1, 2, 3, ... (100)]"),
        ("x" * 300, f"'{'x' * 198}…"),
        ("x" * 198, f"'{'x' * 198}'"),
        (Box(), "Box(held=None, more={})"),
        (Point(1, (2, (3,))), "Point(x=1, y=(2, tuple))"),
        ([(1, Box())], "[(1, Box)]"),
        (Shade.DARK, "Shade.DARK"),
        (datetime.date(2024, 2, 29), "2024-02-29"),
        (np.zeros((2, 3)), "ndarray(2, 3)"),
    ],
    ids=str,
)
def test_preview(value, text):
    """A few characters that tell a person what a value is."""
    assert preview(value) == text


@given(value=values)
def test_a_preview_is_short(value):
    """At most 200 characters, whatever the value."""
    assert len(preview(value)) <= 200


def test_a_preview_never_runs_a_users_repr():
    """Objects are told by their type alone."""

    class Loud:
        def __repr__(self):
            raise RuntimeError

    assert "Loud" in preview(Loud())
    assert preview([Loud()]) == "[Loud]"
    assert preview(10**5000)


def test_a_mark_tells_a_change_in_place():
    """The pickle before and after differ exactly where the value changed."""
    value = {"a": [1]}
    before = pickle_mark(value)
    assert pickle_mark(value) == before
    value["a"].append(2)
    assert pickle_mark(value) != before
    assert pickle_mark(bytearray(INLINE_LIMIT * 2)) is None
    assert pickle_mark("atom") is None


def test_a_traceback_is_no_change(monkeypatch):
    """Though libraries such as Dask have exceptions pickled with theirs, as tblib does it."""
    from tblib import pickling_support

    for kind, reducer in (
        (ValueError, pickling_support.pickle_exception),
        (types.TracebackType, pickling_support.pickle_traceback),
    ):
        monkeypatch.setitem(copyreg.dispatch_table, kind, reducer)
    value = ValueError("no")
    before = pickle_mark([value])
    with contextlib.suppress(ValueError):
        raise value
    assert before is not None
    assert pickle_mark([value]) == before
    value.args = ("other",)
    assert pickle_mark([value]) != before


# -- exceptions ----------------------------------------------------------------------------


def test_an_exception_travels_with_traceback_causes_and_notes():
    """What is raised at the other end is the original, as far as a person can see."""
    try:
        try:
            raise KeyError("inner")
        except KeyError as cause:
            raise ValueError("outer") from cause
    except ValueError as caught:
        error = caught
    error.add_note("a note")
    back = unpack_exception(pack_exception(error))
    assert (type(back), back.args, back.__notes__) == (ValueError, ("outer",), ["a note"])
    assert repr(back.__cause__) == "KeyError('inner')"
    assert back.__traceback__.tb_frame.f_code.co_name == error.__traceback__.tb_frame.f_code.co_name


def caught(fails, *args):
    """What it raises."""
    try:
        fails(*args)
    except BaseException as error:  # noqa: BLE001 - SystemExit, too
        return error
    raise AssertionError("it should fail")


def divide(a, b):
    return [
        "ünï", a
        / b,
    ]  # fmt: skip


def recurse():
    return recurse()


class Body:
    call = staticmethod(lambda: [divide(n, 0) for n in (1,)])


def wrapped():
    try:
        divide(1, 0)
    except ZeroDivisionError as cause:
        raise RuntimeError("above") from cause


def without_columns():
    node = ast.parse("\n\nint('x')")
    for each in ast.walk(node):
        if hasattr(each, "lineno"):
            each.col_offset = each.end_col_offset = -1
            each.end_lineno = each.lineno
    exec(compile(node, "<no file>", "exec"), {"__name__": "elsewhere"})


@pytest.mark.parametrize(
    "fails", [lambda: divide(1, 0), recurse, Body.call, wrapped, without_columns]
)
def test_a_traceback_is_printed_as_it_was(fails):
    """With names, lines and columns, of causes, too."""
    error = caught(fails)
    back = unpack_exception(pack_exception(error))
    assert traceback.format_exception(back) == traceback.format_exception(error)
    [(there, _), (here, _)] = (
        list(traceback.walk_tb(each.__traceback__))[-1] for each in (error, back)
    )
    for name in ("co_filename", "co_name", "co_qualname", "co_firstlineno"):
        assert getattr(here.f_code, name) == getattr(there.f_code, name)
    assert here.f_globals["__name__"] == there.f_globals["__name__"]


@pytest.mark.parametrize(
    "fails",
    [
        b"\xff".decode,
        lambda: "é".encode("ascii"),
        lambda: compile("a b", "file", "exec"),
        lambda: compile("if 1:\n a\n  b", "file", "exec"),
        lambda: json.loads("{"),
        Path("/nowhere/at/all").read_text,
        lambda: importlib.import_module("nowhere.at.all"),
        lambda: not_defined,  # noqa: F821
        lambda: (1).not_there,
        lambda: next(iter([])),
        lambda: {}[1],
        lambda: sys.exit(3),
        lambda: subprocess.run(["false"], check=True),
    ],
)
def test_exceptions_of_python_travel_whole(fails):
    """Who catches one finds what it is made of, as where it was raised."""
    error = caught(fails)
    back = unpack_exception(pack_exception(error))
    assert (type(back), str(back), back.args) == (type(error), str(error), error.args)
    for kind in type(error).__mro__[: -len(BaseException.__mro__)]:
        for name in vars(kind).keys() - {"obj"}:  # of AttributeError: whatever it may be
            if not name.startswith("_"):
                assert getattr(back, name, None) == getattr(error, name, None)


def test_a_group_of_exceptions_travels():
    """And each that is in it with its own."""
    inner = caught(b"\xff".decode)
    error = caught(lambda: (_ for _ in ()).throw(ExceptionGroup("several", [inner, KeyError(1)])))
    back = unpack_exception(pack_exception(error))
    assert traceback.format_exception(back) == traceback.format_exception(error)


def test_an_exception_with_a_constructor_of_its_own_travels():
    """A class whose __init__ takes other arguments than its args arrives as it was."""
    back = unpack_exception(pack_exception(TwoArguments(1, "text")))
    assert (type(back), str(back)) == (TwoArguments, "1: text")


def test_an_exception_that_does_not_survive_is_taken_apart():
    """For what holds a thing that cannot travel another of its class stands, without the thing."""
    error = ValueError("text")
    with sqlite3.connect(":memory:") as error.connection:
        back = unpack_exception(pack_exception(error))
    assert isinstance(back, ValueError)
    assert isinstance(back, StepFailed)
    assert (str(back), back.args, hasattr(back, "connection")) == ("text", ("text",), False)
    error.connection.close()

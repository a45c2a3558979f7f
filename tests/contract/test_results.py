"""A StepResult is a future that behaves like the value wherever Python allows."""

import asyncio
import concurrent.futures
import copy
import dataclasses
import functools
import math
import operator
import os
import pickle
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from conftest import wait_for, wait_until

from pipedeco import GraphError, StepResult, component, pipeline, value

in_workers = pytest.mark.parametrize("mode", ["local", "remote"], indirect=True)


@component
def echo(x):
    return x


@component
def fail(text="no"):
    raise ValueError(text)


@component
def blocked(path, x):
    wait_for(path)
    return x


def is_result(item):
    """In a function of its own, as `@pipeline` advises against asking in a body."""
    return type(item) is StepResult


# -- selecting is lazy


@dataclasses.dataclass
class Fitted:
    slope: float
    notes: list


class Parts(NamedTuple):
    head: int
    tail: list


@component
def fitted() -> Fitted:
    return Fitted(2.0, ["a", "b"])


@component
def parts() -> Parts:
    return Parts(1, [2, 3])


@component
def pair() -> tuple[int, str]:
    return 1, "one"


@component(outputs=("train", "test"))
def named_outputs():
    return [1, 2], [3]


@component(outputs=3)
def counted_outputs():
    return [1, 2, 3]


@component
def mapping():
    return {"k": [1, 2], 0: "zero"}


SELECTIONS = {
    "item": (mapping, lambda r: r["k"]),
    "item of item": (mapping, lambda r: r["k"][1]),
    "number": (mapping, lambda r: r[0]),
    "slice": (counted_outputs, lambda r: r[1:]),
    "negative": (counted_outputs, lambda r: r[-1]),
    "field": (fitted, lambda r: r.slope),
    "item of field": (fitted, lambda r: r.notes[0]),
    "named tuple's field": (parts, lambda r: r.tail),
    "named tuple's item": (parts, lambda r: r[0]),
}


@pytest.mark.parametrize("selection", SELECTIONS)
def test_selecting_gives_a_result(mode, selection):
    """`r[0]`, `r["k"]` and annotated fields give StepResults, which pass on as the part."""
    made, select = SELECTIONS[selection]

    @pipeline
    def body():
        selected = select(made())
        assert is_result(selected)
        return selected, echo(selected)

    plain = select(made.fn())
    assert body() == (plain, plain)


@in_workers
def test_selecting_waits_for_nothing(mode, tmp_path):
    """Selections of a step that is blocked are made, and passed on, without waiting."""
    gate = tmp_path / "gate"

    @pipeline
    def body():
        r = blocked(str(gate), {"k": [5]})
        passed = echo(r["k"][0])
        assert not r.done()
        gate.touch()
        return passed

    assert body() == 5


def test_a_missing_part(mode):
    """A selection that is not there raises what the value raises, where it is read."""

    @pipeline
    def body():
        selected = mapping()["nope"]
        with pytest.raises(KeyError, match="nope"):
            selected.result()
        return True

    assert body()


def test_methods_of_a_named_tuple_wait(mode):
    @pipeline
    def body():
        found = parts()
        return found._asdict(), found._replace(head=5), found._fields, hasattr(found, "_other")

    fields = ("head", "tail")
    assert body() == ({"head": 1, "tail": [2, 3]}, Parts(5, [2, 3]), fields, False)


def test_other_attributes_wait(mode):
    """An attribute that is no annotated field is the value's own."""

    @pipeline
    def body():
        r = echo(Fitted(3.0, []))
        return type(r.slope) is float, r.slope

    assert body() == (True, 3.0)


UNPACKED = {
    "tuple[A, B]": pair,
    "outputs=names": named_outputs,
    "outputs=n": counted_outputs,
    "NamedTuple": parts,
}


@pytest.mark.parametrize("form", UNPACKED)
def test_unpacking_is_lazy_where_the_number_is_known(mode, form):
    """Unpacking by annotation or `outputs=` gives one StepResult for each output."""
    made = UNPACKED[form]

    @pipeline
    def body():
        first, *rest = made()
        assert all(is_result(part) for part in (first, *rest))
        return [first, *rest]

    assert body() == list(made.fn())


def test_unpacking_the_wrong_number(mode):
    """Too many or too few names on the left raise ValueError at the unpacking."""

    @pipeline
    def body():
        with pytest.raises(ValueError, match="too many values"):
            (_a,) = pair()
        with pytest.raises(ValueError, match="not enough values"):
            _a, _b, _c = pair()
        return True

    assert body()


def test_unpacking_of_unknown_number_waits(mode):
    """Without a known number unpacking reads the value."""

    @pipeline
    def body():
        a, b = echo([1, [2]])
        return type(a) is int, type(b) is list, a

    assert body() == (True, True, 1)


def test_string_annotations(mode):
    """Annotations written as text count as well."""

    @component
    def texts() -> "tuple[int, str]":
        return 1, "a"

    @pipeline
    def body():
        a, b = texts()
        return is_result(a), a, b

    assert body() == (True, 1, "a")


# -- everything else waits, and is done to the value

ARRAY = np.arange(4.0)
OPERATORS = {
    "bool": (3, bool),
    "bool of empty": ([], bool),
    "not": (0, lambda r: not r),
    "eq": (3, lambda r: (r == 3, r == 4, r == 3.0)),
    "eq reflected": (3, lambda r: (operator.eq(3, r), operator.ne(4, r))),
    "eq of two": ([1], lambda r: r == r),
    "ne": (3, lambda r: (r != 3, r != 4)),
    "lt": (3, lambda r: (r < 4, r < 3, operator.lt(2, r))),
    "le": (3, lambda r: (r <= 3, operator.le(4, r))),
    "gt": (0.95, lambda r: (r > 0.9, operator.gt(1, r))),
    "ge": (3, lambda r: (r >= 3, operator.ge(4, r))),
    "chained": (3, lambda r: 1 < r < 4),
    "add": (3, lambda r: (r + 1, 1 + r, r + r)),
    "add texts": ("a", lambda r: (r + "b", "b" + r)),
    "add lists": ([1], lambda r: (r + [2], [2] + r)),  # noqa: RUF005
    "sub": (3, lambda r: (r - 1, 1 - r)),
    "mul": (3, lambda r: (r * 2, "ab" * r, [1] * r)),
    "truediv": (3, lambda r: (r / 2, 1 / r)),
    "floordiv": (7, lambda r: (r // 2, 20 // r)),
    "mod": (7, lambda r: (r % 4, 20 % r)),
    "format with %": ("%d-%s", lambda r: r % (1, "a")),
    "into a format with %": (7, lambda r: ("%d" % r, "%s" % r)),  # noqa: UP031
    "divmod": (7, lambda r: (divmod(r, 4), divmod(20, r))),
    "pow": (3, lambda r: (r**2, 2**r)),
    "pow with modulus": (3, lambda r: pow(r, 4, 5)),
    "matmul": (np.eye(2), lambda r: ((r @ r).tolist(), (np.eye(2) @ r).tolist())),
    "and": (6, lambda r: (r & 3, 3 & r)),
    "or": (6, lambda r: (r | 1, 1 | r)),
    "or of dicts": ({"a": 1}, lambda r: (r | {"b": 2}, {"b": 2} | r)),
    "xor": (6, lambda r: (r ^ 3, 3 ^ r)),
    "shifts": (2, lambda r: (r << 3, r >> 1, 1 << r, 16 >> r)),
    "neg": (3, lambda r: -r),
    "pos": (-3, lambda r: +r),
    "invert": (3, lambda r: ~r),
    "abs": (-3, abs),
    "round": (2.675, lambda r: (round(r), round(r, 1))),
    "trunc, floor, ceil": (2.5, lambda r: (math.trunc(r), math.floor(r), math.ceil(r))),
    "int, float, complex": (2, lambda r: (int(r), float(r), complex(r))),
    "int of text": ("12", int),
    "float of text": ("1.5", float),
    "complex of text": ("1+2j", complex),
    "int of a float": (2.9, int),
    "index": (2, lambda r: ([5, 6, 7][r], list(range(r)), [5, 6, 7][r:], hex(r))),
    "len": ([1, 2], len),
    "iteration": ([1, 2], lambda r: [x for x in r]),  # noqa: C416 - a loop is meant
    "iteration of a dict": ({"a": 1}, lambda r: (list(r), list(r.items()), dict(r))),
    "star": ([1, 2], lambda r: [*r, 3]),
    "double star": ({"a": 1}, lambda r: {**r}),
    "contains": ([1, 2], lambda r: (1 in r, 3 in r)),
    "reversed": ([1, 2], lambda r: list(reversed(r))),
    "sorted": ([2, 1], sorted),
    "sum, min, max": ([2, 1], lambda r: (sum(r), min(r), max(r))),
    "zip and enumerate": ([2, 1], lambda r: (list(zip(r, r, strict=True)), list(enumerate(r)))),
    "join": (["a", "b"], "".join),
    "str": (1.5, str),
    "format": (0.123, lambda r: (f"{r:.2f}", f"{r}", f"{r!s:>7}", f"{r:.1f}")),
    "bytes": ([1, 2], bytes),
    "bytes of bytes": (b"ab", bytes),
    "fspath": (Path("/a"), lambda r: (os.fspath(r), os.path.join(r, "b"), Path(r))),
    "method": ("ab", lambda r: r.upper()),
    "attribute": (ARRAY, lambda r: (r.shape, r.mean())),
    "hasattr": (ARRAY, lambda r: (hasattr(r, "shape"), hasattr(r, "nope"))),
    "getattr": (1 + 2j, lambda r: (r.real, r.imag)),
    "asarray": (ARRAY, lambda r: np.asarray(r).tolist()),
    "asarray with dtype": ([1, 2], lambda r: str(np.asarray(r, dtype="f4").dtype)),
    "ufunc": (ARRAY, lambda r: np.sqrt(r).tolist()),
    "with an array on the left": (2.0, lambda r: (ARRAY * r).tolist()),
    "two arrays": (ARRAY, lambda r: (ARRAY + r).tolist()),
    "array comparison": (ARRAY, lambda r: (r > 1).tolist()),
    "numpy scalar on the left": (3, lambda r: float(np.float64(2) * r)),
    "fraction": (Fraction(1, 3), lambda r: (r + 1, 1 - r, r == Fraction(1, 3))),
    "isclose": (0.3, lambda r: math.isclose(r, 0.1 + 0.2)),
    "keys by itemgetter": ({"a": 1}, lambda r: value(operator.itemgetter("a")(r))),
    "augmented": (3, lambda r: operator.iadd(r, 2)),
    "augmented list": ([1], lambda r: operator.iadd(r, (2,))),
    "next of iter": ([4, 5], lambda r: next(iter(r))),
    "ternary": (3, lambda r: "yes" if r else "no"),
    "and, or": (0, lambda r: value(r or 5)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(mode, name):
    """Whatever is done to a result but selecting is done to its value, with the same result."""
    given, operate = OPERATORS[name]

    @pipeline
    def body():
        return operate(echo(given))

    found = body()
    expected = operate(copy.deepcopy(given))
    assert type(found) is type(expected)
    assert found == expected


ERRORS = {
    "add": (3, lambda r: r + "a", TypeError),
    "lt": (3, lambda r: r < "a", TypeError),
    "len": (3, len, TypeError),
    "iteration": (3, list, TypeError),
    "division": (0, lambda r: 1 / r, ZeroDivisionError),
    "attribute": (3, lambda r: r.nope, AttributeError),
    "index": ("a", lambda r: [1][r], TypeError),
    "float": ("a", float, ValueError),
    "item": ([1], lambda r: r[5] + 1, IndexError),
    "fspath": (3, os.fspath, TypeError),
    "not callable": (len, lambda r: r([1]), TypeError),
}


@pytest.mark.parametrize("name", ERRORS)
def test_operators_that_fail(mode, name):
    """What the value refuses raises what it raises undecorated."""
    given, operate, kind = ERRORS[name]

    @pipeline
    def body():
        with pytest.raises(kind):
            operate(echo(given))
        return True

    assert body()


# -- what never waits


@in_workers
def test_what_never_waits(mode, tmp_path):
    """`repr`, `hash`, `type`, `_names`, `done`, `dir` of a blocked step's result return."""
    gate = tmp_path / "gate"

    @pipeline
    def body():
        r = blocked(str(gate), 1)
        found = repr(r), hash(r), r._repr_html_(), r.done(), bool(dir(r)), r.cancelled()
        gate.touch()
        return found[0].startswith("<StepResult blocked "), *found[2:]

    assert body() == (True, None, False, True, False)


def test_private_names_are_never_forwarded(mode):
    """Names that begin with `_` are not looked up in the value."""

    class Rich:
        _secret = 1

    @pipeline
    def body():
        r = echo(Rich())
        assert value(r)._secret == 1
        with pytest.raises(AttributeError):
            _ = r._secret
        return hasattr(r, "__custom__")

    assert body() is False


def test_results_live_in_sets(mode):
    """`hash(r)` is the future's own: results stand in sets and are dict keys, by identity."""

    @pipeline
    def body():
        a, b = echo([1]), echo([1])
        by_result = {a: "a", b: "b"}
        return len({a, b, a}), by_result[a], by_result[b]

    with pytest.warns(UserWarning, match="the future `"):
        assert body() == (2, "a", "b")


def test_repr_tells_step_and_selection(mode):
    """`repr` names the step, what was selected, and the state."""

    @pipeline
    def body():
        r = echo({"a": [1]})
        r.result()
        return repr(r), repr(r["a"][0])

    assert body() == (
        "<StepResult echo completed: {'a': [1]}>",
        "<StepResult echo['a'][0] completed>",
    )


# -- copies are the value


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))]
)
def test_copies_are_the_value(mode, duplicate):
    """`copy`, `deepcopy` and pickling give the plain value."""

    @pipeline
    def body():
        made = duplicate(echo([1, [2]]))
        return type(made) is list, made

    assert body() == (True, [1, [2]])


def test_deepcopy_of_a_structure(mode):
    """A deep copy of a structure has values in the place of its results."""

    @pipeline
    def body():
        made = copy.deepcopy({"a": [echo(1)]})
        return type(made["a"][0]) is int

    assert body()


# -- output


@component
def say(text, fail=False):
    print(text)
    if fail:
        raise LookupError(text)
    return text


def test_what_a_step_wrote_is_shown_before_its_value_is_read(mode, capsys):
    """A body that prints what it reads prints it below the lines of the step, failed or not."""

    @pipeline
    def body():
        for i in range(20):
            print("read", value(say(f"step {i}")))
        try:
            value(say("bad", fail=True))
        except LookupError:
            print("read LookupError")

    body()
    lines = capsys.readouterr().out.splitlines()
    expected = [line for i in range(20) for line in (f"step {i}", f"read step {i}")]
    assert lines == [*expected, "bad", "read LookupError"]


# -- changes in place


def change_item(r):
    r["a"] = 2


def delete_item(r):
    del r["a"]


def change_attribute(r):
    r.a = 2


def delete_attribute(r):
    del r.a


@pytest.mark.parametrize("change", [change_item, delete_item, change_attribute, delete_attribute])
def test_changes_in_place_are_refused(mode, change):
    """Assigning to and deleting parts of a result raise TypeError with the cure."""

    @pipeline
    def body():
        with pytest.raises(TypeError, match=r"step echo cannot be changed in place.*value\("):
            change(echo({"a": 1}))
        return True

    assert body()


def test_a_loaded_value_changed_and_passed_on(mode):
    """A result whose value the body read and changed may not be passed on: GraphError."""

    @pipeline
    def body():
        r = echo([1])
        r.append(2)
        with pytest.raises(GraphError, match="step echo was changed"):
            echo(r)
        with pytest.raises(GraphError, match="step echo was changed"):
            echo({"deep": [r[0]]})
        return value(echo(value(r)))

    assert body() == [1, 2]


def test_a_loaded_value_unchanged_is_passed_on(mode):
    """Reading alone does no harm."""

    @pipeline
    def body():
        r = echo({"a": [1]})
        assert len(r) == 1
        return echo(r)

    assert body() == {"a": [1]}


class Named:
    """Remembers what it has computed when it is read."""

    def __init__(self, name):
        self.name = name

    @functools.cached_property
    def label(self):
        return f"<{self.name}>"


def test_a_loaded_value_that_has_remembered_something_is_passed_on(mode):
    """A cached property that the body reads is no change; one of the other attributes is."""

    @pipeline
    def body():
        r = echo(Named("a"))
        assert r.label == "<a>"
        assert echo(r).label == "<a>"
        value(r).name = "b"
        with pytest.raises(GraphError, match="step echo was changed"):
            echo(r)
        return True

    assert body()


def test_a_step_that_remembers_something_in_its_argument_changes_nothing(mode, recwarn):
    """No mode warns where a step reads a cached property of its argument."""
    read = component(lambda named: named.label).with_options(name="read")

    @pipeline
    def body():
        return read(Named("a"))

    assert body() == "<a>"
    assert not recwarn.list


def test_reading_twice_gives_one_object(mode):
    """A result is loaded once."""

    @pipeline
    def body():
        r = echo([1])
        return r.result() is r.result() and value(r) is r.result()

    assert body()


# -- the function `value`


def test_value_at_any_depth(mode):
    """`value(x)` replaces results in lists, tuples, dicts, sets and dataclasses."""

    @pipeline
    def body():
        found = value({"a": [echo(1), (echo(2),)], "b": Fitted(echo(3), [echo(4)])})
        inner = found["a"][0], found["a"][1][0], found["b"].slope, found["b"].notes[0]
        return [type(x) is int for x in inner], found

    assert body() == ([True] * 4, {"a": [1, (2,)], "b": Fitted(3, [4])})


def test_value_leaves_its_argument(mode):
    """`value` changes no container; it makes another."""

    @pipeline
    def body():
        given = [echo(1)]
        found = value(given)
        return is_result(given[0]) and found is not given

    assert body()


@pytest.mark.parametrize("given", [None, 5, [1, [2]], {"a": ()}, Fitted(1.0, [])])
def test_value_of_plain_values(given):
    """On plain values `value` is the identity."""
    assert value(given) is given


def test_value_in_a_bare_function():
    """Undecorated code that calls `value` works as before."""
    assert value(echo([1])) == [1]


# -- the future


def test_result_and_exception(mode):
    """`result()` gives the value, `exception()` None; `done` is true, nothing runs any more."""

    @pipeline
    def body():
        r = echo(1)
        found = r.result(), r.result(timeout=5), r.exception(), r.exception(5)
        return *found, r.done(), r.running(), r.cancelled(), r.cancel()

    assert body() == (1, 1, None, None, True, False, False, False)


@in_workers
def test_timeouts(mode, tmp_path):
    """`result` and `exception` raise TimeoutError when the time is over; the step goes on."""
    gate = tmp_path / "gate"

    @pipeline
    def body():
        r = blocked(str(gate), 1)
        for read in (r.result, r.exception, r[0].result):
            with pytest.raises(TimeoutError, match="step blocked"):
                read(0.01)
        with pytest.raises(TimeoutError):
            r.result(0)
        gate.touch()
        return r

    assert body() == 1


@in_workers
def test_exception_of_a_failed_step(mode):
    """`exception()` gives the exception and counts as reading it."""

    @pipeline
    def body():
        error = fail("broken").exception()
        return type(error), str(error)

    assert body() == (ValueError, "broken")


@in_workers
def test_states_on_the_way(mode, tmp_path):
    """A step that runs is `running`, then `done`."""
    gate, began = tmp_path / "gate", tmp_path / "began"

    @component
    def marked(x):
        began.touch()
        wait_for(gate)
        return x

    @pipeline
    def body():
        r = marked(1)
        wait_for(began)
        wait_until(r.running)
        during = r.running(), r.done(), r.cancel()
        gate.touch()
        r.result()
        return during, (r.running(), r.done())

    assert body() == ((True, False, False), (False, True))


def test_done_callbacks(mode, tmp_path):
    """A callback is called once with the result, at once where the step has ended."""
    gate = tmp_path / "gate"
    if mode == "debug":
        gate.touch()
    seen = []

    @pipeline
    def body():
        r = blocked(str(gate), 7)
        r.add_done_callback(lambda f: seen.append((f is r, f.done(), f.result())))
        gate.touch()
        r.result()
        r.add_done_callback(lambda f: seen.append("late"))
        assert "late" in seen  # the other one may be called at this moment

    body()
    assert sorted(map(str, seen)) == ["(True, True, 7)", "late"]


def test_a_callback_that_raises(mode, caplog):
    """What a callback raises is logged and goes no further; the others are called."""
    seen = []

    def broken(f):
        raise RuntimeError("callback")

    @pipeline
    def body():
        r = echo(1)
        r.result()
        r.add_done_callback(broken)
        r.add_done_callback(seen.append)
        return r

    assert body() == 1
    assert len(seen) == 1
    assert "callback" in caplog.text


def test_wait_and_as_completed(mode):
    """`concurrent.futures.wait` and `as_completed` take results."""

    @pipeline
    def body():
        made = [echo(i) for i in range(4)]
        done, not_done = concurrent.futures.wait(made, timeout=10)
        assert (len(done), len(not_done)) == (4, 0)
        return sorted(f.result() for f in concurrent.futures.as_completed(made, timeout=10))

    assert body() == [0, 1, 2, 3]


@in_workers
def test_wait_for_the_first(mode, tmp_path):
    """`wait` returns at the first completed, and `as_completed` yields in that order."""
    gate = tmp_path / "gate"

    @pipeline
    def body():
        late, early = blocked(str(gate), "late"), echo("early")
        first = concurrent.futures.FIRST_COMPLETED
        done, not_done = concurrent.futures.wait([late, early], 10, first)
        assert {f.result() for f in done} == {"early"}
        assert len(not_done) == 1
        order = []
        for f in concurrent.futures.as_completed([late, early], timeout=10):
            order.append(f.result())
            gate.touch()
        return order

    assert body() == ["early", "late"]


@in_workers
def test_wait_for_the_first_exception(mode, tmp_path):
    """`wait(FIRST_EXCEPTION)` returns at a failure."""
    gate = tmp_path / "gate"

    @pipeline
    def body():
        late, broken = blocked(str(gate), 1), fail()
        kind = concurrent.futures.FIRST_EXCEPTION
        done, _ = concurrent.futures.wait([late, broken], 10, kind)
        found = [type(f.exception()) for f in done]
        gate.touch()
        return found

    assert body() == [ValueError]


def test_await(mode):
    """A result can be awaited in a loop of the body's own; calls may be made there."""

    @pipeline
    def body():
        async def main():
            first, second = await asyncio.gather(awaited(echo(1)), awaited(echo(2)))
            return first + second + await echo([3])[0]

        async def awaited(r):
            return await r

        return asyncio.run(main())

    assert body() == 6


@in_workers
def test_await_of_a_failure(mode):
    """Awaiting a failed step raises its exception."""

    @pipeline
    def body():
        async def main():
            await fail("broken")

        with pytest.raises(ValueError, match="broken"):
            asyncio.run(main())
        return True

    assert body()


def test_the_step_of_a_result(mode):
    """`.step` is the step, with its name and state."""

    @pipeline
    def body():
        echo(0)
        r = echo(1)
        r.result()
        return r.step.name, r.step.state, r[0].step is r.step

    assert body() == ("echo-2", "completed", True)


def test_submit_is_the_same_call(mode):
    """`component.submit(...)` is the call, and is refused outside a body."""

    @pipeline
    def body():
        return is_result(echo.submit(1)), echo.submit(x=2)

    assert body() == (True, 2)
    with pytest.raises(GraphError, match=r"echo\.submit"):
        echo.submit(1)


# -- control edges


def test_control_edges(mode):
    """What the body read before a call is an edge of another kind, which delays nothing."""

    @pipeline
    def body():
        a = echo(1)
        if a:
            b = echo(2)
        return b

    run = body.start()
    assert run.result(10) == 2
    assert run.graph.edges == [("echo", "echo-2", "control")]


def test_no_control_edges_without_reading(mode):
    """Passing on, selecting and repr make none."""

    @pipeline
    def body():
        a = mapping()
        repr(a)
        b = echo(a["k"])
        return echo(b)

    run = body.start()
    run.result(10)
    assert run.graph.edges == [("mapping", "echo", "data"), ("echo", "echo-2", "data")]


# -- results after their run


def test_a_result_read_after_the_run(mode):
    """A StepResult that outlives its run still gives its value."""
    kept = []

    @pipeline
    def body():
        kept.append(echo([5]))

    body()
    assert kept[0] == [5]
    assert kept[0][0] == 5


def test_a_result_of_another_run(mode):
    """A result of an ended run is passed to another run as its value."""
    kept = []

    @pipeline
    def first():
        kept.append(echo([5]))

    @pipeline
    def second():
        return echo(kept[0][0])

    first()
    run = second.start()
    assert run.result(10) == 5
    assert run.graph.edges == []


def test_a_call_after_the_run(mode):
    """A component called when the run has ended makes no step of it: it is a bare function."""

    @pipeline
    def body():
        echo(1)
        return "done"

    assert body() == "done"
    assert echo(2) == 2

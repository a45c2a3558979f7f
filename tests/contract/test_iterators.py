"""Generators and other iterators where steps and pipelines would give them."""

import functools
import itertools
from unittest.mock import MagicMock

import pytest

from pipedeco import GraphError, NotPicklable, component, get_run, pipeline, value
from pipedeco.errors import ConfigError


@component
def double(x):
    return 2 * x


def count(n):
    yield from range(n)


def through_a_helper(x):
    return double(x) + 1


class Doubles:
    """An iterator of the user's own."""

    def __init__(self, items):
        self.items = list(items)

    def __iter__(self):
        return self

    def __next__(self):
        if not self.items:
            raise StopIteration
        return self.items.pop()


async def later(n):
    for i in range(n):
        yield i


class Generating:
    def __call__(self):
        yield 1


@pytest.mark.parametrize(
    "fn",
    [count, later, functools.partial(count, 3), Generating(), staticmethod(count)],
    ids=["generator", "async generator", "partial", "object", "staticmethod"],
)
@pytest.mark.parametrize("options", [{}, {"retries": 1}], ids=["bare", "options"])
def test_a_generator_component_is_refused_at_its_decoration(fn, options):
    with pytest.raises(ConfigError, match=r"is a generator function.*return a list"):
        component(**options, name="made")(fn)


def test_an_object_that_has_every_attribute_can_be_decorated():
    assert component(MagicMock(__name__="made", __qualname__="made", __module__="m")).name == "made"


def test_a_component_may_use_generators(mode):
    """Only the function itself counts, not what stands in it."""

    @component
    def total(n):
        return sum(x * x for x in count(n)), list(count(2))

    @pipeline
    def body():
        return total(4)

    assert body() == (14, [0, 1])


def test_a_generator_pipeline_is_refused_at_its_decoration():
    with pytest.raises(ConfigError, match=r"pipeline count is a generator function.*a list"):
        pipeline(count)


async def _later_doubles():
    yield double(1)


LAZY = {
    "a generator": lambda: (double(x) for x in range(3)),
    "a generator that began": lambda: _begun(double(x) for x in range(3)),
    "map": lambda: map(double, range(3)),
    "filter of a helper": lambda: filter(through_a_helper, range(3)),
    "map of a helper": lambda: map(through_a_helper, range(3)),
    "map of a partial": lambda: map(functools.partial(through_a_helper), range(3)),
    "filter": lambda: filter(double, range(3)),
    "zip": lambda: zip("ab", [double(1), double(2)], strict=True),
    "enumerate": lambda: enumerate([double(1)]),
    "reversed": lambda: reversed([double(1)]),
    "iter": lambda: iter([double(1)]),
    "chain": lambda: itertools.chain([1], map(double, [2])),
    "starmap": lambda: itertools.starmap(double, [(1,)]),
    "a generator of generators": lambda: ((double(x) for x in range(n)) for n in range(2)),
    "in a dict": lambda: {"a": [1, (double(x) for x in range(3))]},
    "in an object": lambda: _Holder(map(double, range(3))),
    "an async generator": _later_doubles,
}


class _Holder:
    def __init__(self, items):
        self.items = items


def _begun(iterator):
    next(iterator)
    return iterator


@pytest.mark.parametrize("case", LAZY)
def test_an_iterator_that_would_call_components_is_refused(mode, case):
    """Nobody could perform its steps: the run is over when somebody goes through it."""

    @pipeline
    def body():
        return LAZY[case]()

    with pytest.raises(GraphError, match=r"pipeline body returned an? .*return a list"):
        body()
    assert get_run().status == "failed"


PLAIN = {
    "a generator": lambda: count(3),
    "map": lambda: map(str, range(3)),
    "zip": lambda: zip("ab", value([double(1), double(2)]), strict=True),
    "a list that was made": lambda: list(map(double, range(3))),
    "an iterator class": lambda: Doubles([1, 2]),
    "an iterator class of results": lambda: Doubles([double(1)]),
}


@pytest.mark.parametrize("case", PLAIN)
def test_an_iterator_of_plain_values_is_returned(mode, case):
    """As it is without pipedeco; it is not gone through, and cannot be recorded."""
    bare = {
        "a generator": [0, 1, 2],
        "map": ["0", "1", "2"],
        "zip": [("a", 2), ("b", 4)],
        "a list that was made": [0, 2, 4],
        "an iterator class": [2, 1],
        "an iterator class of results": [2],
    }

    @pipeline
    def body():
        return PLAIN[case]()

    assert list(body()) == bare[case]


def test_a_component_that_returns_a_generator(mode):
    """The cure is the one for a result."""

    @component
    def make(n):
        return count(n)

    @pipeline
    def body():
        return value(make(3)) is not None

    cure = r"the result is a generator, which cannot be pickled.*; return what it gives: a list"
    if mode == "debug":
        with pytest.warns(UserWarning, match=cure):
            assert body()
    else:
        with pytest.raises(NotPicklable, match=cure):
            body()


def test_a_generator_as_an_argument(mode):
    @pipeline
    def body():
        return double(count(3))

    cure = r"x is a generator, which cannot be pickled.*; pass what it gives: a list"
    if mode == "debug":
        with pytest.warns(UserWarning, match=cure), pytest.raises(TypeError):
            body()
    else:
        with pytest.raises(NotPicklable, match=cure):
            body()

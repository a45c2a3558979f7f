"""A component taken from an instance is a bound method, which can be handed on as one."""

import copy
import pickle

import pytest

from pipedeco import component, pipeline


class Scale:
    def __init__(self, factor):
        self.factor = factor

    @component
    def scaled(self, n, plus=0):
        return n * self.factor + plus

    @component
    async def later(self, n):
        return n * self.factor


@component
def applied(fn, n):
    return fn(n)


@component(cache=True)
def mapped(fn, items):
    return [fn(item) for item in items]


def test_it_is_called_submitted_and_has_options(mode):
    @pipeline
    def body():
        scaled = Scale(2).scaled
        first = scaled.submit(1)
        return scaled(2, plus=first), scaled.with_options(priority=1)(3), Scale(3).later(2)

    assert body() == (6, 6, 6)


def test_it_is_an_argument_as_a_bound_method_is(mode):
    @pipeline
    def body():
        method = Scale(3).scaled
        quick = method.with_options(retries=1)
        return applied(method, 2), applied(quick, 3), mapped(method, [1, 2]), mapped(method, [1, 2])

    assert body() == (6, 9, [3, 6], [3, 6])


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda item: pickle.loads(pickle.dumps(item))]
)
def test_a_copy_is_bound_too(duplicate):
    method = duplicate(Scale(4).scaled)
    assert method(2) == 8
    assert method.fn(2) == 8
    assert method.__name__ == "scaled"


def test_what_it_has_not_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing"):
        Scale(1).scaled.nothing  # noqa: B018
    assert not hasattr(Scale(1).scaled, "__length_hint__")

"""Functions that make functions, given to steps and returned by them."""

import operator
from functools import partial, reduce, wraps

from pipedeco import component, pipeline, value


def compose(*functions):
    return reduce(lambda f, g: lambda x: g(f(x)), functions)


def counted(fn):
    @wraps(fn)
    def wrapper(*args):
        wrapper.calls += 1
        return fn(*args)

    wrapper.calls = 0
    return wrapper


@counted
def double(x):
    return 2 * x


def make_scaler(factor, offset=0):
    def scale(x):
        nonlocal offset
        offset += 1
        return factor * x + offset

    return scale


@component
def apply(function, values):
    return [function(x) for x in values]


@component
def choose(name):
    table = {"square": lambda x: x * x, "negate": operator.neg, "half": partial(pow, 2)}
    return table[name]


@component
def count_calls(values):
    before = double.calls
    total = sum(map(double, values))
    return total, double.calls - before


def build(factor):
    @component
    def times(x):
        """Multiply by the factor of the outer function."""
        return factor * x

    @pipeline
    def inner(n):
        print(times.__name__, times.__doc__)
        return sum(times(i) for i in range(n))

    return inner


@pipeline
def main(values):
    chained = compose(make_scaler(3), double, str)
    print(*apply(chained, values))
    print(*apply(choose("square"), values), value(choose("negate"))(5), value(choose("half"))(3))
    total, calls = count_calls(values)
    return total, calls


print(main([1, 2, 3]))
print(build(7)(4))

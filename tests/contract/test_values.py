"""A pipeline gives the value that its undecorated body gives, whatever its functions are like."""

import asyncio
import collections
import dataclasses
import enum
import functools
import gc
import random
import threading
import weakref
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from conftest import wait_for

from pipedeco import ConfigError, StepResult, component, pipeline, runs, value

in_workers = pytest.mark.parametrize("mode", ["local", "remote"], indirect=True)


@component
def echo(x):
    return x


@component
def add(a, b):
    return a + b


# -- the body of DESIGN section 1, with real functions


@component
def load(path: str) -> list[tuple[float, float]]:
    with open(path) as file:
        return [tuple(map(float, line.split(","))) for line in file]


@component
def split(rows: list, test_size: float = 0.2) -> tuple[list, list]:
    rows = random.Random(0).sample(rows, len(rows))
    cut = int(len(rows) * test_size)
    return rows[cut:], rows[:cut]


class Model:
    def __init__(self, slope):
        self.slope = slope

    def __eq__(self, other):
        return type(other) is Model and other.slope == self.slope

    __hash__ = None


@component(retries=2, timeout=600)
def fit(train: list, rounds: int) -> Model:
    slope = 0.0
    for _ in range(rounds):
        slope -= 0.01 * sum(2 * x * (slope * x - y) for x, y in train) / len(train)
    return Model(slope)


@component
def score(model: Model, test: list) -> float:
    return -sum((model.slope * x - y) ** 2 for x, y in test)


@pipeline
def training(path: str, rounds: tuple[int, ...] = (100, 150)) -> Model:
    train, test = split(load(path))
    models = [fit(train, n) for n in rounds]
    scores = [score(m, test) for m in models]
    best = max(range(len(models)), key=lambda i: scores[i])
    return models[best]


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("".join(f"{x / 10},{3 * x / 10 + x % 3 / 100}\n" for x in range(20)))
    return str(path)


def test_the_body_of_the_design(mode, data):
    """The body of DESIGN section 1 gives the same value undecorated and in each mode."""
    plain = training.fn(data, (3, 5))
    assert type(plain) is Model
    assert training(data, (3, 5)) == plain


def test_the_mode_of_one_call(mode, data):
    """`.debug(...)`, `.local(...)` and `.start(...)` give that value too."""
    plain = training.fn(data, (2,))
    assert training.debug(data, rounds=(2,)) == plain
    assert training.local(data, rounds=(2,)) == plain
    assert training.start(data, rounds=(2,)).result(10) == plain


def test_a_component_outside_a_pipeline(mode):
    """A component called outside a pipeline is the bare function, `fn` the function itself."""
    assert add(1, 2) == 3
    assert type(echo([1])) is list
    assert add.fn(1, 2) == 3


# -- what functions may be like


def defaults(a, b=2, *, c=3):
    return a, b, c


def required_keyword(a, *, key):
    return a, key


def positional_only(a, b=5, /, c=6):
    return a, b, c


def variadic(first, *rest, flag=False, **named):
    return first, rest, flag, named


def no_arguments():
    return "none"


def returns_none(x):
    return None


def make_closure(offset):
    def shifted(x):
        return x + offset

    return shifted


def twice(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return [function(*args, **kwargs), function(*args, **kwargs)]

    return wrapper


def unnamed(function):
    """A decorator that does not care for functools.wraps."""

    def wrapper(*args, **kwargs):
        return ("wrapped", function(*args, **kwargs))

    return wrapper


class Scaler:
    factor = 10

    def __init__(self, factor=3):
        self.factor = factor

    def scale(self, x):
        return x * self.factor

    @classmethod
    def scale_class(cls, x):
        return x * cls.factor

    @staticmethod
    def scale_static(x):
        return x * 7

    def __call__(self, x):
        return x * self.factor


def recursive(n):
    return 1 if n < 2 else n * recursive(n - 1)


FORMS = {
    "defaults": (defaults, (1,), {}),
    "defaults overridden": (defaults, (1, 5), {"c": 6}),
    "by name": (defaults, (), {"b": 1, "a": 2}),
    "required keyword": (required_keyword, (1,), {"key": 4}),
    "positional only": (positional_only, (1,), {"c": 4}),
    "variadic": (variadic, (1, 2, 3), {"flag": 4, "other": 5}),
    "no arguments": (no_arguments, (), {}),
    "None": (returns_none, (1,), {}),
    "lambda": (lambda x, y=2: x * y, (4,), {}),
    "closure": (make_closure(10), (4,), {}),
    "bound method": (Scaler(4).scale, (4,), {}),
    "bound class method": (Scaler.scale_class, (4,), {}),
    "static method": (Scaler.scale_static, (4,), {}),
    "callable object": (Scaler(5), (4,), {}),
    "class": (collections.Counter, ("abca",), {}),
    "partial": (functools.partial(variadic, 1, flag=True), (2,), {"k": 3}),
    "partial method": (functools.partial(Scaler(2).scale), (4,), {}),
    "built-in": (len, ([1, 2],), {}),
    "built-in method": ("a-b".split, ("-",), {}),
    "type method": (str.upper, ("ab",), {}),
    "numpy function": (np.hypot, (3.0, 4.0), {}),
    "under a decorator": (twice(defaults), (1,), {"b": 3}),
    "under one without wraps": (unnamed(defaults), (1,), {}),
    "under a cache": (functools.lru_cache(recursive), (5,), {}),
    "recursive": (recursive, (5,), {}),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_functions(mode, form):
    """Whatever can be called can be a component, and its parameters are as they were."""
    function, args, kwargs = FORMS[form]
    made = component(function)

    @pipeline
    def body():
        return made(*args, **kwargs)

    assert body() == function(*args, **kwargs)


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_functions_given_results(mode, form):
    """The same with a StepResult in the place of each argument."""
    function, args, kwargs = FORMS[form]
    made = component(function)

    @pipeline
    def body():
        return made(*[echo(x) for x in args], **{name: echo(x) for name, x in kwargs.items()})

    assert body() == function(*args, **kwargs)


@twice
@component
def below_a_decorator(x):
    return x + 1


def test_a_component_under_another_decorator(mode):
    """A decorator above @component wraps the component: here its function makes two steps."""

    @pipeline
    def body(x):
        return below_a_decorator(x)

    run = body.start(1)
    assert run.result(10) == [2, 2]
    assert list(run.steps) == ["below_a_decorator", "below_a_decorator-2"]


@component
@twice
def above_a_decorator(x):
    return x + 1


def test_a_component_above_another_decorator(mode):
    """A decorator below @component is part of the step."""

    @pipeline
    def body(x):
        return above_a_decorator(x)

    run = body.start(1)
    assert run.result(10) == [2, 2]
    assert list(run.steps) == ["above_a_decorator"]


class Shop:
    rate = 2

    def __init__(self, discount):
        self.discount = discount

    @component
    def price(self, x):
        return x * self.rate - self.discount

    @classmethod
    @component
    def class_price(cls, x):
        return x * cls.rate

    @staticmethod
    @component
    def static_price(x):
        return x * 100

    @pipeline
    def total(self, x):
        return self.price(x) + Shop.class_price(x) + Shop.static_price(x)


def test_methods_as_components_and_pipelines(mode):
    """Methods, class methods and static methods may be decorated, pipelines among them."""
    assert Shop(1).total(5) == 9 + 10 + 500
    assert Shop(1).total.start(5).result(10) == 519
    assert Shop(1).price(5) == 9


def test_a_method_inherited(mode):
    """A component inherited from a base class gets the subclass's instance."""

    class Bargain(Shop):
        rate = 1

    @pipeline
    def body(x):
        return Bargain(3).price(x), Bargain.class_price(x)

    assert body(5) == (2, 5)


def test_a_dataclass_method(mode):
    """A component that is a method of a dataclass defined in a function."""

    @dataclasses.dataclass
    class Line:
        slope: float

        @component
        def at(self, x):
            return self.slope * x

    @pipeline
    def body(x):
        return Line(2.0).at(x)

    assert body(4) == 8.0


def test_nested_functions(mode):
    """Components and pipelines may be defined inside a function, over its variables."""
    offset = 7

    @component
    def shifted(x):
        return x + offset

    @pipeline
    def body(x):
        return shifted(shifted(x))

    assert body(1) == 15


def test_components_that_call_components(mode):
    """Inside a step, components and pipelines are bare functions."""

    @pipeline
    def inner(x):
        return add(x, 1)

    @component
    def outer(x):
        return type(add(x, 1)).__name__, inner(x)

    @pipeline
    def body(x):
        return outer(x)

    run = body.start(1)
    assert run.result(10) == ("int", 2)
    assert list(run.steps) == ["outer"]


async def double_later(x):
    await asyncio.sleep(0)
    return 2 * x


def test_async_components(mode):
    """An async component's step is what awaiting it gives."""
    double = component(double_later)

    @pipeline
    def body(x):
        return double(double(x))

    assert body(3) == 12


def test_an_async_method(mode):
    """The same for a method."""

    class Client:
        @component
        async def get(self, x):
            await asyncio.sleep(0)
            return x + 1

    @pipeline
    def body(x):
        return Client().get(x)

    assert body(3) == 4


# -- control flow in the body


def test_the_body_is_the_driver(mode):
    """`if`, `while`, `for` and comprehensions on results go as they would undecorated."""

    @pipeline
    def collatz(n):
        path = [n]
        while path[-1] != 1:
            last = path[-1]
            path.append(add(last, last * 2 + 1) if last % 2 else echo(last // 2))
        return [x for x in path if x > 1]

    assert collatz(6) == collatz.fn(6) == [6, 3, 10, 5, 16, 8, 4, 2]


# -- where results stand in arguments


@dataclasses.dataclass
class Pair:
    left: object
    right: object = None


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    item: object


class Named(NamedTuple):
    a: object
    b: object


class Slotted:
    __slots__ = ("item",)

    def __init__(self, item):
        self.item = item


class Reduced:
    def __init__(self, item):
        self.item = item

    def __reduce__(self):
        return Reduced, (self.item,)


class Sized(list):
    """A list with an attribute."""


def sized(item):
    made = Sized([item])
    made.note = item
    return made


NESTINGS = {
    "list": (lambda r: [1, r, [r]], lambda x: (x[1], x[2][0])),
    "tuple": (lambda r: (1, (r,)), lambda x: x[1][0]),
    "dict": (lambda r: {"a": {"b": r}}, lambda x: x["a"]["b"]),
    "set": (lambda r: {r}, list),
    "deque": (lambda r: collections.deque([r]), list),
    "ordered dict": (lambda r: collections.OrderedDict(a=r), lambda x: x["a"]),
    "default dict": (lambda r: collections.defaultdict(list, a=[r]), lambda x: x["a"]),
    "dataclass": (lambda r: Pair(1, Pair(r)), lambda x: x.right.left),
    "frozen dataclass": (lambda r: Frozen([r]), lambda x: x.item),
    "named tuple": (lambda r: Named(r, [r]), lambda x: (type(x).__name__, x.a, x.b)),
    "object": (lambda r: SimpleNamespace(a=[r]), lambda x: x.a),
    "slots": (lambda r: Slotted({"k": r}), lambda x: x.item),
    "reduce": (Reduced, lambda x: x.item),
    "list subclass": (sized, lambda x: (list(x), x.note)),
    "object array": (lambda r: np.array([[r], None], dtype=object)[:1], lambda x: x[0]),
    "partial": (lambda r: functools.partial(max, r), lambda f: f(0)),
    "closure": (lambda r: lambda: r, lambda f: f()),
}


@pytest.mark.parametrize("nesting", NESTINGS)
def test_results_nested_in_arguments(mode, nesting):
    """A StepResult anywhere in an argument is the plain value when the function runs."""
    build, read = NESTINGS[nesting]

    @component
    def consume(x):
        found = read(x)
        return repr(found)

    @pipeline
    def body():
        return consume(build(echo(41)))

    assert body() == consume.fn(build(41))


def test_nested_results_make_edges(mode):
    """A nested StepResult makes an edge like any other."""

    @pipeline
    def body():
        return echo({"deep": [Pair(echo(1))]})

    run = body.start()
    assert run.result(10) == {"deep": [Pair(1)]}
    assert run.graph.edges == [("echo", "echo-2", "data")]


@pytest.mark.parametrize("beside", ["nothing", "a lambda", "a lock"])
def test_nested_results_with_what_plain_pickle_refuses(mode, beside, tmp_path):
    """Whichever pickler carries the argument, results in it make edges and wait for nothing."""
    gate = tmp_path / "gate"
    if mode == "debug":
        gate.touch()
    companions = {"nothing": None, "a lambda": lambda: 1, "a lock": threading.Lock()}

    @component
    def blocked(x):
        wait_for(gate)
        return x

    @component
    def second(pair):
        return pair[1]

    @pipeline
    def body():
        r = blocked([5])
        passed = second([companions[beside], r[0]])
        gate.touch()
        return passed

    run = body.start()
    assert run.result(10) == 5
    assert run.graph.edges == [("blocked", "second", "data")]


def test_one_result_many_times(mode):
    """A StepResult that stands several times in an argument is one object there."""

    @component
    def same(x, y):
        return x[0] is x[1] and x[0] is y

    @pipeline
    def body():
        r = echo([1])
        return same([r, r], r)

    assert body() is True


def test_selections_as_arguments(mode):
    """What was selected from a result is passed on as the part."""

    @pipeline
    def body():
        r = echo({"rows": [[1, 2], [3, 4]]})
        return add(r["rows"][0], r["rows"][1][:1])

    assert body() == [1, 2, 3]


def test_a_result_under_its_own_cycle(mode):
    """An argument that contains itself travels with the results in it."""

    @component
    def around(x):
        return x[0] is x, x[1]

    @pipeline
    def body():
        ring = []
        ring += [ring, echo(5)]
        return around(ring)

    assert body() == (True, 5)


# -- what a pipeline returns


RETURNS = {
    "list": lambda r: [r, [r]],
    "tuple": lambda r: (r, (r, 1)),
    "dict": lambda r: {"a": r, "b": {"c": [r]}},
    "set": lambda r: {value(r)},
    "ordered dict": lambda r: collections.OrderedDict(a=r),
    "default dict": lambda r: collections.defaultdict(list, a=[r]),
    "dataclass": lambda r: Pair(r, [Pair(r)]),
    "frozen dataclass": lambda r: Frozen([r]),
    "named tuple": lambda r: Named(r, [r]),
    "list subclass": lambda r: Sized([r]),
}


@pytest.mark.parametrize("form", RETURNS)
def test_results_nested_in_what_is_returned(mode, form):
    """Results at any depth of what a pipeline returns are replaced; types stay."""
    build = RETURNS[form]

    @pipeline
    def body():
        return build(echo(41))

    found = body()
    assert found == build(41)
    assert type(found) is type(build(41))
    assert "StepResult" not in repr(found)


def test_a_plain_return_is_the_very_object(mode):
    """What holds no result is returned as it is."""
    kept = {"list": [1, (2,)], "pair": Pair(1)}

    @pipeline
    def body():
        echo(1)
        return kept

    assert body() is kept


def test_a_cycle_in_what_is_returned(mode):
    """A value that contains itself may be returned, from a body and from a step."""

    @component
    def ring():
        made = [1]
        made.append(made)
        return made

    @pipeline
    def from_step():
        return ring()

    @pipeline
    def from_body():
        echo(1)
        return ring.fn()

    for found in (from_step(), from_body()):
        assert found[1] is found


def test_none(mode):
    """A result that is None is a value like any other, and is passed on as None."""

    @pipeline
    def body():
        nothing = returns(None)
        return echo([nothing]), value(nothing) is None, value(nothing)

    @component
    def returns(x):
        return x

    assert body() == ([None], True, None)


# -- large values


@component
def make_array(n):
    return np.arange(n, dtype=np.float64)


@component
def total(array):
    return float(array.sum()), array.flags.writeable


@component
def zeroed(array):
    before = float(array.sum())
    array[:] = 0
    return before, float(array.sum())


N = 131_072  # of 8 bytes: 1 MB


def test_large_arrays(mode):
    """A 1 MB array goes through steps, arrives whole and writable, and leaves the pipeline."""

    @pipeline
    def body():
        made = make_array(N)
        return made, total(made), total(echo(made)), total(echo([made])[0])

    made, *totals = body()
    expected = np.arange(N, dtype=np.float64)
    assert totals == [(expected.sum(), True)] * 3
    assert np.array_equal(made, expected)
    made += 1  # the caller's own


@in_workers
def test_a_change_of_a_large_argument_is_seen_by_nobody_else(mode):
    """A consumer may write to its array; other steps, the body and the record do not see it."""

    @pipeline
    def body():
        made = make_array(N)
        first = zeroed(made)
        second = zeroed.with_options(depends_on=[first])(made)
        third = total.with_options(depends_on=[second])(made)
        return first, second, third, made

    run = body.start()
    first, second, third, made = run.result(10)
    expected = float(N * (N - 1) / 2)
    assert first == second == (expected, 0.0)
    assert third == (expected, True)
    assert made.sum() == expected
    assert run.steps["make_array"].result().sum() == expected


def test_large_plain_values(mode):
    """Large values without buffers travel as well: text, bytes, lists, as argument and result."""
    big = {"text": "ü" * 200_000, "bytes": b"x" * 300_000, "list": list(range(50_000))}

    @pipeline
    def body():
        return echo(echo(big))

    assert body() == big


def test_a_large_array_from_the_body(mode):
    """An array made by the body travels whole."""

    @pipeline
    def body():
        return total(np.arange(N, dtype=np.float64))

    assert body() == (N * (N - 1) / 2, True)


def test_an_array_that_is_not_contiguous(mode):
    """Views with strides arrive equal, in the same order of memory or not."""

    @pipeline
    def body():
        made = np.arange(N, dtype=np.float64).reshape(256, -1)
        return echo(made.T[::3]), echo(made[:, ::2])

    made = np.arange(N, dtype=np.float64).reshape(256, -1)
    first, second = body()
    assert np.array_equal(first, made.T[::3])
    assert np.array_equal(second, made[:, ::2])


# -- arguments are taken at the call


def test_arguments_are_taken_at_the_call(mode):
    """What the body does to an argument after the call does not reach the step."""

    @pipeline
    def body():
        rows = [1]
        first = add(rows, [0])
        rows.append(2)
        second = add(rows, [0])
        rows.clear()
        return first, second

    assert body() == ([1, 0], [1, 2, 0])


def test_a_large_argument_is_taken_at_the_call(mode):
    """The same for an array that travels as a file."""

    @pipeline
    def body():
        array = np.ones(N)
        first = total(array)
        array[:] = 2
        return first, total(array)

    assert body() == ((N, True), (2 * N, True))


def test_results_in_a_list_that_grows(mode):
    """The results in a list are those that it held at the call."""

    @pipeline
    def body():
        found = []
        totals = []
        for i in range(3):
            found.append(echo(i))
            totals.append(counted(found))
        return totals

    @component
    def counted(x):
        return len(x), sum(x)

    assert body() == [(1, 0), (2, 1), (3, 3)]


# -- wrong arguments

WRONG = {
    "missing": ((), {}),
    "too many": ((1, 2, 3), {}),
    "unknown name": ((1,), {"b": 1, "nope": 2}),
    "given twice": ((1, 2), {"a": 3}),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_arguments(mode, wrong):
    """Arguments that do not fit raise TypeError at the call, as the function would; no step."""
    args, kwargs = WRONG[wrong]

    @pipeline
    def body():
        with pytest.raises(TypeError, match=r"^add\(\) "):
            add(*args, **kwargs)
        return echo(1)

    run = body.start()
    assert run.result(10) == 1
    assert list(run.steps) == ["echo"]


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_arguments_of_a_pipeline(mode, wrong):
    """The same for a pipeline, and no run begins."""
    args, kwargs = WRONG[wrong]

    @pipeline
    def body(a, b):
        return add(a, b)

    with pytest.raises(TypeError, match=r"body\(\) "):
        body(*args, **kwargs)
    assert runs() == []


# -- classes keep their identity


class Colour(enum.Enum):
    RED = 1


def test_enum_members_are_themselves(mode):
    """A member of an enumeration is the same object after its way through steps."""

    @component
    def is_red(colour):
        return colour is Colour.RED, colour

    @pipeline
    def body():
        return is_red(echo(Colour.RED))

    known, found = body()
    assert known is True
    assert found is Colour.RED


def test_instances_of_local_classes(mode):
    """Instances of a class defined in a function travel, and are instances of it here."""

    class Local:
        def __init__(self, x):
            self.x = x

    @component
    def make(x):
        return Local(x)

    @component
    def read(item):
        return item.x, type(item).__name__

    @pipeline
    def body():
        made = make(3)
        return made, read(made)

    made, found = body()
    assert found == (3, "Local")
    assert made.x == 3


def test_functions_as_values(mode):
    """Functions, lambdas, components and partials may be arguments and results."""

    @component
    def apply(function, x):
        return function(x)

    @component
    def maker(n):
        return lambda x: x + n

    @pipeline
    def body():
        return apply(recursive, 4), apply(lambda x: -x, 4), apply(maker(10), 4), apply(echo, 4)

    assert body() == (24, -4, 14, 4)


def test_a_step_result_has_no_public_constructor(mode):
    """Only calls make results."""
    with pytest.raises(TypeError):
        StepResult(1)


def test_async_pipelines_are_refused():
    """An async pipeline is refused with a sentence."""

    async def body():
        return 1

    with pytest.raises(ConfigError, match="is async; make it a plain function"):
        pipeline(body)


class Heavy:
    """Of which nothing travels."""

    def __getstate__(self):
        return {}


@component
def weigh(heavy):
    return 1


@pipeline
def let_go():
    heavy = Heavy()
    seen = weakref.ref(heavy)
    result = weigh(heavy)
    del heavy
    result.result()
    gc.collect()
    return seen() is None


def test_an_argument_is_let_go_when_its_step_has_ended(mode):
    """Nothing of ours keeps it alive."""
    assert let_go() is True

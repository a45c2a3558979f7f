"""Whatever the graph and whatever the arguments, every mode gives what plain evaluation gives."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipedeco import component, pipeline, value

in_workers = pytest.mark.parametrize("mode", ["local", "remote"], indirect=True)

few = settings(
    max_examples=20,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@component
def constant(x):
    return x


@component
def add(a, b):
    return a + b


@component
def multiply(a, b):
    return a * b % 1_000_003


@component
def total(parts):
    return sum(parts)


@component
def both(a, b) -> tuple[int, int]:
    return a, b


@component
def refuse(text, *_):
    raise ValueError(text)


@component
def identity(x, *rest, **named):
    return x, rest, named


# -- random graphs

numbers = st.integers(-100, 100)
picks = st.integers(0, 10**6)
nodes = st.one_of(
    st.tuples(st.just("constant"), numbers),
    st.tuples(st.sampled_from(["add", "multiply", "both", "read"]), picks, picks),
    st.tuples(st.just("total"), st.lists(picks, max_size=4)),
)
graphs = st.lists(nodes, min_size=1, max_size=12)


def make(node, made):
    """One node over those made before; each pick is one of them, or a plain number."""

    def pick(i):
        return made[i % len(made)] if made else i % 7

    kind, *rest = node
    if kind == "constant":
        return constant(*rest)
    if kind == "total":
        return total([pick(i) for i in rest[0]])
    a, b = map(pick, rest)
    if kind == "both":
        first, second = both(a, b)
        return add(second, first)
    if kind == "read":
        return constant(b) if a > 0 else multiply(a, b)
    return {"add": add, "multiply": multiply}[kind](a, b)


@pipeline
def evaluate(graph):
    made = []
    for node in graph:
        made.append(make(node, made))
    return made


@few
@given(graph=graphs)
def test_random_graphs(mode, graph):
    """A random graph of arithmetic, with branches on values, gives what it gives undecorated."""
    assert evaluate(graph) == evaluate.fn(graph)


# -- random graphs with failures

failing = st.lists(st.tuples(st.booleans(), st.lists(picks, max_size=3)), min_size=1, max_size=10)


@pipeline
def evaluate_failing(graph):
    """Each node fails, or sums up some before it; what reading each of them gives."""
    made = []
    for i, (fails, sources) in enumerate(graph):
        inputs = [made[s % i] for s in sources] if i else []
        made.append(refuse(str(i), inputs) if fails else total(inputs))
    return [outcome(r) for r in made]


def outcome(r):
    try:
        return value(r)
    except ValueError as error:
        return str(error)


def roots(graph):
    """For each node the failures that it depends on; itself where it is the first to fail."""
    found = []
    for i, (fails, sources) in enumerate(graph):
        above = set().union(*[found[s % i] for s in sources]) if i else set()
        found.append(above or ({str(i)} if fails else set()))
    return found


@in_workers
@few
@given(graph=failing)
def test_random_failures(mode, graph):
    """A step has a value unless one that it depends on failed; reading raises such a failure."""
    for found, expected in zip(evaluate_failing(graph), roots(graph), strict=True):
        assert (found in expected) if expected else found == 0


# -- random nested arguments

REF = "ref"
leaves = st.one_of(
    st.none(), st.booleans(), numbers, st.text(max_size=3), st.binary(max_size=3),
    st.tuples(st.just(REF), st.integers(0, 2)),
)  # fmt: skip
structures = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=2), inner, max_size=3),
    ),
    max_leaves=8,
)


def filled(structure, refs):
    """The structure with `refs[i]` in the place of each reference."""
    if isinstance(structure, tuple) and structure[0] == REF:
        return refs[structure[1]]
    if isinstance(structure, list | tuple):
        return type(structure)([filled(part, refs) for part in structure])
    if isinstance(structure, dict):
        return {key: filled(part, refs) for key, part in structure.items()}
    return structure


@pipeline
def nested(first, rest, named):
    refs = [constant(7), constant([1, {"a": 2}]), constant(None)]
    refs[1] = refs[1][1]["a"]
    structure = filled(first, refs)
    more = [filled(part, refs) for part in rest]
    got = identity(structure, *more, **{k: filled(v, refs) for k, v in named.items()})
    return got, structure, value(more)


names = st.sampled_from(["k", "other", "self"])


@few
@given(
    first=structures,
    rest=st.lists(structures, max_size=2),
    named=st.dictionaries(names, structures, max_size=2),
)
def test_random_nested_arguments(mode, first, rest, named):
    """Results anywhere in arguments, in what is returned and in what `value` gets are values."""
    assert nested(first, rest, named) == nested.fn(first, rest, named)

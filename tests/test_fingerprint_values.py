"""Fingerprints of values: equal for equal ones everywhere, different for different ones."""

import base64
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import io
import os
import pathlib
import pickle
import random
import re
import sqlite3
import subprocess
import sys
import textwrap
import threading
import types

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipedeco.fingerprint.changes import same_content
from pipedeco.fingerprint.unproven import Unproven
from pipedeco.fingerprint.values import Fingerprints, file_digest, value_digest
from pipedeco.serialization import pickle_mark

# ---- any nested value

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(), max_size=8),
    st.binary(max_size=8),
    st.complex_numbers(),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.datetimes(timezones=st.just(datetime.UTC) | st.none()),
    st.uuids(),
)
hashable = st.recursive(
    scalars,
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=4),
    max_leaves=4,
)
values = st.recursive(
    scalars | st.sets(hashable, max_size=5),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(hashable, inner, max_size=4),
        st.builds(types.SimpleNamespace, a=inner, b=inner),
        st.builds(collections.deque, st.lists(inner, max_size=3)),
    ),
    max_leaves=12,
)


def strict(value):
    """A value as nested tuples that are equal where types and content are."""
    kind = type(value).__name__
    if isinstance(value, float):
        return kind, "nan" if value != value else value.hex()
    if isinstance(value, complex):
        return kind, strict(value.real), strict(value.imag)
    if isinstance(value, dict):
        pairs = [(strict(key), strict(item)) for key, item in value.items()]
        return kind, tuple(sorted(pairs, key=repr))
    if isinstance(value, set | frozenset):
        return kind, tuple(sorted(map(strict, value), key=repr))
    if isinstance(value, list | tuple | collections.deque):
        return kind, tuple(map(strict, value))
    if isinstance(value, types.SimpleNamespace):
        return kind, strict(vars(value))
    return kind, repr(value)


def shuffled(value, source):
    """An equal value: other objects, and dictionaries and sets filled in another order."""
    kind = type(value)
    if kind in (dict, set, frozenset):
        items = list(value.items() if kind is dict else value)
        source.shuffle(items)
        if kind is dict:
            return {shuffled(k, source): shuffled(v, source) for k, v in items}
        return kind([shuffled(item, source) for item in items])
    if kind in (list, tuple, collections.deque):
        return kind([shuffled(item, source) for item in value])
    if kind is types.SimpleNamespace:
        return kind(**shuffled(vars(value), source))
    return pickle.loads(pickle.dumps(value))


def sample(strategy, count):
    """Some values of a strategy, outside of @given."""
    found = []

    @settings(max_examples=count, database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def collect(value):
        found.append(value)

    collect()
    return found


def in_process(code, *, data=b"", seed="0"):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        input=base64.b64encode(data),
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().split()


def test_equal_values_are_equal_in_every_process():
    """Hash seed, order of insertion, pickling and import order change no digest."""
    batch = sample(values, 200)
    here = [value_digest(value) for value in batch]
    source = random.Random(7)
    for seed, first in ("1", "json"), ("2", "decimal"), ("3", "tblib"):
        data = pickle.dumps([shuffled(value, source) for value in batch])
        there = in_process(
            f"""
            import {first}, base64, pickle, sys
            from pipedeco.fingerprint.values import value_digest
            for value in pickle.loads(base64.b64decode(sys.stdin.buffer.read())):
                print(value_digest(value))
            """,
            data=data,
            seed=seed,
        )
        assert there == here


def test_values_that_differ_have_digests_that_differ():
    """Over all of a batch: equal digests exactly where types and content are equal."""
    batch = sample(values, 400)
    by_digest = {}
    for value in batch:
        by_digest.setdefault(value_digest(value), set()).add(strict(value))
    assert max(map(len, by_digest.values())) == 1
    assert len(by_digest) == len({strict(value) for value in batch})


@settings(max_examples=60)
@given(values, values)
def test_no_structure_is_taken_for_another(one, other):
    """Grouping counts: the same parts in other brackets are another value."""
    wrapped = [[one, other], [[one], other], [one, [other]], [[one, other]], (one, other), [one]]
    assert len({value_digest(value) for value in wrapped}) == len(wrapped)
    assert (value_digest(one) == value_digest(other)) == (strict(one) == strict(other))


@settings(max_examples=60)
@given(values)
def test_nothing_is_changed(value):
    """The value after is the value before."""
    before = strict(value)
    value_digest(value)
    assert strict(value) == before


# ---- types


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Items(list):
    pass


class Unordered(set):
    pass


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Rank(enum.IntEnum):
    RED = 1


class Flag(enum.IntFlag):
    READ = 1
    WRITE = 2


Point = collections.namedtuple("Point", "x y")
Place = collections.namedtuple("Place", "x y")


@dataclasses.dataclass
class Box:
    a: object = None
    b: object = None


@dataclasses.dataclass(frozen=True, slots=True)
class Slots:
    a: object = None
    b: object = None


class Plain:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


UTC = datetime.UTC
WINTER = datetime.datetime(2024, 10, 27, 2, 30)  # noqa: DTZ001 - naive on purpose

DISTINCT = [
    [1, True, 1.0, "1", b"1", decimal.Decimal(1), fractions.Fraction(1), 1 + 0j, Whole(1)],
    [Colour.RED, Colour.BLUE, Rank.RED, Flag.READ, Flag.READ | Flag.WRITE, 1, 3],
    [0, False, 0.0, -0.0, 0j, complex(0.0, -0.0), None, "", b"", (), [], {}, set(), frozenset()],
    [float("nan"), float("inf"), -float("inf"), "nan", complex(float("nan"), 0)],
    ["a", Text("a"), b"a", bytearray(b"a"), memoryview(b"a"), pathlib.PurePosixPath("a")],
    [pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("a"), pathlib.PosixPath("a")],
    [[1, 2], [2, 1], (1, 2), {1, 2}, frozenset({1, 2}), {1: 2}, Items([1, 2]), Unordered([1, 2])],
    [[[1], 2], [[1, 2]], [1, 2], [[1], [2]], [1, [2]], [["1"], 2]],
    [collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1), {"a": 1, "b": 2}],
    [collections.deque([1]), collections.deque([1], 3), collections.Counter([1]), [1]],
    [collections.defaultdict(list), collections.defaultdict(dict), {}, collections.ChainMap({})],
    [Point(1, 2), Place(1, 2), (1, 2), Point(2, 1), Box(1, 2), Slots(1, 2), Plain(a=1, b=2)],
    [2**63, -(2**63), 2**63 - 1, -(2**63) - 1, 10**5000, 10**5000 + 1],
    ["\ud800\udc00", "\U00010000", "\ud800", "\udc00"],
    ["a" * 1024, "a" * 1025, b"a" * 1025, "a" * 1026],
    [range(3), range(1, 3), slice(3), slice(1, 3), (0, 3, 1)],
    [WINTER, WINTER.replace(fold=1), WINTER.replace(tzinfo=UTC), WINTER.date(), WINTER.time()],
    [datetime.timedelta(1), datetime.timedelta(hours=1), 86400],
    [re.compile("a"), re.compile("a", re.IGNORECASE), re.compile(b"a"), "a"],
    [len, max, str.upper, [].append, [1].append, int, list, list[int], list[str], int | str],
    [ValueError(1), KeyError(1), ValueError("1"), OSError(1, "a"), OSError(1, "a", "b")],
    [io.BytesIO(b"a"), io.StringIO("a"), io.BytesIO(b"b")],
    [functools.partial(max, 1), functools.partial(max, 2), functools.partial(min, 1)],
    [Ellipsis, NotImplemented, None, type(None), object],
    [types.MappingProxyType({1: 2}), {1: 2}, types.SimpleNamespace(a=1), {"a": 1}],
    [[float(n) for n in range(99)], list(range(99))],
    [["a"] * 64, ["a"] * 65, ["a"] * 63 + ["b"], tuple(["a"] * 64), [b"a"] * 64],
    [["ab", "c"] * 50, ["a", "bc"] * 50],
    [Box(), Box(1), Box(None, 1), Plain(), Plain(a=None), Plain(a=None, b=None)],
]


@pytest.mark.parametrize("several", DISTINCT, ids=lambda several: repr(several[0])[:20])
def test_types_count(several):
    """Values of different types or contents differ, however alike they compare."""
    digests = [value_digest(value) for value in several]
    assert len(set(digests)) == len(several)
    assert digests == [value_digest(value) for value in several]


def test_an_instant_in_two_zones_differs():
    """Aware datetimes that compare equal are told apart by their zones."""
    zoneinfo = pytest.importorskip("zoneinfo")
    moment = datetime.datetime(2024, 1, 1, tzinfo=UTC)
    berlin = moment.astimezone(zoneinfo.ZoneInfo("Europe/Berlin"))
    same = moment.astimezone(zoneinfo.ZoneInfo.no_cache("Europe/Berlin"))
    fixed = moment.astimezone(datetime.timezone(datetime.timedelta(hours=1)))
    assert moment == berlin == fixed
    assert len({value_digest(value) for value in (moment, berlin, fixed)}) == 3
    assert value_digest(berlin) == value_digest(same)


def test_nan_equals_nan():
    """One nan: the sign that arithmetic gives it is the processor's business."""
    infinity = float("inf")
    others = [float("nan"), float("-nan"), infinity - infinity]
    assert len({value_digest(value) for value in others}) == 1
    assert len({value_digest([*range(99), value]) for value in others}) == 1
    assert len({value_digest([0.5] * 99 + [value]) for value in others}) == 1


def test_a_position_in_a_stream_counts():
    """What a function would read next is part of a stream in memory."""
    stream = io.BytesIO(b"abc")
    before = value_digest(stream)
    assert value_digest(stream) == before
    assert stream.tell() == 0
    stream.read(1)
    assert value_digest(stream) != before


# ---- sharing and recursion


def test_sharing_does_not_count():
    """[x, x] equals [x, a copy of x], and what is shared often is done once."""
    part = [[1], {"a": [2]}]
    copy = pickle.loads(pickle.dumps(part))
    assert value_digest([part, part]) == value_digest([part, copy])
    shared = [Plain(a=1)]
    for _ in range(200):
        shared = [shared, shared]
    assert value_digest(shared) == value_digest(shared)


def ring(*names):
    """Objects that lead to each other in a circle, and know who leads to them."""
    members = [Plain(name=name) for name in names]
    for before, member in zip([members[-1], *members], members, strict=False):
        before.next, member.before = member, before
    return members[0]


def test_values_that_contain_themselves():
    """They have digests: equal for the same structure, and different for another."""
    one, other = [1], [1]
    one.append(one)
    other.append(other)
    longer = [1, [1]]
    longer[1].append(longer)
    keyed = {}
    keyed["me"] = keyed
    values = [one, [one, 2], [2, one], keyed, [keyed], ring("a"), ring("a", "b"), ring("a", "c")]
    digests = [value_digest(value) for value in values]
    assert len(set(digests)) == len(values)
    assert value_digest(other) == digests[0] == value_digest(longer)
    assert digests == [value_digest(pickle.loads(pickle.dumps(value))) for value in values]


def test_a_ring_is_the_same_from_wherever_it_was_reached():
    """The place of entry names a member, not the other members."""
    first = ring("a", "b", "c")
    assert value_digest(first.next) == value_digest(ring("b", "c", "a"))
    assert value_digest([first, first.next]) == value_digest([first, ring("b", "c", "a")])


def test_many_objects_that_all_know_each_other_do_not_take_for_ever():
    """Paths between them are without number; each object is opened once."""
    members = [Plain(name=i) for i in range(60)]
    for member in members:
        member.others = set(members)
    turned = members[::-1]
    assert value_digest(members) != value_digest(turned)
    assert value_digest(set(members)) == value_digest(set(turned))


@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: {"k": x}, lambda x: Plain(a=x)])
def test_deep_nesting(wrap):
    """Twenty thousand levels need no stack."""

    def tower(bottom):
        value = bottom
        for _ in range(20_000):
            value = wrap(value)
        return value

    assert value_digest(tower([1])) == value_digest(tower([1])) != value_digest(tower([2]))


# ---- objects


class Custom:
    def __init__(self, content, noise):
        self.content = content
        self.noise = noise

    def __pipedeco_fingerprint__(self):
        return self.content


class Hostile:
    """Objects whose own methods must not be asked."""

    def __init__(self, content):
        self.content = content

    def __eq__(self, other):
        raise AssertionError("compared")

    def __hash__(self):
        raise AssertionError("hashed")

    def __repr__(self):
        raise AssertionError("printed")


class Meta(type):
    __hash__ = None

    def __eq__(cls, other):
        raise AssertionError("compared")


class OfMeta(metaclass=Meta):
    pass


def test_an_object_is_its_class_and_state():
    """Attributes count by name, in whatever order they were set."""
    one, other = Plain(a=1, b=[2]), Plain(b=[2], a=1)
    assert value_digest(one) == value_digest(other)
    assert value_digest(one) != value_digest(Plain(a=1, b=[3]))
    assert value_digest(Box(1)) != value_digest(Plain(a=1, b=None))
    extra = Box(1)
    extra.hidden = 2
    assert value_digest(extra) != value_digest(Box(1))
    assert value_digest(Slots(1)) == value_digest(Slots(1)) != value_digest(Slots(2))


def test_a_class_says_what_counts():
    """`__pipedeco_fingerprint__` stands for the object."""
    assert value_digest(Custom([1], "x")) == value_digest(Custom([1], "y"))
    assert value_digest(Custom([1], "x")) != value_digest(Custom([2], "x"))
    assert value_digest(Custom([1], "x")) != value_digest([1])


def test_methods_of_the_user_are_not_called():
    """Neither equality nor hash nor repr, nor those of a metaclass."""
    assert value_digest(Hostile(1)) != value_digest(Hostile(2))
    assert value_digest([OfMeta(), OfMeta]) == value_digest([OfMeta(), OfMeta])
    with pytest.raises(Unproven, match=r"^value\[0\]\.content is a _thread\.lock"):
        value_digest([Hostile(threading.Lock())])


def test_a_registered_type():
    """A registry fingerprints types of others, exact or with their subclasses."""
    registry = Fingerprints()
    registry.register(f"{__name__}.Plain", lambda value: value.a)
    assert value_digest(Plain(a=1, b=1), registry=registry) == value_digest(
        Plain(a=1, b=2), registry=registry
    )
    assert value_digest(Plain(a=1, b=1)) != value_digest(Plain(a=1, b=2))
    registry.register(list, len, subclasses=True)
    assert value_digest(Items([1]), registry=registry) == value_digest(
        Items([2]), registry=registry
    )


def test_code_is_asked_for_functions_and_classes_of_the_user():
    """Not for what is Python's own; without `code_digest`, local code is not proven."""
    asked = []

    def code(found):
        asked.append(found)
        return "code"

    local = lambda: 1  # noqa: E731
    value = [Plain(a=local), functools.partial(ring, max), collections.defaultdict(list)]
    value_digest(value, code_digest=code)
    assert sorted(asked, key=repr) == sorted([Plain, local, ring], key=repr)
    with pytest.raises(Unproven, match=r"value\[0\]\.a is a function"):
        value_digest(value)


def test_an_exception_is_what_it_says_and_its_cause():
    """Not its traceback."""

    def raised(cause):
        try:
            raise ValueError("x") from cause
        except ValueError as error:
            return error

    assert value_digest(raised(KeyError(1))) == value_digest(raised(KeyError(1)))
    assert value_digest(raised(KeyError(1))) != value_digest(raised(KeyError(2)))
    assert value_digest(raised(None)) == value_digest(ValueError("x"))


# ---- what is not proven


class Failing:
    def __reduce_ex__(self, protocol):
        raise RuntimeError("not today")


class FailingState:
    def __getstate__(self):
        raise RuntimeError("no state")


class FailingHook:
    def __pipedeco_fingerprint__(self):
        raise RuntimeError("no hook")


def unproven():
    conn = sqlite3.connect(":memory:")
    conn.close()
    stream = open(os.devnull)  # noqa: SIM115 - closed below
    stream.close()
    return [
        ([{"model": Plain(conn=conn)}], r"^value\[0\]\['model'\]\.conn is a sqlite3\.Connection"),
        (Point(1, threading.Lock()), r"^value\.y is a _thread\.lock"),
        (Box(1, stream), r"^value\.b is a _io\.TextIOWrapper"),
        ((i for i in [1]), r"^value is a generator"),
        ({"t": threading.Thread()}, r"^value\['t'\] is a threading\.Thread"),
        ([object()], r"^value\[0\] is an object"),
        (Items([lambda: 1]), r"^value\[0\] is a function"),
        ({Plain(a=stream): 1}, r"^value\.keys\(\)\[0\]\.a is a _io"),
        ({threading.Lock()}, r"^value\.<element 0> is a _thread\.lock"),
        (Custom([stream], 1), r"^value\.__pipedeco_fingerprint__\(\)\[0\] is a _io"),
        (ValueError(stream), r"^value\.args\[0\] is a _io"),
        (Box(Failing()), r"^value\.a is a .*Failing.*RuntimeError: not today"),
        (FailingState(), r"no state"),
        (FailingHook(), r"no hook"),
    ]


@pytest.mark.parametrize("index", range(14))
def test_what_is_not_proven_says_where_it_is(index):
    """The message begins with the path to the culprit."""
    value, message = unproven()[index]
    with pytest.raises(Unproven, match=message):
        value_digest(value)


def test_the_value_has_the_name_that_it_is_given():
    """As in a message about a step's arguments."""
    with pytest.raises(Unproven, match=r"^args\[1\] is a _thread\.lock"):
        value_digest((1, threading.Lock()), what="args")


class Endless:
    def __pipedeco_fingerprint__(self):
        return Endless()


def test_a_reduction_without_an_end_is_not_proven(monkeypatch):
    """Whoever makes a new object of its own class for each is stopped."""
    monkeypatch.setattr("pipedeco.fingerprint.values._DEEPEST", 1000)
    with pytest.raises(Unproven, match="1,000 levels deep"):
        value_digest(Endless())


# ---- packages that stay out


def test_no_package_is_imported():
    """Fingerprinting what has nothing to do with numpy does not import it."""
    found = in_process(
        """
        import sys, datetime, dataclasses
        from pipedeco.fingerprint.values import value_digest
        value_digest([1, {"a": datetime.date(2020, 1, 1)}, range(3), dataclasses.Field])
        print(*{name.partition(".")[0] for name in sys.modules})
        """
    )
    assert not {"numpy", "pandas", "polars", "pyarrow", "torch", "scipy", "pydantic"} & set(found)


# ---- packages


def test_arrays():
    """Type, shape and content count, and the order of the axes in memory; gaps do not."""
    np = pytest.importorskip("numpy")
    array = np.arange(24.0).reshape(2, 3, 4)
    same = [
        (array[:, ::2], array[:, ::2].copy()),
        (array.T, array.T.copy(order="K")),
        (np.array([1, "a", [2]], dtype=object), np.array([1, "a", [2]], dtype=object)),
        (np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2], mask=[0, 1])),
        (np.random.default_rng(1), np.random.default_rng(1)),
        (np.random.RandomState(1), np.random.RandomState(1)),
    ]
    for one, other in same:
        assert value_digest(one) == value_digest(other)
    different = [
        array, array.T, array.astype("f4"), array.astype(">f8"), array.ravel(), array.tolist(),
        -array, np.zeros((0, 3)), np.zeros((3, 0)), np.array(1), np.int64(1), np.int32(1), 1,
        np.float64(1), 1.0, np.array(["2020"], "M8[D]"), np.array(["2020"], "M8[s]"),
        np.array([0.0]), np.array([-0.0]), np.array([1], dtype=object), np.dtype("f8"),
        np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2]), np.array([1, 2]), np.float64,
        np.random.default_rng(1), np.random.default_rng(2), np.sin, np.cos,
    ]  # fmt: skip
    assert len({value_digest(value) for value in different}) == len(different)
    del different[3]  # numpy's pickle turns the bytes round
    for value in different:
        assert value_digest(pickle.loads(pickle.dumps(value))) == value_digest(value)


def test_what_stands_for_a_missing_text_counts():
    """None, which is also the lack of it in other places, too."""
    np = pytest.importorskip("numpy")
    kinds = [np.dtypes.StringDType(), np.dtypes.StringDType(na_object=None)]
    kinds += [np.dtypes.StringDType(na_object=float("nan")), np.dtypes.StringDType(coerce=False)]
    values = [*kinds, *(np.array(["a", "b"], dtype=kind) for kind in kinds)]
    assert len({value_digest(value) for value in values}) == len(values)


class Tensor:
    """As much of torch.Tensor as is looked at, on an array of numpy."""

    __module__ = "torch"
    is_meta = is_quantized = requires_grad = False
    is_leaf = True
    grad = None
    layout = "strided"
    device = types.SimpleNamespace(type="cpu")

    def __init__(self, array):
        self._array = array
        self.shape = array.shape
        self.dtype = array.dtype

    @property
    def __dict__(self):
        return {}

    def detach(self):
        return self

    resolve_conj = resolve_neg = cpu = detach

    def contiguous(self):
        return Tensor(self._array.copy(order="C"))

    def is_contiguous(self):
        return self._array.flags.c_contiguous

    def stride(self):
        return tuple(step // self._array.itemsize for step in self._array.strides)

    def numel(self):
        return self._array.size

    def element_size(self):
        return self._array.itemsize

    def data_ptr(self):
        return self._array.ctypes.data


def test_the_strides_of_a_tensor_count(monkeypatch):
    """`view()` of a transposed one fails, of its copy it does not."""
    np = pytest.importorskip("numpy")
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(strided="strided"))
    array = np.arange(6.0).reshape(2, 3)
    turned = np.ascontiguousarray(array.T)
    one, other = Tensor(turned.T), Tensor(array)
    assert value_digest(other) == value_digest(Tensor(array.copy()))
    assert value_digest(one) != value_digest(other)
    assert value_digest(one) == value_digest(Tensor(turned.copy().T))
    column = np.arange(3.0).reshape(3, 1)
    assert value_digest(Tensor(column)) == value_digest(Tensor(np.asfortranarray(column)))


def test_what_lies_between_the_fields_of_an_array_does_not_count():
    """Nor does what fills a long double."""
    np = pytest.importorskip("numpy")
    clean = np.zeros(3, dtype=np.dtype([("a", "i1"), ("b", "f8")], align=True))
    dirty = clean.copy()
    dirty.view("u1").reshape(3, -1)[:, 1:8] = 7
    assert value_digest(clean) == value_digest(dirty)
    assert value_digest(clean[0]) == value_digest(dirty[0])
    long = np.ones(3, "g")
    if np.finfo("g").nmant == 63:
        other = long.copy()
        other.view("u1").reshape(3, -1)[:, 10:] = 7
        assert value_digest(long) == value_digest(other)


def test_a_mapped_array_equals_one_in_memory(tmp_path):
    """Larger than one piece, and not contiguous."""
    np = pytest.importorskip("numpy")
    array = np.arange(6_000_000.0).reshape(3, -1)
    np.save(tmp_path / "array.npy", array)
    mapped = np.load(tmp_path / "array.npy", mmap_mode="r")
    assert value_digest(mapped) == value_digest(array)
    assert value_digest(np.asfortranarray(array)) != value_digest(array)
    assert value_digest(array[:, ::2]) == value_digest(array[:, ::2].copy())


def test_a_forked_child_hashes_a_large_array():
    """The threads of the parent's hash are not waited for in a child, which has none of them."""
    pytest.importorskip("numpy")
    if not hasattr(os, "fork"):
        pytest.skip("no fork")
    found = in_process(
        """
        import os, signal
        import numpy
        from pipedeco.fingerprint.values import value_digest
        array = numpy.zeros(4_000_000)
        digest = value_digest(array)
        child = os.fork()
        if not child:
            signal.alarm(10)
            os._exit(value_digest(array) != digest)
        print(os.waitpid(child, 0)[1])
        """
    )
    assert found == ["0"]


def test_frames():
    """Columns, types, index and attrs count; blocks do not."""
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {
            "whole": [1, 2, 3],
            "text": ["x", "y", None],
            "kind": pd.Categorical(["u", "v", "u"]),
            "maybe": pd.array([1, None, 3], dtype="Int64"),
            "day": pd.date_range("2020", periods=3, tz="UTC"),
            "other": pd.Series([1.5, 2.5, 3.5]),
        }
    )
    pieces = pd.DataFrame(index=frame.index)
    for name in frame:
        pieces[name] = frame[name].copy()
    back = pickle.loads(pickle.dumps(frame))
    assert value_digest(frame) == value_digest(pieces) == value_digest(back)
    for name in frame:
        assert value_digest(frame[name]) == value_digest(back[name])
        assert value_digest(frame.set_index(name)) == value_digest(back.set_index(name))
    marked = frame.copy()
    marked.attrs["x"] = 1
    different = [
        frame, marked, frame[list(frame)[::-1]], frame.rename(columns={"whole": "WHOLE"}),
        frame.set_index("whole"), frame.iloc[::-1], frame.astype({"whole": "i4"}), frame["whole"],
        frame["whole"].rename("x"), frame["whole"].to_numpy(), pd.Index([1, 2, 3]),
        pd.RangeIndex(1, 4), frame.assign(text=["x", "y", "z"]), pd.Timestamp("2020"),
        pd.MultiIndex.from_product([[1, 2], [3]]), pd.NA, pd.NaT, None,
    ]  # fmt: skip
    assert len({value_digest(value) for value in different}) == len(different)


def test_what_stands_under_a_missing_value_does_not_count():
    """Two arrays of pandas that are equal have equal digests."""
    pd = pytest.importorskip("pandas")
    one, other = (pd.array([1, None], dtype="Int64") for _ in range(2))
    other._data[1] = 9
    assert value_digest(one) == value_digest(other) != value_digest(one.fillna(0))


def test_pydantic_models():
    """Class and fields; dictionaries in them in any order."""
    pydantic = pytest.importorskip("pydantic")
    model = pydantic.create_model("model", a=(int, 1), b=(dict, {}), __module__=__name__)
    globals()["model"] = model
    assert value_digest(model(a=1, b={1: 2, 3: 4})) == value_digest(model(a=1, b={3: 4, 1: 2}))
    assert value_digest(model(a=1)) != value_digest(model(a=2))


# ---- files


def test_a_file_counts_by_its_content(tmp_path):
    """Not by its name, mode or time."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"abc")
    other.write_bytes(b"abc")
    os.utime(other, (0, 0))
    assert file_digest(one) == file_digest(str(other))
    other.write_bytes(b"abd")
    assert file_digest(one) != file_digest(other)


def test_a_folder_counts_by_the_names_and_contents_below_it(tmp_path):
    """In no order of creation; empty folders and links count."""

    def folder(name, **files):
        root = tmp_path / name
        root.mkdir()
        for path, text in files.items():
            target = root / path.replace("__", "/")
            target.parent.mkdir(exist_ok=True)
            target.write_text(text)
        return root

    one = folder("one", a="1", sub__b="2")
    assert file_digest(one) == file_digest(folder("two", sub__b="2", a="1"))
    digests = {file_digest(one), file_digest(folder("three", sub__b="1", a="2"))}
    (one / "empty").mkdir()
    digests.add(file_digest(one))
    (one / "loop").symlink_to(one)
    digests.add(file_digest(one))
    (one / "broken").symlink_to("broken")
    digests.add(file_digest(one))
    digests.add(file_digest(one / "a"))
    assert len(digests) == 6


def test_a_missing_path_is_named(tmp_path):
    """And a pipe, which can be read once, is not proven."""
    with pytest.raises(FileNotFoundError, match=r"counts by its content.*nowhere"):
        file_digest(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Unproven, match="not a regular file"):
        file_digest(tmp_path / "pipe")


# -- what is remembered is no change


def test_a_frame_that_was_read_has_the_same_content():
    """pandas remembers the unit of dates when rows are chosen, and pickles it."""
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"x": [1.0, 2.0]})
    frame["day"] = pd.to_datetime(["2024-01-01", "2024-01-02"])
    frame = pickle.loads(pickle.dumps(frame))
    before = pickle_mark(frame)
    _ = frame[frame.x < 2]
    assert pickle_mark(frame) != before
    assert same_content(before, frame)
    frame.loc[0, "x"] = 9.0
    assert not same_content(before, frame)

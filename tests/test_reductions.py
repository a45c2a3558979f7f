"""What pickle refuses, and what becomes of it: each by pickle, cloudpickle and dill."""

import array
import contextvars
import functools
import gc
import sys
import threading
import weakref

import numpy
import pytest

from pipedeco import NotPicklable
from pipedeco.blobs import BlobStore
from pipedeco.picklers import cloud_pickler_to, dumps_by_dill, loads
from pipedeco.serialization import Pickler, unpack


class Own(threading.local):
    def __init__(self):
        self.x = 7


class Given(threading.local):
    def __init__(self, start):
        self.start = start


class Silent(threading.local):
    """Says by itself how it is pickled."""

    def __reduce__(self):
        return str, ("silent",)


class Registry(weakref.WeakValueDictionary):
    def __init__(self):
        super().__init__()
        self.name = "main"


class Node:
    def __init__(self, parent=None):
        self.children = []
        self.parent = parent and weakref.ref(parent)


class Handle:
    """Heavy here, and nothing of it travels."""

    def __getstate__(self):
        return {}


@functools.singledispatch
def module_level(x):
    return "object"


@pytest.fixture
def blobs(tmp_path):
    return BlobStore(str(tmp_path / "blobs"))


def by_all(blobs):
    def cloud(value):
        import io

        file = io.BytesIO()
        cloud_pickler_to(file, {}, None).dump(value)
        return loads(file.getvalue())

    return {
        "pickle": lambda value: unpack(Pickler(blobs).dump(value, "value"), blobs),
        "cloudpickle": cloud,
        "dill": lambda value: loads(dumps_by_dill(value)),
    }


@pytest.fixture(params=["pickle", "cloudpickle", "dill"])
def carried(request, blobs):
    """Sends a value through one of the picklers, and gives what arrives."""
    return by_all(blobs)[request.param]


def is_free(lock):
    """Whether another thread gets it at once."""
    got = []
    thread = threading.Thread(target=lambda: got.append(lock.acquire(timeout=5)))
    thread.start()
    thread.join()
    return got == [True]


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("make", [threading.Lock, threading.RLock, threading.Condition])
def test_a_lock_arrives_free(carried, make, held):
    """Whoever holds it here: nobody there could let it go."""
    lock = make()
    if held:
        lock.acquire()
    arrived = carried(lock)
    assert type(arrived) is type(lock)
    assert is_free(arrived)


def test_what_is_made_of_locks(carried):
    """A bounded semaphore is whole, an event is as it was, conditions share the lock they shared."""
    semaphore = threading.BoundedSemaphore(2)
    semaphore.acquire()
    event = threading.Event()
    event.set()
    lock = threading.Lock()
    pair = [lock, threading.Condition(lock)]
    arrived, is_set, shared, barrier = carried([semaphore, event, pair, threading.Barrier(3)])
    assert arrived.acquire(blocking=False)
    assert arrived.acquire(blocking=False)
    assert is_set.is_set()
    assert shared[1]._lock is shared[0]
    assert barrier.parties == 3


def test_thread_local_values_are_those_of_a_new_thread(carried):
    """A subclass is made by its `__init__`; one that says how it is pickled is heard."""
    local = threading.local()
    local.x = 1
    own = Own()
    own.x = 8
    plain, made, silent = carried([local, own, Silent()])
    assert not vars(plain)
    assert made.x == 7
    assert silent == "silent"


def test_a_context_variable_keeps_name_default_and_value(carried):
    """Its value is that of the context in which it is sent."""
    unset = contextvars.ContextVar("unset")
    default = contextvars.ContextVar("default", default=(3,))
    held = contextvars.ContextVar("held", default=None)
    held.set({"a": 1})

    def arrive():
        first, second, third = carried([unset, default, held])
        assert [v.name for v in (first, second, third)] == ["unset", "default", "held"]
        assert first.get("none") == "none"
        assert second.get() == (3,)
        assert third.get() == {"a": 1}
        assert contextvars.Context().run(third.get) is None

    contextvars.copy_context().run(arrive)


def test_weak_containers_arrive_with_what_is_alive(carried):
    """Nobody else holds it there, so they do."""
    kept, lost = Node(), Node()
    values = weakref.WeakValueDictionary({"kept": kept, "lost": lost})
    keys = weakref.WeakKeyDictionary({kept: 1, lost: 2})
    both = weakref.WeakSet([kept, lost])
    named = Registry()
    named["kept"] = kept
    del lost
    gc.collect()
    values, keys, both, named = carried([values, keys, both, named])
    gc.collect()
    assert list(values) == ["kept"]
    assert list(keys.values()) == [1]
    assert list(both) == [values["kept"]]
    assert type(named) is Registry
    assert (list(named), named.name) == (["kept"], "main")
    assert list(carried(carried(values))) == ["kept"]


def test_a_weak_reference_is_to_what_travels_with_it(carried):
    """Else it is dead, as nothing there holds what it refers to."""
    tree = Node()
    tree.children.append(Node(tree))
    arrived = carried(tree)
    assert arrived.children[0].parent() is arrived
    gone = weakref.ref(Node())
    assert carried(gone)() is None


@pytest.mark.parametrize(
    "data", [b"abc", bytearray(b"abc"), array.array("d", [1, 2]), array.array("d")]
)
def test_a_memoryview_stays_one(carried, data):
    """With its format, and writable where it was."""
    view = memoryview(data)
    arrived = carried(view)
    assert type(arrived) is memoryview
    assert arrived == view
    assert (arrived.format, arrived.readonly) == (view.format, view.readonly)


@pytest.mark.parametrize(
    "value", [memoryview(numpy.arange(3, dtype=">i8")), memoryview(numpy.zeros((0, 3)))]
)
def test_a_memoryview_that_cannot_be_made_there_is_refused_here(blobs, value):
    """Rather than in a worker, which could tell of it nothing but an error of Python's."""
    with pytest.raises(NotPicklable, match="memoryview"):
        Pickler(blobs).dump(value, "value")


def test_thread_local_values_that_are_made_from_arguments_are_refused(blobs):
    """Nobody is shown these, so nobody there could make it as a new thread finds it."""
    with pytest.raises(NotPicklable, match="Given is made from arguments"):
        Pickler(blobs).dump(Given(3), "value")


def test_an_open_text_file_is_refused(blobs):
    """cloudpickle would send its whole content, as something else."""
    with open(__file__, encoding="utf-8") as file, pytest.raises(NotPicklable, match="open it"):
        Pickler(blobs).dump({"file": file}, "value")


def test_standard_streams_are_those_of_the_process(carried, monkeypatch):
    """So a handler that writes to one does so there."""
    monkeypatch.setattr(sys, "stdout", sys.__stdout__)
    assert carried([sys.stdout])[0] is sys.stdout


def test_a_dispatching_function_without_a_name(carried):
    """With its registry, and what was set on it."""

    def make():
        @functools.singledispatch
        def kind(x):
            return "object"

        kind.register(int, lambda x: "int")
        kind.register(list, lambda x: [kind(item) for item in x])
        kind.more = 3
        return kind

    arrived = carried(make())
    assert arrived([1, "a"]) == ["int", "object"]
    assert (arrived.__name__, arrived.more) == ("kind", 3)
    assert carried(module_level) is module_level


def test_methods_of_a_local_class_that_functools_made(blobs):
    """A cache is empty where it arrives, and the registry whole."""

    class Local:
        @functools.lru_cache(maxsize=3)  # noqa: B019 - as users write it
        def twice(self):
            return 2

        @functools.cached_property
        def area(self):
            return 3

        @functools.singledispatchmethod
        def show(self, x):
            return "object"

        @show.register
        def _(self, x: int):
            return "int"

    Local().twice()
    made = unpack(Pickler(blobs).dump(Local, "value"), blobs)()
    assert type(made).twice.cache_info().currsize == 0
    assert (made.twice(), made.area, made.show(1), made.show("a")) == (2, 3, "int", "object")


def test_a_pickler_lets_go_what_it_has_pickled(blobs):
    """It keeps no object of a value, however small its pickle is."""
    pickler = Pickler(blobs)
    handle = Handle()
    seen = weakref.ref(handle)
    pickler.dump(([handle], {}), "arguments")
    del handle
    gc.collect()
    assert seen() is None

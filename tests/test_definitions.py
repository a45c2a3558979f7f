"""How functions, and what `__main__` defines, are found again in another process."""

import functools
import json
import os
import subprocess
import sys
import textwrap

import pytest

from pipedeco import NotPicklable, component, pipeline
from pipedeco.definitions import FunctionSpec, describe, find, names_of_main, unwrapped


def plain(x):
    return x + 1


def decorator(fn):
    @functools.wraps(fn)
    def wrapper(*args):
        return fn(*args)

    return wrapper


@decorator
@component
def inside(x):
    return x + 2


@component
@decorator
def outside(x):
    return x + 3


class Home:
    @component
    def method(self, x):
        return x + 4

    @staticmethod
    @component
    def static(x):
        return x + 5

    @classmethod
    @component
    def of_class(cls, x):
        return x + 6


def again(spec):
    return find(spec.kind, spec.module, spec.data)


# -- describe and find -----------------------------------------------------------------------


def test_a_function_of_a_module_is_named():
    """Nothing but its name travels, and the very same function is found."""
    spec = describe(plain)
    assert spec == FunctionSpec("name", __name__, b"plain", ())
    assert again(spec) is plain


@pytest.mark.parametrize(
    "fn",
    [
        unwrapped(inside),
        outside.fn,
        Home.__dict__["method"].fn,
        unwrapped(Home.__dict__["static"]),
        unwrapped(Home.__dict__["of_class"].__func__),
    ],
    ids=["inside", "outside", "method", "static", "of_class"],
)
def test_a_component_s_function_is_found_under_its_name(fn):
    """Through decorators on either side, static and class methods."""
    spec = describe(fn)
    assert spec.kind == "name"
    assert again(spec) is fn


def make_closure(n):
    def closure(x):
        return x + n

    return closure


@pytest.mark.parametrize(
    "fn",
    [lambda x: x + 7, make_closure(7), functools.partial(plain, 7)],
    ids=["lambda", "closure", "partial"],
)
def test_a_function_without_a_name_travels_by_value(fn):
    """Lambdas, closures and partials are rebuilt."""
    spec = describe(fn)
    assert spec.kind == "value"
    assert again(spec)(*(() if isinstance(fn, functools.partial) else (1,))) == 8


def test_a_name_that_means_another_function_is_not_used(monkeypatch):
    """A function that was replaced in its module travels by value."""
    former = plain
    monkeypatch.setitem(globals(), "plain", lambda x: None)
    spec = describe(former)
    assert spec.kind == "value"
    assert again(spec)(1) == 2


def test_a_name_that_is_gone():
    """The sentence says which module lacks what."""
    with pytest.raises(NotPicklable, match=f"{__name__} has no gone"):
        find("name", __name__, b"gone")


def test_unwrapped():
    """The function of a component behind wrappers; what is none stays as it is."""
    assert unwrapped(outside) is outside.fn
    assert unwrapped(inside) is inside.__wrapped__.fn
    assert unwrapped(plain) is plain
    assert unwrapped(pipeline(plain)) is plain

    def circle():
        pass

    circle.__wrapped__ = circle
    assert unwrapped(circle) is circle


def test_names_of_main():
    """Names of the code inside count too; attributes do where `__main__` itself is asked for."""

    def outer():
        class Inner:
            path = textwrap

            def inner(self):
                return [json for _ in os.sep]

        return Inner, functools

    def asking():
        return sys.modules["__main__"].anything

    assert names_of_main(outer.__code__) == {"json", "os", "functools", "textwrap", "__name__"}
    assert {"sys", "modules", "anything"} <= names_of_main(asking.__code__)


# -- __main__ --------------------------------------------------------------------------------

HEAD = """
from pipedeco import component, pipeline, value

@pipeline(mode="local", workers=1)
def main(step, *args):
    return value(step(*args))

"""


@pytest.fixture
def script(tmp_path):
    """Runs code as `__main__` and gives what it printed."""

    def run(code):
        path = tmp_path / "script.py"
        path.write_text(HEAD + textwrap.dedent(code))
        done = subprocess.run(
            [sys.executable, path],
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
            env={**os.environ, "PIPEDECO_STORE": str(tmp_path / "store")},
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    return run


CASES = {
    "helpers": """
        import math
        FACTOR = 3
        def deeper(x): return math.floor(x) * FACTOR
        def helper(x, more=deeper): return more(x) + deeper(x)
        @component
        def step(x): return helper(x)
        print(main(step, 2.5))
        # 12
        """,
    "mutual recursion": """
        def even(n): return n == 0 or odd(n - 1)
        def odd(n): return n != 0 and even(n - 1)
        @component
        def step(n): return even(n)
        print(main(step, 10))
        # True
        """,
    "defaults": """
        @component
        def step(x, y=[1, 2], *, z="z"): return f"{x}{y}{z} {step.__doc__}"
        print(main(step, 1))
        # 1[1, 2]z None
        """,
    "another decorator inside": """
        import functools
        def twice(fn):
            @functools.wraps(fn)
            def wrapper(x): return fn(fn(x))
            return wrapper
        @component
        @twice
        def step(x): return x + 1
        print(main(step, 1))
        # 3
        """,
    "another decorator outside": """
        import functools
        def loud(fn):
            @functools.wraps(fn)
            def wrapper(x):
                print("called")
                return fn(x)
            return wrapper
        @loud
        @component
        def step(x): return x + 1
        print(main(step, 1))
        # called
        # 2
        """,
    "lru_cache": """
        import functools
        @functools.lru_cache(maxsize=7)
        def slow(x): return x * x
        slow(1), slow(2)
        @component
        def step(x): return slow(x), slow(x), slow.cache_info()
        print(main(step, 5))
        # (25, 25, CacheInfo(hits=1, misses=1, maxsize=7, currsize=1))
        """,
    "an attribute of a global's name": """
        lines = (line for line in "ab")  # which nothing carries to a worker
        class Db:
            lines = 3
            def more(self): return self.lines + 1
        @component
        def step(db): return db.lines + db.more()
        print(main(step, Db()), next(lines))
        # 7 a
        """,
    "what is taken from __main__ itself": """
        import sys
        RATE = 3
        @component
        def step(x): return sys.modules["__main__"].RATE * x
        print(main(step, 2))
        # 6
        """,
    "a submodule in a decorated helper": """
        import functools
        import xml.dom.pulldom
        @functools.cache
        def name(): return xml.dom.pulldom.__name__
        half = functools.partial(lambda x: (x, xml.dom.pulldom.START_ELEMENT), 1)
        @component
        def step(): return name(), half()
        print(main(step))
        # ('xml.dom.pulldom', (1, 'START_ELEMENT'))
        """,
    "a cached component": """
        import functools
        @component
        @functools.cache
        def step(x): return x * x
        print(main(step, 5))
        # 25
        """,
    "classes": """
        import dataclasses, enum
        class Base:
            def name(self): return type(self).__name__
        class Colour(enum.Enum):
            RED = 1
        @dataclasses.dataclass
        class Point(Base):
            x: int
            colour: Colour = Colour.RED
        @component
        def step(point): return point.name(), point.colour is Colour.RED, Point(point.x + 1)
        name, red, point = main(step, Point(1))
        print(name, red, type(point) is Point, point.colour is Colour.RED, point.x)
        # Point True True True 2
        """,
    "super": """
        class Base:
            def f(self): return 1
        class Child(Base):
            def f(self): return super().f() + 1
        @component
        def step(): return Child().f()
        print(main(step))
        # 2
        """,
    "submodules": """
        import os.path, xml.dom.minidom
        @component
        def step(): return xml.dom.minidom.parseString("<a/>").documentElement.tagName
        print(main(step))
        # a
        """,
    "a global that cannot travel, unused": """
        import sqlite3
        connection = sqlite3.connect(":memory:")
        @component
        def step(): return 1
        print(main(step))
        # 1
        """,
    "a global that cannot travel, used": """
        import sqlite3
        from pipedeco import NotPicklable
        connection = sqlite3.connect(":memory:")
        @component
        def step(): return connection.execute("select 1")
        try:
            main(step)
        except NotPicklable as error:
            print("connection" in str(error), "sqlite3.Connection" in str(error))
        # True True
        """,
    "globals that only dill carries": """
        import threading
        N = 3
        class Odd:
            def __init__(self):
                self.lock = threading.Lock()
                self.f = lambda x: x + N
        def make():
            lock = threading.Lock()
            def closed(x):
                with lock: return x + N
            return closed
        odd, closed = Odd(), make()
        @component
        def step(): return odd.f(1), type(odd) is Odd, closed(2)
        print(main(step))
        # (4, True, 5)
        """,
    "held locks": """
        import threading
        lock, again = threading.Lock(), threading.RLock()
        lock.acquire(), again.acquire()
        class Guarded:
            lock = lock
            own = threading.Condition()
        @component
        def step():
            with lock, again, Guarded.own: return Guarded.lock is lock
        print(main(step))
        # True
        """,
    "a class that knows its instances": """
        import weakref
        class Thing:
            made = weakref.WeakValueDictionary()
            def __init__(self, name): self.made[name] = self
            @classmethod
            def names(cls): return sorted(cls.made)
        kept = [Thing("a"), Thing("b")]
        @component
        def step(): return Thing.names(), type(Thing.made["a"]) is Thing
        print(main(step))
        # (['a', 'b'], True)
        """,
    "methods that functools made": """
        import functools
        class Shape:
            @functools.cached_property
            def area(self): return kind(self)
            @functools.lru_cache
            def twice(self): return 2 * self.area
            @functools.singledispatchmethod
            def show(self, x): return "object"
            @show.register
            def _(self, x: int): return "int"
        @functools.singledispatch
        def kind(x): return 0
        @kind.register
        def _(x: Shape): return 21
        @component
        def step(shape): return shape.twice(), shape.show(1), kind("a"), kind.registry[Shape](shape)
        print(main(step, Shape()))
        # (42, 'int', 0, 21)
        """,
    "context variables": """
        import contextvars
        user = contextvars.ContextVar("user", default="nobody")
        class Session:
            user = user
        @component
        def step(): return user.get(), Session.user is user
        @component
        def later(): return user.get()
        @pipeline(mode="local", workers=1)
        def both():
            user.set("ada")
            return value(step()), value(later())
        print(main(later), both())
        # nobody (('ada', True), 'ada')
        """,
    "a value that holds a function that looks it up": """
        def count(x): return len(handlers) + x
        handlers = [count]
        class Point:
            def again(self): return ORIGIN.x
        ORIGIN = Point()
        ORIGIN.x = 3
        @component
        def step(): return count(1), ORIGIN.again()
        print(main(step))
        # (2, 3)
        """,
    "a registry that making a class fills": """
        REGISTRY = {}
        class Base:
            lock = __import__("threading").Lock()
            def __init_subclass__(cls): REGISTRY[cls.__name__] = cls
        class A(Base): pass
        class B(Base):
            def other(self): return A()
        @component
        def step(): return sorted(REGISTRY), type(REGISTRY["B"]().other()) is A
        print(main(step))
        # (['A', 'B'], True)
        """,
    "code that is called while a value is loaded": """
        FACTOR = [2]
        def helper(x): return x * FACTOR[0]
        def rebuild(x):
            made = Odd()
            made.x = helper(x)
            return made
        class Odd:
            def __reduce__(self): return rebuild, (self.x,)
        odd = Odd()
        odd.x = 3
        @component
        def step(): return odd.x
        print(main(step))
        # 6
        """,
    "a metaclass with a lock": """
        import threading
        class Single(type):
            lock, made = threading.Lock(), {}
            def __call__(cls):
                with cls.lock: return cls.made.setdefault(cls, super().__call__())
        class Settings(metaclass=Single):
            level = 3
        @component
        def step(): return Settings() is Settings(), Settings().level
        print(main(step))
        # (True, 3)
        """,
    "a class without a module": """
        class Odd:
            __module__ = None
            def get(self): return 5
        @component
        def step(odd): return odd.get() + Odd().get()
        print(main(step, Odd()))
        # 10
        """,
    "the name of the module": """
        @component
        def step(): return __name__, step.__module__, step.fn.__qualname__
        print(main(step))
        # ('__main__', '__main__', 'step')
        """,
    "a changed global": """
        LEVEL = 1
        @component
        def step(): return LEVEL
        print(main(step))
        LEVEL = 2
        print(main(step))
        # 1
        # 2
        """,
    "a redefined function": """
        def helper(): return 1
        @component
        def step(): return helper()
        print(main(step))
        def helper(): return 2
        print(main(step))
        # 1
        # 2
        """,
    "global statement": """
        count = 0
        def bump():
            global count
            count += 1
            return count
        @component
        def step(): return bump()
        print(main(step), count)
        # 1 0
        """,
    "annotations of __future__": """
        import typing
        class Pair(typing.NamedTuple):
            a: int
            b: int
        @component
        def step() -> Pair: return Pair(1, 2)
        @pipeline(mode="local", workers=1)
        def both(): return step().b
        print(both())
        # 2
        """,
}


@pytest.mark.parametrize("case", CASES)
def test_what_main_defines_is_there_in_a_worker(script, case):
    """A step uses what its function could use here; the comments say what is printed."""
    code = textwrap.dedent(CASES[case])
    expected = [line[2:] for line in code.splitlines() if line.startswith("# ")]
    assert script(code) == expected


CANNOT = {
    "a global": (
        "def step(): return connection",
        "the global connection is a sqlite3.Connection, which cannot be pickled; make it inside",
    ),
    "in an object": (
        "def step(): return pool.submit",
        "the global pool._work_queue is a _queue.SimpleQueue, which",
    ),
    "in a class": (
        "def step(): return Store()",
        "Store.connection is a sqlite3.Connection, which cannot be pickled; make it inside",
    ),
    "of a closure": (
        "def make():\n    here = connection\n    def step(): return here\n    return step\nstep = make()",
        "'here', which make.<locals>.step closes over, is a sqlite3.Connection, which",
    ),
    "of a method": (
        "class Home:\n    def get(self): return connection\ndef step(): return Home().get()",
        "the global connection is a sqlite3.Connection, which",
    ),
}


@pytest.mark.parametrize("case", CANNOT)
def test_what_cannot_travel_is_named(script, case):
    """In few words, with what to do about it."""
    code, text = CANNOT[case]
    lines = script(
        textwrap.dedent("""
        import sqlite3
        from concurrent.futures import ThreadPoolExecutor
        from pipedeco import NotPicklable
        connection = sqlite3.connect(":memory:")
        pool = ThreadPoolExecutor(1)
        class Store: connection = connection
        """)
        + code
        + textwrap.dedent("""
        try: main(component(step))
        except NotPicklable as error: print(error)
        """)
    )
    assert len(lines) == 1
    assert lines[0].startswith(text)
    assert len(lines[0]) < 300


def test_a_name_that_a_worker_cannot_load(tmp_path):
    """The step's NameError says why, in the worker's next run, too; and no former value is taken."""
    path = tmp_path / "script.py"
    path.write_text(
        HEAD
        + textwrap.dedent("""
        class Odd:
            def __reduce__(self): return needs_a_driver, ()
        def needs_a_driver(): raise OSError("no driver")
        LIMIT = 3
        @component
        def step(x): return LIMIT == x
        print(main(step, 3))
        LIMIT = Odd()
        for _ in range(2):
            try: main(step, 3)
            except NameError as error: print(error, "/", error.__notes__[0])
        """)
    )
    done = subprocess.run(
        [sys.executable, path],
        capture_output=True,
        text=True,
        timeout=40,
        check=True,
        env={**os.environ, "PIPEDECO_STORE": str(tmp_path / "store")},
    )
    why = "LIMIT of __main__ cannot be loaded in this worker: OSError('no driver')"
    told = f"name 'LIMIT' is not defined / {why}"
    assert done.stdout.splitlines() == ["True", told, told]


def test_what_keeps_a_file_with_a_guard_from_being_imported_is_told(script, tmp_path):
    """The cure names the guard, which is there already: so it names the line above it, too."""
    out = script(f"""
        import sqlite3
        from pipedeco import NotPicklable
        db = sqlite3.connect(":memory:")
        log = open({str(tmp_path / "log.txt")!r}, "w")
        @component
        def step(): return db.execute("select 1").fetchone()
        if __name__ == "__main__":
            try:
                main(step)
            except NotPicklable as error:
                print(error.args[0])
        """)
    line = HEAD.count("\n") + 5
    assert f"line {line} of script.py keeps them from importing this one" in out[0]

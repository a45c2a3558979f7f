"""Keys of what popular libraries make: the same in another process, and never those of another thing.

A library that the tests do not install is played by a small package of the same shape.
"""

import json
import os
import subprocess
import sys
import textwrap
import types

import pytest

from pipedeco.fingerprint.unproven import Unproven
from pipedeco.fingerprint.values import value_digest

# ---- packages of the same shape as those that are not installed

STAND_INS = {
    "numba/__init__.py": """
        import functools, uuid
        from numba.core.dispatcher import Dispatcher

        __version__ = "1.0"

        def njit(function=None, **options):
            if function is None:
                return functools.partial(njit, **options)
            return functools.update_wrapper(Dispatcher(function, options), function)
        """,
    "numba/core/__init__.py": "",
    "numba/core/dispatcher.py": """
        import uuid

        class Dispatcher:
            def __init__(self, py_func, targetoptions):
                self.py_func = py_func
                self.targetoptions = targetoptions
                self.locals = {}
                self._can_compile = True
                self.overloads = {}

            def __call__(self, *args):
                self.overloads[tuple(map(type, args))] = object()
                return self.py_func(*args)

            def __reduce__(self):
                return Dispatcher, (uuid.uuid4().hex,)
        """,
    "zarr/__init__.py": '__version__ = "3.1"',
    "zarr/core/__init__.py": "",
    "zarr/core/array.py": """
        class Array:
            def __init__(self, store):
                self.store = store
        """,
    "zarr/storage/__init__.py": "",
    "zarr/storage/_memory.py": """
        class MemoryStore:
            def __init__(self, content):
                self.content = content
        """,
    "zarr/storage/_local.py": """
        class LocalStore:
            def __init__(self, path):
                self.path = path
        """,
    "xarray/__init__.py": '__version__ = "2026.1"',
    "xarray/core/__init__.py": "",
    "xarray/core/variable.py": """
        class Variable:
            def __init__(self, data, in_memory=True):
                self._data = data
                self._dims, self._attrs, self._encoding = ("x",), None, None
                self._in_memory = in_memory
        """,
    "xarray/core/dataset.py": """
        class Dataset:
            def __init__(self, variables, close=None):
                self._variables = variables
                self._coord_names = set(variables)
                self._dims = self._attrs = self._encoding = self._indexes = None
                self._close = close
                self._cache = object()
        """,
    "sqlalchemy/__init__.py": '__version__ = "2.0"',
    "sqlalchemy/engine/__init__.py": "",
    "sqlalchemy/engine/base.py": """
        import threading

        class URL:
            def __init__(self, database, password):
                self.database, self.password = database, password

            def get_backend_name(self):
                return "sqlite"

            def render_as_string(self, hide_password):
                return f"sqlite:///{self.database}?{'***' if hide_password else self.password}"

        class Engine:
            def __init__(self, database, password="a"):
                self.url = URL(database, password)
                self.pool = threading.Lock()
        """,
    "spacy/__init__.py": '__version__ = "3.8"',
    "spacy/language.py": """
        class Data:
            def __init__(self, content=b""):
                self.content = content

            def to_bytes(self, exclude=()):
                return self.content

        class Language(Data):
            def __init__(self, pipeline=(), vectors=b""):
                super().__init__(b"settings")
                self.pipeline = self.components = pipeline
                self.tokenizer = Data()
                self.vocab = type("Vocab", (), {})()
                self.vocab.vectors, self.vocab.lookups = Data(vectors), Data()
                self.seen = {id(self)}
        """,
    "compiled/__init__.py": """
        # A class whose members nobody can compare, as compiled ones have.
        __version__ = "1.0"

        class Offset:
            table = (part for part in ())

            def __init__(self, n):
                self.n = n

        class Counter:
            hidden = (part for part in ())

            def __init__(self):
                self.count = id(self)

            def draw(self):
                return self.count

        _counter = Counter()
        draw = _counter.draw
        """,
}

# ---- one program; `values` and `functions` are what is compared

PROGRAM = """
import functools, logging, os, random, re, secrets, sys
from calendar import monthcalendar
from os import environ
from random import choice, shuffle
from secrets import randbits
from typing import Generic, TypeVar

import attrs
import compiled
import loguru
import numba
import numpy as np
import pandas as pd
import pydantic
import rich.console
import spacy.language
import sqlalchemy.engine.base
import sympy
from beartype import BeartypeConf, beartype
from compiled import draw
from loguru import logger
from numpy.random import randn
from omegaconf import OmegaConf
from scipy.stats import norm
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from typeguard import typechecked

pick = random.choice
draw_too = compiled._counter.draw
getenv = os.environ.get
system = random.SystemRandom().random
say = logger.info
bound = logger.bind(task="fit")
console = rich.console.Console(width=80)
engine = sqlalchemy.engine.base.Engine("a.db")
nlp = spacy.language.Language([("mine", len)])
f = sympy.Function("f")
x, y = sympy.symbols("x y")
formula = sympy.expand((x + y) ** 3) + f(x)
out = sys.stdout
T = TypeVar("T")

class Validated(pydantic.BaseModel):
    a: int = 1
    b: dict = pydantic.Field(default_factory=dict)

    @pydantic.field_validator("a")
    @classmethod
    def positive(cls, value):
        return abs(value)

    @pydantic.model_validator(mode="after")
    def whole(self):
        return self

    @pydantic.field_serializer("b")
    def told(self, value):
        return str(value)

    @pydantic.computed_field
    @property
    def twice(self) -> int:
        return 2 * self.a

class Box(pydantic.BaseModel, Generic[T]):
    item: T

@numba.njit(fastmath=True)
def kernel(x):
    return helper(x) + 1

def helper(x):
    return x * 2

@beartype
def checked(x: int) -> int:
    return x + 1

@typechecked
def guarded(x: int) -> int:
    return x + 1

@typechecked
def nesting(x: int) -> int:
    def inner(y: int) -> int:
        return y + 1

    return inner(x)

@pydantic.validate_call
def validated(x: int) -> int:
    return x + 1

values = {
    "a validated model": lambda: Validated(a=3, b={"k": {"x", "y", "z"}}),
    "a model of a generic class": lambda: Box[int](item=1),
    "a generic class": lambda: Box[list[str]],
    "a symbol": lambda: x,
    "an expression": lambda: formula,
    "a set of expressions": lambda: {x, y, x * y, sympy.pi, f, f(x), sympy.Eq(x, y)},
    "a configuration": lambda: OmegaConf.create({"a": {"b": [1, 2]}, "c": "${a.b}", "d": "???"}),
    "a part of a configuration": lambda: OmegaConf.create({"a": {"b": "${c}"}, "c": 3}).a,
    "a compiled function": lambda: kernel,
    "what ran already": lambda: kernel(1) and kernel,
    "pandas.NA": lambda: pd.DataFrame({"a": [pd.NA, 1]}),
    "a period": lambda: pd.Period("2020", "M"),
    "offsets": lambda: [pd.offsets.BusinessDay(2), pd.DateOffset(months=1)],
    "a frequency": lambda: pd.Series([1.0, 2.0], pd.date_range("2020", periods=2, freq="D")),
    "an interval": lambda: pd.Interval(1, 2),
    "a row": lambda: next(pd.DataFrame({"a": [1]}).itertuples()),
    "generators": lambda: [np.random.default_rng(3), np.random.RandomState(3)],
    "bit generators": lambda: [np.random.PCG64(3), np.random.SeedSequence(3)],
    "a distribution": lambda: norm(0, 1),
    "a compiled object": lambda: compiled.Offset(1),
    "methods of hidden objects": lambda: [shuffle, functools.partial(choice, [1]), randn, draw],
    "words": lambda: CountVectorizer().fit(["a bb ccc"]),
    "words but some": lambda: TfidfVectorizer(stop_words=["a"]).fit(["a bb ccc"]),
    "instruments": lambda: [logger, bound, console, engine, logging.getLogger("a"), sys.stdout],
    "a pipeline of words": lambda: nlp,
}
functions = {
    "shuffle": lambda: shuffle([1]),
    "an alias": lambda: pick([1]),
    "randbits": lambda: randbits(3),
    "system": lambda: system(),
    "monthcalendar": lambda: monthcalendar(2020, 1),
    "randn": lambda: randn(2),
    "of a package": lambda: draw() + draw_too(),
    "norm": lambda: norm.pdf(1),
    "environment": lambda: (environ["HOME"], getenv("HOME")),
    "logging": lambda: (logger.info("a"), say("b"), bound.info("c")),
    "console": lambda: console.print("a"),
    "engine": lambda: engine.url,
    "stdout": lambda: print("a", file=out),
    "nlp": lambda: nlp.pipeline,
    "formula": lambda: formula.subs(x, 1),
    "undefined": lambda: f(x),
    "compiled": lambda: kernel(1),
    "models": lambda: (Validated(), Box[int](item=1)),
    "beartype": checked,
    "typeguard": guarded,
    "typeguard, nested": nesting,
    "validate_call": validated,
}
"""

PROBE = """
import importlib, json, os, sys
from pipedeco.cache import Codes
from pipedeco.fingerprint.unproven import Unproven
from pipedeco.fingerprint.values import value_digest

def keys_of(program):
    codes, found = Codes(), {}
    for name, make in program.values.items():
        try:
            found[name] = value_digest(make(), code_digest=codes.digest, what="x")
        except Unproven as error:
            found[name] = f"unproven: {error}"
    for name, function in program.functions.items():
        key = codes.of(function)
        found[f"{name}()"] = f"unproven: {key.unproven[0]}" if key.unproven else key.digest
    return found

answers = []
for folder in sys.argv[1:]:
    sys.path.insert(0, folder)
    sys.modules.pop("program", None)
    answers.append(keys_of(importlib.import_module("program")))
    sys.path.pop(0)
print(json.dumps(answers))
"""


def write(folder, program=PROGRAM):
    """A program, and the packages that play those which are not installed."""
    for name, text in STAND_INS.items():
        path = folder / "site-packages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    (folder / "program.py").write_text(program)


def probe(folder, *programs, seed="0"):
    """The keys of programs in a new process with the packages of a folder."""
    environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(folder / "site-packages")}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *map(str, programs or [folder])],
        env={**os.environ, **environment, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.timeout(180)
def test_the_key_of_each_is_the_same_in_another_process(tmp_path):
    """Under another hash seed, at other addresses, with other state of hidden generators."""
    write(tmp_path)
    one, other = (probe(tmp_path, seed=seed)[0] for seed in "12")
    assert not [text for text in one.values() if text.startswith("unproven")]
    assert [name for name in one if one[name] != other[name]] == []
    assert len(set(one.values())) == len(one) - 1  # what ran already is what did not


EDITS = {
    "return abs(value)": ("return -value", {"a validated model", "models()"}),
    '@pydantic.field_validator("a")': (
        '@pydantic.field_validator("a", mode="before")',
        {"a validated model", "models()"},
    ),
    "return 2 * self.a": ("return 3 * self.a", {"a validated model", "models()"}),
    "return x * 2": ("return x * 3", {"a compiled function", "what ran already", "compiled()"}),
    "fastmath=True": ("fastmath=False", {"a compiled function", "what ran already", "compiled()"}),
    "@beartype\ndef checked(x: int) -> int:\n    return x + 1": (
        "@beartype\ndef checked(x: int) -> int:\n    return x + 2",
        {"beartype()"},
    ),
    "@beartype\n": ("@beartype(conf=BeartypeConf(is_pep484_tower=True))\n", {"beartype()"}),
    "def checked(x: int)": ("def checked(x: float)", {"beartype()"}),
    "@typechecked\ndef guarded(x: int) -> int:\n    return x + 1": (
        "@typechecked\ndef guarded(x: int) -> int:\n    return x + 2",
        {"typeguard()"},
    ),
    "@pydantic.validate_call\n": (
        "@pydantic.validate_call(validate_return=True)\n",
        {"validate_call()"},
    ),
    '"c": "${a.b}"': ('"c": "${a}"', {"a configuration"}),
    '"b": "${c}"}, "c": 3': ('"b": "${c}"}, "c": 4', {"a part of a configuration"}),
    "BusinessDay(2)": ("BusinessDay(3)", {"offsets"}),
    'Period("2020", "M")': ('Period("2020", "Q")', {"a period"}),
    "default_rng(3)": ("default_rng(4)", {"generators"}),
    "PCG64(3)": ("PCG64(4)", {"bit generators"}),
    "norm(0, 1)": ("norm(0, 2)", {"a distribution"}),
    "Console(width=80)": ("Console(width=90)", {"instruments", "console()"}),
    'Engine("a.db")': ('Engine("b.db")', {"instruments", "engine()"}),
    '[("mine", len)]': (
        '[("mine", len)], b"vectors"',
        {"a pipeline of words", "nlp()"},
    ),
    'Function("f")': (
        'Function("f", positive=True)',
        {"an expression", "a set of expressions", "formula()", "undefined()"},
    ),
    "(x + y) ** 3": ("(x + y) ** 4", {"an expression", "formula()"}),
    "pick = random.choice": ("pick = random.shuffle", {"an alias()"}),
    "from random import choice, shuffle": (
        "from random import choice, sample as shuffle",
        {"methods of hidden objects", "shuffle()"},
    ),
    '["a bb ccc"]),\n    "words but': ('["a bb cccc"]),\n    "words but', {"words"}),
    'stop_words=["a"]': ('stop_words=["bb"]', {"words but some"}),
}


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """The keys of the program, by what was edited in it."""
    folder = tmp_path_factory.mktemp("edited")
    programs = {None: folder}
    write(folder)
    for number, (before, (after, _)) in enumerate(EDITS.items()):
        assert PROGRAM.count(before) == 1
        programs[before] = folder / str(number)
        programs[before].mkdir()
        (programs[before] / "program.py").write_text(PROGRAM.replace(before, after))
    return dict(zip(programs, probe(folder, *programs.values()), strict=True))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("edit", EDITS, ids=lambda text: text.split("\n")[0][:30])
def test_an_edit_changes_the_keys_that_it_concerns(edited, edit):
    """And no others."""
    untouched, found = edited[None], edited[edit]
    assert {name for name in found if found[name] != untouched[name]} == EDITS[edit][1]


@pytest.mark.timeout(180)
def test_what_counts_by_its_package_counts_by_the_version(tmp_path, edited):
    """The package is what an edit would be of."""
    write(tmp_path)
    path = tmp_path / "site-packages" / "compiled" / "__init__.py"
    path.write_text(path.read_text().replace('"1.0"', '"1.1"'))
    (found,) = probe(tmp_path)
    changed = {name for name in found if found[name] != edited[None][name]}
    assert changed == {"a compiled object", "methods of hidden objects", "of a package()"}


# ---- what has no content to compare


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """The packages that play others, to be imported here."""
    write(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    tops = {name.partition("/")[0] for name in STAND_INS}
    before = {name: found for name, found in sys.modules.items() if name.partition(".")[0] in tops}
    for name in before:
        monkeypatch.delitem(sys.modules, name)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in tops]:
        del sys.modules[name]


def test_data_that_lies_elsewhere_is_never_proven(packages, tmp_path):
    """The handle stays the same while the data changes."""
    pytest.importorskip("pyarrow")
    import dask
    import pyarrow
    import pyarrow.dataset
    import pyarrow.parquet
    import zarr.core.array
    import zarr.storage._local
    from xarray.core.dataset import Dataset
    from xarray.core.variable import Variable

    pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), tmp_path / "a.parquet")
    elsewhere = [
        (zarr.core.array.Array(zarr.storage._local.LocalStore("z")), "read it before"),
        (pyarrow.dataset.dataset(tmp_path / "a.parquet"), "read it before"),
        (dask.delayed(sum)([1, 2]), "compute it before"),
        ([Dataset({"t": Variable([1], in_memory=False)})], "call load"),
    ]
    for value, cure in elsewhere:
        with pytest.raises(Unproven, match=cure):
            value_digest(value)
    assert value_digest(Dataset({"t": Variable([1])}, close=open)) == value_digest(
        Dataset({"t": Variable([1])})
    )
    assert value_digest(Dataset({"t": Variable([1])})) != value_digest(
        Dataset({"t": Variable([2])})
    )


def test_an_array_of_zarr_in_memory_counts_by_its_content(packages):
    """It has no other."""
    from zarr.core.array import Array
    from zarr.storage._memory import MemoryStore

    one, same, other = (Array(MemoryStore({"0": content})) for content in (b"1", b"1", b"2"))
    assert value_digest(one) == value_digest(same) != value_digest(other)


def test_a_database_in_memory_is_never_proven(packages):
    """One in a file counts by its address, without the password."""
    from sqlalchemy.engine.base import Engine

    with pytest.raises(Unproven, match="in the memory of this process"):
        value_digest(Engine(":memory:"))
    assert value_digest(Engine("a", password="b")) == value_digest(Engine("a", password="c"))


def test_an_attribute_that_is_called_an_id_counts_where_it_is_one():
    """What is left out is the address of the attribute beside it, and no number of a user or order."""

    def made(**attributes):
        return types.SimpleNamespace(**attributes)

    words = ["a"]
    address = id(words)
    assert value_digest(made(words=words, _words_id=address)) == value_digest(
        made(words=words, _words_id=address + 16)
    )
    for name, numbers in {"words_id": (1 << 40, 1 << 41), "_words_id": (3, 4)}.items():
        one, other = (value_digest(made(words=words, **{name: n})) for n in numbers)
        assert one != other
    one, other = (value_digest(made(_order_id=number)) for number in (1 << 40, 1 << 41))
    assert one != other
    numbers = (1 << 24, 1 << 30, (1 << 40) + 8, 1541815603606036480)
    users = [value_digest(made(user="a", _user_id=number)) for number in numbers]
    assert len(set(users)) == len(numbers)


def test_a_configuration_counts_by_what_it_stands_for_now(monkeypatch):
    """And looking at it leaves no trace of what a resolver has said."""
    omegaconf = pytest.importorskip("omegaconf")
    made = omegaconf.OmegaConf.create({"home": "${oc.env:WHERE}"})
    monkeypatch.setenv("WHERE", "here")
    here = value_digest(made)
    monkeypatch.setenv("WHERE", "there")
    assert value_digest(made) != here
    monkeypatch.delenv("WHERE")
    assert value_digest(made) == value_digest(made)
    monkeypatch.setenv("WHERE", "here")
    assert value_digest(made) == here
    calls = []
    omegaconf.OmegaConf.register_resolver("drawn", lambda: calls.append(1), use_cache=True)
    drawn = omegaconf.OmegaConf.create({"x": "${drawn:}"})
    value_digest(drawn)
    value_digest(drawn)
    assert len(calls) == 2
    omegaconf.OmegaConf.clear_resolver("drawn")

"""The code half of a cache key: what changes it, what does not, and what is said of it."""

import gc
import json
import os
import subprocess
import sys
import textwrap
import types
import weakref

import pytest

from pipedeco import component
from pipedeco.fingerprint.code import PASSING, CodeKeys, code_key
from pipedeco.fingerprint.unproven import Unproven
from pipedeco.fingerprint.values import value_digest

MAIN = '''
"""The module."""
import functools
import os.path
import DEPENDENCY
from DEPENDENCY.inner import tool
from . import shared, shapes
from .shared import clean as cleaned
from .deco import timed, scaled
from .shapes import Box, Colour, Model, Point, Settings, Untouched
from .dispatch import area

RATE = 3
SCALES = [1, 2, 3]
HANDLERS = {"twice": lambda x: x * 2, "clean": cleaned}
add_five = functools.partial(shared.add, 5)
square = lambda x: x * x
MODEL = Model(4)


@timed
def decorated(x):
    return x + 11


@scaled(factor=2)
def scaled_one(x):
    return x + 12


def make(n):
    def inner(x):
        return x + n

    return inner


add_seven = make(7)


def nested(x):
    """About nesting."""

    def within(y):
        """Within."""
        return y - 1  # less

    return within(x)


def even(n):
    return True if n == 0 else odd(n - 1)


def odd(n):
    return False if n == 0 else even(n - 1)


@functools.lru_cache(maxsize=8)
def remembered(x):
    return x + 13


def keyword(x, *, shift=21):
    return x + shift


def unrelated(x):
    return x + 1000


def step(x: int, y=2, *rest) -> tuple[int, str]:
    """The step."""
    import json

    from .late import late_function
    from .late import deeper as deep_module

    # a comment
    total = shared.clean(x) * RATE + y
    total -= sum(scale for scale in SCALES if scale > shared.LIMIT)
    total += HANDLERS["twice"](x) + add_five(x) + square(x) + MODEL.predict(x)
    total += decorated(x) + scaled_one(x) + add_seven(x) + nested(x) + even(x)
    total += remembered(x) + keyword(x) + late_function(x) + deep_module.DEEP
    total += Box(1).area + Settings().size + Colour.RED.value + Point(1).x + area(x)
    total += DEPENDENCY.compute(x) + tool(x)
    message = f"{total} and {x!r}"
    if x and (y or total):
        return total, message
    return (total or x or y and RATE), os.path.join("a", message), json.dumps([1, 2])
'''

FILES = {
    "main.py": MAIN,
    "__init__.py": "",
    "shared.py": """
        '''Shared things.'''
        from .deep import polish as p
        LIMIT = 1
        UNUSED = 1

        def clean(x):
            '''Clean it.'''
            return p(x) + 1

        def add(a, b):
            return a + b

        def alone(x):
            return x
        """,
    "deep.py": """
        def polish(x):
            return x + unpolished(x)

        def unpolished(x):
            return x - 2
        """,
    "late.py": """
        from . import deeper

        def late_function(x):
            return x + 31
        """,
    "deeper.py": "DEEP = 41\n",
    "deco.py": """
        import functools

        def timed(fn):
            @functools.wraps(fn)
            def wrapper(*args):
                '''Wrapped.'''
                return fn(*args) + 51

            return wrapper

        def scaled(factor):
            def decorate(fn):
                @functools.wraps(fn)
                def wrapper(*args):
                    return fn(*args) * factor
                return wrapper
            return decorate
        """,
    "dispatch.py": """
        import functools

        @functools.singledispatch
        def area(x):
            return 0

        @area.register
        def _(x: int):
            return 61
        """,
    "shapes.py": """
        import abc
        import dataclasses
        import enum
        from typing import NamedTuple

        class Base(abc.ABC):
            '''Base.'''
            @abc.abstractmethod
            def predict(self, x): ...

            def help_out(self, x):
                return x + 71

        class Model(Base):
            '''A model.'''
            bias = 72

            def __init__(self, weight):
                self.weight = weight

            def predict(self, x):
                '''Predict.'''
                return self._inner(x) * self.weight

            def _inner(self, x):
                return x + self.bias + self.static(x) + self.kind(x)

            @staticmethod
            def static(x):
                return x + 73

            @classmethod
            def kind(cls, x):
                return x + 74

        @dataclasses.dataclass
        class Settings:
            size: int = 81
            names: list = dataclasses.field(default_factory=list)

        class Colour(enum.Enum):
            RED = 82
            BLUE = 83

        class Point(NamedTuple):
            x: int
            y: int = 84

        class Box:
            def __init__(self, side):
                self.side = side

            @property
            def area(self):
                return self.side * 85

        class Untouched:
            y = 86
        """,
}

DEPENDENCY = {
    "__init__.py": "__version__ = '1.0'\n\ndef compute(x):\n    return x\n",
    "inner.py": "def tool(x):\n    return x\n",
}

# what it is: (file, old, new, the part that changes)
MISSES = {
    "body": ("main.py", "total = shared", "total = 1 + shared", "function main.step"),
    "helper": ("shared.py", "p(x) + 1", "p(x) + 2", "function shared.clean"),
    "helpers_helper": ("deep.py", "x + unp", "x - unp", "function deep.polish"),
    "third_helper": ("deep.py", "x - 2", "x - 3", "function deep.unpolished"),
    "constant": ("main.py", "RATE = 3", "RATE = 4", "value main.RATE"),
    "constant_type": ("main.py", "RATE = 3", "RATE = 3.0", "value main.RATE"),
    "in_comprehension": ("main.py", "[1, 2, 3]", "[1, 2, 4]", "value main.SCALES"),
    "of_submodule": ("shared.py", "LIMIT = 1", "LIMIT = 2", "value shared.LIMIT"),
    "default": ("main.py", "y=2,", "y=3,", "function main.step"),
    "keyword_default": ("main.py", "shift=21", "shift=22", "function main.keyword"),
    "annotation": ("main.py", "tuple[int, str]", "tuple[int, int]", "function main.step"),
    "closure": ("main.py", "make(7)", "make(8)", "function main.add_seven"),
    "closure_body": ("main.py", "x + n\n", "x - n\n", "function main.add_seven"),
    "method": ("shapes.py", "* self.weight", "+ self.weight", "function shapes.Model.predict"),
    "through_self": ("shapes.py", "x + self.bias", "x - self.bias", "function shapes.Model._inner"),
    "static_method": ("shapes.py", "x + 73", "x + 3", "function shapes.Model.static"),
    "class_method": ("shapes.py", "x + 74", "x + 4", "function shapes.Model.kind"),
    "base_class": ("shapes.py", "x + 71", "x + 1", "function shapes.Base.help_out"),
    "bases": ("shapes.py", "Model(Base)", "Model", "class shapes.Model"),
    "class_attribute": ("shapes.py", "bias = 72", "bias = 2", "class shapes.Model"),
    "instance": ("main.py", "Model(4)", "Model(5)", "value main.MODEL"),
    "property": ("shapes.py", "self.side * 85", "self.side * 5", "class shapes.Box"),
    "dataclass_default": ("shapes.py", "= 81", "= 1", "class shapes.Settings"),
    "dataclass_factory": ("shapes.py", "_factory=list", "_factory=set", "class shapes.Settings"),
    "enum_member": ("shapes.py", "RED = 82", "RED = 2", "class shapes.Colour"),
    "enum_new": ("shapes.py", "BLUE = 83", "BLUE = 83; Z = 1", "class shapes.Colour"),
    "named_tuple": ("shapes.py", "y: int = 84", "y: int = 4", "class shapes.Point"),
    "decorator": ("deco.py", "fn(*args) + 51", "fn(*args) + 1", "function main.decorated"),
    "decorated": ("main.py", "x + 11", "x + 1", "function main.decorated"),
    "argument": ("main.py", "factor=2", "factor=3", "function main.scaled_one"),
    "decorator_off": ("main.py", "@timed\n", "", "function main.decorated"),
    "handler": ("main.py", "lambda x: x * 2", "lambda x: x * 3", "value main.HANDLERS"),
    "handler_name": ("main.py", '"clean": cleaned', '"other": cleaned', "value main.HANDLERS"),
    "handler_swap": (
        "main.py",
        'x: x * 2, "clean": cleaned',
        'x: x, "clean": cleaned',
        "value main.HANDLERS",
    ),
    "partial": ("main.py", "shared.add, 5", "shared.add, 6", "value main.add_five"),
    "partials_function": ("shared.py", "a + b", "a - b", "function shared.add"),
    "lambda": ("main.py", "lambda x: x * x", "lambda x: x * x * x", "function main.square"),
    "nested": ("main.py", "y - 1", "y - 2", "function main.nested"),
    "f_string": ("main.py", "{x!r}", "{x!s}", "function main.step"),
    "f_string_text": ("main.py", "{total} and", "{total} or", "function main.step"),
    "order": ("main.py", "* RATE + y", "+ y * RATE", "function main.step"),
    "mutual": ("main.py", "even(n - 1)", "even(n - 3)", "function main.odd"),
    "cached": ("main.py", "x + 13", "x + 3", "function main.remembered"),
    "cache_size": ("main.py", "maxsize=8", "maxsize=9", "function main.remembered"),
    "imported_inside": ("late.py", "x + 31", "x + 1", "function late.late_function"),
    "module_inside": ("deeper.py", "= 41", "= 1", "value deeper.DEEP"),
    "dispatched": ("dispatch.py", "return 61", "return 1", "function dispatch._"),
    "version": ("DEPENDENCY/__init__.py", "'1.0'", "'1.1'", "package DEPENDENCY"),
    "rebound": ("main.py", "clean as cleaned", "alone as cleaned", "value main.HANDLERS"),
    "metadata": ("DEPENDENCY/__init__.py", "__version__ = '1.0'", "", "package DEPENDENCY"),
    "parentheses": (
        "main.py",
        "(total or x or y and RATE)",
        "((total or x or y) and RATE)",
        "function main.step",
    ),
    "star": ("main.py", "*rest", "**rest", "function main.step"),
}

FORMATTED = (
    MAIN.replace(
        "    total = shared.clean(x) * RATE + y\n",
        "    total = (\n        shared.clean(\n            x,\n        )\n        * RATE\n        + y\n    )\n",
    )
    .replace(
        "    if x and (y or total):\n        return total, message\n",
        "    if (\n        x\n        and (\n            y\n            or total\n        )\n    ):\n"
        "        return (\n            total,\n            message,\n        )\n",
    )
    .replace(
        '    return (total or x or y and RATE), os.path.join("a", message), json.dumps([1, 2])',
        "    return (total\n        or x or\n        y and\n        RATE), os.path.join('a',\n"
        "        message), json.dumps([\n            1,\n            2,\n        ],)",
    )
)

HITS = {
    "nothing": ("main.py", "", ""),
    "comment": ("main.py", "# a comment", "# another\n    # comment"),
    "doc_function": ("main.py", '"""The step."""', '"""Whatever\n\n    it says."""'),
    "doc_gone": ("main.py", '    """The step."""\n', ""),
    "doc_module": ("main.py", '"""The module."""', ""),
    "doc_class": ("shapes.py", "'''A model.'''", "'''Another.'''"),
    "doc_base_gone": ("shapes.py", "'''Base.'''", ""),
    "doc_method": ("shapes.py", "'''Predict.'''", ""),
    "doc_nested": ("main.py", '"""Within."""', '"""In it."""'),
    "doc_nested_gone": ("main.py", '        """Within."""\n', ""),
    "doc_helper": ("shared.py", "'''Clean it.'''", ""),
    "doc_wrapper": ("deco.py", "'''Wrapped.'''", ""),
    "layout": ("main.py", MAIN, FORMATTED),
    "quotes": ("main.py", '"twice"', "'twice'"),
    "extra_parentheses": ("main.py", "x + 13", "(x + (13))"),
    "number": ("main.py", "RATE = 3", "RATE = 0x3"),
    "moved_function": (
        "main.py",
        "def keyword(x, *, shift=21):\n    return x + shift\n\n\ndef unrelated(x):\n    return x + 1000\n",
        "def unrelated(x):\n    return x + 1000\n\n\ndef keyword(x, *, shift=21):\n    return x + shift\n",
    ),
    "unrelated_changed": ("main.py", "x + 1000", "x + 1001"),
    "unrelated_added": ("shared.py", "def alone", "def more(x):\n    return 5\n\ndef alone"),
    "unrelated_constant": ("shared.py", "UNUSED = 1", "UNUSED = 2"),
    "unrelated_class": ("shapes.py", "y = 86", "y = 87"),
    "unused_import": ("main.py", "import functools\n", "import functools\nimport decimal\n"),
    "import_order": ("main.py", "import functools\nimport os.path\n", "import os.path\nimport functools\n"),
    "pass": ("deep.py", "return x - 2", "pass\n    return x - 2"),
    "dependency_body": ("DEPENDENCY/inner.py", "return x", "return (x)"),
    "unused_module_doc": ("deeper.py", "DEEP", "'''Deeper.'''\nDEEP"),
}  # fmt: skip

PROBE = """
import importlib, json, sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/site-packages"]
from pipedeco.fingerprint.code import code_key
from pipedeco.fingerprint.values import value_digest
found = {}
for name in json.load(sys.stdin):
    fn = importlib.import_module(f"case_{name}.main").step
    key = code_key(fn, value_digest=value_digest)
    assert not key.unproven, key.unproven
    found[name] = [key.digest, key.parts]
json.dump(found, sys.stdout)
"""


def write(folder, case, edits=None):
    """Write the project of a case, its dependency included, with one file edited."""
    path, old, new = (edits or (None, "", ""))[:3]
    dependency = {f"DEPENDENCY/{name}": text for name, text in DEPENDENCY.items()}
    for name, text in (FILES | dependency).items():
        content = textwrap.dedent(text) if name != "main.py" else text
        if name == path and old:
            assert old in content, (case, old)
            content = content.replace(old, new, 1)
        outside = name.startswith("DEPENDENCY")
        file = folder / ("site-packages" if outside else f"case_{case}") / name
        file = file.parent.parent / f"dep_{case}" / file.name if outside else file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content.replace("DEPENDENCY", f"dep_{case}"))


def probe(folder, names, seed, script=PROBE):
    """What a fresh process finds in a folder."""
    environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        input=json.dumps(names),
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """For each case: the key before and after its edit, in two places and processes."""
    before, after = tmp_path_factory.mktemp("before"), tmp_path_factory.mktemp("elsewhere")
    cases = MISSES | {name: (*edit, None) for name, edit in HITS.items()}
    for name, edit in cases.items():
        write(before, name)
        write(after, name, edit)
    one = probe(before, list(cases), "1")
    other = probe(after, list(reversed(cases)), "2")
    return {name: (one[name], other[name]) for name in cases}


def changed(case, pair):
    """The names of the parts that differ, as they are in the table."""
    one, other = ({tuple(part) for part in key[1]} for key in pair)
    names = {name for name, _ in one ^ other}
    return {
        name.replace(f"case_{case}.", "").replace(f"dep_{case}", "DEPENDENCY") for name in names
    }


@pytest.mark.parametrize("case", MISSES)
def test_a_change_of_what_is_reached_is_a_miss_and_is_named(case, pairs):
    """The digest differs, and the parts say where."""
    one, other = pairs[case]
    assert one[0] != other[0]
    assert MISSES[case][3] in changed(case, pairs[case])
    assert len(changed(case, pairs[case])) <= 6


@pytest.mark.parametrize("case", HITS)
def test_a_change_of_nothing_that_runs_is_a_hit(case, pairs):
    """Same digest in another place, process, hash seed and order of imports."""
    assert changed(case, pairs[case]) == set()
    assert pairs[case][0][0] == pairs[case][1][0]


# ---- in one process


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Import a module made of a text; a second call with the same name replaces it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made = []

    def load(text, name="sample"):
        file = tmp_path / f"{name}.py"
        file.write_text(textwrap.dedent(text))
        sys.modules.pop(name, None)
        made.append(name)
        module = types.ModuleType(name)
        module.__file__ = str(file)
        sys.modules[name] = module
        exec(compile(file.read_text(), str(file), "exec", dont_inherit=True), module.__dict__)
        return module

    yield load
    for name in made:
        sys.modules.pop(name, None)


def key_of(fn):
    return code_key(fn, value_digest=value_digest)


def names(key):
    return [name for name, _ in key.parts]


def test_mutual_recursion_is_the_same_wherever_one_begins(load):
    """Parts refer to each other by name, so no beginning is in them."""
    module = load(
        """
        def one(n): return two(n)
        def two(n): return three(n)
        def three(n): return one(n) + two(n)
        """
    )
    keys = CodeKeys(value_digest=value_digest)
    assert keys.key(module.one).parts == keys.key(module.three).parts
    assert key_of(module.three) == keys.key(module.three)


def test_functions_without_a_name_may_lead_back_to_themselves(load):
    """A closure that calls itself, and two that call each other."""
    text = """
        def make(n):
            def one(x): return two(x) + n
            def two(x): return one(x) * K
            return one, two
        first, second = make(1)
        TABLE = {}
        TABLE["self"] = TABLE
        TABLE["call"] = lambda x: TABLE["call"](x) + 1
        def step(x): return first(x) + TABLE["call"](x)
        """
    one, again, other = (key_of(load(text.replace("K", k)).step) for k in ("2", "2", "3"))
    assert one == again
    assert not one.unproven
    assert one.digest != other.digest


def test_closures_of_one_factory_have_keys_of_their_own(load):
    """They have one name, and still not one key."""
    module = load(
        """
        def make(n):
            def step(x): return x + n
            return step
        one, two = make(1), make(2)
        """
    )
    keys = CodeKeys(value_digest=value_digest)
    assert keys.key(module.one).digest != keys.key(module.two).digest
    assert keys.key(module.one).digest == key_of(module.make(1)).digest


def test_closures_of_many_runs_are_not_kept(load):
    """A service that makes its components for each request would keep all that they hold."""
    module = load(
        """
        def make(n):
            def step(x): return x + n
            return step
        """
    )
    keys = CodeKeys(value_digest=value_digest)
    kept = []
    for number in range(3 * PASSING):
        step = module.make(number)
        kept.append(weakref.ref(step))
        assert keys.key(step).digest == key_of(module.make(number)).digest
        assert keys.sources(step)
    assert keys.key(module.make)
    del step
    gc.collect()
    assert sum(ref() is not None for ref in kept) <= PASSING


def test_lambdas_on_one_line_are_told_apart(load):
    """Where the source does not tell which is which, bytecode does."""
    module = load("PAIR = (lambda x: x + 1, lambda x: x + 2)\ndef step(x): return PAIR[0](x)\n")
    swapped = load("PAIR = (lambda x: x + 2, lambda x: x + 1)\ndef step(x): return PAIR[0](x)\n")
    assert key_of(module.PAIR[0]).digest != key_of(module.PAIR[1]).digest
    assert key_of(module.step).digest != key_of(swapped.step).digest


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return eval(x)", "eval"),
        ("return sys.modules[x].f", "sys.modules"),
        ("return importlib.import_module(x).f", "imports a module whose name it computes"),
        ("return __import__(x).f", "imports a module whose name it computes"),
        ("return globals()[x]", "globals"),
        ("return SOCKET.fileno()", "sample.SOCKET is"),
        ("return WITHIN['a'][0].fileno()", "sample.WITHIN"),
        ("return closed(x)", "handle"),
        ("import broken_inside; return broken_inside.f", "broken_inside"),
    ],
)
def test_what_cannot_be_proven_is_said(load, body, said):
    """Such a key has a reason, and so is never a hit."""
    load("x = 1", "helped")
    module = load(
        f"""
        import importlib, socket, sys
        SOCKET = socket.socket.__new__(socket.socket)
        WITHIN = {{"a": [SOCKET]}}
        def make(handle):
            def closed(x): return handle
            return closed
        closed = make(SOCKET)
        def step(x):
            {body}
        """
    )
    (file,) = [module.__file__]
    with open(os.path.join(os.path.dirname(file), "broken_inside.py"), "w") as broken:
        broken.write("raise ValueError('broken')")
    unproven = key_of(module.step).unproven
    assert any(said in sentence for sentence in unproven), unproven


@pytest.mark.parametrize(
    "body",
    [
        "return getattr(x, 'name' + str(x))",
        "return json.loads(x)['eval']",
        "return x.eval('a')",
        "LOGGER.info(x); return x",
        "with LOCK: return os.environ['HOME']",
        "import optional_thing_that_is_not_there",
        "return missing_name",
        "return importlib.import_module('json').loads(x)",
        "return PATTERN.match(x)",
        "return first(x), get(x), Path(x) / ROOT",
        "return TYPED(x) + VARIABLE.get()",
        "with context(): return 1",
    ],
)
def test_ordinary_code_is_proven(load, body):
    """What everybody writes has no reason against it, and one key in each module object."""
    text = f"""
        import contextlib, contextvars, importlib, json, logging, operator, os, re, threading
        from pathlib import Path
        from typing import Callable, NewType, Optional, TypeVar
        LOGGER = logging.getLogger(__name__)
        LOCK = threading.Lock()
        PATTERN = re.compile("a+")
        ROOT = Path("a/b")
        T = TypeVar("T")
        TYPED = NewType("TYPED", int)
        VARIABLE = contextvars.ContextVar("v", default=3)
        first, get = operator.itemgetter(0), {{}}.get

        @contextlib.contextmanager
        def context():
            yield

        def step(x: Optional[list[T]], y: "Callable[[int], Path] | None" = None) -> "T":
            {body}
        """
    one, other = key_of(load(text).step), key_of(load(text).step)
    assert one == other
    assert not one.unproven


def test_classes_with_what_belongs_to_a_process(load):
    """Locks, thread-local values and weak containers count by what they are and hold."""
    text = """
        import contextvars, functools, threading, weakref

        class Own(threading.local):
            pass

        class Shape:
            lock, again, condition = threading.Lock(), threading.RLock(), threading.Condition()
            local, own = threading.local(), Own()
            made, seen = weakref.WeakValueDictionary(), weakref.WeakSet()
            user = contextvars.ContextVar("user", default=1)

            @functools.cached_property
            def area(self):
                return 3

            @functools.singledispatchmethod
            def show(self, x):
                return "object"

            @show.register
            def _(self, x: int):
                return "int"

        def step(x):
            return Shape().show(x)
        """
    one = load(text)
    taken = key_of(one.step)
    assert not taken.unproven
    one.Shape.lock.acquire()
    assert key_of(one.step) == taken
    assert key_of(load(text).step) == taken
    assert key_of(load(text.replace('"int"', '"whole"')).step) != taken


@pytest.mark.parametrize(
    "body",
    [
        "from .below import thing; return thing()",
        "from . import below; return below.thing()",
        "import package_of.below; return package_of.below.thing()",
        "import package_of.below as b; return b.thing()",
        "from package_of import below as b; return [b.thing() for _ in x]",
        "import importlib; return importlib.import_module('package_of.below').thing()",
        "from importlib import import_module as i; return i('package_of.below').thing()",
        "global below; from . import below; return below",
        "return (lambda: __import__('package_of.below'))()",
    ],
)
def test_each_form_of_import_is_followed(tmp_path, body):
    """In processes of their own, that have imported nothing before."""
    script = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pipedeco.fingerprint.code import code_key
from pipedeco.fingerprint.values import value_digest
from package_of.main import step
key = code_key(step, value_digest=value_digest)
assert not key.unproven, key.unproven
json.dump(key, sys.stdout)
"""
    found = []
    for folder, number in (("one", 1), ("two", 2), ("three", 1)):
        package = tmp_path / folder / "package_of"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "below.py").write_text(f"def thing(): return {number}\n")
        (package / "main.py").write_text(f"def step(x):\n    {body}\n")
        found.append(probe(tmp_path / folder, [], str(number), script))
    assert found[0] == found[2]
    assert found[0][0] != found[1][0]


def test_keys_are_the_same_in_whatever_order_they_are_asked_for(load):
    """What was asked before leaves no trace in what other functions reach."""
    module = load(MAIN_ALONE)
    functions = [fn for name, fn in sorted(vars(module).items()) if name.startswith("f")]
    one, other = (CodeKeys(value_digest=value_digest) for _ in range(2))
    forward = [one.key(fn) for fn in functions]
    backward = [other.key(fn) for fn in reversed(functions)]
    assert forward == backward[::-1] == [key_of(fn) for fn in functions]


MAIN_ALONE = """
K = [1]
class C:
    def run(self): return f1(), self
def f1(): return f2() + K[0]
def f2(): return C().run(), f3.__doc__
def f3(): "Three."
def f4(): return C
f5 = lambda: (f1, f6())
def f6(): return K
"""


def test_a_module_is_taken_whole_where_its_use_is_not_known(load):
    """getattr with a computed name may give any of its functions."""
    texts = ["def f(x): return 1\ndef g(x): return 2\n", "def f(x): return 1\ndef g(x): return 3\n"]
    bodies = ["getattr(tools, name)()", "getattr(tools, 'f')()", "tools.f()", "vars(tools)[name]"]
    differs = []
    for body in bodies:
        digests = set()
        for text in texts:
            load(text, "tools")
            digests.add(key_of(load(f"import tools\ndef step(name): return {body}\n").step).digest)
        differs.append(len(digests) == 2)
    assert differs == [True, False, False, True]


def test_a_changed_global_is_seen(load):
    """At the next look: rebound, changed in place, a function or a method replaced."""
    module = load("NUMBERS = [1]\ndef helper(): return 1\ndef step(): return NUMBERS, helper()\n")
    keys = CodeKeys(value_digest=value_digest)
    first = keys.key(module.step)
    module.NUMBERS.append(2)
    second = keys.key(module.step)
    assert keys.key(module.step) is second
    module.helper = lambda: 2
    third = keys.key(module.step)
    assert len({first.digest, second.digest, third.digest}) == 3
    assert {"value sample.NUMBERS"} == {n for n, _ in set(first.parts) ^ set(second.parts)}


def test_what_runs_counts_and_not_what_the_file_says_now(load):
    """A file edited after its import is another text, but the same code still runs."""
    module = load("def step(x):\n    return x + 1\n")
    before = key_of(module.step)
    with open(module.__file__, "w") as file:
        file.write("def step(x):\n    return x + 2\n")
    edited = key_of(module.step)
    assert edited.digest != before.digest  # the text is no proof any more
    assert CodeKeys(value_digest=value_digest).sources(module.step) == {}
    assert key_of(load("def step(x):\n    return x + 2\n").step).digest not in (
        before.digest,
        edited.digest,
    )


def test_a_key_that_was_made_before_an_edit_stays(load):
    """The code object is the same, and what is known of it is remembered."""
    module = load("def step(x):\n    return x + 1\n")
    keys = CodeKeys(value_digest=value_digest)
    before = keys.key(module.step)
    with open(module.__file__, "w") as file:
        file.write("def step(x):\n    return x + 2\n")
    keys.refresh()
    assert keys.key(module.step) == before


def executed(text, name="__main__", filename="<stdin>"):
    namespace = {"__name__": name}
    exec(compile(textwrap.dedent(text), filename, "exec", dont_inherit=True), namespace)
    return namespace["step"]


def test_functions_without_source_are_compared_by_their_bytecode():
    """As in a REPL: a docstring or an empty line does not count, a constant does."""
    one = executed("def step(x):\n  return x + 1 if x in {'a', 'b', 'c'} else K\nK = 1\n")
    same = executed(
        "\n\ndef step(x):\n  'Doc.'\n\n  return x + 1 if x in {'a', 'b', 'c'} else K\nK = 1\n"
    )
    other = executed("def step(x):\n  return x + 2 if x in {'a', 'b', 'c'} else K\nK = 1\n")
    constant = executed("def step(x):\n  return x + 1 if x in {'a', 'b', 'c'} else K\nK = 2\n")
    assert key_of(one).digest == key_of(same).digest
    assert len({key_of(fn).digest for fn in (one, other, constant)}) == 3


def test_namespaces_of_one_name_are_told_apart():
    """Functions of two notebooks, say, in one process: each has its own globals."""
    keys = CodeKeys(value_digest=value_digest)
    one = executed("def step(x): return helper(x)\ndef helper(x): return 1\n")
    two = executed("def step(x): return helper(x)\ndef helper(x): return 2\n")
    assert keys.key(one).digest != keys.key(two).digest


def test_a_notebooks_cell_is_read_from_where_ipython_keeps_it():
    """Its layout does not count, as in a file."""
    import linecache

    def cell(text, number):
        filename = f"<ipython-input-{number}>"
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        return executed(text, filename=filename)

    one = cell("def step(x):\n    return (x and 1 or 2)\n", 1)
    two = cell("# now\ndef step(x):\n    return (x and\n        1\n        or 2)\n", 2)
    three = cell("def step(x):\n    return (x and 1 or 3)\n", 3)
    assert key_of(one).digest == key_of(two).digest != key_of(three).digest


def test_code_of_no_file_is_read_while_another_thread_imports_linecache(monkeypatch):
    """As the main thread does whose run has failed; the key is the same as without it."""
    one = executed("def step(x):\n    return x\n", filename="<stdin>")
    for module in (None, types.ModuleType("linecache")):  # whose body is not executed yet
        monkeypatch.setitem(sys.modules, "linecache", module)
        assert not key_of(one).unproven


def test_docstrings_count_where_code_reads_them(load):
    """A parser made of `__doc__` depends on it."""
    text = "def step(x): return helper.__doc__\ndef helper(x):\n    'DOC'\n"
    one, other = (key_of(load(text.replace("DOC", doc)).step) for doc in ("a", "b"))
    assert one.digest != other.digest


def test_subclasses_count_where_code_asks_for_them(load):
    """A registry that is made of `__subclasses__`."""
    text = """
        class Base: pass
        class One(Base):
            def run(self): return N
        def step(x): return [c().run() for c in Base.__subclasses__()]
        """
    one, other = (key_of(load(text.replace("N", n)).step) for n in "12")
    assert one.digest != other.digest


def test_a_component_is_reached_through_its_function(load):
    """Its options do not count; it is called as a bare function inside a step."""
    text = """
        from pipedeco import component, pipeline
        @component(OPTIONS)
        def inner(x): return x + N
        @pipeline
        def flow(x): return inner(x)
        @component
        def step(x): return inner(x) + flow(x)
        """

    def digest(options, n):
        return key_of(load(text.replace("OPTIONS", options).replace("N", n)).step.fn).digest

    assert digest("retries=1", "1") == digest("retries=2", "1") != digest("retries=1", "2")


def test_what_is_below_a_decorator_has_a_key_beside_it(load):
    """The wrapper and what it wraps have one name; a component may be made of either."""
    text = """
        import functools
        def twice(fn):
            @functools.wraps(fn)
            def wrapper(x): return fn(x) * N
            return wrapper
        def plain(x): return x and step(x - 1)
        step = twice(plain)
        step.__qualname__ = "step"
        plain.__qualname__ = "step"
        """
    one, other = (key_of(load(text.replace("N", n)).plain) for n in "23")
    assert one.digest != other.digest
    assert len(names(one)) == 3


def test_imported_values_of_packages_count_by_version(load):
    """numpy's functions, types, arrays and constants."""
    module = load(
        """
        import numpy as np
        from numpy import add, float64
        WEIGHTS = np.arange(3.0)
        def one(x): return np.linalg.norm(x)
        def two(x): return add(x, 1)
        def three(x): return float64(x)
        def four(x): return x * WEIGHTS
        def five(x):
            from numpy import linalg
            return linalg.norm(x)
        def six(x: "np.ndarray"): return x
        def none(x): return x
        """
    )
    import numpy

    for name in ("one", "two", "three", "four", "five", "six"):
        key = key_of(getattr(module, name))
        assert ("package numpy", numpy.__version__) in key.parts, name
        assert not key.unproven
    assert "package numpy" not in names(key_of(module.none))


def test_the_distribution_of_a_package_is_found_by_its_record():
    """sklearn is scikit-learn's, yaml PyYAML's."""
    from pipedeco.fingerprint.packages import Owners

    owners = Owners()
    parts = {name: owners.of(name).part for name in ("yaml", "sklearn", "dateutil", "attr", "rich")}
    found = {name: part[0].partition(" ")[2] for name, part in parts.items()}
    assert found == {
        "yaml": "pyyaml",
        "sklearn": "scikit_learn",
        "dateutil": "python_dateutil",
        "attr": "attrs",
        "rich": "rich",
    }
    assert owners.of("json").kind == "python"
    assert owners.of("pipedeco.graph").part[0] == "package pipedeco"
    assert owners.of(__name__).kind == "user"


def test_the_text_of_what_is_reached(load):
    """By the names of the parts, as it is written."""
    module = load(
        """
        class Model:
            # kept
            def run(self): return helper(1)

        def helper(x):
            return x  # kept too

        def step(x): return Model().run()
        """
    )
    texts = CodeKeys(value_digest=value_digest).sources(module.step)
    assert texts["function sample.helper"] == "def helper(x):\n    return x  # kept too\n"
    assert texts["class sample.Model"].startswith("class Model:\n    # kept\n")
    assert set(texts) == {
        "class sample.Model",
        "function sample.Model.run",
        "function sample.helper",
        "function sample.step",
    }


def test_any_callable_has_a_key(load):
    """Partials, methods, classes, built-ins, components."""
    import functools

    module = load(
        """
        class Model:
            def __init__(self, n=0): self.n = n
            def run(self, x): return x + self.n
            def __call__(self, x): return self.run(x)
        def add(a, b): return a + b
        """
    )
    model = module.Model(3)
    partial = functools.partial(module.add, 1)
    for fn in (model.run, model, module.Model, partial, len, component(module.add)):
        key = key_of(fn)
        assert not key.unproven
        assert key.digest == key_of(fn).digest
    assert key_of(module.Model(3).run).digest == key_of(model.run).digest
    assert key_of(module.Model(4).run).digest != key_of(model.run).digest
    assert key_of(functools.partial(module.add, 2)).digest != key_of(partial).digest


def test_a_value_that_nobody_can_compare_gives_its_reason(load):
    """The sentence of who was asked for the value."""
    module = load("THING = object\nthing = THING()\ndef step(): return thing\n")

    def refuse(value, *, code_digest, what):
        raise Unproven(f"{what} is a secret")

    key = code_key(module.step, value_digest=refuse)
    assert key.unproven == ("sample.thing is a secret",)


def test_importing_it_is_light():
    """On the path of each start: no module that takes milliseconds."""
    script = (
        "import sys, json, pipedeco.fingerprint.code; json.dump(sorted(sys.modules), sys.stdout)"
    )
    loaded = set(probe(os.getcwd(), [], "0", script))
    assert loaded.isdisjoint(
        {"inspect", "ast", "dis", "importlib.metadata", "linecache", "tokenize"}
    )

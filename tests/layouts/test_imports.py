"""A step imports exactly what the body could import."""

from __future__ import annotations

import sys


def script(lab, source: str) -> str:
    """What a script with this source prints."""
    lab.write("script.py", "from pipedeco import component, pipeline, value\n" + source)
    done = lab.command([sys.executable, "script.py"]).finish()
    assert done.code == 0, done.err
    return done.out


def test_the_path_as_it_is_at_the_call(lab):
    """Changes of sys.path by the script hold in its steps, removals and later ones too."""
    lab.write("extra/found.py", "NAME = 'found'\n")
    lab.write("late/later.py", "NAME = 'later'\n")
    told = script(
        lab,
        """
import os, sys
sys.path.append("extra")

@component
def first():
    import found
    return found.NAME, [os.path.basename(p) for p in sys.path]

@component
def second():
    import later
    return later.NAME

@pipeline
def one():
    return first()

@pipeline
def two():
    return second()

name, path = one()
print(name, "extra" in path)
sys.path.append("late")
print(two())
sys.path.remove("late")
sys.modules.pop("later", None)  # debug mode imports into this process
try:
    two()
except Exception as error:
    print(type(error.__cause__ or error).__name__)
""",
    )
    assert told == "found True\nlater\nModuleNotFoundError\n"


def test_submodules_that_were_imported_by_their_dotted_name(lab):
    """`import xml.etree.ElementTree` and aliases reach the same things in a step."""
    assert (
        script(
            lab,
            """
import importlib.util
import os.path as p
import xml.etree.ElementTree
import concurrent.futures
import email.mime.text as mime
from collections import abc

@component
def work():
    tree = xml.etree.ElementTree.fromstring("<a><b/></a>")
    return (tree.tag, p.basename("/x/y"), mime.MIMEText("t").get_payload(),
            concurrent.futures.Future.__name__, abc.Sized.__name__,
            importlib.util.find_spec("json").name)

@pipeline
def main():
    return work()

print(main())
""",
        )
        == "('a', 'y', 't', 'Future', 'Sized', 'json')\n"
    )


def test_submodules_that_somebody_else_imported(lab):
    """What the body reaches as an attribute, though another module imported it."""
    lab.write("other.py", "import xml.dom.minidom\n")
    assert (
        script(
            lab,
            """
import xml
import other

@component
def work():
    return xml.dom.minidom.parseString("<a/>").documentElement.tagName

@pipeline
def main():
    return work()

print(main())
""",
        )
        == "a\n"
    )


def test_lazy_imports_inside_functions(lab):
    """A module that only the step imports, from the script's own folder."""
    lab.write("tools/__init__.py", "")
    lab.write("tools/lazy.py", "def f():\n    from . import deeper\n    return deeper.X\n")
    lab.write("tools/deeper.py", "X = 11\n")
    assert (
        script(
            lab,
            """
@component
def work():
    from tools.lazy import f
    return f()

@pipeline
def main():
    return work()

print(main())
""",
        )
        == "11\n"
    )


def test_facts_of_the_main_module(lab):
    """`__file__`, `__name__`, argv and the working directory are the script's.

    Where the code has travelled they are those of its copy, in which all that is beside the script
    is found by them.
    """
    lab.write("beside.txt", "beside")
    assert (
        script(
            lab,
            """
import os, sys
from pathlib import Path

@component
def facts():
    here = Path(__file__).resolve().parent
    same = here.samefile(os.getcwd()) and sys.argv == [sys.argv[0]]
    found = Path("beside.txt").read_text(), (here / "beside.txt").read_text()
    return Path(__file__).name, Path(sys.argv[0]).name, __name__, same, found

@component
def places():
    return __file__, sys.argv, os.getcwd()

@pipeline
def main():
    return value([facts(), places()])

told, where = main()
print(told == facts.fn(), where == places.fn())
""",
        )
        == f"True {lab.mode != 'remote'}\n"
    )


def test_globals_of_many_kinds(lab):
    """Constants, lambdas, partials, instances, decorated helpers and mutual recursion."""
    assert (
        script(
            lab,
            """
import functools
import logging
import re
import threading

LOG = logging.getLogger("mine")
PATTERN = re.compile("a+")
LOCK = threading.Lock()
TABLE = {"square": lambda n: n * n, "add": functools.partial(pow, 2)}

def twice(fn):
    @functools.wraps(fn)
    def inner(*args):
        return fn(*args) * 2
    return inner

@twice
def even(n):
    return True if n == 0 else odd(n - 1)

def odd(n):
    return False if n == 0 else even(n - 1)

class Base:
    offset = 100
    def go(self, n):
        return n + self.offset

class Child(Base):
    def go(self, n):
        return super().go(n) + 1

TOOL = Child()

@functools.lru_cache
def cached(n):
    return n + TOOL.go(n)

@component
def work(n):
    with LOCK:
        return (TABLE["square"](n), TABLE["add"](n), even(4), TOOL.go(n), cached(n),
                PATTERN.match("aab").group(), LOG.name, isinstance(TOOL, Base))

@pipeline
def main():
    return work(3)

print(main() == work.fn(3))
""",
        )
        == "True\n"
    )


def test_a_module_that_changed_and_was_reloaded(lab):
    """After importlib.reload the next run of the same process performs the new code."""
    lab.write(
        "parts.py",
        "from pipedeco import component\ndef helper():\n    return 'old'\n"
        "@component\ndef work():\n    return helper()\n",
    )
    assert (
        script(
            lab,
            """
import importlib
import os
import sys
from pathlib import Path
import parts

sys.dont_write_bytecode = True

@component
def local():
    return parts.helper()

@pipeline
def main():
    return value([parts.work(), local()])

print(main())
path = Path("parts.py")
path.write_text(path.read_text().replace("old", "brand new"))
importlib.reload(parts)
print(main())
path.write_text(path.read_text().replace("brand new", "newest"))
importlib.reload(parts)
print(main())
""",
        )
        == "['old', 'old']\n['brand new', 'brand new']\n['newest', 'newest']\n"
    )


def test_a_module_written_between_two_runs(lab):
    """A module that did not exist when the workers began."""
    assert (
        script(
            lab,
            """
from pathlib import Path

@component
def work():
    try:
        import fresh
    except ImportError:
        return "absent"
    return fresh.X

@pipeline
def main():
    return work()

print(main())
Path("fresh.py").write_text("X = 'present'")
print(main())
""",
        )
        == "absent\npresent\n"
    )


def test_values_of_main_keep_their_identity(lab):
    """Enum members are `is`, classes `isinstance`, in arguments, results and containers."""
    assert (
        script(
            lab,
            """
import enum
from dataclasses import dataclass, field
from typing import NamedTuple

class Kind(enum.IntFlag):
    A = 1
    B = 2

class Mode(str, enum.Enum):
    FAST = "fast"

class Meta(type):
    pass

class Special(metaclass=Meta):
    class Inner:
        pass

@dataclass(frozen=True, slots=True)
class Config:
    mode: Mode = Mode.FAST
    kinds: dict = field(default_factory=lambda: {Kind.A: [Kind.B]})

class Row(NamedTuple):
    config: Config
    special: Special

SENTINEL = Mode.FAST

@component
def check(row, nested, default=Mode.FAST):
    assert type(row) is Row and type(row.config) is Config and type(type(row.special)) is Meta
    assert row.config.mode is Mode.FAST is SENTINEL is default
    assert row.config.kinds[Kind.A][0] is Kind.B
    assert isinstance(nested["inner"], Special.Inner)
    assert row.config == Config()
    return Row(Config(), Special()), Special.Inner(), {Mode.FAST: Kind.A | Kind.B}, Config, Mode

@component
def again(found):
    row, inner, table, config, mode = found
    assert type(row) is Row and type(inner) is Special.Inner and config is Config and mode is Mode
    return table[Mode.FAST]

@pipeline
def main():
    found = check(Row(Config(), Special()), {"inner": Special.Inner()})
    kinds = again(found)
    row, inner, table, config, mode = found.result()
    return (type(row) is Row, type(inner) is Special.Inner, config is Config, mode is Mode,
            next(iter(table)) is Mode.FAST, kinds.result() is (Kind.A | Kind.B))

print(main())
print(main())
""",
        )
        == "(True, True, True, True, True, True)\n" * 2
    )

"""What a script takes from modules: objects by their import, modules that no finder finds."""

from __future__ import annotations

import sys

import pytest

METHODS = pytest.mark.parametrize(
    ("lab", "method"),
    [("debug", ""), ("local", "nursery"), ("local", "spawn"), ("remote", "nursery")],
    indirect=["lab"],
)

INFRA = """
import sqlite3
from contextlib import closing

connection = sqlite3.connect(":memory:", check_same_thread=False)
REGISTRY = {"a": 1}
RATE = 3


def made():
    def handler():
        return REGISTRY

    return handler


handler = made()
"""

USERS = """
import infra
from infra import REGISTRY as known
from infra import connection, handler
from pipedeco import component, pipeline

@component
def named():
    one = connection.execute("select 1").fetchone()[0]
    return one, known is infra.REGISTRY, handler() is known


def own():
    return infra.connection


def make(n):
    @component
    def closure(x):
        connection.execute("select 1")
        return x + n, known is infra.REGISTRY, own() is connection

    return closure


added = make(2)
"""

CALL = """
from infra import RATE

infra.RATE = 99


@component
def rate():
    return RATE


@pipeline(workers=2)
def main():
    return [named(), added(1), rate()]


if METHOD == "spawn":
    main = main.with_options(start_method="spawn")
print("RESULT", main())
"""

EXPECTED = "RESULT [(1, True, True), (3, True, True), 3]"


def check(lab, expected: str, *command: str, stdin: str = "") -> None:
    done = lab.command([sys.executable, *command], stdin.encode()).finish()
    assert done.code == 0, done.err
    assert done.out.splitlines() == [expected]
    assert done.err == ""


@METHODS
def test_what_an_import_named_is_the_module_s(lab, method):
    """In a script: there is one object in each process, and a plain number is as it was here."""
    lab.write("infra.py", INFRA)
    lab.write("script.py", f"METHOD = {method!r}\n{USERS}{CALL}")
    check(lab, EXPECTED, "script.py")


@METHODS
def test_what_an_import_named_in_a_module(lab, method):
    """In a function that travels by value, too; what that module has made is its own."""
    lab.write("infra.py", INFRA)
    users = USERS.replace("def own", "cursor = connection.cursor()\n\n\ndef own")
    lab.write("users.py", users.replace("own() is", "cursor.connection is"))
    lab.write("script.py", f"METHOD = {method!r}\nfrom users import *\n{CALL}")
    check(lab, EXPECTED, "script.py")


def test_what_an_import_named_at_a_prompt(lab):
    """Where there is no file to read."""
    lab.write("infra.py", INFRA)
    code = USERS.partition("def own")[0].replace("REGISTRY as known", "REGISTRY")
    code = code.replace("known", "REGISTRY")
    call = "@pipeline\ndef main():\n    return named()\nprint('RESULT', main())\n"
    check(lab, "RESULT (1, True, True)", "-", stdin=code + call)


def test_a_rebound_name_goes_by_value(lab):
    """What the module has now is another object than what the script took from it."""
    lab.write("infra.py", "TABLE = {'a': 1}\n")
    lab.write(
        "script.py",
        """
import infra
from infra import TABLE
from pipedeco import component, pipeline

infra.TABLE = {}


@component
def step():
    return TABLE


@pipeline
def main():
    return step()


print("RESULT", main())
""",
    )
    check(lab, "RESULT {'a': 1}", "script.py")


PLUGIN = """
from dataclasses import dataclass

from pipedeco import component, pipeline, value


@dataclass
class Item:
    size: int


@component
def double(item):
    return Item(2 * item.size)


@pipeline(workers=2)
def body():
    made = double(double(Item(3)))
    return type(value(made)) is Item, made.size


if METHOD == "spawn":
    body = body.with_options(start_method="spawn")
"""

LOADERS = {
    "by its path": """
        import importlib.util, sys
        spec = importlib.util.spec_from_file_location("loaded-plugin", PATH)
        module = importlib.util.module_from_spec(spec)
        sys.modules["loaded-plugin"] = module
        spec.loader.exec_module(module)
        body = module.body
        """,
    "without a name": """
        import importlib.util
        spec = importlib.util.spec_from_file_location("loaded", PATH)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        body = module.body
        """,
    "from a folder that left the path": """
        import os, sys
        sys.path.insert(0, os.path.dirname(PATH))
        from plugin import body
        sys.path.remove(os.path.dirname(PATH))
        """,
    "in memory": """
        import sys, types
        module = types.ModuleType("made")
        sys.modules["made"] = module
        exec(open(PATH).read(), module.__dict__)
        body = module.body
        """,
    "by runpy": """
        import runpy
        body = runpy.run_path(PATH)["body"]
        """,
    "registered by value": """
        import os, sys
        import cloudpickle
        sys.path.insert(0, os.path.dirname(PATH))
        import plugin
        cloudpickle.register_pickle_by_value(plugin)
        body = plugin.body
        """,
}


@METHODS
@pytest.mark.parametrize("loader", LOADERS)
def test_a_module_that_no_finder_finds(lab, method, loader, tmp_path_factory):
    """Its components, its classes as arguments, and what they return, are those of the program."""
    import textwrap

    place = tmp_path_factory.mktemp("plugins") / "plugin.py"
    place.write_text(f"METHOD = {method!r}\n{PLUGIN}")
    lab.write(
        "script.py",
        f"PATH = {str(place)!r}\n{textwrap.dedent(LOADERS[loader])}\nprint('RESULT', body())\n",
    )
    check(lab, "RESULT (True, 12)", "script.py")


def test_two_plugins_of_one_name_in_turn(lab):
    """A worker that has imported the first takes no step of the second."""
    for number in (1, 2):
        lab.write(
            f"plugins/{number}.py",
            "from pipedeco import component, pipeline\n"
            f"@component\ndef step(): return {number}\n"
            "@pipeline(workers=1)\ndef body(): return step() + 0\n",
        )
    lab.write(
        "script.py",
        """
import importlib.util, sys

def load(path):
    spec = importlib.util.spec_from_file_location("plugin", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["plugin"] = module
    spec.loader.exec_module(module)
    return module

print("RESULT", [load(f"plugins/{number}.py").body() for number in (1, 2, 1)])
""",
    )
    check(lab, "RESULT [1, 2, 1]", "script.py")

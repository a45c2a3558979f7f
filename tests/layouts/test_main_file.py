"""A main file with a guard is a module of the program: steps find what its top level set up."""

from __future__ import annotations

import sys

import pytest

STATE = """
import functools, logging, threading, uuid
from enum import Enum
from pathlib import Path
from pipedeco import component, pipeline
import settings

HERE = Path(__file__).parent
RUN = uuid.uuid4().hex
GUARD = threading.RLock()
LOCAL = threading.local()
HANDLERS = {}
LIMIT = None
log = logging.getLogger(__name__)


class Colour(Enum):
    RED = 1


class Model:
    lock = threading.Lock()

    @functools.cached_property
    def size(self):
        return 5

    @functools.singledispatchmethod
    def read(self, item):
        return "any"

    @read.register
    def _(self, item: int):
        return "int"


@functools.singledispatch
def kind(item):
    return "any"


@kind.register
def _(item: int):
    return "int"


def handler(function):
    HANDLERS[function.__name__] = function
    return function


@handler
def first():
    return 1


@component
def look(colour, model):
    with GUARD, Model.lock:
        return {
            "same": (colour is Colour.RED, type(model) is Model, model.size, model.read(1)),
            "dispatch": (kind(1), kind("")),
            "handlers": sorted(HANDLERS),
            "limit": LIMIT,
            "run": RUN,
            "names": (__name__, log.name),
            "settings": (settings.K, settings.TABLE, settings.of().depth),
            "here": HERE == Path(__file__).parent,
        }


@component
def make():
    return Model(), Colour.RED


@pipeline
def p():
    return [look(Colour.RED, Model()) for _ in range(3)], make()


def main():
    global LIMIT
    LIMIT = 7
    settings.K = 6
    settings.TABLE["new"] = 1
    settings.of().depth = 4
    HANDLERS["late"] = first
    expected = look.fn(Colour.RED, Model())
    found, (model, colour) = p()
    for item in found:
        assert item == expected, (item, expected)
    assert type(model) is Model and colour is Colour.RED
    print("ok", flush=True)


if __name__ == "__main__":
    main()
"""

SETTINGS = """
from dataclasses import dataclass

K = 1
TABLE = {}


@dataclass
class Depth:
    depth: int = 1


_depth = Depth()


def of():
    return _depth
"""


def run(lab, *command, **variables):
    done = lab.command([sys.executable, *command], **variables).finish()
    assert done.code == 0, done.err
    return done


def test_steps_find_the_program_as_it_is(lab):
    """Locks, registries, classes, globals that main() has set: as without decorators."""
    lab.write("settings.py", SETTINGS)
    lab.write("app.py", STATE)
    assert run(lab, "app.py").out == "ok\n"


def test_so_does_a_package_that_python_m_runs(lab):
    lab.write("acme/__init__.py", "")
    lab.write("acme/settings.py", SETTINGS)
    lab.write("acme/__main__.py", STATE.replace("import settings", "from . import settings"))
    assert run(lab, "-m", "acme").out == "ok\n"


def test_a_file_without_a_guard_is_not_imported(lab):
    """Its top level is executed once: by the program itself."""
    lab.write(
        "app.py",
        """
        from pipedeco import component, pipeline

        open("tops", "a").write("top ")

        class A:
            pass

        @component
        def look(a):
            return isinstance(a, A)

        @pipeline
        def p():
            return look(A())

        def main():
            print(p())

        main()
        """,
    )
    assert run(lab, "app.py").out == "True\n"
    assert (lab.folder / "tops").read_text() == "top "


TOPS = """
import os, sys, threading
from pipedeco import component, pipeline

TO = os.open("tops", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.write(TO, b"top ")
os.close(TO)
print("at the top")
{top}

class A:
    pass

@component
def look(a):
    return isinstance(a, A), "top" if TOP else "", os.getpid()

TOP = sys.modules[__name__].__dict__.get("A")

@pipeline
def p():
    return [look(A()) for _ in range(4)]

if __name__ == "__main__":
    print([tuple(found[:2]) for found in p()])
"""


def tops(lab):
    return len((lab.folder / "tops").read_text().split())


@pytest.mark.parametrize("lab", ["local"], indirect=True)
def test_the_nursery_imports_it_once_for_all_workers(lab):
    lab.write("app.py", TOPS.format(top=""))
    done = run(lab, "app.py", PIPEDECO_WORKERS="3")
    assert done.out == f"at the top\n{[(True, 'top')] * 4}\n"
    assert done.err == ""
    assert tops(lab) == 2  # the program, and the nursery


@pytest.mark.parametrize("lab", ["local"], indirect=True)
@pytest.mark.parametrize(
    ("top", "told"),
    [
        ("threading.Thread(target=threading.Event().wait, daemon=True, name='t1').start()", "t1"),
        ("import socket; PAIR = socket.socketpair()", "an open connection"),
        ("FILE = open(__file__)", "the open file"),
        ("import subprocess; CHILD = subprocess.Popen(['sleep', '100'])", "a child process"),
    ],
)
def test_what_an_import_starts_is_shared_by_no_workers(lab, top, told):
    """Each of them imports the file for itself, and the user is told why."""
    lab.write("app.py", TOPS.format(top=top))
    if "CHILD" in top:
        lab.write("app.py", TOPS.format(top=top) + "    CHILD.kill()\n")
    done = run(lab, "app.py", PIPEDECO_PROGRESS="auto", PIPEDECO_WORKERS="2")
    assert done.out == f"at the top\n{[(True, 'top')] * 4}\n"
    assert told in done.err
    assert "each worker process imports it" in done.err
    assert 3 <= tops(lab) <= 4  # the program, the nursery, and each worker that had a step


@pytest.mark.parametrize("lab", ["local", "remote"], indirect=True)
@pytest.mark.parametrize("how", ["raise RuntimeError('not twice')", "sys.exit(3)", "p()"])
def test_a_file_that_cannot_be_imported_gives_its_definitions(lab, how):
    """`PIPEDECO_FIRST` tells the program from a worker that inherits its environment."""
    top = f"if 'FIRST' in os.environ:\n    {how}\nos.environ['FIRST'] = '1'"
    if how == "p()":  # the tree cannot show it
        top = top.replace("p()", "import flows; flows.training()")
        lab.write(
            "flows.py", "from pipedeco import pipeline\n@pipeline\ndef training():\n    return 1\n"
        )
    lab.write("app.py", TOPS.format(top=top))
    done = run(lab, "app.py", PIPEDECO_PROGRESS="auto")
    assert done.out == f"at the top\n{[(True, 'top')] * 4}\n"
    if lab.mode == "local":
        assert "cannot be imported by worker processes" in done.err


@pytest.mark.parametrize("lab", ["local"], indirect=True)
def test_a_log_file_is_not_begun_again(lab):
    lab.write(
        "app.py",
        TOPS.format(
            top="import logging\n"
            "logging.basicConfig(filename='app.log', filemode='w', level=20)\n"
            "logging.info('the program') if 'FIRST' not in os.environ else None\n"
            "os.environ['FIRST'] = '1'"
        ),
    )
    run(lab, "app.py")
    assert "the program" in (lab.folder / "app.log").read_text()


@pytest.mark.parametrize("lab", ["local"], indirect=True)
def test_the_settings_of_the_project_decide(lab):
    lab.write("pyproject.toml", '[tool.pipedeco]\nmain = "definitions"\n')
    lab.write("app.py", TOPS.format(top=""))
    assert run(lab, "app.py").out == f"at the top\n{[(True, 'top')] * 4}\n"
    assert tops(lab) == 1


@pytest.mark.parametrize("lab", ["local"], indirect=True)
def test_names_of_the_guard_and_changed_modules_travel(lab):
    """A function that only the guard defines, one that main() puts in another's place, and a module
    that is edited between two runs."""
    lab.write("tool.py", "VALUE = 1\n")
    lab.write(
        "app.py",
        """
        import os
        from pipedeco import component, pipeline
        import tool

        def slow():
            return "slow"

        def fast():
            return "fast"

        BACKEND = slow

        @component
        def work(function):
            return BACKEND(), function(), tool.VALUE

        @pipeline
        def p(function):
            return work(function)

        if __name__ == "__main__":
            def mine():
                return "mine", twice(1)

            def twice(n):
                return 2 * n

            BACKEND = fast
            print(p(mine))
            with open("tool.py", "w") as file:
                file.write("VALUE = 1 + 0\\nMORE = 2\\n")
            os.utime("tool.py", (1, 1))
            print(p(mine))
        """,
    )
    done = run(lab, "app.py")
    assert done.out == "('fast', ('mine', 2), 1)\n" * 2


@pytest.mark.parametrize("lab", ["local"], indirect=True)
def test_unseeded_generators_of_workers_differ(lab):
    lab.write(
        "app.py",
        """
        import random
        from pathlib import Path
        import numpy as np
        from pipedeco import component, pipeline

        own, own_np = random.Random(), np.random.default_rng()
        seeded = np.random.default_rng(5)

        @component
        def draw(n):
            Path(f"at-{n}").touch()
            while not Path(f"at-{1 - n}").exists():
                pass
            return own.random(), own_np.random(), seeded.random()

        @pipeline
        def p():
            return draw(0), draw(1)

        if __name__ == "__main__":
            one, two = p()
            print(one[0] != two[0], one[1] != two[1], one[2] == two[2])
        """,
    )
    assert run(lab, "app.py", PIPEDECO_WORKERS="2").out == "True True True\n"


@pytest.mark.parametrize("lab", ["local"], indirect=True)
def test_a_changed_global_that_cannot_travel_is_told_of(lab):
    lab.write("tool.py", "import sqlite3\nDB = None\ndef use():\n    return DB is None\n")
    lab.write(
        "app.py",
        """
        import sqlite3
        from pipedeco import component, pipeline
        import tool

        @component
        def work():
            return tool.use()

        @pipeline
        def p():
            return work()

        if __name__ == "__main__":
            tool.DB = sqlite3.connect(":memory:")
            print(p())
        """,
    )
    done = run(lab, "app.py")
    assert done.out == "True\n"
    assert "tool.DB is not sent to worker processes" in done.err
    assert "setup=" in done.err


HOOKS = """
from decimal import Decimal

K = 1
hook = None


def greet(name):
    return "hello " + name


class Config:
    depth = 1
    tags = []
    rate = Decimal("0.5")


class Deep(Config):
    pass


def all():
    return K, hook and hook(3), greet("ada"), Config.depth, Config.tags, Deep.depth, str(Config.rate)
"""

CHANGED = """
from pipedeco import component, pipeline
import conf

FACTOR = 10

def twice(n):
    return 2 * n * FACTOR

@component
def look():
    return conf.all()

@pipeline
def p():
    return look()

def change(hook):
    conf.K = 2
    conf.hook = hook
    conf.greet = shout
    conf.Config.depth = 3
    conf.Config.tags.append("new")
    conf.Config.rate = conf.Decimal("0.7")

def shout(name):
    return name.upper()

{call}
"""


@pytest.mark.parametrize("hook", ["twice", "lambda n: twice(n) + 1"])
@pytest.mark.parametrize("guard", ["if __name__ == '__main__':", "if True:"])
def test_changed_attributes_and_functions_of_other_modules_are_seen(lab, guard, hook):
    """In a file that workers import, and in one whose definitions travel."""
    lab.write("conf.py", HOOKS)
    call = f"{guard}\n    change({hook})\n    print(p() == look.fn(), p())"
    lab.write("app.py", CHANGED.format(call=call))
    number = 60 if hook == "twice" else 61
    expected = (2, number, "ADA", 3, ["new"], 3, "0.7")
    assert run(lab, "app.py").out == f"True {expected}\n"


@pytest.mark.parametrize("lab", ["local"], indirect=True)
@pytest.mark.parametrize("alone", [False, True])
def test_what_the_top_level_does_to_the_process_is_done_once(lab, alone):
    """Its exit functions are the program's, its handlers of signals not in the way of ours, and a
    folder that it goes to is found from where the program began."""
    (lab.folder / "data").mkdir()
    (lab.folder / "data" / "n.txt").write_text("5")
    top = (
        "import atexit, signal\n"
        "atexit.register(lambda: print('bye'))\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_DFL)\n"
        "os.chdir('data')\n"
        "TEXT = open('n.txt').read()\n"
    )
    if alone:
        top += "FILE = open('n.txt')\n"
    lab.write("app.py", TOPS.format(top=top))
    done = run(lab, "app.py", PIPEDECO_WORKERS="2")
    assert done.out == f"at the top\n{[(True, 'top')] * 4}\nbye\n"


@pytest.mark.parametrize("lab", ["local"], indirect=True)
def test_a_large_global_is_not_compared_at_each_run(lab):
    """Unless the source says that the import leaves it empty."""
    lab.write(
        "app.py",
        """
        import numpy as np
        from pipedeco import component, pipeline

        LARGE = np.zeros(9 << 20)
        LATER = None

        @component
        def work():
            return LARGE.sum(), len(LATER)

        @pipeline
        def p():
            return work()

        if __name__ == "__main__":
            LATER = np.ones(9 << 20)
            print(p() == (0.0, 9 << 20))
        """,
    )
    done = run(lab, "app.py")
    assert done.out == "True\n"
    assert "__main__.LARGE is not sent" in done.err
    assert "LATER" not in done.err


@pytest.mark.parametrize("lab", ["local"], indirect=True)
def test_a_worker_compares_globals_in_each_run(lab):
    lab.write("tool.py", "SEEN = []\n")
    lab.write(
        "app.py",
        """
        from pipedeco import component, pipeline
        import tool

        @component
        def see(n):
            tool.SEEN.append(n)
            return list(tool.SEEN)

        @pipeline(workers=1)
        def p(n):
            return see(n)

        if __name__ == "__main__":
            print(p(1), p(2))
        """,
    )
    assert run(lab, "app.py").out == "[1] [2]\n"


@pytest.mark.parametrize("how", ["getattr(conf, name)", "vars(conf)[name]", "conf.__dict__[name]"])
def test_a_global_that_is_looked_up_by_a_computed_name_is_seen(lab, how):
    lab.write("conf.py", "A = 1\n\n\nclass O:\n    pass\n")
    lab.write(
        "app.py",
        f"""
        from pipedeco import component, pipeline
        import conf

        @component
        def look(name):
            return {how}, conf.NEW, conf.O.new

        @pipeline
        def p():
            return look("A")

        if __name__ == "__main__":
            conf.A = 2
            conf.NEW = conf.O.new = 5
            print(p())
        """,
    )
    assert run(lab, "app.py").out == "(2, 5, 5)\n"

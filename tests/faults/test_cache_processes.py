"""The cache between processes: edited files, several at once, and what is killed in between."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import sys

import pytest

from .support import wait_until

# -- edits of real files

LIB = '''\
"""A module of the user's."""
import functools
import dep
import other

CONSTANT = 1

def deep(x):
    return x + 1

def helper(x):
    """What it does."""
    return deep(x) * 2

def unrelated(x):
    return x

def by_default(x, step=1):
    return x + step

def make(n):
    def inner(x):
        return x + n
    return inner

closure = make(1)

class Base:
    def base_method(self):
        return 1

class Thing(Base):
    def method(self):
        return self.base_method() + 1

    @classmethod
    def made(cls):
        return cls()

def decorate(fn):
    @functools.wraps(fn)
    def wrapper(x):
        return fn(x) + 1
    return wrapper

@decorate
def decorated(x):
    return x
'''

APP = """\
import json
import os
import lib
import other
import dep
from pipedeco import component, pipeline

def note(name):
    with open("log", "a") as file:
        file.write(name + "\\n")

@component(cache=True)
def body(x):
    note("body")
    return x + 1

@component(cache=True)
def helper(x):
    note("helper")
    return lib.helper(x)

@component(cache=True)
def constant(x):
    note("constant")
    return lib.CONSTANT

@component(cache=True)
def default(x, y=1):
    note("default")
    return lib.by_default(x)

@component(cache=True)
def closure(x):
    note("closure")
    return lib.closure(x)

@component(cache=True)
def method(x):
    note("method")
    return lib.Thing.made().method()

@component(cache=True)
def decorated(x):
    note("decorated")
    return lib.decorated(x)

@component(cache=True)
def module(x):
    note("module")
    return other.function(x)

@component(cache=True)
def package(x):
    note("package")
    return dep.function(x)

@component
def produce(x):
    return lib.Thing()

@component(cache=True)
def consume(thing):
    note("consume")
    return type(thing).__name__

ALL = [body, helper, constant, default, closure, method, decorated, module, package]

@pipeline
def main():
    return [str(c(10)) for c in ALL] + [str(consume(produce(1)))]

main()
"""

FILES = {
    "app.py": APP,
    "lib.py": LIB,
    "other.py": "def function(x):\n    return x\n\ndef more(x):\n    return x\n",
    "site-packages/dep/__init__.py": "__version__ = '1.0'\n\ndef function(x):\n    return x\n",
}

# what is edited: the file, what is replaced by what, and who is to be performed again
EDITS = {
    "body": ("app.py", "return x + 1", "return x + 2", "body"),
    "helper": ("lib.py", "deep(x) * 2", "deep(x) * 3", "helper"),
    "helper's helper": ("lib.py", "return x + 1\n\ndef helper", "return x + 2\n\ndef helper", "helper"),
    "constant": ("lib.py", "CONSTANT = 1", "CONSTANT = 2", "constant"),
    "default": ("app.py", "y=1", "y=2", "default"),
    "default of a helper": ("lib.py", "step=1", "step=2", "default"),
    "closure": ("lib.py", "make(1)", "make(2)", "closure"),
    "class method": ("lib.py", "return cls()", "return cls.__new__(cls)", "method consume"),
    "method": ("lib.py", "self.base_method() + 1", "self.base_method() + 2", "method consume"),
    "base class": ("lib.py", "return 1\n\nclass", "return 2\n\nclass", "method consume"),
    "decorator": ("lib.py", "fn(x) + 1", "fn(x) + 2", "decorated"),
    "imported module": ("other.py", "return x\n\n", "return x + 1\n\n", "module"),
    "version of a dependency": ("site-packages/dep/__init__.py", "1.0", "1.1", "package"),
    "comment": ("lib.py", "    return deep(x) * 2", "    # why\n    return deep(x) * 2  # how", ""),
    "docstring": ("lib.py", "What it does.", "What it does, in more words.", ""),
    "formatting": ("lib.py", "deep(x) * 2", "(deep( x )\n        * 2)", ""),
    "moved": (
        "lib.py",
        "def unrelated(x):\n    return x\n",
        "def unrelated(x):\n    return x\n\n\n\ndef deep(x):\n    return x + 1\n",
        "",
    ),
    "unrelated function": ("lib.py", "def unrelated(x):\n    return x", "def unrelated(x):\n    pass", ""),
    "unrelated function of a module": ("other.py", "def more(x):", "def more(x, y):", ""),
    "unused import": ("lib.py", "import functools\n", "import functools\nimport decimal\n", ""),
    "a package's code, of one version": (
        "site-packages/dep/__init__.py", "return x", "return 1 * x", "",
    ),
}  # fmt: skip


def write(lab, edit=None):
    for name, text in FILES.items():
        lab.write(name, text)
    if edit is not None:
        name, old, new, _ = edit
        assert old in FILES[name]
        text = FILES[name].replace(old, new, 1)
        if "def deep" in new:  # moved: the first one goes
            text = text.replace("def deep(x):\n    return x + 1\n\n", "", 1)
        lab.write(name, text)


def performed(lab):
    """Who was performed by a run of the app."""
    log = lab.folder / "log"
    log.unlink(missing_ok=True)
    path = [str(lab.folder / "site-packages"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    done = lab.command(
        [sys.executable, "app.py"],
        PYTHONPATH=os.pathsep.join(filter(None, path)),
        PYTHONDONTWRITEBYTECODE="1",  # it knows a file by the second and the size
    ).finish()
    assert done.code == 0, done.err[-3000:]
    return set(log.read_text().split()) if log.exists() else set()


def test_edited_files(lab):
    """What is reached by a component counts, and nothing else."""
    write(lab)
    assert len(performed(lab)) == 10
    assert performed(lab) == set()
    wrong = {}
    for name, edit in EDITS.items():
        write(lab, edit)
        found = performed(lab)
        if found != set(edit[3].split()):
            wrong[name] = (found, edit[3])
    assert wrong == {}
    write(lab)
    assert performed(lab) == set(), "what was known before the edits still is"


# -- values

COUNTED = """
def count(name):
    with open(name, "a") as file:
        file.write(f"{os.getpid()}\\n")


"""


def lines(lab, name):
    path = lab.folder / name
    return path.read_text().split() if path.exists() else []


HITS = (
    COUNTED
    + """
class Heavy:
    def __init__(self, content):
        self.content = content

    def __setstate__(self, state):
        count("unpickled")
        self.__dict__.update(state)


@component(cache=True)
def make(n):
    count("made")
    return Heavy("x" * n)


@component(cache=True)
def use(heavy):
    count("used")
    return len(heavy.content)


@component
def look(heavy):
    return len(heavy.content)


@pipeline(workers=2)
def main(n, looks=False):
    heavy = make(n)
    return [value(use(heavy)), value(look(heavy)) if looks else None]


"""
)


@pytest.mark.parametrize("size", [10, 200_000])
def test_a_hit_unpickles_nothing(lab, size):
    """A known value is unpickled by nobody who does not need it, and never by the controller."""
    lab.run(HITS + f"main({size})\n")
    (lab.folder / "unpickled").unlink()
    lab.run(HITS + f"assert main({size}) == [{size}, None]\n")
    assert lines(lab, "unpickled") == []
    job = lab.start(HITS + f"assert main({size}, True) == [{size}, {size}]\n")
    pid = str(job.pid)
    assert job.finish().code == 0
    [who] = lines(lab, "unpickled")
    assert who != pid
    assert len(lines(lab, "made")) == len(lines(lab, "used")) == 1


def test_values_of_classes_of_the_script(lab):
    """A class's code counts where its instances are inputs; of `__main__` too."""
    source = (
        COUNTED
        + """
class Model:
    def predict(self):
        return 1


@component(cache=True)
def fit():
    count("fit")
    return [Model()]


@component
def fit_each_time():
    return [Model()]


@component(cache=True)
def score(models, by):
    count(by)
    return models[0].predict()


@pipeline
def main():
    return score(fit(), "score"), score(fit_each_time(), "score-each")


print(main())
"""
    )
    assert lab.run(source).out == "(1, 1)\n"
    assert lab.run(source).out == "(1, 1)\n"
    edited = source.replace("return 1\n", "return 2\n", 1)
    assert lab.run(edited).out == "(2, 2)\n"
    assert len(lines(lab, "score")) == len(lines(lab, "score-each")) == 2
    assert lab.run(edited).out == "(2, 2)\n"
    assert len(lines(lab, "score")) == len(lines(lab, "score-each")) == 2


def test_classes_that_only_steps_import(lab):
    """A value of a class that the controller has not imported has a fingerprint as well."""
    lab.write("shapes.py", "class Shape:\n    def area(self):\n        return 2\n")
    source = (
        COUNTED
        + """
@component(cache=True)
def make():
    import shapes
    from packaging.version import Version
    return shapes.Shape(), Version("1.2")


@component
def make_each_time():
    from packaging.version import Version
    return Version("1.2")


@component(cache=True)
def use(made, again):
    count("used")
    return made[0].area()


@pipeline
def main():
    return use(make(), make_each_time())


print(main(), "packaging" in sys.modules)
"""
    )
    assert lab.run(source).out == "2 False\n"
    assert lab.run(source).out == "2 False\n"
    assert len(lines(lab, "used")) == 1
    lab.write("shapes.py", "class Shape:\n    def area(self):\n        return 33\n")
    assert lab.run(source).out == "33 False\n"


def test_a_global_that_only_the_controller_has_changed(lab):
    """What was made by a worker's value of a global is not known under the controller's."""
    lab.write("lib.py", "RATE = 1\n\ndef times(x):\n    return x * RATE\n")
    source = """
import lib


@component(cache=True)
def rated(x):
    return lib.times(x)


@pipeline
def main():
    return rated(10)


"""
    lab.run(source + "lib.RATE = 22\nmain()\n")
    lab.write("lib.py", "RATE = 22\n\ndef times(x):\n    return x * RATE\n")
    assert lab.run(source + "print(main())\n").out == "220\n"


def test_hash_seeds(lab):
    """Sets, and dicts in another order, are the same in every process."""
    source = (
        COUNTED
        + """
@component
def words():
    return {"one", "two", "three"}, dict.fromkeys({"a", "b", "c"})


@component(cache=True)
def size(found, given):
    count("size")
    return len(found[0]) + len(given)


@pipeline
def main():
    return size(words(), {"x", "y", "z"} | {chr(i) for i in range(97, 107)})


print(main())
"""
    )
    for seed in ("1", "2", "3"):
        assert lab.run(source, PYTHONHASHSEED=seed).out == "16\n"
    assert len(lines(lab, "size")) == 1


def test_the_modes_share(lab):
    """Debug and local mode know each other's values, of `__main__`'s classes as well."""
    source = HITS.replace("workers=2", "workers=1")
    lab.run(source + "main.debug(10)\n")
    lab.run(source + "assert main.local(10, True) == [10, 10]\n")
    lab.run(source + "main.local(11)\n")
    lab.run(source + "assert main.debug(11, True) == [11, 11]\n")
    assert len(lines(lab, "made")) == len(lines(lab, "used")) == 2


# -- several processes

MANY = (
    COUNTED
    + """
@component(cache=True)
def square(n):
    count(f"square-{n}")
    time.sleep(0.005)
    return n * n


@pipeline(workers=2)
def main():
    return sum(value([square(n) for n in range(20)]))


"""
)


@pytest.mark.parametrize("mode", ["debug", "local"])
def test_each_key_is_computed_once(lab, mode):
    """Four processes that begin at once share the work, and all get all values."""
    begin = f'note("here-{{}}")\nwait_for("go")\nprint(main.{mode}())\n'
    jobs = [lab.start(MANY + begin.format(n)) for n in range(4)]
    for n, job in enumerate(jobs):
        job.note(f"here-{n}")
    (lab.folder / "go").touch()
    assert [(job.finish().code, job.out()) for job in jobs] == [(0, "2470\n")] * 4
    assert [len(lines(lab, f"square-{n}")) for n in range(20)] == [1] * 20
    lab.assert_sound()


SLOW = (
    COUNTED
    + """
@component(cache=True)
def slow():
    count("slow")
    note("begun")
    wait_for("gate", 60)
    return 7


@pipeline(workers=2)
def main():
    return value(slow())


"""
)

# Says when a key is another's to compute.
TELLS = """
import pipedeco.cache

claim = pipedeco.cache.Flights.claim


def telling(flights, key):
    is_ours = claim(flights, key)
    if not is_ours:
        note("held")
    return is_ours


pipedeco.cache.Flights.claim = telling
"""


def start_two(lab, mode):
    """Two processes, of which the first computes what the second waits for."""
    first = lab.start(SLOW + f"print(main.{mode}())\n")
    first.note("begun")
    second = lab.start(SLOW + TELLS + f"print(main.{mode}())\n")
    second.note("held")
    return first, second


@pytest.mark.parametrize("mode", ["debug", "local"])
def test_the_one_that_computes_is_killed(lab, mode):
    """The key is free at once: the other computes it."""
    first, second = start_two(lab, mode)
    (lab.folder / "begun").unlink()
    first.kill()
    second.note("begun")
    assert len(lines(lab, "slow")) == 2
    (lab.folder / "gate").touch()
    assert second.finish().out == "7\n"
    assert lab.latest().steps["slow"].state == "completed"
    assert lab.run(SLOW + "print(main())\n").out == "7\n"
    assert len(lines(lab, "slow")) == 2


@pytest.mark.parametrize("mode", ["debug", "local"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_another_computes(lab, mode, number):
    """Who waits for another process's computation ends at once; that one goes on."""
    first, second = start_two(lab, mode)
    os.kill(second.pid, number)
    assert second.finish().code == (-number if number == signal.SIGTERM else -signal.SIGINT)
    assert lab.latest().status == "cancelled"
    (lab.folder / "gate").touch()
    assert first.finish().out == "7\n"
    assert len(lines(lab, "slow")) == 1


@pytest.mark.parametrize("mode", ["debug", "local"])
def test_cancelled_by_a_third_while_another_computes(lab, mode):
    """The word of another process reaches who waits."""
    first, second = start_two(lab, mode)
    wait_until(lambda: lab._rows() == 2)
    run = lab.latest()
    run.cancel()
    ended = run.wait(15.0)
    (lab.folder / "gate").touch()
    assert first.finish().out == "7\n"
    second.finish()
    assert ended
    assert run.status == "cancelled"


def test_killed_right_after_the_commit(lab):
    """What is in the database serves, though its run never ended."""
    source = (
        COUNTED
        + """
@component(cache=True)
def quick():
    count("quick")
    return "x" * 100_000


@component
def block(path):
    while not os.path.exists(path):
        time.sleep(0.01)


@pipeline
def main():
    found = quick()
    block("go")
    return len(value(found))


print(main())
"""
    )
    job = lab.start(source)
    lab.wait_recorded()

    def is_cached():
        with contextlib.closing(sqlite3.connect(lab.store / "pipedeco.db")) as connection:
            return connection.execute("select count(*) from cache").fetchone()[0]

    wait_until(is_cached)
    job.kill()
    (lab.folder / "go").touch()
    assert lab.run(source).out == "100000\n"
    assert len(lines(lab, "quick")) == 1


def test_a_forked_child(lab):
    """It has claims of its own: it waits for what its parent computes, and leaves that alone."""
    source = (
        SLOW
        + """
@component(cache=True)
def quick(n):
    count("quick")
    return n


@pipeline(workers=1)
def others(n):
    return quick(n)


assert others(1) == 1
run = main.start()
wait_for("begun")
child = os.fork()
if child == 0:
    others(1)
    others(2)
    note("child-quick")
    code = 0 if main() == 7 else 1
    os._exit(code)
wait_for("child-quick")
assert run.steps["slow"].state == "running"
assert others(2) == 2
note("gate")
assert run.result(20) == 7
assert os.waitpid(child, 0)[1] == 0
assert others(1) == 1
"""
    )
    lab.run(source)
    assert len(lines(lab, "quick")) == 2
    assert len(lines(lab, "slow")) == 1


def test_what_a_step_left_in_a_worker_is_in_no_cached_value(lab):
    """A global that an earlier step has changed in the worker is as it was sent again."""
    source = """
import os
from pipedeco import component, get_run, pipeline, value

CONF = {"rate": 1}
RATE = 1

@component
def configure(rate):
    global RATE
    CONF["rate"] = RATE = rate

@component(cache=True)
def cost(x):
    return x * CONF["rate"] * RATE

@pipeline(workers=1)
def flow(rate):
    value(configure(rate))
    return value(cost(10))

print(flow(int(os.environ["RATE_ASKED"])), get_run().steps["cost"].state)
"""
    assert lab.run(source, RATE_ASKED="5").out == "10 completed\n"
    assert lab.run(source, RATE_ASKED="1").out == "10 cached\n"

"""One pipeline, every layout of a project, one result."""

from __future__ import annotations

import sys
import textwrap

import pytest
from faults.support import Terminal

DEFINITIONS = '''
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class Colour(Enum):
    RED = 1
    BLUE = 2


@dataclass
class Point:
    x: int
    colour: Colour


class Pair(NamedTuple):
    left: int
    right: int


class Odd(Exception):
    """An exception of the project."""


FACTOR = 3


def helper(n):
    return inner(n) * FACTOR


def inner(n):
    return n
'''

STEPS = """
from pipedeco import component, pipeline, value


@component
def make(n) -> Point:
    return Point(helper(n), Colour.RED)


@component
def look(point, points, colour):
    same = isinstance(point, Point) and all(isinstance(p, Point) for p in points)
    return same, point.colour is Colour.RED, {Colour.BLUE: "blue"}[colour]


@component
def pair(n) -> Pair:
    return Pair(n, n + 1)


@component
def fail(n):
    raise Odd(f"odd {n}")


@pipeline(workers=2)
def main(n):
    point = make(n)
    seen = look(point, [make(1), Point(0, Colour.BLUE)], Colour.BLUE)
    try:
        fail(n).result()
    except Odd as error:
        odd = str(error)
    return value([point, seen, pair(point.x), odd])
"""

CALL = """
point, seen, both, odd = main(7)
print("RESULT", isinstance(point, Point), point.colour is Colour.RED, point.x, seen,
      isinstance(both, Pair), both.right, odd)
"""

EXPECTED = "RESULT True True 21 (True, True, 'blue') True 22 odd 7"
SPAWN = "main = main.with_options(start_method='spawn')\n"

# Where worker processes begin: by the nursery, or by spawn.
METHODS = pytest.mark.parametrize(
    ("lab", "method"),
    [
        ("debug", ""),
        ("local", "nursery"),
        ("local", "spawn"),
        ("remote", "nursery"),
        ("remote", "spawn"),
    ],
    indirect=["lab"],
)


def call(method: str) -> str:
    return SPAWN + CALL if method == "spawn" else CALL


def check(lab, *command: str, stdin: str = "", **variables: str) -> None:
    """The command prints the expected line, once, and nothing to stderr."""
    done = lab.command([sys.executable, *command], stdin.encode(), **variables).finish()
    assert done.code == 0, done.err
    assert done.out.splitlines() == [EXPECTED]
    assert done.err == ""


@METHODS
def test_a_single_script_without_a_main_guard(lab, method):
    """Everything in one file, called at its end."""
    lab.write("script.py", DEFINITIONS + STEPS + call(method))
    check(lab, "script.py")


def test_a_script_named_like_a_module_of_ours(lab):
    """Neither `types.py`'s sibling `worker.py` nor `store.py` is confused with pipedeco's."""
    lab.write("worker.py", DEFINITIONS)
    lab.write("store.py", "from worker import *\n" + STEPS + CALL)
    check(lab, "store.py")


def test_a_script_with_a_main_guard(lab):
    """The guard changes nothing."""
    guarded = 'if __name__ == "__main__":\n' + textwrap.indent(CALL, "    ")
    lab.write("script.py", DEFINITIONS + STEPS + guarded)
    check(lab, "script.py")


def test_future_annotations(lab):
    """`from __future__ import annotations` makes text of the annotations."""
    lab.write("s.py", "from __future__ import annotations\n" + DEFINITIONS + STEPS + CALL)
    check(lab, "s.py")


def test_definitions_inside_a_function(lab):
    """Local functions and classes travel by value, and keep their identity within the run."""
    local = DEFINITIONS + STEPS + CALL
    lab.write("s.py", "def everything():\n" + textwrap.indent(local, "    ") + "\neverything()\n")
    check(lab, "s.py")


@METHODS
def test_a_script_and_a_module_beside_it(lab, method):
    """The script's folder is on the path of the steps too, wherever it was started."""
    lab.write("bin/parts.py", DEFINITIONS)
    lab.write("bin/script.py", "from parts import *\n" + STEPS + call(method))
    check(lab, "bin/script.py")


def package(lab, root: str) -> None:
    """A package with relative imports at several levels."""
    lab.write(f"{root}/__init__.py", "")
    lab.write(f"{root}/base/__init__.py", "")
    lab.write(f"{root}/base/kinds.py", DEFINITIONS)
    lab.write(f"{root}/flows/__init__.py", "from .steps import main\n")
    lab.write(f"{root}/flows/steps.py", "from ..base.kinds import *\n" + STEPS)


def test_a_package_used_by_a_script(lab):
    """Components in a package with relative imports."""
    package(lab, "pkg")
    imports = "from pkg.flows import main\nfrom pkg.base.kinds import Point, Colour, Pair\n"
    lab.write("script.py", imports + CALL)
    check(lab, "script.py")


@METHODS
def test_a_package_run_by_dash_m(lab, method):
    """`python -m pkg.flows.app`: the module is `__main__` and imports relatively."""
    package(lab, "pkg")
    source = "from ..base.kinds import *\n" + STEPS + call(method)
    lab.write("pkg/flows/app.py", source)
    check(lab, "-m", "pkg.flows.app")


@pytest.mark.parametrize("module", ["pkg.flows.app", "pkg", "space.app"])
def test_the_command_line_loads_what_dash_m_ran(lab, module):
    """As that did it, with its relative imports: to go on with a run, and to make it again."""
    package(lab, "pkg")
    lab.write("space/kinds.py", DEFINITIONS)
    source = """
        {imports}

        import os


        @component
        def fail(colour):
            if not os.path.exists("mended"):
                raise ValueError("not yet")
            return colour


        @pipeline
        def failing(n: int = 1):
            return fail(Colour.RED), n


        if __name__ == "__main__":
            failing()
        """
    base = {"pkg.flows.app": "..base.kinds", "pkg": ".base.kinds", "space.app": ".kinds"}[module]
    file = "pkg/__main__.py" if module == "pkg" else module.replace(".", "/") + ".py"
    imports = f"from pipedeco import component, pipeline\nfrom {base} import Colour"
    lab.write(file, textwrap.dedent(source).replace("{imports}", imports))
    assert lab.command([sys.executable, "-m", module]).finish().code == 1
    lab.write("mended", "")
    for words in (["resume", "latest"], ["rerun", "latest", "--n", "2"], ["check", file]):
        done = lab.command([sys.executable, "-m", "pipedeco", *words]).finish()
        assert done.code == 0, done.err
    assert lab.latest().status == "completed"


def test_a_package_with_main(lab):
    """`python -m pkg` runs pkg/__main__.py."""
    package(lab, "pkg")
    lab.write("pkg/__main__.py", "from .base.kinds import *\nfrom .flows import main\n" + CALL)
    check(lab, "-m", "pkg")


def test_a_relative_import_inside_a_step(lab):
    """A function of `__main__` may import relatively when it runs."""
    package(lab, "pkg")
    steps = STEPS.replace(
        "    return Point(", "    from ..base.kinds import Point\n    return Point("
    )
    lab.write("pkg/flows/app.py", "from ..base.kinds import *\n" + steps + CALL)
    check(lab, "-m", "pkg.flows.app")


def test_classes_of_the_script_with_slots(lab):
    """Their objects have the slots in every process, and no `__dict__` beside them."""
    lab.write(
        "script.py",
        textwrap.dedent("""
        from dataclasses import dataclass
        from pipedeco import component, pipeline, value


        @dataclass(slots=True)
        class Point:
            x: int


        class Base:
            __slots__ = "name"


        class Hidden(Base):
            __slots__ = {"__key": "of its own", "left": "never set"}

            def __init__(self):
                self.name, self.__key = "me", 5

            def key(self):
                return self.__key


        def seen(point, hidden):
            return point.x, hidden.name, hidden.key(), hasattr(point, "__dict__"), vars_of(hidden)


        def vars_of(hidden):
            return hasattr(hidden, "__dict__"), hasattr(hidden, "left")


        @component
        def make():
            return Point(3), Hidden()


        @component
        def look(made):
            return seen(*made)


        @pipeline
        def main():
            made = make()
            return value(look(made)), seen(*value(made))


        inside, here = main()
        assert inside == here == (3, "me", 5, False, (False, False)), (inside, here)
        """),
    )
    done = lab.command([sys.executable, "script.py"]).finish()
    assert done.code == 0, done.err


def test_a_src_layout_by_pythonpath(lab):
    """PYTHONPATH=src, as tools set it."""
    package(lab, "src/pkg")
    imports = "from pkg.flows import main\nfrom pkg.base.kinds import Point, Colour, Pair\n"
    lab.write("run/script.py", imports + CALL)
    check(lab, "run/script.py", PYTHONPATH="src")


@METHODS
def test_a_src_layout_by_sys_path(lab, method):
    """A script that puts src on sys.path itself."""
    package(lab, "src/pkg")
    top = "import sys\nsys.path.insert(0, 'src')\n"
    imports = "from pkg.flows import main\nfrom pkg.base.kinds import Point, Colour, Pair\n"
    lab.write("script.py", top + imports + call(method))
    check(lab, "script.py")


def test_a_namespace_package(lab):
    """Folders without __init__.py."""
    lab.write("space/kinds.py", DEFINITIONS)
    lab.write("space/steps.py", "from .kinds import *\n" + STEPS)
    imports = "from space.steps import main\nfrom space.kinds import Point, Colour, Pair\n"
    lab.write("script.py", imports + CALL)
    check(lab, "script.py")


@METHODS
def test_dash_c(lab, method):
    """`python -c`: there is no file."""
    check(lab, "-c", DEFINITIONS + STEPS + call(method))


@METHODS
def test_stdin(lab, method):
    """`python < script.py` and `python -`."""
    check(lab, "-", stdin=DEFINITIONS + STEPS + call(method))


def test_a_folder_and_a_zip_archive(lab):
    """`python folder` and `python archive.pyz`."""
    import zipfile

    lab.write("app/kinds.py", DEFINITIONS)
    lab.write("app/__main__.py", "from kinds import *\n" + STEPS + CALL)
    check(lab, "app")
    with zipfile.ZipFile(lab.folder / "app.pyz", "w") as archive:
        for name in ("kinds.py", "__main__.py"):
            archive.write(lab.folder / "app" / name, name)
    check(lab, "app.pyz")


def test_exec_and_runpy(lab):
    """Code that another program runs as `__main__`."""
    lab.write("script.py", DEFINITIONS + STEPS + CALL)
    check(lab, "-c", "import runpy; runpy.run_path('script.py', run_name='__main__')")


def test_options_of_the_interpreter(lab):
    """-I, -O and -W error reach the workers."""
    lab.write("script.py", DEFINITIONS + STEPS + CALL)
    check(lab, "-I", "-O", "-W", "error", "script.py")


def typed(terminal: Terminal, source: str) -> None:
    """Type a source line by line; a blank line ends each block that is indented."""
    blocks = textwrap.dedent(source).strip().split("\n\n\n")
    for block in blocks:
        lines = [line for line in block.splitlines() if line.strip()]
        inside = False
        for line in lines:
            starts = not line.startswith((" ", "@", "class", "def"))
            if inside and starts:
                terminal.type("\n")
                terminal.expect(">>> ")
                inside = False
            inside = inside or line.startswith(("@", "class", "def"))
            terminal.type(line + "\n")
            terminal.expect("... " if inside else ">>> ")
        if inside:
            terminal.type("\n")
            terminal.expect(">>> ")


def test_the_prompt(lab):
    """Typed at `python -i`, with a helper redefined between two runs."""
    terminal = Terminal(lab, "-i", "-q", TERM="dumb", PYTHON_BASIC_REPL="1")
    terminal.expect(">>> ")
    steps = STEPS.replace("\n\n    ", "\n    ")
    typed(terminal, DEFINITIONS.replace("\n\n\n", "\n\n\n") + "\n\n" + steps)
    terminal.type("[main(7)[0].x, isinstance(main(7)[0], Point)]\n")
    terminal.expect("[21, True]")
    typed(terminal, "def inner(n):\n    return n + 1\n")
    terminal.type("main(7)[0].x\n")
    terminal.expect("24")
    terminal.type("FACTOR = 5\n")
    terminal.type("main(7)[0].x\n")
    terminal.expect("40")
    terminal.type("exit()\n")
    assert terminal.finish() == 0

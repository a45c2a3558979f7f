"""Notebook cells, in a real kernel."""

from __future__ import annotations

import json
import re
import sys

import pytest

# Executes cells one by one in a kernel and prints what each of them printed.
DRIVER = """
import json
import re
import sys
import warnings

warnings.simplefilter("ignore")
import nbformat
from nbclient import NotebookClient

cells = json.loads(sys.stdin.read())
book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
NotebookClient(book, timeout=30, kernel_name="python3").execute()
found = [
    "".join(output.get("text", "") for output in cell["outputs"] if output.get("name") == "stdout")
    for cell in book.cells
]
errors = "".join(
    output.get("text", "")
    for cell in book.cells
    for output in cell["outputs"]
    if output.get("name") == "stderr"
)
displayed = [
    [o["output_type"] for o in cell["outputs"] if o["output_type"] != "stream"]
    for cell in book.cells
]
print(json.dumps([found, errors, displayed]))
"""

CELLS = [
    """
from dataclasses import dataclass
from enum import Enum

from pipedeco import component, pipeline, value


class Colour(Enum):
    RED = 1


@dataclass
class Point:
    x: int
    colour: Colour = Colour.RED
""",
    "def helper(n):\n    return n + 1",
    "@component\ndef work(n):\n    return Point(helper(n))",
    "@component\ndef check(p):\n    return isinstance(p, Point) and p.colour is Colour.RED",
    "@pipeline\ndef main(n):\n    p = work(n)\n    return value([p, check(p)])",
    "p, ok = main(1)\nprint(p.x, ok, isinstance(p, Point), p.colour is Colour.RED)",
    "def helper(n):\n    return n + 100",
    "print(main(1)[0].x)",
    "@component\ndef work(n):\n    return Point(-helper(n))",
    "print(main(1)[0].x)",
    "@dataclass\nclass Point:\n    x: int\n    colour: Colour = Colour.RED\n    y: int = 5",
    "p, ok = main(1)\nprint(p.x, p.y, ok, isinstance(p, Point))",
    "from pipedeco import get_run\nprint(get_run('latest').mode, get_run('latest').number)",
    "import os, sys\n@component\ndef shout():\n    print('from a step')\n    os.system('echo shell')",
    "@pipeline\ndef loud():\n    return shout()\nloud()",
]


@pytest.fixture
def cells(lab):
    """Executes notebook cells: (what each printed, all of stderr, what else each has put out)."""

    def execute(sources):
        lab.write("driver.py", DRIVER)
        text = json.dumps(sources).encode()
        job = lab.command(
            [sys.executable, "driver.py"], text, IPYTHONDIR=str(lab.folder / "ipython")
        )
        done = job.finish(50.0)
        assert done.code == 0, done.err
        return json.loads(done.out.splitlines()[-1])

    return execute


def test_a_notebook_and_its_redefinitions(lab, cells):
    """Cells define, run, redefine a helper, a component and a class, and run the new code."""
    found, errors, _ = cells(CELLS)
    assert errors == ""
    assert found[5] == "2 True True True\n"
    assert found[7] == "101\n"
    assert found[9] == "-101\n"
    assert found[11] == "-101 5 True True\n"
    assert found[12] == f"{lab.mode} 4\n"
    assert found[14].startswith("from a step\n")
    if lab.mode != "debug":  # where what a child of the kernel writes is the kernel's affair
        assert found[14] == "from a step\nshell\n"


def test_a_notebook_whose_step_fails_and_is_repaired(cells):
    """An error in a cell leaves the kernel and the workers usable."""
    found, *_ = cells(
        [
            "from pipedeco import component, pipeline",
            "@component\ndef work():\n    return 1 / 0",
            "@pipeline\ndef main():\n    return work().result()",
            "try:\n    main()\nexcept ZeroDivisionError as error:\n    print(error)",
            "@component\ndef work():\n    return 'repaired'",
            "print(main())",
        ]
    )
    assert found[3] == "division by zero\n"
    assert found[5] == "repaired\n"


def test_a_run_as_text_displays_nothing(cells):
    """str(), format() and print() give the headline and the tree, and that is all."""
    found, errors, displayed = cells(
        [
            "from pipedeco import component, pipeline, get_run",
            "@component\ndef work():\n    return 1",
            "@pipeline\ndef main():\n    return work()",
            "main();",
            "text = f'{get_run()}'\nprint(text == str(get_run()), 'work' in text.splitlines()[-1])",
            "print(get_run())",
        ]
    )
    assert found[4] == "True True\n"
    assert "work" in found[5]
    assert errors == ""
    assert displayed == [[]] * 6


def test_the_summary_of_a_run_is_text(cells):
    """One of a failed run, too, which goes to stderr as everywhere."""
    _, errors, displayed = cells(
        [
            "from pipedeco import component, configure, pipeline\nconfigure(progress='full')",
            "@component\ndef work(n):\n    return 1 / n",
            "@pipeline\ndef main():\n    return [work(1), work(0)]",
            "try:\n    main()\nexcept Exception:\n    pass",
        ]
    )
    assert displayed == [[]] * 4
    assert "main#1 failed" in errors
    assert "1 failed" in errors


def test_async_components_run_in_debug_mode_too(cells):
    """The kernel executes a cell in the event loop of its own thread."""
    found, errors, _ = cells(
        [
            "import asyncio\nfrom pipedeco import component, pipeline",
            "@component\nasync def plus(n):\n    await asyncio.sleep(0)\n    return n + 1",
            "@pipeline\ndef main(n):\n    return plus(plus(n))",
            "print(main(1), main.debug(1))",
            "await asyncio.sleep(0)\nprint(main.debug(1))",
        ]
    )
    assert found[3:] == ["3 3\n", "3\n"]
    assert errors == ""


# Each step goes on when the line has told how many have ended.
WATCHED = """
import os, sys, time
from pipedeco import component, configure, pipeline
from pipedeco.kernels import CellLine

configure(progress="auto")
draw = CellLine.draw

def noting(line, text):
    draw(line, text)
    for n in (0, 1):
        if f": {n} of 2 steps" in text:
            open(f"drawn-{n}", "w").close()

CellLine.draw = noting

def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)
"""


def test_a_run_under_way_is_one_line_that_is_drawn_in_place(lab, cells):
    """The summary takes its place, and what steps write stands above."""
    if lab.mode == "debug":
        pytest.skip("there a run is not shown while it goes")
    _, errors, displayed = cells(
        [
            WATCHED,
            (
                "@component\ndef work(n):\n    wait_for(f'drawn-{n}')\n"
                "    print('step', n, file=sys.stderr)\n    return n + 1"
            ),
            "@pipeline\ndef main():\n    a = work(0)\n    return work(a)",
            "main();",
        ]
    )
    assert displayed == [[]] * 4
    drawn = errors.split("\r")
    assert any("main#1: 0 of 2 steps" in text and "━" not in text for text in drawn), errors
    assert any("main#1: 1 of 2 steps" in text and "━" in text for text in drawn), errors
    lines = screen(errors)
    assert lines[:2] == ["step 0", "step 1"]
    assert "main#1 completed" in lines[2]
    assert not [text for text in lines if "of 2 steps" in text]


def screen(text):
    """The lines that a cell shows, where a carriage return goes to a line's begin."""
    shown = []
    for line in re.sub(r"\x1b\[[0-9;]*m", "", text).split("\n"):
        cells = []
        for part in line.split("\r"):
            cells[: len(part)] = part
        shown.append("".join(cells).rstrip())
    return shown

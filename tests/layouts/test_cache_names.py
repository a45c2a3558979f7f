"""`python pkg/mod.py` and `python -m pkg.mod` are one program, and share what they know."""

import os
import subprocess
import sys

import pytest

from pipedeco import get_run, runs

STEPS = """
import dataclasses
import numpy as np
from pipedeco import component

RATE = 5

@dataclasses.dataclass
class Box:
    n: int

@dataclasses.dataclass
class Row:
    n: np.ndarray

def helper(x):
    return x + RATE

@component(cache=True)
def opened(box):
    return helper(box.n)
"""

APP = """
from pipedeco import component, pipeline
{imports}

@component(cache=True)
def make(n):
    return helper(n)

@component(cache=True)
def boxed(n):
    return Box(helper(n)), Row(np.array([n]))

@component(cache=True)
def size(pair):
    return pair[0].n

@component
def check():
    import os
    if os.path.exists("stop"):
        raise ValueError("not yet")

@pipeline
def main():
    found = make(make(1)) + opened(Box(3)) + size(boxed(2))
    check()
    return found

if __name__ == "__main__":
    print(main())
"""

ABSOLUTE = "import numpy as np\nfrom house.steps import Box, Row, helper, opened"
EITHER = """
import numpy as np
try:
    from .steps import Box, Row, helper, opened
except ImportError:
    from steps import Box, Row, helper, opened
"""
SCRIPT, MODULE = ["house/app.py"], ["-m", "house.app"]


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Writes a package that can be run in both ways; gives who runs it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPEDECO_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("PIPEDECO_WORKERS", "2")
    folder = tmp_path / "house"
    folder.mkdir()
    (folder / "__init__.py").touch()

    def write(imports, steps=STEPS):
        (folder / "steps.py").write_text(steps)
        (folder / "app.py").write_text(APP.replace("{imports}", imports))

    return write


def call(words, code=0, **variables):
    done = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def performed():
    """The steps of the latest run that were performed, but for the one that always is."""
    return [n for n, s in get_run().steps.items() if s.state == "completed" and n != "check"]


@pytest.mark.parametrize("mode", ["debug", "local", "remote"])
@pytest.mark.parametrize("ways", [(SCRIPT, MODULE), (MODULE, SCRIPT)], ids=["script", "module"])
def test_modules_of_one_name(program, mode, ways):
    """With the folder above on the path all is shared, values of classes as well."""
    program(ABSOLUTE)
    variables = {
        "PIPEDECO_MODE": mode,
        "PYTHONPATH": ".",
        "PIPEDECO_QUEUES": '{"default":"local://2"}',
    }
    first, second = (call(way, **variables) for way in ways)
    assert first == second
    assert performed() == []
    assert {run.version for run in runs()} == {"1.0.0"}


@pytest.mark.parametrize("mode", ["debug", "local", "remote"])
@pytest.mark.parametrize("ways", [(SCRIPT, MODULE), (MODULE, SCRIPT)], ids=["script", "module"])
def test_a_module_of_two_names(program, mode, ways):
    """What the script imports as `steps` is `house.steps` in both; a value that names it by the
    other name is made again, and what follows from it is not."""
    program(EITHER)
    variables = {"PIPEDECO_MODE": mode, "PIPEDECO_QUEUES": '{"default":"local://2"}'}
    first, second = (call(way, **variables) for way in ways)
    assert first == second
    assert performed() == ["boxed"]
    assert "is called otherwise here" in get_run().steps["boxed"].why().text
    assert {run.version for run in runs()} == {"1.0.0"}
    program(EITHER, STEPS.replace("RATE = 5", "RATE = 6"))
    assert call(ways[0], **variables) != first
    assert set(performed()) == {"make", "make-2", "opened", "boxed", "size"}
    assert "value house.steps.RATE has changed" in get_run().steps["make"].why().text


def test_a_run_that_is_resumed(program, tmp_path):
    """A run of one kind goes on as that of the command, which has the script's names."""
    program(EITHER)
    (tmp_path / "stop").touch()
    call(MODULE, code=1)
    (tmp_path / "stop").unlink()
    call(["-m", "pipedeco", "resume", "latest"])
    states = {name: step.attempts[-1].worker for name, step in get_run().steps.items()}
    assert get_run().status == "completed"
    assert states

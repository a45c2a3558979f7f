"""What importing and running pipedeco imports, seen in processes of their own."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import pipedeco

HEAVY = [
    "asyncio",
    "concurrent.futures",
    "dill",
    "importlib.metadata",
    "inspect",
    "multiprocess",
    "numpy",
    "pandas",
    "rich",
    "sqlite3",
    "sklearn",
    "cloudpickle",
    "tblib",
    "ctypes",
    "logging",
    "typing_extensions",
    "subprocess",
    "dataclasses",
]
COLD = [
    "asyncio",
    "concurrent.futures",
    "inspect",
    "importlib.metadata",
    "multiprocess",
    "dill",
    "rich",
]

SCRIPT = """
import sys
from pipedeco import component, pipeline

@component
def double(x: int) -> int:
    return 2 * x

@component
def add(x: int, y: int = 1) -> int:
    return x + y

@component
def modules(x: int) -> list[str]:
    import sys
    return sorted(sys.modules)

@pipeline
def body() -> list[str]:
    results = [add(double(n), 1) for n in range(4)]
    assert sum(results) > 0
    double(9)
    return modules(results[0])

inside = body()
import json
print(json.dumps([inside, sorted(sys.modules)]))
"""


def run(code, tmp_path, *arguments, **environment):
    """Run code as a script of its own and return what it printed."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(code))
    variables = {**os.environ, "PIPEDECO_STORE": str(tmp_path / "store"), **environment}
    done = subprocess.run(
        [sys.executable, *arguments, script],
        capture_output=True,
        text=True,
        timeout=30,
        env=variables,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_public_names_are_sorted_and_are_there():
    """__all__ is sorted, and every name in it exists."""
    assert list(pipedeco.__all__) == sorted(pipedeco.__all__)
    for name in pipedeco.__all__:
        assert getattr(pipedeco, name).__module__.startswith("pipedeco.")
    offered = [name for name in dir(pipedeco) if not name.startswith("__")]  # by completion
    assert offered == pipedeco.__all__


def test_an_unknown_name_is_an_attribute_error():
    """hasattr works on the package."""
    assert not hasattr(pipedeco, "no_such_name")


def test_no_module_has_a_public_name():
    """A lazy name would be hidden by the module that is imported under the same name."""
    modules = {path.stem for path in Path(pipedeco.__file__).parent.iterdir()}
    assert modules & set(pipedeco.__all__) == set()


def test_public_names_import_in_every_order(tmp_path):
    """Whatever was imported before, a name gives the same object, never a module."""
    run(
        """
        import itertools, sys, types

        names = __import__("pipedeco").__all__

        def fresh(*order):
            for module in [m for m in sys.modules if m.partition(".")[0] == "pipedeco"]:
                del sys.modules[module]
            space = {}
            for name in order:
                exec(f"from pipedeco import {name}", space)
            for name in order:
                kind = space[name]
                assert not isinstance(kind, types.ModuleType), (name, order)
                assert kind.__name__ == name, (name, order)

        fresh(*names)
        fresh(*reversed(names))
        homes = {}
        import pipedeco
        for name in names:
            homes.setdefault(getattr(pipedeco, name).__module__, name)
            homes[getattr(pipedeco, name).__module__, name[0].islower()] = name
        few = sorted(set(homes.values()))
        for first, second in itertools.permutations(few, 2):
            fresh(first, second)
        """,
        tmp_path,
    )


def test_importing_pipedeco_loads_little(tmp_path):
    """`import pipedeco` and the decorators import nothing heavy, and nothing that runs pipelines."""
    found = run(
        """
        import sys
        import pipedeco
        from pipedeco import component, pipeline

        @component
        def one() -> int:
            return 1

        @pipeline
        def body() -> int:
            return one()

        print(*sys.modules)
        """,
        tmp_path,
    ).split()
    unwanted = [*HEAVY, "pipedeco.run", "pipedeco.scheduler", "pipedeco.store", "pipedeco.web"]
    assert [name for name in unwanted if name in found] == []


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """The modules of a worker, and those of its controller, after ten steps of a script."""
    return json.loads(run(SCRIPT, tmp_path_factory.mktemp("script"), PIPEDECO_MODE="local"))


def test_the_cold_path_imports_little(modules):
    """Ten local steps of a script, functions in __main__, need none of the slow modules."""
    assert [name for name in COLD if name in modules[1]] == []


def test_a_worker_imports_no_controller(modules):
    """What performs a step knows nothing of what drives a run."""
    mine = [name for name in modules[0] if name.startswith("pipedeco.")]
    assert "pipedeco.worker.process" in mine
    for unwanted in (
        "scheduler",
        "store",
        "run",
        "execution",
        "cache",
        "web",
        "cli",
        "pipelines",
        "runners",
    ):
        names = [name for name in mine if name.split(".")[1] == unwanted]
        assert names == []


def test_a_worker_imports_little(modules):
    """A worker starts as cold as its controller."""
    assert [name for name in COLD if name in modules[0]] == []

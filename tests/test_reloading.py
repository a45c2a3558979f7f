"""Modules that are loaded again: `from module import name` has the new code, or a warning tells."""

import importlib
import json
import os
import subprocess
import sys
import warnings

import pytest

SOURCE = """
from pipedeco import component, pipeline, value

def plain(n):
    return n + {add}

@component
def plus(n):
    return plain(n) + {add}

@pipeline
def main(n):
    return value(plus(n)) + {add}

class Table:
    @component
    def row(self, n):
        return n + {add}

    @pipeline
    def rows(self, n):
        return self.row(n)
"""

NOTEBOOK = """
import json, os, pathlib, sys
from IPython.core.interactiveshell import InteractiveShell

path, source = pathlib.Path(sys.argv[1]), sys.argv[2]
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "autoreload")
shell.run_line_magic("autoreload", "2")
found = []
look = (
    "fast = globals().get('fast') or main.with_options(workers=1)\\n"
    "found = [plain(0), plus(0), main(0), fast(0), Table().rows(0), table.rows(0)]"
)
shell.run_cell("from edited import Table, main, plain, plus; table = Table()")
for add in (1, 1000):
    if add != 1:
        path.write_text(source.replace("{add}", str(add)))
        os.utime(path, (2_000_000_000, 2_000_000_000))
    shell.run_cell(look, silent=False).raise_error()
    found.append(shell.user_ns["found"])
print(json.dumps(found))
"""


@pytest.fixture
def edited(tmp_path, monkeypatch):
    """A module, and what writes it anew and loads it again."""
    path = tmp_path / "edited.py"
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PIPEDECO_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("PIPEDECO_MODE", "debug")

    def load(add, source=SOURCE):
        path.write_text(source.replace("{add}", str(add)))
        os.utime(path, (1_000_000_000 + add, 1_000_000_000 + add))
        importlib.invalidate_caches()
        known = sys.modules.get("edited")
        return importlib.import_module("edited") if known is None else importlib.reload(known)

    yield load
    sys.modules.pop("edited", None)


@pytest.mark.parametrize("mode", ["debug", "local"])
def test_ipython_updates_what_is_decorated_as_it_does_functions(mode, tmp_path):
    path = tmp_path / "edited.py"
    path.write_text(SOURCE.replace("{add}", "1"))
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK, str(path), SOURCE],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": str(tmp_path),
            "PIPEDECO_STORE": str(tmp_path / "store"),
            "PIPEDECO_MODE": mode,
            "IPYTHONDIR": str(tmp_path / "ipython"),
        },
    )
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout.splitlines()[-1])
    assert before == [1, 2, 3, 3, 1, 1]
    assert after == [1000 * n for n in before]


def test_a_pipeline_of_before_a_reload_warns_once(edited):
    old = edited(1).main
    assert old(0) == 3
    module = edited(1000)
    with pytest.warns(UserWarning, match="take the new one: from edited import main") as told:
        old(0)
    assert sum("from edited import main" in str(each.message) for each in told) == 1
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        old(0)
        assert module.main(0) == 3000


def test_a_copy_with_other_options_warns_too(edited):
    old = edited(1).main
    edited(1000)
    with pytest.warns(UserWarning, match="before edited was reloaded"):
        old.debug(0)


def test_a_component_of_before_a_reload_warns(edited):
    from pipedeco import pipeline

    old = edited(1).plus

    @pipeline
    def uses():
        return old(0)

    edited(1000)
    with pytest.warns(UserWarning, match="take the new one: from edited import plus"):
        uses()


def test_a_reload_of_the_same_code_is_no_matter(edited):
    old = edited(1).main
    edited(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert old(0) == 3

"""mypy and pyright on a project: every planted mistake is found, and an ordinary program has none.

pyright is basedpyright, a wheel that brings its node along, in pyright's own modes.
"""

import json
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from pipedeco import component, pipeline
from pipedeco.config import Settings
from pipedeco.keywords import ComponentChanges, PipelineChanges, SettingsChanges
from pipedeco.options import ComponentOptions, PipelineOptions

PROJECT = Path(__file__).parent / "project"
MARK = re.compile(r"# E: mypy=(\S+) pyright=(\S+)")

pytestmark = pytest.mark.timeout(300)  # a cold mypy reads all of pipedeco


def planted(checker):
    """(line, kind) of each mistake that the project's file says it has."""
    lines = (PROJECT / "mistakes.py").read_text().splitlines()
    marks = [(n, MARK.search(line)) for n, line in enumerate(lines, 1)]
    group = ("mypy", "pyright").index(checker) + 1
    return {(n, kind) for n, mark in marks if mark for kind in mark.group(group).split(",")}


def run(*arguments, folder):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def by_mypy(file, cache):
    """(line, kind) of each error that mypy finds, in its strict mode."""
    options = ("--strict", "--cache-dir", cache, "--output", "json")
    done = run("-m", "mypy", *options, file, folder=PROJECT)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {(item["line"], item["code"]) for item in found if item["severity"] == "error"}


def by_pyright(file, folder):
    """(line, kind) of each error that pyright finds, in its standard mode or as the file says."""
    settings = {"typeCheckingMode": "standard", "include": [str(PROJECT / file)]}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    options = ("--outputjson", "--pythonpath", sys.executable, "--project", folder)
    done = run("-m", "basedpyright", *options, folder=folder)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["summary"]["filesAnalyzed"] == 1
    found = told["generalDiagnostics"]
    return {(item["range"]["start"]["line"] + 1, item["rule"]) for item in found}


@pytest.fixture(scope="module")
def mypy_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("mypy")


def test_mypy_finds_every_planted_mistake_and_no_other(mypy_cache):
    assert by_mypy("mistakes.py", mypy_cache) == planted("mypy")


def test_mypy_accepts_an_ordinary_program(mypy_cache):
    assert by_mypy("body.py", mypy_cache) == set()


def test_pyright_finds_every_planted_mistake_and_no_other(tmp_path):
    assert by_pyright("mistakes.py", tmp_path) == planted("pyright")


def test_pyright_accepts_an_ordinary_program_in_its_strict_mode(tmp_path):
    assert by_pyright("body.py", tmp_path) == set()


def test_both_infer_the_types_that_the_calls_have(mypy_cache, tmp_path):
    assert by_mypy("inferred.py", mypy_cache) == set()
    assert by_pyright("inferred.py", tmp_path) == set()


@pytest.mark.timeout(120)
def test_the_ordinary_program_runs_as_it_is_typed(tmp_path):
    done = run(PROJECT / "body.py", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "S: XS: XX" in done.stdout


@pytest.mark.parametrize(
    ("keywords", "options"),
    [
        (ComponentChanges, ComponentOptions.__slots__),
        (PipelineChanges, PipelineOptions.__slots__),
        (SettingsChanges, Settings.__slots__),
    ],
)
def test_every_option_is_a_typed_keyword(keywords, options):
    assert set(keywords.__annotations__) == set(options)


@pytest.mark.parametrize(
    ("keywords", "decorator"), [(ComponentChanges, component), (PipelineChanges, pipeline)]
)
def test_an_option_has_one_type_wherever_it_is_given(keywords, decorator):
    """In with_options(...) what it has in the decorator."""
    declared = typing.get_overloads(decorator)[-1].__annotations__
    for name, hint in keywords.__annotations__.items():
        text = hint.__forward_arg__.replace("Path", "str | os.PathLike[str]")
        if name != "on_run_end":  # Run stands above what declares the keywords
            assert text == declared[name], name

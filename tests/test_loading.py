"""Loading: which pipeline a file or a module names, and how far the file is executed for it."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pipedeco import ConfigError
from pipedeco.loading import RESTORED, find_recorded

COMMAND = str(Path(sys.executable).with_name("pipedeco"))

HEAD = """
from pipedeco import component, pipeline
print("loaded as", __name__)

@component
def double(x):
    return 2 * x
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Write a file and run the command on it: its exit code, stdout and stderr."""
    monkeypatch.setenv("PIPEDECO_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("PIPEDECO_PROGRESS")

    def call(text, *arguments, name="app.py", source=None, command="run"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(HEAD + text), encoding="utf-8")
        done = subprocess.run(
            [COMMAND, command, source or name, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        return done.returncode, done.stdout, done.stderr

    return call


ONE = """
@pipeline
def total(n: int = 3):
    return sum([double(x) for x in range(n)])
"""
TWO = (
    ONE
    + """
@pipeline
def other():
    return double(21)
"""
)


def test_the_only_pipeline_needs_no_name(run):
    """The file is loaded under a name that no main guard has, and its pipeline is run."""
    code, out, err = run(ONE + "if __name__ == '__main__':\n    print('guarded')\n")
    assert (code, out) == (0, "loaded as __pipedeco__\n6\n"), err
    assert "total#1 completed" in err


def test_loading_stops_at_the_first_call_of_a_pipeline(run):
    """A script without a guard is not executed twice, and what it calls is the default."""
    code, out, err = run(TWO + "print('before')\nprint(other())\nprint('after')\n")
    assert (code, out) == (0, "loaded as __pipedeco__\nbefore\n42\n"), err


def test_a_pipeline_is_named_by_its_variable_or_its_name(run):
    """`FILE:NAME`."""
    text = TWO + "\n@pipeline(name='a better name')\ndef third():\n    return double(4)\n"
    assert run(text, source="app.py:other")[1].splitlines()[-1] == "42"
    assert run(text, source="app.py:a better name")[1].splitlines()[-1] == "8"
    assert run(text, source="app.py:third")[1].splitlines()[-1] == "8"


@pytest.mark.parametrize("start", ["total.start(2)", "total.debug(2)", "total.local(2)"])
def test_every_way_of_calling_ends_the_loading(run, start):
    """Not only the plain call."""
    code, out, _ = run(f"{ONE}\n{start}\nprint('after')\n", "--n", "2")
    assert (code, out) == (0, "loaded as __pipedeco__\n2\n")


def test_a_module_is_named_with_dots(run, tmp_path):
    """From the working directory, as `python -m` finds it."""
    code, out, err = run(ONE, name="pack/inner.py", source="pack.inner:total")
    assert (code, out.splitlines()[-1]) == (0, "6"), err
    assert {*out.splitlines()} == {"loaded as pack.inner", "6"}  # workers import it, too


def test_what_a_file_defines_is_as_in_main(run, tmp_path):
    """Classes and functions have the names that `python FILE` gives them, so either reads what
    the other recorded."""
    text = """
    from dataclasses import dataclass
    import enum

    class Kind(enum.Enum):
        GOOD = 1

    @dataclass
    class Result:
        kind: Kind
        n: int

    @component
    def make(n):
        return Result(Kind.GOOD, n)

    @component
    def look(result):
        assert result.kind is Kind.GOOD
        return result

    @pipeline
    def flow(n: int = 1):
        return look(make(n))
    """
    code, _, err = run(textwrap.dedent(text))
    assert code == 0, err
    reader = textwrap.dedent(HEAD + textwrap.dedent(text)) + textwrap.dedent("""
    from pipedeco import get_run
    value = get_run("flow#1").result()
    assert type(value) is Result and value.kind is Kind.GOOD, value
    print("read", value.n)
    """)
    (tmp_path / "reader.py").write_text(reader)
    done = subprocess.run(
        [sys.executable, "reader.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1] == "read 1", done.stderr


def test_imports_of_the_files_own_folder(run, tmp_path):
    """They are found in the controller and in the workers, from any working directory."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "helper.py").write_text("def more(x):\n    return x + 1\n")
    text = """
from helper import more
@component
def step(x):
    return more(x)
@pipeline
def flow():
    return step(1)
"""
    code, out, err = run(text, name="project/app.py")
    assert (code, out.splitlines()[-1]) == (0, "2"), err


def test_the_files_own_reading_of_a_command_line_sees_no_arguments_of_ours(run):
    """And when it leaves for want of them, what it has defined counts."""
    text = ONE + "import sys\nassert sys.argv == ['app.py'], sys.argv\nsys.exit(3)\n"
    code, out, err = run(text, "--n", "2")
    assert (code, out.splitlines()[-1]) == (0, "2"), err


# -- mistakes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "source", "sentence"),
    [
        ("", "app.py", "app.py defines no pipeline; decorate a function with @pipeline"),
        (TWO, "app.py", "say which: app.py:other or app.py:total"),
        (TWO, "app.py:third", "app.py defines no pipeline 'third'; there are: other, total"),
        (ONE, "nothing.py", "there is no file nothing.py"),
        (ONE, "no.such.module:total", "there is no file and no module no.such.module"),
        ("def broken(:\n", "app.py", "app.py is no Python file: invalid syntax (app.py, line 8)"),
    ],
)
def test_what_cannot_be_found_is_one_sentence(run, text, source, sentence):
    """Exit code 2, and no traceback of ours."""
    code, _, err = run(text, source=source)
    assert (code, err.count("\n")) == (2, 1), err
    assert sentence in err


def test_a_file_that_fails_shows_the_users_lines(run):
    """Its own traceback, without our frames, and a sentence."""
    code, _, err = run("def broken():\n    return 1 / 0\nbroken()\n")
    assert code == 2
    assert "line 9, in broken" in err
    assert "pipedeco/loading.py" not in err
    assert err.splitlines()[-1] == (
        "pipedeco: app.py cannot be loaded: ZeroDivisionError: division by zero"
    )


def test_what_rerun_has_loaded_from_a_record(tmp_path):
    """Its files are gone: the sentence says how to make such a run again."""
    gone = tmp_path / f"{RESTORED}x" / "app.py"
    with pytest.raises(ConfigError, match="make such a run again with that command"):
        find_recorded("__main__", "p", str(gone))


def test_a_module_below_src(run, tmp_path):
    """Where nobody has installed it, the sentence says what to do."""
    (tmp_path / "src" / "acme").mkdir(parents=True)
    (tmp_path / "src" / "acme" / "train.py").write_text("")
    for name in ("acme.train", "acme"):
        code, _, err = run("", source=name)
        assert code == 2
        assert f"no module {name}; it is below src/: install the project" in err

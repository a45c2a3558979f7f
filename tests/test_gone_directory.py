"""A program and commands whose working directory has been removed."""

import os
import subprocess
import sys

import pytest

COMMAND = [sys.executable, "-m", "pipedeco"]
PROGRAM = """
import os

from pipedeco import component, pipeline


@component
def where():
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "nowhere"


@component
def write():
    try:
        open("left-behind", "w").close()
    except FileNotFoundError:
        return "nothing"


@component(collect="*.csv")
def collected():
    return where.fn()


@pipeline
def main():
    return [where(), write(), where()]


@pipeline
def collecting():
    return collected()


if __name__ == "__main__":
    print(main(), main()[0])
    print(where.fn())
"""
GONE = "the working directory has been removed"


@pytest.fixture
def gone(tmp_path, monkeypatch):
    """Runs something in a folder that is there no more; `stderr` counts as output."""
    monkeypatch.setenv("PIPEDECO_STORE", str(tmp_path / "store"))
    (tmp_path / "app.py").write_text(PROGRAM)

    def run(*words):
        folder = tmp_path / "folder"
        folder.mkdir()
        script = 'rmdir "$PWD" && exec "$@"'
        return subprocess.run(
            ["sh", "-c", script, "sh", *words],
            cwd=folder,
            env={**os.environ, "PWD": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ("mode", "method"), [("debug", "nursery"), ("local", "nursery"), ("local", "spawn")]
)
def test_steps_are_where_the_program_is(gone, tmp_path, monkeypatch, mode, method):
    monkeypatch.setenv("PIPEDECO_MODE", mode)
    monkeypatch.setenv("PIPEDECO_START_METHOD", method)
    done = gone(sys.executable, str(tmp_path / "app.py"))
    steps = ["nowhere", "nothing", "nowhere"]
    assert done.stdout.splitlines() == [f"{steps} nowhere", "nowhere"]
    assert not os.path.exists("/left-behind")


def test_a_program_with_the_folder_on_its_import_path(gone, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for mode in ("debug", "local"):
        code = f"import app; print(app.main.with_options(mode={mode!r})()[0])"
        assert gone(sys.executable, "-c", code).stdout == "nowhere\n"


@pytest.mark.parametrize("mode", ["debug", "local"])
def test_what_collects_files_says_what_is_the_matter(gone, tmp_path, mode):
    done = gone(*COMMAND, "run", f"{tmp_path}/app.py:collecting", "--mode", mode)
    assert done.returncode == 1
    assert f"ConfigError: {GONE}, and collect= looks for files there" in done.stdout


@pytest.mark.parametrize("mode", ["debug", "local"])
def test_a_store_that_nobody_names(gone, tmp_path, monkeypatch, mode):
    monkeypatch.setenv("PIPEDECO_MODE", mode)
    for store in ("", "relative"):
        monkeypatch.setenv("PIPEDECO_STORE", store)
        done = gone(sys.executable, str(tmp_path / "app.py"))
        assert f"ConfigError: {GONE}, and the store would be there" in done.stdout
        done = gone(*COMMAND, "runs")
        assert done.returncode == 2
        assert done.stdout.startswith(f"pipedeco: {GONE}, and the store would be there")
        assert done.stdout.count("\n") == 1


def test_commands(gone, tmp_path):
    """Those that need no folder work; the others say what is the matter."""
    assert gone(*COMMAND, "run", f"{tmp_path}/app.py:main", "--mode", "debug").returncode == 0
    for words in (["runs"], ["show", "latest"], ["check", f"{tmp_path}/app.py"], ["fsck"]):
        assert gone(*COMMAND, *words).returncode == 0, words
    for source in ("app:main", "app.py:main"):
        done = gone(*COMMAND, "run", source)
        assert done.returncode == 2
        assert done.stdout.startswith("pipedeco: there is no file ")
    done = gone(*COMMAND, "export", "latest", "run.zip")
    assert done.returncode == 2
    assert done.stdout.startswith(f"pipedeco: {GONE}, and the file would be there")
    assert gone(*COMMAND, "export", "latest", f"{tmp_path}/run.zip").returncode == 0
    assert "all is well" in gone(*COMMAND, "doctor").stdout


def test_what_the_system_refuses_is_told_with_its_file(gone, tmp_path, monkeypatch):
    """It is no matter of stdout."""
    monkeypatch.setenv("PIPEDECO_STORE", "/dev/null/store")
    done = gone(*COMMAND, "run", f"{tmp_path}/app.py:main")
    assert done.returncode == 2
    assert "what was to be told" not in done.stdout
    assert "/dev/null/store" in done.stdout

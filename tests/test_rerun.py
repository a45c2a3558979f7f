"""Running again: other parameters, the code as it is or as it was."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipedeco import ConfigError, component, get_run, pipeline

COMMAND = str(Path(sys.executable).with_name("pipedeco"))

APP = """
from pathlib import Path
from pipedeco import component, pipeline
from helper import rate

@component
def work(i, k):
    return i * k * rate()

@pipeline
def flow(n: int = 3, ks: tuple[int, ...] = (1, 2), *, where: Path = Path("a"), flag: bool = False):
    assert type(n) is int and type(ks) is tuple and isinstance(where, Path)
    return sum([work(i, k) for i in range(n) for k in ks])
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A git repository with a committed pipeline, an uncommitted change and an untracked module."""
    monkeypatch.setenv("PIPEDECO_STORE", str(tmp_path / "store"))
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "app.py").write_text(APP)
    (folder / "src" / "helper.py").write_text("def rate():\n    return 1\n")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", folder]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    (folder / "src" / "helper.py").write_text(
        "from more import RATE\ndef rate():\n    return RATE\n"
    )
    (folder / "src" / "more.py").write_text("RATE = 10\n")
    return folder


def call(folder, *arguments):
    done = subprocess.run(
        [COMMAND, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=40
    )
    return done.returncode, done.stdout, done.stderr


def test_rerun_with_the_code_as_it_is(project):
    """Recorded parameters keep their types, others are parsed by theirs; the parent is named."""
    assert call(project, "run", "src/app.py", "--n", "4", "--where", "b/c")[:2] == (0, "180\n")
    first = get_run("latest")
    (project / "src" / "more.py").write_text("RATE = 100\n")
    code, out, err = call(project, "rerun", "flow#1", "--ks", "1", "2", "3")
    assert (code, out) == (0, "3600\n"), err
    second = get_run("latest")
    assert second.parent_run == first.id
    assert second.parent_step is None
    assert second.params == {**first.params, "ks": (1, 2, 3)}
    assert (first.version, second.version) == ("1.0.0", "1.0.1")
    assert f"rerun of {first.id}" in call(project, "runs")[1]


def test_rerun_with_the_code_as_recorded(project):
    """The commit, what was not committed, and what git does not know; nothing is left behind."""
    assert call(project, "run", "src/app.py")[:2] == (0, "90\n")
    (project / "src" / "more.py").unlink()
    (project / "src" / "helper.py").write_text("broken(\n")
    before = subprocess.run(["git", "-C", project, "status", "-s"], capture_output=True, check=True)
    code, out, err = call(project, "rerun", "flow#1", "--from-run", "--n", "5")
    assert (code, out) == (0, "300\n"), err
    after = subprocess.run(["git", "-C", project, "status", "-s"], capture_output=True, check=True)
    assert before.stdout == after.stdout
    assert call(project, "rerun", "flow#1")[0] == 2  # as it is, it cannot be loaded


def test_help_shows_the_recorded_values(project):
    """In the place of defaults."""
    call(project, "run", "src/app.py", "--n", "7", "--flag")
    out = call(project, "rerun", "latest", "--help")[1]
    assert "[default: 7]" in out
    assert "[default: True]" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing"], "there is no run 'nothing'"),
        (["latest", "--n", "many"], 'unable to convert "many" into int'),
        (["latest", "--nn", "1"], "Unknown option: --nn"),
    ],
)
def test_mistakes_are_one_sentence(project, arguments, sentence):
    """Exit code 2, and no run is made."""
    call(project, "run", "src/app.py")
    code, _, err = call(project, "rerun", *arguments)
    assert (code, err.count("\n")) == (2, 1), err
    assert sentence in err
    assert get_run("latest").number == 1


def test_without_a_repository_the_code_is_not_recorded(project):
    """One sentence that says so."""
    import shutil

    shutil.rmtree(project / ".git")
    call(project, "run", "src/app.py")
    code, _, err = call(project, "rerun", "latest", "--from-run")
    assert (code, err.count("\n")) == (2, 1), err
    assert "in no git repository" in err


@pytest.mark.parametrize("slow", [False, True])
def test_a_diff_that_is_not_recorded(project, monkeypatch, tmp_path, slow):
    """The commit is, and what is missing is told."""
    with monkeypatch.context() as patched:
        if slow:  # the run ends before git has answered
            script = tmp_path / "bin" / "git"
            script.parent.mkdir()
            script.write_text("#!/bin/sh\nsleep 60\n")
            script.chmod(0o755)
            patched.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
        else:
            with open(project / "src" / "app.py", "a") as file:
                file.write("# a long line of text\n" * 100_000)
        call(project, "run", "src/app.py")
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=project, capture_output=True, text=True, check=True
    ).stdout[:12]
    why = "still being looked at" if slow else "too large"
    code, _, err = call(project, "rerun", "latest", "--from-run")
    assert (code, err.count("\n")) == (2, 1), err
    assert commit in err
    assert why in err
    out = call(project, "show")[1]
    assert f"commit {commit}; what was not committed is not recorded" in out
    assert why in out


@component
def double(x):
    return 2 * x


@pipeline
def plain(x, *rest, y=1, **named):
    return double(x + y + sum(rest) + sum(named.values()))


def test_rerun_by_the_api(mode):
    """`run.rerun(y=5)`: positional, variadic and named parameters stay as they were."""
    run = plain.start(1, 10, 20, z=100)
    assert run.result(10) == 264
    again = run.rerun(y=5)
    assert again.result(10) == 272
    assert again.parent_run == run.id
    assert get_run(again.id).params["y"] == 5
    assert run.rerun(z=0, w=1).result(10) == 66


def test_rerun_with_no_such_parameter(mode):
    """A sentence that names those that there are."""

    @pipeline
    def narrow(x):
        return double(x)

    run = narrow.start(1)
    run.result(10)
    with pytest.raises(ConfigError, match="narrow has no parameter 'y'; it has x"):
        run.rerun(y=1)

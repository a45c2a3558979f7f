"""README says what is so: its code runs, its commands exist, its links lead somewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = sorted(
    set(re.findall(r"^pipedeco .*?(?=  +#|$)|(?<=`)pipedeco [^`\n]+(?=`)", README, re.MULTILINE))
)

FIRST = """
import sys
from pipedeco import component, pipeline
@component
def double(x):
    print("doubling", x)
    return 2 * x
@component
def fail(x):
    raise ValueError(x)
@pipeline(mode="debug")
def total(n: int = 2):
    if n == 1:
        fail(n)
    return sum(double(x) for x in range(n))
if __name__ == "__main__":
    total(3), total(2)
    if "fail" in sys.argv:
        total(1)
"""
FAILING = ("debug", "resume")  # commands for a run that has failed


def run(command, folder):
    """Run a command in a folder of its own, with the store there."""
    environment = {**os.environ, "PIPEDECO_STORE": str(folder / "store")}
    # What installs something does it here, for a shell that CI may not have around it.
    environment |= {"HOME": str(folder), "SHELL": "/bin/bash"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment.setdefault("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv"))  # not loaded again
    environment.pop("PIPEDECO_MODE", None)
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
    )


def test_there_is_something_to_check():
    """The patterns above find what a reader finds."""
    assert len(BLOCKS) == README.count("```python")
    assert BLOCKS
    assert COMMANDS


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_of_code_runs_as_a_script(number, tmp_path):
    """Copied into a file it runs, without a word on stderr."""
    (tmp_path / "script.py").write_text(BLOCKS[number], encoding="utf-8")
    done = run([sys.executable, "script.py"], tmp_path)
    if "EnvironmentFailed" in done.stderr and os.environ.get("CI") != "true":
        pytest.skip(f"no index of Python packages is reached: {done.stderr}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_what_the_blocks_print(tmp_path):
    """The first gives the value that plain Python gives, the second three times the same."""
    printed = []
    for block in BLOCKS[:2]:
        (tmp_path / "script.py").write_text(block, encoding="utf-8")
        printed.append(run([sys.executable, "script.py"], tmp_path).stdout)
    assert printed[0] == "14\n"
    assert printed[1] == "HELLO ADA\nHELLO ADA\nHELLO ADA completed ['shout', 'shout-2']\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_exists(command, tmp_path):
    """Typed as it stands there, it works on runs of the pipeline that the README has."""
    (tmp_path / "app.py").write_text(FIRST)
    words = command.split()
    failing = words[1] in FAILING
    run([sys.executable, "app.py", *(["fail"] if failing else [])], tmp_path)
    done = run(words, tmp_path)
    if "cancel" in command or "release" in command:  # the run has ended
        assert (done.returncode, "does not" in done.stderr) == (2, True), done.stderr
    elif failing:
        assert "ValueError: 1" in done.stderr
        assert done.returncode == 1
    else:
        assert done.returncode == (words[1] == "diff"), done.stderr  # 1: they differ
        assert done.stdout or (tmp_path / "dag.svg").exists()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make (\w+)", README)) - {"and"}))
def test_a_make_target_exists(target):
    """Whatever README says to make can be made."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", README))
def test_a_link_leads_to_a_file(link):
    """Links are relative to the README."""
    assert (ROOT / link).exists()

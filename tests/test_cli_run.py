"""The commands that act and follow: run, logs, graph, cancel, as processes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import wait_for, wait_until

from pipedeco import StoreError, get_run, runs
from pipedeco.cli import reading

COMMAND = str(Path(sys.executable).with_name("pipedeco"))

APP = '''
import datetime, enum, os, pathlib, time
from typing import Literal
from pipedeco import component, pipeline

class Colour(enum.Enum):
    RED = 1
    BLUE = 2

@component
def echo(value):
    print("value", value)
    return value

@component
def fail(text):
    raise ValueError(text)

@component
def wait(folder):
    print("waiting", flush=True)
    pathlib.Path(folder, "waiting").touch()
    while not pathlib.Path(folder, "go").exists():
        time.sleep(0.01)
    print("went on \\x1b[31m", flush=True)

@pipeline
def typed(
    path: pathlib.Path,
    n: int = 6,
    rate: float = 0.5,
    rounds: tuple[int, ...] = (100, 150),
    flag: bool = False,
    colour: Colour = Colour.RED,
    kind: Literal["a", "b"] = "a",
    day: datetime.date | None = None,
    names: list[str] | None = None,
    limits: dict[str, int] | None = None,
    untyped=2.5,
    mode: str = "fast",
    big_name: int = 1,
):
    """Pass on what it gets.

    Args:
        path: where from
        rounds: how often to go round

    Parameters that need no words have none.
    """
    return echo([path, n, rate, rounds, flag, colour, kind, day, names, limits, untyped, mode, big_name])

@pipeline
def failing(text: str = "no luck"):
    fail(text)
    echo(1)

@pipeline
def body_fails():
    echo(1)
    raise KeyError("of the body")

@pipeline
def reads_failed():
    return fail("read") + 1

@pipeline
def waiting(folder: str):
    echo(wait(folder))

@pipeline
def leaves(code: int):
    raise SystemExit(code)

@pipeline
def inner():
    return echo(1)

@pipeline
def outer():
    return inner()

@pipeline
def lines(n: int = 3000):
    return [echo(i) for i in range(n)]
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPEDECO_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("PIPEDECO_PROGRESS")
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def call(folder, *arguments):
    done = subprocess.run(
        [COMMAND, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def start(folder):
    """Start the command; what is left of it is killed after the test."""
    processes = []

    def begin(*arguments):
        process = subprocess.Popen(
            [COMMAND, *map(str, arguments)],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        with contextlib.suppress(ValueError):  # it was read to its end
            process.communicate(timeout=10)


def waiting_run(folder):
    """The run of another process whose step waits, once it is recorded."""
    wait_for(folder / "waiting")
    return wait_until(lambda: [run for run in runs() if run.steps], "it is recorded")[0]


# -- run: options from the signature ----------------------------------------------------------


def test_values_have_the_types_of_the_signature(folder):
    """Each becomes what its annotation, or its default, says."""
    code, _, err = call(
        folder, "run", "app.py:typed", "--path", "x/y", "--n", "-3", "--rate=2", "--rounds", "1",
        "2", "--flag", "--colour", "BLUE", "--kind", "b", "--day", "2024-02-29", "--names", "p",
        "--names", "q r", "--limits.a", "3", "--untyped", "3", "--big-name", "7",
    )  # fmt: skip
    assert code == 0, err
    assert get_run("latest").to_json()["params"] == {
        "path": "'x/y'", "n": "-3", "rate": "2.0", "rounds": "(1, 2)", "flag": "True",
        "colour": "Colour.BLUE", "kind": "'b'", "day": "2024-02-29",
        "names": "['p', 'q r']", "limits": "{'a': 3}", "untyped": "3.0", "big_name": "7",
        "mode": "'fast'",
    }  # fmt: skip
    with pytest.raises(StoreError, match=r"the parameters of run .*'Colour'"):
        assert get_run("latest").params  # this process has no such class


def test_an_option_with_the_name_of_ours_has_a_prefix(folder):
    """`--mode` is the run's; the pipeline's own is `--param-mode`."""
    code, _, err = call(
        folder, "run", "app.py:typed", "--path", "x", "--param-mode", "slow", "--mode", "debug"
    )
    assert code == 0, err
    run = get_run("latest")
    assert (run.mode, run.to_json()["params"]["mode"]) == ("debug", "'slow'")


def test_help_of_a_pipeline(folder):
    """From its signature and its docstring; nothing is run."""
    code, out, err = call(folder, "run", "app.py:typed", "--help")
    assert (code, err) == (0, "")
    assert "Pass on what it gets." in out
    for text in ("--rounds INT...", "how often to go round", "(100, 150)", "[choices: red, blue]"):
        assert text in out
    assert runs() == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["app.py:typed"], "the option --path is missing; see pipedeco run app.py:typed --help"),
        (["app.py:typed", "--path", "x", "--n", "many"], 'unable to convert "many" into int'),
        (["app.py:typed", "5"], "'5' follows no option: write --path 5"),
        (["app.py:typed", "--path"], "--path requires an argument"),
        (["app.py:typed", "--path", "x", "--n", "1.5"], 'unable to convert "1.5" into int'),
        (["app.py:typed", "--path", "x", "--nn", "1"], "Unknown option: --nn. Did you mean --n?"),
        (["app.py:typed", "--path", "x", "--kind", "c"], 'Choose from: "a", "b"'),
        (["app.py:typed", "--path", "x", "stray"], "stray"),
        (["app.py:typed", "--path", "x", "--mode", "fast"], "mode is one of debug, local"),
        (["app.py:typed", "--path", "x", "--workers", "0"], "workers must be at least 1"),
        ([], "SOURCE requires an argument"),
    ],
)
def test_a_wrong_option_is_one_sentence(folder, arguments, sentence):
    """Exit code 2, and nothing is run."""
    code, out, err = call(folder, "run", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert sentence in err
    assert runs() == []


def test_a_store_that_cannot_be_made_is_one_sentence(folder):
    """Before anything is performed."""
    code, _, err = call(folder, "run", "app.py:failing", "--store", "/proc/none")
    assert (code, err.count("\n")) == (2, 1), err
    assert "the store /proc/none cannot be made" in err


def test_refresh_of_what_there_is_not(folder):
    """Is told after the run; a name may be that of a child run's step."""
    code, _, err = call(folder, "run", "app.py:inner", "--refresh", "ecoh")
    assert code == 2
    assert "--refresh names ecoh" in err
    for name in ("app.py:inner", "app.py:outer"):
        assert call(folder, "run", name, "--refresh", "echo")[0] == 0


# -- run: how it ends -------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["debug", "local"])
def test_a_failed_run_exits_1_with_its_failure_in_full(folder, mode):
    """Once, with the user's lines alone, and what to type next."""
    code, out, err = call(folder, "run", "app.py:failing", "--mode", mode)
    assert code == 1
    assert "failing#1 failed" in err
    assert err.count("raise ValueError(text)") == 1
    assert "pipedeco/worker" not in err
    assert f"pipedeco show {get_run('latest').id}" in err
    assert "value 1" in out or mode == "debug"  # there the failure leaves at the call


def test_a_failure_that_leaves_the_body_exits_1(folder):
    """A step's is told once; the body's own has its traceback."""
    code, _, err = call(folder, "run", "app.py:reads_failed")
    assert (code, err.count("raise ValueError(text)")) == (1, 1), err
    code, _, err = call(folder, "run", "app.py:body_fails")
    assert (code, err.count('raise KeyError("of the body")')) == (1, 1), err
    assert "pipedeco/" not in err


def test_the_exit_code_of_the_body(folder):
    """SystemExit is the body's own wish."""
    assert call(folder, "run", "app.py:leaves", "--code", "7")[0] == 7


def test_control_characters_are_escaped(folder):
    """An error's text colours no terminal."""
    code, _, err = call(folder, "run", "app.py:failing", "--text", "a\x1b[31mb")
    assert code == 1
    assert "\x1b" not in err
    assert "a\\x1b[31mb" in err


def test_ctrl_c_exits_130(folder, start):
    """The run is recorded as cancelled."""
    process = start("run", "app.py:waiting", "--folder", folder)
    wait_for(folder / "waiting")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    assert "waiting#1 cancelled" in err
    assert "Traceback" not in err
    assert get_run("latest").status == "cancelled"


# -- cancel -----------------------------------------------------------------------------------


def test_cancel_from_another_process(folder, start):
    """Its controller hears of it, stops its steps and exits as after Ctrl-C."""
    process = start("run", "app.py:waiting", "--folder", folder)
    run = waiting_run(folder)
    code, out, err = call(folder, "cancel", run.id[:8])
    assert (code, err) == (0, "")
    assert out.split() == ["waiting#1", run.id, "cancelled"]
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert run.steps["wait"].state == "cancelled"
    assert "asked for it" in run.error


def test_cancel_of_what_does_not_run(folder):
    """One sentence, exit code 2."""
    call(folder, "run", "app.py:failing")
    code, _, err = call(folder, "cancel", "latest")
    assert (code, err.count("\n")) == (2, 1)
    assert "does not run: it is failed" in err
    assert call(folder, "cancel", "nothing")[0] == 2


def test_cancel_by_the_api_of_another_process(folder, start):
    """`get_run(...).cancel()` does the same."""
    process = start("run", "app.py:waiting", "--folder", folder)
    run = waiting_run(folder)
    run.cancel()
    assert run.wait(20)
    assert run.status == "cancelled"
    process.communicate(timeout=20)


# -- logs -------------------------------------------------------------------------------------


def test_logs_of_all_steps_and_of_one(folder):
    """Each line with its step in front; of one step as it was written."""
    call(folder, "run", "app.py:lines", "--n", "3")
    assert call(folder, "logs")[1].splitlines() == [
        "[echo] value 0", "[echo-2] value 1", "[echo-3] value 2",
    ]  # fmt: skip
    assert call(folder, "logs", "lines#1", "echo-2")[1] == "value 1\n"
    found = json.loads(call(folder, "logs", "latest", "--json")[1])
    assert found[2] == {"step": "echo-3", "text": "value 2\n"}
    code, _, err = call(folder, "logs", "latest", "nothing")
    assert (code, err.count("\n")) == (2, 1)
    assert "there is no step 'nothing'" in err


def test_logs_of_child_runs(folder):
    """Their steps stand behind the one that the child run is, which can be asked for alone."""
    (folder / "more.py").write_text(
        "from app import echo, lines, pipeline\n\n"
        "@pipeline\ndef nested():\n    return [lines(2), echo(2)]\n"
    )
    call(folder, "run", "more.py:nested")
    lines = ["[lines/echo] value 0", "[lines/echo-2] value 1"]
    assert call(folder, "logs", "nested#1")[1].splitlines() == [*lines, "[echo] value 2"]
    assert call(folder, "logs", "nested#1", "lines")[1].splitlines() == lines
    found = json.loads(call(folder, "logs", "nested#1", "--json")[1])
    assert [each["step"] for each in found] == ["lines/echo", "lines/echo-2", "echo"]


@pytest.mark.parametrize("step", [[], ["wait"]])
def test_logs_follow_a_run(folder, start, step):
    """Lines come while the step runs, and the command ends with the run."""
    process = start("run", "app.py:waiting", "--folder", folder)
    waiting_run(folder)
    follower = start("logs", "latest", *step, "-f")
    label = "" if step else "[wait] "
    assert follower.stdout.readline() == f"{label}waiting\n"
    (folder / "go").touch()
    out, err = follower.communicate(timeout=20)
    rest = "" if step else "[echo] value None\n"
    assert (out, err) == (f"{label}went on \\x1b[31m\n{rest}", "")
    process.communicate(timeout=20)


def test_what_the_next_step_writes_is_not_shown_as_the_last_ones(capsys):
    """They share a worker's log, and that the last one has ended is recorded a moment later."""
    shown, told = reading._Shown(), []
    for state, text in [
        ("running", "one\n"),
        ("running", "one\ntwo\nof the next\n"),
        ("completed", "one\ntwo\n"),
    ]:
        record = SimpleNamespace(state=state, logs=lambda text=text: text)
        reading._print_new(record, shown, "", follow=True)
        told.append(capsys.readouterr().out)
    assert told == ["", "one\n", "two\n"]


def test_follow_ends_quietly_at_ctrl_c(folder, start):
    """The run goes on."""
    process = start("run", "app.py:waiting", "--folder", folder)
    waiting_run(folder)
    follower = start("logs", "-f")
    follower.stdout.readline()
    follower.send_signal(signal.SIGINT)
    assert follower.communicate(timeout=20)[1] == ""
    assert follower.returncode == 130
    assert get_run("latest").status == "running"
    (folder / "go").touch()
    process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.parametrize("arguments", [["logs"], ["show"], ["graph"]])
def test_into_head(folder, arguments):
    """A pipe that closes early is no error."""
    call(folder, "run", "app.py:lines")
    done = subprocess.run(
        f"{COMMAND} {' '.join(arguments)} | head -1",
        shell=True, cwd=folder, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


# -- graph ------------------------------------------------------------------------------------


def test_graph_of_a_run_and_of_a_file(folder):
    """The tree on stdout; a file is traced and nothing performed."""
    code, out, err = call(folder, "graph", "app.py:failing")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("failing")
    assert [line.split()[-1] for line in out.splitlines()[1:]] == ["fail", "echo"]
    assert runs() == []
    call(folder, "run", "app.py:failing")
    out = call(folder, "graph", "failing#1")[1]
    assert "failed" in out


def test_graph_until_the_body_reads(folder):
    """What is known is drawn, and a sentence says why it is not more."""
    code, out, err = call(folder, "graph", "app.py:reads_failed")
    assert (code, err.count("\n")) == (0, 1)
    assert "fail" in out
    assert "reads the result of step fail" in err


def test_graph_as_files(folder):
    """By the end of the name."""
    call(folder, "run", "app.py:failing")
    for name in ("dag.svg", "dag.mmd", "dag.md", "dag.txt"):
        assert call(folder, "graph", "latest", "-o", name) == (0, "", "")
    ET.fromstring((folder / "dag.svg").read_text())
    assert (folder / "dag.mmd").read_text().startswith("---\ntitle")
    assert (folder / "dag.md").read_text().startswith("```mermaid\n---")
    assert "fail" in (folder / "dag.txt").read_text()
    for name, sentence in (("dag.png", "must end with .svg"), ("no/dag.svg", "cannot be written")):
        code, _, err = call(folder, "graph", "latest", "-o", name)
        assert (code, err.count("\n")) == (2, 1)
        assert sentence in err


def test_graph_as_json(folder):
    """Steps and edges by name."""
    call(folder, "run", "app.py:reads_failed")
    found = json.loads(call(folder, "graph", "--json")[1])
    assert [step["name"] for step in found["steps"]] == ["fail"]
    assert found["edges"] == []


def test_a_pipeline_that_needs_arguments_cannot_be_drawn_before_it_ran(folder):
    """And the sentence says what to do."""
    code, _, err = call(folder, "graph", "app.py:waiting")
    assert (code, err.count("\n")) == (2, 1)
    assert "run it, and draw the run" in err


# -- the command itself -----------------------------------------------------------------------


def test_the_commands_are_listed():
    """With a line each."""
    done = subprocess.run([COMMAND], capture_output=True, text=True, check=True)
    for name in ("run", "runs", "show", "logs", "graph", "cancel"):
        assert f"│ {name} " in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_is_installed(tmp_path, shell):
    """Into the shell's own folder below HOME; the script names our commands."""
    environment = {**os.environ, "HOME": str(tmp_path), "SHELL": f"/bin/{shell}"}
    environment.pop("XDG_DATA_HOME", None)
    subprocess.run(
        [COMMAND, "--install-completion", "--shell", shell],
        capture_output=True, check=True, env=environment, timeout=20,
    )  # fmt: skip
    scripts = [path for path in tmp_path.rglob("*") if path.is_file() and "pipedeco" in path.name]
    assert scripts
    assert all("cancel" in path.read_text() for path in scripts)


def test_a_name_that_waits_is_found_by_prefix_while_it_runs(folder, start):
    """show tells how far a run is."""
    process = start("run", "app.py:waiting", "--folder", folder)
    run = waiting_run(folder)
    out = wait_until(lambda: "running" in (text := call(folder, "show", run.id[:6])[1]) and text)
    assert "% done" in out
    (folder / "go").touch()
    process.communicate(timeout=20)


# -- the value that is printed


def test_the_value_is_printed_as_the_prompt_would(tmp_path):
    """Whole; only what is very long is cut, and says so."""
    source = (
        "from pipedeco import pipeline\n@pipeline\ndef p(n: int): return ['x' * n, {'a': [1]}]\n"
    )
    (tmp_path / "app.py").write_text(source)
    command = [sys.executable, "-m", "pipedeco", "run", "app.py"]
    for n, end in ((500, "x', {'a': [1]}]\n"), (20_000, "x… (20,016 characters)\n")):
        done = subprocess.run(
            [*command, "--n", str(n)], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith("['xxx")
        assert done.stdout.endswith(end)


# -- run: what holds for its steps ------------------------------------------------------------

SEEDED = """
import random
from pipedeco import component, pipeline

@component
def draw():
    return random.random()

@pipeline
def plain():
    return draw()

@pipeline
def own(seed: int = 1):
    return seed

def prepare():
    raise LookupError("no model")

@pipeline(setup=prepare)
def unprepared():
    return draw()
"""


def test_the_seed_of_a_run(folder):
    """Is recorded, shown and kept; a parameter of the pipeline of that name goes first."""
    Path(folder, "seeded.py").write_text(SEEDED)
    first = call(folder, "run", "seeded.py:plain", "--seed", "-5")[1]
    assert call(folder, "rerun", "latest")[1] == first
    assert "seed: -5\n" in call(folder, "show", "latest")[1]
    assert call(folder, "run", "seeded.py:plain", "--seed", "6")[1] != first
    assert call(folder, "run", "seeded.py:own", "--seed", "-5")[1] == "-5\n"
    code, _, err = call(folder, "run", "seeded.py:plain", "--seed", "x")
    assert (code, err) == (2, "pipedeco: --seed is a whole number, not 'x'\n")


def test_a_setup_that_fails_is_shown_with_its_lines(folder):
    """There is no failed step of which it would be told."""
    Path(folder, "seeded.py").write_text(SEEDED)
    code, _, err = call(folder, "run", "seeded.py:unprepared")
    assert code == 1
    assert err.count('raise LookupError("no model")') == 1
    assert "setup=prepare, which is called before a worker's first step, raised LookupError" in err

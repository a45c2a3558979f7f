"""The `pipedeco` command, driven as a person or a program drives it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pipedeco
from pipedeco import RunFailed, component, get_run, pipeline
from pipedeco.cli import main
from pipedeco.text import plain_text

COMMAND = str(Path(sys.executable).with_name("pipedeco"))
CONTROLS = "\x1b[31mred\x1b]0;title\x07\r\b\x00\x9b2J\u202egnp.exe"  # colours, titles, directions


@component
def double(x):
    return 2 * x


@component
def fail(text):
    raise ValueError(text)


@component(retries=1)
def second_time(path):
    if not Path(path).exists():
        Path(path).touch()
        raise OSError("the first time")
    return "ok"


@pipeline
def total(n):
    return sum(double(x) for x in range(n))


@pipeline
def broken(text):
    return double(fail(text))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with three runs of one pipeline and a failed one of another."""
    folder = tmp_path_factory.mktemp("store")
    pipedeco.configure(mode="debug", store=str(folder))
    for n in range(1, 4):
        total(n)
    with pytest.raises(ValueError, match="no luck"):
        broken.with_options(store=str(folder), mode="debug")("no luck")
    yield folder
    pipedeco.configure(mode=None, store=None)


@pytest.fixture(autouse=True)
def default_store(store, monkeypatch):
    monkeypatch.setenv("PIPEDECO_STORE", str(store))


def call(*arguments, check=0, **options):
    """Call the command; what it wrote to stdout and stderr."""
    done = subprocess.run(
        [COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=20, **options
    )
    assert done.returncode == check, done.stderr
    return done.stdout, done.stderr


def refused(capsys, *arguments):
    """The one sentence with which the command refuses; nothing goes to stdout."""
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("pipedeco: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


def shown(capsys, *arguments):
    assert main(list(arguments)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


# -- runs ------------------------------------------------------------------------------------


def test_runs_lists_the_newest_first(capsys):
    """One line a run under a head, with the names that show takes."""
    head, *lines = shown(capsys, "runs").splitlines()
    assert head.split() == ["run", "name", "version", "status", "mode", "started", "time"]
    assert [line.split()[1] for line in lines] == ["broken#1", "total#3", "total#2", "total#1"]
    assert [line.split()[3] for line in lines] == ["failed", *["completed"] * 3]
    assert {line.split()[4] for line in lines} == {"debug"}


def test_runs_of_one_pipeline_and_no_more_than_wanted(capsys):
    """A name narrows, --limit cuts."""
    assert "broken" not in shown(capsys, "runs", "total")
    (line,) = shown(capsys, "runs", "total", "--limit", "1").splitlines()[1:]
    assert line.split()[1] == "total#3"
    assert shown(capsys, "runs", "nothing-of-that-name").startswith("no runs ")


def test_runs_as_json(capsys):
    """The names of Run's attributes; what `runs()` gives."""
    found = json.loads(shown(capsys, "runs", "--json"))
    assert [run["name"] for run in found] == ["broken#1", "total#3", "total#2", "total#1"]
    for run in found:
        record = get_run(run["id"])
        for name, value in run.items():
            assert getattr(record, name) == value, name


def test_no_store_is_no_mistake_for_runs(capsys, tmp_path):
    """A person who looks before the first run gets a friendly word, a program an empty list."""
    assert shown(capsys, "runs", "--store", str(tmp_path)).startswith("no runs ")
    assert shown(capsys, "runs", "--json", "--store", str(tmp_path)) == "[]\n"
    assert list(tmp_path.iterdir()) == []


# -- show ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["total#2", "id", "prefix"])
def test_show_a_run(capsys, name):
    """By pipeline and number, by id, and by a prefix of it: parameters and steps."""
    run = get_run("total#2")
    given = {"id": run.id, "prefix": run.id[:9]}.get(name, name)
    head, _, *lines = shown(capsys, "show", given).splitlines()
    assert head.split() == ["total#2", run.id, "completed", "debug"]
    assert lines[:2] == ["  n = 2", ""]
    assert [line.split()[:2] for line in lines[3:]] == [
        ["double", "completed"],
        ["double-2", "completed"],
    ]
    assert [line.split()[-1] for line in lines[3:]] == ["0", "2"]


def test_show_latest_with_its_failure(capsys):
    """The traceback of the step, in the user's frames, and what the run ended with."""
    out = shown(capsys, "show", "latest")
    assert out.startswith("broken#1  ")
    assert re.search(r"^fail +failed .* ValueError: no luck$", out, re.MULTILINE)
    assert "step fail failed:" in out
    assert "raise ValueError(text)" in out
    assert out.endswith("the run ended with ValueError: no luck\n")


def test_show_as_json(capsys):
    """What Run.to_json gives, child runs included, and nothing but JSON."""
    found = json.loads(shown(capsys, "show", "latest", "--json"))
    assert found == get_run("latest").to_json(depth=1)
    assert found["steps"]["fail"]["error"] == "ValueError: no luck"


def test_attempts_are_counted(capsys, tmp_path):
    """A step that was tried twice says so, in both forms."""

    @pipeline(mode="debug", store=tmp_path / "store")
    def again():
        return second_time(str(tmp_path / "mark"))

    again()
    arguments = ("show", "latest", "--store", str(tmp_path / "store"))
    (line,) = (
        line for line in shown(capsys, *arguments).splitlines() if line.startswith("second_time")
    )
    assert line.split()[-2:] == ["2", "'ok'"]
    attempts = json.loads(shown(capsys, *arguments, "--json"))["steps"]["second_time"]["attempts"]
    assert [(a["number"], a["state"]) for a in attempts] == [(1, "failed"), (2, "completed")]


# -- mistakes --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nonsense", "total#99", "total#", "#", "%", "_", "", "x#-1"])
def test_an_unknown_run_is_one_sentence(capsys, name):
    """Exit code 2, the name as it was typed, and what to do next."""
    text = refused(capsys, "show", name)
    assert f"there is no run {name!r}" in text
    assert "pipedeco runs" in text


def test_an_ambiguous_prefix_is_one_sentence(capsys, store):
    """Two runs begin with it: nothing is shown, and the way out is named."""
    ids = [run["id"] for run in json.loads(shown(capsys, "runs", "--json"))]
    for _ in range(40):  # 16 first letters: by then two share one
        firsts = [name[0] for name in ids]
        shared = next((letter for letter in firsts if firsts.count(letter) > 1), None)
        if shared is not None:
            break
        total.with_options(store=str(store), mode="debug", name="filler")(0)
        ids = [run["id"] for run in json.loads(shown(capsys, "runs", "--json"))]
    assert f"more than one run begins with {shared!r}" in refused(capsys, "show", shared)
    for run in get_all(store):  # later tests want these runs alone
        if run.startswith("filler"):
            remove(store, run)


def get_all(store):
    return [run.name for run in pipedeco.runs(store=str(store))]


def remove(store, name):
    import contextlib
    import sqlite3

    pipeline_name, _, number = name.partition("#")
    with contextlib.closing(sqlite3.connect(store / "pipedeco.db")) as connection, connection:
        connection.execute(
            "delete from run where pipeline = ? and number = ?", (pipeline_name, int(number))
        )


def test_no_store_is_one_sentence(capsys, tmp_path):
    """Nothing is made by asking."""
    text = refused(capsys, "show", "latest", "--store", str(tmp_path / "none"))
    assert f"{tmp_path}/none" in text
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_store_is_one_sentence(capsys, tmp_path):
    """For both commands."""
    (tmp_path / "pipedeco.db").write_text("This is my diary. " * 100)
    for arguments in (["show", "latest"], ["runs"]):
        text = refused(capsys, *arguments, "--store", str(tmp_path))
        assert str(tmp_path / "pipedeco.db") in text


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["show", "a", "b"], ["runs", "--limit", "x"], ["runs", "--nonsense"]],
    ids=" ".join,
)
def test_a_wrong_command_line_is_exit_2(capsys, arguments):
    """And one sentence."""
    refused(capsys, *arguments)


# -- as a process ----------------------------------------------------------------------------


def test_the_command_and_the_module_are_the_same():
    """`pipedeco` and `python -m pipedeco`, with the exit codes of main."""
    out, _ = call("runs")
    module = subprocess.run(
        [sys.executable, "-m", "pipedeco", "runs"], capture_output=True, text=True, check=True
    )
    assert module.stdout == out
    _, err = call("show", "nonsense", check=2)
    assert err.startswith("pipedeco: there is no run 'nonsense'")


@pytest.mark.parametrize("words", [["show"], ["logs"], ["why"], ["metrics"], ["diff", "total#3"]])
def test_the_name_of_a_pipeline(words):
    """It stands for the latest run of that name."""
    assert call(*words, "total") == call(*words, "total#3")


def test_help():
    """Each command says what it is for."""
    out, _ = call("--help")
    assert "List the recorded runs" in out
    assert "Show one run with its steps" in out
    assert "pipeline#number" in call("show", "--help")[0]
    for words in (("--help",), ("run", "--help"), ()):
        text = call(*words)[0]
        for variable in ("MODE", "WORKERS", "STORE", "PROGRESS", "START_METHOD"):
            assert f"\n  PIPEDECO_{variable} " in text
    assert "PIPEDECO_MODE or" in call("run", "--help")[0]
    assert "PIPEDECO_WORKERS" not in call("runs", "--help")[0]


@pytest.mark.parametrize("arguments", [["runs"], ["show", "latest"], ["show", "total#3", "--json"]])
def test_a_pipe_that_closes_early_is_no_error(arguments):
    """As in `pipedeco show RUN | head -1`: no traceback, and the exit code of SIGPIPE."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [COMMAND, *arguments], stdout=writer, stderr=subprocess.PIPE, check=False, timeout=20
        )
    finally:
        os.close(writer)
    assert (done.stderr, done.returncode) == (b"", 141)


def test_into_head():
    """The shell's own pipeline: the first line comes, and no complaint."""
    done = subprocess.run(
        f"{COMMAND} runs | head -1", shell=True, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("run ")
    assert done.stderr == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_of_the_terminal(tmp_path, encoding):
    """A name that the terminal cannot show is no reason to fail."""
    store = str(tmp_path)
    total.with_options(store=store, mode="debug", name="größe→")(1)
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PIPEDECO_STORE": store}
    for arguments in (["runs"], ["show", "latest"], ["runs", "--json"]):
        done = subprocess.run(
            [COMMAND, *arguments], capture_output=True, check=False, env=environment, timeout=20
        )
        assert (done.returncode, done.stderr) == (0, b""), arguments


# -- what somebody else wrote ----------------------------------------------------------------


def test_plain_text():
    """Control characters are shown as their escapes; what is printable stays."""
    assert plain_text("grün → 3\u00a0€") == "grün → 3\\xa0€"
    assert plain_text("a\nb\tc\x1b[0m") == "a\\nb\\tc\\x1b[0m"
    assert plain_text("a\n\tb\r\n", keep_lines=True) == "a\n\tb\\r\n"
    assert plain_text("\u202e\u2066\u200b\ufeff\U000e0041") == (
        "\\u202e\\u2066\\u200b\\ufeff\\U000e0041"
    )


@pytest.mark.parametrize(
    "arguments", [["runs"], ["show", "latest"], ["show", "nonsense" + CONTROLS]]
)
@pytest.mark.parametrize("json_form", [False, True])
def test_control_characters_are_escaped(capsys, tmp_path, arguments, json_form):
    """Names, parameters, results, errors and tracebacks move no cursor; in JSON neither."""
    store = str(tmp_path)
    for text in (CONTROLS, "line\n" + CONTROLS):
        named = broken.with_options(store=store, mode="local", workers=1, name="p" + CONTROLS)
        with pytest.raises((RunFailed, ValueError)):
            named(text)
    extra = ["--json"] if json_form else []
    main([*arguments, *extra, "--store", store])
    out, err = capsys.readouterr()
    for character in out + err:
        assert character == "\n" or character.isprintable(), repr(character)
    assert "red" in out + err
    if json_form and out:
        json.loads(out)


def test_json_gives_the_text_back_unchanged(capsys, tmp_path):
    """A program reads the very name and error; only its way there is escaped."""
    named = broken.with_options(store=str(tmp_path), mode="debug", name="p" + CONTROLS)
    with pytest.raises(ValueError, match="red"):
        named(CONTROLS)
    found = json.loads(shown(capsys, "show", "latest", "--json", "--store", str(tmp_path)))
    assert found["pipeline"] == "p" + CONTROLS
    assert found["steps"]["fail"]["error"] == "ValueError: " + CONTROLS


def test_commands_and_programs_use_the_store_of_the_project(tmp_path, monkeypatch):
    """From anywhere below the project's folder."""
    monkeypatch.delenv("PIPEDECO_STORE", raising=False)
    (tmp_path / "pyproject.toml").write_text(
        '[tool.pipedeco]\nstore = "data/runs"\nstart_method = "spawn"\n'
    )
    (tmp_path / "app.py").write_text(PROJECT_PROGRAM)
    below = tmp_path / "below"
    below.mkdir()
    for folder, words in (
        (tmp_path, ["app.py"]),
        (below, ["-m", "pipedeco", "run", "../app.py"]),
        (below, ["-m", "pipedeco", "runs", "--json"]),
    ):
        done = subprocess.run(
            [sys.executable, *words],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 2
    assert (tmp_path / "data" / "runs" / "pipedeco.db").exists()
    assert not (tmp_path / ".pipedeco").exists()


PROJECT_PROGRAM = """
from pipedeco import component, pipeline

@component
def one():
    return 1

@pipeline
def main():
    return one()

if __name__ == "__main__":
    main()
"""

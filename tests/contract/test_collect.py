"""Files that steps write into their working directory, and that collect= keeps as artifacts."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import wait_for

from pipedeco import ConfigError, RunFailed, component, get_run, pipeline


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A project in which the pipelines are called."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").touch()
    (project / "there.csv").write_text("there\n")
    monkeypatch.chdir(project)
    return project


def kept(step):
    """What a step has logged: the text of each file by its name."""
    return {name: Path(found.path()).read_text() for name, found in step.artifacts.items()}


def test_files_that_match_are_artifacts(here, mode):
    """Those that the step has made or changed, under their relative paths."""

    @component(collect=["*.csv", "plots/*.txt"])
    def write():
        Path("table.csv").write_text("1\n")
        with Path("there.csv").open("a") as file:
            file.write("more\n")
        Path("notes.md").write_text("no\n")
        Path("plots").mkdir()
        Path("plots/a.txt").write_text("plot\n")
        Path("plots/deep").mkdir()
        Path("plots/deep/b.txt").write_text("no\n")

    @component(collect="*.csv")
    def look():
        return Path("there.csv").exists()

    @pipeline
    def both():
        return write(), look()

    both()
    steps = get_run().steps
    assert kept(steps["write"]) == {
        "table.csv": "1\n",
        "there.csv": "there\nmore\n",
        "plots/a.txt": "plot\n",
    }
    assert kept(steps["look"]) == {}


def test_a_file_that_is_written_again(here, mode):
    """Each step keeps what it wrote, of the same size and within one tick of the clock, too."""

    @component(collect=["out.txt"])
    def write(text):
        Path("out.txt").write_text(text)
        return text

    @pipeline
    def chain():
        first = write("one")
        return write.with_options(depends_on=[first])("two")

    chain()
    steps = get_run().steps
    assert [kept(steps[name]) for name in ("write", "write-2")] == [
        {"out.txt": "one"},
        {"out.txt": "two"},
    ]


def test_steps_beside_each_other(here, mode):
    """Each has its own files, though they are written into one folder at once."""

    @component(collect=["*.out"])
    def write(number, count, folder):
        with open(f"{number}.out", "w") as file:
            file.write(str(number))
        Path(folder, str(number)).touch()
        if count > 1:
            wait_for(*(Path(folder, str(other)) for other in range(count)))

    @pipeline
    def fan(folder):
        for number in range(2):
            write(number, 1 if mode == "debug" else 2, folder)

    (here.parent / "marks").mkdir()
    fan(str(here.parent / "marks"))
    steps = get_run().steps
    assert [kept(steps[name]) for name in ("write", "write-2")] == [{"0.out": "0"}, {"1.out": "1"}]


def test_what_others_write_for_the_step(here, mode):
    """Programs that it starts, a file that is renamed, one of another process's."""

    @component(collect=["*.out"])
    def write():
        code = "open('child.out', 'w').write('child')"
        subprocess.run([sys.executable, "-c", code], check=True)
        Path("part").write_text("renamed")
        Path("part").rename("renamed.out")

    @pipeline
    def one():
        write()

    one()
    assert kept(get_run().steps["write"]) == {"child.out": "child", "renamed.out": "renamed"}


def test_a_failed_step(here, mode):
    @component(collect=["*.log"])
    def fail():
        Path("why.log").write_text("because\n")
        raise ValueError("wrong")

    @pipeline
    def failing():
        fail()

    with pytest.raises((RunFailed, ValueError)):
        failing()
    assert kept(get_run().steps["fail"]) == {"why.log": "because\n"}


def test_a_cached_step(here, mode):
    """It has those of the step that made its value."""

    @component(cache=True, collect=["*.csv"])
    def write():
        Path("table.csv").write_text("1\n")
        return 1

    @pipeline
    def one():
        return write() + 0

    assert one() == one() == 1
    step = get_run().steps["write"]
    assert step.state == "cached"
    assert kept(step) == {"table.csv": "1\n"}


@pytest.mark.parametrize(
    ("patterns", "why"),
    [
        ([1], "collect is a list of patterns"),
        (["/etc/*"], "relative paths"),
        (["../*.csv"], "relative paths"),
        ([""], "collect is a list of patterns"),
        (5, "collect is a list"),
    ],
)
def test_patterns_that_cannot_be(patterns, why):
    with pytest.raises(ConfigError, match=why):
        component(collect=patterns)


def test_runs_in_threads_of_one_process_collect_their_own(mode, tmp_path, monkeypatch):
    """Two runs of debug mode perform their steps at once, in one process and folder."""
    monkeypatch.chdir(tmp_path)
    meeting = threading.Barrier(2, timeout=20)

    @component(collect=["*.txt"])
    def write(name):
        if mode == "debug":
            meeting.wait()
        Path(f"{name}.txt").write_text(name)
        if mode == "debug":
            meeting.wait()

    @pipeline
    def run(name):
        write(name).result()

    runs = [run.start(name) if mode != "debug" else None for name in ("a", "b")]
    if mode == "debug":
        threads = [threading.Thread(target=run, args=(name,)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:
        for each in runs:
            each.result()
    found = [get_run(f"run#{number}").steps["write"] for number in (1, 2)]
    names = sorted(name for step in found for name in step.artifacts)
    assert names == ["a.txt", "b.txt"]

"""Files that the values of cached steps name: they are looked at before such a value is served."""

import dataclasses
import os
from pathlib import Path

import pytest
from conftest import wait_for

from pipedeco import File, component, get_run, pipeline


class Report(File):
    """A user's own kind of file."""


@dataclasses.dataclass
class Named:
    name: str
    file: File


SHAPES = {
    "bare": File,
    "own class": Report,
    "nested": lambda path: {"rows": 3, "parts": [("a", File(path))]},
    "attribute": lambda path: Named("a", File(path)),
    "with a function": lambda path: (File(path), lambda: 0),
    "folder": lambda path: File(os.path.dirname(path)),
    "large": lambda path: (b"x" * 100_000, File(path)),
}


def note(log):
    with open(log, "a") as file:
        file.write("x")


def count(log):
    return len(Path(log).read_text()) if os.path.exists(log) else 0


@component(cache=True)
def make(log, path, shape="bare"):
    note(log)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Path(path).write_text("one\n")
    return SHAPES[shape](path)


@component(cache=True)
def lines(log, made):
    note(log)
    return len(Path(made).read_text().splitlines())


@component
def append(path, text):
    with open(path, "a") as file:
        file.write(text)


@pipeline
def makes(log, path, shape="bare"):
    make(log, path, shape)


@pipeline
def counted(log, log2, path):
    return lines(log2, make(log, path)) + 0


@pytest.fixture
def log(tmp_path):
    return str(tmp_path / "log")


@pytest.fixture
def log2(tmp_path):
    return str(tmp_path / "log2")


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "made" / "table.csv")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_file_in_a_value(mode, log, path, shape):
    """It serves as long as the file is as the step left it, wherever in the value it stands."""
    makes(log, path, shape)
    makes(log, path, shape)
    assert count(log) == 1
    Path(path).write_text("two\n")
    makes(log, path, shape)
    assert count(log) == 2
    assert Path(path).read_text() == "one\n"
    os.remove(path)
    makes(log, path, shape)
    assert count(log) == 3
    assert os.path.exists(path)
    os.utime(path, (1, 1))  # its times do not count
    makes(log, path, shape)
    assert count(log) == 3


def test_why_names_the_file(mode, log, path):
    makes(log, path)
    Path(path).write_text("two\n")
    makes(log, path)
    assert f"File({path!r}) has changed" in get_run().steps["make"].why().text
    os.remove(path)
    makes(log, path)
    assert f"File({path!r}) is not there" in get_run().steps["make"].why().text


def test_a_step_that_is_given_the_file(mode, log, log2, path):
    """It gets what the file holds now."""
    assert counted(log, log2, path) == 1
    assert counted(log, log2, path) == 1
    assert (count(log), count(log2)) == (1, 1)
    os.remove(path)
    assert counted(log, log2, path) == 1
    assert (count(log), count(log2)) == (2, 1)


@component(cache=True)
def place(log, path):
    """Names a file that it does not make."""
    note(log)
    return File(path)


def test_changed_and_changed_back(mode, log, log2, tmp_path):
    """What was known of a content is known again, and nothing else is."""
    file = tmp_path / "table.csv"
    body = pipeline(lambda: lines(log2, place(log, str(file))) + 0)
    file.write_text("one\n")
    assert body() == 1
    file.write_text("one\ntwo\n")
    assert body() == 2
    file.write_text("one\n")
    assert body() == 1
    assert count(log2) == 2


def test_a_change_within_the_run(mode, log, log2, tmp_path):
    """A step that comes after a change gets what the file holds by then, also of a hit."""
    file = tmp_path / "table.csv"

    @pipeline
    def body():
        named = place(log, str(file))
        before = lines(log2, named) + 0
        changed = append(str(file), "more\n")
        return before, lines.with_options(depends_on=[changed])(log2, named) + 0

    for _ in range(3):
        file.write_text("one\n")
        assert body() == (1, 2)


def test_a_change_while_the_step_runs(mode, log, path, tmp_path):
    """What a step has made of a file that changed meanwhile serves nobody."""
    if mode == "debug":
        pytest.skip("nothing runs side by side there")
    begun, gate = str(tmp_path / "begun"), str(tmp_path / "gate")

    @component(cache=True)
    def slow(made):
        text = Path(made).read_text()
        Path(begun).touch()
        wait_for(gate)
        return text

    body = pipeline(lambda: slow(make(log, path)) + "")
    run = body.start()
    wait_for(begun)
    Path(path).write_text("two\n")
    Path(gate).touch()
    assert run.result(20) == "one\n"
    assert body() == "one\n"
    assert get_run().steps["slow"].state == "completed"


@pipeline
def child(log, path):
    return {"file": make(log, path)}


def test_a_childs_value(mode, log, log2, path):
    """A File that a child pipeline returns is looked at, too."""
    body = pipeline(lambda: lines(log2, child(log, path)["file"]) + 0)
    assert body() == body() == 1
    assert (count(log), count(log2)) == (1, 1)
    append.fn(path, "two\n")
    assert body() == 1  # it was made again
    assert (count(log), count(log2)) == (2, 1)


def test_a_file_that_never_was(mode, log, tmp_path):
    body = pipeline(lambda: place(log, str(tmp_path / "none")))
    body()
    body()
    assert count(log) == 2


def test_uncached_steps_read_no_file(mode, log, path, monkeypatch):
    """A File in the value of another component costs nothing."""
    body = pipeline(lambda: make.with_options(cache=False)(log, path))
    body()
    os.remove(path)
    body()
    assert count(log) == 2


@component(cache=True)
def text_place(log, path):
    note(log)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Path(path).write_text("one\n")
    return path


@component
def joined(path):
    return path


@component
def read(path):
    return Path(path).read_text()


@pytest.mark.parametrize("through", [False, True])
def test_a_plain_path_that_is_gone(mode, log, path, through):
    """A path counts as text; who misses its file is told that it came from the cache."""

    @pipeline
    def body():
        made = text_place(log, path)
        return read(joined(made) if through else made) + ""

    assert body() == "one\n"
    os.remove(path)
    with pytest.raises(FileNotFoundError) as caught:
        body()
    notes = "\n".join(caught.value.__notes__)
    assert "the value of step text_place came from the cache" in notes
    assert "pipedeco.File" in notes
    Path(path).write_text("one\n")
    assert body() == "one\n"

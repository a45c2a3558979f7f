"""What a step is taken to have written, where several write side by side."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipedeco.errors import ReportError
from pipedeco.graph import COMPLETED, FAILED, Outcome
from pipedeco.worker import collecting
from pipedeco.worker.collecting import _Claims, collected


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setattr(collecting, "private_root", lambda: str(tmp_path / "root"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def outcome(state=COMPLETED):
    return Outcome(state, 1.0, 0.5)


def attempt(monkeypatch, act, state=COMPLETED, refuse=False):
    """The outcome of an attempt that does `act`, and what is logged."""
    logged = []

    def log(_, name, path):
        if refuse:
            raise ReportError("it cannot be kept")
        logged.append((name, Path(path).read_text()))

    monkeypatch.setattr(collecting.ReportCalls, "log_artifact", log)

    def perform():
        act()
        return outcome(state)

    return collected(("*.out",), SimpleNamespace(), perform), logged


def test_a_file_that_cannot_be_kept(here, monkeypatch, capsys):
    """A completed step fails, as it does where it logs such a file; a failed one has its own error."""

    def write():
        Path("a.out").write_text("a")

    found, _ = attempt(monkeypatch, write, refuse=True)
    assert (found.state, found.duration) == (FAILED, 0.5)
    assert "it cannot be kept" in found.error.text
    found, _ = attempt(monkeypatch, write, FAILED, refuse=True)
    assert found.error is None
    assert "it cannot be kept" in capsys.readouterr().err


def test_what_another_step_has_opened_is_its_own(here, monkeypatch):
    """Unless this one has opened it, too; what nobody has opened was written unseen."""
    other = _Claims(os.getcwd())
    other._own = -1
    other.begin()

    def write():
        for name in ("theirs.out", "both.out"):
            other.claim(name)
        os.system("echo theirs > theirs.out; echo unseen > unseen.out")
        Path("both.out").write_text("both")

    _, logged = attempt(monkeypatch, write)
    assert logged == [("both.out", "both"), ("unseen.out", "unseen\n")]
    assert len(os.listdir(here / "root" / "claims")) == 1
    other.end()
    assert os.listdir(here / "root" / "claims") == []


def test_what_another_step_had_opened_before(here, monkeypatch):
    """A step that has ended claims nothing of those that begin later, even while others go on."""
    first, second = _Claims(os.getcwd()), _Claims(os.getcwd())
    first._own, second._own = -1, -2
    first.begin()
    second.begin()
    first.claim("a.out")
    first.end()
    _, logged = attempt(monkeypatch, lambda: os.system("echo a > a.out"))
    second.end()
    assert logged == [("a.out", "a\n")]


def test_a_working_directory_that_is_gone(here, monkeypatch):
    os.rmdir(os.getcwd())
    found, _ = attempt(monkeypatch, print)
    assert found.state == FAILED
    assert "working directory has been removed" in found.error.text

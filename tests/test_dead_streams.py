"""Programs and commands whose stdout or stderr is closed, full, or a pipe that nobody reads."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "pipedeco"]
PROGRAM = """
import sys
from pathlib import Path

from pipedeco import component, pipeline


@component
def say(text):
    print(text)
    print(text, file=sys.stderr)
    return text


@pipeline
def main():
    say("other words").result()
    return say("some words") + "!"


if __name__ == "__main__":
    Path("value").write_text(main())
    sys.stdout = sys.__stdout__  # Python flushes it as it ends
"""
MODES = ["debug", "local", "remote"]


class Shell:
    """Has a POSIX shell start things, with streams as it makes them."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "app.py").write_text(PROGRAM)

    def __call__(self, command, streams, **variables):
        words = " ".join(command)
        done = subprocess.run(
            ["sh", "-c", f"{words} {streams}"],
            cwd=self.folder,
            env={
                **os.environ,
                "PIPEDECO_STORE": str(self.folder / "store"),
                "PIPEDECO_QUEUES": '{"default": "local://2"}',
                "PYTHONUNBUFFERED": "1",  # a write fails at once, and not at the exit
                **variables,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        value = Path(self.folder, "value")
        return done, value.read_text() if value.exists() else None


@pytest.fixture
def shell(tmp_path):
    return Shell(tmp_path)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("progress", ["auto", "full"])
@pytest.mark.parametrize("streams", [">&-", "2>&-", ">&- 2>&-"])
def test_a_closed_stream_is_none_and_print_does_nothing(shell, mode, progress, streams):
    done, value = shell(
        [sys.executable, "app.py"], streams, PIPEDECO_MODE=mode, PIPEDECO_PROGRESS=progress
    )
    assert (done.returncode, value) == (0, "some words!")
    # What print() writes to a stderr that is None goes to stdout, and nothing of ours does.
    assert set(done.stdout.split("\n")) <= {"other words", "some words", ""}


@pytest.mark.parametrize("progress", ["auto", "full"])
@pytest.mark.parametrize("streams", [">/dev/full", ">/dev/full 2>/dev/full"])
@pytest.mark.parametrize("mode", ["local", "remote"])
def test_a_full_stream_is_told_once_and_the_steps_go_on(shell, mode, progress, streams):
    done, value = shell(
        [sys.executable, "app.py"], streams, PIPEDECO_MODE=mode, PIPEDECO_PROGRESS=progress
    )
    assert (done.returncode, value) == (0, "some words!")
    said = done.stderr.count("cannot be shown on stdout: [Errno 28] No space left on device")
    assert said == (0 if "2>" in streams else 1)
    logged, _ = shell([*COMMAND, "logs", "latest"], "")
    assert logged.stdout.count("some words") == 2


def test_workers_by_spawn_start_beside_a_stream_that_cannot_be_written(shell):
    """What the first one has written is still held back when the second one starts."""
    (shell.folder / "app.py").write_text(
        PROGRAM.replace("@component", "@component(fresh_process=True)")
    )
    done, value = shell(
        [sys.executable, "app.py"],
        ">/dev/full",
        PIPEDECO_MODE="local",
        PIPEDECO_START_METHOD="spawn",
        PIPEDECO_WORKERS="1",
        PYTHONUNBUFFERED="",
    )
    assert value == "some words!"
    assert done.returncode == 120  # Python's own, as without us


def test_in_debug_mode_print_fails_as_it_does_without_us(shell):
    done, value = shell([sys.executable, "app.py"], ">/dev/full", PIPEDECO_MODE="debug")
    assert value is None
    assert "OSError: [Errno 28] No space left on device" in done.stderr


@pytest.mark.parametrize("mode", MODES)
def test_a_summary_that_cannot_be_written(shell, mode):
    (shell.folder / "app.py").write_text(PROGRAM.replace("file=sys.stderr", 'end="\\n"'))
    done, value = shell(
        [sys.executable, "app.py"],
        "2>/dev/full",
        PIPEDECO_MODE=mode,
        PIPEDECO_PROGRESS="full",
    )
    assert (done.returncode, value) == (0, "some words!")


OWN = """
import sys


class Own:
    def __init__(self):
        self.texts = []

    def write(self, text):
        self.texts.append(text)
        if "words" in text and len(sys.argv) > 1:
            raise RuntimeError("no words here")


sys.stdout = Own()
"""


@pytest.mark.parametrize("mode", ["local", "remote"])
@pytest.mark.parametrize("refuses", ["", "refuses"])
def test_a_stream_of_the_programs_own(shell, mode, refuses):
    """It may lack what print() does not need, and may raise anything."""
    (shell.folder / "app.py").write_text(OWN + PROGRAM)
    done, value = shell([sys.executable, "app.py", refuses], "", PIPEDECO_MODE=mode)
    assert (done.returncode, value) == (0, "some words!")
    assert done.stderr.count("cannot be shown on stdout: no words here") == bool(refuses)


REFUSING = """
import sys


class Refusing:
    def write(self, text):
        raise RuntimeError("not here")


sys.stderr = Refusing()
"""


@pytest.mark.parametrize("mode", MODES)
def test_a_summary_for_a_stream_that_refuses_it(shell, mode):
    (shell.folder / "app.py").write_text(REFUSING + PROGRAM.replace(", file=sys.stderr", ""))
    done, value = shell(
        [sys.executable, "app.py"], "", PIPEDECO_MODE=mode, PIPEDECO_PROGRESS="full"
    )
    assert value == "some words!", done.stderr


@pytest.mark.parametrize(
    "words", [["runs"], ["runs", "--json"], ["show", "latest"], ["graph", "latest"], ["--help"]]
)
@pytest.mark.parametrize(
    ("streams", "code"), [(">&-", 0), ("2>&-", 0), (">/dev/full", 2), ("2>/dev/full", 0)]
)
def test_commands(shell, words, streams, code):
    shell([sys.executable, "app.py"], "", PIPEDECO_MODE="debug")
    done, _ = shell([*COMMAND, *words], streams)
    assert done.returncode == code
    full = "what was to be told cannot be written: No space left on device"
    assert (full in done.stderr) == (code == 2)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("streams", ["2>&-", "2>/dev/full"])
def test_a_complaint_that_nobody_hears(shell, streams):
    done, _ = shell([*COMMAND, "show", "nothing"], streams)
    assert (done.returncode, done.stdout) == (2, "")

"""Scripts in processes of their own, with deadlines, and the census of what they leave behind.

Every process of a Lab carries a marker in its environment, so that /proc tells who belongs to it,
however often it forked.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipedeco import get_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipedeco import Run

MARKER = "PIPEDECO_TEST_MARKER"
DEADLINE = 25.0  # seconds for what should take one; the machine may be busy

# Put before a script: what ends within its deadlines has ended by itself, and was not killed.
PATIENT = """
import pipedeco.hooks, pipedeco.runners.local
pipedeco.hooks.GRACE = pipedeco.runners.local.GRACE = 600.0


"""

# What scripts begin with: notes are files in the working directory, written in one piece.
PRELUDE = '''\
import os, signal, sys, time
from pathlib import Path
from pipedeco import *
from pipedeco import component, pipeline, value, get_run, configure
from pipedeco.errors import *


def note(name, text=""):
    Path(name + ".part").write_text(str(text))
    Path(name + ".part").rename(name)


def wait_for(name, seconds=25):
    end = time.monotonic() + seconds
    while not Path(name).exists():
        if time.monotonic() > end:
            raise TimeoutError(name)
        time.sleep(0.005)


def meet(n, count, what="met"):
    """Return when `count` steps are here at the same time."""
    note(f"{what}-{n}")
    for other in range(count):
        wait_for(f"{what}-{other}")


def tell(error):
    """What a person learns of an error, in one line."""
    notes = " | ".join(getattr(error, "__notes__", ()))
    print(f"{type(error).__name__}: {error} [{notes}]".replace("\\n", " "), flush=True)


'''

# Makes the terminal that is named first its own, then becomes Python with the other arguments.
ON_TERMINAL = (
    "import os, sys; fd = os.open(sys.argv[1], os.O_RDWR);"
    "[os.dup2(fd, i) for i in (0, 1, 2)];"
    "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
)


class Finished(NamedTuple):
    """How a process ended and what it wrote."""

    code: int
    out: str
    err: str


class Job:
    """A process of a Lab, which writes into files."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path, err: Path, folder: Path):
        self.process = process
        self.folder = folder
        self._out = out
        self._err = err

    @property
    def pid(self) -> int:
        return self.process.pid

    def note(self, name: str, deadline: float = DEADLINE) -> str:
        """The text of a note, which is waited for."""
        path = self.folder / name
        wait_until(lambda: path.exists() or self.process.poll() is not None, deadline, name)
        assert path.exists(), f"the script ended before it wrote {name}: {self._err.read_text()}"
        return path.read_text()

    def out(self) -> str:
        return self._out.read_text(errors="backslashreplace")

    def err(self) -> str:
        return self._err.read_text(errors="backslashreplace")

    def finish(self, deadline: float = DEADLINE) -> Finished:
        """Wait for the end; a process over its deadline is asked for its stacks and killed."""
        try:
            code = self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            self.process.wait(5)
            raise AssertionError(f"no end within {deadline} s\n{self._tail()}") from None
        return Finished(code, self.out(), self._err.read_text(errors="backslashreplace"))

    def kill(self) -> None:
        """SIGKILL, and reap."""
        self.process.kill()
        self.process.wait(5)

    def _tail(self) -> str:
        return f"stdout: {self.out()[-3000:]}\nstderr: {self._err.read_text()[-6000:]}"


class Lab:
    """A folder with scripts, a store, and the processes that use them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.marker = f"{os.getpid()}-{os.urandom(8).hex()}"
        self.jobs: list[Job] = []

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: text for name, text in os.environ.items() if not name.startswith("PIPEDECO")}
        own = {
            "PIPEDECO_STORE": str(self.store),
            "PIPEDECO_PROGRESS": "off",  # it appears where the machine is slow
            "PYTHONFAULTHANDLER": "1",
            MARKER: self.marker,
        }
        return {**kept, **own, **more}

    def write(self, name: str, source: str, *, prelude: bool = False) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        former = path.stat().st_mtime if path.exists() else None
        path.write_text((PRELUDE if prelude else "") + textwrap.dedent(source))
        if former is not None:  # Python takes its compiled form for the same size and second
            os.utime(path, (former + 2, former + 2))
        return path

    def start(self, source: str, **variables: str) -> Job:
        """Begin a script that starts with the prelude."""
        script = self.write(f"script{len(self.jobs)}.py", source, prelude=True)
        return self.command([sys.executable, str(script)], **variables)

    def run(self, source: str, deadline: float = DEADLINE, **variables: str) -> Finished:
        """Run a script to its end, which must be a good one."""
        done = self.start(source, **variables).finish(deadline)
        assert done.code == 0, f"exit code {done.code}\n{done.out[-3000:]}\n{done.err[-6000:]}"
        return done

    def command(self, command: list[str], stdin: bytes = b"", **variables: str) -> Job:
        number = len(self.jobs)
        out, err = self.folder / f"out{number}", self.folder / f"err{number}"
        with out.open("wb") as to_out, err.open("wb") as to_err:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment(**variables),
                stdin=subprocess.PIPE,
                stdout=to_out,
                stderr=to_err,
                start_new_session=True,
            )
        assert process.stdin is not None
        process.stdin.write(stdin)
        process.stdin.close()
        self.jobs.append(Job(process, out, err, self.folder))
        return self.jobs[-1]

    def latest(self) -> Run:
        return get_run("latest", store=str(self.store))

    def survivors(self) -> list[int]:
        """The living processes that carry the marker."""
        mark = f"{MARKER}={self.marker}".encode()
        return [pid for pid in all_processes() if mark in environ_of(pid) and is_alive(pid)]

    def assert_empty(self, deadline: float = DEADLINE) -> None:
        """No process is left within the deadline."""
        try:
            wait_until(lambda: not self.survivors(), deadline)
        except AssertionError:
            left = "\n".join(describe(pid) for pid in self.survivors())
            raise AssertionError(f"left after {deadline} s:\n{left}") from None

    def assert_sound(self) -> None:
        """The database passes SQLite's own check."""
        connection = sqlite3.connect(self.store / "pipedeco.db")
        with contextlib.closing(connection):
            assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
            assert connection.execute("pragma foreign_key_check").fetchall() == []

    def wait_recorded(self, deadline: float = DEADLINE) -> None:
        """Wait until the latest run has its row."""
        wait_until(lambda: (self.store / "pipedeco.db").exists() and self._rows(), deadline)

    def _rows(self) -> int:
        with contextlib.closing(sqlite3.connect(self.store / "pipedeco.db")) as connection:
            try:
                return int(connection.execute("select count(*) from run").fetchone()[0])
            except sqlite3.OperationalError:  # the store is being made
                return 0

    def close(self) -> None:
        """End whatever is left."""
        for pid in self.survivors():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for job in self.jobs:
            job.process.wait(5)


class Terminal:
    """A Python process with a terminal of its own, which types and reads."""

    def __init__(self, lab: Lab, *arguments: str, **variables: str) -> None:
        self.master, slave = os.openpty()
        os.set_blocking(self.master, False)
        name = os.ttyname(slave)
        self.job = lab.command([sys.executable, "-c", ON_TERMINAL, name, *arguments], **variables)
        self._slave = slave  # kept open, so that reading never ends before the process does
        self.text = ""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, text: str, deadline: float = DEADLINE) -> None:
        """Wait until the text has appeared since the last call; what was before is forgotten."""
        wait_until(lambda: self._read() and text in self.text, deadline, f"{text!r} on screen")
        self.text = self.text.partition(text)[2]

    def finish(self, deadline: float = DEADLINE) -> int:
        """The exit code."""
        wait_until(lambda: self._read() and self.job.process.poll() is not None, deadline, "end")
        self._read()
        os.close(self.master)
        os.close(self._slave)
        return int(self.job.process.returncode)

    def _read(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.master, 65536):
                self.text += data.decode(errors="replace")
        return True


def wait_until(
    condition: Callable[[], object], deadline: float = DEADLINE, what: str = "it"
) -> None:
    """Return once the condition holds; fail after the deadline."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, f"waited {deadline} s for {what}"
        time.sleep(0.005)


def all_processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def environ_of(pid: int) -> bytes:
    """The environment that a process began with; empty for one that is gone."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def parent_of(pid: int) -> int:
    """The pid of the process that has it as a child."""
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])


def is_alive(pid: int) -> bool:
    """Whether the process lives; a zombie is dead."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


def describe(pid: int) -> str:
    """A line about a process, for messages."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return f"{pid} gone"
    facts = [line for line in status if line.startswith(("State", "PPid"))]
    return f"{pid} {' '.join(facts)} {command[:150]}"

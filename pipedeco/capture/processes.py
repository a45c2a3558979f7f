"""Processes that are asked something: within a time, and with an end of what they may say."""

from __future__ import annotations

import errno
import os
import selectors
import signal
import subprocess
import threading
import time
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

CHUNK = 1 << 16
MOST = 1 << 26  # bytes after which nobody listens any more
COMPLAINT = 1 << 12  # bytes that are kept of stderr
GRACE = 1.0  # seconds for a killed process to go


class _Living:
    """The processes that run, none of which may outlive us."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.processes: set[subprocess.Popen[bytes]] = set()
        self.ending = False

    def forget(self) -> None:
        """In a forked child: they are its parent's, and so may be the one who has the lock."""
        self.lock = threading.Lock()
        self.processes.clear()


_living = _Living()


class Stopped(Exception):
    """The time was over, or the interpreter ends."""


class Answer:
    """What a process said: the first bytes of it, its length, and a digest of all.

    Parameters
    ----------
    room: how many bytes are kept.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.size = 0
        self.code: int | None = None  # None: it was stopped, for it said too much
        self.complaint = ""
        self._kept = bytearray()
        self._hasher: Any = None

    def take(self, data: bytes) -> None:
        self.size += len(data)
        if len(self._kept) < self.room:
            self._kept += data[: self.room - len(self._kept)]
        if self.size > len(self._kept):
            self._hash(data)

    def _hash(self, data: bytes) -> None:
        if self._hasher is None:
            from blake3 import blake3

            self._hasher = blake3(bytes(self._kept))
            data = data[len(data) - (self.size - len(self._kept)) :]
        self._hasher.update(data)

    @property
    def text(self) -> str:
        """What was kept; bytes that are no UTF-8 as surrogates, which keep them."""
        return self._kept.decode("utf-8", "surrogateescape")

    @property
    def digest(self) -> str:
        if self._hasher is None:
            self._hash(b"")
        return str(self._hasher.hexdigest())


class Process:
    """A process in a session of its own: no terminal, no Ctrl-C, and killed with its children.

    Parameters
    ----------
    command: found on the PATH, given as a list.
    folder: where it works.
    environ: its variables.

    A context manager, after which it is gone.  Raises FileNotFoundError, or Stopped.
    """

    def __init__(self, command: tuple[str, ...], folder: str, environ: dict[str, str]) -> None:
        program = _found(command[0], folder, environ)
        with _living.lock:
            if _living.ending:
                raise Stopped
            self._process = subprocess.Popen(
                command,
                executable=program,
                cwd=folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
            _living.processes.add(self._process)
        self._ended = False

    def answer(self, deadline: float, room: int) -> Answer:
        """All that it says until it ends.  Raises Stopped when it has not by the deadline."""
        answer, complaint = Answer(room), Answer(COMPLAINT)
        process = self._process
        with selectors.DefaultSelector() as selector:
            selector.register(_pipe(process.stdout), selectors.EVENT_READ, answer)
            selector.register(_pipe(process.stderr), selectors.EVENT_READ, complaint)
            while selector.get_map():
                if not _take(selector, deadline):
                    raise Stopped
                if answer.size > MOST:
                    return answer
        try:
            answer.code = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise Stopped from None
        self._ended = True
        answer.complaint = complaint.text
        return answer

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        process = self._process
        if not self._ended:
            _kill(process)
        _living.processes.discard(process)
        _pipe(process.stdout).close()
        _pipe(process.stderr).close()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:  # it hangs in the system; Python reaps it later
            pass


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _take(selector: selectors.BaseSelector, deadline: float) -> bool:
    """Take what has come, or wait for more; False when the time is over."""
    ready = selector.select(max(0.0, deadline - time.monotonic()))
    for key, _ in ready:
        data = os.read(key.fd, CHUNK)
        if data:
            key.data.take(data)
        else:
            selector.unregister(key.fileobj)
    return bool(ready) and time.monotonic() < deadline


def _found(name: str, folder: str, environ: dict[str, str]) -> str | None:
    """The path of a program.  Raises FileNotFoundError.

    Where the system looks for it, Python changes the filters of warnings meanwhile, so that the
    program is warned once more of what it was to be warned of once.
    """
    if os.name != "posix":
        return None
    for entry in environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder, entry, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End it with all that it started, before anyone has waited for it: its number is its own."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:  # it is gone already
        pass


def kill_all() -> None:
    """End all that still run, and start none any more: the interpreter ends."""
    with _living.lock:
        _living.ending = True
    for process in list(_living.processes):
        _kill(process)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_living.forget)

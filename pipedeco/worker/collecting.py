"""`collect=`: what a step writes below its working directory, and matches a pattern, is kept.

What it has written is what it opened for writing, which Python tells, and what has changed meanwhile
without that: other programs and libraries in C open files unseen.  Of these, what another step has
opened is that one's, as steps that are performed at once may write side by side.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import suppress
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from pipedeco.blobs import make_private
from pipedeco.config import working_directory
from pipedeco.errors import PipedecoError
from pipedeco.events import OF_STEP
from pipedeco.graph import COMPLETED
from pipedeco.text import write_stderr
from pipedeco.tracking import ReportCalls
from pipedeco.worker.perform import failed
from pipedeco.worker.places import is_file, private_root

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipedeco.graph import Outcome
    from pipedeco.reporter import Reporter

CLAIMS = "claims"  # a folder below places.private_root
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def collected(
    patterns: tuple[str, ...], reporter: Reporter, attempt: Callable[[], Outcome]
) -> Outcome:
    """Make an attempt, and log what it has written as artifacts of its step.

    Parameters
    ----------
    patterns: of paths relative to the working directory.
    attempt: performs the step; never raises.

    Where a file cannot be kept, the step fails, as it does where it logs one itself.
    """
    __tracebackhide__ = True
    try:
        folder = working_directory("collect= looks for files there")
        writing = _Writing(folder, patterns, _Claims(folder))
    except (PipedecoError, OSError) as error:
        return failed(error, (), time.time(), 0.0)
    try:
        outcome = attempt()
        files = writing.files()
    except OSError as error:  # of the claims: what is whose is not known
        return failed(error, (), time.time(), 0.0)
    finally:
        writing.end()
    calls = ReportCalls(reporter, OF_STEP)
    try:
        for path in files:
            calls.log_artifact(path, os.path.join(writing.folder, path))
    except PipedecoError as error:
        if outcome.state == COMPLETED:
            return failed(error, (), outcome.started, outcome.duration, outcome.worker)
        write_stderr(f"pipedeco: {error}\n")  # the step's own error is of more interest
    return outcome


class _Writing:
    """What one attempt writes below the directory in which it begins."""

    def __init__(self, folder: str, patterns: tuple[str, ...], claims: _Claims) -> None:
        self.folder = folder
        self._patterns = patterns
        self._claims = claims
        self._opened: set[str] = set()
        self._before = self._matching()
        claims.begin()
        self._thread = threading.get_ident()
        self._outer = _ear().listeners.get(self._thread)  # a pipeline called in a step
        _ear().listeners[self._thread] = self._note

    def end(self) -> None:
        if self._outer is None:
            _ear().listeners.pop(self._thread, None)
        else:
            _ear().listeners[self._thread] = self._outer
        with suppress(OSError):  # a full disk: the next to begin there removes the file
            self._claims.end()

    def files(self) -> list[str]:
        """The relative paths of what it has written."""
        there = self._matching()
        others = self._claims.of_others()
        return [
            path
            for path, state in sorted(there.items())
            if path in self._opened or (state != self._before.get(path) and path not in others)
        ]

    def _note(self, path: str) -> None:
        below = os.path.relpath(path, self.folder)
        if below not in self._opened and not below.startswith(os.pardir):
            self._opened.add(below)
            self._claims.claim(below)

    def _matching(self) -> dict[str, tuple[int, ...]]:
        """The files that match, each with what changes when it is written."""
        from glob import iglob

        found: dict[str, tuple[int, ...]] = {}
        for pattern in self._patterns:
            for path in iglob(pattern, root_dir=self.folder, recursive=True):
                try:
                    facts = os.stat(os.path.join(self.folder, path))
                except OSError:  # a link to nowhere, or it is being replaced
                    continue
                if os.path.isfile(os.path.join(self.folder, path)):
                    state = facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
                    found[os.path.normpath(path)] = state
        return found


class _Claims:
    """Which files steps have opened, for those that are performed beside them in one folder.

    They are lines of a file: [attempt, path], and [attempt] when it has ended.  It is locked
    while a step is performed, so the last one to end removes it.

    Parameters
    ----------
    folder: in which the files are.
    """

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(private_root(), CLAIMS, sha256(folder.encode()).hexdigest()[:32])
        make_private(os.path.dirname(self._path))
        self._file = -1
        # An attempt: runs of debug mode may perform several in one process.
        self._own = f"{os.getpid()}.{threading.get_ident()}.{time.monotonic_ns()}"
        self._forget()

    def _forget(self) -> None:
        self._read = 0  # bytes
        self._paths: dict[str, set[str]] = {}  # by attempt
        self._ended: set[str] = set()

    def __del__(self) -> None:
        self._close()

    def begin(self) -> None:
        """A step begins here: what has ended before does not matter to it."""
        self._enter()
        self._take()
        for attempt in self._ended:
            self._paths.pop(attempt, None)
        self._ended.clear()

    def claim(self, path: str) -> None:
        self._put([self._own, path])

    def end(self) -> None:
        self._put([self._own])
        try:
            _lock(self._file, "LOCK_EX", "LOCK_NB")
            os.unlink(self._path)
        except (BlockingIOError, FileNotFoundError):  # others are there, or a cleaner was
            pass
        self._close()

    def of_others(self) -> set[str]:
        """What was claimed by steps that were performed at the same time."""
        self._take()
        return {path for own, paths in self._paths.items() if own != self._own for path in paths}

    def _enter(self) -> None:
        """Have the file that is there, locked."""
        while True:
            if self._file < 0:
                self._forget()
                flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                self._file = os.open(self._path, flags, 0o600)
            _lock(self._file, "LOCK_SH")
            if is_file(self._file, self._path):
                return
            self._close()  # somebody has removed it before we had it

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _put(self, line: list[Any]) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")

    def _take(self) -> None:
        data = os.pread(self._file, os.fstat(self._file).st_size - self._read, self._read)
        self._read += len(data)
        for line in data.splitlines():
            try:
                attempt, *paths = json.loads(line)
            except ValueError:  # torn by a full disk
                continue
            if paths:
                self._paths.setdefault(attempt, set()).update(paths)
            else:
                self._ended.add(attempt)


class _Ear:
    """Hears of files that this process opens for writing; one a process, as hooks stay for good."""

    def __init__(self) -> None:
        self.listeners: dict[int, Callable[[str], None]] = {}  # by the thread of the step
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        listeners = self.listeners
        if not listeners or event not in ("open", "os.rename"):
            return
        listener = listeners.get(threading.get_ident())
        if listener is None:  # a thread of a step's own
            if len(listeners) > 1:
                return  # of whose nobody knows: what changes is seen all the same
            listener = next(iter(listeners.values()))
        path = arguments[0] if event == "open" else arguments[1]
        if not isinstance(path, str | bytes) or (event == "open" and not arguments[2] & WRITING):
            return
        try:
            listener(os.path.abspath(os.fsdecode(path)))
        except OSError:  # no working directory, or a full disk: what changes is seen all the same
            pass


def _lock(file: int, *operations: str) -> None:
    """Lock a file, or unlock it, where the system has that: elsewhere steps run one at a time."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    fcntl.flock(file, sum(getattr(fcntl, name) for name in operations))


@cache
def _ear() -> _Ear:
    return _Ear()

"""What steps of debug mode write: it goes where the program has it go, and into the step's log.

A program has handlers, consoles and sinks that hold sys.stdout or sys.stderr since before the run.
So it is the streams themselves that keep a copy, by a `write` of their own while debug runs go on.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from pipedeco.blobs import make_private
from pipedeco.graph import Logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipedeco.reporter import Reporter

OUT, ERR = "out", "err"


class Streams:
    """The streams of this process that debug runs use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tees: dict[int, Tee] = {}  # by stream
        self._logs: dict[Reporter, StepLogs] = {}
        self.performing: dict[int, StepLogs] = {}  # by thread

    def logs_here(self) -> StepLogs | None:
        """Those of the step that this thread performs, or for which it was started."""
        found = self.performing.get(threading.get_ident())
        if found is not None:
            return found
        noted = threading.current_thread().__dict__.get("_pipedeco_reporter")
        if noted is None or noted[1] is None or noted[0].call is not noted[1]:
            return None
        return self._logs.get(noted[0])

    def open(self, logs: StepLogs, reporter: Reporter) -> None:
        self._logs[reporter] = logs

    def close(self, reporter: Reporter) -> None:
        self._logs.pop(reporter, None)

    def tee(self, stream: Any, suffix: str) -> Tee:
        """Have a stream keep what steps write to it."""
        with self._lock:
            tee = self._tees.get(id(stream))
            if tee is None:
                tee = self._tees[id(stream)] = Tee(stream, suffix, self.logs_here)
            tee.users += 1
            return tee

    def release(self, tee: Tee) -> None:
        """One run less uses it."""
        with self._lock:
            tee.users -= 1
            if not tee.users:
                del self._tees[id(tee.stream)]
                tee.remove()


class Tee:
    """Takes the place of a stream's `write`; of the whole stream where that cannot be replaced."""

    def __init__(self, stream: Any, suffix: str, find: Callable[[], StepLogs | None]) -> None:
        self.stream = stream
        self.users = 0
        self._suffix = suffix
        self._find = find
        self._write: Any = getattr(stream, "write", None)
        self.stands_in = False
        self._former = getattr(stream, "__dict__", {}).get("write")  # the program's own
        if stream is not None:
            try:
                stream.write = self.write
            except (AttributeError, TypeError):  # it has slots, or is of C
                self.stands_in = True

    def write(self, *args: Any, **kwargs: Any) -> Any:
        written = self._write(*args, **kwargs)
        logs = self._find()
        if logs is not None and args and isinstance(args[0], str):  # the program's may take others
            logs.keep(self._suffix, args[0])
        return written

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def remove(self) -> None:
        """The stream is as before, unless somebody else has replaced its `write` since."""
        own = getattr(self.stream, "__dict__", {})
        if own.get("write") == self.write:
            if self._former is None:
                del self.stream.write
            else:
                self.stream.write = self._former

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __iter__(self) -> Any:
        return iter(self.stream)


class StepLogs:
    """What the steps of one run write, in files like those of a worker; beside it, what they report.

    Parameters
    ----------
    folder, name : str
        Of the logs.
    reporter : Reporter
        Of the run's steps.
    """

    def __init__(self, streams: Streams, folder: str, name: str, reporter: Reporter) -> None:
        self.reporter = reporter
        self._name = name
        self._streams = streams
        self._files = {suffix: _File(folder, f"{name}.{suffix}") for suffix in (OUT, ERR)}
        self._before = self._places()
        self._kept: dict[int, int] = {}  # texts, by the thread that wrote them
        self._thread = 0  # that performs a step
        self._tees = streams.tee(sys.stdout, OUT), streams.tee(sys.stderr, ERR)
        streams.open(self, reporter)

    def begin(self) -> None:
        """This thread begins a step."""
        out, err = self._tees
        if sys.stdout is not out.stream or sys.stderr is not err.stream:
            out, err = self._follow()
        if out.stands_in:
            sys.stdout = out
        if err.stands_in:
            sys.stderr = err
        self._kept.clear()
        self._thread = threading.get_ident()
        self._streams.performing[self._thread] = self

    def release(self) -> None:
        """The step has ended, however it did; this may be said again."""
        if not self._thread:
            return
        self._streams.performing.pop(self._thread, None)
        self._thread = 0
        out, err = self._tees
        if sys.stdout is out:
            sys.stdout = out.stream
        if sys.stderr is err:
            sys.stderr = err.stream

    def end(self, number: int) -> Logs | None:
        """Where the output of the step of this number stands; None where it wrote nothing."""
        self.release()
        before, self._before = self._before, self._places()
        if before == self._before:
            return None
        (out, err, events), (out_end, err_end, events_end) = before, self._before
        return Logs(self._name, out, out_end, err, err_end, events, events_end, number)

    def keep(self, suffix: str, text: str) -> None:
        thread = threading.get_ident()
        self._kept[thread] = self._kept.get(thread, 0) + 1
        self._files[suffix].write(text)

    def kept(self) -> int:
        """How many texts this thread has written in this step."""
        return self._kept.get(threading.get_ident(), 0)

    def close(self) -> None:
        self._streams.close(self.reporter)
        for tee in self._tees:
            self._streams.release(tee)
        for file in self._files.values():
            file.close()

    def _follow(self) -> tuple[Tee, Tee]:
        """The body has put another stream in place."""
        former = self._tees
        self._tees = self._streams.tee(sys.stdout, OUT), self._streams.tee(sys.stderr, ERR)
        for tee in former:
            self._streams.release(tee)
        return self._tees

    def _places(self) -> tuple[int, int, int]:
        return self._files[OUT].size, self._files[ERR].size, self.reporter.size


class _File:
    """Made when something is written to it."""

    def __init__(self, folder: str, name: str) -> None:
        self.size = 0
        self._folder = folder
        self._name = name
        self._file = -1

    def write(self, text: str) -> None:
        if self._file < 0:
            make_private(self._folder)
            path = os.path.join(self._folder, self._name)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._file = os.open(path, flags, 0o600)
        data = text.encode("utf-8", "backslashreplace")
        self.size += os.write(self._file, data)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

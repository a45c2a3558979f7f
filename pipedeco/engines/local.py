"""Processes of this machine, each with a station: `local://4`, or `local://` for one a CPU.

What they share with the controller is only what any engine's workers share with it: the store.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections import deque
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.config import find_cpus
from pipedeco.engines.executor import ExecutorEngine
from pipedeco.engines.frames import begin, end_with, opened, receive, send
from pipedeco.errors import StepFailed
from pipedeco.worker.pool import interpreter_flags
from pipedeco.worker.station import close_stations, perform_batch

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipedeco.engines import EngineURL

PATIENCE = 3.0  # seconds that a process has to end by itself


class _Job(NamedTuple):
    future: Future[bytes]
    payload: bytes


class Processes(Executor):
    """An executor of the one function that engines call, in processes that import nobody's main.

    The one that was busy last is asked first, so that no more are started than are needed.

    Parameters
    ----------
    count: how many processes.
    """

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[_Job] = deque()
        self._members = [_Member(self._next) for _ in range(count)]
        self._idle = list(self._members)  # who was busy last comes last

    @property
    def pids(self) -> list[int]:
        """Of the processes that live."""
        processes = [member.process for member in self._members]
        return [process.pid for process in processes if process is not None]

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        job = _Job(Future(), args[0])
        with self._lock:
            if self._idle:
                self._idle.pop().jobs.put(job)
            else:
                self._waiting.append(job)
        return job.future

    def _next(self, member: _Member) -> None:
        """A member is free."""
        with self._lock:
            if self._waiting:
                member.jobs.put(self._waiting.popleft())
            else:
                self._idle.append(member)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self._lock:
            for job in self._waiting:
                job.future.cancel()
            self._waiting.clear()
        for member in self._members:
            member.leave()
        for member in self._members:
            member.thread.join(PATIENCE)


class _Member:
    """One process, and the thread that hands it one payload after another.

    Parameters
    ----------
    free: called when it can take another one.
    """

    def __init__(self, free: Callable[[_Member], None]) -> None:
        self.free = free
        self.jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self.process: subprocess.Popen[bytes] | None = None
        self.connection: socket.socket | None = None
        self.leaving = False
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self._serve, name="pipedeco-engine", daemon=True)
        self.thread.start()

    def leave(self) -> None:
        """End the process; what it performs is lost."""
        self.jobs.put(None)
        with self.lock:
            self.leaving = True
            if self.connection is not None:
                self.connection.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while (job := self.jobs.get()) is not None:
            if job.future.set_running_or_notify_cancel():
                self._perform(job)
            del job  # a run is in its future, and the next one may be long in coming
            self.free(self)
        self._buried()

    def _perform(self, job: _Job) -> None:
        try:
            done = self._performed(job.payload)
        except OSError as error:
            job.future.set_exception(BrokenProcessPool(f"{self._buried()} ({error})"))
        else:
            job.future.set_result(done)

    def _performed(self, payload: bytes) -> bytes:
        if self.connection is None:
            self._begin()
        assert self.connection is not None
        send(self.connection, payload)
        return receive(self.connection)

    def _begin(self) -> None:
        with self.lock:
            if self.leaving:
                raise ConnectionError("the engine is closed")
            self.process, self.connection = begin(__name__, flags=interpreter_flags())

    def _buried(self) -> str:
        """The process is ending, or dead: wait for that; how it ended."""
        if self.process is None:
            return "it could not be started"
        with self.lock:
            assert self.connection is not None
            self.connection.close()
            self.connection = None
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.process = None
        return f"exit status {code}" if code >= 0 else f"killed by signal {-code}"


def open_local(url: EngineURL) -> LocalEngine:
    """Processes of this machine."""
    return LocalEngine(url.text, read_url(url))


def read_url(url: EngineURL) -> int:
    """How many processes; raises ConfigError where the URL does not say."""
    url.take()
    own = find_cpus()
    return url.whole("number of processes", url.address or str(own))


class LocalEngine(ExecutorEngine):
    """Stations in processes of this machine; one that dies is replaced."""

    executor: Processes

    def __init__(self, url: str, count: int) -> None:
        super().__init__(url, Processes(count), count)

    def explain(self, error: BaseException) -> StepFailed:
        found = super().explain(error)
        self._broken = False  # one process is replaced, the others live
        return found


# -- in the processes ----------------------------------------------------------------------------


def serve(file: int, controller: int) -> None:
    """Perform payloads until the controller closes the connection, or is gone.

    What asks every process of a job to end is the controller's to answer: it cancels its runs.
    """
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    connection = opened(file)
    end_with(controller, lambda: os._exit(0))
    while True:
        try:
            send(connection, perform_batch(receive(connection)))
        except OSError:  # the controller is gone
            break
    close_stations()
    os._exit(0)

"""Workers from multiprocess's spawn context, where there is no nursery.

Nobody watches over them when the controller is killed: a worker ends when its connection does,
its own children then live on.  `__main__` is kept from being imported again by the workers.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from multiprocess import get_context, spawn, util
from multiprocess.connection import wait

from pipedeco.descriptors import socket_pair
from pipedeco.worker import process
from pipedeco.worker.children import PR_SET_CHILD_SUBREAPER, kill_trees, prctl
from pipedeco.worker.deaths import Exit, exit_of_code

if TYPE_CHECKING:
    import selectors
    from collections.abc import Callable


PATIENCE = 2.5  # seconds that workers have to end by themselves


class SpawnNest:
    """Worker processes by multiprocess's spawn.

    `on_exit(worker, Exit)` tells of a worker's end.
    """

    def __init__(
        self, selector: selectors.BaseSelector, on_exit: Callable[[int, Exit], None]
    ) -> None:
        self.selector = selector
        self.on_exit = on_exit
        self.context = get_context("spawn")
        self.processes: dict[int, Any] = {}

    def start(self, worker: int) -> tuple[socket.socket, Any]:
        ours, theirs = socket_pair()
        page = self.context.RawArray("q", 5)
        child = self.context.Process(target=spawned, args=(theirs, page), name=f"pipedeco-{worker}")
        child.daemon = False
        with _HiddenMain():
            child.start()
        theirs.close()
        ours.setblocking(False)
        self.processes[worker] = child
        self.selector.register(child.sentinel, 1, lambda events: self._ended(worker))
        return ours, page

    def import_main(self, wanted: object) -> bool:
        """Each worker imports it for itself, when it enters the run."""
        return True

    def kill(self, worker: int, number: int) -> None:
        child = self.processes.get(worker)
        if child is None or child.pid is None or child.exitcode is not None:
            return
        if number == signal.SIGKILL and os.path.isdir("/proc"):
            kill_trees([child.pid])
            return
        try:
            os.killpg(child.pid, number)
        except (ProcessLookupError, AttributeError, PermissionError):  # no group of its own yet
            os.kill(child.pid, number)

    def close(self) -> None:
        """Workers, whose connections have ended, have a moment to end by themselves."""
        for child in self.processes.values():
            self.selector.unregister(child.sentinel)
        deadline = time.monotonic() + PATIENCE
        left = {child.sentinel for child in self.processes.values()}
        while left and time.monotonic() < deadline:
            left -= set(wait(list(left), timeout=deadline - time.monotonic()))
        for worker, child in self.processes.items():
            self.kill(worker, signal.SIGKILL)
            child.join(1.0)
        self.processes.clear()

    def _ended(self, worker: int) -> None:
        child = self.processes.pop(worker)
        self.selector.unregister(child.sentinel)
        child.join()
        self.on_exit(worker, exit_of_code(child.exitcode, None))


class _HiddenMain:
    """While a worker is started, multiprocess does not know where `__main__` comes from.

    Nor does it mind streams of the program that cannot be written.
    """

    def __enter__(self) -> None:
        self.whole = spawn.get_preparation_data
        self.flush = util._flush_std_streams
        spawn.get_preparation_data = self.without_main
        util._flush_std_streams = self.flush_what_can_be

    def __exit__(self, *error: object) -> None:
        spawn.get_preparation_data = self.whole
        util._flush_std_streams = self.flush

    def flush_what_can_be(self) -> None:
        with suppress(Exception):  # full, closed or of the user's: no matter of the worker's
            self.flush()

    def without_main(self, name: str) -> dict[str, Any]:
        try:
            data: dict[str, Any] = self.whole(name)
        except FileNotFoundError:  # the working directory is gone
            data = self._at_the_root(name)
        return {key: value for key, value in data.items() if not key.startswith("init_main")}

    def _at_the_root(self, name: str) -> dict[str, Any]:
        """The same where the working directory is looked at; the program comes back to its own."""
        removed = os.open(os.curdir, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.chdir(os.sep)
            data: dict[str, Any] = self.whole(name)
        finally:
            os.fchdir(removed)
            os.close(removed)
        return data


def spawned(connection: socket.socket, page: Any) -> None:
    """The life of a spawned worker."""
    if hasattr(os, "setsid"):
        os.setsid()
    if sys.platform == "linux":  # who loses its parent becomes this worker's, and ends with it
        prctl(PR_SET_CHILD_SUBREAPER, 1)
    process.main(connection, page)

"""The nursery: one small single-threaded process that starts workers and buries them.

It imports a worker's modules once and forks.  As a subreaper it inherits whatever a dead worker
leaves, double-forked processes too, and kills it.  It watches a pidfd of the controller, and when
the controller is gone, however it went, kills its children until none is left.  It talks over an
inherited socket pair of packets:

    to the nursery     ("main", MainFile, sys.path, sys.argv, whether logging is to be there)
                       ("fork", worker) with two descriptors: its connection and its page
                       ("kill", worker, signal)
    from the nursery   ("exit", worker, wait status, peak memory in KiB)
                       ("told", a sentence for the user)
"""

from __future__ import annotations

import gc
import marshal
import mmap
import os
import select
import signal
import socket
import sys
from typing import Any

from pipedeco.descriptors import out_of_reach
from pipedeco.main_file import MainFile
from pipedeco.module_state import reseed, unseeded_generators
from pipedeco.worker import process
from pipedeco.worker.environment import bury, children_of, has_children, new_main

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PAGE = 64  # bytes of the page that a worker shares with the controller
PACKET = 1 << 16


class Nursery:
    """The loop of the nursery process.

    Parameters
    ----------
    connection: to the controller.
    controller: its pid.
    """

    def __init__(self, connection: socket.socket, controller: int) -> None:
        self.connection = connection
        self.controller = os.pidfd_open(controller)
        self.workers: dict[int, int] = {}  # pid -> worker
        self.main_file: MainFile | None = None  # what `__main__` was imported from
        self.generators: list[Any] = []  # that it has, and that forked workers must not share
        self.ears = _signal_pipe()

    def serve(self) -> None:
        """Serve until the controller is gone."""
        poll = select.poll()
        for file in (self.connection.fileno(), self.controller, self.ears[0]):
            poll.register(file, select.POLLIN)
        while True:
            ready = {file for file, _ in poll.poll()}
            if self.controller in ready:
                self.end()
            if self.ears[0] in ready:
                os.read(self.ears[0], PACKET)
                self.reap()
            if self.connection.fileno() in ready:
                self.obey()

    def obey(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self.connection, PACKET, 2)
        except OSError:  # the controller died with reports unread
            data, descriptors = b"", []
        if not data:
            self.end()
        order, worker, *rest = marshal.loads(data)
        if order == "main":
            self.import_main(MainFile(*worker), *rest)
        elif order == "fork":
            self.fork(worker, *descriptors)
        elif order == "kill":
            self.kill(worker, *rest)

    def import_main(self, file: MainFile, path: list[str], argv: list[str], logs: bool) -> None:
        """Import the program's main file, for the workers that are forked from now on.

        Where it cannot be imported, a worker tries again, and tells.
        """
        from pipedeco.worker.main_import import CannotImport, Leftovers, import_quietly

        leftovers = Leftovers()
        sys.path[:] = path
        sys.argv = argv
        if logs:
            import logging  # noqa: F401 - what follows looks for it
        try:
            import_quietly(file)
        except CannotImport:
            new_main()
        else:
            self.main_file = file
            self.generators = unseeded_generators()
        found = leftovers.found()
        if found:
            self.report(("told", _each_imports(file, found)))
            self.begin_again()
        gc.collect()
        gc.freeze()

    def begin_again(self) -> None:
        """Become a nursery that has imported nothing of the user's."""
        if has_children():
            bury()
        self.connection.set_inheritable(True)
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - this very program

    def fork(self, worker: int, connection: int, page: int) -> None:
        pid = os.fork()
        if pid == 0:
            self.become_worker(connection, page)
        self.workers[pid] = worker
        os.close(connection)
        os.close(page)

    def become_worker(self, connection: int, page: int) -> None:
        nursery = os.getppid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.connection.close()
        for file in (self.controller, *self.ears):
            os.close(file)
        os.setsid()
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
        if os.getppid() != nursery:  # it died before it could be told to take us along
            os._exit(0)
        shared = memoryview(mmap.mmap(page, PAGE)).cast("q")
        try:
            reseed(self.generators)
            connected = socket.socket(fileno=out_of_reach(connection))
            process.main(connected, shared, self.main_file)
        finally:
            os._exit(1)

    def kill(self, worker: int, number: int) -> None:
        """Signal a worker and the children that stayed in its group."""
        for pid, name in self.workers.items():
            if name == worker:
                try:
                    os.killpg(pid, number)
                except ProcessLookupError:
                    os.kill(pid, number)  # not yet in a session of its own; unreaped, so there

    def reap(self) -> None:
        """Report the workers that ended, and kill what they left behind."""
        died = False
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            worker = self.workers.pop(pid, None)
            if worker is not None:
                died = True
                self.report(("exit", worker, status, usage.ru_maxrss))
        if died or set(children_of(os.getpid())) - set(self.workers):
            bury(keep=frozenset(self.workers))

    def report(self, message: tuple[Any, ...]) -> None:
        try:
            self.connection.send(marshal.dumps(message))
        except OSError:
            self.end()

    def end(self) -> None:
        """The controller is gone: leave nobody."""
        for pid in self.workers:
            os.kill(pid, signal.SIGKILL)  # unreaped, so still ours
        for pid in self.workers:
            os.waitpid(pid, 0)
        if has_children():
            bury()
        os._exit(0)


def _each_imports(file: MainFile, found: list[str]) -> str:
    """What is told of an import that leaves things behind which processes must not share."""
    return (
        f"importing {file.shown} leaves {', '.join(found[:3])} behind, so each worker process "
        "imports it for itself; to share the import, move that below the main guard"
    )


def _signal_pipe() -> tuple[int, int]:
    """A pipe that becomes readable when a child ends."""
    ears, mouth = os.pipe()
    os.set_blocking(mouth, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    return ears, mouth


def _prctl(option: int, value: int) -> None:
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def main(connection: int, controller: int) -> None:
    """The nursery's life; `connection` is an inherited descriptor, `controller` a pid."""
    os.closerange(3, connection)
    os.closerange(connection + 1, os.sysconf("SC_OPEN_MAX"))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.set_inheritable(connection, False)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.getppid() != controller:
        os._exit(0)
    gc.collect()
    gc.freeze()
    Nursery(socket.socket(fileno=connection), controller).serve()

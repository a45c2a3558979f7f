"""The nursery: one small single-threaded process that starts workers and buries them.

It imports a worker's modules once and forks.  As a subreaper it inherits whatever a dead worker
leaves, double-forked processes too, and kills it; resource trackers end by themselves within a
moment.  It watches pidfds of the controller and of the guard above it, and when one of them is
gone, however it went, kills its children until none is left.  Where the controller closes, workers
have a moment to end by themselves.  It talks over an inherited socket pair of packets:

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
import time
from typing import TYPE_CHECKING, Any

from pipedeco.ambient.calls import noted
from pipedeco.descriptors import out_of_reach
from pipedeco.main_file import MainFile
from pipedeco.module_state import reseed, unseeded_generators
from pipedeco.worker.children import (
    PR_SET_CHILD_SUBREAPER,
    PR_SET_PDEATHSIG,
    TRACKER_GRACE,
    bury,
    bury_all,
    children_of,
    has_children,
    kill,
    prctl,
)
from pipedeco.worker.environment import new_main
from pipedeco.worker.guard import DEAF, guard

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipedeco.ambient.calls import Noted

PAGE = 64  # bytes of the page that a worker shares with the controller
PACKET = 1 << 16
PATIENCE = 2.5  # seconds that workers have to end by themselves


class Nursery:
    """The loop of the nursery process.

    Parameters
    ----------
    connection: to the controller.
    controller, guard: their pids; under a debugger there is no guard.
    signals: what the signals that the nursery ignores do in a worker.
    perform: the life of a worker, from its connection, its page and the imported main file.
    """

    def __init__(
        self,
        connection: socket.socket,
        controller: int,
        guard: int | None,
        signals: dict[signal.Signals, Any],
        perform: Callable[[socket.socket, Any, MainFile | None, Noted | None], None],
    ) -> None:
        self.connection = connection
        self.guard = guard
        self.signals = signals
        self.perform = perform
        masters = [controller] if guard is None else [controller, guard]
        self.masters = [os.pidfd_open(pid) for pid in masters]
        self.workers: dict[int, int] = {}  # pid -> worker
        self.main_file: MainFile | None = None  # what `__main__` was imported from
        self.noted = noted()  # calls since before that
        self.generators: list[Any] = []  # that it has, and that forked workers must not share
        self.trackers: dict[int, float] = {}  # pid -> when it is killed at the latest
        # What an import has started here is no worker's.
        self.own = frozenset(children_of(os.getpid())) if has_children() else frozenset()
        self.ears = _signal_pipe()
        self.closing: float | None = None  # when workers are killed at the latest

    def serve(self) -> None:
        """Serve until the controller is gone."""
        poll = select.poll()
        for file in (self.connection.fileno(), *self.masters, self.ears[0]):
            poll.register(file, select.POLLIN)
        while True:
            ready = {file for file, _ in poll.poll(self.patience())}
            if ready.intersection(self.masters):
                self.end()
            if self.ears[0] in ready:
                os.read(self.ears[0], PACKET)
                self.reap()
            if self.connection.fileno() in ready and not self.obey():
                poll.unregister(self.connection)
                self.closing = time.monotonic() + PATIENCE
            self.hurry()

    def patience(self) -> float | None:
        """Milliseconds until somebody is to be killed."""
        due = [*self.trackers.values(), *([] if self.closing is None else [self.closing])]
        return max(0.0, min(due) - time.monotonic()) * 1000 + 1 if due else None

    def hurry(self) -> None:
        """Kill trackers whose time is over, and leave when there is nobody to wait for."""
        now = time.monotonic()
        for pid, deadline in self.trackers.items():
            if deadline <= now:
                kill(pid)  # unreaped, so still ours
        if self.closing is not None and (not self.workers or self.closing <= now):
            self.end()

    def obey(self) -> bool:
        """Do what the controller says; whether it may say more."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.connection, PACKET, 2)
        except OSError:  # the controller died with reports unread
            data, descriptors = b"", []
        if not data:
            return False
        order, worker, *rest = marshal.loads(data)
        if order == "main":
            self.import_main(MainFile(*worker), *rest)
        elif order == "fork":
            self.fork(worker, *descriptors)
        elif order == "kill":
            self.kill(worker, *rest)
        return True

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
            bury_all()
        for number, handler in self.signals.items():
            signal.signal(number, handler)
        self.connection.set_inheritable(True)
        above = "0" if self.guard is None else str(self.guard)
        os.execv(sys.executable, [*sys.orig_argv, above])  # noqa: S606 - this very program

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
        for number, handler in self.signals.items():
            signal.signal(number, handler)
        self.connection.close()
        for file in (*self.masters, *self.ears):
            os.close(file)
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        if os.getppid() != nursery:  # it died before it could be told to take us along
            os._exit(0)
        shared = memoryview(mmap.mmap(page, PAGE)).cast("q")
        try:
            reseed(self.generators)
            connected = socket.socket(fileno=out_of_reach(connection))
            self.perform(connected, shared, self.main_file, self.noted)
        finally:
            os._exit(1)

    def kill(self, worker: int, number: int) -> None:
        """Signal a worker; all but SIGKILL reach the children that stayed in its group, too.

        What it leaves is killed after it, but for resource trackers, which are in its group.
        """
        for pid, name in self.workers.items():
            if name == worker:
                try:
                    (os.kill if number == signal.SIGKILL else os.killpg)(pid, number)
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
            self.trackers.pop(pid, None)
            worker = self.workers.pop(pid, None)
            if worker is not None:
                died = True
                self.report(("exit", worker, status, usage.ru_maxrss))
        if died or set(children_of(os.getpid())) - self.known():
            for pid in bury(keep=self.known()):
                self.trackers[pid] = time.monotonic() + TRACKER_GRACE

    def known(self) -> frozenset[int]:
        """The children that live on."""
        return self.own.union(self.workers, self.trackers)

    def report(self, message: tuple[Any, ...]) -> None:
        if self.closing is not None:  # nobody listens
            return
        try:
            self.connection.send(marshal.dumps(message))
        except OSError:  # the controller has closed, which is read next
            pass

    def end(self) -> None:
        """Leave nobody."""
        for pid in self.workers:
            os.kill(pid, signal.SIGKILL)  # unreaped, so still ours
        for pid in self.workers:
            os.waitpid(pid, 0)
        if has_children():
            bury_all()
        if os.getppid() == self.guard:
            os.kill(self.guard, signal.SIGCONT)  # it may have been stopped, and is to end
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


def main(connection: int, controller: int, again: int | None = None) -> None:
    """The nursery's life.

    Parameters
    ----------
    connection : int
        An inherited descriptor.
    controller : int
        A pid.
    again : int, optional
        The guard's pid, or 0 where there is none, in a nursery that has begun again.
    """
    os.closerange(3, connection)
    os.closerange(connection + 1, os.sysconf("SC_OPEN_MAX"))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.set_inheritable(connection, False)
    if again is None and os.getppid() != controller:
        os._exit(0)
    signals: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in DEAF}
    for number in DEAF:
        signal.signal(number, signal.SIG_IGN)
    if again is not None:
        above = again or None
    else:
        above = None if "pydevd" in sys.modules else guard(connection, controller)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    from pipedeco.worker import process  # after the fork, as the guard does without it

    nursery = Nursery(socket.socket(fileno=connection), controller, above, signals, process.main)
    gc.collect()
    gc.freeze()
    try:
        nursery.serve()
    except BaseException:  # noqa: BLE001 - a defect of ours; what the program does at its end is not for here
        sys.excepthook(*sys.exc_info())
        os._exit(1)

"""The worker processes of this controller, and the connections to them.

Everything here happens on the thread that owns the pool: the runner's loop.
"""

from __future__ import annotations

import marshal
import mmap
import os
import selectors
import signal
import socket
import sys
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pipedeco.descriptors import socket_pair
from pipedeco.errors import PipedecoError
from pipedeco.worker.deaths import Exit, exit_of_code
from pipedeco.worker.marks import MARK, kill_marked, new_mark
from pipedeco.worker.messages import Decoder, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipedeco.main_file import MainFile
    from pipedeco.worker.attendant import Attendant
    from pipedeco.worker.venvs import Venv

PAGE = 64  # bytes
READ = 1 << 20
SPARE = 4  # nurseries of other environments that wait for a worker to start


class Nest(Protocol):
    """Where worker processes come from."""

    def start(self, worker: int) -> tuple[socket.socket, Any]:
        """Begin a worker; its connection, and the page of numbers shared with it."""

    def kill(self, worker: int, number: int) -> None:
        """Signal a worker and its process group."""

    def close(self) -> None:
        """Leave no process."""

    def import_main(self, wanted: Preload | None) -> bool:
        """Have later workers begin with the program's main file imported; False where a new nest
        is needed for that."""


class Preload(NamedTuple):
    """What a nursery imports before it forks workers."""

    file: MainFile
    path: list[str]
    argv: list[str]
    logs: bool  # whether the program has imported logging


class Worker:
    """A worker as its controller sees it."""

    def __init__(self, number: int, nest: Nest, venv: Venv | None) -> None:
        self.number = number
        self.nest = nest
        self.venv = venv
        connection, page = nest.start(number)
        self.connection = connection
        self.page = page
        self.decoder = Decoder()
        self.unsent = bytearray()
        self.alive = True
        self.unwanted = False  # whether we have asked it to end
        self.events = selectors.EVENT_READ

    @property
    def name(self) -> str:
        return f"w{self.number}"


class Pool:
    """Starts workers, carries messages, tells of outcomes and deaths.

    Parameters
    ----------
    selector: of the loop that owns the pool; registered objects carry a callable as data.
    start_method: "nursery" or "spawn".
    on_message: called with (worker, message).
    on_exit: called once with (worker, Exit) when a worker is gone and all it sent was read.
    on_told: called with a sentence for the user.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        start_method: str,
        on_message: Callable[[Worker, tuple[Any, ...]], None],
        on_exit: Callable[[Worker, Exit], None],
        on_told: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.selector = selector
        self.on_told = on_told
        self.on_message = on_message
        self.on_exit = on_exit
        self.workers: dict[int, Worker] = {}
        self._numbers = count(1)
        self._exits: dict[int, Exit] = {}
        self.start_method = start_method
        self.nests: dict[Venv | None, Nest] = {None: self._make_nest(start_method, None)}
        self._preload: Preload | None = None
        self._former: list[Nest] = []  # of which new workers do not come any more

    def _make_nest(self, start_method: str, venv: Venv | None) -> Nest:
        if start_method == "spawn":
            from pipedeco.worker.spawned import SpawnNest

            return SpawnNest(self.selector, self.note_exit)
        return NurseryNest(self.selector, self.note_exit, self.nest_died, self.on_told, venv)

    def import_main(self, wanted: Preload | None) -> None:
        """Have later workers of this environment begin with the program's main file imported."""
        self._preload = wanted
        if not self.nests[None].import_main(wanted):
            self.renew(self.nests[None])

    def renew(self, nest: Nest) -> None:
        """Get later workers from a new nest: what this one has imported is another by now."""
        if self.nests[None] is nest:
            self._former.append(nest)
            self.nests[None] = self._make_nest(self.start_method, None)
            self.nests[None].import_main(self._preload)
            self._close_former()

    def _close_former(self) -> None:
        used = [worker.nest for worker in self.workers.values()]
        for nest in [nest for nest in self._former if nest not in used]:
            self._former.remove(nest)
            nest.close()

    def start(self, venv: Venv | None = None) -> Worker:
        """A new worker, in an environment of its own or in this one; it may be sent to at once."""
        number = next(self._numbers)
        if venv not in self.nests:
            self.nests[venv] = self._make_nest(self.start_method, venv)
        worker = Worker(number, self.nests[venv], venv)
        self.workers[number] = worker
        self.selector.register(
            worker.connection, worker.events, lambda events: self._ready(worker, events)
        )
        return worker

    def send(self, worker: Worker, message: tuple[Any, ...]) -> None:
        """Queue a message; never blocks."""
        if not worker.alive:
            return
        data = encode(message)
        if worker.unsent:
            worker.unsent += data
            return
        sent = self._send_some(worker, data)
        if sent < len(data):
            worker.unsent += memoryview(data)[sent:]
            self._listen(worker, selectors.EVENT_READ | selectors.EVENT_WRITE)

    def kill(self, worker: Worker, number: int = signal.SIGKILL) -> None:
        if worker.alive:
            worker.unwanted = True
            worker.nest.kill(worker.number, number)

    def retire(self, worker: Worker) -> None:
        """Have a worker that has nothing to do end by itself, in good order."""
        if worker.alive:
            worker.unwanted = True
            worker.connection.shutdown(socket.SHUT_WR)

    def cancel(self, worker: Worker, run: int) -> None:
        """Have the step of a run end; others of that run are given back."""
        if not worker.alive:
            return
        worker.page[2] = run  # tells a SIGTERM of ours from any other
        self.send(worker, ("cancel", run))
        self.kill(worker, signal.SIGTERM)

    def close(self) -> None:
        """Leave no process; outcomes on their way are lost.

        Workers end by themselves when their connections do.
        """
        for worker in self.workers.values():
            self._forget_connection(worker)
        self.workers.clear()
        for nest in (*self.nests.values(), *self._former):
            nest.close()

    def abandon(self) -> None:
        """In a forked child: close what belongs to the parent, tell nobody."""
        for worker in self.workers.values():
            worker.connection.close()
        for nest in (*self.nests.values(), *self._former):
            if isinstance(nest, NurseryNest):
                nest.connection.close()

    # -- the connection ------------------------------------------------------------------

    def _ready(self, worker: Worker, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._send_more(worker)
        if events & selectors.EVENT_READ:
            self._receive(worker)

    def _receive(self, worker: Worker) -> None:
        try:
            data = worker.connection.recv(READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            # A step may have closed the connection of a living worker.
            worker.nest.kill(worker.number, signal.SIGKILL)
            self._forget_connection(worker)
            self._bury(worker)
            return
        for message in worker.decoder.feed(data):
            self.on_message(worker, message)

    def _send_some(self, worker: Worker, data: bytes | bytearray) -> int:
        try:
            return worker.connection.send(data)
        except BlockingIOError:
            return 0
        except OSError:  # it is dying; its end is read soon
            return len(data)

    def _send_more(self, worker: Worker) -> None:
        sent = self._send_some(worker, worker.unsent)
        del worker.unsent[:sent]
        if not worker.unsent:
            self._listen(worker, selectors.EVENT_READ)

    def _listen(self, worker: Worker, events: int) -> None:
        if worker.alive and worker.events != events:
            worker.events = events
            key = self.selector.get_key(worker.connection)
            self.selector.modify(worker.connection, events, key.data)

    def _forget_connection(self, worker: Worker) -> None:
        if worker.alive:
            worker.alive = False
            self.selector.unregister(worker.connection)
            worker.connection.close()

    # -- deaths --------------------------------------------------------------------------

    def note_exit(self, number: int, end: Exit) -> None:
        """The nest says that a worker ended; it is told on once its connection is read empty."""
        self._exits[number] = end
        worker = self.workers.get(number)
        if worker is None:
            return
        while worker.alive and _readable(worker.connection):
            self._receive(worker)  # what it sent before it died still counts
        self._forget_connection(worker)
        self._bury(worker)

    def _bury(self, worker: Worker) -> None:
        end = self._exits.pop(worker.number, None)
        if end is not None and self.workers.pop(worker.number, None) is not None:
            self.on_exit(worker, end)
            worker.page = tuple(worker.page)  # who still has the worker keeps no descriptor
            self._close_former()
            if worker.venv is not None:
                self._dismiss()

    def _dismiss(self) -> None:
        """Keep few nurseries without workers; those of the environments begun first go."""
        used = {worker.venv for worker in self.workers.values()}
        spare = [venv for venv in self.nests if venv is not None and venv not in used]
        for venv in spare[: max(0, len(spare) - SPARE)]:
            self.nests.pop(venv).close()

    def nest_died(self, nest: Nest) -> None:
        """A nursery was killed, and its workers with it."""
        for number, worker in list(self.workers.items()):
            if worker.nest is nest:
                self.note_exit(number, Exit(None, None, None))


def counts_as_start(worker: Worker, end: Exit) -> bool:
    """Whether a worker's death tells of one start: of those that go with a nursery one does."""
    if end.exitcode is not None or end.signal is not None:
        return True
    return isinstance(worker.nest, NurseryNest) and worker.nest.founder == worker.number


def _readable(connection: socket.socket) -> bool:
    try:
        connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return False
    return True


class NurseryNest:
    """Workers forked by the nursery process, which is started with the first of them.

    `on_exit(worker, Exit)` tells of a worker's end, `on_death(nest)` of the nursery's own, and
    `on_told(text)` has a sentence for the user.  `venv` is the environment of the workers, where it is not this one.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        on_exit: Callable[[int, Exit], None],
        on_death: Callable[[Nest], None],
        on_told: Callable[[str], None],
        venv: Venv | None = None,
    ) -> None:
        self.on_told = on_told
        self.preload: Preload | None = None
        self.used = False  # whether it was asked for a worker
        self.venv = venv
        self.selector = selector
        self.on_exit = on_exit
        self.on_death = on_death
        self.mark = new_mark()
        self.connection, self.pid = _start_nursery(venv, self.mark)
        self.founder: int | None = None  # the first worker of this nursery
        self.alive = True
        selector.register(self.connection, selectors.EVENT_READ, self._report)

    def start(self, worker: int) -> tuple[socket.socket, Any]:
        if not self.alive:
            self.connection, self.pid = _start_nursery(self.venv, self.mark)
            self.alive = True
            self.selector.register(self.connection, selectors.EVENT_READ, self._report)
            self.founder = None
            self._tell_main()
        self.founder = worker if self.founder is None else self.founder
        self.used = True
        ours, theirs = socket_pair()
        ours.setblocking(False)
        page = os.memfd_create("pipedeco-page")
        try:
            os.truncate(page, PAGE)
            shared = memoryview(mmap.mmap(page, PAGE)).cast("q")
            self._order_fork(worker, theirs.fileno(), page)
        finally:
            os.close(page)
            theirs.close()
        return ours, shared

    def _order_fork(self, worker: int, connection: int, page: int) -> None:
        order = marshal.dumps(("fork", worker))
        try:
            socket.send_fds(self.connection, [order], [connection, page])
        except (BrokenPipeError, ConnectionResetError):
            pass  # the nursery has died as it started, which its connection tells next

    def import_main(self, wanted: Preload | None) -> bool:
        if (wanted and wanted.file) == (self.preload and self.preload.file):
            return True
        if self.used or self.preload is not None:
            return False
        self.preload = wanted
        self._tell_main()
        return True

    def _tell_main(self) -> None:
        if self.preload is None:
            return
        order = marshal.dumps(("main", tuple(self.preload.file), *self.preload[1:]))
        try:
            self.connection.send(order)
        except OSError:  # more than a packet holds, or it has died: workers import it themselves
            pass

    def kill(self, worker: int, number: int) -> None:
        if self.alive:
            try:
                self.connection.send(marshal.dumps(("kill", worker, int(number))))
            except OSError:
                self._died()

    def close(self) -> None:
        """When its connection ends the nursery gives workers a moment, and leaves nobody."""
        if self.alive:
            self.alive = False
            self.selector.unregister(self.connection)
        self.connection.close()
        _wait_for(self.pid, 4.0)  # who closes the loop waits for five

    def _report(self, events: int) -> None:
        try:
            # An event of the nursery before this one may still be in hand.
            data = self.connection.recv(READ, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._died()
            return
        kind, *rest = marshal.loads(data)
        if kind == "told":
            self.on_told(*rest)
            return
        worker, status, peak = rest
        self.on_exit(worker, exit_of_code(os.waitstatus_to_exitcode(status), peak * 1024))

    def _died(self) -> None:
        if self.alive:
            self.alive = False
            self.selector.unregister(self.connection)
            self.connection.close()
            if _wait_for(self.pid, 1.0):  # the guard may have been killed, too
                kill_marked(self.mark)
            self.on_death(self)


NURSERY = (
    "import sys;sys.path.append(sys.argv[1]);from pipedeco.worker.nursery import main;"
    "main(*map(int,sys.argv[2:]))"
)
# In another environment pipedeco alone is found by its path, and nothing that stands beside it.
NURSERY_BESIDE = (
    "import sys;from importlib import util;p=sys.argv[1]+'/pipedeco';"
    "s=util.spec_from_file_location('pipedeco',p+'/__init__.py',submodule_search_locations=[p]);"
    "sys.modules['pipedeco']=m=util.module_from_spec(s);s.loader.exec_module(m);"
    "from pipedeco.worker.nursery import main;main(*map(int,sys.argv[2:]))"
)


def _start_nursery(venv: Venv | None, mark: str) -> tuple[socket.socket, int]:
    """Start the nursery process: its connection and its pid."""
    executable = sys.executable if venv is None else venv.executable
    if not executable:
        raise PipedecoError("there is no Python executable to start workers with (sys.executable)")
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    ours, theirs = socket_pair(socket.SOCK_SEQPACKET)
    number = theirs.fileno()
    # dup2 of a descriptor onto itself is how posix_spawn makes it inheritable.
    arguments = [executable, *interpreter_flags(), "-P", "-c", NURSERY]
    variables = {**os.environ, MARK: mark}
    if venv is not None:
        arguments = [executable, *interpreter_flags(leave_out="S"), "-P", "-c", NURSERY_BESIDE]
        for name in ("PYTHONHOME", "PYTHONPATH"):
            variables.pop(name, None)
    arguments += [root, str(number), str(os.getpid())]
    attendant = _attendant()
    try:
        pid = os.posix_spawn(
            executable,
            arguments,
            variables,
            file_actions=[(os.POSIX_SPAWN_DUP2, number, number)],
            setsid=True,
        )
    except OSError as error:
        raise PipedecoError(f"cannot start worker processes with {executable}: {error}") from error
    finally:
        theirs.close()
    if attendant is not None:
        attendant.tell(pid)
        attendant.close()
    return ours, pid


def _attendant() -> Attendant | None:
    """Who ends the nursery that waits for a debugger; started before it, as that may stop any time."""
    if "pydevd" not in sys.modules:
        return None
    from pipedeco.worker.attendant import Attendant

    return Attendant()


def interpreter_flags(leave_out: str = "") -> list[str]:
    """The options this interpreter was started with, as far as they change how code runs."""
    flags = []
    letters = {
        "optimize": "O",
        "dont_write_bytecode": "B",
        "no_user_site": "s",
        "no_site": "S",
        "ignore_environment": "E",
        "isolated": "I",
        "bytes_warning": "b",
    }
    for name, letter in letters.items():
        if getattr(sys.flags, name) and letter not in leave_out:
            flags.append("-" + letter * int(getattr(sys.flags, name)))
    for key, value in sys._xoptions.items():
        flags += ["-X", key if value is True else f"{key}={value}"]
    for option in sys.warnoptions:
        flags += ["-W", option]
    return flags


def _wait_for(pid: int, seconds: float) -> bool:
    """Reap a child of ours that is about to end; whether it has ended."""
    import select

    try:
        end = os.pidfd_open(pid)
    except ProcessLookupError:  # the user's code waits for every child
        return True
    try:
        poll = select.poll()  # descriptors of 1024 and more, too
        poll.register(end, select.POLLIN)
        ended = bool(poll.poll(seconds * 1000))
    finally:
        os.close(end)
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:  # as above
        pass
    return ended

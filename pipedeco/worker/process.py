"""A worker's loop: calls come in, outcomes go out, and nothing of one step is left for the next.

The main thread performs; it reads the socket itself while it has nothing to do, so that a short
step costs no change of threads.  While a step runs longer than TICK, the watch thread sends what
is finished, and reads what came in: calls may be asked back, a run may be cancelled.
"""

from __future__ import annotations

import faulthandler
import io
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from contextvars import copy_context
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from pipedeco.ambient.calls import Noted
from pipedeco.ambient.filters import quiet_forks
from pipedeco.ambient.interpreter import CannotRestore
from pipedeco.autolog import AutoLog
from pipedeco.blobs import BlobStore, make_private
from pipedeco.definitions import find, main_globals
from pipedeco.errors import PipedecoError
from pipedeco.forks import when_forked
from pipedeco.graph import CANCELLED, COMPLETED, FAILED, Outcome, numbered
from pipedeco.interrupts import ENDS
from pipedeco.main_file import MainFile
from pipedeco.picklers import LoadingEnded, loads
from pipedeco.reporter import ADDRESS, Reporter, StepName
from pipedeco.serialization import (
    Pickler,
    main_names,
    unpack,
    unpack_arguments,
)
from pipedeco.text import preview
from pipedeco.tracing import inside_step, reporting, watch_threads
from pipedeco.worker import prompts
from pipedeco.worker.changes import Changes
from pipedeco.worker.children import QUICKEST, has_children
from pipedeco.worker.ending import Ending, disown
from pipedeco.worker.environment import Environment, Surroundings, new_main
from pipedeco.worker.generators import Generators
from pipedeco.worker.main_import import CannotImport
from pipedeco.worker.messages import STALE, Decoder, encode
from pipedeco.worker.perform import describe_error, failed, perform
from pipedeco.worker.setups import SETTING_UP, SetupFailed, Setups

if TYPE_CHECKING:
    from collections.abc import Callable

MILLION = 1_000_000
FLUSH = 0.001  # seconds of short steps after which their outcomes are sent
TICK = 0.004  # seconds; with the time that sending takes, outcomes leave within 5 ms
# Where these stand in what is known of a function, see messages.
AUTO_LOG, COLLECT, CACHED = 5, 6, 7
POLL = 50  # ticks between two looks at the files that a step's libraries write
PARK_AFTER = 12  # idle ticks after which the watch thread sleeps until it is needed
WORD = 3.0  # seconds for which the word of a controller is awaited that cancels a run
READ = 1 << 18


class Worker:
    """One worker process.

    Parameters
    ----------
    connection: to the controller; its end is this process's end.
    page: five 64-bit numbers shared with the controller: the call being performed, 0 between
        calls, so that a death is charged to the right one; the monotonic clock's nanoseconds
        when it began, so that a timeout counts from there; the run that is being cancelled; the
        step's own progress in millionths; whether the step's function is being looked for.
    ending: of this process.
    main_file: what `__main__` was imported from before this process was forked.
    noted: calls since before that import that change what is put back after a step.
    """

    def __init__(
        self,
        connection: socket.socket,
        page: Any,
        ending: Ending,
        main_file: MainFile | None = None,
        noted: Noted | None = None,
    ) -> None:
        self.connection = connection
        connection.setblocking(True)  # whatever default the program's modules have set
        self.page = page
        self.queue: deque[tuple[Any, ...]] = deque()
        self.outcomes: deque[tuple[Any, ...]] = deque()
        self.functions: dict[int, tuple[Any, ...]] = {}  # as they came
        self.loaded: dict[int, tuple[Any, Any]] = {}  # (function, retry_on)
        self.environment = Environment(main_file, noted)
        self.ending = ending
        self.generators = Generators()
        self.setups = Setups()
        self.logs: _Logs | None = None
        self.blobs = BlobStore("")
        self.pickler = Pickler(self.blobs)
        # Names that `__main__` was to have, and why it has not.
        self.unloadable: dict[str, str] = {}
        self.changes = Changes()
        self.without_main = False  # whether the main file of the run cannot be imported
        self.postponed: list[tuple[str, bytes]] = []  # names that wait for setup=
        self.made: dict[int, Any] = {}  # packed values of the calls since the last wait
        self.run = 0
        self.pid = os.getpid()
        self.in_step = False
        self.cancel: BaseException | None = None  # what the step was interrupted with
        self.cancelled = 0  # the run that a SIGTERM of the controller's has cancelled
        self.spoiled = False  # whether a step has changed what cannot be changed back
        self.lost = False  # whether the step did not meet `cancel`, which Python dropped
        self.sending = threading.Lock()
        self.receiving = threading.Lock()
        self.decoder = Decoder()
        self.watch = _Watch(self)
        self.reporter = Reporter(self.step_name, self.on_progress)
        self.auto_log = AutoLog()

    def serve(self) -> None:
        """Perform calls until the controller closes the connection."""
        inside_step.set(True)
        reporting.set(self.reporter)
        watch_threads()
        for number in ENDS:
            if number == signal.SIGTERM or signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, self.on_sigterm)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        when_forked(self.forked)
        sys.unraisablehook = self.on_unraisable
        if not os.environ.get("PYTHONBREAKPOINT"):  # else the user has a remote debugger
            sys.breakpointhook = prompts.no_breakpoint
        self.watch.start()
        queue = self.queue
        while True:
            self.watch.begin()
            while True:
                try:
                    message = queue.popleft()
                except IndexError:  # empty; the watch thread may have given back the last
                    break
                self.handle(message)
                if self.watch.due():
                    self.flush()
            self.flush()
            self.watch.end()
            self.made.clear()
            self.receive()

    # -- messages ----------------------------------------------------------------------------

    def receive(self) -> None:
        """Wait for messages and queue them."""
        with self.receiving:
            if self.queue:  # the watch thread was quicker
                return
            data = self.connection.recv(READ)
            if not data:
                self.ending.now()
            self.take(data)

    def poll(self) -> None:
        """Queue the messages that are there; for the watch thread and for signals."""
        if not self.receiving.acquire(blocking=False):
            return
        try:
            data = self.connection.recv(READ, socket.MSG_DONTWAIT)
            if data:
                self.take(data)
            else:
                self.controller_is_gone()
        except BlockingIOError:
            pass
        finally:
            self.receiving.release()

    def take(self, data: bytes) -> None:
        for message in self.decoder.feed(data):
            if message[0] == "calls":
                self.queue.extend(("call", *call) for call in message[1])
            elif message[0] == "give_back" or message[0] == "cancel":
                self.give_back()
            else:
                self.queue.append(message)

    def give_back(self) -> None:
        """Return the calls that are not begun; whatever else is queued stays."""
        kept: list[tuple[Any, ...]] = []
        returned: list[tuple[Any, ...]] = []
        while self.queue:
            try:
                message = self.queue.pop()
            except IndexError:  # the main thread took the last one
                break
            (returned if message[0] == "call" else kept).append(message)
        self.queue.extend(reversed(kept))
        self.send(("given_back", [call[1] for call in reversed(returned)]))

    def send(self, message: tuple[Any, ...]) -> None:
        with self.sending:
            self._sendall(message)

    def flush(self) -> None:
        """Send the outcomes that are finished, in one message."""
        if not self.outcomes:
            return
        with self.sending:
            batch = []
            while self.outcomes:
                batch.append(self.outcomes.popleft())
            if batch:
                self._sendall(("outcomes", batch))
        self.watch.flushed = time.perf_counter()

    def _sendall(self, message: tuple[Any, ...]) -> None:
        try:
            self.connection.sendall(encode(message))
        except (BrokenPipeError, ConnectionResetError):
            self.controller_is_gone()

    def controller_is_gone(self) -> None:
        """End, amid a step at once; the main thread ends in good order, and soon."""
        if self.in_step:
            self.ending.at_once()
        if threading.current_thread() is threading.main_thread():
            self.ending.now()

    def handle(self, message: tuple[Any, ...]) -> None:
        kind = message[0]
        if kind == "call":
            self.perform(message)
        elif kind == "function":
            self.functions[message[1]] = message[2:]
        elif kind == "define":
            self.define(message[1])
        elif kind == "moment":
            self.environment.turn(message[1])
        elif kind == "modules":
            self.environment.find(message[1])
        elif kind == "changes":
            self.changes.waiting += message[1]
        elif kind == "run":
            self.enter(*message[1:])

    def enter(
        self, run: int, surroundings: tuple[Any, ...], blobs: str, logs: str, names: tuple[str, str]
    ) -> None:
        """Go into the surroundings of a run; `names` are its id and its pipeline's name."""
        wanted = Surroundings(*surroundings)
        if self.environment.unfit(wanted):
            self.retire(STALE)  # nothing of the new run is begun
        if self.run and self.setups.stands_apart(wanted):
            self.retire()
        self.run = run
        self.functions.clear()
        self.loaded.clear()
        self.postponed.clear()
        self.blobs.folder = blobs
        make_private(os.path.dirname(logs))
        self.reporter.enter(*names, f"{logs}.events", self.blobs)
        self.reporter.open()
        address = self.reporter.address()
        self.changes.clear()
        if self.setups.enter(wanted):
            self.environment.set_variable(ADDRESS, address)
        else:
            wanted.environment[ADDRESS] = address
            self.enter_environment(wanted)
        self.generators.enter(wanted.seed)
        self.logs = _Logs(logs, self.reporter)

    def enter_environment(self, wanted: Surroundings) -> None:
        try:
            self.environment.enter(wanted)
            self.without_main = False
        except CannotImport as error:
            self.without_main = True
            self.send(("unimportable", str(error)))

    def define(self, definitions: list[tuple[str, bytes]]) -> None:
        """Give this `__main__` names; one that cannot be loaded is missed by who uses it."""
        for name, data in definitions:
            self.unloadable.pop(name, None)
            try:
                main_globals()[name] = loads(data)
            except Exception as error:  # noqa: BLE001 - the user's classes; told where the step's log is read
                main_globals().pop(name, None)  # a former one is another
                if self.setups.due:  # it may need that
                    self.postponed.append((name, data))
                    continue
                self.unloadable[name] = repr(error)
                sys.stderr.write(f"pipedeco: {name} of __main__ cannot be loaded: {error!r}\n")

    # -- performing --------------------------------------------------------------------------

    def perform(self, message: tuple[Any, ...]) -> None:
        _, number, function_id, args, inputs, _, _ = message
        if self.without_main or self.run in (self.page[2], self.cancelled):
            self.send(("given_back", [number]))
            return
        if inputs is not None:
            inputs = self.completed(inputs)
            if inputs is None:  # the call that this one follows has failed
                self.flush()
                self.send(("given_back", [number]))
                return
        self.reporter.call = message
        if self.setups.due and not self.set_up():
            self.reporter.call = None
            self.flush()
            self.send(("given_back", [number]))
            return
        self.page[1] = time.monotonic_ns()
        self.page[3] = 0
        self.page[0] = number
        self.lost = False
        try:
            self.in_step = True
            outcome = self.attempt(function_id, args, inputs)
            self.in_step = False
        except PipedecoError as error:  # the cancel came between two of our own lines
            self.in_step = False
            outcome = Outcome(CANCELLED, time.time(), 0.0, exception=error)
        if self.unloadable and isinstance(outcome.exception, NameError):
            outcome = self.explained(outcome, outcome.exception)
        if outcome.state == FAILED:
            outcome = prompts.explained(outcome)
        if os.getpid() != self.pid:  # the step forked, and this is the child's way out
            os._exit(1)
        self.tell(number, outcome)
        if self.ending.due or self.spoiled:
            self.retire()

    def tell(self, number: int, outcome: Outcome) -> None:
        """Leave nothing of a step behind, and queue its outcome."""
        if outcome.state == FAILED and self.cancelled == self.run:
            told = outcome.exception is self.cancel  # else what it did in answer is of interest
            outcome = outcome._replace(state=CANCELLED, error=None if told else outcome.error)
        logs = self.clean(number, outcome.state)
        known = None if outcome.error is None else tuple(outcome.error)
        if outcome.state == COMPLETED:
            self.made[number] = outcome.value
        files = (outcome.files,) if outcome.files else ()
        self.outcomes.append((number, *outcome[:6], known, *files, outcome.retryable, logs))
        self.page[0] = 0

    def retire(self, status: int = 0) -> NoReturn:
        """End; a fresh worker takes over the calls that are not begun."""
        self.flush()
        self.ending.now(status)

    def set_up(self) -> bool:
        """Call what setup= names; whether the run's steps can be performed."""
        self.lost = False
        self.page[1] = time.monotonic_ns()
        self.page[0] = SETTING_UP  # nobody's timeout, and no step is charged for a death
        try:
            self.in_step = True
            self.setups.call(lambda: self.changes.before_setup(self.environment.moved))
            self.in_step = False
        except SetupFailed as failure:
            self.in_step = False
            known = failed(failure.error, (), time.time(), 0.0).error
            if self.cancelled != self.run and known is not None:
                self.send(("setup_failed", failure.name, tuple(known)))
            return False
        except PipedecoError:  # the cancel came between two of our own lines
            self.in_step = False
            return False
        finally:
            self.page[0] = 0
        self.environment.adopt()
        postponed, self.postponed = self.postponed, []
        self.define(postponed)
        return True

    def explained(self, outcome: Outcome, error: NameError) -> Outcome:
        """The outcome, whose error tells why `__main__` has no such name here."""
        why = self.unloadable.get(error.name or "")
        if why is None:
            return outcome
        error.add_note(f"{error.name} of __main__ cannot be loaded in this worker: {why}")
        return outcome._replace(error=describe_error(error))

    def completed(self, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """The inputs, with the values that this worker has just made in place of their numbers;
        None where one was not made."""
        made = self.made
        if any(type(packed) is int and packed not in made for packed in inputs):
            return None
        return tuple([made[packed] if type(packed) is int else packed for packed in inputs])

    def step_name(self, call: tuple[Any, ...]) -> StepName:
        """What a step is called, from the message of its call."""
        _, number, function_id, _, _, call_number, attempt = call
        component = self.functions[function_id][4]
        return StepName(numbered(component, call_number), component, attempt, number)

    def on_progress(self, share: float) -> None:
        self.page[3] = int(share * MILLION)

    def attempt(self, function_id: int, args: Any, inputs: Any) -> Outcome:
        try:
            if self.environment.homeless:
                self.environment.check_directory(self.reporter.run)
            function, retry_on = self.loaded.get(function_id) or self.load(function_id)
            if self.changes.waiting:
                self.changes.apply(self.environment.moved)
                self.environment.settle()
        except BaseException as error:  # noqa: BLE001 - the user's modules, while they are imported
            return failed(error, (), time.time(), 0.0)
        facts = self.functions[function_id]
        call = function, lambda: self.arguments(args, inputs), self.pack, retry_on
        if facts[CACHED] or facts[COLLECT]:
            return self.with_files(call, facts)
        return self.once(call, facts)

    def with_files(self, call: tuple[Any, ...], facts: tuple[Any, ...]) -> Outcome:
        """Perform a call of a component that collects files, or whose value may name some."""
        function, arguments, pack, retry_on = call

        def attempt(pack: Callable[[Any], Any]) -> Outcome:
            return self.once((function, arguments, pack, retry_on), facts)

        def collecting(pack: Callable[[Any], Any]) -> Outcome:
            from pipedeco.worker.collecting import collected

            return collected(facts[COLLECT], self.reporter, lambda: attempt(pack))

        perform_it = collecting if facts[COLLECT] else attempt
        if not facts[CACHED]:
            return perform_it(pack)
        from pipedeco.worker.value_files import noting_files

        return noting_files(perform_it, pack)

    def once(self, call: tuple[Any, ...], facts: tuple[Any, ...]) -> Outcome:
        """Perform a call in a copy of this context: what it sets there is gone afterwards."""
        if not facts[AUTO_LOG]:
            return copy_context().run(perform, *call)
        self.auto_log.begin(self.reporter)
        try:
            return copy_context().run(perform, *call)
        finally:
            self.auto_log.end()

    def load(self, function_id: int) -> tuple[Any, Any]:
        """The function of an id and its retry_on, found once."""
        kind, module, data, retry_on, *_ = self.functions[function_id]
        self.page[4] = 1
        try:
            entry = find(kind, module, data), loads(retry_on) if retry_on else (Exception,)
        finally:
            self.page[4] = 0
        self.environment.settle()
        self.loaded[function_id] = entry
        return entry

    def arguments(self, args: Any, inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        values: dict[int, Any] = {}
        modules = len(sys.modules)

        def load_input(number: int) -> Any:
            if number not in values:
                try:
                    values[number] = unpack(inputs[number], self.blobs)
                except LoadingEnded as error:
                    error.input = number
                    raise
            return values[number]

        found = unpack_arguments(args, self.blobs, load_input)
        if len(sys.modules) != modules:  # their classes were imported
            self.environment.settle()
        if self.generators.seeded:  # last of all, as values and their modules may draw, too
            step = self.step_name(self.reporter.call)
            self.generators.begin(step.name, step.attempt)
        return found

    def pack(self, value: Any) -> tuple[Any, str | None, tuple[str, ...]]:
        if value is None:
            return None, "None", ()
        packed = self.pickler.dump(value, "the result")
        data = packed if isinstance(packed, bytes) else self.blobs.get(packed)[0]
        return packed, preview(value), main_names(data, main_globals())

    def clean(self, number: int, state: str) -> tuple[int, ...] | None:
        """Leave nothing of the step behind but what it keeps; where its output stands."""
        assert self.logs is not None
        if time.monotonic_ns() - self.page[1] > QUICKEST and has_children():
            self.ending.look_after_children(self.page[1], succeeded=state == COMPLETED)
        try:
            self.environment.restore()
        except CannotRestore:
            self.spoiled = True
        self.generators.restore()
        self.reporter.finish()
        self.reporter.call = None
        return self.logs.step_ended(number)

    def on_sigterm(self, number: int, frame: FrameType | None) -> None:
        """A cancel that the controller announced ends the step; any other SIGTERM ends us.

        The page tells, as the connection may be in use by what the signal interrupts.  A signal
        may come late, when another run is performed, and a cancel may come as several.  Where one
        goes to every process of a job, the controller's word comes a moment after it.
        """
        known = self.lost or self.cancelled == self.run
        if self.in_step and not known and not self.page[2]:
            self.await_word()
        announced, self.page[2] = self.page[2], 0
        if announced:
            self.cancelled = announced
        elif not self.lost and self.cancelled != self.run:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        if (announced or self.lost) and self.cancelled == self.run and self.in_step:
            from pipedeco.errors import StepCancelled  # loads concurrent.futures

            self.lost = False
            self.cancel = StepCancelled("the run was cancelled")
            raise self.cancel

    def await_word(self) -> None:
        """Wait until the controller says that it cancels, or has had the time to say so."""
        deadline = time.monotonic() + WORD
        while not self.page[2] and time.monotonic() < deadline:
            time.sleep(TICK)

    def forked(self) -> None:
        """In a process that the step forked: SIGTERM is no cancel there, and ends it.

        The page is not its own, and nobody reminds it of a signal that came just before it blocked:
        `multiprocessing.Pool` would wait for ever for such a process that it has terminated.
        """
        for number in ENDS:
            if signal.getsignal(number) == self.on_sigterm:  # else the step's own
                signal.signal(number, signal.SIG_DFL)

    def remind(self) -> None:
        """Signal a cancel to a step that has not met it; for the watch thread.

        A signal that comes just before a thread blocks does not wake it, and Python drops what a
        handler raises while it destroys an object.
        """
        if self.in_step and (self.lost or self.page[2] == self.run):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    def on_unraisable(self, unraisable: Any) -> None:
        if self.cancel is not None and unraisable.exc_value is self.cancel:
            self.lost = True
        else:
            sys.__unraisablehook__(unraisable)


class _Logs:
    """Standard output and standard error as files, in which each step has its part.

    So it has of what is reported.
    """

    def __init__(self, path: str, reporter: Reporter) -> None:
        self.reporter = reporter
        self.paths = f"{path}.out", f"{path}.err"
        self.streams = self._open(), self._open_stream(2)
        self.ends = os.fstat(1).st_size, os.fstat(2).st_size, reporter.size

    def step_ended(self, number: int) -> tuple[int, ...] | None:
        """(start, end) of the step's part of the three files, and its number; None where it wrote
        nothing."""
        if sys.stdout is not self.streams[0] or sys.stderr is not self.streams[1]:
            self._reopen()
        try:
            # Nothing waits in our streams, so there is nothing to flush.
            out, err = os.fstat(1), os.fstat(2)
        except OSError:  # the step closed a descriptor
            out, err = self._reopen()
        if (
            (out.st_ino, err.st_ino) != self.files
            or self.streams[0].closed
            or self.streams[1].closed
        ):
            out, err = self._reopen()
        before = self.ends
        self.ends = out.st_size, err.st_size, self.reporter.size
        if before == self.ends:
            return None
        places = zip(before, self.ends, strict=True)
        return (*(place for pair in places for place in pair), number)

    def _reopen(self) -> tuple[os.stat_result, os.stat_result]:
        self.streams = self._open(), self._open_stream(2)
        return os.fstat(1), os.fstat(2)

    def _open(self) -> Any:
        """Let both descriptors lead to the logs; the stream of stdout."""
        for descriptor, path in zip((1, 2), self.paths, strict=True):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            file = os.open(path, flags, 0o600)
            if file != descriptor:
                os.dup2(file, descriptor)
                os.close(file)
        self.files = os.fstat(1).st_ino, os.fstat(2).st_ino
        faulthandler.enable(file=2)
        return self._open_stream(1)

    def _open_stream(self, descriptor: int) -> Any:
        """sys.stdout or sys.stderr; nothing waits in it, so that a killed step loses nothing."""
        raw = open(descriptor, "wb", buffering=0, closefd=False)  # noqa: SIM115 - steps write to it
        stream = io.TextIOWrapper(raw, "utf-8", "backslashreplace", write_through=True)
        name = "stdout" if descriptor == 1 else "stderr"
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
        return stream


class _Watch(threading.Thread):
    """Looks after the connection while the main thread is inside a long step.

    It ticks while there is work, and parks itself when there has been none for a while, so
    that neither a short step nor an idle worker pays for it.
    """

    def __init__(self, worker: Worker) -> None:
        super().__init__(name="pipedeco-watch", daemon=True)
        self.worker = worker
        self.busy = False
        self.parked = False
        self.ticks = 0
        self.began = 0.0
        self.flushed = 0.0
        self._wake = threading.Lock()
        self._wake.acquire()

    def begin(self) -> None:
        self.began = self.flushed = time.perf_counter()
        self.busy = True
        if self.parked and self._wake.locked():
            self._wake.release()

    def end(self) -> None:
        self.busy = False

    def due(self, seconds: float = FLUSH) -> bool:
        return time.perf_counter() - self.flushed > seconds

    def run(self) -> None:
        idle = 0
        while True:
            idle = 0 if self.busy else idle + 1
            if idle > PARK_AFTER:
                self.parked = True
                if not self.busy:  # else work came just now, and nobody would ring
                    self._wake.acquire()
                self.parked = False
                idle = 0
            else:
                time.sleep(TICK)
            if self.busy and self.due(TICK):
                self.worker.flush()
                self.worker.poll()
                self.worker.remind()
                self.ticks += 1
                if not self.ticks % POLL:
                    self.worker.auto_log.poll()


def main(
    connection: socket.socket,
    page: Any,
    main_file: MainFile | None = None,
    noted: Noted | None = None,
) -> None:
    """The life of a worker process, after it was forked or spawned.

    `main_file` is what `__main__` was imported from before, if it was, and `noted` are calls since
    then that change what is put back after a step.
    """
    disown()
    ending = Ending()
    if main_file is None:
        new_main()
    quiet_forks()
    Worker(connection, page, ending, main_file, noted).serve()

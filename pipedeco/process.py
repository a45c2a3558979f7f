"""What the runs of this process share: runners, recorders, the display, and who is alive."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, Protocol

from pipedeco.capture import Captures  # before ours: its hook at exit must be the last
from pipedeco.display import Displays
from pipedeco.errors import RunCancelled, Terminated
from pipedeco.failures import first_line
from pipedeco.forks import when_forked
from pipedeco.interrupts import ENDS, Interrupts
from pipedeco.plugins import Plugins
from pipedeco.recursion import RecursionRoom
from pipedeco.runners import Runner
from pipedeco.runners.modes import make_runner
from pipedeco.store.recorder import Recorder
from pipedeco.text import write_stderr
from pipedeco.tracing import current

if TYPE_CHECKING:
    from types import FrameType

    from pipedeco.cache import Codes, Flights
    from pipedeco.callbacks import Callback

SPARE = 4  # stores that no run uses, and that stay open
UNREAD = 100  # failed runs that are told of at the process's end, the last ones


class Live(Protocol):
    """What the process asks of a run that it performs."""

    id: str
    error: BaseException | None
    over: threading.Event
    thread: threading.Thread | None
    interrupts: Interrupts
    pipeline: Any
    plan: Any
    log: Any

    def cancel(self, reason: str) -> None: ...


class Controller:
    """What the runs of this process share: runners, recorders, and who is alive."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self.runners: dict[tuple[str, str], Runner] = {}
        self.recorders: dict[str, Recorder] = {}
        self.live: dict[Live, None] = {}
        self.flights: dict[str, Flights] = {}  # by store
        self.displays = Displays()
        self.captures = Captures()
        self.plugins = Plugins()
        self.recursion = RecursionRoom()
        self.codes: Codes | None = None
        self.recorded: Codes | None = None
        self.unread: dict[str, str] = {}  # started, failed, and nobody asked: id -> what to say
        self.looked_at: set[str] = set()  # files, for what would seed nobody's generators
        self.untold = 0  # more of these, of which it is not said
        self._keeper: threading.Thread | None = None
        # The dispositions of signals that ours stand before.
        self._former: dict[int, Any] = {}
        self._ended_by = int(signal.SIGTERM)  # which of them is to have its way
        self._hooked = False

    def runner(self, mode: str, start_method: str) -> Runner:
        with self._lock:
            self._hook()
            key = (mode, start_method)
            if key not in self.runners or not self.runners[key].alive:
                self.runners[key] = make_runner(mode, start_method)
                # Ours goes first at exit: multiprocess's own hook joins workers that still live.
                atexit.unregister(self.close)
                atexit.register(self.close)
            return self.runners[key]

    def recorder(self, folder: str, run: Live) -> Recorder:
        """The recorder of a store, which `run` uses until the recorder forgets it."""
        with self._lock:
            self._hook()
            found = self.recorders.pop(folder, None)
            if found is None or not found.serves:
                found = Recorder(folder)
            self.recorders[folder] = found  # the last one is that which was used last
            found.users.add(run)
            unused = [name for name, other in self.recorders.items() if other.idle]
            spare = [self.recorders.pop(name) for name in unused[: max(0, len(unused) - SPARE)]]
        for other in spare:
            _close(other)
        return found

    def callbacks(self) -> tuple[Callback, ...]:
        """Those that installed distributions bring.  Raises ConfigError."""
        return self.plugins.callbacks(sys.path)

    def look_for_seeds(self, fn: Any) -> None:
        """Warn once of what seeds this process, whose runs have no seed."""
        code = getattr(fn, "__code__", None)
        main = sys.modules["__main__"]
        files = {
            path: module
            for path, module in (
                (getattr(main, "__file__", None), "__main__"),
                (getattr(code, "co_filename", None), str(getattr(fn, "__module__", ""))),
            )
            if path and path not in self.looked_at
        }
        if files:
            from pipedeco.advice.seeds import warn_of_seedings

            self.looked_at |= files.keys()
            warn_of_seedings(files)

    def code_keys(self) -> Codes:
        """The keys of the code of this process; values that it uses are looked at again."""
        with self._lock:
            if self.codes is None:
                from pipedeco.cache import Codes

                self.codes = Codes()
            else:
                self.codes.refresh()
            return self.codes

    def recorded_code(self) -> Codes:
        """The keys of code for recorders, which look at it in their own time."""
        with self._lock:
            if self.recorded is None:
                from pipedeco.cache import Codes

                self.recorded = Codes()
            return self.recorded

    def flights_of(self, folder: str) -> Flights:
        with self._lock:
            place = os.path.realpath(folder)  # a store may have several names
            if place not in self.flights:
                from pipedeco.cache import Flights

                self.flights[place] = Flights(place)
            return self.flights[place]

    def enter(self, execution: Live) -> None:
        """A run begins: from now on signals cancel it first."""
        self.live[execution] = None
        if threading.current_thread() is threading.main_thread():
            for number in ENDS:
                former = signal.getsignal(number)
                kept = former in (signal.SIG_IGN, None, self._on_end)
                reloads = number != signal.SIGTERM and former != signal.SIG_DFL  # as daemons do
                if not kept and not reloads:
                    self._handle(number, self._on_end, former)
            former = signal.getsignal(signal.SIGINT)
            if former is signal.default_int_handler:  # a handler of the user's has its own way
                self._handle(signal.SIGINT, self._on_sigint, former)

    def _handle(self, number: int, handler: Any, former: Any) -> None:
        self._former[number] = former
        signal.signal(number, handler)

    def leave(self, execution: Live) -> None:
        self.live.pop(execution, None)
        self.tidy()

    def tidy(self) -> None:
        """Restore the signals when no run is live; only the main thread can."""
        in_main = threading.current_thread() is threading.main_thread()
        if self.live or not self._former or not in_main:
            return
        ours = {**dict.fromkeys(ENDS, self._on_end), signal.SIGINT: self._on_sigint}
        while self._former:
            number, former = self._former.popitem()
            if signal.getsignal(number) == ours[signal.Signals(number)]:  # else the user's is newer
                signal.signal(number, former)

    def watch_main(self) -> None:
        """Cancel started runs when Ctrl-C ended the main thread, which else waits for them."""
        if self._keeper is None:
            self._keeper = threading.Thread(target=self._keep, name="pipedeco-keeper", daemon=True)
            self._keeper.start()

    def _keep(self) -> None:
        threading.main_thread().join()
        if getattr(sys, "last_type", None) is KeyboardInterrupt:
            for execution in list(self.live):
                execution.cancel("it was interrupted")

    def note_unread(self, execution: Live) -> None:
        """A started run failed; who never asks for its result is told at the process's end."""
        error = execution.error
        if isinstance(error, Exception) and not isinstance(error, RunCancelled):
            self.unread[execution.id] = (
                f"pipedeco: run {execution.id} of {execution.pipeline.name} failed, and nobody "
                f"asked for its result: {type(error).__name__}: "
                f"{first_line(error).partition('; see it with')[0]}\n"
                f"see it with: pipedeco show {execution.id}\n"
            )
            with self._lock:
                while len(self.unread) > UNREAD:  # a service may run for weeks
                    self.unread.pop(next(iter(self.unread)), None)
                    self.untold += 1

    def _on_end(self, number: int, frame: FrameType | None) -> None:
        self._ended_by = number
        for execution in list(self.live):
            execution.cancel(signal.Signals(number).name)
        executed = self._executed_here()
        if executed is None:
            self.give_way()
        else:
            executed.interrupts.arrived(Terminated())

    def _on_sigint(self, number: int, frame: FrameType | None) -> None:
        executed = self._executed_here()
        if executed is None:
            signal.default_int_handler(number, frame)
        else:
            executed.interrupts.arrived(KeyboardInterrupt())

    def _executed_here(self) -> Live | None:
        """The run that the main thread executes, the innermost of several."""
        main = threading.main_thread()
        return next((e for e in reversed(list(self.live)) if e.thread is main), None)

    def give_way(self) -> None:
        """Every run is cancelled; let the former disposition of the signal apply."""
        for execution in list(self.live):
            execution.over.wait(10.0)
        number = self._ended_by
        former = self._former.pop(number, None)
        if former is not None:
            signal.signal(number, former)
        os.kill(os.getpid(), number)

    def _hook(self) -> None:
        if not self._hooked:
            self._hooked = True
            atexit.register(self.close)
            when_forked(self._forget, before=self._hold, after=_go_on)

    def _hold(self) -> list[Recorder]:
        """Before a fork: no recorder is amid a commit; those of which that is sure."""
        return [each for each in list(self.recorders.values()) if each.hold()]

    def _forget(self) -> None:
        """In a forked child nothing of this is ours; it is kept, as closing it would harm."""
        self._parents = (self.runners, self.recorders, self.live)
        self.displays.abandon()
        self._lock = threading.Lock()
        former = self._former
        self._reset()
        self._hooked = True
        self._former = former
        self.tidy()  # our handlers would find no run here, and nothing to give way to
        current.set(None)

    def close(self) -> None:
        """At the process's end: leave no process, lose no record."""
        for execution in list(self.live):
            execution.cancel("the process ended")
            execution.over.wait(10.0)
        if self.untold:
            write_stderr(f"pipedeco: {self.untold} runs before these have failed, too\n")
        for text in self.unread.values():
            write_stderr(text)
        for runner in self.runners.values():
            runner.stop()
        for recorder in self.recorders.values():
            _close(recorder)
        for runner in self.runners.values():
            runner.close()
        self.runners.clear()
        self.recorders.clear()


def _close(recorder: Recorder) -> None:
    try:
        recorder.close()
    except OSError as error:  # the store is gone, and there is more to be done
        write_stderr(f"pipedeco: {recorder.folder}: {error}\n")


def _go_on(held: list[Recorder]) -> None:
    for recorder in held:
        recorder.go_on()


CONTROLLER = Controller()

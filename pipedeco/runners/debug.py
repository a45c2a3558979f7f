"""The debug runner: a step is performed at its call, in the caller's process and thread.

It differs from the other modes in what cannot be otherwise there (DESIGN section 5): failures
leave at the call, timeouts only warn, arguments are the originals.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from pipedeco.autolog import AutoLog
from pipedeco.definitions import unwrapped
from pipedeco.errors import ConfigError, NotPicklable, Terminated
from pipedeco.graph import CANCELLED, FAILED, Called, Logs, Outcome, Step, StepCall
from pipedeco.reporter import ADDRESS, Reporter, StepName
from pipedeco.requirements import unmet
from pipedeco.result import ATOMS, StepResult
from pipedeco.runners import UnderWay, auto_logs
from pipedeco.runners.beside import InPlace
from pipedeco.runners.offspring import Offspring
from pipedeco.runners.streams import StepLogs, Streams
from pipedeco.serialization import (
    UNRECORDED,
    Packed,
    Pickler,
    contains,
    pickle_mark,
    unpack_arguments,
)
from pipedeco.text import preview
from pipedeco.tracing import current, inside_step, reporting, warn_user
from pipedeco.worker.children import QUICKEST
from pipedeco.worker.generators import seeded
from pipedeco.worker.perform import failed, perform
from pipedeco.worker.setups import SetupFailed, name_of
from pipedeco.worker.setups import call as call_setup

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipedeco.runners import RunFacts
    from pipedeco.runners.inplace import LoguruRecords, Records


class DebugRunner:
    """Performs in place; its runs share the streams of this process.

    Runs of one tree share what setup= has done.
    """

    def __init__(self) -> None:
        self.offspring = Offspring()
        self.streams = Streams()
        self.addresses = Addresses()
        self._records: dict[str, Records | LoguruRecords] = {}  # by the library that makes them
        self._set_up: dict[str, list[Any]] = {}  # what was called, by the run at the top
        self._modules = 0
        self._sessions = 0
        self._lock = threading.Lock()

    def open(self, facts: RunFacts) -> DebugSession:
        with self._lock:
            self._sessions += 1
        called = self._set_up.setdefault(facts.top, [])
        return DebugSession(self, facts, called, lambda: self._closed(facts.id))

    def _closed(self, run: str) -> None:
        """A run has ended; after the last one logging is as before."""
        self._set_up.pop(run, None)
        with self._lock:
            self._sessions -= 1
            if not self._sessions:
                self._leave_logging()

    def watch_logging(self) -> None:
        """See the log records of steps, once somebody has imported what makes them."""
        if len(sys.modules) == self._modules:
            return
        with self._lock:
            self._modules = len(sys.modules)
            for library in ("logging", "loguru"):
                if library in sys.modules and library not in self._records:
                    from pipedeco.runners import inplace

                    kind = inplace.Records if library == "logging" else inplace.LoguruRecords
                    self._records[library] = kind(self.streams)

    def _leave_logging(self) -> None:
        for records in self._records.values():
            records.close()
        self._records.clear()
        self._modules = 0

    @property
    def alive(self) -> bool:
        return True

    def stop(self) -> None:
        pass

    def close(self) -> None:
        self._leave_logging()


class Addresses:
    """The addresses of the steps that this process performs, for processes that these start.

    The last one to begin has its own; none is in os.environ, which costs more than a step.
    """

    def __init__(self) -> None:
        self._used: list[str] = []
        self._inherited = os.environ.get(ADDRESS)  # where a step has started this program

    def enter(self, address: str) -> None:
        self._used.append(address)
        os.putenv(ADDRESS, address)

    def leave(self, address: str) -> None:
        self._used.remove(address)
        former = self._used[-1] if self._used else self._inherited
        if former is None:
            os.unsetenv(ADDRESS)
        else:
            os.putenv(ADDRESS, former)


class DebugSession:
    """One run's use of the debug runner.

    Parameters
    ----------
    set_up: the functions of setup= that the tree of the run has called.
    closed: called at the end.
    """

    in_process = True

    def __init__(
        self,
        runner: DebugRunner,
        facts: RunFacts,
        set_up: list[Any],
        closed: Callable[[], Any],
    ) -> None:
        self._set_up = set_up
        self._closed = closed
        self.facts = facts
        self.offspring = runner.offspring
        self._addresses = runner.addresses
        self._began = 0  # the step that is performed, in nanoseconds of the monotonic clock
        self.blobs = facts.blobs
        self._pickler = Pickler(facts.blobs)
        self._actions: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._acting = False
        self._lock = threading.RLock()  # the body may call from copies of its context
        name = f"{facts.log_prefix}debug"
        self.reporter = Reporter(_step_name, self._note_progress)
        self.reporter.enter(facts.id, facts.pipeline, f"{facts.logs}/{name}.events", facts.blobs)
        self.reporter.open()
        self._address = self.reporter.address()
        self._log = StepLogs(runner.streams, facts.logs, name, self.reporter)
        self._watch_logging = runner.watch_logging
        self._performed: Step | None = None
        self._share = 0.0  # its progress
        self._auto_log = AutoLog(ours=False)

    def prepare(self, called: Called) -> None:
        pass

    def post(self, action: Callable[..., None], *args: Any) -> None:
        """At once; what an action posts comes after it."""
        __tracebackhide__ = True
        self._actions.append((action, args))  # who acts now, and waits for a while, sees it
        with self._lock:
            if self._acting:
                return
            self._acting = True
            try:
                while self._actions:
                    action, args = self._actions.popleft()
                    action(*args)
            finally:
                self._acting = False

    def tell(self, action: Callable[..., None], *args: Any) -> None:
        if self._lock.acquire(blocking=False):
            try:
                if not self._acting:
                    action(*args)
                    return
            finally:
                self._lock.release()
        self._actions.append((action, args))  # who acts now does it next

    def later(self, seconds: float, action: Callable[..., None], *args: Any) -> None:
        self.post(time.sleep, seconds)
        self.post(action, *args)

    def submit(self, call: StepCall) -> None:
        self._actions.append((self._perform, (call,)))  # whoever decided this drains them

    def withdraw(self, call: StepCall) -> bool:
        return False

    def stop(self) -> list[StepCall]:
        return []

    def kill(self) -> None:
        pass

    def note(self, step: Step) -> None:
        pass

    def surroundings_at(self, step: Step) -> None:
        pass

    def called(self, step: Step) -> None:
        if step.state in (FAILED, CANCELLED) and not step.called.options.allow_failure:
            step.run.load(step)

    def running(self) -> list[UnderWay]:
        step = self._performed
        if step is not None:  # the recorder asks now and then; a step may be killed amid
            self.offspring.look(self._began)
        return [] if step is None else [UnderWay(step, 0.0, self._share)]

    def preparing(self) -> list[str]:
        return []

    def catch_up(self, logs: Logs) -> None:
        pass

    def on_scheduler(self) -> bool:
        return False

    def spawn(self, target: Callable[[], None], name: str) -> None:
        __tracebackhide__ = True
        target()

    def beside(self, name: str) -> InPlace:
        return InPlace()

    def close(self) -> None:
        self._log.close()
        self.reporter.close()
        self._closed()

    def _note_progress(self, share: float) -> None:
        self._share = share

    # -- performing ----------------------------------------------------------------------

    def _perform(self, call: StepCall) -> None:
        __tracebackhide__ = True
        # What the step does is not the body's doing: no calls to trace, no reads to note.
        tokens = current.set(None), inside_step.set(True), reporting.set(self.reporter)
        self.reporter.call = call
        self._addresses.enter(self._address)
        self._performed = call.step
        self._share = 0.0
        try:
            outcome = self._attempt(call)
        except SetupFailed as failure:
            outcome = self._not_set_up(failure)
        except (KeyboardInterrupt, Terminated) as error:  # between two of our own lines
            outcome = Outcome(CANCELLED, time.time(), 0.0, exception=error)
        except Exception as error:  # noqa: BLE001 - a selection that fails, a warning made an error
            outcome = failed(error, (), time.time(), 0.0, "debug")
        finally:  # first what the body needs: near the recursion limit the rest may raise
            current.reset(tokens[0])
            inside_step.reset(tokens[1])
            reporting.reset(tokens[2])
            self._performed = self.reporter.call = None
            self._log.release()
            self._addresses.leave(self._address)
        if isinstance(outcome.exception, KeyboardInterrupt | Terminated):
            call.done(call, outcome._replace(state=CANCELLED, error=None))
            raise outcome.exception
        call.done(call, outcome)

    def _call_setups(self) -> None:
        for function in self.facts.setups:
            if function not in self._set_up:
                self._set_up.append(function)
                call_setup(name_of(function), unwrapped(function))

    def _not_set_up(self, failure: SetupFailed) -> Outcome:
        """The run ends with it; of the step it is no failure."""
        cancelled = Outcome(CANCELLED, time.time(), 0.0)
        if isinstance(failure.error, KeyboardInterrupt | Terminated):
            return cancelled._replace(exception=failure.error)
        known = failed(failure.error, (), time.time(), 0.0).error
        assert known is not None
        self.facts.setup_failed(failure.name, known, failure.error)
        return cancelled

    def _attempt(self, call: StepCall) -> Outcome:
        __tracebackhide__ = True
        step = call.step
        call.started(call)
        _check_environment(step.called)
        args, kwargs = self.arguments(step)
        before = self._mark(args, kwargs)
        self._watch_logging()
        self._began = time.monotonic_ns()
        self._log.begin()
        if auto_logs(step.called, self.facts):
            self._auto_log.begin(self.reporter)
        try:
            if self.facts.setups:
                self._call_setups()
            if self.facts.seed is None:  # it draws from the program's own generators
                outcome = self._once(step, args, kwargs)
            else:
                with seeded(self.facts.seed, step.name, call.attempt):
                    outcome = self._once(step, args, kwargs)
        finally:
            self._auto_log.end()
            self.reporter.finish()
            logs = self._log.end(step.position + 1)
            if time.monotonic_ns() - self._began > QUICKEST:
                self.offspring.look(self._began)
        if before is not None:
            from pipedeco.runners.argument_changes import warn_of_changes

            warn_of_changes(step, before, [*args, *kwargs.values()], outcome)
        if step.called.options.timeout is not None:
            self._warn_timeout(step, outcome, step.called.options.timeout)
        return outcome if logs is None else outcome._replace(logs=logs)

    def _once(self, step: Step, args: Any, kwargs: Any) -> Outcome:
        """The outcome, once files that are to be collected are logged."""
        __tracebackhide__ = True
        options = step.called.options
        call = (
            step.called.component.fn,
            lambda: (args, kwargs),
            lambda value: self._pack(step, value),
            options.retry_on,
            "debug",
        )
        if step.key is None and not options.collect:
            return perform(*call)
        return self._with_files(step, call)

    def _with_files(self, step: Step, call: tuple[Any, ...]) -> Outcome:
        """The outcome of a step that collects files, or whose value may name some."""
        __tracebackhide__ = True
        function, arguments, pack, *others = call
        patterns = step.called.options.collect

        def attempt(pack: Callable[[Any], Any]) -> Outcome:
            __tracebackhide__ = True
            return perform(function, arguments, pack, *others)

        def collecting(pack: Callable[[Any], Any]) -> Outcome:
            __tracebackhide__ = True
            from pipedeco.worker.collecting import collected

            return collected(patterns, self.reporter, partial(attempt, pack))

        perform_it = collecting if patterns else attempt
        if step.key is None:
            return perform_it(pack)
        from pipedeco.worker.value_files import noting_files

        return noting_files(perform_it, pack)

    def arguments(self, step: Step) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The originals, with results replaced by their values."""
        args, kwargs = step.originals
        if not step.inputs:
            return args, kwargs
        token = current.set(None)  # reading the results is not the body's doing
        try:
            return self._resolved(step, args, kwargs)
        finally:
            current.reset(token)

    def _resolved(
        self, step: Step, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        rebuilt: list[Any] = []

        def resolve(position: Any, argument: Any) -> Any:
            if isinstance(argument, StepResult):
                return argument.result()
            if type(argument) in ATOMS or not contains(argument, StepResult):
                return argument
            if not rebuilt:
                rebuilt.extend(self._rebuilt(step))
            return rebuilt[isinstance(position, str)][position]

        return (
            tuple([resolve(i, argument) for i, argument in enumerate(args)]),
            {name: resolve(name, argument) for name, argument in kwargs.items()},
        )

    def _rebuilt(self, step: Step) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments from their pickle, in which results stand below the top level."""
        return unpack_arguments(
            step.args, self.blobs, lambda number: step.run.load(step.inputs[number])
        )

    def _mark(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes | None:
        """The arguments' pickle before the step, by which a change in place is seen."""
        given = args if not kwargs else (*args, *kwargs.values())
        for value in given:
            if type(value) not in ATOMS:
                from pipedeco.runners.argument_changes import ARGUMENTS_LIMIT

                return pickle_mark([*given], ARGUMENTS_LIMIT)
        return None

    def _pack(self, step: Step, value: Any) -> tuple[Packed | None, str | None, tuple[str, ...]]:
        if value is None:
            return None, "None", ()
        try:
            packed = self._pickler.dump(value, "the result")
        except NotPicklable as error:
            warn_user(f"step {step.name}: {error}; the other modes would fail here")
            packed = UNRECORDED
        return packed, preview(value), ()

    def _warn_timeout(self, step: Step, outcome: Outcome, timeout: float) -> None:
        if outcome.duration > timeout:
            warn_user(
                f"step {step.name} ran {outcome.duration:.3g} s, longer than its timeout of "
                f"{timeout:g} s; the other modes would have killed it"
            )


def _check_environment(called: Called) -> None:
    """Raise ConfigError where a step asks for an environment and this one is another."""
    if called.environment is None:
        return
    lacking = unmet(called.environment)
    if lacking:
        raise ConfigError(
            f"component {called.name} asks for an environment of its own, and debug mode calls its "
            f"function in this process: {'; '.join(lacking)}; install that here, or run the "
            "pipeline in local mode, which builds the environment"
        )


def _step_name(call: StepCall) -> StepName:
    step = call.step
    return StepName(step.name, step.called.name, call.attempt, step.position + 1)

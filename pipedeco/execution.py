"""One execution of a pipeline in this process: its body, its scheduler, its records.

    body thread        calls components, reads results, waits          Execution.execute
    scheduler thread   decides and dispatches                          Scheduler, through a Session
    recorder thread    commits                                         Recorder

What leaves the run has been committed before.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import sys
import threading
import time
from array import array
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.blobs import BlobStore
from pipedeco.capture import Captures  # before ours: its hook at exit must be the last
from pipedeco.components import bound_arguments
from pipedeco.config import project_folder
from pipedeco.display import Display, Displays
from pipedeco.errors import (
    BlobCorrupt,
    GraphError,
    NotPicklable,
    PipedecoError,
    RunCancelled,
    RunFailed,
    StepFailed,
    StepSkipped,
    Terminated,
)
from pipedeco.graph import (
    CANCELLED,
    COMPLETED,
    ENDED,
    FAILED,
    SUCCESS,
    Graph,
    Outcome,
    Step,
    StepCall,
    StepError,
)
from pipedeco.result import resolve
from pipedeco.runners import RunFacts, Runner, make_runner
from pipedeco.scheduler import Scheduler, unread_failures
from pipedeco.serialization import Packed, Pickler, main_names, unpack, unpack_exception
from pipedeco.store.recorder import Recorder, RunLog
from pipedeco.text import preview
from pipedeco.tracing import Trace, current, inside_step, watch_threads
from pipedeco.worker.perform import CONTROL_FLOW, describe_error, error_text, failed, user_part

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

    from pipedeco.cache import Codes, Flights, ResultCache
    from pipedeco.fingerprint.code import CodeKey
    from pipedeco.graph import StepKey
    from pipedeco.resuming import Resumption, TakenOver

UNRECORDED = b""
STOPPING = 20.0  # seconds within which a run that is interrupted must have stopped


class Controller:
    """What the runs of this process share: runners, recorders, and who is alive."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self.runners: dict[tuple[str, str], Runner] = {}
        self.recorders: dict[str, Recorder] = {}
        self.live: dict[Execution, None] = {}
        self.flights: dict[str, Flights] = {}  # by store
        self.displays = Displays()
        self.captures = Captures()
        self.codes: Codes | None = None
        self.unread: dict[str, str] = {}  # started, failed, and nobody asked: id -> what to say
        self._keeper: threading.Thread | None = None
        self._former: Any = None  # the disposition of SIGTERM that ours stands before
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

    def recorder(self, folder: str) -> Recorder:
        with self._lock:
            self._hook()
            if folder not in self.recorders or not self.recorders[folder].alive:
                self.recorders[folder] = Recorder(folder)
            return self.recorders[folder]

    def code_keys(self) -> Codes:
        """The keys of the code of this process; values that it uses are looked at again."""
        with self._lock:
            if self.codes is None:
                from pipedeco.cache import Codes

                self.codes = Codes()
            else:
                self.codes.refresh()
            return self.codes

    def flights_of(self, folder: str) -> Flights:
        with self._lock:
            place = os.path.realpath(folder)  # a store may have several names
            if place not in self.flights:
                from pipedeco.cache import Flights

                self.flights[place] = Flights(place)
            return self.flights[place]

    def enter(self, execution: Execution) -> None:
        """A run begins: from now on SIGTERM cancels it first."""
        self.live[execution] = None
        in_main = threading.current_thread() is threading.main_thread()
        if in_main:
            handler = signal.getsignal(signal.SIGTERM)
            if handler not in (signal.SIG_IGN, None, self._on_sigterm):
                self._former = handler
                signal.signal(signal.SIGTERM, self._on_sigterm)

    def leave(self, execution: Execution) -> None:
        self.live.pop(execution, None)
        self.tidy()

    def tidy(self) -> None:
        """Restore SIGTERM when no run is live; only the main thread can."""
        in_main = threading.current_thread() is threading.main_thread()
        if not self.live and in_main and self._former is not None:
            if signal.getsignal(signal.SIGTERM) == self._on_sigterm:  # else the user's own is newer
                signal.signal(signal.SIGTERM, self._former)
            self._former = None

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

    def note_unread(self, execution: Execution) -> None:
        """A started run failed; who never asks for its result is told at the process's end."""
        error = execution.error
        if isinstance(error, Exception) and not isinstance(error, RunCancelled):
            self.unread[execution.id] = (
                f"pipedeco: run {execution.id} of {execution.pipeline.name} failed, and nobody "
                f"asked for its result: {type(error).__name__}: "
                f"{_first_line(error).partition('; see it with')[0]}\n"
                f"see it with: pipedeco show {execution.id}\n"
            )

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        for execution in list(self.live):
            execution.cancel("SIGTERM")
        if any(e.thread is threading.main_thread() for e in self.live):
            raise Terminated
        self.give_way()

    def give_way(self) -> None:
        """Every run is cancelled; let the former disposition of SIGTERM apply."""
        for execution in list(self.live):
            execution.over.wait(10.0)
        if self._former is not None:
            signal.signal(signal.SIGTERM, self._former)
            self._former = None
        os.kill(os.getpid(), signal.SIGTERM)

    def _hook(self) -> None:
        if not self._hooked:
            self._hooked = True
            atexit.register(self.close)
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """In a forked child nothing of this is ours; it is kept, as closing it would harm."""
        self._parents = (self.runners, self.recorders, self.live)
        self.displays.abandon()
        self._lock = threading.Lock()
        self._reset()
        self._hooked = True
        current.set(None)

    def close(self) -> None:
        """At the process's end: leave no process, lose no record."""
        for execution in list(self.live):
            execution.cancel("the process ended")
            execution.over.wait(10.0)
        for text in self.unread.values():
            sys.stderr.write(text)
        for runner in self.runners.values():
            runner.stop()
        for recorder in self.recorders.values():
            recorder.close()
        for runner in self.runners.values():
            runner.close()
        self.runners.clear()
        self.recorders.clear()


CONTROLLER = Controller()


class Plan(NamedTuple):
    """What is to be executed, and how."""

    pipeline: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    mode: str
    workers: int
    start_method: str
    store: str
    progress: str
    parent: Execution | None = None
    parent_step: str | None = None
    resumes: str | None = None  # the id of the run to go on with
    reruns: str | None = None  # the id of the run whose parameters these were


class Execution:
    """One run in the process that performs it.

    Raises StoreError where the store cannot be used, before anything is performed, and RunBusy
    where a living process has the run that is to be resumed.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.pipeline = plan.pipeline
        self.id = plan.resumes or os.urandom(6).hex()
        self.mode = plan.mode
        self.graph = Graph()
        self.thread: threading.Thread | None = None
        self.started = time.time()
        self.status = "running"
        self.error: BaseException | None = None
        self.value: Any = None
        self.over = threading.Event()  # set when all is recorded
        self.children: list[Execution] = []
        self._failures: dict[int, BaseException] = {}
        self._tracebacks: dict[int, TracebackType | None] = {}
        self._cancelled: str | None = None
        self._crash: BaseException | None = None
        self._idle = threading.Event()
        self._process = os.getpid()
        self._progress = 0.0
        self._display: Display | None = None
        self.recorder = CONTROLLER.recorder(plan.store)
        taken = self._take_over()
        # Workers start while the run is recorded.
        self.runner = CONTROLLER.runner(plan.mode, plan.start_method)
        self.blobs = BlobStore(os.path.join(plan.store, "blobs"))
        logs = os.path.join(plan.store, "logs", self.id)
        prefix = "" if taken is None else f"e{taken.epoch}-"  # former logs stay as they are
        facts = RunFacts(
            self.id, plan.workers, plan.start_method, self.blobs, logs, prefix, self.crashed
        )
        self.session = self.runner.open(facts)
        self.codes: Codes | None = None
        self.cache: ResultCache | None = None
        self.resumption: Resumption | None = None
        self.scheduler = Scheduler(
            self.session,
            self.recorder.changed,
            self.recorder.attempt,
            self._start_child,
            self._abort if plan.pipeline.options.on_failure == "abort" else None,
        )
        self.trace = Trace(
            self.graph,
            self,
            self.blobs,
            self.session.prepare,
            self._submit,
            keeps_originals=self.session.in_process,
            make_key=self._make_key if plan.pipeline.options.cache else None,
        )
        self._packer = Pickler(self.blobs)
        self.log = RunLog(
            self._facts(),
            self.graph.steps,
            self.scheduler.active,
            self.crashed,
            cancel=self.cancel,
            code_of=self._code_of,
            capture=CONTROLLER.captures.begin(project_folder()) if plan.parent is None else None,
        )
        if taken is None:
            self.recorder.begin(self, self.log)
        else:
            self._resume(taken)
        CONTROLLER.enter(self)
        if self.session.in_process:  # a step may end this process; the run is known by then
            self.log.begun.wait()

    def execute(self) -> Any:
        """Run the body in this thread; returns its value when everything is recorded.

        Raises what left the body, RunFailed for a failure that the body never read,
        RunCancelled, and StoreError where the records could not be written.
        """
        self.thread = threading.current_thread()
        self._show()
        value, error = self._call_body()
        if os.getpid() != self._process:  # the body forked, and this is the child's way out
            if error is not None:
                raise error
            return value
        try:
            error = self._settle(error)
            self._record_end(value, error)
        except PipedecoError as failure:
            self.status, self.error = "failed", failure
            raise
        finally:
            self._leave()
        if isinstance(error, Terminated):
            CONTROLLER.give_way()
            error = self._run_cancelled()  # a handler of the user's own has returned
        if error is not None:
            raise error
        self.value = value
        return value

    def _show(self) -> None:
        """Begin to show the run, unless its parent is shown or nobody wants it."""
        progress = self.plan.progress
        if self.plan.parent is None and progress != "off":
            live = not self.session.in_process
            self._display = CONTROLLER.displays.open(self, live=live, full=progress == "full")

    def cancel(self, reason: str = "it was cancelled") -> None:
        """Nothing new starts, what runs is stopped; returns at once."""
        if self._cancelled is None and not self.over.is_set():
            self._cancelled = reason
            self.session.post(self.scheduler.cancel, reason)
            for child in list(self.children):
                child.cancel(reason)

    def _abort(self, reason: str) -> None:
        """The first failure cancels the rest, child runs too."""
        self.session.post(self.scheduler.cancel, reason)
        for child in list(self.children):
            child.cancel(reason)

    def crashed(self, error: BaseException) -> None:
        """The runner or the recorder cannot go on."""
        if self._crash is None:
            self._crash = error
            self._cancelled = self._cancelled or f"the run cannot go on: {error}"
            self._idle.set()
            for step in self.graph.steps:
                if step.state not in ENDED:
                    step.reason = self._cancelled
                    step.state = CANCELLED
                    step.call_watchers()

    @property
    def progress(self) -> float:
        """Ended steps of the steps known, or of the last completed run where it had more."""
        if self.status == COMPLETED:
            return 1.0
        now = self.scheduler.ended / max(len(self.graph), self.log.expected, 1)
        if now < 1.0 or self.over.is_set():  # an open body may call more
            self._progress = max(self._progress, now)
        return self._progress

    # -- what is shown while it goes -----------------------------------------------------

    @property
    def name(self) -> str:
        """`training#3`; the number is known once the run is recorded."""
        return f"{self.pipeline.name}#{self.log.number or '?'}"

    @property
    def expected(self) -> tuple[int, float]:
        return self.log.expected, self.log.expected_seconds

    @property
    def ended_steps(self) -> int:
        return self.scheduler.ended

    @property
    def stopping(self) -> str | None:
        return self._cancelled

    def running(self) -> list[tuple[Step, float]]:
        return self.session.running()

    # -- the body ------------------------------------------------------------------------

    def _call_body(self) -> tuple[Any, BaseException | None]:
        watch_threads()
        tokens = current.set(self.trace), inside_step.set(False)
        try:
            return resolve(self.pipeline.fn(*self.plan.args, **self.plan.kwargs)), None
        except BaseException as error:  # noqa: BLE001 - the user's body
            error.__traceback__ = user_part(error.__traceback__)
            if isinstance(error, TypeError) and "StepResult" in str(error):
                error.add_note("a library got a StepResult; pass it pipedeco.value(...) of it")
            return None, error
        finally:
            self.trace.open = False
            current.reset(tokens[0])
            inside_step.reset(tokens[1])

    def _settle(self, error: BaseException | None) -> BaseException | None:
        """Wait until no step is under way; what the run ends with."""
        stopped = error if isinstance(error, KeyboardInterrupt | Terminated) else None
        if stopped is not None:
            self.cancel("it was interrupted")
        self.session.post(self.scheduler.when_idle, self._idle.set)
        while True:
            try:
                if not self._idle.wait(None if stopped is None else STOPPING):
                    self.crashed(PipedecoError(f"run {self.id} did not stop when it was told to"))
                break
            except KeyboardInterrupt as again:
                if stopped is not None:
                    self.session.post(self.session.kill)
                stopped = stopped or again
                self.cancel("it was interrupted")
            except Terminated as again:
                stopped = again
        if self._crash is not None:
            return self._crash
        return stopped or self._verdict(error)

    def _verdict(self, error: BaseException | None) -> BaseException | None:
        if self._cancelled is not None:
            return self._run_cancelled()
        unread = unread_failures(self.graph.steps)
        aborted = self.scheduler.cancelled is not None and isinstance(error, PipedecoError)
        if error is not None and not (aborted and unread):
            return error
        return self._run_failed(unread) if unread else None

    def _run_cancelled(self) -> RunCancelled:
        return RunCancelled(
            f"run {self.id} of {self.pipeline.name} was cancelled: {self._cancelled}; "
            f"see it with: pipedeco show {self.id}",
            run=self.id,
        )

    def _run_failed(self, unread: list[Step]) -> RunFailed:
        first = unread[0]
        cause = self.failure(first)
        others = ", ".join(step.name for step in unread[1:6])
        more = f" (and {len(unread) - 1} more: {others})" if others else ""
        error = RunFailed(
            f"run {self.id} of {self.pipeline.name} failed: step {first.name} raised "
            f"{type(cause).__name__}: {_first_line(cause)}{more}; "
            f"see it with: pipedeco show {self.id}",
            run=self.id,
            step=first.name,
        )
        error.__cause__ = cause
        return error

    # -- records -------------------------------------------------------------------------

    def _facts(self) -> dict[str, Any]:
        plan = self.plan
        bound = bound_arguments(self.pipeline.fn, plan.args, plan.kwargs)
        named = self.pipeline.named_arguments(*bound)
        packed, _ = self._packed(bound)
        return {
            "id": self.id,
            "pipeline": self.pipeline.name,
            "version": self.pipeline.options.version,
            "fn": self.pipeline.fn,
            "mode": self.mode,
            "parent_run": plan.parent.id if plan.parent is not None else plan.reruns,
            "parent_step": plan.parent_step,
            "started": self.started,
            "args": packed,
            "parameters": json.dumps({name: preview(value) for name, value in named}),
            "python": ".".join(map(str, sys.version_info[:3])),
            "host": os.uname().nodename if hasattr(os, "uname") else "",
            "command": json.dumps([str(part) for part in getattr(sys, "argv", [])]),
            **_home(self.pipeline.fn),
        }

    def _packed(self, value: Any) -> tuple[Packed | None, str | None]:
        """A value for the record; what cannot be pickled is recorded by its preview alone."""
        if value is None:
            return None, "None"
        try:
            return self._packer.dump(value, "value"), preview(value)
        except NotPicklable:
            return UNRECORDED, preview(value)

    def _record_end(self, value: Any, error: BaseException | None) -> None:
        stopped = (RunCancelled, KeyboardInterrupt, Terminated)
        status = COMPLETED if error is None else CANCELLED if isinstance(error, stopped) else FAILED
        packed, text = self._packed(value) if error is None else (UNRECORDED, None)
        if isinstance(packed, str):
            self.blobs.sync(packed)  # what leaves the run outlives a power cut
        known = StepError("", "", "", None) if error is None else describe_error(error)
        facts = {
            "status": status,
            "ended": time.time(),
            "steps": len(self.graph),
            "reads": array("I", self.graph.reads).tobytes(),
            "value": packed,
            "preview": text,
            "error_type": known.type or None,
            "error_text": known.text if known.type else None,
            "traceback": known.traceback or None,
            "error": known.pickled,
        }
        self.recorder.end(self, facts)
        self.recorder.flush(self)
        self.error = error
        self.status = status

    def _leave(self) -> None:
        try:
            self.session.close()
            if self.cache is not None:
                self.cache.close()
        finally:
            self.recorder.forget(self)
            CONTROLLER.leave(self)
            try:
                if self._display is not None:
                    CONTROLLER.displays.close(self._display)
            finally:
                self.over.set()

    # -- resuming --------------------------------------------------------------------------

    def _take_over(self) -> TakenOver | None:
        if self.plan.resumes is None:
            return None
        from pipedeco.resuming import take_over

        return take_over(self.plan.store, self.plan.resumes, self.recorder.owner.name)

    def _resume(self, taken: TakenOver) -> None:
        """Go on with what was recorded."""
        from pipedeco.resuming import Resumption

        self.resumption = Resumption(
            taken.earlier, self.blobs, self.session, self._code_keys, self.recorder.attempt
        )
        self.scheduler.recall = self.resumption
        self.recorder.resume(self, self.log, taken.row, taken.epoch)

    # -- code and cache --------------------------------------------------------------------

    def _code_keys(self) -> Codes:
        if self.codes is None:
            self.codes = CONTROLLER.code_keys()
        return self.codes

    def _code_of(self, fn: Any) -> tuple[CodeKey, dict[str, str]]:
        """The key of a function's code, and the texts of what it reaches; for the recorder."""
        codes = self._code_keys()
        return codes.of(fn), codes.sources(fn)

    def _make_key(
        self,
        component: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        inputs: tuple[Step, ...],
    ) -> StepKey:
        """The key of a cached component's step; the first one sets the cache up."""
        if self.cache is None:
            from pipedeco.cache import ResultCache

            folder = self.plan.store
            self.cache = ResultCache(
                folder,
                self.blobs,
                self.session,
                codes=self._code_keys(),
                flights=CONTROLLER.flights_of(folder),
                refresh=self.pipeline.options.refresh,
                fingerprinted=self.recorder.fingerprinted,
            )
            if self.resumption is not None:
                self.resumption.cache = self.cache
            else:
                self.scheduler.recall = self.cache
        return self.cache.make_key(component, args, kwargs, inputs)

    # -- child runs ----------------------------------------------------------------------

    def _submit(self, step: Step) -> None:
        self.session.post(self.scheduler.add, step)
        self.session.called(step)

    def _start_child(self, call: StepCall) -> None:
        call.started(call)
        try:
            self.session.spawn(lambda: self._run_child(call), f"pipedeco-{call.step.name}")
        except RuntimeError as error:  # no more threads
            self.scheduler.finished(call, failed(error, (), time.time(), 0.0))

    def _run_child(self, call: StepCall) -> None:
        """Execute a pipeline that is a step of this run."""
        step = call.step
        begin = time.time()
        interrupt: BaseException | None = None
        try:
            args, kwargs = self.session.arguments(step)
            options = step.called.component.options
            if options.mode not in (None, self.mode):
                raise GraphError(f"a child run is in its parent's mode, {self.mode}")
            plan = self.plan._replace(
                pipeline=self._child_pipeline(step),
                workers=options.workers or self.plan.workers,
                args=args,
                kwargs=kwargs,
                parent=self,
                parent_step=step.name,
                resumes=self._unfinished_child(step, args, kwargs),
            )
            child = Execution(plan)
            self.children.append(child)
            if self._cancelled is not None:
                child.cancel(self._cancelled)
            try:
                value = child.execute()
            finally:
                self.children.remove(child)
            outcome = self._outcome_of(value, begin)
        except RunCancelled:
            outcome = Outcome(CANCELLED, begin, time.time() - begin)
        except (KeyboardInterrupt, Terminated) as error:
            interrupt = error
            outcome = Outcome(CANCELLED, begin, time.time() - begin)
        except BaseException as error:  # noqa: BLE001 - the child's body is the user's
            outcome = failed(error, (), begin, time.time() - begin)
        self.session.post(self.scheduler.finished, call, outcome)
        if interrupt is not None:
            raise interrupt

    def _child_pipeline(self, step: Step) -> Any:
        """What is to be cached or refreshed in a run holds in its child runs, too."""
        child = step.called.component
        options = self.pipeline.options
        changes: dict[str, Any] = {}
        if not options.cache:
            changes["cache"] = False
        if options.refresh and not child.options.refresh:
            changes["refresh"] = options.refresh
        return child.with_options(**changes) if changes else child

    def _unfinished_child(self, step: Step, args: Any, kwargs: Any) -> str | None:
        """The child run that this step began before its own run was resumed."""
        if self.resumption is None:
            return None
        from pipedeco.resuming import unfinished_child

        bound = bound_arguments(step.called.component.fn, args, kwargs)
        return unfinished_child(self.plan.store, self.id, step.name, self._packed(bound)[0])

    def _outcome_of(self, value: Any, begin: float) -> Outcome:
        duration = time.time() - begin
        if self.session.in_process:
            packed, text = self._packed(value)
            return Outcome(COMPLETED, begin, duration, packed, text, worker="body", kept=(value,))
        packed = None if value is None else Pickler(self.blobs).dump(value, "the result")
        main = sys.modules["__main__"].__dict__
        names = () if packed is None else main_names(self.blobs.main_part(packed), main)
        return Outcome(COMPLETED, begin, duration, packed, preview(value), names, worker="body")

    # -- what StepResult and Trace ask ---------------------------------------------------

    def check_open(self) -> None:
        """Whether the body may still make calls."""
        self._check_process()
        if self._cancelled is not None:
            raise self._run_cancelled()
        if not self.trace.open:
            raise GraphError(f"run {self.id} of {self.pipeline.name} has ended; it takes no calls")

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise GraphError(
                f"run {self.id} of {self.pipeline.name} belongs to process {self._process}, from "
                "which this one was forked; only that one can go on with it"
            )

    def wait(self, step: Step, timeout: float | None) -> bool:
        self.trace.read(step)
        if step.state in ENDED:
            return True
        self._check_process()
        if self.session.on_scheduler():
            raise GraphError(
                f"a callback waits for step {step.name}, which cannot go on before it returns"
            )
        return _wait_for(step, timeout)

    def load(self, step: Step) -> Any:
        if step.state not in SUCCESS:
            step.root_failure.read = True
            failure = self.failure(step)
            assert failure is not None
            raise failure.with_traceback(self._tracebacks[step.root_failure.position])
        outcome = step.outcome
        assert outcome is not None
        if outcome.kept is not None:
            return outcome.kept[0]
        try:
            return unpack(outcome.value, self.blobs)
        except BlobCorrupt as error:
            raise BlobCorrupt(f"step {step.name} of run {self.id}: {error}") from error
        except Exception as error:
            raise StepFailed(
                f"step {step.name} of run {self.id} completed, but its value cannot be loaded: "
                f"{type(error).__name__}: {error}",
                run=self.id,
                step=step.name,
            ) from error

    def failure(self, step: Step) -> BaseException | None:
        """The exception that reading this ended step raises, always the same one."""
        if step.state in SUCCESS:
            return None
        root = step.root_failure
        if root.position not in self._failures:
            error = self._make_failure(root)
            self._failures[root.position] = error
            self._tracebacks[root.position] = error.__traceback__  # raising adds to it
        return self._failures[root.position]

    def cancel_step(self, step: Step) -> bool:
        if step.state in ENDED:
            return step.state == CANCELLED
        answered = threading.Event()
        answers: list[bool] = []

        def answer(cancelled: bool) -> None:
            answers.append(cancelled)
            answered.set()

        if self.session.on_scheduler():  # in a callback, which must not wait for its own thread
            self.scheduler.cancel_step(step, answer)
        else:
            self.session.post(self.scheduler.cancel_step, step, answer)
        answered.wait()
        return answers[0]

    def _make_failure(self, step: Step) -> BaseException:
        if step.state != FAILED or step.outcome is None or step.outcome.error is None:
            return self._not_performed(step)
        outcome = step.outcome
        known = outcome.error
        assert known is not None
        error = outcome.exception or _unpacked(known)
        if error is None or not isinstance(error, Exception) or isinstance(error, CONTROL_FLOW):
            error = StepFailed(
                f"step {step.name} of run {self.id} raised {known.type}: {known.text}",
                type=known.type,
                traceback=known.traceback,
            )
            error.add_note(known.traceback)
        if isinstance(error, BlobCorrupt):
            self._name_producer(error, step)
        if isinstance(error, PipedecoError):
            error.__dict__.setdefault("run", self.id)
            error.__dict__.setdefault("step", step.name)
        error.add_note(self._note(step, outcome))
        return error

    def _name_producer(self, error: BlobCorrupt, step: Step) -> None:
        """Say which step's value it is that this one could not read."""
        for dep in step.inputs:
            value = dep.outcome.value if dep.outcome is not None else None
            if isinstance(value, str) and value in str(error):
                error.add_note(f"it is the value of step {dep.name}")

    def _note(self, step: Step, outcome: Outcome) -> str:
        return (
            f"in step {step.name}, attempt {step.attempt} on worker {outcome.worker or '-'}, of run "
            f"{self.id} ({self.pipeline.name}), called at {_place(self.pipeline.fn, step.line)}\n"
            f"see it with: pipedeco show {self.id}; step through it with: "
            f"pipedeco debug {self.id} {_word(step.name)}"
        )

    def _not_performed(self, step: Step) -> BaseException:
        from pipedeco.errors import StepCancelled

        kind = StepCancelled if step.state == CANCELLED else StepSkipped
        return kind(
            f"step {step.name} of run {self.id} was {step.state}: {step.reason or 'by its worker'}",
            run=self.id,
            step=step.name,
        )


def _unpacked(known: StepError) -> BaseException | None:
    try:
        return unpack_exception(known.pickled) if known.pickled is not None else None
    except Exception:  # noqa: BLE001 - the user's exception class; it survived the trip in the worker
        return None


def _place(fn: Callable[..., Any], line: int) -> str:
    code = getattr(fn, "__code__", None)
    return f"{code.co_filename}:{line}" if code is not None else f"line {line}"


def _wait_for(step: Step, timeout: float | None) -> bool:
    ended = threading.Lock()
    ended.acquire()

    def tell(_: Step) -> None:
        ended.release()

    step.watch(tell)
    in_time = ended.acquire(timeout=-1 if timeout is None else max(0.0, timeout))
    if not in_time and step.watchers and tell in step.watchers:
        with contextlib.suppress(ValueError):  # it has just ended
            step.watchers.remove(tell)
    return in_time


def _word(name: str) -> str:
    """A name as one word of a command line."""
    plain = name.replace("-", "").replace("_", "")
    return name if plain.isalnum() else "'" + name.replace("'", "'\\''") + "'"


def _home(fn: Any) -> dict[str, Any]:
    """Where a function is defined, for who looks for it in another process."""
    code = getattr(fn, "__code__", None)
    return {
        "module": str(getattr(fn, "__module__", "")),
        "qualname": str(getattr(fn, "__qualname__", "")),
        "file": os.path.abspath(code.co_filename) if code is not None else None,
    }


def _first_line(error: BaseException | None) -> str:
    lines = error_text(error).splitlines() if error is not None else []
    return lines[0][:200] if lines else ""

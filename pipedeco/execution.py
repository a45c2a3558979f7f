"""One execution of a pipeline in this process: its body, its scheduler, its records.

    body thread        calls components, reads results, waits          Execution.execute
    scheduler thread   decides and dispatches                          Scheduler, through a Session
    recorder thread    commits                                         Recorder

What leaves the run has been committed before.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import os
import sys
import threading
import time
from array import array
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.ambient.numbers import separate
from pipedeco.blobs import blobs_of
from pipedeco.callbacks import EVENTS, functions_for
from pipedeco.clock import RunClock
from pipedeco.components import bound_arguments
from pipedeco.config import SETTINGS, absolute, find_blobs, project_folder
from pipedeco.debuggers import evaluates
from pipedeco.display import Display
from pipedeco.errors import (
    BlobCorrupt,
    GraphError,
    NotPicklable,
    PipedecoError,
    RunCancelled,
    RunFailed,
    StepFailed,
    Terminated,
)
from pipedeco.failures import Failures, exception_of, first_line
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
from pipedeco.interrupts import Interrupts, release_imports, wait_in_parts
from pipedeco.process import CONTROLLER
from pipedeco.reporter import Reporter, StepName
from pipedeco.result import ATOMS, StepResult, check_unpacked, plain
from pipedeco.runners import RunFacts, UnderWay
from pipedeco.runners.modes import traits_of
from pipedeco.scheduler import Scheduler, unread_failures
from pipedeco.serialization import UNRECORDED, Packed, Pickler, main_names, unpack
from pipedeco.store.recorder import RunLog
from pipedeco.text import preview
from pipedeco.tracing import Trace, current, inside_step, reporting, watch_threads
from pipedeco.user_frames import hide_ours
from pipedeco.worker.generators import child_seed
from pipedeco.worker.perform import describe_error, failed
from pipedeco.worker.setups import name_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipedeco.cache import Codes, ResultCache
    from pipedeco.fingerprint.code import CodeKey
    from pipedeco.graph import Called, StepKey
    from pipedeco.hooks import StepHooks
    from pipedeco.resuming import Resumption, TakenOver
    from pipedeco.worker.environment import Surroundings

STOPPING = 20.0  # seconds within which a run that is interrupted must have stopped


class Plan(NamedTuple):
    """What is to be executed, and how."""

    pipeline: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    mode: str
    workers: int
    limit: int | None  # of workers, where anybody has asked for one
    start_method: str
    store: str
    progress: str
    parent: Execution | None = None
    parent_step: str | None = None
    resumes: str | None = None  # the id of the run to go on with
    reruns: str | None = None  # the id of the run whose parameters these were
    around: Surroundings | None = None  # of a child's call, where they are known
    handle: Callable[[Execution], Any] | None = None  # makes the Run that on_run_end gets


class Execution:
    """One run in the process that performs it.

    Raises StoreError where the store cannot be used, before anything is performed, RunBusy where a
    living process has the run that is to be resumed, and ConfigError for an installed callback that
    cannot be used.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.pipeline = plan.pipeline
        self.id = plan.resumes or os.urandom(6).hex()
        self.mode = plan.mode
        self.seed = _seed_of(plan)
        queue = plan.pipeline.options.default_queue
        self.default_queue: str = queue or (plan.parent.default_queue if plan.parent else "default")
        self.graph = Graph()
        self.thread: threading.Thread | None = None
        self.started = time.time()
        self.clock = RunClock()
        self.status = "running"
        self.error: BaseException | None = None
        self.value: Any = None
        self.over = threading.Event()  # set when all is recorded
        self.children: list[Execution] = []
        self._unpacked: list[StepResult[Any]] = []  # by the body, before their values were known
        self.failures = Failures(self.id, plan.pipeline)
        self.interrupts = Interrupts()
        self._cancelled: str | None = None
        self._crash: BaseException | None = None
        self._idle = threading.Event()
        self._lost: list[tuple[Step, Exception]] = []  # steps that nobody will end, and why
        self._contexts: dict[Step, contextvars.Context] = {}  # of the calls of child pipelines
        self._process = os.getpid()
        self._progress = 0.0
        self._display: Display | None = None
        self._recorded = False  # whether the run's end is
        self.hooks: StepHooks | None = None
        self._callbacks = [*CONTROLLER.callbacks(), plan.pipeline.options]
        self.recorder = CONTROLLER.recorder(plan.store, self)
        taken = self._take_over()
        try:
            self._set_up(taken)
        except BaseException as error:
            if taken is not None:  # nobody else can have it while our lock lives
                from pipedeco.resuming import give_up

                give_up(plan.store, self.id, taken.epoch, error)
            raise

    def _set_up(self, taken: TakenOver | None) -> None:
        """Make what performs and records the run, and begin to record it."""
        plan = self.plan
        # Workers start while the run is recorded.
        self.runner = CONTROLLER.runner(plan.mode, plan.start_method)
        self.blobs = blobs_of(plan.store, lazy=_stay_elsewhere(plan.mode))
        logs = os.path.join(plan.store, "logs", self.id)
        prefix = "" if taken is None else f"e{taken.epoch}-"  # former logs stay as they are
        facts = RunFacts(
            self.id,
            self.pipeline.name,
            plan.workers,
            plan.limit,
            plan.start_method,
            self.default_queue,
            self.blobs,
            logs,
            prefix,
            plan.pipeline.options.auto_log,
            self.crashed,
            self.top.id,
            self.seed,
            self.setups,
            self.setup_failed,
            plan.around,
            plan.parent.id if plan.parent is not None else "",
        )
        body = os.path.join(logs, f"{prefix}body.events")
        self.reporter = Reporter(_no_step)
        self.reporter.enter(self.id, self.pipeline.name, body, self.blobs)
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
            self._prepare,
            self._submit,
            keeps_originals=self.session.in_process,
            make_key=self._make_key if plan.pipeline.options.cache else None,
        )
        self._packer = Pickler(self.blobs, {StepResult: self._met_result})
        self._hides_result = False
        self.log = RunLog(
            self._facts(),
            self.graph.steps,
            self.scheduler.active,
            self.crashed,
            cancel=self.cancel,
            release=self.release,
            code_of=self._code_of,
            progress=lambda: self.progress,
            logs=logs,
            body=body,
            tags=plan.pipeline.options.tags,
            seed=self.seed,
            capture=CONTROLLER.captures.begin(project_folder()) if plan.parent is None else None,
        )
        if any(functions_for(event, self._callbacks) for event in EVENTS):
            self._hook()
        if taken is None:
            self.recorder.begin(self, self.log)
        else:
            self._resume(taken)
        self.thread = threading.current_thread()  # whose signals are kept from now on
        CONTROLLER.enter(self)
        if self.session.in_process:  # a step may end this process; the run is known by then
            self.log.begun.wait()

    def execute(self) -> Any:
        """Run the body in this thread; returns its value when everything is recorded.

        Raises what left the body, RunFailed for a failure that the body never read,
        RunCancelled, and StoreError where the records could not be written.
        """
        __tracebackhide__ = True
        self.thread = threading.current_thread()
        self._show()
        value, error = self._call_body()
        if os.getpid() != self._process:  # the body forked, and this is the child's way out
            if error is not None:
                raise error
            return value
        try:
            error = self._settle(error)
            value, error = self._record_end(value, error)
            error = self._tell_end(error)
        except PipedecoError as failure:
            self.status, self.error = "failed", failure
            raise
        finally:
            self._leave()
        error = self.interrupts.kept or error  # one that came while we recorded
        if isinstance(error, Terminated) and self.plan.parent is None:
            CONTROLLER.give_way()
            error = self._run_cancelled()  # a handler of the user's own has returned
        if error is not None:
            raise error
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
            self.session.tell(self.scheduler.cancel, reason)
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
    def top(self) -> Execution:
        """The run at the top of the tree."""
        return self if self.plan.parent is None else self.plan.parent.top

    @property
    def setups(self) -> tuple[Callable[[], Any], ...]:
        """What a worker calls before its first step: as configured, then from the top down."""
        own = self.pipeline.options.setup
        found = [SETTINGS.setup] if self.plan.parent is None else [*self.plan.parent.setups]
        return tuple(dict.fromkeys(setup for setup in [*found, own] if setup is not None))

    def setup_failed(self, name: str, known: StepError, error: BaseException | None) -> None:
        """A function of setup= has failed, in a worker or here; the run ends with that."""
        if self._crash is not None or self._cancelled is not None:
            return
        name = name or " or ".join(map(name_of, self.setups))
        outcome = Outcome(FAILED, time.time(), 0.0, error=known, exception=error)
        cause = exception_of(outcome, f"setup={name}")
        self._crash = RunFailed(
            f"run {self.id} of {self.pipeline.name} failed: setup={name}, which is called before a "
            f"worker's first step, raised {known.type}: {first_line(cause)}",
            run=self.id,
        )
        self._crash.__cause__ = cause
        self.cancel(f"setup={name} raised {known.type}")

    @property
    def progress(self) -> float:
        """Ended steps of the steps known, or of the last completed run where it had more."""
        return self._progress_by(self.share)

    def _progress_by(self, share: float) -> float:
        if self.status == COMPLETED:
            return 1.0
        now = share / max(len(self.graph), self.log.expected, 1)
        if now < 1.0 or self._recorded or self.over.is_set():  # an open body may call more
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
    def share(self) -> float:
        """Ended steps, and of those under way the part that they have told of."""
        shares: dict[Execution, float] = {}
        for run in reversed(self._tree()):  # no recursion: runs nest as deep as they like
            own = sum(one.progress for one in run.session.running())
            known = [child for child in list(run.children) if child in shares]
            below = sum(child._progress_by(shares[child]) for child in known)
            shares[run] = run.scheduler.ended + own + below
        return shares[self]

    def _tree(self) -> list[Execution]:
        """This run and those below it, each after its parent."""
        found = [self]
        for run in found:
            found += list(run.children)
        return found

    @property
    def stopping(self) -> str | None:
        return self._cancelled

    def waiting(self) -> list[str]:
        return list(self.hooks.drafts.waiting) if self.hooks is not None else []

    def running(self) -> list[UnderWay]:
        return self.session.running()

    def preparing(self) -> list[str]:
        return self.session.preparing()

    # -- the body ------------------------------------------------------------------------

    def _call_body(self) -> tuple[Any, BaseException | None]:
        __tracebackhide__ = True
        watch_threads()
        tokens = current.set(self.trace), inside_step.set(False), reporting.set(self.reporter)
        try:
            self.interrupts.open()
            return self._settled(self.pipeline.fn(*self.plan.args, **self.plan.kwargs)), None
        except BaseException as error:  # noqa: BLE001 - the user's body
            self.interrupts.raises = (
                False  # first of all: another signal must not meet what follows
            )
            hide_ours(error)
            if isinstance(error, TypeError) and "StepResult" in str(error):
                error.add_note("a library got a StepResult; pass it pipedeco.value(...) of it")
            return None, error
        finally:
            self.interrupts.raises = False
            self.trace.open = False
            current.reset(tokens[0])
            inside_step.reset(tokens[1])
            reporting.reset(tokens[2])

    def _settled(self, returned: Any) -> Any:
        """What the body returns, without results in it."""
        value = plain(returned)
        if type(value) in ATOMS:
            return value
        if type(value) is list and set(map(type, value)) == {StepResult}:  # a fan-out
            value[:] = [one.result() for one in value]
            return value
        from pipedeco.resolving import settled

        return settled(value, self.pipeline.name)

    def _settle(self, error: BaseException | None) -> BaseException | None:
        """Wait until no step is under way; what the run ends with."""
        stopped = error if isinstance(error, KeyboardInterrupt | Terminated) else None
        if stopped is not None:
            release_imports()
            self.cancel("it was interrupted")
            self._cancel_orphans()
        for step, reason in self._lost:
            self.session.post(self.scheduler.give_up, step, reason)
        self.session.post(self.scheduler.when_idle, self._idle.set)
        while True:
            try:
                self.interrupts.open(once=True)
                in_time = wait_in_parts(self._idle.wait, None if stopped is None else STOPPING)
                self.interrupts.raises = False
                if not in_time:
                    self.crashed(PipedecoError(f"run {self.id} did not stop when it was told to"))
                break
            except KeyboardInterrupt as again:
                if stopped is not None:
                    self.session.post(self.session.kill)
                    if self.hooks is not None:
                        self.session.post(self.hooks.give_up)
                stopped = stopped or again
                self.cancel("it was interrupted")
                self._cancel_orphans()
            except Terminated as again:
                stopped = again
                self._cancel_orphans()
        if self._crash is not None:
            return self._crash
        return stopped or self._verdict(error)

    def _cancel_orphans(self) -> None:
        """End what is under way where only this thread, which waits for it, could perform it."""
        if self.session.in_process:
            for step in list(self.scheduler.active):
                self.session.post(self.scheduler.settle, step, CANCELLED, None, self._cancelled)

    def _verdict(self, error: BaseException | None) -> BaseException | None:
        if self._cancelled is not None:
            return self._run_cancelled()
        unread = unread_failures(self.graph.steps)
        aborted = self.scheduler.cancelled is not None and isinstance(error, PipedecoError)
        if error is not None and not (aborted and unread):
            return error
        return self._run_failed(unread) if unread else self._unpacked_wrongly()

    def _unpacked_wrongly(self) -> BaseException | None:
        """What unpacking a result raises whose outputs nobody has looked at."""
        try:
            check_unpacked(self._unpacked, self.graph.steps)
        except Exception as error:  # noqa: BLE001 - the user's value may be of any class
            return error
        return None

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
            f"{type(cause).__name__}: {first_line(cause)}{more}; "
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

    def _met_result(self, result: StepResult[Any]) -> Any:
        """The reducer of a result that an object of a library's class hides."""
        self._hides_result = True
        return result.__reduce__()

    def _packed_end(
        self, value: Any, error: BaseException | None
    ) -> tuple[Packed | None, str | None, Any, BaseException | None]:
        """What the run ends with, packed, and without a result in it."""
        if error is not None:
            return UNRECORDED, None, value, error
        self._hides_result = False
        try:
            packed, text = self._packed(value)
            if self._hides_result and packed != UNRECORDED:
                value = unpack(packed, self.blobs)
        except Exception as failure:  # noqa: BLE001 - of a step whose result is hidden in the value, or of its class
            return UNRECORDED, None, None, failure
        return packed, text, value, None

    def _record_end(
        self, value: Any, error: BaseException | None
    ) -> tuple[Any, BaseException | None]:
        """Record what the run ends with; returns that."""
        packed, text, value, error = self._packed_end(value, error)
        stopped = (RunCancelled, KeyboardInterrupt, Terminated)
        status = COMPLETED if error is None else CANCELLED if isinstance(error, stopped) else FAILED
        if isinstance(packed, str):
            self.blobs.sync(packed)  # what leaves the run outlives a power cut
        known = StepError("", "", "", None) if error is None else describe_error(error)
        ended = time.time()
        facts = {
            "status": status,
            "ended": ended,
            "seconds": self.clock.seconds(self.log.facts["started"], ended),
            "steps": len(self.graph),
            "reads": array("I", self.graph.reads).tobytes(),
            "value": packed,
            "preview": text,
            "error_type": known.type or None,
            "error_text": known.text if known.type else None,
            "traceback": known.traceback or None,
            "error": known.pickled,
        }
        self.reporter.finish()
        self.recorder.end(self, facts)
        self.recorder.flush(self)
        self.error = error
        self.value = value if error is None else None
        self.status = status
        self._recorded = True
        return value, error

    def _tell_end(self, error: BaseException | None) -> BaseException | None:
        """Call on_run_end; what the run ends with then.  What it raises is recorded, too."""
        if self.hooks is None or self.plan.handle is None:
            return error
        try:
            self.interrupts.open(once=True)
            raised = self.hooks.run_ended(self.plan.handle(self))
        except (KeyboardInterrupt, Terminated) as stopped:
            raised = stopped
        finally:
            self.interrupts.raises = False
        self.reporter.finish()
        self.recorder.reported(self)
        if raised is None:
            self.recorder.flush(self)
            return error
        if raised is not error:
            if raised.__context__ is None:  # its class may forbid to set attributes
                object.__setattr__(raised, "__context__", error)
            self._record_end(None, raised)
        return raised

    def _leave(self) -> None:
        try:
            self.session.close()
            if self.hooks is not None:
                self.hooks.beside.close()
            self.reporter.close()
            if self.cache is not None:
                self.cache.close()
        finally:
            CONTROLLER.leave(self)
            try:
                if self._display is not None:
                    CONTROLLER.displays.close(self._display)
            finally:
                self.over.set()
                self.recorder.forget(self)  # which may be closed from now on

    # -- resuming --------------------------------------------------------------------------

    def _take_over(self) -> TakenOver | None:
        if self.plan.resumes is None:
            return None
        from pipedeco.resuming import take_over

        child = self.plan.parent is not None
        return take_over(
            self.plan.store,
            self.plan.resumes,
            self.recorder.owner.name,
            mode=self.plan.mode,
            completed=child,  # its parent has not recorded its value
            step=self.plan.parent_step,
        )

    def _resume(self, taken: TakenOver) -> None:
        """Go on with what was recorded."""
        from pipedeco.resuming import Resumption

        self.clock.before = taken.seconds
        self.log.facts["started"] = taken.row["started"]
        self.resumption = Resumption(
            *(taken, self.blobs, self.session),
            codes=self._code_keys,
            attempt=self.recorder.attempt,
            moved=self.recorder.moved,
            seeded=self.seed is not None,
        )
        self.scheduler.recall = self.resumption
        self.recorder.resume(self, self.log, taken.row, taken.epoch)

    # -- code and cache --------------------------------------------------------------------

    def _code_keys(self) -> Codes:
        if self.codes is None:
            parent = self.plan.parent
            self.codes = CONTROLLER.code_keys() if parent is None else parent._code_keys()
        return self.codes

    def _code_of(self, fn: Any) -> tuple[CodeKey, dict[str, str]]:
        """The key of a function's code, and the texts of what it reaches; for the recorder."""
        codes = CONTROLLER.recorded_code()
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
                self.log.logs,
                self.session,
                codes=self._code_keys(),
                flights=CONTROLLER.flights_of(folder),
                refresh=self.pipeline.options.refresh,
                seed=self.seed,
                fingerprinted=self.recorder.fingerprinted,
            )
            if self.resumption is not None:
                self.resumption.cache = self.cache
            else:
                self.scheduler.recall = self.cache
        return self.cache.make_key(component, args, kwargs, inputs)

    # -- callbacks and drafts --------------------------------------------------------------

    def _hook(self) -> None:
        """From now on somebody is asked, or told, of steps."""
        from pipedeco.hooks import StepHooks

        self.hooks = StepHooks(self, self._callbacks, self.recorder.changed)
        self.log.drafts = self.hooks.drafts.waiting
        self.scheduler.hooks = self.hooks

    def _prepare(self, called: Called) -> None:
        """Look at what is about to be called for the first time."""
        self.session.prepare(called)
        if self.hooks is None and called.options.holds_steps:
            self._hook()

    def in_callback(self) -> bool:
        """Whether the caller is in a callback of this run, or of a child: it must not wait for us."""
        if self.hooks is not None and self.hooks.beside.here:
            return True
        return any(child.in_callback() for child in list(self.children))

    def wait_until_over(self, timeout: float | None) -> bool:
        """Wait until the run has ended and is recorded; False where the time is over before.

        Raises GraphError in a callback of a step, for which the run waits.
        """
        if self.in_callback():
            if self._recorded:  # it is on_run_end that asks
                return True
            raise GraphError(
                f"a callback of run {self.id} waits for the run, which cannot end before it returns"
            )
        return wait_in_parts(self.over.wait, timeout)

    def release(self, name: str) -> bool:
        """Let a draft step go on; whether it waits for that."""
        hooks = self.hooks
        if hooks is None or name not in hooks.drafts.waiting:
            return False
        self.session.tell(hooks.drafts.release, name)
        return True

    # -- child runs ----------------------------------------------------------------------

    def _submit(self, step: Step) -> None:
        __tracebackhide__ = True
        self.session.note(step)
        if step.called.is_pipeline and not self.session.in_process:
            self._contexts[step] = context = contextvars.copy_context()
            context.run(separate)
        try:
            if step.called.is_pipeline and self.session.in_process:
                with CONTROLLER.recursion:
                    self.session.post(self.scheduler.add, step)
            else:
                self.session.post(self.scheduler.add, step)
        except Exception as error:  # where the body is near Python's recursion limit
            self._lost.append((step, error))
            raise
        self.session.called(step)

    def _start_child(self, call: StepCall) -> None:
        __tracebackhide__ = True
        call.started(call)
        context = self._contexts.pop(call.step, None)

        def body() -> None:
            __tracebackhide__ = True
            if context is None:
                self._run_child(call)
            else:
                context.run(self._run_child, call)

        try:
            self.session.spawn(body, f"pipedeco-{call.step.name}")
        except RuntimeError as error:  # no more threads
            self.scheduler.finished(call, failed(error, (), time.time(), 0.0))

    def _run_child(self, call: StepCall) -> None:
        """Execute a pipeline that is a step of this run."""
        __tracebackhide__ = True
        step = call.step
        begin, clock = time.time(), time.perf_counter()
        interrupt: BaseException | None = None
        try:
            args, kwargs = self.session.arguments(step)
            options = step.called.component.options
            if options.mode not in (None, self.mode):
                raise GraphError(f"a child run is in its parent's mode, {self.mode}")
            plan = self.plan._replace(
                pipeline=self._child_pipeline(step),
                workers=options.workers or self.plan.workers,
                limit=options.workers or self.plan.limit,
                args=args,
                kwargs=kwargs,
                parent=self,
                parent_step=step.name,
                around=self.session.surroundings_at(step),
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
            outcome = self._outcome_of(value, begin, time.perf_counter() - clock)
        except RunCancelled:
            outcome = Outcome(CANCELLED, begin, time.perf_counter() - clock)
        except (KeyboardInterrupt, Terminated) as error:
            interrupt = error
            outcome = Outcome(CANCELLED, begin, time.perf_counter() - clock)
        except BaseException as error:  # noqa: BLE001 - the child's body is the user's
            outcome = failed(error, (), begin, time.perf_counter() - clock)
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
        bound = bound_arguments(step.called.component.fn, args, kwargs)
        return self.resumption.unfinished_child(step, self._packed(bound)[0])

    def _outcome_of(self, value: Any, begin: float, duration: float) -> Outcome:
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
        if self.session.on_scheduler() or self.in_callback():
            raise GraphError(
                f"a callback waits for step {step.name}, which cannot go on before it returns"
            )
        return _wait_for(step, timeout)

    def unpacks(self, result: StepResult[Any]) -> None:
        self._unpacked.append(result)

    def load(self, step: Step) -> Any:
        outcome = step.outcome
        if outcome is not None and outcome.logs is not None:
            self.session.catch_up(outcome.logs)  # its output is shown before anybody acts on it
        if step.state not in SUCCESS:
            if not evaluates():
                step.root_failure.read = True
            raise self.failures.fresh(step)
        assert outcome is not None
        return self.value_of(step, outcome)

    def recorded(self, step: Step) -> Any:
        assert step.outcome is not None
        return self.value_of(step, step.outcome._replace(kept=None))

    def value_of(self, step: Step, outcome: Outcome) -> Any:
        """The value of a step that ended so."""
        if outcome.kept is not None:
            return outcome.kept[0]
        try:
            return unpack(outcome.value, self.blobs)
        except BlobCorrupt as error:
            raise BlobCorrupt(f"step {step.name} of run {self.id}: {error}") from error
        except Exception as error:
            raise StepFailed(
                f"step {step.name} of run {self.id} completed, but its value cannot be loaded: "
                f"{type(error).__name__}: {error}{_of_environment(step)}",
                run=self.id,
                step=step.name,
            ) from error

    def failure(self, step: Step) -> BaseException | None:
        """The exception that reading this ended step raises, always the same one."""
        if step.outcome is not None and step.outcome.logs is not None:
            self.session.catch_up(step.outcome.logs)
        return None if step.state in SUCCESS else self.failures.of(step)

    def cancel_step(self, step: Step) -> bool:
        if step.state in ENDED:
            return step.state == CANCELLED
        answered = threading.Event()
        answers: list[bool] = []

        def answer(cancelled: bool) -> None:
            answers.append(cancelled)
            answered.set()

        # In a callback, which must not wait for its own thread.
        if self.session.on_scheduler() or (self.session.in_process and self.in_callback()):
            self.scheduler.cancel_step(step, answer)
        else:
            self.session.post(self.scheduler.cancel_step, step, answer)
        wait_in_parts(answered.wait, None)
        return answers[0]


def _seed_of(plan: Plan) -> int | None:
    """The pipeline's own, or one that is made of its parent's."""
    own: int | None = plan.pipeline.options.seed
    parent = plan.parent
    if own is not None or parent is None or parent.seed is None:
        return own
    return child_seed(parent.seed, plan.parent_step or "")


def _no_step(_call: Any) -> StepName:
    """What reports in a body speaks of no step."""
    return StepName("", "", 0, 0)


def _wait_for(step: Step, timeout: float | None) -> bool:
    ended = threading.Lock()
    ended.acquire()

    def tell(_: Step) -> None:
        ended.release()

    step.watch(tell)
    in_time = wait_in_parts(lambda seconds: ended.acquire(timeout=seconds), timeout)
    if not in_time and step.watchers and tell in step.watchers:
        with contextlib.suppress(ValueError):  # it has just ended
            step.watchers.remove(tell)
    return in_time


def _home(fn: Any) -> dict[str, Any]:
    """Where a function is defined, for who looks for it in another process."""
    code = getattr(fn, "__code__", None)
    return {
        "module": str(getattr(fn, "__module__", "")),
        "qualname": str(getattr(fn, "__qualname__", "")),
        "file": absolute(code.co_filename) if code is not None else None,
    }


def _of_environment(step: Step) -> str:
    """What to do where a value is of a class that only the step's own environment has."""
    environment = step.called.environment
    if environment is None:
        return ""
    return (
        f"; it was made in an environment of its own ({environment.text}): return plain values "
        "from there, or install here what its class needs"
    )


def _stay_elsewhere(mode: str) -> bool:
    """Whether those who perform steps have values from an object store, as this process has."""
    return traits_of(mode).elsewhere and find_blobs() is not None

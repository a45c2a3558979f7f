"""Who is asked before a step goes on, and told of it: users' callbacks, and drafts' releases.

    scheduler's thread   a step is ready, or its last attempt is over: it is held here
    callbacks' thread    users' functions are called, one after another       runners.Beside
    scheduler's thread   the verdict comes by `post`, and the step goes on

The scheduler waits for nobody; where a step is not held any more (its run was cancelled), the
verdict is dropped.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pipedeco.callbacks import StepView, callback_name, functions_for
from pipedeco.drafts import Drafts
from pipedeco.errors import Terminated
from pipedeco.failures import exception_of, place
from pipedeco.graph import (
    CACHED,
    CANCELLED,
    COMPLETED,
    ENDED,
    FAILED,
    PENDING,
    QUEUED,
    SUCCESS,
    Called,
    Outcome,
    Step,
)
from pipedeco.interrupts import wait_in_parts
from pipedeco.serialization import UNRECORDED, unpack_arguments
from pipedeco.tracing import current, inside_step, reporting
from pipedeco.user_frames import put_note
from pipedeco.worker.perform import failed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipedeco.blobs import BlobStore
    from pipedeco.reporter import Reporter
    from pipedeco.runners import Session
    from pipedeco.scheduler import Scheduler

GRACE = 5.0  # seconds that callbacks under way have to end once the run is cancelled
INTERRUPTS = (KeyboardInterrupt, Terminated)


class Hooked(Protocol):
    """What is asked of the run."""

    id: str
    pipeline: Any
    blobs: BlobStore
    session: Session
    scheduler: Scheduler
    reporter: Reporter

    def value_of(self, step: Step, outcome: Outcome) -> Any:
        """The value of a step that ended so."""

    def crashed(self, error: BaseException) -> None: ...


class Listeners(NamedTuple):
    """The functions that are called for the steps of one component, in order."""

    before: tuple[Callable[..., Any], ...]
    after: tuple[Callable[..., Any], ...]
    status: tuple[Callable[..., Any], ...]


class Failure(NamedTuple):
    """What a callback raised, as the end of the step that it concerns."""

    outcome: Outcome
    reason: str


class End(NamedTuple):
    """How a step ends."""

    state: str
    outcome: Outcome | None
    reason: str | None = None


class StepHooks:
    """The callbacks and drafts of one run; a scheduler's Hooks.

    Parameters
    ----------
    run: of which the steps are.
    sources: of the callbacks that hold for all its steps: `Callback` objects and options.
    record: called with a step whose reason has changed.
    """

    def __init__(self, run: Hooked, sources: Sequence[Any], record: Callable[[Step], None]) -> None:
        self.run = run
        self.sources = sources
        self.drafts = Drafts(run.id, run.pipeline.name, run.session, record)
        self.beside = run.session.beside(f"pipedeco-callbacks-{run.id}")
        self._listeners: dict[Called, Listeners] = {}
        self._jobs: dict[_Job, None] = {}  # that have no verdict yet
        self._held: dict[Step, End | None] = {}  # with the end that it comes to, if it does
        self._told: dict[Step, str] = {}  # the states that callbacks know, until the end
        self._raised: dict[Step, Failure] = {}  # for steps that still run
        self._settled: set[Step] = set()  # whose end is not to be held again
        self._kept: set[Step] = set()  # of a resumed run, and not performed again
        self._now = ""  # what is being called
        self._interrupted: set[Any] = set()  # functions in which Ctrl-C came: not called again
        self._stopped = False  # the run is cancelled
        self._deaf = False  # nobody is asked or told any more

    # -- what the scheduler asks, on its thread --------------------------------------------------

    def covers(self, step: Step) -> bool:
        return any(self._of(step.called)) or step.called.options.draft

    def holds_start(self, step: Step) -> bool:
        listeners = self._of(step.called)
        first = step.attempt == 0
        draft = first and step.called.options.draft
        if self._deaf or not (draft or listeners.status or (first and listeners.before)):
            return False
        if first and self.run.scheduler.keeps(step):
            self._kept.add(step)
        if step in self._kept:
            return False
        self._held[step] = None
        if draft:
            self.drafts.hold(step, self._ask)
        else:
            self._ask(step)
        return True

    def holds_end(self, step: Step, state: str) -> bool:
        if step in self._settled:
            self._settled.discard(step)
            return False
        if self._deaf or state == CANCELLED or step in self._kept:
            return False
        listeners = self._of(step.called)
        if not listeners.status and not (listeners.after and step.attempt):
            return False
        end = End(state, step.outcome)
        step.outcome = None  # nobody gets it before
        self._held[step] = end
        self._put(step, partial(self._end, end), self._ended)
        return True

    def changed(self, step: Step) -> None:
        state = step.state
        if state in ENDED and step.called.options.draft:
            self.drafts.forget(step)
        if not self._of(step.called).status:
            return
        if step in self._kept:
            if state in ENDED:
                self._kept.discard(step)
        elif state in ENDED and self._told.get(step) == state:
            del self._told[step]
        elif not self._deaf:
            self._put(step, partial(self._change, state), self._change_told)

    def stop(self) -> None:
        self._stopped = True
        for job in list(self._jobs):
            self._bound(job)

    def _bound(self, job: _Job) -> None:
        """The run is cancelled: a callback has so long, counted from when it could be called."""
        if not self.beside.in_place:
            self.run.session.later(GRACE, self._check, job)

    def _check(self, job: _Job) -> None:
        if job in self._jobs:
            self.give_up()

    @property
    def busy(self) -> bool:
        return bool(self._jobs)

    def give_up(self) -> None:
        """A callback does not return: go on without it, and without those behind it."""
        if not self._jobs:
            return
        import logging

        logging.getLogger("pipedeco").warning(
            "run %s goes on without %s, which has not returned", self.run.id, self._now
        )
        self._deaf = True
        self._jobs.clear()
        self.beside.renew()
        held, self._held = self._held, {}
        for step, end in held.items():
            if end is not None:  # it was performed, whatever its callbacks would have said
                self.run.scheduler.settle(step, end.state, end.outcome)
            else:
                self.run.scheduler.settle(step, CANCELLED, None, "its callbacks did not return")
        self.run.scheduler.check_idle()

    # -- the run's end, in the thread that executes it -------------------------------------------

    def run_ended(self, run: Any) -> BaseException | None:
        """Call `on_run_end`; what the first of them raised.

        Raises KeyboardInterrupt and Terminated where a signal ends the waiting.
        """
        functions = functions_for("on_run_end", self.sources)
        if not functions:
            return None
        raised: list[BaseException] = []
        done = threading.Event()
        self.beside.put(partial(self._end_run, functions, run, raised, done))
        wait_in_parts(done.wait, None)
        return raised[0] if raised else None

    def _end_run(
        self,
        functions: Sequence[Callable[..., Any]],
        run: Any,
        raised: list[BaseException],
        done: threading.Event,
    ) -> None:
        # Another run may be started here; what is reported is of this one.
        tokens = current.set(None), inside_step.set(False), reporting.set(self.run.reporter)
        try:
            for function in functions:
                what = f"on_run_end callback {callback_name(function)} of run {self.run.id}"
                self._now = what
                try:
                    function(run)
                except BaseException as error:  # the user's function
                    if self.beside.in_place and isinstance(error, INTERRUPTS):
                        raise
                    put_note(error, f"in {what} ({self.run.pipeline.name})")
                    if raised:
                        _log(what, error)
                    raised.append(error)
        finally:
            current.reset(tokens[0])
            inside_step.reset(tokens[1])
            reporting.reset(tokens[2])
            done.set()

    # -- verdicts, on the scheduler's thread -----------------------------------------------------

    def _ask(self, step: Step) -> None:
        self._put(step, self._verdict, self._asked)

    def _asked(self, step: Step, verdict: Failure | str | None) -> None:
        if step not in self._held:
            return
        del self._held[step]
        scheduler = self.run.scheduler
        if verdict is None:
            scheduler.start(step)
        elif isinstance(verdict, str):
            scheduler.skip(step, verdict)
        else:
            scheduler.settle(step, FAILED, *verdict)

    def _ended(self, step: Step, end: End) -> None:
        if step in self._held:
            del self._held[step]
            if step.state not in ENDED:
                self._settled.add(step)
                self.run.scheduler.settle(step, *end)

    def _change_told(self, step: Step, failure: Failure | None) -> None:
        if step.state not in ENDED:
            return
        self._told.pop(step, None)
        failure = self._raised.pop(step, None) or failure
        if failure is not None:
            self.run.scheduler.fail_cancelled(step, *failure)

    def _put(self, step: Step, work: Callable[[Step], Any], then: Callable[..., None]) -> None:
        """Have `work(step)` done beside; `then(step, what it gave)` follows here."""
        job = _Job(self, step, work, then)
        self._jobs[job] = None
        if self._stopped:
            self._bound(job)
        self.beside.put(job)

    def done(self, job: _Job, verdict: Any) -> None:
        if job in self._jobs:
            del self._jobs[job]
            job.then(job.step, verdict)
            self.run.scheduler.check_idle()

    def dropped(self, job: _Job, error: BaseException) -> None:
        """A signal has ended the call of a callback, or we have failed."""
        if not isinstance(error, INTERRUPTS):
            self.run.crashed(error)
        if self._jobs.pop(job, self) is None and job.step in self._held:
            del self._held[job.step]
            self.run.scheduler.settle(job.step, CANCELLED, None, "it was interrupted")

    # -- calls, beside ---------------------------------------------------------------------------

    def _verdict(self, step: Step) -> Failure | str | None:
        """What callbacks say of a step that is ready: None lets it run, a text skips it."""
        if step.state in ENDED:  # cancelled before its turn came
            return None
        failure = self._raised.pop(step, None)
        if failure is not None:
            return failure
        before = self._of(step.called).before
        if before and step.attempt == 0:
            verdict = self._before(step, before)
            if verdict is not None:
                return verdict
        return self._tell(step, QUEUED, None, attempt=step.attempt + 1)

    def _before(self, step: Step, functions: Sequence[Callable[..., Any]]) -> Failure | str | None:
        try:
            inputs = self._inputs(step)
        except Exception as error:  # noqa: BLE001 - users' classes are loaded here
            return self._failure(step, f"loading the inputs for before_step of {step.name}", error)
        view = self._view(step, step.state, None)
        for function in functions:
            answer, failure = self._call(step, "before_step", function, view, dict(inputs))
            if failure is not None:
                return failure
            if answer is False:
                return f"before_step callback {callback_name(function)} returned False"
        return None

    def _end(self, end: End, step: Step) -> End:
        """Tell of a step's end; how it ends by what callbacks say."""
        earlier = self._raised.pop(step, None)
        if earlier is not None and end.state not in (FAILED, CANCELLED):
            end = _failed(end, earlier)
        if step.attempt and end.state in (COMPLETED, CACHED, FAILED):
            for function in self._of(step.called).after:
                view = self._view(step, end.state, end.outcome)
                _, failure = self._call(step, "after_step", function, view)
                end = self._minding(end, failure)
        failures: dict[Any, Failure] = {}
        self._tell(step, end.state, end.outcome, failures=failures)
        for failure in failures.values():
            end = self._minding(end, failure)
        self._tell(step, end.state, end.outcome, failures=failures)  # where it fails by that
        return end

    def _minding(self, end: End, failure: Failure | None) -> End:
        """An end after a callback that may have raised; of several errors the first one counts."""
        if failure is None:
            return end
        if end.state == FAILED:
            exception = failure.outcome.exception
            assert exception is not None
            _log(failure.outcome.raised_by or "", exception)
            return end
        return _failed(end, failure)

    def _change(self, state: str, step: Step) -> Failure | None:
        failure = self._tell(step, state, None)
        if failure is not None and state not in ENDED:
            self._raised.setdefault(step, failure)
        return failure

    def _tell(
        self,
        step: Step,
        state: str,
        outcome: Outcome | None,
        *,
        attempt: int | None = None,
        failures: dict[Any, Failure] | None = None,
    ) -> Failure | None:
        """Tell of a new state those who have not raised; the first failure.

        Parameters
        ----------
        failures: who has raised, and what; gets those who do now.
        """
        functions = self._of(step.called).status
        previous = self._told.get(step, PENDING)
        if not functions or previous == state:
            return None
        self._told[step] = state
        failures = {} if failures is None else failures
        view = self._view(step, state, outcome, attempt)
        for function in functions:
            if function not in failures:
                _, failure = self._call(step, "on_status_change", function, view, previous)
                if failure is not None:
                    failures[function] = failure
        return next(iter(failures.values()), None)

    def _call(
        self, step: Step, event: str, function: Callable[..., Any], *args: Any
    ) -> tuple[Any, Failure | None]:
        if function in self._interrupted:
            return None, None
        what = f"{event} callback {callback_name(function)}"
        self._now = f"{what} of step {step.name}"
        try:
            return function(*args), None
        except BaseException as error:  # the user's function: SystemExit, too, fails the step
            if self.beside.in_place and isinstance(error, INTERRUPTS):
                self._interrupted.add(function)
                raise
            return None, self._failure(step, what, error)

    def _failure(self, step: Step, what: str, error: BaseException) -> Failure:
        whole = f"{what} of step {step.name} of run {self.run.id}"
        pipeline = self.run.pipeline
        put_note(
            error,
            f"in {whole} ({pipeline.name}), called at {place(pipeline.fn, step.line)}\n"
            f"see it with: pipedeco show {self.run.id}",
        )
        outcome = failed(error, (), time.time(), 0.0)._replace(raised_by=whole)
        return Failure(outcome, f"{what} raised {type(error).__name__}")

    # -- what callbacks get ----------------------------------------------------------------------

    def _of(self, called: Called) -> Listeners:
        found = self._listeners.get(called)
        if found is None:
            sources = [*self.sources, called.options]
            found = Listeners(
                functions_for("before_step", sources),
                functions_for("after_step", sources),
                functions_for("on_status_change", sources),
            )
            self._listeners[called] = found
        return found

    def _view(
        self, step: Step, state: str, outcome: Outcome | None, attempt: int | None = None
    ) -> StepView:
        error = outcome.error if outcome is not None else None
        reason = step.reason
        return StepView(
            name=step.name,
            component=step.called.name,
            state=state,
            attempt=step.attempt if attempt is None else attempt,
            run=self.run.id,
            duration=outcome.duration if outcome is not None else None,
            error=f"{error.type}: {error.text}" if error is not None else None,
            reason=f"step {reason.name} was {reason.state}" if isinstance(reason, Step) else reason,
            tags=step.called.options.tags,
            exception=partial(self._exception, step, outcome),
            result=partial(self._value, step, outcome)
            if outcome is not None and state in SUCCESS
            else None,
        )

    def _exception(self, step: Step, outcome: Outcome | None) -> BaseException | None:
        if outcome is None or outcome.error is None:
            return None
        return exception_of(outcome, f"step {step.name} of run {self.run.id}")

    def _value(self, step: Step, outcome: Outcome) -> Any:
        """A copy, which a callback may change; the value itself where nothing was recorded."""
        if outcome.kept is not None and outcome.value != UNRECORDED:
            outcome = outcome._replace(kept=None)
        return self.run.value_of(step, outcome)

    def _inputs(self, step: Step) -> dict[str, Any]:
        """The arguments of a step by parameter, as the function will get them."""
        if step.args == UNRECORDED:
            args, kwargs = self.run.session.arguments(step)
        else:
            args, kwargs = unpack_arguments(
                step.args, self.run.blobs, lambda number: self._input(step.inputs[number])
            )
        return dict(step.called.component.named_arguments(args, kwargs))

    def _input(self, dep: Step) -> Any:
        outcome = dep.outcome
        assert outcome is not None
        return self._value(dep, outcome)


class _Job:
    """Something to be done beside, for one step."""

    __slots__ = ("hooks", "step", "then", "work")

    def __init__(
        self, hooks: StepHooks, step: Step, work: Callable[[Step], Any], then: Callable[..., None]
    ) -> None:
        self.hooks = hooks
        self.step = step
        self.work = work
        self.then = then

    def __call__(self) -> None:
        run = self.hooks.run
        post = run.session.post
        # As in a step nothing is traced; what is reported is the run's.
        tokens = current.set(None), inside_step.set(True), reporting.set(run.reporter)
        try:
            verdict = self.work(self.step)
        except BaseException as error:
            post(self.hooks.dropped, self, error)
            raise
        finally:
            current.reset(tokens[0])
            inside_step.reset(tokens[1])
            reporting.reset(tokens[2])
        post(self.hooks.done, self, verdict)


def _failed(end: End, failure: Failure) -> End:
    """The end of a step that a callback makes fail; its times stay those of its attempt."""
    outcome = failure.outcome
    if end.outcome is not None:
        outcome = outcome._replace(
            started=end.outcome.started,
            duration=end.outcome.duration,
            logs=end.outcome.logs,
            worker=end.outcome.worker,
        )
    return End(FAILED, outcome, failure.reason)


def _log(what: str, error: BaseException) -> None:
    """An error that cannot be the end of its step or run, for another is already."""
    import logging

    logging.getLogger("pipedeco").error("%s raised", what, exc_info=error)

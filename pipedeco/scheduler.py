"""The one scheduler: what happens to a run's steps, whatever performs them.

One Scheduler for each run.  It is entered only through its session's `post`, so on one thread at
a time; it knows the runner only as a Session, and the store only as two functions.
"""

from __future__ import annotations

from math import isfinite
from time import time
from typing import TYPE_CHECKING, Protocol

from pipedeco.graph import (
    CANCELLED,
    ENDED,
    FAILED,
    PENDING,
    QUEUED,
    RUNNING,
    SKIPPED,
    SUCCESS,
    Attempt,
    Outcome,
    Step,
    StepCall,
    distinct,
)
from pipedeco.worker.perform import failed

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipedeco.runners import Session


class Recall(Protocol):
    """Knows the values of steps that need not be performed."""

    def covers(self, step: Step) -> bool:
        """Whether it may know the step's value."""

    def keeps(self, step: Step) -> bool:
        """Whether the step, which is ready, has its value from an earlier part of this very run."""

    def take(self, call: StepCall) -> bool:
        """Whether it deals with the call: it tells its end later, or submits it itself."""

    def stop(self) -> list[StepCall]:
        """Give up the calls that it deals with, and return them."""

    def withdraw(self, call: StepCall) -> bool:
        """Give up one; whether it had it."""


class Hooks(Protocol):
    """Knows who is to be asked before a step goes on, and told of it.

    Nothing here waits for them: what is held goes on when `start`, `skip` or `settle` is called.
    """

    def covers(self, step: Step) -> bool:
        """Whether it may hold the step."""

    def holds_start(self, step: Step) -> bool:
        """Whether the step, which is ready, is to wait."""

    def holds_end(self, step: Step, state: str) -> bool:
        """Whether the step, whose last attempt is over, is to wait before it ends in a state."""

    def changed(self, step: Step) -> None:
        """The step has another state."""

    def stop(self) -> None:
        """The run is cancelled: nothing may be held for long."""

    @property
    def busy(self) -> bool:
        """Whether somebody is still being told of something."""


class Scheduler:
    """Decides when each step of a run is performed, again, or not at all.

    Parameters
    ----------
    session: performs calls.
    record: called with each step that ended.
    record_attempt: called with (step, number, outcome) of an attempt that is followed by another.
    start_child: called with the call of a step that is a pipeline.
    abort: called with the reason at the first failure, where that is to cancel the rest.
    """

    def __init__(
        self,
        session: Session,
        record: Callable[[Step], None],
        record_attempt: Callable[[Step, int, Outcome], None],
        start_child: Callable[[StepCall], None],
        abort: Callable[[str], None] | None,
    ) -> None:
        self.session = session
        self.record = record
        self.record_attempt = record_attempt
        self.start_child = start_child
        self.abort = abort
        self.recall: Recall | None = None  # set once there is something to recall
        self.hooks: Hooks | None = None  # set once there is somebody to ask or to tell
        self.active: dict[Step, StepCall | None] = {}  # steps that have not ended, and their call
        self.ended = 0
        self.cancelled: str | None = None  # why nothing new starts
        self._when_idle: list[Callable[[], None]] = []

    # -- events ------------------------------------------------------------------------------

    def add(self, step: Step) -> None:
        """A call was traced."""
        __tracebackhide__ = True
        self.active[step] = None
        if self.cancelled is not None:
            self._end_without_running(step, CANCELLED, self.cancelled)
            return
        if not step.inputs and not step.after:
            self._ready(step)
            return
        after = set(step.after)
        for dep in distinct((*step.inputs, *step.after)):
            if dep.state not in ENDED:
                step.waiting += 1
                if dep.dependants is None:
                    dep.dependants = []
                dep.dependants.append(step)
            elif not _lets_run(dep, only_after=dep in after and dep not in step.inputs):
                self._end_without_running(step, SKIPPED, dep)
                return
        if not step.waiting:
            self._ready(step)

    def began(self, call: StepCall) -> None:
        """A worker has begun a call."""
        if call.step.state == QUEUED:
            call.step.state = RUNNING
            call.step.began = time()
            if self.hooks is not None:
                self.hooks.changed(call.step)

    def follow(self, call: StepCall, step: Step) -> StepCall | None:
        """The call of a step that waits for nothing but `call`, ahead of that one's end."""
        if self.recall is not None and self.recall.covers(step):
            return None
        if self.hooks is not None and (self.hooks.covers(call.step) or self.hooks.covers(step)):
            return None
        step.attempt += 1
        step.state = QUEUED
        following = StepCall(step, self)
        following.follows = call
        self.active[step] = following
        return following

    def undone(self, call: StepCall) -> None:
        """A call that was to follow another was not begun: it waits again, or is ready."""
        step = call.step
        if step.state in ENDED:
            return
        step.attempt -= 1
        step.state = PENDING
        self.active[step] = None
        lost = next((dep for dep in step.inputs if dep.state in ENDED - SUCCESS), None)
        if self.cancelled is not None:
            self._end_without_running(step, CANCELLED, self.cancelled)
        elif lost is not None:
            self._end_without_running(step, SKIPPED, lost)
        elif not step.waiting:
            self._ready(step)

    def finished(self, call: StepCall, outcome: Outcome) -> None:
        """An attempt has ended."""
        step = call.step
        if step.state in ENDED or call.attempt != step.attempt:
            return  # a late word of an attempt that was given up
        if outcome.state == FAILED and self._retry(step, outcome):
            return
        step.outcome = outcome
        self._end(step, outcome.state)

    def give_up(self, step: Step, error: Exception) -> None:
        """Nobody will end the step, as something of ours has raised `error` while it dealt with it."""
        if step.state in ENDED:
            self.active.pop(step, None)
            self.check_idle()
            return
        step.read = True  # the error left the call
        step.outcome = failed(error, (), time(), 0.0)
        self._end(step, FAILED)

    def cancel(self, reason: str) -> None:
        """Nothing new starts; what runs is stopped."""
        if self.cancelled is not None:
            return
        self.cancelled = reason
        held = self.recall.stop() if self.recall is not None else []
        if self.hooks is not None:
            self.hooks.stop()
        for call in [*self.session.stop(), *held]:
            if call.step in self.active:
                self._end_without_running(call.step, CANCELLED, reason)
        for step in list(self.active):
            if step.state == PENDING:
                self._end_without_running(step, CANCELLED, reason)

    def cancel_step(self, step: Step, answer: Callable[[bool], None]) -> None:
        """Cancel one step unless a worker has it; `answer` is told whether it is cancelled."""
        call = self.active.get(step)
        waits = step.state == PENDING or (call is not None and self._withdraw(call))
        if step.state not in ENDED and waits:
            self._end_without_running(step, CANCELLED, "it was cancelled before it began")
        answer(step.state == CANCELLED)

    def _withdraw(self, call: StepCall) -> bool:
        held = self.recall is not None and self.recall.withdraw(call)
        return held or self.session.withdraw(call)

    def when_idle(self, action: Callable[[], None]) -> None:
        """Call `action` once no step is under way."""
        self._when_idle.append(action)
        self.check_idle()

    def check_idle(self) -> None:
        """Act if no step is under way, and nobody is still being told of one."""
        if self.active or not self._when_idle or (self.hooks is not None and self.hooks.busy):
            return
        actions, self._when_idle = self._when_idle, []
        for action in actions:
            action()

    # -- what hooks decide of a step that they hold --------------------------------------------

    def start(self, step: Step) -> None:
        """It may be performed."""
        if step.state == PENDING:  # else it was cancelled meanwhile
            self._start(step)

    def skip(self, step: Step, reason: str) -> None:
        """It is not to be performed."""
        if step.state == PENDING:
            self._end_without_running(step, SKIPPED, reason)

    def settle(
        self, step: Step, state: str, outcome: Outcome | None, reason: str | None = None
    ) -> None:
        """It may end."""
        if step.state in ENDED:
            return
        step.outcome = outcome
        if reason is not None:
            step.reason = reason
        self._end(step, state)

    def fail_cancelled(self, step: Step, outcome: Outcome, reason: str) -> None:
        """Somebody raised who was told that the step is cancelled."""
        if step.state != CANCELLED:
            return
        step.state = FAILED
        step.outcome = outcome
        step.reason = reason
        step.read = False  # what the body may have read was another error
        step.called.failed += 1
        self.record(step)

    def keeps(self, step: Step) -> bool:
        """Whether the step has its value from an earlier part of this run."""
        if self.recall is None:
            return False
        try:
            return self.recall.keeps(step)
        except Exception:
            import logging

            logging.getLogger("pipedeco").exception("step %s is not looked up", step.name)
            return False

    # -- decisions -----------------------------------------------------------------------

    def _ready(self, step: Step) -> None:
        __tracebackhide__ = True
        try:
            if self.hooks is None or not self.hooks.holds_start(step):
                self._start(step)
        except Exception as error:  # noqa: BLE001 - told as the failure of the step, which else never ends
            if step.state not in ENDED:
                step.outcome = failed(error, (), time(), 0.0)
                self._end(step, FAILED)

    def _start(self, step: Step) -> None:
        __tracebackhide__ = True
        step.attempt += 1
        step.state = QUEUED
        call = StepCall(step, self)
        self.active[step] = call
        if self.recall is not None and self._recalls(call):
            return
        if step.called.is_pipeline:
            self.start_child(call)
        else:
            self.session.submit(call)

    def _recalls(self, call: StepCall) -> bool:
        """Whether the step's value is known, or will be; what goes wrong there makes it performed."""
        assert self.recall is not None
        try:
            return self.recall.take(call)
        except Exception:
            import logging

            logging.getLogger("pipedeco").exception("step %s is not looked up", call.step.name)
            return False

    def _retry(self, step: Step, outcome: Outcome) -> bool:
        """Whether the step gets another attempt; if so, it is on its way."""
        options = step.called.options
        if step.attempt > options.retries or not outcome.retryable or self.cancelled is not None:
            return False
        delay = options.retry_delay
        if isinstance(delay, tuple):
            delay = delay[min(step.attempt, len(delay)) - 1]
        elif callable(delay):
            delay = self._asked_delay(delay, step)
        step.attempts = [*(step.attempts or ()), Attempt(step.attempt, outcome)]
        self.record_attempt(step, step.attempt, outcome)
        step.state = PENDING
        self.active[step] = None
        if self.hooks is not None:
            self.hooks.changed(step)
        if delay > 0:
            self.session.later(delay, self._again, step)
        else:
            self.session.post(self._again, step)
        return True

    def _asked_delay(self, delay: Callable[[int], float], step: Step) -> float:
        try:
            seconds = float(delay(step.attempt))
            if isfinite(seconds):
                return max(0.0, seconds)
            raise ValueError(f"{seconds} is no number of seconds")
        except Exception:
            import logging

            logging.getLogger("pipedeco").exception(
                "retry_delay of step %s raised; its next attempt begins at once", step.name
            )
            return 0.0

    def _again(self, step: Step) -> None:
        if _may_begin(step):  # a follower may wait again for its input
            self._ready(step)

    def _end_without_running(self, step: Step, state: str, reason: Step | str) -> None:
        step.reason = reason
        self._end(step, state)

    def _end(self, step: Step, state: str) -> None:
        """A step has ended: tell everybody, and those that it lets run or makes skip."""
        if step.dependants is None and self.hooks is None:
            self._settle(step, state)
            self.check_idle()
            return
        ending = [(step, state)]
        while ending:  # a loop, as chains of skipped steps may be long
            step, state = ending.pop()
            if step.state in ENDED:  # a callback of the user's has cancelled it meanwhile
                continue
            if self.hooks is not None and self.hooks.holds_end(step, state):  # settled later
                continue
            self._settle(step, state)
            for dependant in step.dependants or ():
                if dependant.state in ENDED:
                    continue
                if _lets_run(step, only_after=step not in dependant.inputs):
                    dependant.waiting -= 1
                    if _may_begin(dependant):
                        self._ready(dependant)
                elif dependant.state == PENDING:  # else it follows, and is told of as undone
                    dependant.reason = step
                    ending.append((dependant, SKIPPED))
            step.dependants = None
        self.check_idle()

    def _settle(self, step: Step, state: str) -> None:
        step.state = state
        step.originals = None
        step.logs = None
        self.active.pop(step, None)
        self.ended += 1
        step.called.ended += 1
        self.record(step)
        if step.watchers:
            step.call_watchers()
        if self.hooks is not None:
            self.hooks.changed(step)
        if state == FAILED:
            step.called.failed += 1
            if self.abort and not step.called.options.allow_failure:
                self.abort(f"step {step.name} failed and on_failure is 'abort'")


def _may_begin(step: Step) -> bool:
    """Whether nothing keeps a step from being performed.

    One that has a reason has been decided on: it is to be skipped or cancelled, and is pending
    only while somebody is told of that.
    """
    return step.state == PENDING and not step.waiting and step.reason is None


def _lets_run(dep: Step, *, only_after: bool) -> bool:
    """Whether a step that waits for `dep` may run now that it has ended."""
    if dep.state in SUCCESS:
        return True
    return only_after and dep.state == FAILED and dep.called.options.allow_failure


def unread_failures(steps: list[Step]) -> list[Step]:
    """The failed steps that make a run fail: nobody read them, nobody allowed them."""
    return [
        step
        for step in steps
        if step.state == FAILED and not step.read and not step.called.options.allow_failure
    ]

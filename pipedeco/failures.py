"""The exceptions that reading a step which ended without a value raises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipedeco.errors import BlobCorrupt, PipedecoError, StepFailed, StepSkipped
from pipedeco.graph import CANCELLED, FAILED, Outcome, Step, StepError
from pipedeco.serialization import unpack_exception
from pipedeco.text import word
from pipedeco.worker.perform import CONTROL_FLOW, error_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Failures:
    """Of one run; each step's is made once.

    Parameters
    ----------
    run: its id.
    pipeline: what it is a run of.
    """

    def __init__(self, run: str, pipeline: Any) -> None:
        self.run = run
        self.pipeline = pipeline
        # By position and state: a callback may have made a step fail that was cancelled before.
        self._made: dict[tuple[int, str], tuple[BaseException, TracebackType | None]] = {}

    def of(self, step: Step) -> BaseException:
        """The exception of an ended step, or of the one that made it be skipped."""
        return self._of(step.root_failure)[0]

    def fresh(self, step: Step) -> BaseException:
        """The same with the traceback that it came with: raising adds to that."""
        error, traceback = self._of(step.root_failure)
        return error.with_traceback(traceback)

    def _of(self, step: Step) -> tuple[BaseException, TracebackType | None]:
        key = step.position, step.state
        if key not in self._made:
            error = self._make(step)
            self._made[key] = error, error.__traceback__
        return self._made[key]

    def _make(self, step: Step) -> BaseException:
        if step.state != FAILED or step.outcome is None or step.outcome.error is None:
            return self._not_performed(step)
        outcome = step.outcome
        error = exception_of(outcome, f"step {step.name} of run {self.run}")
        if isinstance(error, BlobCorrupt):
            self._name_producer(error, step)
        if isinstance(error, PipedecoError):
            error.__dict__.setdefault("run", self.run)
            error.__dict__.setdefault("step", step.name)
        if outcome.raised_by is None:  # else its note says which callback it was
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
            f"{self.run} ({self.pipeline.name}), called at {place(self.pipeline.fn, step.line)}\n"
            f"see it with: pipedeco show {self.run}; step through it with: "
            f"pipedeco debug {self.run} {word(step.name)}"
        )

    def _not_performed(self, step: Step) -> BaseException:
        from pipedeco.errors import StepCancelled

        kind = StepCancelled if step.state == CANCELLED else StepSkipped
        return kind(
            f"step {step.name} of run {self.run} was {step.state}: {step.reason or 'by its worker'}",
            run=self.run,
            step=step.name,
        )


def exception_of(outcome: Outcome, what: str) -> BaseException:
    """The exception of an attempt that failed, or one made from what is known of it."""
    known = outcome.error
    assert known is not None
    error = outcome.exception or _unpacked(known)
    if error is None or not isinstance(error, Exception) or isinstance(error, CONTROL_FLOW):
        error = StepFailed(
            f"{outcome.raised_by or what} raised {known.type}: {known.text}",
            type=known.type,
            traceback=known.traceback,
        )
        error.add_note(known.traceback)
    elif isinstance(error, StepFailed) and error.type is not None and error.traceback is None:
        error.__dict__["traceback"] = known.traceback  # it stands for another
    return error


def _unpacked(known: StepError) -> BaseException | None:
    try:
        return unpack_exception(known.pickled) if known.pickled is not None else None
    except Exception:  # noqa: BLE001 - the user's exception class; it survived the trip in the worker
        return None


def place(fn: Callable[..., Any], line: int) -> str:
    code = getattr(fn, "__code__", None)
    return f"{code.co_filename}:{line}" if code is not None else f"line {line}"


def first_line(error: BaseException | None) -> str:
    lines = error_text(error).splitlines() if error is not None else []
    return lines[0][:200] if lines else ""

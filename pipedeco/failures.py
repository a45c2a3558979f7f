"""The exceptions that reading a step which ended without a value raises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipedeco.errors import BlobCorrupt, PipedecoError, StepFailed, StepSkipped
from pipedeco.graph import CACHED, CANCELLED, FAILED, Outcome, Step, StepError
from pipedeco.picklers import LoadingEnded
from pipedeco.serialization import unpack_exception
from pipedeco.text import word
from pipedeco.user_frames import put_note, put_traceback
from pipedeco.worker.perform import CONTROL_FLOW, error_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


_TOLD = 3  # inputs in one note


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
        put_traceback(error, traceback)
        return error

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
        if isinstance(error, LoadingEnded):
            error = self._not_loaded(error, step)
        if isinstance(error, BlobCorrupt):
            self._name_producer(error, step)
        if isinstance(error, PipedecoError):
            error.__dict__.setdefault("run", self.run)
            error.__dict__.setdefault("step", step.name)
        if outcome.raised_by is None:  # else its note says which callback it was
            if _misses_file(error):
                self._name_recalled(error, step)
            put_note(error, self._note(step, outcome))
        return error

    def _not_loaded(self, error: LoadingEnded, step: Step) -> StepFailed:
        """In place of an exit that a value of the step's arguments has asked for."""
        whose = "its arguments"
        if error.input is not None:
            whose = f"its argument, the value of step {step.inputs[error.input].name},"
        made = StepFailed(
            f"step {step.name} of run {self.run} was not called: {whose} cannot be loaded: {error}"
        )
        made.__cause__ = error
        return made

    def _name_producer(self, error: BlobCorrupt, step: Step) -> None:
        """Say which step's value it is that this one could not read."""
        for dep in step.inputs:
            value = dep.outcome.value if dep.outcome is not None else None
            if isinstance(value, str) and value in str(error):
                error.add_note(f"it is the value of step {dep.name}")

    def _name_recalled(self, error: BaseException, step: Step) -> None:
        """Say which inputs were not made anew, as their files may be gone since."""
        for dep in _recalled(step):
            if dep.state == CACHED:
                put_note(
                    error,
                    f"the value of step {dep.name} came from the cache: a file that it names may "
                    f"be gone since; perform it again with refresh=[{dep.name!r}] of the pipeline, "
                    "or return pipedeco.File(path), which is looked at before it is served",
                )
            else:
                put_note(
                    error,
                    f"the value of step {dep.name} was recorded before the run was resumed: a file "
                    "that it names may be gone since; return pipedeco.File(path), which is looked "
                    "at before it is kept",
                )

    def _note(self, step: Step, outcome: Outcome) -> str:
        return (
            f"in step {step.name}, attempt {step.attempt} on worker {outcome.worker or '-'}, of run "
            f"{self.run} ({self.pipeline.name}), called at {place(self.pipeline.fn, step.line)}\n"
            f"see it with: pipedeco show {self.run}{self._debug_hint(step)}"
        )

    def _debug_hint(self, step: Step) -> str:
        """Nothing for a child run: the step that failed there has a note of its own."""
        if step.called.is_pipeline:
            return ""
        return f"; step through it with: pipedeco debug {self.run} {word(step.name)}"

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


def _recalled(step: Step) -> list[Step]:
    """The nearest steps that a step's inputs come from and that were not performed now."""
    found: list[Step] = []
    seen = {step}
    todo = [*step.inputs]
    while todo:
        dep = todo.pop()
        if dep in seen or dep.outcome is None:
            continue
        seen.add(dep)
        if dep.state == CACHED or dep.outcome.started < dep.run.started:
            found.append(dep)
        else:
            todo += dep.inputs
    return sorted(found, key=lambda dep: dep.position)[:_TOLD]


def _misses_file(error: BaseException | None) -> bool:
    """Whether a file that is not there is the cause of an exception."""
    for _ in range(20):  # causes may lead round in a circle
        if error is None:
            return False
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def place(fn: Callable[..., Any], line: int) -> str:
    code = getattr(fn, "__code__", None)
    return f"{code.co_filename}:{line}" if code is not None else f"line {line}"


def first_line(error: BaseException | None) -> str:
    lines = error_text(error).splitlines() if error is not None else []
    return lines[0][:200] if lines else ""

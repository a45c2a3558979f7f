"""Debuggers that ask at a terminal, in a worker, which has none: what is said in their place."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from pipedeco.errors import StepFailed
from pipedeco.worker.perform import describe_error

if TYPE_CHECKING:
    from pipedeco.graph import Outcome

CURE = "has no terminal in a worker process; step through with the pipeline's .debug(...)"


def no_breakpoint(*_: Any, **__: Any) -> NoReturn:
    """What `breakpoint()` calls in a worker."""
    raise StepFailed(f"breakpoint() {CURE}")


def explained(outcome: Outcome) -> Outcome:
    """The outcome of a step that a debugger has left, as it could read no command."""
    bdb = sys.modules.get("bdb")
    error = outcome.exception
    if bdb is None or not isinstance(error, bdb.BdbQuit):
        return outcome
    told = StepFailed(f"a debugger's prompt (pdb.set_trace(), or the like) {CURE}")
    told.__traceback__ = _without(bdb.__file__, error.__traceback__)
    return outcome._replace(error=describe_error(told), exception=told, retryable=False)


def _without(file: str | None, traceback: TracebackType | None) -> TracebackType | None:
    """A traceback up to the first frame of the debugger."""
    if traceback is None or traceback.tb_frame.f_code.co_filename == file:
        return None
    rest = _without(file, traceback.tb_next)
    return TracebackType(rest, traceback.tb_frame, traceback.tb_lasti, traceback.tb_lineno)

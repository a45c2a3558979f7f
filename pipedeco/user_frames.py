"""Tracebacks as a user reads them: without frames of pipedeco, which are nobody's mistake.

What leaves a call of ours is raised by a bare `raise`, for which Python adds no entry to a
traceback; so the frame of the call itself is not there, either.

A function of ours that stands between those of users on a stack has a local `__tracebackhide__`, by
which ipdb and pytest leave it out.
"""

from __future__ import annotations

import os
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

P = ParamSpec("P")
R = TypeVar("R")

PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
# Modules that use users' functions and values: what C raises there is no mistake of ours.
DOORS = tuple(
    PACKAGE + name
    for name in (
        "components.py", "operations.py", "pipelines.py", "rebuilding.py", "resolving.py", "result.py",
        "serialization.py", "outputs.py", "tables.py", "definitions.py", "hooks.py",
        os.path.join("worker", "perform.py"), os.path.join("worker", "setups.py"),
    )
)  # fmt: skip


def user_part(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback without our own frames; None where there are no others."""
    entries = []
    part = traceback
    while part is not None:
        if not part.tb_frame.f_code.co_filename.startswith(PACKAGE):
            entries.append(part)
        part = part.tb_next
    kept: TracebackType | None = None
    for entry in reversed(entries):
        kept = TracebackType(kept, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return kept


def put_traceback(error: BaseException, traceback: TracebackType | None) -> None:
    """Set it, also where the exception's class forbids to set attributes, as frozen ones do."""
    BaseException.with_traceback(error, traceback)


def put_note(error: BaseException, note: str) -> None:
    """`error.add_note(note)`, also where the exception's class forbids to set attributes."""
    notes = getattr(error, "__notes__", None)
    if isinstance(notes, list):
        notes.append(note)
    else:
        object.__setattr__(error, "__notes__", [note])


def hide_ours(error: BaseException) -> None:
    """Take our frames out of the tracebacks of an error and of its causes.

    All of them stay where the error is a mistake of ours: they are what tells of it.
    """
    for each in _chain(error):
        if each.__traceback__ is not None and not _is_ours(each):
            put_traceback(each, user_part(each.__traceback__))


def hides_frames(function: Callable[P, R]) -> Callable[P, R]:
    """A function from which errors leave without frames of ours."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        __tracebackhide__ = True
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            hide_ours(error)
            raise

    return call


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what caused it and what was handled then, each once."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += [each.__cause__, each.__context__]


def _is_ours(error: BaseException) -> bool:
    """Whether it was raised in our code by anything but a `raise` statement."""
    if isinstance(error, KeyboardInterrupt | RecursionError | MemoryError):
        return False
    part = error.__traceback__
    while part is not None and part.tb_next is not None:
        part = part.tb_next
    code = part.tb_frame.f_code if part is not None else None
    if part is None or code is None or not code.co_filename.startswith(PACKAGE):
        return False
    if code.co_filename in DOORS:
        return False
    import opcode

    raised = code.co_code[part.tb_lasti] == opcode.opmap["RAISE_VARARGS"]
    return not raised or isinstance(error, AssertionError)

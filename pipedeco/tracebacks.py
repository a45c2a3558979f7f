"""What was raised in one process, on its way into another: exceptions with their tracebacks.

tblib takes exceptions apart, which pickle alone would do without traceback and causes.  Its own
tracebacks have no columns, and a function in which the line that fails is the first.  Ours have what
Python prints, or a notebook, as if the function had been called there.
"""

from __future__ import annotations

import ast
import pickle
import sys
from itertools import islice
from types import MemberDescriptorType, TracebackType, WrapperDescriptorType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from types import CodeType, FrameType

UNKNOWN = -1  # a column that the compiler did not note
MODULE = ("__name__", "__file__")  # what of a module's names a reader of tracebacks asks for


class Line(NamedTuple):
    """A frame of a traceback, as far as a person sees it; columns are bytes, from 0."""

    file: str
    name: str
    qualname: str
    first: int  # line of the function
    line: int
    last: int
    column: int
    end: int
    module: dict[str, Any]


class RaisedPickler(pickle.Pickler):
    """Pickles exceptions with all that `reduce_raised` keeps of them."""

    def reducer_override(self, obj: Any) -> Any:
        return reduce_raised(obj)


def reduce_raised(item: object) -> Any:
    """What makes an exception again, or a traceback; NotImplemented for anything else."""
    if isinstance(item, BaseException):
        return _reduce_exception(item)
    if isinstance(item, TracebackType):
        return traceback_of, (_lines(item),)
    return NotImplemented


def _reduce_exception(error: BaseException) -> tuple[Any, ...]:
    from tblib import pickling_support

    if type(error).__reduce__ is not BaseException.__reduce__ or not isinstance(
        type(error).__init__, WrapperDescriptorType
    ):
        return _with_slots(error, pickling_support.pickle_exception(error))
    # Python's own constructors set more than the arguments say: UnicodeError's, SyntaxError's.
    parts = (
        type(error), error.args, error.__cause__, error.__traceback__, error.__context__,
        error.__suppress_context__, getattr(error, "__notes__", None),
    )  # fmt: skip
    name = getattr(error, "name", None)  # of NameError, AttributeError: not of the arguments
    own = {**vars(error), "name": name} if isinstance(name, str) else vars(error)
    return pickling_support.unpickle_exception, parts, dict(own)


def _with_slots(error: BaseException, reduction: tuple[Any, ...]) -> tuple[Any, ...]:
    """The reduction with what the exception keeps in slots, which Python's own leaves out."""
    kind = type(error)
    if kind.__reduce__ is not BaseException.__reduce__:
        return reduction
    slots = {
        name: getattr(error, name)
        for cls in kind.__mro__
        for name in _slots(cls)
        if hasattr(error, name)
    }
    if not slots:
        return reduction
    state = reduction[2] if len(reduction) > 2 else None
    return (*reduction[:2], {**(state or {}), **slots})


def _slots(cls: type) -> list[str]:
    """The slots of a class that is no one of Python's own."""
    if not cls.__dict__.get("__slots__"):
        return []
    return [name for name, kept in vars(cls).items() if isinstance(kept, MemberDescriptorType)]


def _lines(traceback: TracebackType) -> list[Line]:
    found = []
    part: TracebackType | None = traceback
    while part is not None:
        code = part.tb_frame.f_code
        names = part.tb_frame.f_globals
        found.append(
            Line(
                code.co_filename,
                code.co_name,
                code.co_qualname,
                code.co_firstlineno,
                *_position(part, code),
                {name: names[name] for name in MODULE if isinstance(names.get(name), str)},
            )
        )
        part = part.tb_next
    return found


def _position(part: TracebackType, code: CodeType) -> tuple[int, int, int, int]:
    """First and last line, and the columns of what was executed there."""
    at = part.tb_lasti // 2
    line, last, column, end = next(islice(code.co_positions(), at, None), (None,) * 4)
    if line is None or last is None or column is None or end is None:
        # Instructions of the compiler's own have no line at all.
        known = part.tb_lineno or code.co_firstlineno
        return known, known, UNKNOWN, UNKNOWN
    return line, last, column, end


def traceback_of(lines: list[Line]) -> TracebackType | None:
    """A traceback with these lines; None for none."""
    made: TracebackType | None = None
    frames: dict[Any, tuple[FrameType, int]] = {}  # a recursion has the same line a thousand times
    for line in reversed(lines):
        place = line[:-1]
        if place not in frames:
            frames[place] = _frame(line)
        frame, instruction = frames[place]
        made = TracebackType(made, frame, instruction, line.line)
    return made


def _frame(line: Line) -> tuple[FrameType, int]:
    """A frame that was left by an error at this place, and at which of its instructions."""
    first = min(line.first, line.line)
    code = compile(_failing(line, 1 - first), line.file, "exec").replace(
        co_name=line.name, co_qualname=line.qualname, co_firstlineno=first
    )
    try:
        exec(code, dict(line.module))  # noqa: S102 - a name that is not there, and nothing else
    except NameError:
        left = sys.exc_info()[2]
        assert left is not None
        assert left.tb_next is not None
        return left.tb_next.tb_frame, left.tb_next.tb_lasti
    raise AssertionError("nothing was raised")


def _failing(line: Line, shift: int) -> ast.Module:
    """A body that fails where this line says, so many lines later."""
    place = {
        "lineno": line.line + shift,
        "end_lineno": line.last + shift,
        "col_offset": line.column,
        "end_col_offset": line.end,
    }
    name = ast.Name(" raised elsewhere", ast.Load(), **place)
    return ast.Module([ast.Expr(name, **place)], [])

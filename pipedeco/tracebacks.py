"""What was raised in one process, on its way into another: exceptions with their tracebacks.

tblib takes exceptions apart, which pickle alone would do without traceback and causes.  Its own
tracebacks have no columns, and a function in which the line that fails is the first.  Ours have what
Python prints, or a notebook, as if the function had been called there.
"""

from __future__ import annotations

import _imp
import ast
import pickle
import sys
from itertools import islice
from types import FunctionType, MemberDescriptorType, TracebackType, WrapperDescriptorType
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
    """A frame with this place, and which of its instructions stands there.

    It is that of a generator that never begins: nothing runs and nothing is raised under the
    user's file name, where a debugger would stop.
    """
    code = _code(line)
    if sys.version_info >= (3, 12):
        frame = _not_begun(code, line.module)
    else:  # a generator is ended by GeneratorExit there, even if it has not begun
        own = code.replace(co_filename=__file__)
        frame = _not_begun(own, line.module)
        _imp._fix_co_filename(own, line.file)  # type: ignore[attr-defined]
    return frame, 2 * _instruction(code, line)


def _not_begun(code: CodeType, module: dict[str, Any]) -> FrameType:
    frame: FrameType = FunctionType(code, dict(module))().gi_frame
    return frame


def _code(line: Line) -> CodeType:
    """A generator's code with one expression, which stands where this line says."""
    first = min(line.first, line.line)
    shift = 1 - first
    place = {
        "lineno": line.line + shift,
        "end_lineno": line.last + shift,
        "col_offset": line.column,
        "end_col_offset": line.end,
    }
    module = ast.parse("def made(): pass")
    function = module.body[0]
    assert isinstance(function, ast.FunctionDef)
    function.body = [ast.Expr(ast.Yield(ast.Name("raised", ast.Load(), **place), **place), **place)]
    code: CodeType = compile(module, line.file, "exec").co_consts[0]
    return code.replace(co_name=line.name, co_qualname=line.qualname, co_firstlineno=first)


def _instruction(code: CodeType, line: Line) -> int:
    """The first one at this place."""
    known = line.column != UNKNOWN
    columns = (line.column, line.end) if known else (None, None)
    place = (line.line, line.last, *columns)
    return next(i for i, position in enumerate(code.co_positions()) if position == place)

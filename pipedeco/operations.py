"""Operations on the value of a result, performed as if they stood where the program has them.

numpy and others warn at the line of the Python code that runs: that would be ours, and one line for
all operations of a program.
"""

from __future__ import annotations

import sys
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_QUIET = frozenset(  # types whose operations warn of nothing
    {type(None), bool, int, float, complex, str, bytes, list, tuple, dict, set}
)
_OPERATE = (lambda operation, operands: operation(*operands)).__code__


def operate(operation: Callable[..., Any], *operands: Any) -> Any:
    """`operation(*operands)` for a method of a result, at the line that called that."""
    for operand in operands:
        if type(operand) not in _QUIET:
            return _operate_there(operation, operands)
    return operation(*operands)


def _operate_there(operation: Callable[..., Any], operands: tuple[Any, ...]) -> Any:
    there = sys._getframe(3)
    code = _OPERATE.replace(
        co_filename=there.f_code.co_filename,
        co_firstlineno=there.f_lineno,
        co_name=there.f_code.co_name,
    )
    try:
        return FunctionType(code, there.f_globals)(operation, operands)
    except BaseException as error:
        ours = error.__traceback__  # then the code's, which stands for no line of its own
        assert ours is not None
        rest = None if ours.tb_next is None else ours.tb_next.tb_next
        BaseException.with_traceback(error, rest)  # its class may forbid to set attributes
        raise

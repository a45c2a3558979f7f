"""What a pipeline's body does to results that Python does not let a StepResult imitate.

`advise` reads the source of a body and says where it meets a future and takes it for a value.
This module is on the path of every start and stays cheap: most bodies have none of the
instructions that any rule speaks of, which their bytecode tells, and their source is never read.

    _source.py  the body's own lines, parsed
    _lookup.py  what a name stands for, without running anybody's code
    _shapes.py  what is known of a value: a result, a group of results, a known object
    _state.py   names, tries and readings at the point that has been reached
    _expressions.py  _calls.py  _statements.py  the walk through the body, in order
    _rules.py   what is said, one sentence each
"""

from __future__ import annotations

from collections import namedtuple
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType
    from typing import Any, NamedTuple

    class Advice(NamedTuple):
        """One place where a body takes a future for its value."""

        path: str
        line: int
        message: str

else:
    Advice = namedtuple("Advice", ("path", "line", "message"))
    Advice.__doc__ = "One place where a body takes a future for its value."

# Names whose presence is reason enough to read the source.
_TELLING = frozenset(
    (
        *("isinstance", "type", "set", "frozenset", "dict", "fromkeys"),
        *("Counter", "OrderedDict", "defaultdict", "dump", "dumps", "concat", "join"),
        *("DataFrame", "Series", "assign", "statistics"),
    )
)
# Instructions likewise: `is`, `in`, sets, dicts, match, handlers.
_INSTRUCTIONS = (
    "IS_OP",
    "CONTAINS_OP",
    "BUILD_SET",
    "SET_ADD",
    "BUILD_MAP",
    "BUILD_CONST_KEY_MAP",
    "MAP_ADD",
    "MATCH_CLASS",
    "MATCH_MAPPING",
    "MATCH_SEQUENCE",
    "PUSH_EXC_INFO",
)


def advise(function: Callable[..., Any], is_traced: Callable[[object], bool]) -> list[Advice]:
    """Say where the body of a pipeline takes a component's future for its value.

    Args:
        function: the undecorated body.
        is_traced: whether an object is a component or a pipeline, so that calling it inside a
            body gives a StepResult.  Of such an object `output_count`, `output_fields` and
            `options.allow_failure` are read where there are any.

    Returns:
        The advice in the order of lines; none without the source.  What is unsure is not said.
    """
    if type(function) is not type(advise) or not _may_surprise(function):
        return []
    from pipedeco.advice._source import read_body
    from pipedeco.advice._statements import Statements

    body = read_body(function)
    if body is None:
        return []
    try:
        found = Statements(function, is_traced, body).read_body()
    except RecursionError:  # an expression nested deeper than this walk can follow
        return []
    return [Advice(body.path, line, message) for line, message in sorted(set(found))]


def _may_surprise(function: Any) -> bool:
    """Whether anything in the bytecode is spoken of by a rule."""
    codes = list(_codes(function.__code__))
    if any(not _TELLING.isdisjoint(code.co_names + code.co_freevars) for code in codes):
        return True
    if any(_is_hashed(found) for code in codes for found in _objects(function, code)):
        return True
    telling = _opcodes(tables=_uses_tables())
    return any(not telling.isdisjoint(code.co_code[::2]) for code in codes)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if type(constant) is type(code):
            yield from _codes(constant)


def _objects(function: Any, code: CodeType) -> Iterator[object]:
    """The globals and closed-over objects that a code names."""
    for name in code.co_names:
        yield dict.get(function.__globals__, name)
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # assigned later than the pipeline is defined
            continue


def _is_hashed(found: object) -> bool:
    """Whether it finds its items by their hash; the type alone is asked, for proxies run code."""
    return issubclass(type(found), dict | set | frozenset)


def _uses_tables() -> bool:
    """Whether anybody has imported a library of tables, whose columns may be set."""
    from sys import modules

    return "pandas" in modules or "polars" in modules


def _opcodes(*, tables: bool) -> frozenset[int]:
    from opcode import opmap

    wanted = (*_INSTRUCTIONS, "STORE_SUBSCR") if tables else _INSTRUCTIONS
    telling = {opmap[name] for name in wanted if name in opmap}
    telling |= {number for name, number in opmap.items() if "JUMP" in name and "NONE" in name}
    return frozenset(telling)

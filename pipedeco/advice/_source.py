"""The lines of one function, found and parsed."""

from __future__ import annotations

import _ast
from typing import TYPE_CHECKING

from pipedeco.syntax import tree_of

if TYPE_CHECKING:
    import ast
    from collections.abc import Callable, Iterator
    from types import CodeType, FunctionType
    from typing import Any


class Body:
    """A parsed function: where it stands, and what is to be added to its nodes' lines."""

    __slots__ = ("definition", "offset", "path")

    def __init__(self, path: str, offset: int, definition: ast.FunctionDef) -> None:
        self.path = path
        self.offset = offset
        self.definition = definition


def read_body(function: FunctionType | Callable[..., Any]) -> Body | None:
    """The definition of a function, parsed alone; None where its source cannot be had."""
    from linecache import getlines

    code: CodeType = function.__code__
    lines = getlines(code.co_filename, function.__globals__)
    first = code.co_firstlineno - 1
    block = lines[first : _last_line(code, lines)]
    if not block:
        return None
    # An indented definition gets a header rather than a dedent, which strings of several lines
    # with text at the left margin would defeat.
    indented = block[0][:1].isspace()
    definition = _parse(("if 1:\n" if indented else "") + "".join(block))
    if definition is None or definition.name != code.co_name:  # the file is not what was run
        return None
    return Body(code.co_filename, first - indented, definition)


def _parse(text: str) -> ast.FunctionDef | None:
    """The first statement of a text, under its header if it has one, if it is a function."""
    try:
        tree = tree_of(text, "<body>")
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # what compile() raises
        return None
    first = tree.body[0] if tree.body else None
    if type(first) is _ast.If and first.body:
        first = first.body[0]
    return first if type(first) is _ast.FunctionDef else None


def _last_line(code: CodeType, lines: list[str]) -> int:
    """The last line of a function: as far as its code goes, then on while lines are indented.

    Comments, closing brackets and statements that compile to nothing have no code.
    """
    last = max(_ends(code))
    margin = _margin(lines[code.co_firstlineno - 1]) if code.co_firstlineno <= len(lines) else 0
    while last < len(lines) and _continues(lines[last], margin):
        last += 1
    return last


def _continues(line: str, margin: int) -> bool:
    text = line.strip()
    return not text or _margin(line) > margin or text[0] in ")]}"


def _margin(line: str) -> int:
    return len(line) - len(line.lstrip())


def _ends(code: CodeType) -> Iterator[int]:
    yield code.co_firstlineno
    for _, end, _, _ in code.co_positions():
        if end is not None:
            yield end
    for _, _, line in code.co_lines():  # with -X no_debug_ranges these alone are known
        if line is not None:
            yield line
    for constant in code.co_consts:
        if type(constant) is type(code):
            yield from _ends(constant)

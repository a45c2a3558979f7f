"""The source of functions, parsed, and proven to be what runs.

A function's form is its syntax tree without docstrings and positions: nothing about the layout
of a text is left in it.  (Bytecode is no such base: the compiler shortens jumps, drops swaps and
keeps NOPs according to which line an expression stands on; laid out anew, one function in six of
the standard library has other instructions, even with jumps and NOPs seen through.)  But the file may have been edited
since it was imported, or not be what was compiled at all.  So the text is compiled once more, and
counts only for functions whose code comes out the same.
"""

from __future__ import annotations

import _ast
import sys
from typing import TYPE_CHECKING, Any

from pipedeco.instructions import codes
from pipedeco.syntax import unwarned

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType

_ONLY_AST = 0x400  # ast.PyCF_ONLY_AST; the module ast itself takes milliseconds to import
_NO_PARTS = frozenset(("ctx", "type_comment", "kind"))
_FUNCTIONS = (_ast.FunctionDef, _ast.AsyncFunctionDef)
_DEFINITIONS = (*_FUNCTIONS, _ast.ClassDef)
# Taken as values where the function is reached: they belong to who defines it.
_OUTSIDE = {"decorator_list", "returns", "name"}


class Sources:
    """The files of the functions that were asked for, each read once."""

    def __init__(self) -> None:
        self._files: dict[str, _File | None] = {}

    def form(self, code: CodeType, docs: bool) -> tuple[Any, ...] | None:
        """The syntax tree of a function as nested tuples; None where its source is not proven."""
        file = self._file(code.co_filename)
        node = file.find(code) if file is not None else None
        return None if node is None else _outermost(node, docs)

    def text(self, code: CodeType) -> str | None:
        """A function as it is written, with its decorators; None where that is not proven."""
        file = self._file(code.co_filename)
        node = file.find(code) if file is not None else None
        return None if file is None or node is None else file.lines(node)

    def class_text(self, filename: str, qualname: str) -> str | None:
        """A class as it is written, found by its name."""
        file = self._file(filename)
        node = file.find_class(qualname) if file is not None else None
        return None if file is None or node is None else file.lines(node)

    def _file(self, filename: str) -> _File | None:
        if filename not in self._files:
            self._files[filename] = _read(filename)
        return self._files[filename]


def _read(filename: str) -> _File | None:
    """A file, or what a notebook keeps of a cell; None where neither can be parsed."""
    text: bytes | str
    try:
        with open(filename, "rb") as file:
            text = file.read()
    except (OSError, ValueError):
        # Another thread may be amid its import.
        cached = getattr(sys.modules.get("linecache"), "cache", {}).get(filename)
        if cached is None or len(cached) < 3:
            return None
        text = "".join(cached[2])
    try:
        with unwarned(filename):
            tree = _parse(text, filename)
            code = compile(text, filename, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # what compile() raises
        return None
    return _File(text, tree, code)


def _parse(text: bytes | str, filename: str) -> Any:
    """The syntax tree.

    Python 3.11 counts the depth of the tree in one place for all threads, and raises SystemError
    where another one parses in between.
    """
    for _ in range(10):
        try:
            return compile(text, filename, "exec", _ONLY_AST, dont_inherit=True)
        except SystemError:
            continue
    raise MemoryError(f"{filename} cannot be parsed now")


class _File:
    """One parsed text."""

    def __init__(self, text: bytes | str, tree: Any, code: CodeType) -> None:
        self._text = text
        self._tree = tree
        self._codes: dict[tuple[str, int], list[CodeType]] = {}
        for inner in codes(code):
            self._codes.setdefault((inner.co_qualname, inner.co_firstlineno), []).append(inner)

    def find(self, code: CodeType) -> Any:
        """The node of a function; None unless one, and one alone, compiles to this very code."""
        line = code.co_firstlineno
        found = self._codes.get((code.co_qualname, line), [])
        if found != [code] or list(map(_tries, codes(found[0]))) != list(map(_tries, codes(code))):
            return None
        kinds = _ast.Lambda if code.co_name == "<lambda>" else _FUNCTIONS
        nodes = [
            node
            for node in _spanning(self._tree, line)
            if isinstance(node, kinds)
            and _first_line(node) == line
            and getattr(node, "name", "<lambda>") == code.co_name
        ]
        return nodes[0] if len(nodes) == 1 else None

    def find_class(self, qualname: str) -> Any:
        """The only definition of a class under this name; None where there are none or several."""
        nodes = [self._tree]
        for part in qualname.split("."):
            nodes = [
                child
                for node in nodes
                for child in _statements(node)
                if isinstance(child, _ast.ClassDef) and child.name == part
            ]
        return nodes[0] if len(nodes) == 1 else None

    def lines(self, node: Any) -> str:
        text = self._text if isinstance(self._text, str) else self._text.decode(errors="replace")
        return "".join(text.splitlines(keepends=True)[_first_line(node) - 1 : node.end_lineno])


def _tries(code: CodeType) -> bytes:
    return code.co_exceptiontable  # which == does not compare before 3.12


def _statements(node: Any) -> Iterator[Any]:
    """The statements of a module or class, those under `if` and the like included."""
    for child in _children(node):
        yield child
        if not isinstance(child, _DEFINITIONS):
            yield from _statements(child)


def _spanning(node: Any, line: int) -> Iterator[Any]:
    """The nodes on whose lines this one is, outermost first."""
    for child in _children(node):
        end = getattr(child, "end_lineno", None)
        if end is None or _first_line(child) <= line <= end:
            yield child
            yield from _spanning(child, line)


def _children(node: Any) -> Iterator[Any]:
    for name in node._fields:
        part = getattr(node, name, None)
        if isinstance(part, list):
            for item in part:
                if isinstance(item, _ast.AST):
                    yield item
        elif isinstance(part, _ast.AST):
            yield part


def _first_line(node: Any) -> int:
    """Where a node begins: a definition does with its first decorator."""
    decorators = getattr(node, "decorator_list", None)
    first: int = decorators[0].lineno if decorators else getattr(node, "lineno", 0)
    return first


# ---- the form


def _outermost(node: Any, docs: bool) -> tuple[Any, ...]:
    """A function without what is evaluated where it is defined."""
    parts: list[Any] = [type(node).__name__]
    for name in node._fields:
        if name == "args":
            parts.append(_parameters(node.args))
        elif name not in _OUTSIDE and name not in _NO_PARTS:
            parts.append(_tree(getattr(node, name, None), docs))
    return tuple(parts)


def _parameters(node: Any) -> tuple[Any, ...]:
    """The names of parameters by kind; defaults and annotations are values of the function."""
    names = [
        tuple(argument.arg for argument in getattr(node, kind))
        for kind in ("posonlyargs", "args", "kwonlyargs")
    ]
    return (*names, getattr(node.vararg, "arg", None), getattr(node.kwarg, "arg", None))


def _tree(part: Any, docs: bool) -> Any:
    if isinstance(part, list):
        return tuple([_tree(item, docs) for item in part if docs or not _is_idle(item)])
    if not isinstance(part, _ast.AST):
        return part
    kind: Any = type(part)
    if isinstance(part, _ast.Name):  # the most common nodes, quicker
        return part.id
    if isinstance(part, _ast.Constant):
        return ("=", part.value)
    return (
        kind.__name__,
        *[_tree(getattr(part, name, None), docs) for name in kind._fields if name not in _NO_PARTS],
    )


def _is_idle(node: Any) -> bool:
    """Statements that do nothing: docstrings and other constants alone, `pass`."""
    kind = type(node)
    return kind is _ast.Pass or (kind is _ast.Expr and type(node.value) is _ast.Constant)

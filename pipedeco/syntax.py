"""Syntax trees, with the C module alone: `ast` takes three milliseconds to import."""

from __future__ import annotations

import _ast
import warnings
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def unwarned(filename: str) -> Iterator[None]:
    """Compile a file of which Python has warned already, as it does of doubtful escapes.

    `warnings.catch_warnings` would have Python forget what it has warned of in the whole process,
    and put back filters that another thread has changed meanwhile.

    Parameters
    ----------
    filename : str
        That compile() is told.
    """
    module = filename.removesuffix(".py")  # what Python takes for the module; it is nobody's else
    own: Any = ("ignore", None, Warning, module, 0)
    filters: Any = warnings.filters
    filters.insert(0, own)
    try:
        yield
    finally:
        with suppress(ValueError):  # somebody has put other filters in place
            filters.remove(own)


def tree_of(text: bytes | str, filename: str) -> Any:
    """The syntax tree of a source that Python has compiled before.  Raises what compile() does."""
    with unwarned(filename):
        return compile(text, filename, "exec", _ast.PyCF_ONLY_AST, dont_inherit=True)


def children(node: Any) -> Iterator[Any]:
    """The nodes right below a node."""
    for field in node._fields:
        value = getattr(node, field, None)
        if isinstance(value, _ast.AST):
            yield value
        elif isinstance(value, list):
            yield from (item for item in value if isinstance(item, _ast.AST))


def walk(node: Any) -> Iterator[Any]:
    """The node and all below it."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(children(node))

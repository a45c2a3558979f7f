"""The imports that stand in a source, late ones too; nothing is executed."""

from __future__ import annotations

import ast
import warnings
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

MISSING = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})
DYNAMIC = frozenset({"import_module", "__import__"})
PLATFORM = frozenset({"version_info", "platform", "name", "implementation", "hexversion"})


class Import(NamedTuple):
    """One import statement, or one name of it.

    `module` is the dotted name without the dots of a relative import, whose number is `level`.
    `name` is what `from module import name` takes, which may be a module; "" elsewhere.
    `bound` is the name that it gives to its scope; "*" for all.
    `scope` is the function or class of the top level in which it stands; "" at the top level.
    `guarded` tells that the source reckons with its failure.
    """

    line: int
    module: str
    level: int
    name: str
    bound: str
    scope: str
    guarded: bool


class _Place(NamedTuple):
    node: ast.AST
    scope: str
    guarded: bool


def read_imports(source: str | bytes) -> list[Import]:
    """The imports of a source in the order of their lines.

    What stands under TYPE_CHECKING or under a main guard is never executed in a worker, and is
    left out.  Raises SyntaxError, or ValueError for what cannot be a source.
    """
    found: list[Import] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of doubtful escapes: whoever compiles it hears of them
        places = [_Place(ast.parse(source), "", guarded=False)]
    while places:  # no recursion: sources nest as deep as they like
        place = places.pop()
        found += _imports_of(place)
        places += _inside(place)
    return sorted(found)


def _imports_of(place: _Place) -> Iterator[Import]:
    node, scope, guarded = place
    if isinstance(node, ast.Import):
        for alias in node.names:
            bound = alias.asname or alias.name.partition(".")[0]
            yield Import(node.lineno, alias.name, 0, "", bound, scope, guarded)
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            name = "" if alias.name == "*" else alias.name
            bound = alias.asname or alias.name
            yield Import(node.lineno, node.module or "", node.level, name, bound, scope, guarded)
    elif isinstance(node, ast.Call) and _last_name(node.func) in DYNAMIC and node.args:
        first = node.args[0]
        word = first.value if isinstance(first, ast.Constant) else None
        if isinstance(word, str) and _is_dotted(word):
            yield Import(node.lineno, word, 0, "", "", scope, guarded)


def _inside(place: _Place) -> Iterator[_Place]:
    """The nodes below one that may be executed."""
    node, scope, guarded = place
    if isinstance(node, ast.Try | ast.TryStar):
        within = guarded or any(map(_catches_missing, node.handlers))
        for child in ast.iter_child_nodes(node):
            last = child in node.orelse or child in node.finalbody
            yield _Place(child, scope, guarded if last else within)
        return
    if isinstance(node, ast.With) and any(map(_suppresses, node.items)):
        guarded = True
    if isinstance(node, ast.If):
        if _is_never(node.test):
            yield from (_Place(child, scope, guarded) for child in node.orelse)
            return
        guarded = guarded or _asks_platform(node.test)
    if not scope and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        scope = node.name
    for child in ast.iter_child_nodes(node):
        yield _Place(child, scope, guarded)


def _catches_missing(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or _last_name(kind) in MISSING for kind in kinds)


def _suppresses(item: ast.withitem) -> bool:
    call = item.context_expr
    return (
        isinstance(call, ast.Call)
        and _last_name(call.func) == "suppress"
        and any(_last_name(kind) in MISSING for kind in call.args)
    )


def _is_never(test: ast.expr) -> bool:
    """Whether no worker executes what stands under this test."""
    if _last_name(test) == "TYPE_CHECKING":
        return True
    main = isinstance(test, ast.Compare) and _last_name(test.left) == "__name__"
    return main and any(getattr(c, "value", None) == "__main__" for c in ast.walk(test))


def _asks_platform(test: ast.expr) -> bool:
    """Whether it depends on the Python or the system that executes it."""
    return any(isinstance(n, ast.Attribute) and n.attr in PLATFORM for n in ast.walk(test))


def _last_name(node: ast.AST | None) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def absolute(found: Import, module: str, *, is_package: bool) -> str:
    """The full name of what is imported, from within a module; "" beyond its top package."""
    if not found.level:
        return found.module
    parts = module.split(".")
    up = found.level - 1 if is_package else found.level
    home = parts[: max(0, len(parts) - up)]
    if not home:
        return ""
    return ".".join([*home, found.module] if found.module else home)

"""The imports that stand in a source, late ones too; nothing is executed."""

from __future__ import annotations

import ast
import warnings
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

MISSING = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})
DYNAMIC = frozenset({"import_module", "__import__"})
OURS = frozenset({"component", "pipeline"})
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


class Source(NamedTuple):
    """What a source says of imports.

    `uses` has the names that each definition of the top level mentions; by "" what is executed
    when the module is imported.  `mentions` has whatever names stand in it: of variables,
    attributes, what is imported, and texts that may name something.  `decorated` has the
    definitions of the top level that a decorator, other than ours, may have registered somewhere.
    """

    imports: list[Import]
    uses: dict[str, set[str]]
    mentions: set[str]
    decorated: set[str]

    def reached_from(self, *scopes: str) -> set[str]:
        """The definitions that may be executed for some of them, themselves included."""
        found: set[str] = set()
        waiting = [*scopes, ""]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self.uses.get(name, ())
        return found


class _Place(NamedTuple):
    node: ast.AST
    scope: str
    guarded: bool
    optional: frozenset[str]  # names that tell whether something is installed


def read_source(source: str | bytes) -> Source:
    """The imports of a source in the order of their lines, and what mentions what.

    What stands under TYPE_CHECKING or under a main guard is never executed in a worker, and is
    left out.  Raises SyntaxError, or ValueError for what cannot be a source.
    """
    found: list[Import] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of doubtful escapes: whoever compiles it hears of them
        tree = ast.parse(source)
    places = [_Place(tree, "", False, frozenset(_optional(tree)))]
    while places:  # no recursion: sources nest as deep as they like
        place = places.pop()
        found += _imports_of(place)
        places += _inside(place)
    return Source(sorted(found), _uses(tree), set(_mentions(tree)), set(_decorated(tree)))


def _optional(tree: ast.AST) -> Iterator[str]:
    """Names that are bound by what may be missing, or by a look whether it is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Try | ast.TryStar):
            if any(map(_catches_missing, node.handlers)):
                yield from _bound_in(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and _looks(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def _looks(value: ast.expr | None) -> bool:
    """Whether an expression looks for a module without importing it."""
    return value is not None and any(_last_name(n) == "find_spec" for n in ast.walk(value))


def _bound_in(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            yield inner.id
        elif isinstance(inner, ast.alias):
            yield inner.asname or inner.name.partition(".")[0]


def _uses(tree: ast.Module) -> dict[str, set[str]]:
    uses: dict[str, set[str]] = {"": set()}
    for node in tree.body:
        names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            uses.setdefault(node.name, set()).update(names)
            for decorator in node.decorator_list:
                uses[""].update(n.id for n in ast.walk(decorator) if isinstance(n, ast.Name))
        elif isinstance(node, ast.Assign | ast.AnnAssign) and not _calls(node):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                uses.setdefault(_last_name(target), set()).update(names)
        elif isinstance(node, ast.If) and _is_never(node.test):
            uses[""].update(
                n.id for e in node.orelse for n in ast.walk(e) if isinstance(n, ast.Name)
            )
        else:
            uses[""].update(names)
    return uses


def _decorated(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            made = (getattr(decorator, "func", decorator) for decorator in node.decorator_list)
            if any(_last_name(decorator) not in OURS for decorator in made):
                yield node.name


def _mentions(tree: ast.Module) -> Iterator[str]:
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        if isinstance(node, ast.If) and _is_never(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def _calls(node: ast.AST) -> bool:
    return any(isinstance(inner, ast.Call) for inner in ast.walk(node))


def _imports_of(place: _Place) -> Iterator[Import]:
    node, scope, guarded, _ = place
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
    node, scope, guarded, optional = place
    if isinstance(node, ast.Try | ast.TryStar):
        within = guarded or any(map(_catches_missing, node.handlers))
        for child in ast.iter_child_nodes(node):
            last = child in node.orelse or child in node.finalbody
            yield place._replace(node=child, guarded=guarded if last else within)
        return
    if isinstance(node, ast.With) and any(map(_suppresses, node.items)):
        guarded = True
    if isinstance(node, ast.If):
        if _is_never(node.test):
            yield from (place._replace(node=child) for child in node.orelse)
            return
        guarded = guarded or _asks_platform(node.test) or _asks_for(node.test, optional)
    if not scope and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        scope = node.name
    for child in ast.iter_child_nodes(node):
        yield _Place(child, scope, guarded, optional)


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


def _asks_for(test: ast.expr, optional: frozenset[str]) -> bool:
    """Whether it depends on what is installed."""
    names = {n.id for n in ast.walk(test) if isinstance(n, ast.Name)}
    return _looks(test) or not optional.isdisjoint(names)


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

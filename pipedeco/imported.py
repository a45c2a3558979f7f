"""Names that an import statement gave to a module: `from infra import engine`.

What such a name stands for is the other module's.  A worker imports that and takes its attribute,
so that there is one object in its process, as there is one here.
"""

from __future__ import annotations

import sys
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.strays import strays

if TYPE_CHECKING:
    import ast
    from collections.abc import Iterator

# They are equal wherever they are made, and may have been set otherwise before they were imported.
_ATOMS = (bool, int, float, complex, str, bytes, type(None))


class Attribute(NamedTuple):
    """Stands in a pickle for what a module has under a name."""

    module: str
    name: str

    def __reduce__(self) -> tuple[Any, ...]:
        return attribute_of, (self.module, self.name)


def attribute_of(module: str, name: str) -> Any:
    """What a module has under a name; the module is imported for it."""
    import importlib

    return getattr(importlib.import_module(module), name)


def imported_as(name: str, value: Any, namespace: dict[str, Any]) -> Attribute | None:
    """Where a global of a module was imported from, if it still is what is found there."""
    if type(value) in _ATOMS or isinstance(value, ModuleType):
        return None
    path = namespace.get("__file__")
    typed = not isinstance(path, str) or path.startswith("<")  # at a prompt, or it is <stdin>
    found = _by_name(name) if typed else _by_statement(name, str(path), namespace)
    return next((each for each in found if _leads_to(each, value, namespace)), None)


def own_attribute(name: str, namespace: dict[str, Any]) -> Attribute | None:
    """A global of a module that a worker can import, as that module's own attribute."""
    value = namespace.get(name)
    module = namespace.get("__name__")
    if type(value) in _ATOMS or not isinstance(module, str):
        return None
    found = Attribute(module, name)
    return found if _leads_to(found, value, {}) else None


def _leads_to(found: Attribute, value: Any, namespace: dict[str, Any]) -> bool:
    module = sys.modules.get(found.module)
    if type(module) is not ModuleType or module.__dict__ is namespace:
        return False
    if module.__dict__.get(found.name, found) is not value:
        return False
    importable = module.__dict__.get("__spec__") is not None and found.module != "__main__"
    return importable and not strays().go_by_value(found.module)


def _by_statement(name: str, path: str, namespace: dict[str, Any]) -> Iterator[Attribute]:
    """What the import statements of a file say of a name."""
    package = namespace.get("__package__") or ""
    for statement in _imports(path):
        module = _absolute(statement, package)
        for bound, original in statement.names:
            if bound == name:
                yield Attribute(module, original)
            elif bound == "*":
                yield Attribute(module, name)


def _by_name(name: str) -> Iterator[Attribute]:
    """Whatever module has the name: what is typed at a prompt has no file to read."""
    for module, found in list(sys.modules.items()):
        if type(found) is ModuleType and name in found.__dict__ and module != "builtins":
            yield Attribute(module, name)


class _Import(NamedTuple):
    module: str
    level: int
    names: tuple[tuple[str, str], ...]  # (bound name, name there)


@cache
def _imports(path: str) -> tuple[_Import, ...]:
    """The `from` statements of a file; of one that cannot be read none."""
    import ast

    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):  # compiled, frozen, or in a zip
        return ()
    found = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    return tuple(_statement(node) for node in found)


def _statement(node: ast.ImportFrom) -> _Import:
    names = tuple((alias.asname or alias.name, alias.name) for alias in node.names)
    return _Import(node.module or "", node.level, names)


def _absolute(statement: _Import, package: str) -> str:
    if not statement.level:
        return statement.module
    base = package
    for _ in range(statement.level - 1):
        base = base.rpartition(".")[0]
    return f"{base}.{statement.module}".strip(".")

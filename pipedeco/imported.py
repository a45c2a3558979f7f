"""Names that an import statement gave to a module: `from infra import engine`.

What such a name stands for is the other module's.  A worker imports that and takes its attribute,
so that there is one object in its process, as there is one here.
"""

from __future__ import annotations

import sys
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pipedeco.strays import strays

if TYPE_CHECKING:
    from collections.abc import Iterator

# They are equal wherever they are made, and may have been set otherwise before they were imported.
_ATOMS = (bool, int, float, complex, str, bytes, type(None))


class Attribute:
    """Stands in a pickle for what a module has under a name."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name

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
    namesakes = [found for found in _namesakes(name) if _leads_to(found, value, namespace)]
    if not isinstance(path, str) or path.startswith("<"):  # typed at a prompt, or <stdin>
        return namesakes[0] if namesakes else None
    if not namesakes and f" as {name}".encode() not in _source(path):
        return None  # as most globals, for which no syntax tree is made
    found = _by_statement(name, path, namespace)
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
    if not isinstance(module, ModuleType) or module.__dict__ is namespace:
        return False
    if module.__dict__.get(found.name, found) is not value:
        return False
    importable = module.__dict__.get("__spec__") is not None and found.module != "__main__"
    return importable and not strays().go_by_value(found.module)


def _namesakes(name: str) -> Iterator[Attribute]:
    """What other modules have under the same name."""
    for module, found in list(sys.modules.items()):
        # Modules of other types may load something when they are asked.
        if type(found) is ModuleType and name in found.__dict__ and module != "builtins":
            yield Attribute(module, name)


def _by_statement(name: str, path: str, namespace: dict[str, Any]) -> Iterator[Attribute]:
    """What the import statements of a file say of a name."""
    package = namespace.get("__package__") or ""
    for module, level, names in _imports(path):
        for bound, there in names:
            if bound in (name, "*"):
                original = name if bound == "*" else there
                yield Attribute(_absolute(module, level, package), original)


# Module, how many folders up it is, and (name here, name there) of each name.
_Statement = tuple[str, int, tuple[tuple[str, str], ...]]


@cache
def _imports(path: str) -> tuple[_Statement, ...]:
    """The `from` statements of a file; of one that cannot be read none."""
    import ast

    try:
        tree = ast.parse(_source(path))
    except (SyntaxError, ValueError):  # compiled
        return ()
    found = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    return tuple(
        (
            node.module or "",
            node.level,
            tuple((alias.asname or alias.name, alias.name) for alias in node.names),
        )
        for node in found
    )


@cache
def _source(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # frozen, or in a zip
        return b""


def _absolute(module: str, level: int, package: str) -> str:
    if not level:
        return module
    base = package
    for _ in range(level - 1):
        base = base.rpartition(".")[0]
    return f"{base}.{module}".strip(".")

"""What names stand for, found in the dictionaries of modules and classes.

Nothing here knows of digests.  No property and no `__getattr__` of the user's runs; modules that
a function imports are imported, as it would do itself.
"""

from __future__ import annotations

import builtins
import importlib
import sys
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from pipedeco.definitions import Decorated

if TYPE_CHECKING:
    from types import CellType


class _Missing:
    """The type of MISSING."""

    __slots__ = ()


MISSING = _Missing()

_class_dict = type.__dict__["__dict__"].__get__
_class_module = type.__dict__["__module__"].__get__


def is_module(found: Any) -> bool:
    return issubclass(type(found), ModuleType)


def is_class(found: Any) -> bool:
    return issubclass(type(found), type)


def members(kind: type) -> dict[Any, Any]:
    """A class's own attributes."""
    return dict(_class_dict(kind))


def module_of(kind: type) -> Any:
    return _class_module(kind)


def imported(name: str) -> Any:
    """A module if it has been imported, else MISSING."""
    return sys.modules.get(name, MISSING)


def is_imported(found: Any) -> bool:
    """Whether a module is the one that its name leads to."""
    return sys.modules.get(found.__dict__.get("__name__")) is found


def content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # assigned later than the function is defined
        return MISSING


def builtin(namespace: dict[str, Any], name: str) -> Any:
    names = namespace.get("__builtins__", builtins)
    names = names if isinstance(names, dict) else names.__dict__
    return names.get(name, MISSING)


def place_of(found: Any) -> tuple[str, str] | None:
    """Module and qualified name of a function or a class, if that is what is found there."""
    if is_class(found):
        module, path = _class_module(found), type.__dict__["__qualname__"].__get__(found)
    elif isinstance(found, FunctionType):
        module, path = found.__module__, found.__qualname__
    else:
        return None
    if type(module) is not str or type(path) is not str or "<" in path:
        return None
    there: Any = sys.modules.get(module)
    for part in path.split("."):
        there = _member(there, part)
    return (module, path) if there is found else None


def _member(home: Any, name: str) -> Any:
    """What a module or a class holds under a name, decorators of ours and Python's taken off."""
    if is_module(home):
        found = home.__dict__.get(name)
    else:
        found = _class_dict(home).get(name) if is_class(home) else None
    if isinstance(found, staticmethod | classmethod):
        found = found.__func__
    return found.fn if isinstance(found, Decorated) else found


# ---- what an import finds


def absolute(module: str, level: int, namespace: dict[str, Any]) -> str:
    """The full name of a module that a function of this namespace imports."""
    if not level:
        return module
    package = namespace.get("__package__")
    if not isinstance(package, str):
        name = str(namespace.get("__name__"))
        package = name if "__path__" in namespace else name.rpartition(".")[0]
    for _ in range(level - 1):
        package = package.rpartition(".")[0]
    return f"{package}.{module}" if module else package


def import_module(name: str) -> ModuleType:
    """A module, imported now if need be.

    Raises whatever its import raises.
    """
    return sys.modules.get(name) or importlib.import_module(name)


def submodule(package: ModuleType, name: str) -> Any:
    """The module below a package, which an import binds there; MISSING where there is none."""
    if "__path__" not in package.__dict__:
        return MISSING
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            return MISSING
        raise


# ---- annotations


def annotations_of(found: Any) -> dict[str, Any]:
    """The annotations of a function or a class itself."""
    if is_class(found) and sys.version_info < (3, 14):
        own = _class_dict(found).get("__annotations__")
    else:
        own = getattr(found, "__annotations__", None)
    return dict(own) if isinstance(own, dict) else {}


def names_in(text: str, found: Any) -> list[Any]:
    """What the names in an annotation stand for, as far as they are there."""
    import re

    namespace = getattr(found, "__globals__", None)
    if namespace is None:
        namespace = getattr(sys.modules.get(found.__module__), "__dict__", {})
    stands_for = []
    for dotted in dict.fromkeys(re.findall(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*", text)):
        first, *rest = dotted.split(".")
        value = namespace.get(first, MISSING)
        while rest and is_module(value):
            value = value.__dict__.get(rest.pop(0), MISSING)
        if value is not MISSING and not is_module(value):
            stands_for.append(value)
    return stands_for


# ---- classes


def subclasses(kind: type) -> list[type]:
    return list(type.__subclasses__(kind))


def derived(names: dict[Any, Any]) -> set[str]:
    """Attributes that a metaclass made of the rest of the class."""
    found = set()
    if "_member_map_" in names:  # an Enum: its map holds the members
        found.update(names["_member_map_"])
        found.update(name for name in names if str(name).startswith(("_value2", "_hashable")))
        found.update(("_unhashable_values_", "_unhashable_values_map_", "_member_names_"))
    if "__pydantic_fields__" in names:
        kept = ("__pydantic_fields__", "__pydantic_decorators__")
        found.update(n for n in names if str(n).startswith("__pydantic_") and n not in kept)
        found.update(("__signature__", "__private_attributes__"))
    return found


# ---- what reaches code by computed names


def dynamic(value: Any, attributes: list[str]) -> str | None:
    """What is said of a value whose use reaches anything; "import" of what imports by name."""
    for name in attributes:
        if not is_module(value):
            return None
        value = value.__dict__.get(name, MISSING)
    known = _DYNAMIC.get(id(value))
    return known[0] if known is not None and known[1] is value else None


# By id, for values with an equality of their own
_DYNAMIC: dict[int, tuple[str, Any]] = {
    id(value): (name, value)
    for name, value in (
        ("eval", builtins.eval),
        ("exec", builtins.exec),
        ("sys.modules", sys.modules),
        ("globals", builtins.globals),
        ("import", builtins.__import__),
        ("import", importlib.import_module),
    )
}

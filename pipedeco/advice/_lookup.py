"""What a name stands for, found without running anybody's code.

Only dictionaries of modules and classes are looked into, and these through the slots of `type`
and `object`: no property, no `__getattr__`, no metaclass has its say.
"""

from __future__ import annotations

import sys
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


class _Missing:
    """The type of MISSING."""

    __slots__ = ()


MISSING = _Missing()

_class_dict = type.__dict__["__dict__"].__get__
_class_mro = type.__dict__["__mro__"].__get__
_class_module = type.__dict__["__module__"].__get__
_class_qualname = type.__dict__["__qualname__"].__get__


def is_module(obj: object) -> bool:
    return issubclass(type(obj), ModuleType)


def is_class(obj: object) -> bool:
    return issubclass(type(obj), type)


def member(obj: object, name: str) -> object:
    """An attribute of a module or a class; MISSING of anything else."""
    if is_module(obj):
        namespace: dict[str, object] = object.__getattribute__(obj, "__dict__")
        return namespace.get(name, MISSING)
    if not is_class(obj):
        return MISSING
    for kind in _class_mro(obj):
        members = _class_dict(kind)
        if name in members:
            return _unwrap(members[name])
    return MISSING


def _unwrap(found: object) -> object:
    return found.__func__ if type(found) in (staticmethod, classmethod) else found  # type: ignore[attr-defined]


def imported(name: str) -> object:
    """A module, if it has been imported."""
    return sys.modules.get(name, MISSING)


def dotted(obj: object) -> str:
    """The full name of a module, class or function; empty for anything else."""
    if is_module(obj):
        return _text(member(obj, "__name__"))
    if is_class(obj):
        parts = (_class_module(obj), _class_qualname(obj))
    elif type(obj) is FunctionType or type(obj) is BuiltinFunctionType:
        parts = (obj.__module__, obj.__qualname__)
    else:
        return ""
    return f"{parts[0]}.{parts[1]}" if all(map(_text, parts)) else ""


def _text(found: object) -> str:
    return found if type(found) is str else ""


class Names:
    """The names of one function: which are its own, and what the others stand for."""

    __slots__ = ("_builtins", "_cells", "_globals", "own")

    def __init__(self, function: Any) -> None:
        code = function.__code__
        self.own = frozenset(code.co_varnames + code.co_cellvars)
        self._cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
        self._globals: dict[str, object] = function.__globals__
        self._builtins: dict[str, object] = function.__builtins__

    def find(self, name: str) -> object:
        """The object that a name which is not the function's own stands for now, or MISSING."""
        if name in self._cells:
            try:
                found: object = self._cells[name].cell_contents
            except ValueError:  # assigned later than the pipeline is defined
                return MISSING
            return found
        found = dict.get(self._globals, name, MISSING)
        return dict.get(self._builtins, name, MISSING) if found is MISSING else found

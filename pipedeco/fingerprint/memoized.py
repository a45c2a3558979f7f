"""Which attributes of an object are what it remembers of its own reading.

- what cached properties have put into it;
- what a class calls its cache;
- an attribute that nothing but the class's properties, and its making, set;
- of classes of packages also a private attribute that was not there, or None, and is set now; of
  those packages that are known to, any.
"""

from __future__ import annotations

from functools import cached_property
from types import CodeType
from typing import TYPE_CHECKING, Any

from pipedeco.fingerprint.packages import USER, Owners

if TYPE_CHECKING:
    from collections.abc import Iterator, Set

_MAKING = frozenset(("__init__", "__new__", "__post_init__", "__setstate__", "__attrs_post_init__"))

_MEMOIZING = ("statsmodels",)  # packages whose methods set what they have computed


class Memoized:
    """What is known of classes, each looked at once."""

    def __init__(self) -> None:
        self._owners = Owners()
        self._known: dict[type, Set[str]] = {}

    def holds(self, kind: type, name: str, *, fresh: bool) -> bool:
        """Whether an attribute of a class is memory.

        Parameters
        ----------
        fresh: whether it was not there before, or None.
        """
        if name.startswith("_") and ("cache" in name.lower() or "memo" in name.lower()):
            return True
        if kind not in self._known:
            self._known[kind] = _own_memory(kind)
        if name in self._known[kind]:
            return True
        module = str(kind.__module__)
        may_be = name.startswith("_") or module.partition(".")[0] in _MEMOIZING
        return fresh and may_be and self._owners.of(module) != USER


def _own_memory(kind: type) -> Set[str]:
    """The attributes that reading alone sets."""
    by_reading: set[str] = set()
    otherwise: set[str] = set()
    for base in kind.__mro__:
        for name, member in base.__dict__.items():
            if isinstance(member, cached_property) or _is_cached_property(member):
                by_reading.add(name)
            elif isinstance(member, property):
                by_reading.update(_sets(member.fget))
                otherwise.update(_sets(member.fset))
            elif name not in _MAKING:
                otherwise.update(_sets(member))
    return by_reading - otherwise


def _is_cached_property(member: Any) -> bool:
    """Whether it is one of a library's own making."""
    name = type(member).__name__.lower()
    return "cache" in name and hasattr(type(member), "__get__")


def _sets(function: Any) -> Iterator[str]:
    """The names of attributes that a function's code sets."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return _set_by(code) if isinstance(code, CodeType) else iter(())


def _set_by(code: CodeType) -> Iterator[str]:
    from dis import get_instructions

    for instruction in get_instructions(code):
        if instruction.opname == "STORE_ATTR":
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _set_by(constant)

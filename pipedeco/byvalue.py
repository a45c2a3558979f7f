"""cloudpickle as we use it, for what has no name that another process could import."""

from __future__ import annotations

import sys
from functools import _lru_cache_wrapper, cache
from types import CodeType, FunctionType, MemberDescriptorType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.imported import imported_as, own_attribute
from pipedeco.reductions import make_cached, reduction
from pipedeco.strays import strays

if TYPE_CHECKING:
    from collections.abc import Callable

    GlobalsOf = Callable[[FunctionType, dict[str, Any]], dict[str, Any]]


@cache
def cloud_pickler() -> Any:
    """Cloudpickle's class, with what pipedeco adds to it.

    Code keeps the name of its file (from 3.1.3 on cloudpickle writes "<dynamic-code>" there, and
    tracebacks lose their lines), classes keep their slots, and globals that an import statement
    has named are imported again.  `globals_of` gives a function's globals as they are to be sent,
    `named` tells of what is found by its name there.
    """
    import cloudpickle

    reduce = cloudpickle.Pickler.dispatch_table[CodeType]

    def reduce_code(code: CodeType) -> tuple[Any, ...]:
        make, parts = reduce(code)
        return _code_of_file, (code.co_filename, make, parts)

    class ByValue(cloudpickle.Pickler):  # type: ignore[misc]
        dispatch_table = cloudpickle.Pickler.dispatch_table.new_child({CodeType: reduce_code})

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.globals_of: GlobalsOf = imported_globals
            self.named: Callable[[Any], bool] = is_named

        def reducer_override(self, obj: Any) -> Any:
            made = reduction(obj)
            if made is NotImplemented:
                made = self._reduce_own(obj)
            slotted = isinstance(obj, type) and "__slots__" in vars(obj)
            return _with_slots(obj, made) if slotted and made is not NotImplemented else made

        def _reduce_own(self, obj: Any) -> Any:
            if isinstance(obj, _lru_cache_wrapper):
                if self.named(obj):
                    return NotImplemented
                return make_cached, (obj.__wrapped__, obj.cache_parameters())
            if isinstance(obj, FunctionType | type | ModuleType) and _goes_by_value(obj):
                return self._reduce_stray(obj)
            return super().reducer_override(obj)

        def _reduce_stray(self, obj: Any) -> Any:
            if isinstance(obj, FunctionType):
                return self._dynamic_function_reduce(obj)
            if isinstance(obj, type):
                return cloudpickle.cloudpickle._dynamic_class_reduce(obj)
            content = {name: value for name, value in vars(obj).items() if name != "__builtins__"}
            return cloudpickle.cloudpickle.dynamic_subimport, (obj.__name__, content)

        def _dynamic_function_reduce(self, function: Any) -> Any:
            make, arguments, state, *rest = super()._dynamic_function_reduce(function)
            slots = state[1]
            slots["__globals__"] = self.globals_of(function, slots["__globals__"])
            return make, arguments, state, *rest

    return ByValue


def _goes_by_value(obj: Any) -> bool:
    return strays().go_by_value(obj.__name__ if isinstance(obj, ModuleType) else obj.__module__)


def is_named(value: Any) -> bool:
    """Whether importing its module and walking its qualified name gives this very object."""
    module = getattr(value, "__module__", None)
    found: Any = sys.modules.get(module or "")
    if found is None or (module != "__main__" and getattr(found, "__spec__", None) is None):
        return False
    if strays().go_by_value(module):
        return False
    for part in getattr(value, "__qualname__", "<locals>").split("."):
        found = getattr(found, part, None)
    return found is value


def imported_globals(function: FunctionType, found: dict[str, Any]) -> dict[str, Any]:
    """The globals of a function, by reference what its module has imported from another one."""
    namespace = function.__globals__
    return {name: imported_as(name, value, namespace) or value for name, value in found.items()}


def referenced_globals(function: FunctionType, found: dict[str, Any]) -> dict[str, Any]:
    """The globals of a function, by reference all that a worker finds in its module."""
    namespace = function.__globals__
    known = imported_globals(function, found)
    return {name: own_attribute(name, namespace) or value for name, value in known.items()}


def _with_slots(cls: type, made: tuple[Any, ...]) -> tuple[Any, ...]:
    """What makes a class again, from what cloudpickle says of one with `__slots__`.

    It sets them on a class that is made already, whose objects then keep their attributes in a
    `__dict__`: what pickles such an object says so, and the class itself has none.
    """
    make, arguments, state, *rest = made
    if make.__name__ != "_make_skeleton_class" or "__slots__" in arguments[3]:
        return made
    if NamedTuple in vars(cls).get("__orig_bases__", ()):  # makes its own
        return made
    given = {**arguments[3], "__slots__": vars(cls)["__slots__"]}
    attributes = {
        name: value
        for name, value in state[0].items()
        if name != "__slots__" and not isinstance(value, MemberDescriptorType)
    }
    arguments = (*arguments[:3], given, *arguments[4:])
    return make, arguments, (attributes, *state[1:]), *rest


def _code_of_file(name: str, make: Callable[..., CodeType], parts: tuple[Any, ...]) -> CodeType:
    return make(*parts).replace(co_filename=name)

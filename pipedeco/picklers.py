"""The picklers that carry more than pickle: pickle with our reductions, cloudpickle, dill."""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
from functools import _lru_cache_wrapper, cache, partial
from types import CodeType, FunctionType, MemberDescriptorType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.errors import Terminated
from pipedeco.imported import imported_as, own_attribute
from pipedeco.reductions import has_reduction, make_cached, reduction, stream_name
from pipedeco.strays import strays

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    GlobalsOf = Callable[[FunctionType, dict[str, Any]], dict[str, Any]]


PROTOCOL = 5


class LoadingEnded(pickle.UnpicklingError):
    """What a value raised while it was loaded would have ended the process, a thread or a loop.

    `input` says which input of a step it was, where it was one.
    """

    input: int | None = None


def loads(data: bytes | memoryview, buffers: Iterable[Any] = ()) -> Any:
    """What was pickled; whatever its classes raise while loading is raised here.

    Raises LoadingEnded in place of SystemExit and the like; KeyboardInterrupt is a person's.
    """
    try:
        return pickle.loads(data, buffers=buffers)
    except (Exception, KeyboardInterrupt, Terminated):
        raise
    except BaseException as error:
        text = f": {error}" if str(error) else ""
        raise LoadingEnded(f"loading it raised {type(error).__name__}{text}") from error


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


def unnamed_reduction(obj: Any) -> Any:
    """The reduction of what has no name by which it is found again."""
    return reduction(obj) if has_reduction(obj) and not is_named(obj) else NotImplemented


class ReducingPickler(pickle.Pickler):
    """Pickle with our reductions; slower than pickle alone, which asks Python of no object."""

    def reducer_override(self, obj: Any) -> Any:
        return unnamed_reduction(obj)


# ---- cloudpickle


@cache
def cloud_pickler() -> Any:
    """Cloudpickle's class, with what pipedeco adds to it.

    Code keeps the name of its file (from 3.1.3 on cloudpickle writes "<dynamic-code>" there, and
    tracebacks lose their lines), classes keep their slots, and globals that an import statement
    has named are imported again.  `globals_of` gives a function's globals as they are to be sent,
    `named` tells of what is found by its name there, `reduce` is asked before cloudpickle.
    """
    import cloudpickle

    code = {CodeType: partial(_reduce_code, cloudpickle.Pickler.dispatch_table[CodeType])}

    class ByValue(cloudpickle.Pickler):  # type: ignore[misc]
        dispatch_table = cloudpickle.Pickler.dispatch_table.new_child(code)
        globals_of: GlobalsOf
        named: Callable[[Any], bool]
        reduce: Callable[[Any], Any]

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.globals_of = imported_globals
            self.named = is_named
            self.reduce = unnamed_reduction

        def reducer_override(self, obj: Any) -> Any:
            made = _reduce_special(self, obj)
            if made is NotImplemented:
                made = super().reducer_override(obj)
            return made if made is NotImplemented else _as_defined(obj, made)

        def _dynamic_function_reduce(self, function: Any) -> Any:
            make, arguments, state, *rest = super()._dynamic_function_reduce(function)
            slots = state[1]
            slots["__globals__"] = self.globals_of(function, slots["__globals__"])
            return make, arguments, state, *rest

    return ByValue


def _reduce_code(reduce: Callable[[CodeType], Any], code: CodeType) -> tuple[Any, ...]:
    make, parts = reduce(code)
    return _code_of_file, (code.co_filename, make, parts)


def _reduce_special(pickler: Any, obj: Any) -> Any:
    """What cloudpickle itself has no way for; NotImplemented of the rest."""
    made = pickler.reduce(obj)
    if made is not NotImplemented:
        return made
    if isinstance(obj, _lru_cache_wrapper) and not pickler.named(obj):
        return make_cached, (obj.__wrapped__, obj.cache_parameters())
    if isinstance(obj, FunctionType | type | ModuleType) and _goes_by_value(obj):
        return _reduce_stray(pickler, obj)
    return NotImplemented


def _reduce_stray(pickler: Any, obj: Any) -> Any:
    """A function, a class or a module that cloudpickle would take for one that can be imported."""
    from cloudpickle import cloudpickle

    if isinstance(obj, FunctionType):
        return pickler._dynamic_function_reduce(obj)
    if isinstance(obj, type):
        return cloudpickle._dynamic_class_reduce(obj)
    content = {name: value for name, value in vars(obj).items() if name != "__builtins__"}
    return cloudpickle.dynamic_subimport, (obj.__name__, content)


def _goes_by_value(obj: Any) -> bool:
    return strays().go_by_value(obj.__name__ if isinstance(obj, ModuleType) else obj.__module__)


def imported_globals(function: FunctionType, found: dict[str, Any]) -> dict[str, Any]:
    """The globals of a function, by reference what its module has imported from another one."""
    namespace = function.__globals__
    return {name: imported_as(name, value, namespace) or value for name, value in found.items()}


def referenced_globals(function: FunctionType, found: dict[str, Any]) -> dict[str, Any]:
    """The globals of a function, by reference all that a worker finds in its module."""
    namespace = function.__globals__
    known = imported_globals(function, found)
    return {name: own_attribute(name, namespace) or value for name, value in known.items()}


def _as_defined(obj: Any, made: Any) -> Any:
    """What makes a class again, with its slots and its qualified name."""
    if not isinstance(obj, type) or not isinstance(made, tuple):
        return made
    make, arguments, *rest = _with_slots(obj, made) if "__slots__" in vars(obj) else made
    if make.__name__ == "_make_skeleton_class":
        given = {**arguments[3], "__qualname__": obj.__qualname__}
        arguments = (*arguments[:3], given, *arguments[4:])
    return make, arguments, *rest


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


def cloud_pickler_to(
    file: Any,
    reducers: dict[type, Any],
    keep: Callable[[Any], None] | None,
    override: Callable[[Any], Any] = lambda _: NotImplemented,
) -> Any:
    """Cloudpickle with reducers of ours; what __main__ names travels by its name, as in pickle.

    Parameters
    ----------
    override: asked first, for what is of no one type.
    """

    class ByReference(cloud_pickler()):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            if type(obj) in reducers:
                return reducers[type(obj)](obj)
            made = override(obj)
            if made is not NotImplemented:
                return made
            if getattr(obj, "__module__", None) == "__main__" and named_in_main(obj):
                return NotImplemented
            return super().reducer_override(obj)

    return ByReference(file, PROTOCOL, buffer_callback=keep)


# ---- dill


def _dill_pickler() -> Any:
    """Dill with our reductions, except that it leaves files alone which are written to."""
    import dill

    class Careful(dill.Pickler):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            return unnamed_reduction(obj)

        def save(self, obj: Any, save_persistent_id: bool = True) -> None:
            refuse_written(obj)
            super().save(obj, save_persistent_id)

    return Careful


def dumps_by_dill(value: object, reducers: dict[type, Any] | None = None) -> bytes:
    """The last resort: dill carries generators' code and more.  Raises what dill raises."""
    import warnings

    buffer = io.BytesIO()
    pickler = _dill_pickler()(buffer, PROTOCOL, byref=True, recurse=True)
    pickler.dispatch_table = {**copyreg.dispatch_table, **(reducers or {})}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dill wonders at names that it finds by reference
        pickler.dump(value)
    return buffer.getvalue()


def refuse_written(obj: Any) -> None:
    """Raises PicklingError for a file that dill would open again, and so truncate."""
    if isinstance(obj, io.IOBase) and not obj.closed and obj.writable() and _is_file(obj):
        if stream_name(obj):
            return
        raise pickle.PicklingError("a file that is open for writing cannot be carried")


def _is_file(stream: io.IOBase) -> bool:
    try:
        return stream.fileno() >= 0
    except (OSError, ValueError):  # in memory
        return False


def named_in_main(obj: Any) -> bool:
    """Whether `__main__` has this very function or class under its qualified name."""
    found: Any = sys.modules.get("__main__")
    for part in getattr(obj, "__qualname__", "<locals>").split("."):
        found = getattr(found, part, None)
    return found is obj

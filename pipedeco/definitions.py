"""How functions and the definitions of `__main__` reach a worker.

A function of an importable module is named; the worker imports it.  `__main__` is never
imported again by a worker: what a step needs of it (functions, classes, constants, modules)
travels once, by name, and lives in the worker's own `__main__`.  So classes keep their identity,
and scripts need no main guard.  A function without an importable name travels by value.

Plain functions go as their marshalled code, which costs no import; what is more than that
(classes, closures) goes through cloudpickle.
"""

from __future__ import annotations

import io
import marshal
import pickle
import sys
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.errors import NotPicklable
from pipedeco.instructions import codes, global_names
from pipedeco.main_file import MAIN
from pipedeco.serialization import (
    PROTOCOL,
    cloud_pickler,
    dumps_by_dill,
    loads,
    main_names,
    not_picklable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Decorated:
    """What components and pipelines are: something around the function `fn`."""

    __slots__ = ("fn",)

    fn: Callable[..., Any]


class Definition(NamedTuple):
    """One name of `__main__`: its pickle, and the names that must be there before it."""

    name: str
    data: bytes


class FunctionSpec(NamedTuple):
    """A function as a worker can find it: `kind` is "name" or "value".

    `names` are the names of `__main__` that it needs.
    """

    kind: str
    module: str
    data: bytes
    names: tuple[str, ...]


class MainDefinitions:
    """What workers must know of this process's `__main__`; one for each run.

    Parameters
    ----------
    given: whether workers have a name with this value by themselves, as they import the main file.
    """

    def __init__(self, given: Callable[[str, Any], bool] = lambda name, value: False) -> None:
        self._given = given
        self._main = sys.modules[MAIN].__dict__
        self._made: dict[str, Definition | None] = {}
        self._needs: dict[str, tuple[str, ...]] = {}

    def reached(self, names: Iterable[str]) -> list[Definition]:
        """The definitions of `names` and of all that they reach, what is needed first on top.

        Raises NotPicklable where one of them cannot travel.
        """
        ordered: dict[str, Definition] = {}
        visited: set[str] = set()
        for name in names:
            self._visit(name, visited, ordered)
        return list(ordered.values())

    def values(self, found: Iterable[Definition]) -> list[Definition]:
        """Those that are no functions, classes and modules: a step may have changed its worker's."""
        code = (type, FunctionType, BuiltinFunctionType, ModuleType, Decorated)
        return [item for item in found if not isinstance(self._main.get(item.name), code)]

    def known(self, packed: bytes | memoryview) -> tuple[str, ...]:
        """The names of `__main__` that a pickled value refers to."""
        return main_names(packed, self._main)

    def _visit(self, name: str, visited: set[str], ordered: dict[str, Definition]) -> None:
        if name in visited or name not in self._main:
            return
        visited.add(name)
        if name not in self._made:
            self._make(name)
        for needed in self._needs[name]:
            self._visit(needed, visited, ordered)
        definition = self._made[name]
        if definition is not None:
            ordered[name] = definition

    def _make(self, name: str) -> None:
        value = self._main[name]
        self._needs[name] = ()
        self._made[name] = None
        if name in _OWN_NAMES or self._given(name, value):
            return
        definer = _Definer(value, self._main)
        data = definer.define(name)
        self._made[name] = Definition(name, data)
        self._needs[name] = (*definer.needs, *self.known(data))


# A worker's __main__ has its own of these; where code has travelled, its file is another one.
_OWN_NAMES = frozenset(
    {"__name__", "__builtins__", "__loader__", "__spec__", "__file__", "__package__"}
)


class _ByValue(Exception):
    """Raised inside the light pickler where cloudpickle must take over."""


class _Definer(pickle.Pickler):
    """Pickles one value of `__main__`: functions as code, the rest as pickle does."""

    def __init__(self, value: Any, main: dict[str, Any]) -> None:
        self._file = io.BytesIO()
        super().__init__(self._file, PROTOCOL)
        self._value = value
        self._main = main
        self.needs: dict[str, None] = {}

    def define(self, name: str) -> bytes:
        try:
            self.dump(self._value)
            return self._file.getvalue()
        except Exception:  # noqa: BLE001 - users' reducers; cloudpickle is asked next
            return self._cloud(name)

    def _cloud(self, name: str) -> bytes:
        try:
            return cloudpickle_main(self._value, self._main)
        except Exception as error:  # noqa: BLE001 - users' reducers
            return self._dill(name, error)

    def _dill(self, name: str, reason: Exception) -> bytes:
        try:
            data = dumps_by_dill(self._value)
        except Exception:  # noqa: BLE001 - users' reducers
            raise not_picklable(
                self._value, f"the global {name!r} of __main__", {}, reason
            ) from None
        return data

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, FunctionType):
            return self._function(obj)
        if isinstance(obj, ModuleType):
            return self._module(obj)
        if hasattr(obj, "cache_parameters") and (obj is self._value or not _named(obj)):
            # functools.lru_cache: it pickles as its name, which leads to what we are defining
            return make_cached, (obj.__wrapped__, obj.cache_parameters())
        if isinstance(obj, type) and obj.__module__ == MAIN and obj is self._value:
            raise _ByValue
        return NotImplemented

    def _function(self, function: FunctionType) -> Any:
        if function.__module__ != MAIN and _named(function):
            return NotImplemented
        if function is not self._value and _named(function):
            self.needs[function.__qualname__.partition(".")[0]] = None
            return NotImplemented
        if function.__closure__ or function.__globals__ is not self._main:
            raise _ByValue
        for name in sorted(names_of_main(function.__code__)):
            if name in self._main:
                self.needs[name] = None
        state = {
            "__name__": function.__name__,
            "__qualname__": function.__qualname__,
            "__module__": function.__module__,
            "__doc__": function.__doc__,
            "__defaults__": function.__defaults__,
            "__kwdefaults__": function.__kwdefaults__,
            "__annotations__": function.__annotations__,
        }
        return make_function, (marshal.dumps(function.__code__), state, function.__dict__)

    def _module(self, module: ModuleType) -> Any:
        """A module by name, with the submodules that the body could reach through it."""
        prefix = module.__name__ + "."
        below = [name for name in list(sys.modules) if name.startswith(prefix)]
        words = self._words() if below else set()
        used = [name for name in below if all(p in words for p in name[len(prefix) :].split("."))]
        return import_modules, (module.__name__, used)

    def _words(self) -> set[str]:
        """Every name that the code of `__main__` uses."""
        words: set[str] = set()
        for value in list(self._main.values()):
            of_main = isinstance(value, type) and value.__module__ == MAIN
            for item in [value, *vars(value).values()] if of_main else [value]:
                for function in _functions(item):
                    words.update(_words_of(function.__code__))
        return words


def _functions(value: Any) -> Iterator[FunctionType]:
    """The functions of `__main__` within what decorators have put around them."""
    inner = value
    for _ in range(50):  # a decorator may have made a circle of __wrapped__
        if isinstance(inner, FunctionType) and inner.__module__ == MAIN:
            yield inner
        if isinstance(inner, Decorated):
            inner = inner.fn
        elif isinstance(inner, partial):
            inner = inner.func
        elif isinstance(inner, property):
            inner = inner.fget
        else:  # as functools.wraps leaves it, and static and class methods
            held = getattr(inner, "__dict__", None)
            inner = held.get("__wrapped__") if isinstance(held, dict) else None


def make_function(code: bytes, state: dict[str, Any], attributes: dict[str, Any]) -> FunctionType:
    """A function of this process's `__main__`, from its marshalled code."""
    function = FunctionType(marshal.loads(code), sys.modules[MAIN].__dict__)
    for name, value in state.items():
        setattr(function, name, value)
    function.__dict__.update(attributes)
    return function


def make_cached(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    """What functools.lru_cache made, with an empty cache."""
    from functools import lru_cache

    return lru_cache(**parameters)(function)


def import_modules(name: str, below: list[str]) -> ModuleType:
    import importlib

    module = importlib.import_module(name)
    for submodule in below:
        importlib.import_module(submodule)
    return module


def main_globals() -> dict[str, Any]:
    """The namespace of this process's `__main__`."""
    return sys.modules[MAIN].__dict__


class _MainGlobals(dict[str, Any]):
    """Stands for the namespace of `__main__` in cloudpickle's pickles."""

    def __reduce__(self) -> tuple[Any, ...]:
        return main_globals, ()


def cloudpickle_main(value: Any, main: dict[str, Any]) -> bytes:
    """A value by cloudpickle, its functions bound to the worker's `__main__`."""
    file = io.BytesIO()
    pickler = cloud_pickler()(file, PROTOCOL)
    pickler.globals_ref[id(main)] = _MainGlobals(__name__=MAIN)
    pickler.dump(value)
    return file.getvalue()


def _named(value: Any) -> bool:
    """Whether importing its module and walking its qualified name gives this very object."""
    found: Any = sys.modules.get(value.__module__)
    if found is None or (value.__module__ != MAIN and getattr(found, "__spec__", None) is None):
        return False
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value


def names_of_main(code: CodeType) -> set[str]:
    """Names that the code and the code inside it look up in their globals; where it asks for
    `__main__` itself, whatever it takes from anything."""
    if any(MAIN in inner.co_names or MAIN in inner.co_consts for inner in codes(code)):
        return _words_of(code)
    return global_names(code)


def _words_of(code: CodeType) -> set[str]:
    """Names of globals, attributes and modules."""
    return {name for inner in codes(code) for name in inner.co_names}


def describe(function: Callable[..., Any]) -> FunctionSpec:
    """How a worker finds `function`.

    Raises NotPicklable where it has no importable name and cannot travel by value.
    """
    module = getattr(function, "__module__", None) or ""
    qualname = getattr(function, "__qualname__", "<locals>")
    found = sys.modules.get(module)
    importable = module == MAIN or getattr(found, "__spec__", None) is not None
    if (
        found
        and importable
        and "<" not in qualname
        and unwrapped(_lookup(found, qualname)) is function
    ):
        names = (qualname.partition(".")[0],) if module == MAIN else ()
        return FunctionSpec("name", module, qualname.encode(), names)
    return _by_value(function, module)


def _by_value(function: Callable[..., Any], module: str) -> FunctionSpec:
    main = sys.modules[MAIN].__dict__
    try:
        data = cloudpickle_main(function, main)
    except Exception as error:  # noqa: BLE001 - users' reducers
        try:
            data = dumps_by_dill(function)
        except Exception:  # noqa: BLE001 - users' reducers
            name = getattr(function, "__qualname__", repr(function))
            raise not_picklable(function, f"the function {name}", {}, error) from None
    return FunctionSpec("value", module, data, main_names(data, main))


def find(kind: str, module: str, data: bytes) -> Callable[..., Any]:
    """The function that a FunctionSpec describes, in a worker.

    Raises whatever importing its module raises, and NotPicklable where the module has no such
    function any more.
    """
    if kind == "value":
        function: Callable[..., Any] = loads(data)
        return function
    import importlib

    found = _lookup(importlib.import_module(module), data.decode())
    if found is None:
        raise NotPicklable(f"{module} has no {data.decode()}, where the pipeline found it")
    inner: Callable[..., Any] = unwrapped(found)
    return inner


def _lookup(module: ModuleType, qualname: str) -> Any:
    """What stands under a qualified name, static and class methods taken off."""
    found: Any = module
    for part in qualname.split("."):
        inside = getattr(found, "__dict__", {})
        found = inside[part] if part in inside else getattr(found, part, None)
        if isinstance(found, staticmethod | classmethod):
            found = found.__func__
    return found


def unwrapped(found: Any) -> Any:
    """The function of the component that `found` is or wraps; `found` where there is none."""
    inner = found
    for _ in range(50):  # a decorator may have made a circle of __wrapped__
        if isinstance(inner, Decorated):
            return inner.fn
        inner = getattr(inner, "__wrapped__", None)
    return found

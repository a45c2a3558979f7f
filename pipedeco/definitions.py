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
from contextvars import copy_context
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.errors import NotPicklable
from pipedeco.imported import imported_as
from pipedeco.instructions import codes, global_names
from pipedeco.main_file import MAIN, hindrance
from pipedeco.picklers import (
    PROTOCOL,
    cloud_pickler,
    dumps_by_dill,
    imported_globals,
    is_named,
    loads,
    referenced_globals,
    unnamed_reduction,
)
from pipedeco.reductions import has_reduction, make_cached, reduction
from pipedeco.serialization import dumps, main_names
from pipedeco.strays import strays

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pipedeco.picklers import GlobalsOf


ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, tuple})


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


class _Made:
    """What is known of one name of `__main__`.

    Parameters
    ----------
    definition: None of a name that each `__main__` has by itself.
    before: names that loading it looks up.
    later: names that its code looks up.
    """

    __slots__ = ("before", "definition", "later")

    def __init__(
        self,
        definition: Definition | None,
        before: tuple[str, ...] = (),
        later: tuple[str, ...] = (),
    ) -> None:
        self.definition = definition
        self.before = before
        self.later = later


class MainDefinitions:
    """What workers must know of this process's `__main__`; one for each run.

    Parameters
    ----------
    given: whether workers have a name with this value by themselves, as they import the main file.
    """

    def __init__(self, given: Callable[[str, Any], bool] = lambda name, value: False) -> None:
        self._given = given
        self._main = sys.modules[MAIN].__dict__
        self._made: dict[str, _Made] = {}
        self._context = copy_context()

    def see(self) -> None:
        """Take the context variables as they are in this thread now."""
        self._context = copy_context()

    def reached(self, names: Iterable[str]) -> list[Definition]:
        """The definitions of `names` and of all that they reach, what is needed first on top.

        Raises NotPicklable where one of them cannot travel.
        """
        return _Order(self._known).of(names)

    def values(self, found: Iterable[Definition]) -> list[Definition]:
        """Those that are no functions, classes and modules: a step may have changed its worker's."""
        code = (type, FunctionType, BuiltinFunctionType, ModuleType, Decorated)
        return [item for item in found if not isinstance(self._main.get(item.name), code)]

    def known(self, packed: bytes | memoryview) -> tuple[str, ...]:
        """The names of `__main__` that a pickled value refers to."""
        return main_names(packed, self._main)

    def _known(self, name: str) -> _Made | None:
        """What is known of a name; None of one that `__main__` has not."""
        if name not in self._made and name in self._main:
            self._made[name] = self._context.run(self._make, name)
        return self._made.get(name)

    def _make(self, name: str) -> _Made:
        if name in _OWN_NAMES or self._given(name, self._main[name]):
            return _Made(None)
        definer = _Definer(name, self._main)
        data = definer.define()
        before = (*definer.before, *self.known(data))
        return _Made(Definition(name, data), before, tuple(definer.later))


class _Order:
    """Puts definitions behind those that they need.

    Code may be called while what needs it is loaded, so what it looks up comes before it as well,
    unless that needs the code itself.
    """

    def __init__(self, known: Callable[[str], _Made | None]) -> None:
        self._known = known
        self._visited: set[str] = set()
        self._placed: dict[str, Definition | None] = {}

    def of(self, names: Iterable[str]) -> list[Definition]:
        for name in names:
            self._visit(name)
        return [definition for definition in self._placed.values() if definition is not None]

    def _visit(self, name: str) -> None:
        made = self._known(name)
        if made is None or name in self._visited:
            return
        self._visited.add(name)
        for needed in (*made.before, *made.later):
            self._visit(needed)
        self._place(name, made, set())

    def _place(self, name: str, made: _Made, around: set[str]) -> None:
        if name in self._placed or name in around:
            return
        for needed in made.before:
            self._visit(needed)
            found = self._known(needed)
            if found is not None:
                self._place(needed, found, {*around, name})
        self._placed[name] = made.definition


# A worker's __main__ has its own of these; where code has travelled, its file is another one.
_OWN_NAMES = frozenset(
    {"__name__", "__builtins__", "__loader__", "__spec__", "__file__", "__package__"}
)


class OfMain:
    """Stands in a pickle for what `__main__` has under a name."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return global_of_main, (self.name,)


class _ByValue(Exception):
    """Raised inside the light pickler where cloudpickle must take over."""


class _Definer(pickle.Pickler):
    """Pickles one value of `__main__`: functions as code, the rest as pickle does.

    `before` are names that it takes from the worker's `__main__`, besides those that the pickle
    refers to; `later` those that its functions look up when they are called.
    """

    def __init__(self, name: str, main: dict[str, Any]) -> None:
        self._file = io.BytesIO()
        super().__init__(self._file, PROTOCOL)
        self._name = name
        self._value = main[name]
        self._main = main
        self.before: dict[str, None] = {}
        self.later: dict[str, None] = {}

    def define(self) -> bytes:
        found = None if self._is_known(self._value) else imported_as(*self._item, self._main)
        if found is not None:
            return dumps(found)
        try:
            self.dump(self._value)
            return self._file.getvalue()
        except Exception:  # noqa: BLE001 - users' reducers; cloudpickle is asked next
            return self._cloud()

    @property
    def _item(self) -> tuple[str, Any]:
        return self._name, self._value

    def _cloud(self) -> bytes:
        """By cloudpickle, with what its functions look up: making a class may call some."""
        self.before.clear()
        self.later.clear()
        try:
            return by_cloudpickle(
                self._value, self._main, defined=self._name, reduce=self._reduction
            )
        except Exception as error:  # noqa: BLE001 - users' reducers
            return self._dill(error)

    def _dill(self, reason: Exception) -> bytes:
        if not isinstance(self._value, type):  # which dill would name where it cannot define it
            try:
                return dumps_by_dill(self._value)
            except Exception:  # noqa: BLE001, S110 - users' reducers; the first reason is told
                pass
        from pipedeco.culprits import IMPORT, not_picklable

        what = f"the global {self._name}"
        cure = IMPORT
        if line := hindrance():
            cure += f"; {line} keeps them from importing this one: move it below the guard"
        raise not_picklable(self._value, what, {}, reason, cure) from None

    @staticmethod
    def _is_known(value: Any) -> bool:
        """Whether a value has a name of its own, by which every pickler finds it."""
        return isinstance(value, Decorated) or (
            isinstance(value, type | FunctionType) and is_named(value)
        )

    def reducer_override(self, obj: Any) -> Any:
        made = self._reduction(obj)
        if made is not NotImplemented:
            return made
        if isinstance(obj, FunctionType):
            return self._function(obj)
        if isinstance(obj, ModuleType):
            return self._module(obj)
        if hasattr(obj, "cache_parameters") and (obj is self._value or not is_named(obj)):
            # functools.lru_cache: it pickles as its name, which leads to what we are defining
            return make_cached, (obj.__wrapped__, obj.cache_parameters())
        if isinstance(obj, type) and obj is self._value and not _named_elsewhere(obj):
            raise _ByValue
        if isinstance(obj, type) and strays().go_by_value(obj.__module__):
            raise _ByValue
        return NotImplemented

    def _reduction(self, obj: Any) -> Any:
        """What has an identity is one object in a worker, too, where `__main__` has it."""
        if not has_reduction(obj) or (is_named(obj) and not _is_within(obj, self._name)):
            return NotImplemented
        if obj is self._value:
            return reduction(obj)
        for name, value in self._main.items():
            if value is obj:
                self.before[name] = None
                return global_of_main, (name,)
        return reduction(obj)

    def _function(self, function: FunctionType) -> Any:
        if is_named(function) and (function.__module__ != MAIN or function is not self._value):
            return NotImplemented
        if function.__closure__ or function.__globals__ is not self._main:
            raise _ByValue
        self.later.update(_names_here(function, self._main))
        state = {
            "__name__": function.__name__,
            "__qualname__": function.__qualname__,
            "__module__": function.__module__,
            "__doc__": function.__doc__,
            "__defaults__": function.__defaults__
            and tuple(map(self._shared, function.__defaults__)),
            "__kwdefaults__": function.__kwdefaults__
            and {name: self._shared(value) for name, value in function.__kwdefaults__.items()},
            "__annotations__": function.__annotations__,
        }
        return make_function, (marshal.dumps(function.__code__), state, function.__dict__)

    def _shared(self, default: Any) -> Any:
        """A default that `__main__` has, too, is compared by `is`: it is one object in a worker."""
        if type(default) in ATOMS or isinstance(default, (type, FunctionType)):
            return default
        for name, value in self._main.items():
            if value is default and name != self._name:
                self.before[name] = None
                return OfMain(name)
        return default

    def _module(self, module: ModuleType) -> Any:
        """A module by name, with the submodules that the body could reach through it."""
        if strays().go_by_value(module.__name__):
            raise _ByValue
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


def global_of_main(name: str) -> Any:
    """What this process's `__main__` has under a name."""
    return main_globals()[name]


def by_cloudpickle(
    value: Any,
    main: dict[str, Any],
    *,
    defined: str = "",
    globals_of: GlobalsOf = imported_globals,
    reduce: Callable[[Any], Any] = unnamed_reduction,
) -> bytes:
    """A value by cloudpickle, its functions bound to the worker's `__main__`.

    Parameters
    ----------
    defined: the name of `__main__` that this is to define.
    globals_of: gives the globals of a function as they are sent.
    reduce: is asked before cloudpickle.
    """

    def named(obj: Any) -> bool:
        return is_named(obj) and not _is_within(obj, defined)

    file = io.BytesIO()
    pickler = cloud_pickler()(file, PROTOCOL)
    pickler.globals_ref[id(main)] = _MainGlobals(__name__=MAIN)
    pickler.globals_of = globals_of
    pickler.named = named
    pickler.reduce = reduce
    pickler.dump(value)
    return file.getvalue()


def _is_within(obj: Any, name: str) -> bool:
    """Whether something stands below a name of `__main__`."""
    return bool(obj.__module__ == MAIN and obj.__qualname__.partition(".")[0] == name)


def _named_elsewhere(obj: Any) -> bool:
    return getattr(obj, "__module__", None) != MAIN and is_named(obj)


def _names_here(function: FunctionType, main: dict[str, Any]) -> dict[str, None]:
    """The names of `__main__` that a function looks up."""
    return dict.fromkeys(n for n in sorted(names_of_main(function.__code__)) if n in main)


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
        and not strays().go_by_value(module)
    ):
        names = (qualname.partition(".")[0],) if module == MAIN else ()
        return FunctionSpec("name", module, qualname.encode(), names)
    return _by_value(function, module)


def _by_value(function: Callable[..., Any], module: str) -> FunctionSpec:
    main = sys.modules[MAIN].__dict__
    later: dict[str, None] = {}
    data = sent_by_value(function, main, later)
    names = tuple({**dict.fromkeys(main_names(data, main)), **later})
    return FunctionSpec("value", module, data, names)


def sent_by_value(
    function: Callable[..., Any], main: dict[str, Any], later: dict[str, None]
) -> bytes:
    """A function by value; `later` gets the names of `__main__` that it looks up.

    Of its module's globals those that cannot be sent are the worker's own.  Raises NotPicklable
    with what the first pickler says.
    """

    def apart_from_main(globals_of: GlobalsOf) -> GlobalsOf:
        def of(inner: FunctionType, found: dict[str, Any]) -> dict[str, Any]:
            if inner.__globals__ is not main:
                return globals_of(inner, found)
            later.update(_names_here(inner, main))
            return {}

        return of

    ways: tuple[Callable[[], bytes], ...] = (
        lambda: by_cloudpickle(function, main, globals_of=apart_from_main(imported_globals)),
        lambda: by_cloudpickle(function, main, globals_of=apart_from_main(referenced_globals)),
        lambda: dumps_by_dill(function),
    )
    reason: Exception | None = None
    for way in ways:
        try:
            return way()
        except Exception as error:  # noqa: BLE001 - users' reducers
            reason = reason or error
    from pipedeco.culprits import not_picklable

    name = getattr(function, "__qualname__", repr(function))
    raise not_picklable(function, f"the function {name}", {}, reason) from None


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

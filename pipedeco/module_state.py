"""Globals of the user's modules that a program may have changed, for workers that import them.

A worker imports a component's module anew, so it would miss what the program has set since:
`settings.K = 6`, a registry that was filled, a global that `main()` assigns.  The globals that a
component reaches therefore go along, and a worker sets those of which its own value is another.
Functions, classes and modules are what the import gives.
"""

from __future__ import annotations

import _ast
import copyreg
import io
import pickle
import sys
from contextvars import ContextVar
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.definitions import Decorated, sent_by_value
from pipedeco.imported import imported_as
from pipedeco.instructions import codes
from pipedeco.main_file import MAIN, bound_names, is_users
from pipedeco.serialization import main_names
from pipedeco.syntax import tree_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import CodeType

    from pipedeco.main_file import MainSource

CODE = (type, FunctionType, BuiltinFunctionType, MethodType, ModuleType, Decorated)
COMPARED = 3  # the pickle protocol of values that are compared; the last one without frames
# Names by which code looks up names that it computes: in any module, and in its own.
COMPUTED = frozenset(
    ["getattr", "hasattr", "vars", "dir", "attrgetter", "methodcaller", "__dict__"]
)
OWN_COMPUTED = frozenset(["globals", "eval", "exec"])
COMPARED_BYTES = 64 << 20  # of a global that the program may have changed
WRAPPED = 50  # layers of decorators that are looked through, as they may form a circle
ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes})
GENERATORS = (
    "random.Random",
    "numpy.random._generator.Generator",
    "numpy.random.mtrand.RandomState",
)


class Global(NamedTuple):
    """A global of a module, or an attribute of a class there, by their names."""

    module: str
    name: str


class Change(NamedTuple):
    """The value of a global as the program has it; the worker's own may be the same.

    `object` is the same for globals that are one object in the program.
    """

    module: str
    name: str
    data: bytes
    object: str


class Needed(NamedTuple):
    """What a worker needs for a call beside the modules that it imports."""

    changes: list[Change]
    definitions: list[str]  # names of `__main__` that the import of the main file does not give


class Unsent(NamedTuple):
    """A global of which workers have what importing its module gives them, and why."""

    where: Global
    reason: str


class ModuleState:
    """The globals that the components of one run reach, as they are now.

    Parameters
    ----------
    main : MainSource, optional
        The main file, where workers import it; else its globals travel as definitions.
    elsewhere : bool
        Whether workers may be on other machines, where a module computes values of its own, such
        as a device's name: these stay, and only what the source shows to be changed goes along.
    """

    def __init__(self, main: MainSource | None, *, elsewhere: bool = False) -> None:
        self._main = main
        self._elsewhere = elsewhere
        self._reach = Reach(main is not None)
        self._sources = Sources()
        self._pickled: dict[Global, bytes | None] = {}
        # Names of `__main__` that the functions of a value use.
        self._later: dict[Global, dict[str, None]] = {}
        self._objects: dict[int, str] = {}  # what objects are called, by id
        self.unsent: list[Unsent] = []

    def needed(self, fn: Callable[..., Any], names: Iterable[str] = ()) -> Needed:
        """Return what a worker must be told before it calls `fn`.

        Parameters
        ----------
        fn : callable
            A component's function.
        names : iterable of str
            Names of `__main__` that its arguments refer to.
        """
        reached = self._reach.of(fn, names)
        changes = []
        definitions = [name for name, value in reached.code.items() if not self.given(name, value)]
        for where, value in reached.values.items():
            if where not in self._pickled:
                self._pickled[where] = self._dump(where, value)
            data = self._pickled[where]
            if data is not None:
                called = self._objects.setdefault(id(value), ":".join(where))
                changes.append(Change(*where, data, called))
                if self._main is None and MAIN.encode() in data:
                    definitions += self._names_for(where, data)
            elif self._is_missing(where):
                definitions.append(where.name)
        return Needed(changes, definitions)

    def given(self, name: str, value: Any) -> bool:
        """Return whether the import of the main file gives `__main__` this name and value."""
        if self._main is None:
            return False
        if isinstance(value, CODE):
            inner = value.fn if isinstance(value, Decorated) else value
            return self._main.defines(name, inner)
        return name in self._main.bound

    def _names_for(self, where: Global, data: bytes) -> set[str]:
        """Return the names of `__main__` that a changed global needs, where nobody imports it."""
        main = sys.modules[MAIN].__dict__
        return {*main_names(data, main), *self._later.get(where, ())}

    def _is_missing(self, where: Global) -> bool:
        """Return whether only a definition can give workers this global of `__main__`."""
        main = self._main
        name = where.name.partition(".")[0]
        return where.module == MAIN and main is not None and name not in main.bound

    def _dump(self, where: Global, value: Any) -> bytes | None:
        if _type_name(value) in GENERATORS and self._sources.is_bare_call(where):
            return None  # of its own entropy in each process, as it was made to be
        if self._elsewhere and where.module != MAIN and not self._is_changed(where, value):
            return None
        size = _size(value)
        if size > COMPARED_BYTES and not self._was_empty(where):
            reason = f"it has {size >> 20} MiB, more than is compared at each run"
            self.unsent.append(Unsent(where, reason))
            return None
        try:
            return dump_global(value)
        except Exception as error:  # noqa: BLE001 - users' reducers
            return self._carried(where, value, error)

    def _carried(self, where: Global, value: Any, error: Exception) -> bytes | None:
        """Return a pickle by value of what is certainly changed; else a worker's own is kept."""
        node = self._sources.assigned(where)
        if isinstance(value, FunctionType):
            changed = value.__module__ == MAIN != where.module
        else:
            changed = isinstance(node, _ast.Constant) and type(value) is not type(node.value)
        if not changed:
            return None
        try:
            later = self._later[where] = {}
            return sent_by_value(value, sys.modules[MAIN].__dict__, later)
        except Exception:  # noqa: BLE001 - users' reducers
            reason = f"{_type_name(value)} cannot be pickled ({str(error)[:120]})"
            self.unsent.append(Unsent(where, reason))
            return None

    def _was_empty(self, where: Global) -> bool:
        """Return whether the source first gives a global a constant, or nothing but a container."""
        node = self._sources.assigned(where)
        if isinstance(node, _ast.Dict | _ast.List | _ast.Set | _ast.Tuple):
            return not (getattr(node, "elts", None) or getattr(node, "keys", None))
        return isinstance(node, _ast.Constant) or self._sources.is_bare_call(where)

    def _is_changed(self, where: Global, value: Any) -> bool:
        """Return whether a value may be another than the import gives on any machine."""
        if type(value) in ATOMS or type(value).__module__ == "pathlib":
            node = self._sources.assigned(where)
            if node is None:  # where the import does not give it, the program has
                return not self._sources.binds(where)
            return isinstance(node, _ast.Constant) and node.value != value
        return True


class Reached(NamedTuple):
    """What the functions that a component reaches use of the user's modules."""

    values: dict[Global, Any]
    code: dict[str, Any]  # functions, classes and modules of `__main__`


class Reach:
    """Finds the globals that functions of the user's modules use, directly or through others.

    Parameters
    ----------
    of_main : bool
        Whether globals of `__main__` count.
    """

    def __init__(self, of_main: bool) -> None:
        self._of_main = of_main
        self._users: dict[str, bool] = {MAIN: True}
        self._known: dict[Any, Reached] = {}

    def of(self, fn: Callable[..., Any], names: Iterable[str]) -> Reached:
        key = fn, *names
        if key not in self._known:
            walk = _Walk(self)
            walk.meet(fn)
            main = sys.modules[MAIN].__dict__
            for name in names:
                if name in main:
                    walk.use(MAIN, name, main[name], frozenset())
            walk.go_on()
            self._known[key] = Reached(
                {w: v for w, v in walk.values.items() if self._of_main or w.module != MAIN},
                walk.code if self._of_main else {},
            )
        return self._known[key]

    def origin(self, where: Global, value: Any) -> Global:
        """Return where a global is from, if it is one of `__main__` that workers do not import."""
        if self._of_main or where.module != MAIN:
            return where
        found = imported_as(where.name, value, sys.modules[MAIN].__dict__)
        if found is None or not self.is_users(found.module):
            return where
        return Global(found.module, found.name)

    def is_users(self, module: Any) -> bool:
        """Return whether a module of this name is the user's own."""
        if not isinstance(module, str):
            return False
        if module not in self._users:
            path = getattr(sys.modules.get(module), "__file__", None)
            self._users[module] = isinstance(path, str) and is_users(path)
        return self._users[module]


class _Walk:
    """One way through the functions that a component reaches."""

    def __init__(self, reach: Reach) -> None:
        self.reach = reach
        self.values: dict[Global, Any] = {}
        self.code: dict[str, Any] = {}
        self._todo: list[FunctionType] = []
        self._seen: set[int] = set()  # functions and classes
        self._entered: set[tuple[int, str]] = set()  # modules and names in them

    def go_on(self) -> None:
        while self._todo:
            self._function(self._todo.pop())

    def use(self, module: str, name: str, value: Any, words: frozenset[str]) -> None:
        """A function of `module` uses this global of it; `words` are the names in its code."""
        alias = _is_alias(module, name, value)
        if module == MAIN and isinstance(value, CODE) and not alias:
            self.code[name] = value
        if isinstance(value, ModuleType):
            self._module(value, words)
            return
        self.meet(value)
        where = Global(module, name)
        if alias or not isinstance(value, CODE):
            self.values[self.reach.origin(where, value)] = value
            self.meet(type(value))

    def meet(self, value: Any) -> None:
        """Look into the functions of a value: its own, or a class's."""
        if isinstance(value, type):
            if id(value) not in self._seen and self.reach.is_users(value.__module__):
                self._seen.add(id(value))
                self._class(value)
        else:
            self._push(value)

    def _class(self, cls: type) -> None:
        """Look into the methods of a class, and note its attributes."""
        plain = type(cls).__module__ in ("builtins", "abc") and "<" not in cls.__qualname__
        for name, item in list(vars(cls).items()):
            self._push(item)
            if plain and _is_attribute(name, item):
                self.values[Global(cls.__module__, f"{cls.__qualname__}.{name}")] = item
        for base in cls.__bases__:
            self.meet(base)

    def _push(self, value: Any) -> None:
        for function in _functions(value):
            if id(function) not in self._seen:
                self._seen.add(id(function))
                self._todo.append(function)

    def _function(self, function: FunctionType) -> None:
        namespace = function.__globals__
        module = namespace.get("__name__")
        if not self.reach.is_users(module):
            return
        words = _words(function.__code__)
        if words & OWN_COMPUTED:  # it may look up any of its own
            words |= {name for name in namespace if not name.startswith("__")}
        for name in words:
            if name in namespace:
                self.use(str(module), name, namespace[name], words)
            elif isinstance(found := sys.modules.get(name), ModuleType):  # imported in the function
                self._module(found, words)
        for cell in function.__closure__ or ():
            try:
                self.meet(cell.cell_contents)
            except ValueError:  # an empty cell
                pass

    def _module(self, module: ModuleType, words: frozenset[str]) -> None:
        name = module.__name__
        if not self.reach.is_users(name):
            return
        names = vars(module)
        if words & COMPUTED:  # it may look up any name there
            words |= {each for each in names if not each.startswith("__")}
        for word in words & names.keys():
            if (id(module), word) not in self._entered:
                self._entered.add((id(module), word))
                self.use(name, word, names[word], words)


def _is_alias(module: str, name: str, value: Any) -> bool:
    """Whether a function or class has this name beside its own, and may be changed for another."""
    if not isinstance(value, FunctionType | type):
        return False
    if value.__qualname__ == "<lambda>":
        return module != MAIN
    return value.__qualname__ != name


def _is_attribute(name: str, item: Any) -> bool:
    """Whether a name of a class is a value, rather than a method, a property or Python's own."""
    return not (
        isinstance(item, CODE) or hasattr(type(item), "__get__") or name.startswith(("__", "_abc_"))
    )


def _words(code: CodeType) -> frozenset[str]:
    """Every name of a global, an attribute or a module in the code; but none of Python's own."""
    return frozenset(
        name
        for inner in codes(code)
        for name in inner.co_names
        if not name.startswith("__") or name in COMPUTED
    )


def _functions(value: Any) -> Iterator[FunctionType]:
    """The functions of a value, within what decorators have put around them."""
    for _ in range(WRAPPED):
        if isinstance(value, FunctionType):
            yield value
        if isinstance(value, Decorated):
            value = value.fn
        elif isinstance(value, staticmethod | classmethod | MethodType):
            value = value.__func__
        elif isinstance(value, partial):
            value = value.func
        elif isinstance(value, property):
            value = value.fget
        else:
            held = getattr(value, "__dict__", None)
            value = held.get("__wrapped__") if isinstance(held, dict) else None
        if value is None:
            return


def _size(value: Any) -> int:
    """About how many bytes a value has, as far as it takes no time to say."""
    library = type(value).__module__.partition(".")[0]
    if library == "pandas" and hasattr(value, "memory_usage"):
        usage = value.memory_usage(deep=False)
        return int(usage.sum() if hasattr(usage, "sum") else usage)
    if library in ("numpy", "torch"):
        return int(getattr(value, "nbytes", 0))
    if isinstance(value, str | bytes | bytearray | list | tuple | dict | set | frozenset):
        return sys.getsizeof(value)
    return 0


def _type_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


# -- what the source says ----------------------------------------------------------------------


class Sources:
    """What the sources of modules say that importing them assigns."""

    def __init__(self) -> None:
        self._bodies: dict[str, list[Any]] = {}

    def assigned(self, where: Global) -> Any:
        """Return the expression that a name is given first; None where nobody knows."""
        *classes, name = where.name.split(".")
        body = self._body(where.module)
        for each in classes:
            inner = [s.body for s in body if isinstance(s, _ast.ClassDef) and s.name == each]
            body = inner[0] if inner else []
        for statement in body:
            targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
            for target in targets:
                for found, value in _pairs(target, getattr(statement, "value", None)):
                    if found == name:
                        return value
        return None

    def binds(self, where: Global) -> bool:
        """Return whether importing the module gives the name anything, as far as is known."""
        body = self._body(where.module)
        first, _, rest = where.name.partition(".")
        for statement in body if rest else ():
            if isinstance(statement, _ast.ClassDef) and statement.name == first:
                return rest in set(bound_names(statement.body))
        return not body or first in set(bound_names(body))

    def is_bare_call(self, where: Global) -> bool:
        """Return whether a module gives the name what a call without arguments returns."""
        node = self.assigned(where)
        return isinstance(node, _ast.Call) and not node.args and not node.keywords

    def _body(self, module: str) -> list[Any]:
        if module not in self._bodies:
            path = getattr(sys.modules.get(module), "__file__", None)
            tree: Any = None
            try:
                with open(path or "", "rb") as file:
                    tree = tree_of(file.read(), file.name)
            except (OSError, SyntaxError, ValueError):  # it has no source, or is edited just now
                pass
            self._bodies[module] = [] if tree is None else tree.body
        return self._bodies[module]


def _pairs(target: Any, value: Any) -> Iterator[tuple[str, Any]]:
    """The names that an assignment binds, with their expressions."""
    if isinstance(target, _ast.Name):
        yield target.id, value
    elif isinstance(target, _ast.Tuple) and isinstance(value, _ast.Tuple):
        for inner in zip(target.elts, value.elts, strict=False):
            yield from _pairs(*inner)


# -- in the nursery ----------------------------------------------------------------------------


def unseeded_generators() -> list[Any]:
    """Return the random generators of the user's modules that draw from the system's entropy."""
    reach, sources = Reach(of_main=True), Sources()
    return [
        value
        for module, imported in list(sys.modules.items())
        if reach.is_users(module)
        for name, value in list(vars(imported).items())
        if _type_name(value) in GENERATORS and sources.is_bare_call(Global(module, name))
    ]


def reseed(generators: Iterable[Any]) -> None:
    """Let forked processes draw numbers of their own."""
    for generator in generators:
        if hasattr(generator, "seed"):
            generator.seed()
        else:  # a Generator of numpy
            bits = generator.bit_generator
            bits.state = type(bits)().state


# -- in a worker -------------------------------------------------------------------------------


def dumped_globals() -> dict[Global, bytes]:
    """Return the globals of the user's modules that can be pickled, as they are here now."""
    reach = Reach(of_main=True)
    found = {}
    for module, imported in list(sys.modules.items()):
        if not reach.is_users(module):
            continue
        for name, value in list(vars(imported).items()):
            if not isinstance(value, CODE) and not name.startswith("__"):
                try:
                    found[Global(module, name)] = dump_global(value)
                except Exception:  # noqa: BLE001, S110 - users' reducers
                    pass
    return found


# -- values as bytes that can be compared --------------------------------------------------------


def dump_global(value: Any) -> bytes:
    """Return a pickle in which each path is one string; of a context variable its value's.

    Raises whatever pickling the value raises.
    """
    if isinstance(value, ContextVar):
        value = value.get()
    file = io.BytesIO()
    pickler = pickle.Pickler(file, COMPARED)
    pathlib = sys.modules.get("pathlib")
    if pathlib is not None:
        own = dict.fromkeys((type(pathlib.Path()), type(pathlib.PurePath())), _reduce_path)
        pickler.dispatch_table = {**copyreg.dispatch_table, **own}
    pickler.dump(value)
    return file.getvalue()


def _reduce_path(path: Any) -> tuple[Any, ...]:
    return type(path), (str(path),)


def with_paths_moved(data: bytes, origin: str, folder: str) -> bytes:
    """Return a pickle of `dump_global` in which strings below one folder are below another."""
    if origin.encode() not in data:
        return data
    import pickletools

    parts = []
    begin = 0
    text = ""
    found: Iterable[Any] = pickletools.genops(data)
    for opcode, argument, position in found:
        if text:
            raw = text.encode("utf-8", "surrogatepass")
            parts += [pickle.BINUNICODE, len(raw).to_bytes(4, "little"), raw]
            begin, text = position, ""
        if opcode.name == "BINUNICODE" and _is_below(argument, origin):
            parts.append(data[begin:position])
            text = folder + argument[len(origin) :]
    parts.append(data[begin:])
    return b"".join(parts)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")

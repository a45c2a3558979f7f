"""The walk from a function to all that it reaches.

Only dictionaries of modules and classes are looked into: no property and no `__getattr__` of the
user's has its say.
"""

from __future__ import annotations

import sys
from functools import _lru_cache_wrapper, cached_property
from marshal import dumps
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any

from pipedeco.definitions import Decorated
from pipedeco.fingerprint import lookup
from pipedeco.fingerprint.bytecode import Read, Root
from pipedeco.fingerprint.libraries import UNDEFINED_FUNCTION, checked_by_beartype
from pipedeco.fingerprint.naming import public_name
from pipedeco.fingerprint.nodes import name_of
from pipedeco.fingerprint.packages import file_digest
from pipedeco.fingerprint.parts import PLAIN, Part, Writer
from pipedeco.fingerprint.singletons import holder_of

if TYPE_CHECKING:
    from collections.abc import Callable

MISSING = lookup.MISSING
_COMPILED = (".so", ".pyd")
_FUNCTIONS = (FunctionType, MethodType, Decorated, _lru_cache_wrapper)
_BUILT_IN = (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodWrapperType,
    WrapperDescriptorType,
)
# Of a class: where it stands, what it caches, what follows from the rest.
_OF_CLASSES = frozenset(
    (
        *("__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__firstlineno__"),
        *("_abc_impl", "__abstractmethods__", "__static_attributes__", "__annotations_cache__"),
        "__slotnames__",  # noted by copyreg when an instance is first pickled
        *("__annotate__", "__annotate_func__", "__annotations__"),
    )
)
# Of a module: what the import system notes.
_OF_MODULES = frozenset(
    ("__builtins__", "__cached__", "__loader__", "__spec__", "__warningregistry__")
)


class Reach(Writer):
    """The parts met so far; they hold for as long as nobody changes a global."""

    def root(self, fn: Any) -> tuple[str, Part]:
        """Make the parts of a function and of what it reaches; its own, and the name of that.

        A function that its module does not have under its name, such as a closure, is not
        among `parts`: another one may have that name too.
        """
        self._part = Part(None)  # no part needs what is asked for
        label = self._named(fn)
        if label is None or not self._is_users(_module_name(fn)):
            part = Part(fn)
            label = f"function {_describe(fn)}"
            label += "" if "<" in label else " (as it was given)"  # not what has this name
            self._queue.append((part, label, self._contents(fn), fn))
        else:
            self._add(label, fn, self._contents(fn))
            part = self.parts[label]
        while self._queue:
            self._make(*self._queue.popleft())
        return label, part

    def _contents(self, fn: Any) -> Callable[[Any], Any]:
        """How a root is written: what a package has under a name is as its version says."""
        if self._named(fn) is not None and not self._is_users(_module_name(fn)):
            return self._write
        if isinstance(fn, FunctionType):
            return self._function
        return self._class if lookup.is_class(fn) else self._write

    # ---- anything

    def _write(self, found: Any) -> Any:
        """The content of anything, as nested tuples of constants."""
        kind = type(found)
        if id(kind) in PLAIN:
            return found
        make = _WRITERS.get(id(kind))
        if make is not None:
            return make(self, found)
        if issubclass(kind, type):
            return self._class_or_reference(found)
        for base, make in _SUBCLASS_WRITERS:
            if issubclass(kind, base):
                return make(self, found)
        return self._value(found)

    # ---- functions

    def _function_or_reference(self, found: FunctionType) -> Any:
        label = self._named(found)
        module = found.__module__
        if label is None:
            return self._inline(found, self._function)
        if self._is_users(module):
            return self._add(label, found, self._function)
        return "name", self._package(module), label

    def _function(self, found: FunctionType) -> Any:
        if hasattr(found, "registry") and found.__globals__.get("__name__") == "functools":
            return self._dispatch(found)
        checked = checked_by_beartype(found)
        if checked is not None:
            function, settings = checked
            return (
                "checked",
                self._package("beartype"),
                *map(self._write, settings),
                self._function(function),
            )
        module = found.__globals__.get("__name__")
        users = self._is_users(module)
        code = found.__code__
        return (
            "function",
            self._body(found) if users else (self._package(str(module)), code.co_qualname),
            self._defaults(found),
            self._cells(found),
            self._annotations(found),
            self._attributes(found),
        )

    def _body(self, found: FunctionType) -> Any:
        code = self._codes.of(found.__code__)
        self._part.asks |= code.asks
        names = tuple({(plain, self._read(read, found)): None for plain, read in code.reads})
        doc = found.__doc__ if self._docs and type(found.__doc__) is str else None
        return self._codes.digest(code, self._docs), names, doc

    def _defaults(self, found: FunctionType) -> Any:
        by_place = [
            self._at(f"a default of {self._where}", value) for value in found.__defaults__ or ()
        ]
        by_name = [
            (name, self._at(f"the default {name} of {self._where}", value))
            for name, value in sorted((found.__kwdefaults__ or {}).items())
        ]
        return tuple(by_place), tuple(by_name)

    def _cells(self, found: FunctionType) -> Any:
        names = found.__code__.co_freevars
        cells = found.__closure__ or ()
        return tuple(
            [
                (name, self._at(f"{name}, which {self._where} closes over,", lookup.content(cell)))
                for name, cell in zip(names, cells, strict=True)
            ]
        )

    def _annotations(self, found: Any) -> Any:
        """Annotations by value; in those that are text, also what their names stand for."""
        annotations = lookup.annotations_of(found)
        written = []
        for name, value in annotations.items():
            where = f"the annotation {name} of {self._where}"
            written.append((name, self._at(where, value)))
            if type(value) is str:
                names = lookup.names_in(value, found)
                written.extend((name, self._at(where, item)) for item in names)
        return tuple(written)

    def _attributes(self, found: FunctionType) -> Any:
        return tuple(
            [
                (name, self._at(f"{self._where}.{name}", value))
                for name, value in sorted(found.__dict__.items())
                if not name.startswith("_pipedeco")
            ]
        )

    def _dispatch(self, found: Any) -> Any:
        """functools.singledispatch: its registry, not what it remembers of calls."""
        implementations = [
            dumps((self._write(kind), self._write(function)), 2)
            for kind, function in found.registry.items()
        ]
        return ("dispatch", *sorted(implementations))

    # ---- names

    def _read(self, read: Read, found: FunctionType) -> Any:
        kind, name, module, level = read.root
        namespace = found.__globals__
        if kind == "global":
            home = _home(namespace)
            if name in namespace:
                return self._bound(home, name, namespace[name], read)
            value = lookup.builtin(namespace, name)
            return self._bound("builtins", name, value, read)
        return self._imported(read, lookup.absolute(module, level, namespace))

    def _imported(self, read: Read, module: str) -> Any:
        """An import inside a function: the user's own modules are imported here as well."""
        if not self._is_users(module):
            return self._foreign(read, module)
        kind, name = read.root.kind, read.root.name
        try:
            found: Any = lookup.import_module(module)
        except ModuleNotFoundError as error:
            if error.name == module or module.startswith(f"{error.name}."):
                return "no module", module
            return self._amiss(f"{module}, which {self._where} imports, fails to: {error}")
        except Exception as error:  # noqa: BLE001 - a user's module may raise anything
            return self._amiss(f"{module}, which {self._where} imports, fails to: {error!r}")
        if kind == "top":
            top = module.partition(".")[0]
            return self._bound(top, "", lookup.imported(top), read)
        if kind == "from":
            return self._bound(module, name, self._member(found, name), read)
        return self._bound(module, "", found, read)

    def _foreign(self, read: Read, module: str) -> Any:
        """Somebody else's module: it counts by its version, but it may be one that imports."""
        steps = [read.root.name, *read.attributes] if read.root.kind == "from" else read.attributes
        top = module.partition(".")[0] if read.root.kind == "top" else module
        use = self._dynamic_use(lookup.imported(top), list(steps), read)
        return use or ("name", self._package(module))

    def _bound(self, module: str, name: str, value: Any, read: Read) -> Any:
        """What a name of a module, and the attributes taken from it, lead to."""
        attributes = list(read.attributes)
        while attributes and lookup.is_module(value):
            if not self._is_users(value.__dict__.get("__name__")):
                break
            module, name = _home(value.__dict__), attributes.pop(0)
            if name == "__dict__":
                return self._module(value)
            value = self._member(value, name)
        return self._dynamic_use(value, attributes, read) or self._global(module, name, value)

    def _member(self, module: ModuleType, name: str) -> Any:
        """An attribute of a user's module, or the module below it of that name."""
        names = module.__dict__
        if name in names:
            return names[name]
        full = f"{names.get('__name__')}.{name}"
        try:
            found = lookup.submodule(module, full)
        except Exception as error:  # noqa: BLE001 - a user's module may raise anything
            self._amiss(f"{full}, which {self._where} uses, fails to be imported: {error!r}")
            return MISSING
        if found is MISSING and "__getattr__" in names:
            self._amiss(f"{full} is made by __getattr__ when it is asked for")
        return found

    def _global(self, module: str, name: str, value: Any) -> Any:
        """A value by the name that a module has for it."""
        kind = type(value)
        if value is MISSING:
            return ("missing",)
        if name == "__name__":
            return public_name(value) if kind is str else None
        if name in _OF_MODULES:
            return ("import system",)
        if lookup.is_module(value):
            return self._module(value)
        if module and not self._is_users(module):
            return "name", self._package(module), f"{module}.{name}"
        if not module or self._has_name(value):
            return self._at(name, value)
        word = "function" if isinstance(value, _FUNCTIONS) else "value"
        return self._add(f"{word} {public_name(module)}.{name}", value, self._write)

    def _has_name(self, value: Any) -> bool:
        """Whether a part of its own, or a name, is what is written of it."""
        if isinstance(value, Decorated):
            return self._named(value.fn) is not None
        if isinstance(value, FunctionType) or lookup.is_class(value):
            return self._named(value) is not None
        return isinstance(value, BuiltinFunctionType)

    def _dynamic_use(self, value: Any, attributes: list[str], read: Read) -> Any:
        """What reaches code by a name that is only known when it runs."""
        use = lookup.dynamic(value, attributes)
        if use is None:
            return None
        if use == "import":
            if read.text is None:
                return self._amiss(f"{self._where} imports a module whose name it computes")
            return self._imported(Read(Root("import", "", read.text), (), None), read.text)
        return self._amiss(f"{self._where} uses {use}, which may reach anything")

    # ---- modules

    def _module(self, found: ModuleType) -> Any:
        """A whole module: it is used for more than an attribute that can be read off."""
        name = str(found.__dict__.get("__name__"))
        if not self._is_users(name):
            return "name", self._package(name), name
        if not lookup.is_imported(found):
            return self._inline(found, self._module_content)
        return self._add(f"module {public_name(name)}", found, self._module_content)

    def _module_content(self, found: ModuleType) -> Any:
        name = _home(found.__dict__)
        path = found.__dict__.get("__file__")
        if isinstance(path, str) and path.endswith(_COMPILED):
            return "compiled", file_digest(path)
        return tuple(
            [
                (key, self._global(name, key, value))
                for key, value in sorted(found.__dict__.items())
                if not (key.startswith("__") and key.endswith("__"))
            ]
        )

    # ---- classes

    def _class_or_reference(self, found: type) -> Any:
        if name_of(type(found)) == UNDEFINED_FUNCTION:  # a value of sympy's
            return self._inline(found, self._digested)
        label = self._named(found)
        module = lookup.module_of(found)
        if not self._is_users(module):
            return "name", self._package(module), f"{module}.{found.__qualname__}"
        if label is None:
            return self._inline(found, self._class)
        return self._add(label, found, self._class)

    def _class(self, found: type) -> Any:
        members = lookup.members(found)
        derived = lookup.derived(members)
        written = []
        for name in sorted(name for name in members if type(name) is str):
            if name not in _OF_CLASSES and name not in derived:
                where = f"{self._where}.{name}"
                written.append((name, self._at(where, members[name])))
        below = lookup.subclasses(found) if self._subclasses else []
        return (
            "class",
            self._write(type(found)),
            tuple([self._write(base) for base in found.__bases__]),
            tuple(written),
            self._annotations(found),
            members.get("__doc__") if self._docs and type(members.get("__doc__")) is str else None,
            tuple(self._unordered(below)),
        )

    # ---- what is neither

    def _decorated(self, found: Any) -> Any:
        """A component or a pipeline: in a step a call of it is a call of its function."""
        return "decorated", self._write(found.fn)

    def _method(self, found: MethodType) -> Any:
        held = self._held_method(found)
        return held or self._inline(
            found, lambda _: ("method", self._write(found.__func__), self._write(found.__self__))
        )

    def _held_method(self, found: Any) -> Any:
        """A method of what a module of Python or a package holds; None of any other."""
        held = holder_of(found.__self__, anywhere=True)
        return None if held is None else ("method", self._held(*held), found.__name__)

    def _built_in(self, found: Any) -> Any:
        owner = getattr(found, "__self__", None)
        name = getattr(found, "__qualname__", None) or getattr(found, "__name__", "")
        if owner is not None and not lookup.is_module(owner) and type(found) is not type:
            held = self._held_method(found)
            return held or ("built-in", str(name), self._write(owner))
        home = getattr(found, "__objclass__", None)
        module = getattr(found, "__module__", None) or getattr(home, "__module__", None)
        if type(module) is not str:
            return "built-in", str(name)
        path = getattr(lookup.imported(module), "__file__", None)
        if self._is_users(module) and type(path) is str and path.endswith(_COMPILED):
            return "compiled", str(name), file_digest(path)
        return "built-in", str(name), self._package(module)

    def _property(self, found: property) -> Any:
        functions = (found.fget, found.fset, found.fdel)
        return self._inline(found, lambda _: ("property", *map(self._write, functions)))

    def _wrapping(self, found: Any) -> Any:
        """staticmethod, classmethod."""
        return type(found).__name__, self._write(found.__func__)

    def _cached_property(self, found: Any) -> Any:
        return "cached property", found.attrname, self._write(found.func)

    def _cached(self, found: Any) -> Any:
        """functools.lru_cache: the function, not what it remembers."""
        parameters = tuple(sorted(found.cache_parameters().items()))
        return self._inline(found, lambda _: ("cached", parameters, self._write(found.__wrapped__)))


_BY_TYPE: dict[type, Callable[[Reach, Any], Any]] = {
    list: Reach._sequence,
    tuple: Reach._sequence,
    dict: Reach._dict,
    set: Reach._set,
    frozenset: Reach._set,
    FunctionType: Reach._function_or_reference,
    MethodType: Reach._method,
    ModuleType: Reach._module,
    property: Reach._property,
    staticmethod: Reach._wrapping,
    classmethod: Reach._wrapping,
    cached_property: Reach._cached_property,
    _lru_cache_wrapper: Reach._cached,
    **dict.fromkeys(_BUILT_IN, Reach._built_in),
}
_SUBCLASS_WRITERS: tuple[tuple[type, Callable[[Reach, Any], Any]], ...] = (
    (Decorated, Reach._decorated),
    (ModuleType, Reach._module),
)
_WRITERS = {id(kind): write for kind, write in _BY_TYPE.items()}


def _home(namespace: dict[str, Any]) -> str:
    """The name of the module with this namespace; empty where no import leads to it."""
    name = namespace.get("__name__")
    module = sys.modules.get(name) if type(name) is str else None
    return str(name) if module is not None and module.__dict__ is namespace else ""


def _module_name(fn: Any) -> Any:
    return lookup.module_of(fn) if lookup.is_class(fn) else fn.__module__


def _describe(fn: Any) -> str:
    module = getattr(fn, "__module__", None) or type(fn).__module__
    name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    return f"{public_name(str(module))}.{name}"

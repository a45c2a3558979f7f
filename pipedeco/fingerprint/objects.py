"""Containers and objects opened into nodes.

An object without an entry of its own is opened into what pickle would store of it: the tuple of its
`__reduce_ex__(4)`, with the state by name. Never pickle's bytes, which depend on who shares what, on
interned strings, and on the order of dictionaries and sets.
"""

from __future__ import annotations

import copyreg
import functools
import sys
import types
from collections import OrderedDict
from enum import Enum
from typing import TYPE_CHECKING, Any

from pipedeco.fingerprint.naming import public_name
from pipedeco.fingerprint.nodes import (
    KEPT,
    PACKED_FROM,
    PAIRS,
    SORTED,
    Node,
    Opened,
    by_index,
    digest_of_pieces,
    packed,
)
from pipedeco.fingerprint.singletons import opened_bound
from pipedeco.fingerprint.standard import by_key
from pipedeco.fingerprint.unproven import Unproven

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# ---- built-in containers


def _list(value: list[Any]) -> Opened:
    if len(value) >= PACKED_FROM and (buffers := packed(value)):
        return b"11:packed list", buffers, KEPT, by_index
    return b"4:list", value, KEPT, by_index


def _tuple(value: tuple[Any, ...]) -> Opened:
    if len(value) >= PACKED_FROM and (buffers := packed(value)):
        return b"12:packed tuple", buffers, KEPT, by_index
    return b"5:tuple", value, KEPT, by_index


def _dict(value: dict[Any, Any]) -> Opened:
    return b"4:dict", [part for pair in value.items() for part in pair], PAIRS, by_key


def _member(_value: Any, index: int) -> str:
    return f".<element {index}>"


def _set(value: set[Any]) -> Opened:
    return b"3:set", value, SORTED, _member


def _frozenset(value: frozenset[Any]) -> Opened:
    return b"9:frozenset", value, SORTED, _member


def _bytearray(value: bytearray) -> Node:
    return Node(b"9:bytearray", (digest_of_pieces((value,)),))


def _memoryview(value: memoryview) -> Node:
    content = value if value.c_contiguous else value.tobytes()
    return Node(b"10:memoryview", (value.format, value.shape, digest_of_pieces((content,))))


def _mappingproxy(value: types.MappingProxyType[Any, Any]) -> Node:
    return Node(b"12:mappingproxy", (value.copy(),))


def _bound_method(value: types.MethodType) -> Node:
    held = opened_bound(value)
    if held is not None:
        return held
    return Node(b"6:method", (value.__func__, value.__self__), KEPT, _part_of_method)


def _property(value: property) -> Node:
    return Node(b"8:property", (value.fget, value.fset, value.fdel))


def _wrapping(value: Any) -> Node:
    return Node(b"8:wrapping", (type(value).__name__, value.__func__))


def _part_of_method(_value: Any, index: int) -> str:
    return (".__func__", ".__self__")[index]


def _built_in_function(value: types.BuiltinFunctionType) -> Node:
    owner = value.__self__
    if owner is None or type(owner) is types.ModuleType:
        return Node(b"8:built-in", (value.__module__, value.__qualname__))
    held = opened_bound(value)
    return held or Node(b"15:built-in method", (value.__name__, owner), KEPT, _part_of_method)


# ---- parts of objects


class State(dict[Any, Any]):
    """Attributes by name, in no order."""


class Bag(list[Any]):
    """Elements in no order."""


class Pairs(list[Any]):
    """Keys and values in turn; the pairs in no order."""


# What attrs keeps of a hash, which differs between processes.
_DERIVED = "_attrs_cached_hash"


def _state(value: State) -> Opened:
    derived = _derived(value)
    if derived:
        parts = [part for pair in value.items() if pair[0] not in derived for part in pair]
    else:
        parts = [part for pair in value.items() for part in pair]
    return b"5:state", parts, PAIRS, _attribute


def _attribute(value: Any, index: int) -> str:
    derived = _derived(value)
    return f".{[name for name in value if name not in derived][index // 2]}"


def _derived(state: State) -> list[str]:
    """The attributes that hold a hash or an address, which no other process has again."""
    if _DERIVED not in state and "_id " not in " ".join(state) + " ":  # most objects: at once
        return []
    return [
        name
        for name in state
        if name == _DERIVED or (name.endswith("_id") and _is_address(state, name))
    ]


def _is_address(state: State, name: str) -> bool:
    """Whether `_x_id` is the `id()` of what is, or was, the attribute `x` beside it."""
    value, of = state[name], name[:-3]
    if type(value) is not int or not name.startswith("_"):
        return False
    owner = of if of in state else of[1:]
    if owner not in state:
        return False
    return value == id(state[owner]) or (value in _ADDRESSES and value % _ALIGNED == 0)


# Where objects lie that another process had.  Numbers of users and orders are below, random ones
# and those with a time in them above.
_ADDRESSES = range(1 << 32, 1 << 48) if sys.maxsize > 1 << 32 else range(1 << 24, 1 << 32)
_ALIGNED = 16 if sys.maxsize > 1 << 32 else 8


def _bag(value: Bag) -> Opened:
    return b"3:bag", value, SORTED, _member


def _pairs(value: Pairs) -> Opened:
    return b"5:pairs", value, PAIRS, _key_of_pairs


def _key_of_pairs(value: Pairs, index: int) -> str:
    return by_key(value[::2], index)


def _state_parts(state: Any) -> tuple[Any, ...]:
    """A state as attributes where it is some: a dictionary, or one with that of the slots."""
    parts = state if type(state) is tuple and len(state) == 2 else (state,)
    if all(part is None or _is_attributes(part) for part in parts):
        return tuple(part if part is None else State(part) for part in parts)
    return (state,)


def _is_attributes(part: Any) -> bool:
    return type(part) is dict and all(type(name) is str for name in part)


# ---- objects


def object_opener(kind: type) -> Callable[[Any], Node]:
    """What opens the instances of a class that has no entry of its own."""
    if issubclass(kind, BaseException):
        return _exception
    if issubclass(kind, Enum):
        return _enum
    if issubclass(kind, set | frozenset):
        return _set_object
    if issubclass(kind, tuple) and isinstance(kind.__dict__.get("_fields"), tuple):
        return _named_tuple
    return opened_object


def _enum(value: Any) -> Node:
    return Node(b"4:enum", (type(value), value._name_, value._value_))


def opened_object(value: Any) -> Node:
    """What pickle would store of it.  Raises what reducing it raises, where it cannot be."""
    return _reduced(value, _reduce(value))


def _exception(value: BaseException) -> Node:
    """Class, arguments, attributes and cause; not the traceback, nor what was handled meanwhile."""
    reduced = value.__reduce__()  # not by copyreg: tblib may have put itself there
    if type(reduced) is not tuple:
        raise Unproven("its __reduce__ gives a name")
    state = reduced[2] if len(reduced) > 2 else None
    children = (reduced[0], reduced[1], *_state_parts(state), value.__cause__)
    return Node(b"9:exception", children, KEPT, lambda error, index: ".args" if index == 1 else "")


def _set_object(value: Any) -> Node:
    base = set if issubclass(type(value), set) else frozenset
    elements = Bag(base.__iter__(value))
    _, _, state = (*value.__reduce_ex__(4), None)[:3]
    return Node(b"10:set object", (type(value), elements, *_state_parts(state)))


def _named_tuple(value: Any) -> Node:
    names = type(value)._fields
    if getattr(value, "__dict__", None) or len(names) != tuple.__len__(value):
        return opened_object(value)
    return Node(
        b"10:namedtuple",
        (type(value), *tuple.__iter__(value)),
        KEPT,
        lambda value, index: f".{type(value)._fields[index - 1]}" if index else "",
    )


_NEW: Any = vars(copyreg)["__newobj__"]  # makes an instance without its __init__


def _reduce(value: Any) -> Any:
    kind = type(value)
    # A metaclass may give its classes a hash of its own, or none.
    meta: Any = type(kind)
    plain = meta.__hash__ is type.__hash__
    reducer = copyreg.dispatch_table.get(kind) if plain else None
    return reducer(value) if reducer else value.__reduce_ex__(4)


def _reduced(value: Any, reduced: Any) -> Node:
    if type(reduced) is str:
        return Node(b"6:global", (type(value), _module_of(value, reduced), reduced))
    if type(reduced) is not tuple or not 2 <= len(reduced) <= 6:
        raise Unproven("its __reduce_ex__ gives neither a name nor a tuple")
    function, arguments, state, items, pairs, setter = (*reduced, *[None] * 4)[:6]
    if function is _NEW:  # what most classes have, in fewer parts
        shape, children = 0, [arguments[0], arguments[1:]]
    else:
        shape, children = 1, [function, arguments]
    for bit, part in ((2, _items(items)), (4, _pairs_of(value, pairs)), (8, setter)):
        if part is not None:
            shape |= bit
            children.append(part)
    children.extend(_state_parts(state))
    return Node(b"9:object %02d" % shape, children, KEPT, _part_of_object)


def _module_of(value: Any, name: str) -> str:
    """The module in which a name leads to this very object."""
    named = getattr(value, "__module__", None) or type(value).__module__
    if _named(sys.modules.get(str(named)), name) is value:
        return str(named)
    for module, found in list(sys.modules.items()):
        if getattr(found, "__dict__", {}).get(name) is value:
            return module
    raise Unproven(f"calls itself {name}, which leads nowhere")


def _named(found: Any, name: str) -> Any:
    """What a dotted name leads to in a module and its classes, as pickle looks for it."""
    for part in name.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return found


def _items(items: Any) -> list[Any] | None:
    return None if items is None else list(items)


def _pairs_of(value: Any, pairs: Any) -> list[Any] | None:
    if pairs is None:
        return None
    flat: Iterable[Any] = (part for pair in pairs for part in pair)
    # The order of an OrderedDict counts
    return list(flat) if issubclass(type(value), OrderedDict) else Pairs(flat)


def _part_of_object(_value: Any, index: int) -> str:
    return ".__reduce_ex__(4)[1]" if index == 1 else ""


# ---- by reference


def importable(value: Any) -> tuple[str, str] | None:
    """Module and qualified name by which a function or a class is found again; else None."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if type(module) is not str or type(name) is not str:
        return None
    if isinstance(value, type) and module == "builtins" and not value.__flags__ & _HEAP_TYPE:
        return module, name  # NoneType, function: types of the interpreter without a name there
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return (public_name(module), name) if found is value else None


_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE


def opened_reference(value: Any, code_digest: Callable[[Any], str] | None) -> Node:
    """A function, a class or a module: by its name, and by its code where that is asked for.

    What belongs to Python itself has no other code than Python's version.
    """
    if type(value) is types.ModuleType:
        place = (public_name(value.__name__), "")
        root = value.__name__ if sys.modules.get(value.__name__) is value else ""
    else:
        place = importable(value) or ("", "")
        root = place[0]
    if root.partition(".")[0] in sys.stdlib_module_names:
        return Node(b"4:name", place)
    if code_digest is not None:
        return Node(b"4:code", (*place, code_digest(value)))
    if not root:
        raise Unproven("it cannot be imported by its name")
    return Node(b"4:name", place)


def is_reference(kind: type) -> bool:
    """Whether values of this type are functions, classes or modules."""
    return issubclass(kind, _REFERENCES)


_REFERENCES = (types.FunctionType, functools._lru_cache_wrapper, type, types.ModuleType)

# By id, as in nodes.py
OPENERS: dict[int, Callable[[Any], Opened]] = {
    id(list): _list,
    id(tuple): _tuple,
    id(dict): _dict,
    id(set): _set,
    id(frozenset): _frozenset,
    id(bytearray): _bytearray,
    id(memoryview): _memoryview,
    id(types.MappingProxyType): _mappingproxy,
    id(types.MethodType): _bound_method,
    id(types.BuiltinFunctionType): _built_in_function,
    id(property): _property,
    id(staticmethod): _wrapping,
    id(classmethod): _wrapping,
    id(State): _state,
    id(Bag): _bag,
    id(Pairs): _pairs,
}

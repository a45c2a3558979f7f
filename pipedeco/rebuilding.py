"""How to look into containers and objects, and how to make them again of other parts."""

from __future__ import annotations

from collections import ChainMap, UserDict, UserList, deque
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    # Yields parts, is sent what stands for them, and returns what stands for the whole.
    Rebuilding = Generator[Any, Any, Any]

_VIEWS = {type({}.keys()): "keys", type({}.values()): "values", type({}.items()): "items"}


class Kind(NamedTuple):
    """How to look into values of a type.

    Attributes
    ----------
    parts: what such a value holds.
    rebuild: the same value with other parts; the second argument gives the object that is to be
        changed: the value or a copy.
    """

    parts: Callable[[Any], Iterable[Any]]
    rebuild: Callable[[Any, Callable[[Any], Any]], Rebuilding]


def _own_parts(item: Any) -> list[Any]:
    """What the attributes of an object hold."""
    return [part for _, part in _attributes(item)]


def _attributes(item: Any) -> list[tuple[str, Any]]:
    found = list(getattr(item, "__dict__", {}).items())
    for base in type(item).__mro__:
        slots = base.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            name = f"_{base.__name__.lstrip('_')}{slot}" if _is_mangled(slot) else slot
            if slot not in ("__dict__", "__weakref__") and hasattr(item, name):
                found.append((name, getattr(item, name)))
    return found


def _is_mangled(name: str) -> bool:
    return name.startswith("__") and not name.endswith("__")


def _rebuild_object(item: Any, target: Callable[[Any], Any]) -> Rebuilding:
    new = target(item)
    yield from _set_attributes(item, new)
    return new


def _set_attributes(item: Any, new: Any) -> Rebuilding:
    for name, part in _attributes(item):
        made = yield part
        if made is not part:
            object.__setattr__(new, name, made)  # frozen ones too


def _rebuild_fixed(item: Any, _target: Callable[[Any], Any]) -> Rebuilding:
    """A tuple or a frozenset, of any class."""
    parts = []
    same = True
    for part in item:
        made = yield part
        parts.append(made)
        same = same and made is part
    if same:
        return item
    base = tuple if isinstance(item, tuple) else frozenset
    new = base.__new__(type(item), parts)
    if hasattr(item, "__dict__"):
        new.__dict__.update(item.__dict__)
    return new


def _rebuild_sequence(item: Any, target: Callable[[Any], Any]) -> Rebuilding:
    """A list or a deque."""
    new = target(item)
    for place, part in enumerate(tuple(item)):
        made = yield part
        if made is not part:
            new[place] = made
    yield from _set_attributes(item, new)
    return new


def _rebuild_set(item: Any, target: Callable[[Any], Any]) -> Rebuilding:
    new = target(item)
    for part in tuple(item):
        made = yield part
        if made is not part:
            new.discard(part)
            new.add(made)
    yield from _set_attributes(item, new)
    return new


def _rebuild_dict(item: Any, target: Callable[[Any], Any]) -> Rebuilding:
    new = target(item)
    pairs = []
    same_keys = True
    for key, part in tuple(item.items()):
        made_key = yield key
        made = yield part
        pairs.append((made_key, made))
        same_keys = same_keys and made_key is key
        if made is not part and same_keys:
            new[key] = made
    if not same_keys:
        new.clear()
        new.update(pairs)
    yield from _set_attributes(item, new)
    return new


def _rebuild_proxy(item: Any, _target: Callable[[Any], Any]) -> Rebuilding:
    made = yield from _rebuild_dict(dict(item), lambda found: found)
    return MappingProxyType(made)


def _rebuild_view(item: Any, _target: Callable[[Any], Any]) -> Rebuilding:
    """`d.values()` and the like, whose dict cannot be reached."""
    made = yield from _rebuild_dict(dict(item.mapping), lambda found: found)
    return getattr(made, _VIEWS[type(item)])()


def _rebuild_nothing(item: Any, _target: Callable[[Any], Any]) -> Rebuilding:
    yield from ()
    return item


def _pairs(item: dict[Any, Any]) -> list[Any]:
    return [*item, *item.values()]


def _itself(item: Any) -> Any:
    return item


NOTHING = Kind(lambda item: (), _rebuild_nothing)
OBJECT = Kind(_own_parts, _rebuild_object)
_DICT = Kind(lambda item: [*item.keys(), *item.values(), *_own_parts(item)], _rebuild_dict)
CONTAINERS: tuple[tuple[Any, Kind], ...] = (
    (dict, _DICT),
    ((list, deque), Kind(lambda item: [*item, *_own_parts(item)], _rebuild_sequence)),
    ((tuple, frozenset), Kind(list, _rebuild_fixed)),
    (set, Kind(lambda item: [*item, *_own_parts(item)], _rebuild_set)),
    (MappingProxyType, Kind(lambda item: [*item.keys(), *item.values()], _rebuild_proxy)),
    (tuple(_VIEWS), Kind(lambda item: list(item.mapping.items()), _rebuild_view)),
    ((SimpleNamespace, UserDict, UserList, ChainMap), OBJECT),
)
# The types themselves, which have no attributes.
PLAIN: dict[type, Kind] = {
    dict: Kind(_pairs, _rebuild_dict),
    list: Kind(_itself, _rebuild_sequence),
    tuple: Kind(_itself, _rebuild_fixed),
    set: Kind(_itself, _rebuild_set),
    frozenset: Kind(_itself, _rebuild_fixed),
}

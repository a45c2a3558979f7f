"""What is taken from a value: items, attributes, and the outputs that a component declares.

Unpacking a result gives its outputs before its value is known, as many as are declared.  Whoever has
the value then takes it apart as Python does, and raises what that raises.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

ITEM, ATTRIBUTE, OUTPUT = "item", "attribute", "output"


def take(value: Any, kind: str, key: Any) -> Any:
    """The part of a value that one selection of a StepResult's path takes.

    The key of an output is its position, their number, and their names, as far as these are declared.
    """
    if kind == ITEM:
        return value[key]
    if kind == ATTRIBUTE:
        return getattr(value, key)
    position, count, names = key
    if type(value) is tuple and len(value) == count:
        return value[position]
    return unpacked(value, count, names)[position]


def taken(kind: str, key: Any) -> str:
    """The same as it is written."""
    if kind == ATTRIBUTE:
        return f".{key}"
    return f"[{key[0] if kind == OUTPUT else key!r}]"


def unpacked(value: Any, count: int, names: tuple[str, ...]) -> tuple[Any, ...]:
    """What unpacking a value into `count` names gives.

    A dict that has exactly the names of the outputs gives its values in their order.

    Raises
    ------
    ValueError, TypeError: where Python does: it is more, fewer, or nothing that can be unpacked.
    """
    if names and isinstance(value, dict) and value.keys() == set(names):
        return tuple([value[name] for name in names])
    try:
        parts = iter(value)
    except TypeError:
        text = f"cannot unpack non-iterable {type(value).__name__} object"
        raise _of_outputs(TypeError(text), value, count) from None
    found = tuple(islice(parts, count + 1))
    if len(found) == count:
        return found
    text = (
        f"too many values to unpack (expected {count})"
        if len(found) > count
        else f"not enough values to unpack (expected {count}, got {len(found)})"
    )
    raise _of_outputs(ValueError(text), value, count)


def _of_outputs(error: Exception, value: Any, count: int) -> Exception:
    size = f" of {len(value)}" if hasattr(type(value), "__len__") else ""
    error.add_note(
        f"the component declares {count} output{'s' * (count != 1)}, by its annotation or outputs=, "
        f"and returned a {type(value).__name__}{size}: declare what it returns, or read the whole "
        "value: pipedeco.value(...)"
    )
    return error

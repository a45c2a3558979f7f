"""Filters of warnings as plain data, and as filters again in another process."""

from __future__ import annotations

import builtins
import re
import warnings
from functools import cache
from typing import Any

# The names of one module: the program's, and the one under which its file is imported by others.
_MAIN = ("__main__", "__mp_main__")

# Those with which Python starts, packed.
PYTHONS = [
    ("default", None, ("builtins", "DeprecationWarning"), "__main__", 0),
    ("ignore", None, ("builtins", "DeprecationWarning"), None, 0),
    ("ignore", None, ("builtins", "PendingDeprecationWarning"), None, 0),
    ("ignore", None, ("builtins", "ImportWarning"), None, 0),
    ("ignore", None, ("builtins", "ResourceWarning"), None, 0),
]

# Workers have a thread of ours beside the step's, which is no news for who forks in a step.
_OWN = (
    "ignore",
    re.compile("This process .* is multi-threaded", re.IGNORECASE),
    DeprecationWarning,
    None,
    0,
)


def quiet_forks() -> None:
    """Let no step of this worker be warned of our thread."""
    put([_OWN, *warnings.filters])


def put(wanted: list[Any]) -> None:
    """Make these the filters of this process."""
    warnings.filters[:] = wanted  # type: ignore[index]
    with warnings.catch_warnings():  # tells the module that they have changed
        pass


def pack(filters: list[Any]) -> list[Any]:
    """The filters as plain types."""
    return [
        (action, _pattern(message), _name_of(category), _pattern(module), int(line))
        for action, message, category, module, line in filters
    ]


def unpack(packed: list[Any]) -> list[Any]:
    """The filters for a worker, with our own before them."""
    return [_OWN] + [
        (action, _compiled(message), _category(*category), _compiled(module), line)
        for action, message, category, module, line in packed
    ]


def _pattern(text: Any) -> Any:
    """A pattern and its flags, or the text that stands in the place of a pattern."""
    if text is None or isinstance(text, str):
        return text
    return str(text.pattern), int(text.flags)


def _compiled(packed: Any) -> Any:
    return re.compile(*packed) if isinstance(packed, tuple) else packed


def _name_of(category: type) -> tuple[str, str]:
    module = category.__module__
    return ("__main__" if module in _MAIN else module), category.__qualname__


class _Named(type):
    """A category that is known by its name, as its module need not be imported here, or not yet.

    A class of `__main__` may even come anew with each call that needs it.
    """

    wanted: tuple[str, str]

    def __subclasscheck__(cls, kind: type) -> bool:
        return any(_name_of(base) == cls.wanted for base in kind.__mro__)


@cache
def _category(module: str, name: str) -> type:
    if module == "builtins":
        return getattr(builtins, name, Warning)
    return _Named(name, (Warning,), {"__module__": module, "wanted": (module, name)})

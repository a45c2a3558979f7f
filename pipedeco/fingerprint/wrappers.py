"""Functions that a package makes of a user's function by writing code."""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


def checked_by_beartype(found: FunctionType) -> tuple[FunctionType, Sequence[Any]] | None:
    """The function that beartype checks the calls of, and how it does; None of any other.

    Its wrapper follows from these two. The text of it has addresses within it.
    """
    if not found.__code__.co_filename.startswith("<@beartype("):
        return None
    defaults = found.__kwdefaults__ or {}
    function = found.__dict__.get("__wrapped__") or defaults.get("__beartype_func")
    if type(function) is not FunctionType:
        return None
    settings = getattr(defaults.get("__beartype_conf"), "kwargs", None)
    return function, [] if settings is None else [dict(settings)]

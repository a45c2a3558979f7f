"""Decimal's contexts as plain data: the caller's, and the one that new threads begin with.

Flags are left out, as each calculation sets them.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

_PLAIN = (
    *(28, "ROUND_HALF_EVEN", -999999, 999999, 1, 0),
    ("InvalidOperation", "DivisionByZero", "Overflow"),
)
PLAIN = _PLAIN, _PLAIN


def read() -> tuple[Any, Any]:
    """The context that calculations use here, and the one of new threads.

    Workers ask outside the context variables of a step, which are a copy: both hold this object.
    """
    module = sys.modules.get("decimal")
    if module is None:
        return PLAIN
    try:
        return _settings(module.getcontext()), _settings(module.DefaultContext)
    except AttributeError:  # half imported by another thread
        return PLAIN


class Reader:
    """Reads both contexts, in half a microsecond where they are as the last time."""

    def __init__(self) -> None:
        self._known: tuple[Any, Any] | None = None  # copies of both
        self._settings: tuple[Any, Any] = PLAIN

    def read(self) -> tuple[Any, Any]:
        module: Any = sys.modules.get("decimal")
        if module is None:
            return PLAIN
        try:
            both = module.getcontext(), module.DefaultContext
            if self._known is None or not _are_as(both, self._known):
                self._settings = read()
                self._known = both[0].copy(), both[1].copy()
        except AttributeError:  # half imported by another thread
            return PLAIN
        return self._settings


def _are_as(both: tuple[Any, Any], known: tuple[Any, Any]) -> bool:
    """Whether the contexts are as others in what is set at all often: a whole look takes longer."""
    (one, default), (other, known_default) = both, known
    return bool(
        one.prec == other.prec
        and one.rounding == other.rounding
        and one.traps == other.traps
        and one.Emax == other.Emax
        and default.prec == known_default.prec
    )


def write(wanted: tuple[Any, Any]) -> None:
    import decimal

    context = decimal.Context(flags=[])
    _put(context, wanted[0])
    decimal.setcontext(context)
    _put(decimal.DefaultContext, wanted[1])


def separate() -> None:
    """Give this flow of control an object of its own, where another one goes on beside it."""
    if "decimal" in sys.modules:
        import decimal  # whole, whoever imports it just now

        decimal.setcontext(decimal.getcontext().copy())


def _settings(context: Any) -> Any:
    prec, rounding, low, high, capitals, clamp, _, traps = context.__reduce__()[1]
    return prec, rounding, low, high, capitals, clamp, _names(tuple(traps))


@cache
def _names(traps: tuple[type, ...]) -> tuple[str, ...]:
    return tuple([trap.__name__ for trap in traps])


def _put(context: Any, settings: Any) -> None:
    *plain, traps = settings
    names = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")
    for name, value in zip(names, plain, strict=True):
        setattr(context, name, value)
    context.traps = {signal: signal.__name__ in traps for signal in context.traps}

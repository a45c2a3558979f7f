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

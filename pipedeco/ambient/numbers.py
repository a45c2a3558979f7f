"""Decimal's contexts as plain data: the caller's, and the one that new threads begin with.

Flags are left out, as each calculation sets them.
"""

from __future__ import annotations

import sys
from typing import Any

PLAIN = (
    28,
    "ROUND_HALF_EVEN",
    -999999,
    999999,
    1,
    0,
    ("InvalidOperation", "DivisionByZero", "Overflow"),
)


def current() -> Any:
    """The context that calculations use here.

    Workers ask outside the context variables of a step, which are a copy: both hold this object.
    """
    getcontext = getattr(sys.modules.get("decimal"), "getcontext", None)  # or half imported
    return PLAIN if getcontext is None else _settings(getcontext())


def default() -> Any:
    context = getattr(sys.modules.get("decimal"), "DefaultContext", None)
    return PLAIN if context is None else _settings(context)


def separate() -> None:
    """Give this flow of control an object of its own, where another one goes on beside it."""
    if "decimal" in sys.modules:
        import decimal  # whole, whoever imports it just now

        decimal.setcontext(decimal.getcontext().copy())


def put_current(settings: Any) -> None:
    import decimal

    context = decimal.Context(flags=[])
    _put(context, settings)
    decimal.setcontext(context)


def put_default(settings: Any) -> None:
    import decimal

    _put(decimal.DefaultContext, settings)


def _settings(context: Any) -> Any:
    prec, rounding, low, high, capitals, clamp, _, traps = context.__reduce__()[1]
    return prec, rounding, low, high, capitals, clamp, tuple([trap.__name__ for trap in traps])


def _put(context: Any, settings: Any) -> None:
    *plain, traps = settings
    names = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")
    for name, value in zip(names, plain, strict=True):
        setattr(context, name, value)
    context.traps = {signal: signal.__name__ in traps for signal in context.traps}

"""The settings of the interpreter that any function may turn: how each is read and written.

All of them are read after each step of a worker and at each call of a body, in less than a
microsecond: readers are the interpreter's own functions where that is possible, and import nothing.

Context variables are not among them: they belong to one flow of control, hold whatever objects, and
a worker is another flow.  Decimal's context is, as programs set it once, like the others.
"""

from __future__ import annotations

import gc
import socket
import sys
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.ambient import filters, numbers
from pipedeco.ambient.places import Locale, Tempdir

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipedeco.ambient.calls import Noted

GC_THRESHOLDS = ((700, 10, 10), (2000, 10, 10), (2000, 10, 0))  # of the versions of Python


def _plain(value: Any) -> Any:
    return value


class Knob(NamedTuple):
    """One setting.

    Attributes
    ----------
    name: its key in a snapshot.
    read: gives its value.
    write: sets it; raises OSError or ValueError where this process may not.
    usual: packed values that need not travel.  A single one is what a worker takes where none has
        come; else it takes what it began with.
    pack: the value as plain types, None where it need not travel.
    unpack: the value again, in a worker.
    travels: False for what is only put back after a step.
    module: without which nobody can have turned it.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], Any]
    usual: tuple[Any, ...] = ()
    pack: Callable[[Any], Any] = _plain
    unpack: Callable[[Any], Any] = _plain
    travels: bool = True
    module: str = ""

    def packed(self, value: Any) -> Any:
        """The value as it travels; None where it need not."""
        packed = self.pack(value)
        return None if packed in self.usual else packed


def knobs(noted: Noted | None = None) -> list[Knob]:
    """All of them, in the order in which they are written; a worker has noted calls."""
    locale, tempdir = Locale(None if noted is None else noted.locale), Tempdir()
    read = partial(getattr, warnings, "filters")
    digits = sys.flags.int_max_str_digits
    return [
        Knob("warnings", read, filters.put, (filters.PYTHONS,), filters.pack, filters.unpack),
        Knob("decimal", numbers.read, numbers.write, (numbers.PLAIN,), module="decimal"),
        Knob("locale", locale.read, locale.write, (None,), locale.pack, module="_locale"),
        Knob("socket", socket.getdefaulttimeout, socket.setdefaulttimeout, (None,)),
        Knob("tempfile", tempdir.read, tempdir.write, (None,), module="tempfile"),
        Knob("gc", gc.isenabled, _enable_gc, (True,)),
        Knob("gc.threshold", gc.get_threshold, _set_threshold, GC_THRESHOLDS),
        Knob("gc.debug", gc.get_debug, gc.set_debug, travels=False),
        Knob("switch", sys.getswitchinterval, sys.setswitchinterval, (0.005,)),
        Knob(
            "digits",
            sys.get_int_max_str_digits,
            sys.set_int_max_str_digits,
            (4300 if digits == -1 else digits,),
        ),
        Knob("trace", sys.gettrace, sys.settrace, travels=False),
        Knob("profile", sys.getprofile, sys.setprofile, travels=False),
    ]


def _enable_gc(wanted: bool) -> None:
    (gc.enable if wanted else gc.disable)()


def _set_threshold(wanted: tuple[int, ...]) -> None:
    gc.set_threshold(*wanted)

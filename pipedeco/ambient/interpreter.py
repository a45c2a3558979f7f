"""The part of ambient state that the interpreter's own settings are."""

from __future__ import annotations

import sys
from itertools import compress
from operator import call
from typing import TYPE_CHECKING, Any

from pipedeco.ambient.knobs import knobs

if TYPE_CHECKING:
    from pipedeco.ambient.calls import Noted
    from pipedeco.ambient.knobs import Knob


class CannotRestore(Exception):
    """What a step has changed cannot be changed back in this process."""


class Interpreter:
    """Warning filters, decimal's context, locale and the other knobs.

    Parameters
    ----------
    travelling: whether only those are looked at that travel.
    noted: calls of what sets some, in a worker.
    """

    name = "interpreter"

    def __init__(self, noted: Noted | None = None, *, travelling: bool = False) -> None:
        found = knobs(noted)
        self._knobs = [knob for knob in found if knob.travels or not travelling]
        self._start: list[Any] = []
        self._kept: dict[str, Any] = {}  # what setup= has set, by knob
        self.note()
        self._start = self._wanted

    def note(self) -> None:
        """Take the values for what they are to be."""
        values = [knob.read() for knob in self._knobs]
        self._wanted = [list(value) if type(value) is list else value for value in values]
        self._watch()

    def _watch(self) -> None:
        """Choose the knobs that anybody can have turned: those of modules that are imported."""
        self._modules = len(sys.modules)
        chosen = [not knob.module or knob.module in sys.modules for knob in self._knobs]
        self._reads = [knob.read for knob in compress(self._knobs, chosen)]
        self._watched = list(compress(self._wanted, chosen))

    def capture(self) -> dict[str, Any] | None:
        packed = {knob.name: knob.packed(knob.read()) for knob in self._knobs if knob.travels}
        return {name: state for name, state in packed.items() if state is not None} or None

    def enter(self, state: dict[str, Any] | None) -> None:
        self._kept.clear()
        self.turn(state)

    def adopt(self) -> None:
        """What setup= has set stays, whatever a body sets later."""
        for knob, wanted in zip(self._knobs, self._wanted, strict=True):
            value = knob.read()
            if value != wanted:
                self._kept[knob.name] = list(value) if type(value) is list else value
        self.note()

    def turn(self, state: dict[str, Any] | None) -> None:
        """Be as at a call at which things stood so."""
        states = state or {}
        self._wanted = [
            self._value(knob, start, states)
            for knob, start in zip(self._knobs, self._start, strict=True)
        ]
        self._watch()
        self._put()

    def restore(self) -> None:
        """Put back what has changed; a fraction of a microsecond where nothing has.

        Raises CannotRestore where this process may not set a value back.
        """
        if len(sys.modules) != self._modules:
            self._watch()
        if list(map(call, self._reads)) != self._watched:
            self._put()

    def _value(self, knob: Knob, start: Any, states: dict[str, Any]) -> Any:
        """What a knob is to be at a call with these states."""
        if knob.name in self._kept:
            return self._kept[knob.name]
        if knob.name in states:
            return knob.unpack(states[knob.name])
        return knob.unpack(knob.usual[0]) if len(knob.usual) == 1 else start

    def _put(self) -> None:
        for knob, wanted in zip(self._knobs, self._wanted, strict=True):
            if knob.read() != wanted:
                try:
                    knob.write(wanted)
                except (OSError, ValueError) as error:
                    raise CannotRestore(knob.name) from error
        if len(sys.modules) != self._modules:  # one was imported to be set
            self._watch()

"""The part of ambient state that the interpreter's own settings are."""

from __future__ import annotations

from typing import Any

from pipedeco.ambient.knobs import knobs


class CannotRestore(Exception):
    """What a step has changed cannot be changed back in this process."""


class Interpreter:
    """Warning filters, decimal's context, locale and the other knobs."""

    name = "interpreter"

    def __init__(self) -> None:
        self._knobs = knobs()
        self._reads = [knob.read for knob in self._knobs]
        self._start = self.copied()
        self._wanted = self._start

    def read(self) -> list[Any]:
        """The values as they are; a list of one's own in none of them."""
        return [read() for read in self._reads]

    def copied(self) -> list[Any]:
        """The same, which later changes do not reach."""
        return [list(value) if type(value) is list else value for value in self.read()]

    def capture(self) -> dict[str, Any] | None:
        found = zip(self._knobs, self.read(), strict=True)
        packed = {knob.name: knob.packed(value) for knob, value in found}
        return {name: state for name, state in packed.items() if state is not None} or None

    def enter(self, state: dict[str, Any] | None) -> None:
        states = state or {}
        self._wanted = [
            knob.unpack(states[knob.name])
            if knob.name in states
            else knob.unpack(knob.usual[0])
            if len(knob.usual) == 1
            else start
            for knob, start in zip(self._knobs, self._start, strict=True)
        ]
        self.restore()

    def restore(self) -> None:
        """Raises CannotRestore where this process may not set a value back."""
        if self.read() != self._wanted:
            self._put()

    def _put(self) -> None:
        for knob, value, wanted in zip(self._knobs, self.read(), self._wanted, strict=True):
            if value != wanted:
                try:
                    knob.write(wanted)
                except (OSError, ValueError) as error:
                    raise CannotRestore(knob.name) from error

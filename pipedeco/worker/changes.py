"""Globals that the program has changed, as a worker gets to know of them."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from pipedeco.module_state import Change, Global, apply_change, dumped_globals


class Changes:
    """What the program has changed in modules, until this worker has looked at it.

    Attributes
    ----------
    waiting : list of tuple
        Changes as they came, not yet looked at.
    """

    def __init__(self) -> None:
        self.waiting: list[tuple[Any, ...]] = []
        self._before_setup: dict[Global, bytes] = {}

    def clear(self) -> None:
        self.waiting.clear()

    def apply(self, moved: tuple[str, str]) -> None:
        """Make the changes; modules that are not there yet are imported.

        Raises whatever importing a module raises.
        """
        waiting, self.waiting = self.waiting, []
        for item in waiting:
            change = Change(*item)
            import_module(change.module)
            self._make(change, moved)

    def before_setup(self, moved: tuple[str, str]) -> None:
        """Make those of modules that are there, and note what setup= finds: what it changes stays."""
        waiting = self.waiting
        self.waiting = [item for item in waiting if item[0] not in sys.modules]
        for item in waiting:
            if item[0] in sys.modules:
                self._make(Change(*item), moved)
        self._before_setup = {**dumped_globals(), **self._before_setup}

    def _make(self, change: Change, moved: tuple[str, str]) -> None:
        if self._before_setup.get(Global(change.module, change.name)) == change.data:
            return  # the program has it as the import gave it, and setup= may have changed it since
        try:
            apply_change(sys.modules[change.module], change, moved)
        except Exception as error:  # noqa: BLE001 - the user's classes
            sys.stderr.write(
                f"pipedeco: {change.name} of {change.module} was changed by the program, and its "
                f"value cannot be loaded in a worker: {error!r}\n"
            )

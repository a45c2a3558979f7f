"""Globals that the program has changed, as a worker gets to know of them."""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from contextvars import ContextVar
from importlib import import_module
from typing import Any

from pipedeco.main_file import MAIN, is_users
from pipedeco.module_state import Change, Global, dump_global, dumped_globals, with_paths_moved
from pipedeco.picklers import loads

MISSING = object()
PLAIN = ("Namespace", "SimpleNamespace")  # of argparse and types: mere attributes


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
        # What the program calls an object of this process, by id; they are kept, so ids stay theirs.
        self._objects: dict[int, tuple[Any, str]] = {}

    def clear(self) -> None:
        """A run begins, whose names of objects are others."""
        self.waiting.clear()
        self._objects.clear()

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
            self._apply(change, moved)
        except Exception as error:  # noqa: BLE001 - the user's classes
            sys.stderr.write(
                f"pipedeco: {change.name} of {change.module} was changed by the program, and its "
                f"value cannot be loaded in a worker: {error!r}\n"
            )

    def _apply(self, change: Change, moved: tuple[str, str]) -> None:
        """Give a module the value, unless its own is the same.

        An object is changed in place, as others may have it, too; where the program has two objects
        and the import here gave one, the second gets a place of its own.
        """
        *owners, name = change.name.split(".")
        owner: Any = sys.modules[change.module]
        for part in owners:
            owner = getattr(owner, part, None)
        if owner is None:  # a class that this worker does not have
            return
        data = change.data
        if moved[0]:
            data = with_paths_moved(data, moved[1], moved[0])
        own = vars(owner).get(name, MISSING)
        known = self._objects.setdefault(id(own), (own, change.object))
        if own is not MISSING and _dumped(own) == data:
            return
        value = loads(data)
        if isinstance(own, ContextVar):
            own.set(value)
        elif own is MISSING or known[1] != change.object or not changed_in_place(own, value):
            setattr(owner, name, value)


def _dumped(value: Any) -> bytes | None:
    try:
        return dump_global(value)
    except Exception:  # noqa: BLE001 - users' reducers; then it is another value
        return None


def changed_in_place(own: Any, value: Any) -> bool:
    """Make a mutable object equal to another one of its type; False where that cannot be done."""
    kind = type(own)
    if kind is not type(value):
        return False
    for base in (OrderedDict, dict, set, list, deque):
        if isinstance(own, base):
            methods: Any = base
            methods.clear(own)
            (methods.extend if base in (list, deque) else methods.update)(own, value)
            break
    else:
        module = sys.modules.get(kind.__module__)
        path = getattr(module, "__file__", None)
        users = kind.__module__ == MAIN or (isinstance(path, str) and is_users(path))
        if not (users or kind.__name__ in PLAIN) or hasattr(kind, "__slots__"):
            return False
    if hasattr(own, "__dict__"):
        own.__dict__.clear()
        own.__dict__.update(value.__dict__)
    return True

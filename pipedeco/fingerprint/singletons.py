"""Objects that a module of Python or of a package holds under a name: `random._inst`, `loguru.logger`.

Such an object is the module's own, and made anew in each process.  Code that names the module
(`random.shuffle`) counts by the module's version; what a script takes out of it (`from random
import shuffle`) is to count as much, and not by a state that is another in each process.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from pipedeco.fingerprint.nodes import KEPT, Node
from pipedeco.fingerprint.packages import is_foreign

# What these modules hold for the user: results at a prompt, exceptions, callbacks
_NOT_THEIRS = frozenset(("builtins", "sys", "gc", "atexit", "__main__"))
# Objects of these classes are content and nothing else, whoever holds them
_CONTENT = frozenset(("builtins", "re", "collections"))


def holder_of(found: Any, *, anywhere: bool = False) -> tuple[ModuleType, str] | None:
    """The module that holds an object of its own, and under which name; None of any other object.

    Parameters
    ----------
    found: what may be held by the module of its class, or a package above that.
    anywhere: by another module of that package, or of Python, as well; the first one is taken.
    """
    home = type(found).__module__
    if type(home) is not str or home in _CONTENT or not is_foreign(home):
        return None  # an object of the user's or a plain one, wherever it was put
    names = [home]
    while "." in names[-1]:
        names.append(names[-1].rpartition(".")[0])
    if anywhere:
        names += sorted(name for name in list(sys.modules) if _is_akin(name, names[-1]))
    holders = (_held_in(name, found) for name in names if name not in _NOT_THEIRS)
    return next(filter(None, holders), None)


def _is_akin(name: str, top: str) -> bool:
    own = name.partition(".")[0]
    python = sys.stdlib_module_names
    return own == top or (own in python and top in python)


def _held_in(name: str, found: Any) -> tuple[ModuleType, str] | None:
    module = sys.modules.get(name)
    if type(module) is not ModuleType:
        return None
    held = [key for key, value in list(vars(module).items()) if value is found]
    return (module, min(held)) if held else None


def opened_bound(value: Any) -> Node | None:
    """The node of a method that is bound to a held object; None of any other method."""
    held = holder_of(value.__self__, anywhere=True)
    if held is None:
        return None
    return Node(b"11:held method", (*held, value.__name__), KEPT)

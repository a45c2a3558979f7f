"""Modules that are loaded again in a process, as notebooks do it: which code a decorated function has.

IPython's autoreload changes functions in place, so that `from module import function` follows; it
learns to do the same here.  `importlib.reload` changes nothing in place; of that a warning tells.
"""

from __future__ import annotations

import sys
from typing import Any

AUTORELOAD = "IPython.extensions.autoreload"


def loaded_as(fn: Any) -> Any:
    """What is another object after each loading of the function's module: its spec."""
    return getattr(fn, "__globals__", {}).get("__spec__")


def follow_autoreload(kind: type) -> None:
    """Where IPython reloads modules by itself, have it update what we decorate."""
    rules = getattr(sys.modules[AUTORELOAD], "UPDATE_RULES", None)
    if isinstance(rules, list) and not any(update is _update for _, update in rules):
        rules.append((lambda old, new: isinstance(old, kind) and type(old) is type(new), _update))


def warn_of_reload(decorated: Any) -> None:
    """The module was loaded again since: say so if the code there is another, once."""
    seen, decorated.__dict__["_loaded_as"] = decorated.__dict__["_loaded_as"], None
    module = decorated.__dict__.get("__module__", "")
    found = _present(module, decorated.__dict__.get("__qualname__", ""))
    if seen is None or type(found) is not type(decorated) or found is decorated:
        return
    if getattr(found.fn, "__code__", None) == getattr(decorated.fn, "__code__", None):
        return
    from pipedeco.tracing import warn_user

    name = decorated.__dict__["__qualname__"].partition(".")[0]
    warn_user(
        f"{decorated!r} has the code of before {module} was reloaded, and that runs; "
        f"take the new one: from {module} import {name}"
    )


def _present(module: str, qualname: str) -> Any:
    """What a module calls so now."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def _update(old: Any, new: Any) -> None:
    """Make of `old` what `new` is; copies with other options share its function."""
    sys.modules[AUTORELOAD].update_generic(old.fn, new.fn)
    known = vars(old)
    for name in known.keys() - vars(new).keys():
        del known[name]
    known.update(vars(new))

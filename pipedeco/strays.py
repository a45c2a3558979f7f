"""Modules of this process whose names lead another process nowhere, or elsewhere.

One that was loaded from a file can be loaded from it again: a plugin that was loaded by its path,
a module whose folder has left `sys.path` since.  What was made in memory, what runpy executes, and
what is registered with `cloudpickle.register_pickle_by_value` can only go by value.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_INSTALLED = (
    os.path.dirname(os.path.abspath(os.__file__)) + os.sep,
    os.path.dirname(os.path.abspath(__file__)) + os.sep,
)
_MAINS = ("__main__", "__mp_main__", "__pipedeco__")


class Strays(NamedTuple):
    """What is to be told to workers of the modules that they would not find.

    Attributes
    ----------
    files : tuple of (str, str)
        Names, and the file of each; of a package its `__init__.py`, or its folder.
    by_value : frozenset of str
        Names of modules of which nothing can be imported.
    """

    files: tuple[tuple[str, str], ...]
    by_value: frozenset[str]

    def go_by_value(self, module: Any) -> bool:
        """Whether what a module of this name has goes by value."""
        if not self.by_value or type(module) is not str:
            return False
        return module in self.by_value or _above(module) & self.by_value != frozenset()


def strays() -> Strays:
    """Those of now; a microsecond, unless modules were imported since the last time."""
    known = sys.modules
    state = len(known), next(reversed(known))
    asked = tuple(sys.path), _registered(), state
    found = _scan(*asked)
    if all(_file_of(known.get(name)) == path for name, path in found.files):
        return found
    _scan.cache_clear()  # another module has taken the place of one
    return _scan(*asked)


def _registered() -> frozenset[str]:
    """What the program has registered with cloudpickle."""
    cloudpickle = sys.modules.get("cloudpickle")
    listed = getattr(cloudpickle, "list_registry_pickle_by_value", None)
    return frozenset(listed() if listed is not None else ())


@lru_cache(maxsize=1)
def _scan(path: tuple[str, ...], registered: frozenset[str], _state: tuple[int, str]) -> Strays:
    """Those of a state of `sys.modules`, which is asked for once."""
    folders = _folders(path)
    files: list[tuple[str, str]] = []
    by_value = set(registered)
    for name, module in list(sys.modules.items()):
        # Modules of other types are made by libraries, and may load something when they are asked.
        if type(module) is not ModuleType or name in _MAINS:
            continue
        names = module.__dict__
        place = names.get("__file__") or ""
        if _is_installed(place):
            continue
        if names.get("__spec__") is None:
            if "__builtins__" in names and _is_made_here(name):
                by_value.add(name)
        elif (place := _file_of(module)) and not _is_found(name, place, folders):
            files.append((name, place))
    return Strays(tuple(files), frozenset(by_value))


def _is_made_here(name: str) -> bool:
    """Whether a module without a spec, in which code was executed, is no library's by-product."""
    top = name.partition(".")[0]
    if name != top:  # six.moves and its like, which are there once their package is imported
        return top in sys.modules and getattr(sys.modules[top], "__spec__", None) is None
    return top not in sys.stdlib_module_names


def _file_of(module: Any) -> str:
    names = getattr(module, "__dict__", {})
    path = names.get("__file__")
    if isinstance(path, str):
        return path
    return next((str(folder) for folder in names.get("__path__") or ()), "")  # no __init__.py


def _is_installed(path: str) -> bool:
    return "site-packages" in path or path.startswith(_INSTALLED) or "dist-packages" in path


def _is_found(name: str, path: str, folders: set[str]) -> bool:
    """Whether a finder leads from the module's name to its file."""
    if path.startswith("<") or _is_installed(path):  # what a library has built has no file
        return True
    below = os.sep + name.replace(".", os.sep)
    for end in (f"{below}.py", f"{below}{os.sep}__init__.py", below):
        if path.endswith(end) and path[: -len(end)] in folders:
            return True
    return _is_found_by_finders(name, path)


def _is_found_by_finders(name: str, path: str) -> bool:
    """Ask the finders themselves: editable installations and frameworks have some of their own."""
    parent, _, _ = name.rpartition(".")
    inside = getattr(sys.modules.get(parent), "__path__", None) if parent else None
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        try:
            spec = find(name, inside) if find is not None else None
        except Exception:  # noqa: BLE001 - finders of others; one that fails has found nothing
            spec = None
        if spec is not None:
            places = [spec.origin, *(spec.submodule_search_locations or ())]
            same = any(
                place and os.path.abspath(place) == os.path.abspath(path) for place in places
            )
            return same and (not parent or _is_found_parent(parent))
    return False


def _is_found_parent(name: str) -> bool:
    path = _file_of(sys.modules.get(name))
    return not path or _is_found(name, path, _folders(sys.path))


def _folders(path: Iterable[str]) -> set[str]:
    """The entries of an import path."""
    try:
        return {os.path.abspath(entry) for entry in path}
    except FileNotFoundError:  # the working directory has been removed, and what was below it
        return {entry for entry in path if os.path.isabs(entry)}


def _above(name: str) -> frozenset[str]:
    """The packages around a module."""
    parts = name.split(".")
    return frozenset(".".join(parts[:count]) for count in range(1, len(parts)))

"""Where a module comes from, here and for a worker; none is imported for that."""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.config import absolute
from pipedeco.worker.travel import INSTALLED, OTHER, PROJECT, kind_of, relative

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

MISSING = "missing"
STANDARD = "standard"
OWN = __name__.partition(".")[0]
HOOK = "hook"  # in the project, and found by an import hook instead of the path

__all__ = ["HOOK", "INSTALLED", "MISSING", "OTHER", "PROJECT", "STANDARD", "Modules", "Place"]


class Place(NamedTuple):
    """Where a module is: `kind` says whose it is, `file` is where its code is, or its folder."""

    kind: str
    file: str = ""
    folders: tuple[str, ...] = ()  # where its submodules are
    is_package: bool = False


class Modules:
    """Finds modules as a process of this one's sys.path does.

    Parameters
    ----------
    project: the folder of the project; "" where there is none.
    """

    def __init__(self, project: str) -> None:
        self.project = project
        self._path = [absolute(entry) for entry in sys.path]
        self._known: dict[str, Place] = {}

    def find(self, name: str) -> Place:
        """The place of a module by its full name."""
        if name not in self._known:
            self._known[name] = self._find(name)
        return self._known[name]

    def _find(self, name: str) -> Place:
        parent, _, _ = name.rpartition(".")
        if name == "__main__" or not all(part.isidentifier() for part in name.split(".")):
            return Place(STANDARD)
        if name == OWN:  # every worker has it, and its version is the doctor's to compare
            return Place(INSTALLED)
        if not parent:
            spec = next(filter(None, (_ask(f, name, None) for f in list(sys.meta_path))), None)
            return self._place(name, spec)
        above = self.find(parent)
        if above.kind not in (PROJECT, OTHER, HOOK):  # what packages do inside is theirs
            return above
        return self._place(name, _ask(PathFinder, name, list(above.folders)))

    def _place(self, name: str, spec: ModuleSpec | None) -> Place:
        if spec is None:
            return Place(STANDARD if name in sys.modules else MISSING)  # one made by hand
        if spec.origin in ("built-in", "frozen"):
            return Place(STANDARD)
        folders = tuple(map(os.path.abspath, _folders(spec)))
        file = os.path.abspath(spec.origin) if spec.has_location and spec.origin else ""
        where = file or next(iter(folders), "")
        if not where:
            return Place(STANDARD)
        kind = kind_of(where, self.project)[0]
        if kind == PROJECT and "." not in name and not self.is_on_path(where):
            kind = HOOK
        return Place(kind, where, folders, is_package=bool(folders))

    def is_on_path(self, file: str) -> bool:
        """Whether an entry of the path leads to a module of the top level."""
        home = os.path.dirname(file)
        if os.path.basename(file).startswith("__init__."):
            home = os.path.dirname(home)
        return home in self._path or ".zip" in file

    def below_project(self, file: str) -> str | None:
        """The path from the project's folder."""
        return relative(file, self.project)


def _ask(finder: Any, name: str, path: list[str] | None) -> ModuleSpec | None:
    try:
        found: ModuleSpec | None = finder.find_spec(name, path)
    except Exception:  # noqa: BLE001 - somebody's import hook; the next one is asked
        return None
    return found


def _folders(spec: ModuleSpec) -> list[str]:
    places: Any = spec.submodule_search_locations
    if places is None:
        return []
    try:
        return list(places)
    except KeyError:  # a namespace package in one that is not imported
        return list(getattr(places, "_path", ()))

"""Modules that a run's controller has loaded from files to which their names do not lead."""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class StrayModule(NamedTuple):
    """A module as a run names it; plain types all.

    Attributes
    ----------
    place : str
        Its file here; of a package its `__init__.py`, or its folder.
    origin : str
        Where the controller has it.
    source : bytes
        Its content, for a machine that has no such file.
    """

    name: str
    place: str
    origin: str
    source: bytes = b""


class StrayFinder:
    """Finds the modules of the run that a worker is in, before any other finder is asked."""

    def __init__(self) -> None:
        self._modules: dict[str, StrayModule] = {}

    def enter(self, modules: Iterable[tuple[Any, ...]]) -> None:
        """Take on the modules of a run."""
        self._modules = _by_name(modules)
        if self._modules and self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def stale(self, modules: Iterable[tuple[Any, ...]]) -> bool:
        """Whether this process has imported a module otherwise than another run names it."""
        wanted = _by_name(modules)
        names = {*wanted, *self._modules} & sys.modules.keys()
        return any(wanted.get(name) != self._modules.get(name) for name in names)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        found = self._modules.get(name)
        return None if found is None else _spec_of(found)


def _by_name(modules: Iterable[tuple[Any, ...]]) -> dict[str, StrayModule]:
    return {module[0]: StrayModule(*module) for module in modules}


def _spec_of(module: StrayModule) -> ModuleSpec | None:
    from importlib.util import spec_from_file_location

    if os.path.isdir(module.place):  # a package without an __init__.py
        spec = ModuleSpec(module.name, None, is_package=True)
        spec.submodule_search_locations = [module.place]
        return spec
    folder, file = os.path.split(module.place)
    inside = [folder] if file.startswith("__init__.") else None
    loader = None if module.place == module.origin and not module.source else _Loader(module)
    return spec_from_file_location(
        module.name, module.place, loader=loader, submodule_search_locations=inside
    )


class _Loader(SourceFileLoader):
    """Of a module that stands elsewhere than it is from, or not at all."""

    def __init__(self, module: StrayModule) -> None:
        super().__init__(module.name, module.place)
        self._module = module

    def path_stats(self, path: str) -> Any:
        raise OSError("no compiled form is read: Python would give it the name of its place")

    def get_data(self, path: Any) -> bytes:
        try:
            return super().get_data(path)
        except FileNotFoundError:
            if path != self._module.place or not self._module.source:
                raise
            return self._module.source

    def source_to_code(self, data: Any, path: Any, **options: Any) -> Any:  # type: ignore[override]
        return super().source_to_code(data, self._module.origin, **options)

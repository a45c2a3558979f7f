"""The modules that a component's steps import in a worker.

Of `__main__`, which no worker imports, only what a step reaches travels, and so do its imports.
Any other module is imported whole, with whatever that imports.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.checking.imports import Import, Source, absolute, read_source
from pipedeco.checking.modules import HOOK, MISSING, PROJECT, Modules, Place
from pipedeco.main_file import MAIN

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLLOWED = (PROJECT, HOOK)
SOURCES = (".py", ".pyw")


class Need(NamedTuple):
    """A module that a step needs.

    `file` and `line` say where it is imported; "" and 0 for the module of the step itself.
    `sure` tells whether the worker executes that for certain, rather than when it calls something.
    """

    file: str
    line: int
    module: str
    place: Place
    guarded: bool
    sure: bool


class Needs:
    """Finds them; each source is read once."""

    def __init__(self, modules: Modules) -> None:
        self.broken: dict[str, SyntaxError] = {}  # sources that Python cannot read
        self._modules = modules
        self._sources: dict[str, Source] = {}  # by file
        self._all: dict[str, list[Need]] = {}  # by module
        self._direct: dict[Any, list[Need]] = {}  # of what is reached in a module

    def of(self, component: Any, reached: set[str]) -> Iterator[Need]:
        """What the steps of a component need.

        Parameters
        ----------
        reached: the names of `__main__` that travel with it.
        """
        own = getattr(component.fn, "__module__", None) or MAIN
        top = getattr(component.fn, "__qualname__", "").partition(".")[0]
        if own == MAIN:
            first = list(self._of_main(reached | {top}))
        else:
            names = _prefixes(own)
            first = [Need("", 0, name, self._modules.find(name), False, True) for name in names]
        yield from self._followed(first, (own, top))

    def of_file(self, file: str) -> Iterator[Need]:
        """Whatever a script imports at its top level, as where it cannot be loaded."""
        for found in self.imports(file):
            if not found.scope:
                yield from self._needed(found, MAIN, file, sure=True)

    def imports(self, file: str) -> list[Import]:
        """Of a source file; none where it is no source that can be read."""
        return self._source(file).imports

    def _source(self, file: str) -> Source:
        if file not in self._sources:
            self._sources[file] = self._read(file)
        return self._sources[file]

    def _read(self, file: str) -> Source:
        try:
            with open(file, "rb") as source:
                return read_source(source.read())
        except SyntaxError as error:
            self.broken[file] = error
        except (OSError, ValueError, RecursionError, MemoryError):
            pass  # in a zip file, a folder, or beyond all measure
        return Source([], {}, set(), set())

    def _of_main(self, names: set[str]) -> Iterator[Need]:
        file = getattr(sys.modules[MAIN], "__file__", None) or ""
        for found in self.imports(file):
            binds = found.bound in names or found.bound == "*"
            if found.scope in names or (not found.scope and binds):
                yield from self._needed(found, MAIN, file, sure=True)

    def _followed(self, first: list[Need], own: tuple[str, str]) -> Iterator[Need]:
        """These, and what their modules need in turn."""
        files = self._files_of(first)
        seen: set[str] = set()
        waiting = list(reversed(first))
        while waiting:
            need = waiting.pop()
            yield need
            if need.place.kind in FOLLOWED and need.module not in seen:
                seen.add(need.module)
                waiting += reversed(self._of_module(need.module, need.place, own, files))

    def _files_of(self, first: list[Need]) -> frozenset[str]:
        """The sources that may be executed for these, whichever of their functions are called."""
        files: dict[str, None] = {need.file: None for need in first if need.file}
        seen: set[str] = set()
        waiting = list(first)
        while waiting:
            need = waiting.pop()
            if need.place.kind in FOLLOWED and need.module not in seen:
                seen.add(need.module)
                files[need.place.file] = None
                waiting += self._all_of(need.module, need.place)
        return frozenset(files)

    def _all_of(self, name: str, place: Place) -> list[Need]:
        """Whatever a module imports, in any of its functions."""
        if name not in self._all:
            self._all[name] = [
                need
                for one in self._source_at(place).imports
                for need in self._needed(one, name, place.file, sure=False)
            ]
        return self._all[name]

    def _source_at(self, place: Place) -> Source:
        return self._source(place.file if place.file.endswith(SOURCES) else "")

    def _of_module(
        self, name: str, place: Place, own: tuple[str, str], files: frozenset[str]
    ) -> list[Need]:
        """What is imported where the step's own function, or what others mention, is executed."""
        key = name, own if name == own[0] else None, files
        if key not in self._direct:
            found: list[Need] = []
            source = self._source_at(place)
            if name == own[0]:
                reached = source.reached_from(own[1])
            else:
                others = [self._source(file).mentions for file in files if file != place.file]
                called = source.uses.keys() & set().union(*others)
                reached = source.reached_from(*called, *source.decorated)
            for one in source.imports:
                if not one.scope or one.scope in reached:
                    sure = not one.scope or (name, one.scope) == own
                    found += self._needed(one, name, place.file, sure=sure)
            self._direct[key] = found
        return self._direct[key]

    def _needed(self, found: Import, module: str, file: str, *, sure: bool) -> Iterator[Need]:
        """The modules that an import statement imports."""
        is_package = module != MAIN and self._modules.find(module).is_package
        base = absolute(found, module, is_package=is_package)
        if not base:
            return
        names = _prefixes(base)
        if found.name and self._modules.find(f"{base}.{found.name}").kind != MISSING:
            names.append(f"{base}.{found.name}")  # else it is an attribute
        for name in names:
            place = self._modules.find(name)
            yield Need(file, found.line, name, place, found.guarded, sure)
            if place.kind == MISSING:
                return


def _prefixes(name: str) -> list[str]:
    """`a`, `a.b`, `a.b.c`."""
    parts = name.split(".")
    return [".".join(parts[: n + 1]) for n in range(len(parts))]

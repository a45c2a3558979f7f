"""Environments of their own: what a step would miss in one; none is built for that.

What an environment will have is read from the metadata of what is installed here.  Of a package
that is not, or is in a version that was not asked for, nobody knows here what it brings.
"""

from __future__ import annotations

import sys
from collections import deque
from importlib import metadata
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.checking.findings import ERROR, WARNING, Finding, named, place_of
from pipedeco.checking.modules import HOOK, INSTALLED, OTHER, OWN
from pipedeco.config import find_requirements, find_start_method
from pipedeco.definitions import describe
from pipedeco.errors import ConfigError, NotPicklable
from pipedeco.requirements import readable, unmet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pipedeco.checking.modules import Modules
    from pipedeco.checking.needs import Need
    from pipedeco.requirements import Requirements


class _Brought(NamedTuple):
    """What an environment will have: distributions by their canonical names."""

    names: frozenset[str]
    whole: bool  # whether that is all


class Environments:
    """Looks at what components ask for; distributions are listed once.

    Parameters
    ----------
    modules: which find the modules that are imported.
    """

    def __init__(self, modules: Modules) -> None:
        self._modules = modules
        self._brought: dict[Requirements, _Brought] = {}
        self._owners: Mapping[str, list[str]] | None = None  # distributions, by top module

    def look(
        self, component: Any, needs: Iterable[Need], pipelines: Iterable[Any]
    ) -> Iterator[Finding]:
        """What keeps the steps of a component from having their environment, or working in it.

        Parameters
        ----------
        needs: the modules that its steps import.
        pipelines: that call it.
        """
        try:
            wanted = find_requirements(component.step_options, component.fn)
        except ConfigError as error:
            yield Finding(ERROR, *place_of(component), named(component), str(error))
            return
        if wanted is None:
            return
        if any(_spawns(pipeline) for pipeline in pipelines):
            text = "it asks for an environment of its own, which workers that are spawned never get"
            advice = "take start_method='spawn' away"
            yield Finding(ERROR, *place_of(component), named(component), text, advice)
        if wanted.other_python and _travels_by_value(component.fn):
            text = (
                f"it asks for Python {wanted.python}, and its function travels as code that "
                f"{sys.version_info[0]}.{sys.version_info[1]} has compiled"
            )
            advice = "move it into a module that can be imported"
            yield Finding(ERROR, *place_of(component), named(component), text, advice)
        yield from self._missing(component, wanted, needs)

    def look_here(self, component: Any) -> Iterator[Finding]:
        """What this process lacks of what a component asks for, as where it is called in place."""
        try:
            wanted = find_requirements(component.step_options, component.fn)
        except ConfigError as error:
            yield Finding(ERROR, *place_of(component), named(component), str(error))
            return
        for text in unmet(wanted) if wanted is not None else ():
            advice = "install that here, or choose another mode: debug calls a step in place"
            yield Finding(ERROR, *place_of(component), named(component), text, advice)

    def _missing(
        self, component: Any, wanted: Requirements, needs: Iterable[Need]
    ) -> Iterator[Finding]:
        brought = self._brought_by(wanted)
        told = set()
        for need in sorted(needs, key=lambda need: not need.sure):
            top = need.module.partition(".")[0]
            if need.guarded or top in told:
                continue
            owners = self._owners_of(top)
            if not owners or brought.names.intersection(owners):
                continue
            told.add(top)
            of = ", ".join(owners)
            text = (
                f"imports {need.module} ({of}), which its environment ({wanted.text}) does not have"
            )
            if not brought.whole:
                text += ", unless what it asks for brings it"
            advice = "name it in packages=, or keep it out of what this step imports"
            state = ERROR if need.sure and brought.whole else WARNING
            place = (need.file, need.line) if need.file else place_of(component)
            yield Finding(state, *place, named(component), text, advice)

    def _owners_of(self, top: str) -> list[str]:
        """What has installed a module of the top level; none where it comes by the path, or where
        nobody knows."""
        place = self._modules.find(top)
        if place.kind in (HOOK, OTHER) and not self._modules.is_on_path(place.file):
            return ["an editable install by a hook"]
        if place.kind != INSTALLED or top == OWN:
            return []
        if self._owners is None:
            self._owners = metadata.packages_distributions()
        return sorted({_canonical(name) for name in self._owners.get(top, ())})

    def _brought_by(self, wanted: Requirements) -> _Brought:
        if wanted not in self._brought:
            names, whole = _closure([*wanted.packages, OWN])
            whole = whole and not (wanted.packages and unmet(wanted))
            self._brought[wanted] = _Brought(frozenset(names), whole)
        return self._brought[wanted]


def _closure(asked: Iterable[str]) -> tuple[set[str], bool]:
    """The distributions that requirements bring, as far as is known here, and whether all is."""
    found: set[str] = set()
    seen: set[str] = set()
    whole = True
    waiting = deque(r for r in readable(asked) if r.marker is None or r.marker.evaluate())
    while waiting:
        item = waiting.popleft()
        if str(item) in seen:
            continue
        seen.add(str(item))
        found.add(_canonical(item.name))
        try:
            texts = metadata.requires(item.name) or ()
        except metadata.PackageNotFoundError:
            whole = False
            continue
        needed = readable(texts)
        whole = whole and len(needed) == len(texts)
        extras = [{"extra": extra} for extra in (*item.extras, "")]
        waiting += [r for r in needed if r.marker is None or any(map(r.marker.evaluate, extras))]
    return found, whole


def _canonical(name: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)


def _travels_by_value(fn: Any) -> bool:
    """Whether a worker gets compiled code, as of a function of `__main__` or within another."""
    try:
        spec = describe(fn)
    except NotPicklable:  # which is told elsewhere
        return False
    return spec.kind != "name" or spec.module == "__main__" or bool(spec.names)


def _spawns(pipeline: Any) -> bool:
    try:
        return find_start_method(pipeline.options.start_method) == "spawn"
    except ConfigError:  # which is told of the pipeline
        return False

"""Environments of their own: what a step would miss in one; none is built for that.

What an environment will have is read from the metadata of what is installed here.  Of a package
that is not, or is in a version that was not asked for, nobody knows here what it brings.
"""

from __future__ import annotations

import sys
from collections import deque
from importlib import metadata
from typing import TYPE_CHECKING, Any

from pipedeco.checking.findings import ERROR, WARNING, Finding, named, place_of
from pipedeco.checking.modules import INSTALLED, OWN
from pipedeco.config import find_requirements, find_start_method
from pipedeco.definitions import describe
from pipedeco.errors import ConfigError, NotPicklable
from pipedeco.requirements import unmet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pipedeco.checking.needs import Need
    from pipedeco.requirements import Requirements


class Environments:
    """Looks at what components ask for; distributions are listed once."""

    def __init__(self) -> None:
        self._brought: dict[Requirements, frozenset[str]] = {}
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

    def _missing(
        self, component: Any, wanted: Requirements, needs: Iterable[Need]
    ) -> Iterator[Finding]:
        there = self._brought_by(wanted)
        known = not unmet(wanted)
        told = set()
        for need in needs:
            top = need.module.partition(".")[0]
            owners = self._owners_of(top) if need.place.kind == INSTALLED else []
            if not owners or need.guarded or top in told or there.intersection(owners):
                continue
            told.add(top)
            text = (
                f"imports {top} ({owners[0]}), which its environment ({wanted.text}) does not have"
            )
            if not known:
                text += ", unless what it asks for brings it"
            advice = "name it in packages=, or import it within the functions that need it"
            state = ERROR if need.sure and known else WARNING
            place = (need.file, need.line) if need.file else place_of(component)
            yield Finding(state, *place, named(component), text, advice)

    def _owners_of(self, top: str) -> list[str]:
        """The distributions that have a module of the top level; none where nobody knows."""
        if top == OWN:
            return []
        if self._owners is None:
            self._owners = metadata.packages_distributions()
        return sorted({_canonical(name) for name in self._owners.get(top, ())})

    def _brought_by(self, wanted: Requirements) -> frozenset[str]:
        if wanted not in self._brought:
            self._brought[wanted] = frozenset(_closure([*wanted.packages, OWN]))
        return self._brought[wanted]


def _closure(asked: Iterable[str]) -> set[str]:
    """The distributions that requirements bring, by canonical name, as far as is known here."""
    from packaging.requirements import Requirement

    found: set[str] = set()
    seen: set[str] = set()
    waiting = deque(Requirement(text) for text in asked)
    while waiting:
        item = waiting.popleft()
        if str(item) in seen:
            continue
        seen.add(str(item))
        found.add(_canonical(item.name))
        try:
            needed = metadata.requires(item.name) or ()
        except metadata.PackageNotFoundError:
            continue
        extras = [{"extra": extra} for extra in (*item.extras, "")]
        for other in map(Requirement, needed):
            if other.marker is None or any(map(other.marker.evaluate, extras)):
                waiting.append(other)
    return found


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

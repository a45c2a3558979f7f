"""What a run of a file would stumble over, told before it.

The file is loaded as `pipedeco run` loads it, since what decorators are given is known only then:
its top level is executed up to its first call of a pipeline, and no step and no body of a pipeline
is.  All else is read from sources, and asked of what a run itself uses.

    findings   Finding and Report
    imports    the imports that stand in a source
    modules    where a module comes from
    reach      the components that a pipeline may call
    needs      the modules that a component's steps import
    code       what does not travel
    carrying   what cannot be pickled
    environments  what steps with packages of their own would miss there
    settings   options and queues
    generators  random numbers
    unused     results that nobody uses
    loading    what keeps a file from being loaded
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.checking.carrying import Carrying
from pipedeco.checking.code import Travelling, broken, missing, not_travelling
from pipedeco.checking.environments import Environments
from pipedeco.checking.findings import ERROR, WARNING, Finding, Report, distinct
from pipedeco.checking.generators import look_at_generators, look_at_seeds
from pipedeco.checking.loading import failed_load
from pipedeco.checking.modules import INSTALLED, STANDARD, Modules
from pipedeco.checking.needs import Needs
from pipedeco.checking.reach import Reached
from pipedeco.checking.settings import (
    Queues,
    look_at_callbacks,
    look_at_child,
    look_at_options,
    look_at_start_method,
)
from pipedeco.checking.unused import look_at_unused
from pipedeco.components import Traced
from pipedeco.config import find_mode
from pipedeco.errors import ConfigError
from pipedeco.loading import load, named_pipeline, pipelines_of, split_target
from pipedeco.options import check_mode
from pipedeco.runners.bundle import project_here
from pipedeco.runners.modes import traits_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipedeco.loading import Loaded

__all__ = ["ERROR", "WARNING", "Finding", "Report", "check"]


def check(target: str, mode: str | None = None) -> Report:
    """Look at the pipelines of a file or module.

    Parameters
    ----------
    target: FILE_OR_MODULE[:PIPELINE]; without a pipeline all that it defines.
    mode: of the run; by default what each pipeline's run would take.

    Raises ConfigError where there is no such file or pipeline.
    """
    check_mode(mode)
    source, name = split_target(target)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what the file prints is no finding
            loaded = load(source)
    except ConfigError as error:
        project = project_here()
        found = failed_load(error, source, project)
        if found is None:
            raise
        more = _imports_of(source, found, Modules(project))
        return Report(source, (), (), (), (found, *distinct(more)), loaded=False)
    if name:
        pipelines = [named_pipeline(loaded, name)]
    else:
        known = [loaded.called] if loaded.called is not None else []
        pipelines = list(pipelines_of(loaded).values()) or known
    return _Check(loaded, pipelines, mode, alone=bool(name)).report()


def _imports_of(source: str, known: Finding, modules: Modules) -> Iterator[Finding]:
    """The other imports of a file that will fail once this one is mended."""
    for need in Needs(modules).of_file(source) if os.path.isfile(source) else ():
        place = os.path.abspath(need.file), need.line
        if need.place.kind == "missing" and not need.guarded and place != known[1:3]:
            text = f"{need.module} is imported and found nowhere here"
            yield Finding(ERROR, *place, "", text, f"as with: pip install {need.module}")


class _Caller(NamedTuple):
    """A pipeline as it would run: on its own, or as a child of another."""

    pipeline: Any
    mode: str
    queue: str  # of components that name none


class _Check:
    """One check of a file that was loaded.

    Parameters
    ----------
    pipelines: those that are asked for.
    mode: as it was asked for.
    alone: whether components do not count that none of them calls.
    """

    def __init__(
        self, loaded: Loaded, pipelines: list[Any], mode: str | None, *, alone: bool
    ) -> None:
        self.loaded = loaded
        self.modules = Modules(project_here())
        self.needs = Needs(self.modules)
        self.carrying = Carrying()
        self.queues = Queues()
        self.environments = Environments(self.modules)
        self.callers: dict[Traced, list[_Caller]] = {}  # of each component
        self.all: dict[_Caller, None] = {}
        self.seeded: set[Any] = set()  # pipelines with a seed, or called by such
        self.found: list[Finding] = []
        self.store: str | None = None
        self.mode = find_mode(mode)  # of what no pipeline calls
        for pipeline in pipelines:
            self._reach(pipeline, find_mode(mode or pipeline.options.mode), "default")
            self.store = self.store or pipeline.options.store
        if not pipelines:
            file = getattr(loaded.module, "__file__", None) or ""
            advice = "decorate a function with @pipeline"
            self.found.append(Finding(ERROR, file, 0, "", "it defines no pipeline", advice))
        if not alone:
            for component in self._defined():
                self.callers.setdefault(component, [])

    def report(self) -> Report:
        modes = sorted({caller.mode for caller in self.all}) or [self.mode]
        return Report(
            self.loaded.source,
            tuple(modes),
            tuple(dict.fromkeys(caller.pipeline.name for caller in self.all)),
            tuple(component.name for component in self.callers),
            tuple(distinct([*self.found, *self._look()])),
        )

    def _reach(self, pipeline: Any, mode: str, queue: str, *, seeded: bool = False) -> None:
        seeded = seeded or pipeline.options.seed is not None
        if seeded:
            self.seeded.add(pipeline)
        caller = _Caller(pipeline, mode, pipeline.options.default_queue or queue)
        if caller in self.all:
            return
        self.all[caller] = None
        reached = Reached(self._is_users)
        reached.walk(pipeline)
        for component in reached.components:
            self.callers.setdefault(component, []).append(caller)
        for child in reached.pipelines:
            self.found += look_at_child(child, pipeline, mode)
            self._reach(child, mode, caller.queue, seeded=seeded)

    def _is_users(self, module: str) -> bool:
        if module == "__main__":
            return True
        kind = self.modules.find(module).kind
        return kind not in (INSTALLED, STANDARD) or module == self.loaded.module.__name__

    def _defined(self) -> list[Traced]:
        own = self.loaded.module
        return [
            value
            for value in vars(own).values()
            if isinstance(value, Traced) and not value.is_pipeline
            and value.fn.__module__ == own.__name__
        ]  # fmt: skip

    # -- what is looked at -----------------------------------------------------------------------

    def _look(self) -> Iterator[Finding]:
        yield from look_at_callbacks()
        modes = [caller.mode for caller in self.all] or [self.mode]
        travelling = Travelling(self.modules)
        if any(traits_of(mode).elsewhere for mode in modes):
            yield from self.queues.look()
            yield from travelling.look(self.store)
        module = self.loaded.module
        source = getattr(module, "__file__", None) or ""
        unseeded = [
            caller.pipeline for caller in self.all
            if not traits_of(caller.mode).in_process and caller.pipeline not in self.seeded
        ]  # fmt: skip
        yield from look_at_seeds(unseeded, source, module.__name__)
        for caller in self.all:
            yield from look_at_start_method(caller.pipeline)
            if not traits_of(caller.mode).in_process:
                yield from self.carrying.pipeline(caller.pipeline)
                yield from look_at_unused(caller.pipeline)
        for component, callers in self.callers.items():
            yield from self._look_at(component, callers, travelling)

    def _look_at(
        self, component: Any, callers: list[_Caller], travelling: Travelling
    ) -> Iterator[Finding]:
        modes = {traits_of(mode) for mode in [caller.mode for caller in callers] or [self.mode]}
        yield from look_at_options(component)
        names, cannot = self.carrying.component(component)
        if not all(mode.in_process for mode in modes):
            yield from cannot
            yield from look_at_generators(component)
        needs = list(self.needs.of(component, names))
        yield from missing(component, needs)
        if not all(mode.in_process for mode in modes):
            pipelines = [caller.pipeline for caller in callers]
            yield from self.environments.look(component, needs, pipelines)
        if any(mode.in_process for mode in modes):
            yield from self.environments.look_here(component)
        yield from broken(component, needs, self.needs.broken)
        if not any(mode.elsewhere for mode in modes):
            return
        here = bool(callers)
        for caller in callers:
            if traits_of(caller.mode).elsewhere:
                yield from self.queues.of(component, caller.pipeline, caller.queue)
                here = here and self.queues.are_here(component.step_options.queue or caller.queue)
        yield from not_travelling(component, needs, travelling, here=here)

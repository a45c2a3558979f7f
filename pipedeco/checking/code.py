"""What of the code does not reach a worker: by the same listing by which it travels."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

from pipedeco.checking.findings import ERROR, WARNING, Finding, named, place_of
from pipedeco.checking.modules import HOOK, MISSING, OTHER, PROJECT, Modules
from pipedeco.config import find_code_limit, find_store
from pipedeco.errors import ConfigError
from pipedeco.runners.bundle import check_size, code_files, not_included

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pipedeco.checking.needs import Need

PATIENCE = 10.0  # seconds for git


class Travelling:
    """The project's files that travel.

    Parameters
    ----------
    modules: which know the project.
    """

    def __init__(self, modules: Modules) -> None:
        self._modules = modules
        self._files: frozenset[str] | None = None  # None: nobody knows

    def look(self, store: str | None) -> Iterator[Finding]:
        """List them, without what is in the store; what would keep them from being packed."""
        project = self._modules.project
        if not project:
            return
        try:
            files = code_files(project, find_store(store))
            self._files = frozenset(file.path for file in files)
            check_size(project, files, find_code_limit())
        except ConfigError as error:
            yield Finding(ERROR, project, 0, "", str(error))
            return
        for text in not_included(project):
            yield Finding(WARNING, project, 0, "", text, "build the files first, or mend it")
        for file in files:
            path = os.path.join(project, file.path)
            if not os.access(path, os.R_OK):
                advice = "let git ignore it, or make it readable"
                yield Finding(ERROR, path, 0, "", "it is to travel and cannot be read", advice)

    def reasons(self, file: str) -> tuple[str, str] | None:
        """Why a file of the project does not travel, and what to do; None where it does."""
        path = self._modules.below_project(file)
        if self._files is None or path is None or path in self._files or not os.path.isfile(file):
            return None
        link = self._link(path)
        if link:
            target = os.path.realpath(os.path.join(self._modules.project, link))
            what = f"stands behind the link {link} to {target}, and links to folders do not travel"
            return what, "put the folder into the project, or install it on the workers"
        if path.endswith((".pyc", ".pyo")):
            return "is there as bytecode alone, which does not travel", "put its source beside it"
        rule = self._rule(path)
        if rule:
            advice = (
                "take it out of there, or name it in code_include of [tool.pipedeco], for workers "
                "will miss it"
            )
            return f"is ignored by git ({rule})", advice
        return (
            "is left out of what travels, as in hidden folders, environments and caches",
            "move it to another folder of the project",
        )

    def _link(self, path: str) -> str:
        """The first folder on the way to a file that is a link."""
        way = ""
        for part in path.split(os.sep)[:-1]:
            way = os.path.join(way, part)
            if os.path.islink(os.path.join(self._modules.project, way)):
                return way
        return ""

    def _rule(self, path: str) -> str:
        """The line of a .gitignore that names a file; "" where there is none."""
        command = ["git", "check-ignore", "-v", "--", path]
        try:
            done = subprocess.run(
                command, cwd=self._modules.project, capture_output=True, text=True, check=False,
                timeout=PATIENCE,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout.partition("\t")[0].strip()


def missing(component: Any, needs: Iterable[Need]) -> Iterator[Finding]:
    """Imports that would fail wherever the step is performed."""
    packages = getattr(component.step_options, "packages", None)
    if packages:  # an environment of its own has what we cannot see
        return
    for need in needs:
        if need.place.kind == MISSING and not need.guarded:
            state = ERROR if need.sure else WARNING
            text = f"imports {need.module}, which is found nowhere here"
            top = need.module.partition(".")[0]
            yield _at(state, need, component, text, f"install it, as with: pip install {top}")


def broken(
    component: Any, needs: Iterable[Need], known: dict[str, SyntaxError]
) -> Iterator[Finding]:
    """Modules that a step imports late, and that Python cannot read."""
    for need in needs:
        error = known.get(need.place.file)
        if error is not None:
            line = error.lineno or 0
            text = f"imports it, and it is no Python: {error.msg}"
            yield Finding(ERROR, need.place.file, line, named(component), text, "mend it")


def not_travelling(
    component: Any, needs: Iterable[Need], travelling: Travelling, *, here: bool
) -> Iterator[Finding]:
    """Imports that work here and would fail where the step is performed.

    Parameters
    ----------
    here: whether that is this machine, which has what is outside of the project.
    """
    for need in needs:
        kind = need.place.kind
        if kind == PROJECT:
            reasons = travelling.reasons(need.place.file)
            if reasons is not None and not need.guarded:
                text = f"{need.module} {reasons[0]}"
                yield _at(ERROR if need.sure else WARNING, need, component, text, reasons[1])
        elif kind == OTHER and not here:
            where = os.path.dirname(need.place.file)
            advice = (
                "workers that do not see this folder miss it: install it there, or put it into "
                "the project"
            )
            text = f"{need.module} comes from {where}, outside of the project"
            yield _at(WARNING, need, component, text, advice)
        elif kind == HOOK and not here:
            text = f"{need.module} is found by the hook of an editable install, not by the path"
            advice = "workers need the same install, or its folder in PYTHONPATH"
            yield _at(WARNING, need, component, text, advice)


def _at(state: str, need: Need, component: Any, text: str, advice: str) -> Finding:
    place = (need.file, need.line) if need.file else place_of(component)
    return Finding(state, *place, named(component), text, advice)

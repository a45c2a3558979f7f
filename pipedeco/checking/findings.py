"""What a check finds, and where."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

WARNING = "warning"
ERROR = "error"


class Finding(NamedTuple):
    """One thing that is not well: the run would fail by it (ERROR), or may (WARNING).

    `of` is the component or pipeline, as in "component fit"; "" where it is of the file.
    """

    state: str
    file: str
    line: int
    of: str
    text: str
    advice: str = ""

    @property
    def place(self) -> str:
        """`file:line`, as editors and terminals make links of it."""
        here = os.path.relpath(self.file) if self.file else ""
        path = self.file if here.startswith((os.pardir, os.curdir)) else here
        return f"{path}:{self.line}" if self.line else path

    def __str__(self) -> str:
        what = f"{self.of}: {self.text}" if self.of else self.text
        return f"{what}; {self.advice}" if self.advice else what


class Report(NamedTuple):
    """What `check` says of a file."""

    source: str
    modes: tuple[str, ...]
    pipelines: tuple[str, ...]
    components: tuple[str, ...]
    findings: tuple[Finding, ...]
    loaded: bool = True  # else what stands in the file is not known

    @property
    def sound(self) -> bool:
        """Whether no error was found."""
        return not any(finding.state == ERROR for finding in self.findings)


def place_of(traced: Any) -> tuple[str, int]:
    """File and line of a component or pipeline."""
    code = getattr(traced.fn, "__code__", None)
    return ("", 0) if code is None else (code.co_filename, code.co_firstlineno)


def named(traced: Any) -> str:
    return f"{'pipeline' if traced.is_pipeline else 'component'} {traced.name}"


def distinct(found: Iterable[Finding]) -> list[Finding]:
    """Each thing once, errors first; who else has it is only counted."""
    groups: dict[tuple[Any, ...], list[Finding]] = {}
    for finding in found:
        groups.setdefault((*finding[:3], *finding[4:]), []).append(finding)
    merged = [
        same[0]._replace(of=_joined([finding.of for finding in same if finding.of]))
        for same in groups.values()
    ]
    return sorted(merged, key=lambda finding: (finding.state != ERROR, *finding[1:4]))


def _joined(names: list[str]) -> str:
    """`component fit, score and 3 more`."""
    first, *others = dict.fromkeys(names) or [""]
    kind = first.partition(" ")[0] + " "
    shown = ", ".join([first, *(name.removeprefix(kind) for name in others[:1])])
    return f"{shown} and {len(others) - 1} more" if len(others) > 1 else shown

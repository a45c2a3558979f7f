"""What a step reports and its run shows as its own: names, patterns with `*`, other names."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from pipedeco.events import ARTIFACT, METRIC, MODEL, OF_RUN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


KINDS = {METRIC: "metrics", ARTIFACT: "artifacts", MODEL: "models"}


def names_on_run(
    kind: str, scope: int, name: str, monitors: Mapping[str, Sequence[Sequence[str]]], step: str
) -> list[str]:
    """The names under which an event stands on its run; none where it is the step's alone.

    Parameters
    ----------
    kind, scope, name: of the event.
    monitors: of the step's component: "metrics", "artifacts", "models" -> pairs of a pattern, in which
        `*` stands for anything, and the name on the run, in which `*` is what that one stood for and
        `{step}` the step's name.
    step: the name of the step that reported it.
    """
    if scope == OF_RUN:
        return [name]
    found: dict[str, None] = {}
    for pattern, shown in monitors.get(KINDS.get(kind, ""), ()):
        match = _compiled(pattern).fullmatch(name)
        if match is not None:
            found[_filled(shown.replace("{step}", step), match.groups())] = None
    return list(found)


def _filled(name: str, parts: tuple[str, ...]) -> str:
    """The name with what the pattern's stars stood for in the place of its own."""
    first, *rest = name.split("*")
    return first + "".join(part + text for part, text in zip(parts, rest, strict=False))


@lru_cache(maxsize=1000)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile("(.*)".join(map(re.escape, pattern.split("*"))), re.DOTALL)

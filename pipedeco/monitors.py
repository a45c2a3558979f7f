"""What a step reports and its run shows as its own: names, patterns with `*`, other names."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from pipedeco.events import ARTIFACT, METRIC, MODEL, OF_RUN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipedeco.events import Event


class Monitor(NamedTuple):
    """What is mirrored, and under which name."""

    pattern: str  # a name, in which `*` stands for anything
    name: str  # on the run; `*` is what that one stood for, `{step}` the step's name


KINDS = {METRIC: "metrics", ARTIFACT: "artifacts", MODEL: "models"}


def names_on_run(
    event: Event, monitors: Mapping[str, Sequence[Sequence[str]]], step: str
) -> list[str]:
    """The names under which an event stands on its run; none where it is the step's alone.

    Parameters
    ----------
    monitors: of the step's component: "metrics", "artifacts", "models" -> Monitors.
    step: the name of the step that reported it.
    """
    if event.scope == OF_RUN:
        return [event.name]
    found: dict[str, None] = {}
    for pattern, name in monitors.get(KINDS.get(event.kind, ""), ()):
        match = _compiled(pattern).fullmatch(event.name)
        if match is not None:
            found[_filled(name, match.groups()).replace("{step}", step)] = None
    return list(found)


def _filled(name: str, parts: tuple[str, ...]) -> str:
    """The name with what the pattern's stars stood for in the place of its own."""
    for part in parts:
        name = name.replace("*", part, 1)
    return name


@lru_cache(maxsize=1000)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile("(.*)".join(map(re.escape, pattern.split("*"))), re.DOTALL)

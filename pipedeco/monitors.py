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
    name: str  # on the run, in which `*` stands for what that one stood for


KINDS = {METRIC: "metrics", ARTIFACT: "artifacts", MODEL: "models"}


def name_on_run(event: Event, monitors: Mapping[str, Sequence[Sequence[str]]]) -> str | None:
    """The name under which an event stands on its run; None where it is the step's alone.

    Parameters
    ----------
    monitors: of the step's component: "metrics", "artifacts", "models" -> Monitors.
    """
    if event.scope == OF_RUN:
        return event.name
    for pattern, name in monitors.get(KINDS.get(event.kind, ""), ()):
        found = _compiled(pattern).fullmatch(event.name)
        if found is not None:
            return _filled(name, found.groups())
    return None


def _filled(name: str, parts: tuple[str, ...]) -> str:
    """The name with what the pattern's stars stood for in the place of its own."""
    for part in parts:
        name = name.replace("*", part, 1)
    return name


@lru_cache(maxsize=1000)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile("(.*)".join(map(re.escape, pattern.split("*"))), re.DOTALL)

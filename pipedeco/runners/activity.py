"""What is going on where no step is performed: imports, workers and engines that start."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pipedeco.worker.setups import SETTING_UP

if TYPE_CHECKING:
    from pipedeco.graph import Step

LOADING = 4  # where it stands on a worker's page that it looks for a function
CLUSTERS = {"dask": "a Dask cluster", "ray": "a Ray cluster", "local": "workers of this machine"}


def activity_of(step: Step, page: Any, number: int, main: str | None) -> str:
    """What a worker does that was given a call; empty where it performs the step.

    Parameters
    ----------
    step: of the call.
    page: of the worker.
    number: of the call.
    main: the program's main file, where workers import it.
    """
    helper: str | None = getattr(step.called.component, "activity", None)
    if page[0] == SETTING_UP:
        return "calling setup="
    if page[0] != number:  # a worker itself starts within milliseconds
        return f"importing {'modules' if main is None else os.path.basename(main)}"
    if helper is not None:
        return helper
    return f"importing {step.called.component.fn.__module__}" if page[LOADING] else ""


def opening(url: str) -> str:
    """That an engine is being opened."""
    scheme, _, address = _place(url).partition("://")
    if scheme in CLUSTERS and (not address or scheme == "local"):
        return f"starting {CLUSTERS[scheme]}"
    return f"connecting to {_place(url)}"


def not_begun(url: str) -> str:
    """That an engine has had a payload for a while."""
    return f"{_place(url)} has not begun what it was given"


def _place(url: str) -> str:
    """Without options, of which some are secret."""
    return url.partition("?")[0]


def shown_name(step: Step) -> str:
    """Its name before what it writes; nothing for a function of ours that is performed like one."""
    return step.name if step.position >= 0 else ""

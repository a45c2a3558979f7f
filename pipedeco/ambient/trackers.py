"""The active runs of experiment trackers, as the variables by which other processes join them.

A tracker is asked only where the program has imported it.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def tracked() -> bool:
    """Whether the program has imported any tracker."""
    return any(name in sys.modules for name, _ in _TRACKERS)


def variables_here() -> dict[str, str]:
    """The environment of this process, and what leads its steps into the trackers' active runs."""
    return {**os.environ, **active_runs()}


def active_runs() -> dict[str, str]:
    """Variables for the runs that are active in the caller's thread."""
    modules = sys.modules
    found: dict[str, str] = {}
    for name, variables in _TRACKERS:
        if name in modules:
            found.update(_asked(modules[name], variables))
    return found


class Trackers:
    """Leaves the run that a step has joined: the next step may have to join another.

    The run is the program's to end, so nobody is told.
    """

    name = "trackers"
    needs = "mlflow.tracking.fluent"

    def capture(self) -> None:
        """Their variables travel in the environment."""

    def enter(self, state: None) -> None:
        pass

    def restore(self) -> None:
        fluent: Any = sys.modules["mlflow.tracking.fluent"]
        joined = os.environ.get("MLFLOW_RUN_ID")
        stack = getattr(fluent, "_active_run_stack", [])
        stack = stack if isinstance(stack, list) else stack.get()  # of this thread, in newer ones
        if any(run.info.run_id == joined for run in stack):
            stack[:] = [run for run in stack if run.info.run_id != joined]


def _asked(module: Any, variables: Callable[[Any], dict[str, Any]]) -> dict[str, str]:
    try:
        return {name: str(value) for name, value in variables(module).items() if value}
    except AttributeError:  # of a version that has no such thing, or half imported
        return {}


def _mlflow(module: Any) -> dict[str, Any]:
    run = module.active_run()
    if run is None:
        return {}
    return {
        "MLFLOW_RUN_ID": run.info.run_id,
        "MLFLOW_EXPERIMENT_ID": run.info.experiment_id,
        "MLFLOW_TRACKING_URI": module.get_tracking_uri(),
    }


def _wandb(module: Any) -> dict[str, Any]:
    run = module.run
    if run is None:
        return {}
    names = {"WANDB_RUN_ID": run.id, "WANDB_PROJECT": run.project, "WANDB_ENTITY": run.entity}
    return {**names, "WANDB_RESUME": "allow"}


def _comet(module: Any) -> dict[str, Any]:
    run = module.get_running_experiment()
    return {} if run is None else {"COMET_EXPERIMENT_KEY": run.get_key()}


_TRACKERS: tuple[tuple[str, Callable[[Any], dict[str, Any]]], ...] = (
    ("mlflow", _mlflow),
    ("wandb", _wandb),
    ("comet_ml", _comet),
)

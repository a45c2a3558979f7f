"""pipedeco: decorate ordinary functions, and their calls become a durable, parallel pipeline.

from pipedeco import component, pipeline
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipedeco.callbacks import Callback
    from pipedeco.components import Component, component
    from pipedeco.config import configure
    from pipedeco.errors import (
        BlobCorrupt,
        ConfigError,
        EngineLost,
        EnvironmentFailed,
        GraphError,
        NotPicklable,
        PipedecoError,
        ReportError,
        RunBusy,
        RunCancelled,
        RunFailed,
        RunNotFound,
        StepCancelled,
        StepFailed,
        StepSkipped,
        StepTimeout,
        StoreError,
        WorkerDied,
    )
    from pipedeco.fingerprint.files import File
    from pipedeco.futures import as_completed, future, wait
    from pipedeco.options import Cache
    from pipedeco.pipelines import Pipeline, pipeline
    from pipedeco.resolving import value
    from pipedeco.result import StepResult
    from pipedeco.run import Run, get_run, runs
    from pipedeco.tracking import (
        add_tags,
        current_run,
        current_step,
        get_logger,
        log_artifact,
        log_figure,
        log_image,
        log_metric,
        log_metrics,
        log_model,
        log_param,
        log_table,
        log_text,
        set_progress,
    )

__version__ = "0.1.0"

# Where each public name lives; modules are imported when a name is first used.
_HOMES = (
    {
        "Cache": "options",
        "Callback": "callbacks",
        "Component": "components",
        "File": "fingerprint.files",
        "Pipeline": "pipelines",
        "Run": "run",
        "StepResult": "result",
        "as_completed": "futures",
        "component": "components",
        "configure": "config",
        "future": "futures",
        "get_run": "run",
        "pipeline": "pipelines",
        "runs": "run",
        "value": "resolving",
        "wait": "futures",
    }
    | dict.fromkeys(
        (
            "BlobCorrupt",
            "ConfigError",
            "EngineLost",
            "EnvironmentFailed",
            "GraphError",
            "NotPicklable",
            "PipedecoError",
            "ReportError",
            "RunBusy",
            "RunCancelled",
            "RunFailed",
            "RunNotFound",
            "StepCancelled",
            "StepFailed",
            "StepSkipped",
            "StepTimeout",
            "StoreError",
            "WorkerDied",
        ),
        "errors",
    )
    | dict.fromkeys(
        (
            "add_tags",
            "current_run",
            "current_step",
            "get_logger",
            "log_artifact",
            "log_figure",
            "log_image",
            "log_metric",
            "log_metrics",
            "log_model",
            "log_param",
            "log_table",
            "log_text",
            "set_progress",
        ),
        "tracking",
    )
)

__all__ = [
    "BlobCorrupt",
    "Cache",
    "Callback",
    "Component",
    "ConfigError",
    "EngineLost",
    "EnvironmentFailed",
    "File",
    "GraphError",
    "NotPicklable",
    "PipedecoError",
    "Pipeline",
    "ReportError",
    "Run",
    "RunBusy",
    "RunCancelled",
    "RunFailed",
    "RunNotFound",
    "StepCancelled",
    "StepFailed",
    "StepResult",
    "StepSkipped",
    "StepTimeout",
    "StoreError",
    "WorkerDied",
    "add_tags",
    "as_completed",
    "component",
    "configure",
    "current_run",
    "current_step",
    "future",
    "get_logger",
    "get_run",
    "log_artifact",
    "log_figure",
    "log_image",
    "log_metric",
    "log_metrics",
    "log_model",
    "log_param",
    "log_table",
    "log_text",
    "pipeline",
    "runs",
    "set_progress",
    "value",
    "wait",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    found = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """The public names, for completion, and what every module has."""
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])

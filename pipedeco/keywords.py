"""The options as checkers and editors see them: keywords with a type each.

For annotations alone: nothing of this is imported when a program runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from pipedeco.callbacks import Callback, StepView
from pipedeco.options import Cache

Mode = Literal["debug", "local", "remote"]
OnFailure = Literal["continue", "abort"]
StartMethod = Literal["nursery", "spawn"]
Progress = Literal["auto", "full", "off"]
Main = Literal["import", "definitions"]
Path = str | os.PathLike[str]


class StepCallbacks(TypedDict, total=False):
    """Functions that are called with the steps of a component or a pipeline."""

    before_step: Callable[[StepView, dict[str, Any]], Any] | None
    after_step: Callable[[StepView], Any] | None
    on_status_change: Callable[[StepView, str], Any] | None
    callbacks: Sequence[Callback]


class ComponentChanges(StepCallbacks, total=False):
    """What `Component.with_options` takes; see `pipedeco.component`."""

    name: str | None
    cache: bool | Cache
    retries: int
    retry_delay: float | Sequence[float] | Callable[[int], float]
    retry_on: type[BaseException] | Sequence[type[BaseException]] | Callable[[BaseException], bool]
    timeout: float | None
    outputs: Sequence[str] | int | None
    priority: int
    queue: str | None
    resources: Mapping[str, float | str] | Sequence[tuple[str, float | str]]
    packages: Sequence[str] | Path | None
    python: str | None
    allow_failure: bool
    fresh_process: bool
    depends_on: Sequence[Any]
    stage: str | None
    tags: Sequence[str]
    monitor_metrics: Sequence[str | tuple[str, str]]
    monitor_artifacts: Sequence[str | tuple[str, str]]
    monitor_models: Sequence[str | tuple[str, str]]
    auto_log: bool | None
    collect: Sequence[str]
    draft: bool


class PipelineChanges(StepCallbacks, total=False):
    """What `Pipeline.with_options` takes; see `pipedeco.pipeline`."""

    name: str | None
    version: str | None
    mode: Mode | None
    workers: int | None
    on_failure: OnFailure
    start_method: StartMethod | None
    store: Path | None
    default_queue: str | None
    cache: bool
    refresh: bool | str | Sequence[str]
    tags: Sequence[str]
    auto_log: bool
    seed: int | None
    setup: Callable[[], Any] | None
    on_run_end: Callable[[Any], Any] | None


class SettingsChanges(TypedDict, total=False):
    """What `pipedeco.configure` takes."""

    mode: Mode | None
    workers: int | None
    store: Path | None
    blobs: str | None
    start_method: StartMethod | None
    progress: Progress | None
    queues: Mapping[str, str] | None
    code_limit: int | None
    main: Main | None
    setup: Callable[[], Any] | None
    code_include: Sequence[str] | None

"""Every error that pipedeco raises, in one tree.

    PipedecoError
    ├── RunFailed          a run ended with a failure that its body never read
    ├── RunCancelled       a run was cancelled
    ├── RunBusy            another controller has the run
    ├── RunNotFound        no run, or more than one, answers to that name
    ├── StepFailed         a step ended without a value
    │   ├── WorkerDied     its process died
    │   ├── StepTimeout    it ran longer than `timeout`
    │   ├── NotPicklable   an argument or the value cannot travel
    │   ├── EngineLost     the engine that performed it is gone
    │   └── EnvironmentFailed  the environment that it asks for cannot be built
    ├── StepSkipped        a step was not performed because of another
    ├── StepCancelled      a step was cancelled (also concurrent.futures.CancelledError)
    ├── StoreError         the store cannot be used
    │   └── BlobCorrupt    a recorded value is missing or damaged
    ├── ReportError        what a step reports cannot be recorded
    ├── ConfigError        an option, a setting or a file of settings is wrong
    └── GraphError         the body does what a pipeline cannot do

Each message says what happened, to which step of which run, and what to do next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any


class PipedecoError(Exception):
    """Base of every error of pipedeco.

    Keyword arguments become attributes: `run` (id) and `step` (name) where they are known.
    """

    run: str | None = None
    step: str | None = None

    def __init__(self, message: str = "", **facts: Any) -> None:
        super().__init__(message)
        self.__dict__.update(facts)


class RunFailed(PipedecoError):
    """A run ended with a failure that its body never read; the cause is the first of them."""


class RunCancelled(PipedecoError):
    """The run was cancelled."""


class RunBusy(PipedecoError):
    """Another living controller has the run."""


class RunNotFound(PipedecoError):
    """No run, or more than one, answers to the name that was asked for."""


class StepFailed(PipedecoError):
    """A step ended without a value.

    Also stands for an exception that could not travel from its worker: `type`, the text and
    `traceback` are what is known of it.
    """

    type: str | None = None
    traceback: str | None = None


class WorkerDied(StepFailed):
    """The process that performed a step died.

    Attributes: `exitcode` (int or None), `signal` (its name or None), `peak_memory` (bytes).
    """

    exitcode: int | None = None
    signal: str | None = None
    peak_memory: int | None = None


class StepTimeout(StepFailed):
    """A step ran longer than its `timeout` (seconds) and its worker was killed."""

    timeout: float | None = None


class NotPicklable(StepFailed):
    """An argument or the value of a step cannot be carried to another process."""


class EngineLost(StepFailed):
    """The engine that performed a step cannot be reached any more."""


class EnvironmentFailed(StepFailed):
    """The environment that a step asks for, by `packages` or `python`, cannot be built."""


class StepSkipped(PipedecoError):
    """The step was not performed because of what happened to another one."""


class StoreError(PipedecoError):
    """The store cannot be opened, read or written."""


class BlobCorrupt(StoreError):
    """A recorded value is missing from the store, or is not what was written."""


class ReportError(PipedecoError):
    """What a step or a body reports (a metric, a figure, an artifact) cannot be recorded."""


class ConfigError(PipedecoError):
    """An option or a setting has a value that it cannot have."""


class GraphError(PipedecoError):
    """The body of a pipeline does something that a pipeline cannot do.

    `graph` is what was traced before, where it was found in a trace.
    """

    graph: Any = None


class Terminated(BaseException):
    """Raised in the main thread by SIGTERM while a body runs there; never leaves a run."""


if TYPE_CHECKING:
    from concurrent.futures import CancelledError

    class StepCancelled(PipedecoError, CancelledError):
        """The step was cancelled before it had a value."""

else:

    def __getattr__(name: str) -> type[PipedecoError]:
        # Its second base lives in concurrent.futures, 14 ms of imports that few runs need.
        if name != "StepCancelled":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from concurrent.futures import CancelledError

        class StepCancelled(PipedecoError, CancelledError):
            """The step was cancelled before it had a value."""

        StepCancelled.__qualname__ = name
        return globals().setdefault(name, StepCancelled)

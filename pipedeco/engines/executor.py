"""Whatever is a `concurrent.futures.Executor` serves as an engine (PEP 3148).

executor://module:factory?slots=8       `factory()` gives the executor
"""

from __future__ import annotations

import os
from concurrent.futures import BrokenExecutor, CancelledError
from typing import TYPE_CHECKING, Any

from pipedeco.errors import ConfigError, EngineLost, StepFailed, WorkerDied
from pipedeco.plugins import named_object
from pipedeco.worker.probing import version_of
from pipedeco.worker.station import perform_batch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Executor, Future

    from pipedeco.engines import EngineURL


class ExecutorEngine:
    """The common adapter.

    Parameters
    ----------
    url: as it was given, for messages.
    executor: what it is made of.
    slots: how many payloads the executor performs at once.
    """

    takes_resources = False

    def __init__(self, url: str, executor: Executor, slots: int) -> None:
        self.url = url
        self.executor = executor
        self._slots = slots
        self._broken = False
        self._closed = False

    @property
    def alive(self) -> bool:
        return not self._closed and not self._broken

    @property
    def slots(self) -> int:
        return self._slots

    def submit(
        self, payload: bytes, resources: Mapping[str, float | str], priority: int = 0
    ) -> Future[bytes]:
        return self.executor.submit(perform_batch, payload)

    def lacks(self, resources: Mapping[str, float | str]) -> str:
        return ""

    def explain(self, error: BaseException) -> StepFailed:
        what = f"{type(error).__name__}: {error}".rstrip(": ")
        if isinstance(error, ImportError):
            return StepFailed(
                f"the workers of {self.url} cannot perform steps ({what}); they need Python and "
                f"pipedeco {version_of('pipedeco')}"
            )
        if isinstance(error, BrokenExecutor):
            self._broken = True
            return WorkerDied(f"the engine's worker ended before the step did ({what})")
        if isinstance(error, CancelledError):
            what = "it has dropped what it was given"
        return EngineLost(f"the engine {self.url} is lost: {what}")

    def close(self) -> None:
        self._closed = True
        self.executor.shutdown(wait=False, cancel_futures=True)


def read_url(url: EngineURL) -> dict[str, str]:
    """The options; raises ConfigError where the URL names no function."""
    module, _, name = url.address.partition(":")
    if not module or not name:
        raise ConfigError(f"{url.text} is to name a function, as in executor://module:factory")
    return url.take("slots")


def open_executor(url: EngineURL) -> ExecutorEngine:
    """The executor that a function of the user's makes."""
    options = read_url(url)
    try:
        factory = named_object(url.address)
    except AttributeError as error:
        raise ConfigError(f"{url.text} names what is not there: {error}") from None
    executor: Any = factory()
    if not hasattr(executor, "submit") or not hasattr(executor, "shutdown"):
        raise ConfigError(f"{url.address} gave {executor!r}, which is no executor")
    own = getattr(executor, "_max_workers", None) or os.cpu_count() or 1
    slots = url.whole("slots", options["slots"]) if "slots" in options else int(own)
    return ExecutorEngine(url.text, executor, slots)

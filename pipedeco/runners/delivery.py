"""Hands the log records of steps to the program's own handlers, each once."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from pipedeco.events import LOGGED, decoded

if TYPE_CHECKING:
    from collections.abc import Callable

    Target = Callable[[dict[str, Any]], None]

CHUNK = 1 << 20


class Delivery:
    """Reads what workers report of log records, while they go on.

    Parameters
    ----------
    folder : str
        Of the run's logs.
    targets : dict
        By kind of logging, what hands over the payload of a record.
    """

    def __init__(self, folder: str, targets: dict[str, Target]) -> None:
        self._folder = folder
        self._targets = targets
        self._tails: dict[str, _Tail] = {}
        self._lock = threading.RLock()  # a handler may read a step's value, which leads here

    def add(self, worker: str) -> None:
        """Listen to a worker that enters the run."""
        if self._targets and worker not in self._tails:
            self._tails[worker] = _Tail(os.path.join(self._folder, f"{worker}.events"))

    def is_behind(self, worker: str, end: int) -> bool:
        """Return whether there may be records before this place of a worker's events."""
        tail = self._tails.get(worker)
        return tail is not None and tail.position < end

    def deliver(self) -> None:
        """Hand over what came since the last time."""
        if not self._tails:
            return
        with self._lock:
            for tail in list(self._tails.values()):
                for line in tail.lines():
                    self._hand_over(line)

    def _hand_over(self, line: bytes) -> None:
        event = decoded(line)
        target = None if event is None else self._targets.get(event.payload.get("kind", "logging"))
        if event is not None and target is not None and event.payload.get("to"):
            target(event.payload)


class _Tail:
    """The records in one growing file of events."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.position = 0

    def lines(self) -> list[bytes]:
        """The whole lines that came since the last look."""
        try:
            size = os.stat(self._path).st_size
        except FileNotFoundError:
            return []
        found: list[bytes] = []
        while self.position < size:
            with open(self._path, "rb") as file:
                file.seek(self.position)
                data = file.read(max(CHUNK, size - self.position))
            whole = data.rpartition(b"\n")[0]
            if not whole:
                break
            self.position += len(whole) + 1
            found += [line for line in whole.split(b"\n") if line.startswith(LOGGED)]
        return found


def here() -> dict[str, Target]:
    """What in this process gets records of steps."""
    found: dict[str, Target] = {}
    if "logging" in sys.modules:
        from pipedeco.ambient import loggers

        handlers = loggers.targets()
        if handlers:
            from pipedeco.runners.handing import Handing

            found["logging"] = Handing(handlers)
    if "loguru" in sys.modules:
        from pipedeco.runners.sinks import Sinks

        found["loguru"] = Sinks()
    if "structlog" in sys.modules:
        from pipedeco.runners.sinks import StreamsOfLoggers

        found["stream"] = StreamsOfLoggers()
    return found

"""Log records of debug steps, which go to the program's own handlers by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipedeco.ambient.loggers import log_text
from pipedeco.ambient.watch import RecordWatch
from pipedeco.errors import PipedecoError
from pipedeco.events import LOG

if TYPE_CHECKING:
    import logging

    from pipedeco.runners.streams import StepLogs, Streams


class Records:
    """Puts into a step's log the records of which no handler has written anything there."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._watch = RecordWatch(self)
        self._watch.install()

    def close(self) -> None:
        self._watch.remove()

    def begin(self) -> Any:
        logs = self._streams.logs_here()
        return None if logs is None else (logs, logs.kept())

    def took(self, record: logging.LogRecord, handlers: list[logging.Handler], begun: Any) -> None:
        logs: StepLogs = begun[0]
        if logs.kept() != begun[1]:
            return
        try:
            payload = {"text": log_text(handlers[0], record)}
            logs.reporter.emit(LOG, record.name, payload, time=record.created)
        except PipedecoError:  # a full disk
            handlers[0].handleError(record)

"""Log records of debug steps, which go to the program's own handlers by themselves."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from pipedeco.ambient.loggers import log_text
from pipedeco.ambient.loguru_logs import LAST, core_of, place_of
from pipedeco.ambient.loguru_sinks import Last
from pipedeco.ambient.watch import RecordWatch
from pipedeco.errors import PipedecoError
from pipedeco.events import LOG
from pipedeco.text import write_stderr

if TYPE_CHECKING:
    import logging

    from pipedeco.runners.streams import StepLogs, Streams


class Records:
    """Puts into a step's log the records of which no handler has written anything there."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._open = True
        self._watch = RecordWatch(self)
        self._watch.install()

    def close(self) -> None:
        self._open = False  # somebody else's wrapper may keep ours
        self._watch.remove()

    def begin(self) -> Any:
        logs = self._streams.logs_here() if self._open else None
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


class LoguruRecords(Last):
    """The same for loguru, as the last of its handlers."""

    def __init__(self, streams: Streams) -> None:
        super().__init__()
        self._streams = streams
        self._core = core_of()
        self._put({**self._core.handlers, LAST: self})

    def close(self) -> None:
        self._put({key: found for key, found in self._core.handlers.items() if key != LAST})

    def emit(self, record: Any, *rest: Any) -> None:
        logs = self._streams.logs_here()
        taken = [] if logs is None else [h for h in self._handlers() if _takes(h, record)]
        if logs is None or not taken or any(_is_kept(handler) for handler in taken):
            return
        try:
            text = _text_of(taken[0], record, rest)
            logs.reporter.emit(LOG, "loguru", {"text": text})
        except PipedecoError as error:  # a full disk
            write_stderr(f"pipedeco: {error}\n")

    def _handlers(self) -> list[Any]:
        return [handler for key, handler in self._core.handlers.items() if key != LAST]

    def _put(self, handlers: dict[int, Any]) -> None:
        with self._core.lock:
            self._core.handlers = handlers


def _is_kept(handler: Any) -> bool:
    """Whether a stream keeps what this thread logs."""
    return place_of(handler) is not None and not handler._enqueue


def _takes(handler: Any, record: Any) -> bool:
    filter_ = handler._filter
    return handler._levelno <= record["level"].no and (filter_ is None or bool(filter_(record)))


def _text_of(handler: Any, record: Any, rest: tuple[Any, ...]) -> str:
    """A record in the format of a handler."""
    texts = _Texts()
    double = copy.copy(handler)
    double._sink, double._enqueue, double._filter = texts, False, None
    double.emit(record, *rest)
    return "".join(texts.found)


class _Texts:
    """A sink."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def write(self, message: Any) -> None:
        self.found.append(str(message))

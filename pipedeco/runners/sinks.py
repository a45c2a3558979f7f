"""Hands what steps log by loguru and structlog to the program's own sinks and streams."""

from __future__ import annotations

import base64
import traceback
from typing import Any

from pipedeco.ambient.loguru_logs import LAST, core_of
from pipedeco.ambient.structlogs import streams
from pipedeco.picklers import loads


class Sinks:
    """The sinks of loguru, as they are when a run begins."""

    def __init__(self) -> None:
        handlers = core_of().handlers
        self._handlers = {key: found for key, found in handlers.items() if key != LAST}

    def __call__(self, payload: dict[str, Any]) -> None:
        handler = self._handlers.get(payload["to"][0])
        if handler is None:
            return
        try:
            message = loads(base64.b64decode(payload["message"]))
            with handler._protected_lock():
                if handler._stopped:
                    return
                if handler._enqueue:
                    handler._queue.put(message)
                else:
                    handler._sink.write(message)
        except Exception:  # noqa: BLE001 - the user's sink; the others get their messages
            traceback.print_exc()


class StreamsOfLoggers:
    """The streams to which loggers of structlog write, as they are when a run begins."""

    def __init__(self) -> None:
        self._streams = streams()

    def __call__(self, payload: dict[str, Any]) -> None:
        stream = self._streams.get(payload["to"][0])
        if stream is None:
            return
        try:
            stream.write(payload["written"])
            stream.flush()
        except (OSError, ValueError):  # closed, or a full disk
            traceback.print_exc()

"""Hands a record that came from a step to handlers of `logging`."""

from __future__ import annotations

import logging
import traceback
from typing import Any

from pipedeco.ambient import wire


class Handing:
    """Gives records to the handlers to which they go.

    Parameters
    ----------
    handlers : dict
        By the key under which workers know them.
    """

    def __init__(self, handlers: dict[int, logging.Handler]) -> None:
        self._handlers = handlers

    def __call__(self, payload: dict[str, Any]) -> None:
        record = wire.unpack(payload)
        for key, filtered in payload["to"]:
            handler = self._handlers.get(key)
            if handler is not None:
                _hand(handler, record, filtered=filtered)


def _hand(handler: logging.Handler, record: logging.LogRecord, *, filtered: bool) -> None:
    """Have a handler take a record as if the step had logged it here."""
    try:
        if filtered:  # in the worker, by what the step has set around it
            handler.acquire()
            try:
                handler.emit(record)
            finally:
                handler.release()
        else:
            handler.handle(record)
    except Exception:  # noqa: BLE001 - the user's handler; the other ones get their records
        traceback.print_exc()

"""What stands for the sinks of loguru in a worker."""

from __future__ import annotations

import pickle
import sys
import threading
from typing import Any

from pipedeco.ambient.carried import encoded, report


class Last:
    """Comes after the handlers of a record: reports it to those that are served by the program.

    It is none of loguru's handlers, and does what their core asks of one.
    """

    levelno = float("inf")  # so that it changes nothing of what is logged

    def __init__(self) -> None:
        self.here = _Here()

    def emit(self, *record: Any) -> None:
        here = self.here
        messages, shown = here.messages, here.shown
        here.messages, here.shown = [], False
        for key, message in messages:
            text, shown = "" if shown else str(message), True
            report("loguru", [key], text, {"message": encoded(_dumped(message))})

    def stop(self) -> None:
        pass

    def update_format(self, level: object) -> None:
        pass

    def complete_queue(self) -> None:
        pass

    def tasks_to_complete(self) -> list[Any]:
        return []


class _Here(threading.local):
    """Of the record that this thread logs."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, Any]] = []
        self.shown = False  # whether it stands in the step's output


class _Sink:
    """Takes the messages of a handler."""

    def __init__(self, last: Last) -> None:
        self._last = last

    def stop(self) -> None:
        pass

    def tasks_to_complete(self) -> list[Any]:
        return []


class _Shown(_Sink):
    def __init__(self, last: Last, place: str) -> None:
        super().__init__(last)
        self._place = place

    def write(self, message: Any) -> None:
        self._last.here.shown = True
        stream = getattr(sys, self._place)
        stream.write(message)
        stream.flush()


class _Forwarded(_Sink):
    def __init__(self, last: Last, key: int) -> None:
        super().__init__(last)
        self._key = key

    def write(self, message: Any) -> None:
        self._last.here.messages.append((self._key, message))


def sink_of(place: str | None, key: int, last: Last) -> _Sink:
    """What stands for the sink of a handler."""
    return _Forwarded(last, key) if place is None else _Shown(last, place)


def _dumped(message: Any) -> bytes:
    """The pickle of a message with its record; what cannot be pickled of this goes as its text."""
    try:
        return pickle.dumps(message)
    except Exception:  # noqa: BLE001 - the user's objects
        record = dict(message.record)
        record["extra"] = {name: str(value) for name, value in record["extra"].items()}
        record["exception"] = None
        double = type(message)(message)
        double.record = record
        return pickle.dumps(double)

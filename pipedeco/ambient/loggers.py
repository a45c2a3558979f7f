"""What the program has set up in `logging`, as plain types.

A handler whose stream is sys.stdout or sys.stderr is re-made in workers, as what it writes is
output of the step.  Every other one stays where it is: workers send it the records.  Of both the
level, the filters and the formatter hold in workers, as far as they can be pickled.
"""

from __future__ import annotations

import io
import logging
import sys
import warnings
from typing import Any

from pipedeco.picklers import cloud_pickler
from pipedeco.serialization import dumps
from pipedeco.tracing import warn_user
from pipedeco.tracking import stderr_handler

FORWARDED = "forwarded"
STEP = "step"  # the handler of get_logger()
LEVELS = {50: "CRITICAL", 40: "ERROR", 30: "WARNING", 20: "INFO", 10: "DEBUG", 0: "NOTSET"}
RICH = "%(asctime)s %(levelname)-8s %(message)s"


def capture() -> dict[str, Any] | None:
    """The state of `logging` in this process; None where it is as when it was imported."""
    captured = _Capture()
    loggers = {logger.name: captured.logger(logger) for logger in _configured()}
    found = {
        "loggers": loggers,
        "handlers": captured.handlers,
        "files": captured.files,
        **_globals(),
    }
    state = {name: value for name, value in found.items() if value}
    return None if state == {"loggers": {"root": (logging.WARNING, True, False, [], [])}} else state


def targets() -> dict[int, logging.Handler]:
    """The handlers to which workers may send records, by their key in the captured state."""
    return {id(handler): handler for logger in _configured() for handler in logger.handlers}


def place_of(handler: logging.Handler) -> str | None:
    """Which stream of a step a handler writes to: "stdout", "stderr", STEP; None for another."""
    kind = type(handler)
    if kind is stderr_handler():
        return STEP
    if kind is not logging.StreamHandler:
        return None
    stream = getattr(handler, "stream", None)
    for name in ("stderr", "stdout"):
        if stream is getattr(sys, name):
            return name
    return None


def log_formatter(handler: logging.Handler) -> logging.Formatter | None:
    """What formats the records of a handler in a step's log; None for their bare message."""
    own = handler.formatter
    if any(base.__module__ == "rich.logging" for base in type(handler).__mro__):
        return logging.Formatter(RICH, own.datefmt if own is not None else None)
    return own


def log_text(handler: logging.Handler, record: logging.LogRecord) -> str:
    """What a handler's record is in a step's log."""
    try:
        formatter = log_formatter(handler)
        text = handler.format(record) if formatter is None else formatter.format(record)
    except Exception:  # noqa: BLE001 - the user's formatter, or a message that misses its arguments
        return f"{record.levelname} {record.name} {record.msg!r} {record.args!r}\n"
    return f"{text}\n"


def pickled(value: object) -> bytes | None:
    """A formatter or a filter as any process can load it; None where that cannot be."""
    try:
        data = dumps(value)
        if b"__main__" not in data:
            return data
    except Exception:  # noqa: BLE001, S110 - the user's classes; the next may carry them
        pass
    buffer = io.BytesIO()
    try:
        cloud_pickler()(buffer).dump(value)
    except Exception:  # noqa: BLE001 - the user's classes
        return None
    return buffer.getvalue()


class _Capture:
    """Collects the handlers of loggers, each once."""

    def __init__(self) -> None:
        self.handlers: list[tuple[Any, ...]] = []
        self.files: list[str] = []  # that handlers write
        self._numbers: dict[int, int] = {}

    def logger(self, logger: logging.Logger) -> tuple[Any, ...]:
        """Level, propagate, disabled, filters, and the numbers of its handlers."""
        filters = [_filter_of(logger, found) for found in logger.filters]
        handlers = [self._number(handler) for handler in logger.handlers]
        switches = bool(logger.propagate), bool(logger.disabled)
        return int(logger.level), *switches, [data for data in filters if data], handlers

    def _number(self, handler: logging.Handler) -> int:
        number = self._numbers.get(id(handler))
        if number is None:
            number = self._numbers[id(handler)] = len(self.handlers)
            self.handlers.append(_handler(handler))
            if isinstance(handler, logging.FileHandler):
                self.files.append(handler.baseFilename)
        return number


def _handler(handler: logging.Handler) -> tuple[Any, ...]:
    """Place, key, level, formatter, filters, and whether all of these filters are there."""
    place = place_of(handler)
    formatter = log_formatter(handler)
    packed = None if formatter is None else pickled(formatter)
    filters = _filters_of(handler)
    if (formatter is not None and packed is None) or filters is None:
        place = None  # it formats and filters better where it is
    whole = filters is not None
    return place or FORWARDED, id(handler), int(handler.level), packed, filters or [], whole


def _filters_of(handler: logging.Handler) -> list[bytes] | None:
    """None where a filter has to be applied where the handler is."""
    own = type(handler).handle is not logging.Handler.handle
    data = [pickled(found) for found in handler.filters] if not own else [None]
    return None if None in data else data  # type: ignore[return-value]


def _filter_of(logger: logging.Logger, found: object) -> bytes | None:
    data = pickled(found)
    if data is None:
        warn_user(
            f"the filter {found!r} of logger {logger.name} cannot be pickled, so it does not hold "
            "in steps; give it to a handler, or let it keep nothing that cannot be pickled"
        )
    return data


def _configured() -> list[logging.Logger]:
    """The root, and each logger that is not as it was made."""
    found = [
        logger
        for logger in list(logging.root.manager.loggerDict.values())
        if isinstance(logger, logging.Logger)
        and (
            logger.level
            or logger.handlers
            or logger.filters
            or not logger.propagate
            or logger.disabled
        )
    ]
    return [logging.root, *found]


def _globals() -> dict[str, Any]:
    """What holds for all loggers, where it is not the default."""
    levels = logging._levelToName
    return {
        "disable": int(logging.root.manager.disable),
        "silent": logging.lastResort is None,
        "quiet": not logging.raiseExceptions,
        "captures": warnings.showwarning is logging._showwarning,  # type: ignore[attr-defined]
        "levels": list(levels.items()) if levels != LEVELS else None,
        "factory": _own("record factory", logging.getLogRecordFactory(), logging.LogRecord),
        "class": _own("logger class", logging.getLoggerClass(), logging.Logger),
    }


def _own(what: str, found: object, default: object) -> bytes | None:
    if found is default:
        return None
    data = pickled(found)
    if data is None:
        warn_user(
            f"the {what} {found!r} cannot be pickled, so it does not hold in steps; define it at "
            "the top level of a module"
        )
    return data

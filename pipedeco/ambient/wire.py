"""How a log record travels from a step to the program's own handlers.

A record is the payload of an event, so plain JSON, of which these parts are there as needed:

    to         which handlers are to have it
    record     its attributes of plain types
    args       its arguments, where they are plain
    pickled    whatever else there is, in base64, and `message`, which stands in where that fails
    text       what it adds to the step's log
"""

from __future__ import annotations

import base64
import logging
import pickle
from typing import Any

from pipedeco.picklers import loads
from pipedeco.serialization import pack_exception, unpack_exception

PLAIN = frozenset({str, int, float, bool, type(None)})
LARGE = 1 << 64  # an integer beyond that may have more digits than JSON's parser takes


def pack(record: logging.LogRecord) -> dict[str, Any]:
    """The attributes of a record, as a part of an event's payload."""
    plain: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for name, value in record.__dict__.items():
        (plain if _is_plain(value) else rest)[name] = value
    payload: dict[str, Any] = {"record": plain}
    if type(record.args) is tuple and all(map(_is_plain, record.args)):
        payload["args"] = rest.pop("args")
    raised = rest.pop("exc_info", None)
    if isinstance(raised, tuple) and raised[1] is not None:
        packed = pack_exception(raised[1])
        if packed is not None:
            rest["exc_info"] = packed
        elif not record.exc_text:
            plain["exc_text"] = logging.Formatter().formatException(raised)
    if rest:
        payload["pickled"] = base64.b64encode(_dump(record, rest)).decode()
        payload["message"] = _message(record)
    return payload


def _is_plain(value: object) -> bool:
    kind = type(value)
    return kind in PLAIN and (kind is not int or -LARGE < value < LARGE)  # type: ignore[operator]


def _message(record: logging.LogRecord) -> str:
    """The message; where its arguments do not fit, which its handlers tell, what it consists of."""
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - the user's objects
        return f"{record.msg!r} {record.args!r}"


def unpack(payload: dict[str, Any]) -> logging.LogRecord:
    """The record of a payload."""
    attributes = dict(payload["record"])
    attributes["args"] = tuple(payload.get("args", ()))
    if "pickled" in payload:
        try:
            attributes.update(loads(base64.b64decode(payload["pickled"])))
        except Exception:  # noqa: BLE001 - classes that this process has not: the message tells enough
            attributes.update(msg=payload["message"], args=None)
    if isinstance(attributes.get("exc_info"), bytes):
        error = unpack_exception(attributes["exc_info"])
        attributes["exc_info"] = type(error), error, error.__traceback__
    return logging.makeLogRecord(attributes)


def _dump(record: logging.LogRecord, rest: dict[str, Any]) -> bytes:
    """The pickle of what is not plain; what cannot be pickled goes as its text."""
    try:
        return pickle.dumps(rest)
    except Exception:  # noqa: BLE001 - the user's objects
        kept = {name: value for name, value in rest.items() if _is_picklable(value)}
    if {"msg", "args"}.intersection(rest).difference(kept):
        kept.update(msg=_message(record), args=None)
    kept.update({name: str(value) for name, value in rest.items() if name not in kept})
    return pickle.dumps(kept)


def _is_picklable(value: object) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001 - the user's objects
        return False
    return True

"""Text for people: durations, dates, previews of values, and names made harmless."""

from __future__ import annotations

import math
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

BARS = "▁▂▃▄▅▆▇█"
_LARGE = 10**30  # whole numbers beyond are told by their size
_NUMBERS = frozenset({type(None), bool, int, float, complex})
_BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    dict: ("{", "}"),
    set: ("{", "}"),
    frozenset: ("{", "}"),
}
_PREVIEW = 200  # characters
_ITEM = 40  # of these for something within something
_FEW = 4  # items of a container


def write_stderr(text: str) -> None:
    """Write what pipedeco itself has to say to stderr, where that can take it.

    It may be None (a daemon, pythonw), closed, full or a pipe that nobody reads: no run fails for it.
    """
    with suppress(Exception):  # it may be the user's object; there is nobody left to tell
        sys.stderr.write(text)
        sys.stderr.flush()


def plain_text(text: str, *, keep_lines: bool = False) -> str:
    """`text` without what could move a cursor, colour a terminal or hide in another direction.

    Control characters are shown as their escapes; line ends and tabs too, unless `keep_lines`.
    """
    if text.isprintable():
        return text
    kept = "\n\t" if keep_lines else ""
    return "".join(
        character
        if character.isprintable() or character in kept
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def breadth(text: str) -> float:
    """About how many average letters wide the text is."""
    if text.isascii():
        return float(len(text))
    from unicodedata import combining, east_asian_width

    return sum(1.8 if east_asian_width(c) in "WF" else 0.0 if combining(c) else 1.0 for c in text)


def shortened(text: str, room: float) -> str:
    """At most `room` letters of it: the beginning and the end, which tell `fit-118` from `fit-119`."""
    if breadth(text) <= room:
        return text
    head, tail = "", ""
    while breadth(head + text[len(head)]) <= room * 0.6:
        head += text[len(head)]
    while breadth(head + "…" + tail + text[-len(tail) - 1]) <= room:
        tail = text[-len(tail) - 1] + tail
    return f"{head}…{tail}"


def word(name: str) -> str:
    """A name as one word of a command line."""
    plain = name.replace("-", "").replace("_", "")
    return name if plain.isalnum() else "'" + name.replace("'", "'\\''") + "'"


def duration(seconds: float | None) -> str:
    """`340 ms`, `1.2 s`, `2 min 05 s`, `1 h 02 min`; `-` where it is not known."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds < 0.9995:
        return f"{max(0.0, seconds) * 1000:.3g} ms"
    if seconds < 99.95:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600:,} h {whole // 60 % 60:02} min"


def data_size(count: int) -> str:
    """`512 bytes`, `1.2 kB`, `34 MB`."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{count} bytes" if unit == "bytes" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def short_number(value: float) -> str:
    """Six digits of it, or a whole number as it is; `int of 1330 bits` where that is too long."""
    return preview(value) if isinstance(value, int) else f"{value:.6g}"


def sparkline(values: Sequence[float], cells: int = 24) -> str:
    """Numbers as a row of bars, each the mean of its share; blank where there is none to draw."""
    width = min(cells, len(values))
    means = [
        _mean(values[i * len(values) // width : (i + 1) * len(values) // width])
        for i in range(width)
    ]
    known = [mean for mean in means if mean is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    # Halves, for the distance between two numbers may be beyond any.
    room = high / 2 - low / 2
    return "".join(
        " " if mean is None else BARS[round((mean / 2 - low / 2) / room * 7) if room else 3]
        for mean in means
    )


def _mean(values: Sequence[float]) -> float | None:
    """Of those that are finite, as floats."""
    limit = sys.float_info.max
    finite = [float(value) for value in values if -limit <= value <= limit]
    return sum(value / len(finite) for value in finite) if finite else None


def when(seconds: float) -> str:
    """A time since the epoch as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def preview(value: Any) -> str:
    """At most 200 characters that tell a person what a value is; never raises, never slow.

    No code of the value's own is executed.
    """
    kind = type(value)
    if kind is str or kind is bytes:
        return _shown_text(value, _PREVIEW)
    if kind is bool or kind is float or value is None:
        return repr(value)
    return _shown(value, _PREVIEW, 2)


def _shown(value: Any, room: int, depth: int) -> str:
    kind = type(value)
    if kind in _NUMBERS:
        if kind is int and not -_LARGE < value < _LARGE:
            return f"int of {value.bit_length()} bits"
        return repr(value)[:room]
    if kind is str or kind is bytes:
        return _shown_text(value, room)
    if kind in _BRACKETS:
        return _shown_container(value, room, depth)
    return _shown_object(value, kind, room, depth)


def _shown_text(value: str | bytes, room: int) -> str:
    text = repr(value[:room])
    return text if len(text) <= room and len(value) <= room else f"{text[: room - 1]}…"


def _shown_container(value: Any, room: int, depth: int) -> str:
    from itertools import islice

    kind = type(value)
    if not value:
        return repr(value)
    if not depth:
        return kind.__name__
    if kind is dict:
        few = [
            f"{_shown_item(k, room, depth)}: {_shown_item(v, room, depth)}"
            for k, v in islice(value.items(), _FEW)
        ]
    else:
        few = [_shown_item(item, room, depth) for item in islice(value, _FEW)]
    more = f", ... ({len(value)})" if len(value) > _FEW else ""
    comma = "," if kind is tuple and len(value) == 1 else ""
    left, right = _BRACKETS[kind]
    return _closed(left + ", ".join(few) + more + comma, right, room)


def _shown_item(item: Any, room: int, depth: int) -> str:
    """Something within something: a little of it, more where it holds things itself."""
    holds = type(item) in _BRACKETS or hasattr(type(item), "_fields")
    return _shown(item, room // 2 if holds else _ITEM, depth - 1)


def _shown_object(value: Any, kind: type, room: int, depth: int) -> str:
    module = str(kind.__module__)  # may be set to None
    if module == "numpy" and getattr(value, "shape", None) == ():
        return repr(value.item())[:room]
    if module.startswith("pathlib"):
        return repr(str(value))[:room]
    if module in ("datetime", "decimal", "fractions", "uuid"):
        return str(value)[:room]
    enum = sys.modules.get("enum")
    if enum is not None and isinstance(value, enum.Enum):
        return f"{kind.__qualname__}.{value._name_}"[:room]
    fields = _fields(value, kind) if depth else None
    if fields is not None:
        few = [f"{name}={_shown_item(item, room, depth)}" for name, item in fields[:_FEW]]
        more = ", ..." if len(fields) > _FEW else ""
        return _closed(f"{kind.__name__}({', '.join(few)}{more}", ")", room)
    name = kind.__qualname__ if room == _PREVIEW else kind.__name__
    return f"{name}{_shape(value, kind)}"[:room]


def _fields(value: Any, kind: type) -> list[tuple[str, Any]] | None:
    """Names and values of a named tuple or a dataclass."""
    names = kind.__dict__.get("_fields")
    if isinstance(value, tuple) and isinstance(names, tuple):
        return list(zip(map(str, names), tuple.__iter__(value), strict=False))
    if "__dataclass_fields__" in kind.__dict__:
        own = getattr(value, "__dict__", {})
        return [(name, own[name]) for name in kind.__dict__["__dataclass_fields__"] if name in own]
    return None


def _shape(value: Any, kind: type) -> str:
    try:
        shape = kind.__dict__.get("shape") and getattr(value, "shape", None)
    except Exception:  # noqa: BLE001 - a property of the user's class
        return ""
    return str(shape) if isinstance(shape, tuple) else ""


def _closed(text: str, end: str, room: int) -> str:
    """`text` and its end within the room; a cut is told."""
    return text + end if len(text) + len(end) <= room else f"{text[: room - len(end) - 1]}…{end}"

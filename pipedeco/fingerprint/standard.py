"""Types of the standard library whose reduction is not canonical, or slow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipedeco.fingerprint.nodes import KEPT, Node
from pipedeco.fingerprint.unproven import Unproven

if TYPE_CHECKING:
    from collections.abc import Callable


def _path(value: Any) -> Node:
    return Node(b"4:path", (type(value).__name__, str(value)))


def _reduced_arguments(value: Any) -> Any:
    """Dates and times: their bytes and their zone; protocol 4 keeps the fold."""
    return value.__reduce_ex__(4)[1]


def _timedelta(value: Any) -> Any:
    return value.days, value.seconds, value.microseconds


def _zone(value: Any) -> Any:
    if value.key is None:
        raise Unproven("it was made from a file and has no key")
    return value.key


def _fraction(value: Any) -> Any:
    return value.numerator, value.denominator


def _uuid(value: Any) -> Any:
    return value.int, value.is_safe.name


def _pattern(value: Any) -> Any:
    return value.pattern, value.flags


def _array(value: Any) -> Any:
    return value.typecode, value.itemsize, memoryview(value).cast("B")


def _ordered_dict(value: Any) -> Node:
    flat = [part for pair in value.items() for part in pair]
    return Node(b"11:OrderedDict", (_Kept(flat, value), vars(value)))


class _Kept:
    """Keys and values in turn whose order counts, and the dictionary they are of."""

    __slots__ = ("flat", "value")

    def __init__(self, flat: list[Any], value: Any) -> None:
        self.flat = flat
        self.value = value


def _kept(value: _Kept) -> Node:
    return Node(b"7:ordered", value.flat, KEPT, lambda kept, index: by_key(kept.value, index))


def by_key(value: Any, index: int) -> str:
    """How a dictionary's key or value is reached; no user's `__repr__` is called for it."""
    from itertools import islice

    key = next(islice(iter(value), index // 2, None), None)
    plain = type(key) in (str, int, float, bool, bytes, type(None))
    name = repr(key)[:80] if plain else f"<key {index // 2}>"
    return f"[{name}]" if index % 2 else f".keys()[{index // 2}]"


def _local(value: Any) -> Node:
    """As a new thread finds it."""
    return Node(b"5:local", (type(value),))


def _weak_pairs(value: Any) -> Any:
    return dict(value)


def _forward_reference(value: Any) -> Any:
    return value.__forward_arg__, value.__forward_module__


def _type_variable(value: Any) -> Any:
    """Its name and what it allows: whose module it is decides nothing."""
    names = ("__bound__", "__constraints__", "__covariant__", "__contravariant__", "__default__")
    return value.__name__, [getattr(value, name, None) for name in names]


def _system_random(_value: Any) -> Any:
    return "the system's"  # it has no state of its own


def _identity(_value: Any) -> Any:
    raise Unproven("it is equal to nothing but itself")


_PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")

EXACT: dict[str, Callable[[Any], Any]] = {
    **{f"pathlib.{name}": _path for name in _PATHS},
    **{f"pathlib._local.{name}": _path for name in _PATHS},  # where Python 3.13 has them
    "datetime.datetime": _reduced_arguments,
    "datetime.date": _reduced_arguments,
    "datetime.time": _reduced_arguments,
    "datetime.timedelta": _timedelta,
    "zoneinfo.ZoneInfo": _zone,
    "decimal.Decimal": str,
    "fractions.Fraction": _fraction,
    "uuid.UUID": _uuid,
    "re.Pattern": _pattern,
    "array.array": _array,
    "collections.OrderedDict": _ordered_dict,
    "random.SystemRandom": _system_random,
    "typing.ForwardRef": _forward_reference,
    **dict.fromkeys(("typing.TypeVar", "typing.ParamSpec", "typing.TypeVarTuple"), _type_variable),
    "builtins.object": _identity,
    f"{_Kept.__module__}._Kept": _kept,
}

# What they are is outside of the process, or another thread's; some could be reduced all the same.
_ELSEWHERE: dict[str, Callable[[Any], Any]] = dict.fromkeys(
    (
        "threading.Thread",
        "multiprocessing.process.BaseProcess",
        "multiprocess.process.BaseProcess",
        "multiprocessing.shared_memory.SharedMemory",
        "multiprocessing.managers.BaseProxy",
        "subprocess.Popen",
        "socket.socket",
        "weakref.ReferenceType",
        "concurrent.futures._base.Future",
        "concurrent.futures._base.Executor",
        "asyncio.events.AbstractEventLoop",
        "tempfile._TemporaryFileWrapper",
        "tempfile.TemporaryDirectory",
    ),
    _identity,
)

BASES: dict[str, Callable[[Any], Any]] = {
    **_ELSEWHERE,
    "_thread._local": _local,
    "weakref.WeakKeyDictionary": _weak_pairs,
    "weakref.WeakValueDictionary": _weak_pairs,
    "_weakrefset.WeakSet": set,
}

"""Exceptions that stand for those that cannot travel, so that `except` takes them all the same.

Many libraries raise exceptions that pickle cannot make again: their constructors take what is not in
`args`, they hold connections, their classes are made while the program runs.  What arrives in place
of such a one is of a class that derives from StepFailed and from the nearest class of the original
that can be imported there.  It has the text of the original, its notes, causes and traceback, and
those of its arguments and attributes that travel, each by itself.
"""

from __future__ import annotations

import io
import pickle
import sys
from functools import lru_cache
from types import BuiltinFunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.errors import StepFailed
from pipedeco.picklers import PROTOCOL, cloud_pickler_to, is_named, loads
from pipedeco.tracebacks import RaisedPickler, reduce_raised

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST = 64 * 1024  # bytes of one argument or attribute
LONGEST = 10_000  # characters of a text
DEEPEST = 16  # causes of causes, and exceptions within exceptions
OF_EVERY = frozenset(vars(BaseException)) | {"__notes__"}
CAUSE, TRACEBACK, CONTEXT = 2, 3, 4  # among what an exception is made of by tblib


class Origin(NamedTuple):
    """What a stand-in stands for."""

    module: str
    qualname: str
    classes: tuple[
        tuple[str, str], ...
    ]  # modules and names of those it derives from, nearest first


class Parts(NamedTuple):
    """An exception taken apart: of what can fail to be loaded each part is a pickle of its own."""

    origin: Origin
    text: str
    args: tuple[bytes | str, ...]  # a text for what cannot travel
    own: dict[str, bytes]  # its `__dict__`
    slots: dict[str, bytes]  # what it has besides
    lost: tuple[str, ...]  # names of attributes that cannot travel
    notes: tuple[str, ...] = ()
    traceback: bytes | None = None
    cause: bytes | None = None
    context: bytes | None = None
    suppresses: bool = False


# -- taking apart


def pack_in_parts(error: BaseException) -> bytes | None:
    """A pickle of the exception itself where only its causes keep it from travelling, else of what
    stands for it; None where even that is too large."""
    try:
        data = _Taking().apart(error)
        loads(data)
    except Exception:  # noqa: BLE001 - users' exceptions may do anything here
        return None
    return data if len(data) <= 16 * LARGEST else None


class _Taking:
    """Takes exceptions apart, with their causes and what they hold."""

    def __init__(self) -> None:
        self._busy: list[BaseException] = []

    def apart(self, error: BaseException) -> bytes:
        if len(self._busy) >= DEEPEST or any(error is other for other in self._busy):
            raise pickle.PicklingError("exceptions within each other, too deep to be carried")
        self._busy.append(error)
        try:
            return pickle.dumps(self._reduced(error), PROTOCOL)
        finally:
            self._busy.pop()

    def _reduced(self, error: BaseException) -> _Made:
        cause = self._packed(error.__cause__)
        same = error.__context__ is error.__cause__
        context = cause if same else self._packed(error.__context__)
        traceback = _dumped_traceback(error)
        make, parts, *state = _alone(error) or (None, ())
        if make is not None:
            whole = list(parts)
            whole[TRACEBACK] = _made(traceback)
            whole[CAUSE] = _made(cause)
            whole[CONTEXT] = whole[CAUSE] if same else _made(context)  # one object
            return _Made(make, tuple(whole), *state)
        known = self._parts(error)._replace(
            traceback=traceback,
            cause=cause,
            context=context,
            suppresses=error.__suppress_context__,
        )
        return _Made(stand_in, (tuple(known),))

    def _packed(self, error: BaseException | None) -> bytes | None:
        try:
            return None if error is None else self.apart(error)
        except Exception:  # noqa: BLE001 - as above; the exception goes without this one
            return None

    def _parts(self, error: BaseException) -> Parts:
        found: tuple[dict[str, bytes], dict[str, bytes]] = {}, {}
        lost = []
        for place, name, value in _attributes(error):
            data = self._carried(value)
            if data is None:
                lost.append(name)
            else:
                found[place][name] = data
        args = tuple(self._carried(arg) or _text(repr, arg) for arg in error.args)
        notes = tuple(map(str, getattr(error, "__notes__", ())))
        return Parts(_origin(error), _text(str, error), args, *found, tuple(lost), notes)

    def _carried(self, value: object) -> bytes | None:
        """A pickle that has been read back; None where there is none."""
        try:
            data = self._dumped(value)
            loads(data)
        except Exception:  # noqa: BLE001 - as above
            return None
        return data if len(data) <= LARGEST else None

    def _dumped(self, value: object) -> bytes:
        buffer = io.BytesIO()
        cloud_pickler_to(buffer, {}, None, self._reduce_within).dump(value)
        return buffer.getvalue()

    def _reduce_within(self, obj: Any) -> Any:
        if isinstance(obj, BaseException):
            return pickle.loads, (self.apart(obj),)
        return reduce_raised(obj)


class _Made:
    """Pickles as what a function makes of arguments, and perhaps a state."""

    def __init__(self, *reduction: Any) -> None:
        self._reduction = reduction

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduction


def _made(data: bytes | None) -> _Made | None:
    return None if data is None else _Made(pickle.loads, (data,))


def _alone(error: BaseException) -> tuple[Any, ...] | None:
    """What makes the exception again, without its causes; None where that gives another."""
    try:
        make, parts, *state = reduce_raised(error)
        alone = list(parts)
        alone[CAUSE] = alone[TRACEBACK] = alone[CONTEXT] = None
        buffer = io.BytesIO()
        RaisedPickler(buffer, PROTOCOL).dump(_Made(make, tuple(alone), *state))
        back = loads(buffer.getvalue())
        same = type(back) is type(error) and str(back) == str(error)
    except Exception:  # noqa: BLE001 - as above
        return None
    return (make, alone, *state) if same and len(buffer.getvalue()) <= LARGEST else None


def _dumped_traceback(error: BaseException) -> bytes:
    buffer = io.BytesIO()
    RaisedPickler(buffer, PROTOCOL).dump(error.__traceback__)
    return buffer.getvalue()


def _origin(error: BaseException) -> Origin:
    kind = type(error)
    if issubclass(kind, StandIn):
        return kind.origin
    named = [cls for cls in kind.__mro__ if issubclass(cls, Exception) and is_named(cls)]
    classes = tuple((cls.__module__, cls.__qualname__) for cls in named)
    return Origin(str(kind.__module__), kind.__qualname__, classes)


def _attributes(error: BaseException) -> Iterator[tuple[int, str, Any]]:
    """What its `__dict__` keeps (place 0), and what its slots and Python's own exceptions do (1)."""
    for name, value in vars(error).items():
        if name not in OF_EVERY and name != STATE:
            yield 0, name, value
    for cls in type(error).__mro__:
        for name, kept in vars(cls).items():
            slot = isinstance(kept, MemberDescriptorType | GetSetDescriptorType)
            if slot and name not in OF_EVERY and not name.startswith("__"):
                try:
                    yield 1, name, getattr(error, name)
                except Exception:  # noqa: BLE001, S112 - an empty slot
                    continue


def _text(show: Any, value: Any) -> str:
    try:
        text = show(value)[:LONGEST]
    except Exception as broken:  # noqa: BLE001 - the user's method
        return f"<its __{show.__name__}__ raised {type(broken).__name__}>"
    return str(text.encode("utf-8", "backslashreplace").decode())


# -- making again

STATE = "_pipedeco"


class StandIn(StepFailed):
    """Base of the classes that are made here."""

    origin: Origin

    @property
    def _known(self) -> tuple[str, tuple[str, ...]]:
        """The text, and the names of attributes that did not travel."""
        known: tuple[str, tuple[str, ...]] = self.__dict__.get(STATE, ("", ()))
        return known


def _str(self: StandIn) -> str:
    return self._known[0]


def _getattr(self: StandIn, name: str) -> Any:
    kind = type(self).__name__
    if name in self._known[1]:
        raise AttributeError(f"{name!r} of this {kind} could not travel from its step's process")
    raise AttributeError(f"{kind!r} object has no attribute {name!r}")


def _reduce(self: StandIn, _: Any = None) -> tuple[Any, ...]:
    text, lost = self._known
    parts = _Taking()._parts(self)
    return stand_in, (tuple(parts._replace(text=text, lost=(*lost, *parts.lost))),)


METHODS = {
    "__str__": _str,
    "__repr__": BaseException.__repr__,
    "__getattr__": _getattr,
    "__reduce__": _reduce,
    "__reduce_ex__": _reduce,
}


def stand_in(known: tuple[Any, ...]) -> BaseException:
    """What stands for an exception that was taken apart."""
    parts = Parts(*known)
    origin = Origin(*parts.origin)
    kind = _class_of(origin)
    args = tuple(_loaded(arg) if isinstance(arg, bytes) else arg for arg in parts.args)
    error = _new(kind, args)
    put = object.__setattr__  # the original's class may forbid it
    put(error, "args", args)
    state = error.__dict__
    state[STATE] = parts.text, parts.lost
    state.update(_facts(kind, parts))
    state.update((name, _loaded(data)) for name, data in parts.own.items())
    for name, data in parts.slots.items():
        try:
            put(error, name, _loaded(data))
        except (AttributeError, TypeError):  # read only: made of the arguments
            continue
    if parts.notes:
        put(error, "__notes__", list(parts.notes))
    put(error, "__traceback__", _loaded(parts.traceback))
    put(error, "__cause__", _loaded(parts.cause))
    same = parts.context == parts.cause
    put(error, "__context__", error.__cause__ if same else _loaded(parts.context))
    put(error, "__suppress_context__", parts.suppresses)
    return error


def _facts(kind: type[StandIn], parts: Parts) -> dict[str, Any]:
    """What a StepFailed has, where the original's class has not the same name for its own."""
    base = kind.__mro__[1]
    own = issubclass(base, StepFailed) or getattr(base, "type", None) is None
    name = parts.origin.qualname
    module = parts.origin.module
    return {"type": name if module == "builtins" else f"{module}.{name}"} if own else {}


def _loaded(data: bytes | None) -> Any:
    """A part; its text where its class cannot be loaded here."""
    try:
        return None if data is None else loads(data)
    except Exception:  # noqa: BLE001 - users' classes, or their absence here
        return None


@lru_cache(maxsize=256)
def _class_of(origin: Origin) -> type[StandIn]:
    """The class of stand-ins, one for all of the same origin: handlers compare types."""
    for module, name in (*origin.classes, (StandIn.__module__, StandIn.__qualname__)):
        base = _imported(module, name)
        if base is None:
            continue
        try:
            return _derived(origin, base)
        except Exception:  # noqa: BLE001, S112 - a class that takes no other below it
            continue
    raise AssertionError("StandIn itself can always be derived from")


def _derived(origin: Origin, base: type[Exception]) -> type[StandIn]:
    bases = (StandIn,) if issubclass(StandIn, base) or base is StandIn else (base, StandIn)
    namespace = {**METHODS, "origin": origin, "__module__": origin.module}
    made: type[StandIn] = type(origin.qualname.rpartition(".")[2], bases, namespace)
    made.__qualname__ = origin.qualname
    return made


def _imported(module: str, name: str) -> type[Exception] | None:
    try:
        __import__(module)
    except Exception:  # noqa: BLE001 - the user's module; the next class may be elsewhere
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, Exception) else None


def _new(kind: type[StandIn], args: tuple[Any, ...]) -> StandIn:
    """An object of the class, made by Python's own `__new__`: no code of the user's."""
    for cls in kind.__mro__:
        new = vars(cls).get("__new__")
        if isinstance(new, BuiltinFunctionType):
            made: StandIn = new(kind, *args)
            return made
    raise AssertionError("BaseException has one")

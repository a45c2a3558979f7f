"""Whether a value still has the content that it had when it was pickled.

Another pickle is not yet a change: reading a value may make it remember what it has computed.  Equal
fingerprints prove that nothing has changed.  Where they differ, or there are none, the former value is
held against the present one part by part, as both come out of a pickle (memoized.py says what of an
object's attributes is memory).  What already differs between two loads of one pickle tells nothing.
"""

from __future__ import annotations

import pickle
from collections import deque
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from pipedeco.fingerprint.figures import figure_content, without_pyplot
from pipedeco.fingerprint.memoized import Memoized
from pipedeco.fingerprint.registry import BUILT_IN
from pipedeco.fingerprint.values import value_digest
from pipedeco.picklers import PROTOCOL, loads

if TYPE_CHECKING:
    from collections.abc import Iterator

    Place = tuple[Any, ...]  # the way to a part

_CODE = (type, FunctionType, BuiltinFunctionType, MethodType, ModuleType)
_SEQUENCES = (list, tuple, deque)
_SETS = (set, frozenset)
_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray})
_MOST = 200_000  # parts that are compared; a reduction that makes new objects has no end
_ABSENT: Any = type("Absent", (), {})()


def same_content(before: bytes, value: Any) -> bool:
    """Whether a value has the content of what was pickled; not where it can be pickled no more."""
    return not list(changed_parts(before, [value], whole=True))


def changed_parts(before: bytes, parts: list[Any], *, whole: bool = False) -> Iterator[Any]:
    """Those parts that have another content than when they were pickled.

    Parameters
    ----------
    before: the pickle of the list of all of them; with `whole`, of the only one.
    """
    try:
        with without_pyplot():
            former, again = loads(before), loads(before)
            now = loads(pickle.dumps(parts[0] if whole else parts, PROTOCOL))
    except Exception:  # noqa: BLE001 - users' reducers; a lock may have been put in
        yield from parts
        return
    if whole:
        former, again, now = [former], [again], [now]
    for number, part in enumerate(parts):
        if _differ(former[number], again[number], now[number]):
            yield part


def _differ(former: Any, again: Any, now: Any) -> bool:
    if _same_digest(former, now):
        return False
    found = _Comparison(former, now).differences()
    return bool(found) and bool(found - _Comparison(former, again).differences())


def _same_digest(a: Any, b: Any) -> bool:
    try:
        return value_digest(a) == value_digest(b)
    except Exception:  # noqa: BLE001 - users' reducers, and Unproven: they are compared by parts
        return False


class _Comparison:
    """Two values, and where they differ."""

    def __init__(self, a: Any, b: Any) -> None:
        self._waiting: list[tuple[Place, Any, Any]] = [((), a, b)]
        self._seen: set[tuple[int, int]] = set()
        self._kept: list[Any] = []  # what was made, so that no id is used twice
        self._memoized = Memoized()
        self._found: set[Place] = set()

    def differences(self) -> set[Place]:
        while self._waiting:
            if len(self._seen) > _MOST:
                break
            place, a, b = self._waiting.pop()
            if type(a) in _ATOMS or type(b) in _ATOMS:
                if not _same_atoms(a, b):
                    self._found.add(place)
            elif a is not b and (id(a), id(b)) not in self._seen:
                self._seen.add((id(a), id(b)))
                self._kept += (a, b)
                if not self._compare(place, a, b):
                    self._found.add(place)
        return self._found

    def _compare(self, place: Place, a: Any, b: Any) -> bool:
        """Whether two parts are the same but for their own parts, which then wait."""
        if type(a) is not type(b):
            return False
        if isinstance(a, _CODE):
            return True
        if type(a) is dict:
            return self._by_keys(place, a, b)
        if type(a) in _SEQUENCES:
            return self._by_position(place, a, b)
        known = _known_content(a, b)
        if known is not None:
            return known
        return self._by_state(place, a, b)

    def _by_keys(self, place: Place, a: Any, b: Any) -> bool:
        if a.keys() != b.keys():
            return len(a) == len(b) and self._by_position(place, list(a.items()), list(b.items()))
        self._waiting += [((*place, repr(key)), a[key], b[key]) for key in a]
        return True

    def _by_position(self, place: Place, a: Any, b: Any) -> bool:
        pairs = enumerate(zip(a, b, strict=False))
        self._waiting += [((*place, number), one, other) for number, (one, other) in pairs]
        return len(a) == len(b)

    def _by_state(self, place: Place, a: Any, b: Any) -> bool:
        """Objects, by what their pickles are made of."""
        try:
            one, other = _parts_of(a), _parts_of(b)
        except Exception:  # noqa: BLE001 - users' reducers; nothing is claimed then
            return True
        if type(one) is str or type(other) is str:
            return bool(one == other)
        self._kept += (one, other)
        same = True
        for name, (x, y) in enumerate(zip(one, other, strict=True)):
            states = [part for part in (x, y) if part is not None]
            if name == 1 and states and all(type(part) is dict for part in states):
                same = self._by_attributes((*place, name), a, x or {}, y or {}) and same
            else:
                self._waiting.append(((*place, name), x, y))
        return same

    def _by_attributes(self, place: Place, owner: Any, a: Any, b: Any) -> bool:
        same = True
        for name in a.keys() | b.keys():
            former, now = a.get(name, _ABSENT), b.get(name, _ABSENT)
            fresh = former is _ABSENT or former is None
            if self._memoized.holds(type(owner), str(name), fresh=fresh):
                continue
            if former is _ABSENT or now is _ABSENT:
                same = False
            else:
                self._waiting.append(((*place, name), former, now))
        return same


def _same_atoms(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    return bool(a == b) or bool(a != a and b != b)  # noqa: PLR0124 - not a number


def _known_content(a: Any, b: Any) -> bool | None:
    """Whether two values are the same, where that is known of the whole; None where it is not."""
    kind = type(a)
    content = figure_content(a)
    if content is not None:
        return content == figure_content(b)
    if kind in _SETS or (BUILT_IN.find(kind) and not _holds_objects(a)):
        try:
            return value_digest(a) == value_digest(b)
        except Exception:  # noqa: BLE001 - users' reducers, and Unproven: they may hold objects
            return None
    return None


def _holds_objects(item: Any) -> bool:
    """Whether it is an array of objects, which may be such as remember."""
    return bool(getattr(getattr(item, "dtype", None), "hasobject", False))


def _parts_of(item: Any) -> Any:
    """Arguments, attributes, slots, items and pairs of an object; a text where it goes by name."""
    reduced = item.__reduce_ex__(PROTOCOL)
    if type(reduced) is str:
        return reduced
    _, args, state, items, pairs = (*reduced, None, None, None)[:5]
    slots = None
    if type(state) is tuple and len(state) == 2 and type(state[1]) is dict:
        state, slots = state
    attributes = state if slots is None else {**(state or {}), **slots}
    return (
        args,
        attributes,
        None if items is None else list(items),
        None if pairs is None else dict(pairs),
    )

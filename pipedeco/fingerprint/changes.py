"""Whether a value still has the content that it had when it was pickled.

Another pickle is not yet a change: reading a value may make it remember what it has computed, such as
a frame the unit of its dates, and an object its cached properties.
"""

from __future__ import annotations

import io
import pickle
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipedeco.fingerprint.values import value_digest
from pipedeco.picklers import PROTOCOL
from pipedeco.serialization import loads

if TYPE_CHECKING:
    from collections.abc import Set


def same_content(before: bytes, value: Any) -> bool:
    """Whether a value has the content of what was pickled; not where that cannot be proven."""
    try:
        former = _without_remembered(loads(before))
        return value_digest(former) == value_digest(_without_remembered(value))
    except Exception:  # noqa: BLE001 - users' reducers, and Unproven: it counts as changed
        return False


def _without_remembered(value: Any) -> Any:
    """A copy in which no object has the values of its cached properties."""
    file = io.BytesIO()
    _Forgetful(file, PROTOCOL).dump(value)
    return loads(file.getbuffer())


class _Forgetful(pickle.Pickler):
    """Leaves out what cached properties have put into their objects."""

    def reducer_override(self, obj: Any) -> Any:
        names = _cached_properties(type(obj))
        if not names:
            return NotImplemented
        reduced = obj.__reduce_ex__(PROTOCOL)
        if type(reduced) is not tuple or len(reduced) < 3 or type(reduced[2]) is not dict:
            return reduced
        state = {name: part for name, part in reduced[2].items() if name not in names}
        return (*reduced[:2], state, *reduced[3:])


def _cached_properties(kind: type) -> Set[str]:
    found = [base.__dict__.items() for base in kind.__mro__]
    return {name for items in found for name, part in items if isinstance(part, cached_property)}

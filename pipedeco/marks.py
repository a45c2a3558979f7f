"""By what a change of a result in place is seen: the body reads a value, changes it, and passes it on.

A small value keeps its pickle.  Of a large one a digest is kept, and it is pickled again only where
the body has read the result since: what it passes on unread cannot be another.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from pipedeco.picklers import PROTOCOL
from pipedeco.serialization import INLINE_LIMIT, pickle_mark

if TYPE_CHECKING:
    from collections.abc import Callable

_LARGEST = 16 * 1024 * 1024
# Each look pickles the value: a loop that reads it and calls a step must not take seconds for that,
# and who changes it in a loop does so in the first rounds.
_LOOKS = 50


class LargeMark:
    """The content that a large value had.

    Attributes
    ----------
    read : whether the body has read the result since it was looked at.
    """

    __slots__ = ("_digest", "_looks", "read")

    def __init__(self, data: bytes) -> None:
        self._digest = _digest(data)
        self._looks = 0
        self.read = False

    def tells(self, value: Any, recorded: Callable[[], Any]) -> bool:
        """Whether the value has changed; what it only remembers of its reading is no change.

        Parameters
        ----------
        recorded: gives the value as it was.
        """
        if self._looks == _LOOKS:
            return False
        self._looks += 1
        data = pickle_mark(value, _LARGEST)
        if data is not None and _digest(data) == self._digest:
            return False
        from pipedeco.fingerprint.changes import same_content

        if not same_content(pickle.dumps(recorded(), PROTOCOL), value):
            return True
        if data is not None:
            self._digest = _digest(data)
        return False


def mark_of(value: Any) -> bytes | LargeMark | None:
    """The mark of a value; None where it cannot change, is too large or cannot be pickled."""
    data = pickle_mark(value, _LARGEST)
    return data if data is None or len(data) <= INLINE_LIMIT else LargeMark(data)


def _digest(data: bytes) -> bytes:
    from blake3 import blake3

    return blake3(data).digest()

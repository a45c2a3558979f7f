"""Room below Python's recursion limit for what pipedeco does itself.

In debug mode child runs are executed on the stack of their parent's body, so frames of pipedeco lie
between those of the user, and a run that ends near the limit needs some to record that.  Where a
program comes near the limit, it is raised for as long as it takes, so that frames of the user alone
count, as without decorators.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

ROOM = 300  # frames; recording a run takes some 60, its first imports some 100
MOST = 2500  # by which the limit is raised at most: C's own stack has an end, too


class RecursionRoom:
    """Python's stack, whose limit this process shares among its threads.

    Entered by what needs room.  Raises RecursionError where there is none: nothing has begun then.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._former: list[int] = []  # the limits that those found who have room
        self._set = 0  # the limit as we have set it last

    def __enter__(self) -> None:
        limit = sys.getrecursionlimit()
        wanted = _depth(limit) + ROOM
        with self._lock:
            if wanted > limit:
                if wanted > (self._former[0] if self._former else limit) + MOST:
                    raise RecursionError("maximum recursion depth exceeded in a call of a pipeline")
                sys.setrecursionlimit(wanted)
                self._set = wanted
            self._former.append(limit)

    def __exit__(
        self, kind: object, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            former = self._former.pop()
            if sys.getrecursionlimit() == self._set != former:  # else the program has set another
                sys.setrecursionlimit(former)
                self._set = former


def _depth(limit: int) -> int:
    """About how deep the stack is, in what Python counts: frames, and some calls of C; 0 where it
    is far from the limit."""
    try:
        frame = sys._getframe(max(0, (limit - ROOM) * 8 // 9))
    except ValueError:  # not so deep
        return 0
    count = 0
    found = sys._getframe()
    while found.f_back is not None:
        found = found.f_back
        count += 1
    del frame, found
    return count + count // 8

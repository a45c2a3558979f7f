"""Forks of a process that handles SIGTERM: the child ends by it, as if there were no handler.

Python forgets, in a child, the signals that came before its hooks ran; and a handler of ours has
nothing to do there.  So SIGTERM waits while a process forks, until the child has its own disposition.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

_forks = threading.local()


def when_forked(in_child: Callable[[], None]) -> None:
    """Call `in_child` in every child of this process, before a SIGTERM reaches it."""

    def end() -> None:
        in_child()
        _release()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=end)


def _hold() -> None:
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    _forks.__dict__.setdefault("masks", []).append(former)


def _release() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _forks.masks.pop())

"""Forks of a process that handles SIGTERM: the child ends by it, as if there were no handler.

Python forgets, in a child, the signals that came before its hooks ran; and a handler of ours has
nothing to do there.  So SIGTERM waits while a process forks, until the child has its own disposition.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any


def when_forked(
    in_child: Callable[[], None],
    before: Callable[[], Any] = lambda: None,
    after: Callable[[Any], None] = lambda _: None,
) -> None:
    """Call `in_child` in every child that this process forks, before a SIGTERM reaches it.

    Parameters
    ----------
    before, after: called in this process, by the thread that forks; `after` gets what `before`
        has returned.
    """
    held = threading.local()

    def hold() -> None:
        held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        held.kept = before()

    def release() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, held.mask)

    def go_on() -> None:
        after(held.kept)
        release()

    def begin() -> None:
        in_child()
        release()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=hold, after_in_parent=go_on, after_in_child=begin)

"""Where users' callbacks are called: in a thread of the run's own, or in place.

Both call one thing after another, in the order in which they were given.
"""

from __future__ import annotations

import threading
from contextvars import copy_context
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from queue import SimpleQueue


class InPlace:
    """At once, in the caller's thread: breakpoints work, and Ctrl-C reaches what is called."""

    in_place = True

    def __init__(self) -> None:
        self._inside: list[int] = []  # threads that are in a call

    def put(self, job: Callable[[], None]) -> None:
        self._inside.append(threading.get_ident())
        try:
            job()
        finally:
            self._inside.pop()

    @property
    def here(self) -> bool:
        return threading.get_ident() in self._inside

    def renew(self) -> None:
        pass

    def close(self) -> None:
        pass


class Aside:
    """In a thread that is started with the first call, so that a slow one stalls nobody else.

    Parameters
    ----------
    name: of the thread.
    """

    in_place = False

    def __init__(self, name: str) -> None:
        self._name = name
        self._context = copy_context()  # callbacks see the variables of who starts the run
        self._jobs: SimpleQueue[Callable[[], None] | None] | None = None
        self._thread: threading.Thread | None = None

    def put(self, job: Callable[[], None]) -> None:
        if self._jobs is None:
            self._start()
        assert self._jobs is not None
        self._jobs.put(job)

    @property
    def here(self) -> bool:
        return threading.current_thread() is self._thread

    def renew(self) -> None:
        """Leave the call under way to itself, forget those behind it; what comes goes elsewhere."""
        self.close()

    def close(self) -> None:
        if self._jobs is not None:
            self._jobs.put(None)
            self._jobs = None

    def _start(self) -> None:
        from queue import SimpleQueue

        self._jobs = SimpleQueue()
        work = self._context.copy().run
        # A daemon: a callback that never returns must not keep the process from ending.
        self._thread = threading.Thread(
            target=work, args=(_work, self._jobs), name=self._name, daemon=True
        )
        self._thread.start()


def _work(jobs: SimpleQueue[Callable[[], None] | None]) -> None:
    while True:
        job = jobs.get()
        if job is None:
            return
        job()

"""What steps of debug mode have started: it ends with this process, as that of workers does."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TYPE_CHECKING

from pipedeco.tracing import warn_user
from pipedeco.worker.children import QUICKEST, began_since, has_children, listed_children

if TYPE_CHECKING:
    from pipedeco.worker.attendant import Attendant


class Offspring:
    """The processes that the steps of this process have started.

    An attendant kills them after our end, however that comes.  It is started with the first of them.
    """

    def __init__(self) -> None:
        self._told: set[int] = set()
        self._listed: bytes | None = None  # children at the last look
        self._attendant: Attendant | None = None
        self._process = os.getpid()
        self._warned = False
        self._looking = threading.Lock()

    def look(self, began: int) -> None:
        """Have what a step has started attended; any thread may call it.

        Parameters
        ----------
        began : int
            When the step did, in nanoseconds of the monotonic clock.
        """
        if time.monotonic_ns() - began < QUICKEST or not has_children():
            return
        if not self._looking.acquire(blocking=False):
            return
        try:
            listed = listed_children()
            if listed is not None and listed == self._listed:  # a pool of the program's, say
                return
            self._listed = listed
            new = set(began_since(began)) - self._told
            if new:
                self._told |= new
                self._attend(new)
        finally:
            self._looking.release()

    def _attend(self, pids: set[int]) -> None:
        from pipedeco.worker.attendant import Attendant

        if self._attendant is not None and self._process == os.getpid():  # a fork has its own
            self._attendant.tell(*pids)
            return
        try:
            self._attendant, self._process = Attendant(*pids), os.getpid()
        except (OSError, ValueError) as error:  # a Python that is embedded has no program
            if not self._warned:
                self._warned = True
                warn_user(
                    f"processes that steps start may outlive this one: {sys.executable!r}, which "
                    f"would watch them, cannot be started ({error})"
                )

"""Sees what a step imports, and which event files it opens once it has imported who writes them.

An audit hook is called for each `id()`, which makes `copy.deepcopy` slower by two thirds; so it is
added only in a process that has a writer of event files.  To see imports costs 0.1 microseconds for
each new module.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from pipedeco.autolog.present import PRESENT

if TYPE_CHECKING:
    from pipedeco.autolog.backend import Backend

WRITERS = ("tensorboardX", "tensorboard")  # torch.utils.tensorboard imports the latter
MARK = "tfevents"


class Watch:
    """A finder of modules that finds none, and the one audit hook of a process."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._lock = threading.RLock()
        self._hooked = False
        self.started = False

    def start(self) -> None:
        """From now on; a writer of event files may be there already."""
        with self._lock:
            if not self.started:
                self.started = True
                sys.meta_path.insert(0, self)
                if any(name in sys.modules for name in WRITERS):
                    self._hook()

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> None:
        """See that a module is about to be imported, and let others find it."""
        if name == "matplotlib.pyplot":
            PRESENT.wake()
            if not PRESENT.live:
                return
            try:
                self._backend.put()
            except Exception as error:  # noqa: BLE001 - the user's import never fails for our sake
                PRESENT.live[-1].failed("what matplotlib shows", error)
        elif name in WRITERS:
            PRESENT.wake()
            self._hook()

    def _hook(self) -> None:
        with self._lock:
            if self._hooked:
                return
            # What the hook needs is imported before it, as an import opens files.
            import pipedeco.autolog.tensorboard  # noqa: F401

            self._hooked = True
            live, opened = PRESENT.live, self._opened

            def hook(event: str, arguments: tuple[Any, ...]) -> None:
                if event == "open" and live:
                    opened(arguments)

            sys.addaudithook(hook)

    def _opened(self, arguments: tuple[Any, ...]) -> None:
        """A file is about to be opened."""
        path, _, flags = arguments
        if not flags & (os.O_WRONLY | os.O_RDWR) or not isinstance(path, str | bytes):
            return
        name = os.fsdecode(path)
        if MARK not in name:
            return
        session = PRESENT.find()
        if session is None:
            return
        try:
            from pipedeco.autolog.tensorboard import EventFiles

            with self._lock:
                if session.files is None:
                    session.files = EventFiles(session)
                session.files.add(name, append=bool(flags & os.O_APPEND))
        except Exception as error:  # noqa: BLE001 - the user's open() never fails for our sake
            session.failed(f"the event file {name}", error)

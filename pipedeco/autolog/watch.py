"""Sees what a step imports, and which event files the writers open that it has imported.

A finder of modules that finds none sees imports; it costs 0.1 microseconds for each new module.  The
writers' own classes are made to tell of their files once they are imported.  (An audit hook would
see every file without touching them, and make `id()`, debuggers and coverage several times slower
for the rest of the process's life.)
"""

from __future__ import annotations

import sys
import threading
from functools import wraps
from typing import TYPE_CHECKING, Any

from pipedeco.autolog.present import PRESENT
from pipedeco.finders import spec_calling

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

    from pipedeco.autolog.backend import Backend

# Which class of which module opens event files; torch.utils.tensorboard takes the latter.
WRITERS = {
    "tensorboardX.event_file_writer": "EventsWriter",
    "tensorboard.summary.writer.event_file_writer": "EventFileWriter",
}


class Watch:
    """Looks at the imports of a process, first among the finders of modules."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._lock = threading.RLock()
        self.started = False

    def start(self) -> None:
        """From now on; a writer of event files may be there already."""
        with self._lock:
            if not self.started:
                self.started = True
                sys.meta_path.insert(0, self)
                for name in WRITERS:
                    if name in sys.modules:
                        self._tell(sys.modules[name])

    def find_spec(self, name: str, path: Any = None, _target: Any = None) -> ModuleSpec | None:
        """See that a module is about to be imported, and let others find it."""
        if name == "matplotlib.pyplot":
            PRESENT.wake()
            if PRESENT.live:
                try:
                    self._backend.put()
                except Exception as error:  # noqa: BLE001 - the user's import never fails for our sake
                    PRESENT.live[-1].failed("what matplotlib shows", error)
        elif name in WRITERS:
            return spec_calling(name, path, self._tell)
        return None

    def _tell(self, module: Any) -> None:
        """Have a module's writers tell which files they open."""
        kind = getattr(module, WRITERS[module.__name__], None)
        if kind is None:  # another version of it
            return
        make = kind.__init__

        @wraps(make)
        def make_and_tell(writer: Any, *args: Any, **kwargs: Any) -> None:
            make(writer, *args, **kwargs)
            self._opened(writer)

        kind.__init__ = make_and_tell

    def _opened(self, writer: Any) -> None:
        """A writer has opened its file."""
        PRESENT.wake()
        session = PRESENT.find()
        path = getattr(writer, "_file_name", None)
        if session is None or not isinstance(path, str):
            return
        try:
            from pipedeco.autolog.tensorboard import EventFiles

            with self._lock:
                if session.files is None:
                    session.files = EventFiles(session)
                session.files.add(path)
        except Exception as error:  # noqa: BLE001 - making the user's writer never fails for our sake
            session.failed(f"the event file {path}", error)

"""What it takes to perform a run again: code beyond its commit, packages, Python, the machine.

    head.py      the commit, at once
    git.py       the commit, what is not committed, sources that git does not know
    machine.py   Python, packages, system, command line, environment by allow-list
    masks.py     what looks secret, and never reaches a record

A record is made beside the run, in a thread, so that the run waits for nothing.  It is enough to
check out the commit, apply the diff, install the packages and compare what comes out.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections import namedtuple
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import NamedTuple

    class Seen(NamedTuple):
        """The process as it was when a capture started; it may change beside the thread."""

        folder: str | None
        environ: dict[str, str]
        cwd: str | None
        path: list[str]

else:
    Seen = namedtuple("Seen", ("folder", "environ", "cwd", "path"))

FORMAT = 1  # of the record
SHARED = 2.0  # seconds for which runs share a capture


class Captures:
    """The captures of a process, of which runs that begin together share one."""

    def __init__(self) -> None:
        self._recent: tuple[Any, float, Capture] | None = None  # of what, when, and itself

    def begin(self, folder: str | None) -> Capture:
        """The capture for a run that begins now: started, or shared with the run just before.

        Parameters
        ----------
        folder: of the project, as `config.project_folder()` gives it.

        Runs of one process that begin within two seconds share one, as long as working directory
        and environment are the same: a debug run takes a fraction of a millisecond, git ten.  What
        is edited within these two seconds may so be recorded with the next run only.
        """
        now = time.monotonic()
        # Compared as bytes: decoding fifty variables would cost ten times as much.
        environ = dict(getattr(os.environ, "_data", os.environ))
        of = (folder, _working_directory(), environ)
        recent = self._recent
        if recent is not None and recent[0] == of and now - recent[1] < SHARED:
            return recent[2]
        capture = Capture(folder)
        capture.start()
        self._recent = (of, now, capture)
        return capture


class Capture:
    """A record in the making.

    Parameters
    ----------
    folder: of the project; None where there is none.

    The record holds `format`, `made` (seconds since the epoch), `git` (None without a
    repository), `packages`, `origins`, `python`, `platform`, `process`, `environment` and `notes`
    (sentences on what could not be found out).
    """

    def __init__(self, folder: str | None) -> None:
        self.folder = folder
        self._process = os.getpid()
        self._over = threading.Event()
        self._started = False
        self._record: dict[str, Any] = {}
        self._text: str | None = None

    def start(self) -> None:
        """Begin, in a thread that never keeps the interpreter from its end."""
        seen = Seen(self.folder, os.environ.copy(), _working_directory(), list(sys.path))
        self._record = {"format": FORMAT, "made": time.time()}
        self._started = True
        thread = threading.Thread(
            target=self._gather, args=(seen,), name="pipedeco-capture", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending, and starts no thread any more
            self._gather(seen)

    @property
    def done(self) -> bool:
        """Whether all is there that will be."""
        return self._over.is_set()

    def result(self, timeout: float | None = None) -> dict[str, Any]:
        """The record as plain types of JSON; never raises.

        Waits at most `timeout` seconds.  What is not there by then is missing, and `notes` says
        so.  A forked child gets what was there at the fork.
        """
        if self._started and self._process == os.getpid():
            self._over.wait(timeout)
        record = dict(self._record)
        if "notes" not in record:
            record["notes"] = ["the record is not complete: it was still being made"]
        return record

    def to_json(self, timeout: float | None = None) -> str:
        """`result` as text of JSON, in ASCII; made once for all runs that share it."""
        if self._text is None:
            import json

            record = self.result(timeout)
            text = json.dumps(record, separators=(",", ":"))
            if not self.done:
                return text
            self._text = text
        return self._text

    def _gather(self, seen: Seen) -> None:
        notes: list[str] = []
        try:
            from pipedeco.capture import git, machine

            # The commit first of all: a short run does not wait for what takes longer.
            parts = (git.begin, machine.describe, machine.describe_packages, git.describe)
            for describe in parts:
                try:
                    self._record.update(describe(seen))
                except Exception as error:  # noqa: BLE001 - a run never fails for its capture
                    part = f"{describe.__module__}.{describe.__name__}"
                    notes.append(f"{part} failed: {type(error).__name__}: {error}")
        finally:
            self._record["notes"] = notes
            self._over.set()


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None


def _end() -> None:
    """No process outlives us: git may hang."""
    processes = sys.modules.get("pipedeco.capture.processes")
    kill_all = getattr(processes, "kill_all", None)  # an import may have been interrupted
    if kill_all is not None:
        kill_all()


# Here and not where processes are: who imports this module may wait for a record in a function of
# its own at exit, and those registered first are called last.
atexit.register(_end)

"""Which files steps write into a run's working directory, seen from outside, for little time.

A directory's own time changes when a file is made, renamed or removed in it, so that is what is
looked at after a short batch; files that were changed in place are seen after longer ones.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from pipedeco.worker.unpacked import files_below, mark_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipedeco.worker.unpacked import Code, Mark

MOST = 1000  # files of which is told after a batch
SHARE = 0.02  # of a batch's time that a look at all files may take
SLACK = 0.02  # seconds by which a file's time may be off: the kernel's clock ticks


class Spell(NamedTuple):
    """When a call was performed."""

    number: int
    begin: float
    end: float

    def missed_by(self, when: float) -> float:
        return max(self.begin - when, when - self.end, 0.0)


class Lookout:
    """Watches one directory.

    Parameters
    ----------
    code: what is in it at first.
    """

    def __init__(self, folder: str, code: Code) -> None:
        self.folder = folder
        self._known: dict[str, Mark | None] = dict(code.files)  # None: it was made since
        # Of the directories, when they were looked at last.
        self._times = {os.path.normpath(f"{folder}/{p}"): at for p, at in code.folders.items()}
        self._cost = 0.0  # seconds of a look at all known files
        self._looking = threading.Lock()  # several batches may end at once

    def written(self, calls: list[Spell]) -> list[tuple[int, str, float]]:
        """The files that were written while one of these calls was performed: (call, path, by how
        many seconds it is missed, as clocks tick and other calls are performed beside these).

        Parameters
        ----------
        calls: which one worker has performed.
        """
        with self._looking:
            changed = self._changed(min(call.begin for call in calls) - SLACK)
        found = []
        for path, when in changed[:MOST]:
            call = min(calls, key=lambda call: call.missed_by(when))
            if call.missed_by(when) < SLACK:
                found.append((call.number, path, call.missed_by(when)))
        return found

    def _changed(self, since: float) -> list[tuple[str, float]]:
        """The files that were made or changed since then, and when."""
        begin = time.time()
        folders = self._changed_folders()
        found = self._look(folders) if folders else {}
        if self._cost < SHARE * (begin - since):
            found.update(self._look_at_known())
            self._cost = time.time() - begin
        new = {p: facts for p, facts in found.items() if mark_of(facts) != self._known.get(p)}
        self._known.update((path, None) for path in new.keys() - self._known.keys())
        return [(path, facts.st_mtime) for path, facts in new.items() if facts.st_mtime > since]

    def _look_at_known(self) -> dict[str, os.stat_result]:
        found = {}
        for path in self._known:
            try:
                found[path] = os.lstat(f"{self.folder}/{path}")
            except OSError:  # it was removed
                continue
        return found

    def _changed_folders(self) -> list[str]:
        """One call of the system each, as this is done after every batch."""
        try:
            found = [path for path, at in self._times.items() if os.stat(path).st_mtime_ns != at]
            return found if self._times else [self.folder]
        except FileNotFoundError:
            return [self.folder]  # in which one was removed, or in a folder below

    def _look(self, folders: Iterable[str]) -> dict[str, os.stat_result]:
        """The files in these and below, whose directories are looked at again from now on."""
        found: dict[str, os.stat_result] = {}
        for folder in folders:
            below = os.path.relpath(folder, self.folder)
            found.update(files_below(self.folder, "" if below == "." else below))
        for folder in folders:
            self._times = {p: at for p, at in self._times.items() if not _is_in(p, folder)}
            self._times.update(_times_of(folder))
        return found


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)


def _times_of(folder: str) -> dict[str, int]:
    """When each directory has changed; 0 for just now, as it may do so again at the same time."""
    young = time.time_ns() - int(SLACK * 1e9)
    found = {}
    for place, _, _ in os.walk(folder):
        try:
            at = os.stat(place).st_mtime_ns
        except FileNotFoundError:  # it goes at this moment
            continue
        found[place] = at if at < young else 0
    return found

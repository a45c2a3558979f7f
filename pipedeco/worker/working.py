"""The working directory of a run on a machine: the project's files, as copies of its own.

A step may change them, as the bare program may, and neither the shared code nor another run sees
that.  A run and its child runs share one, as they share the bare program's, and it goes with them;
what steps have written there is told before, for few look for it on a worker.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from pipedeco.errors import StoreError
from pipedeco.worker.places import (
    WORK,
    Place,
    folder_aside,
    host,
    private_root,
    remove_tree,
)
from pipedeco.worker.unpacked import files_below, keep, mark_of, unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipedeco.blobs import BlobStore
    from pipedeco.worker.unpacked import Code

SMALL = 1 << 18  # bytes that are copied at once
METADATA = ".pipedeco-metadata"  # a folder of the code, of which sys.path knows
SHARE = 0.02  # of a run's time that looking at all of its files may take
MOST = 1000  # files of which is told
SLACK = 0.02  # seconds by which a file's time may be off: the kernel's clock ticks


class Spell(NamedTuple):
    """When a call was performed."""

    number: int
    begin: float
    end: float

    def missed_by(self, when: float) -> float:
        return max(self.begin - when, when - self.end, 0.0)


class WorkFolder:
    """A run's folder on this machine, and the code that is in it.

    Parameters
    ----------
    run: names it.
    project: the folder that it stands for; "" for none.
    digest: of the archive of the project's code.

    Raises StoreError where it cannot be made.
    """

    def __init__(self, run: str, project: str, digest: str | None, archives: BlobStore) -> None:
        self.run = run
        self.code: Code | None = None
        self.path = ""
        self._place = Place(WORK, run, digest or "")
        self._top = os.path.join(self._place.folder, os.path.basename(project) or WORK)
        self._folders: dict[str, int] = {}  # when each had changed, as it was looked at last
        self._looking = threading.Lock()  # several batches may end at once
        self._cost = 0.0  # seconds of a look at all files
        try:
            if digest is not None:
                self.code = unpacked(digest, archives)
                self.path = self._filled(self.code)
        except BaseException:
            self.leave()
            raise

    def own(self, below: str) -> str:
        """A folder that is there, empty where the project has none of that path."""
        self.path = self._top
        directory = os.path.normpath(os.path.join(self._top, below))
        os.makedirs(directory, mode=0o700, exist_ok=True)
        return directory

    def keep(self) -> None:
        """The code is in use."""
        if self.code is not None:
            keep(self.code.folder)

    def leave(self) -> None:
        self._place.leave()

    # -- the project's files -----------------------------------------------------------------

    def _filled(self, code: Code) -> str:
        if os.path.isdir(self._top):  # another station of this machine has been quicker
            return self._top
        aside = folder_aside(private_root())
        try:
            _copy(code, aside)
            os.rename(aside, self._top)
        except OSError as error:
            if not os.path.isdir(self._top):
                raise StoreError(
                    f"the working directory of the run cannot be made in {self._top} on {host()}: "
                    f"{error.strerror}; free some space, or set TMPDIR of the engine's workers"
                ) from error
        finally:
            remove_tree(aside)
        return self._top

    # -- what steps write --------------------------------------------------------------------

    def written(self, calls: list[Spell]) -> list[tuple[int, str, float]]:
        """The files that were written while one of these calls was performed: (call, path, by how
        many seconds it is missed, as clocks tick and other calls are performed beside these).

        Parameters
        ----------
        calls: which one worker has performed.
        """
        with self._looking:
            changed = self._changed(min(call.begin for call in calls))
        found = []
        for path, when in changed[:MOST]:
            call = min(calls, key=lambda call: call.missed_by(when))
            if call.missed_by(when) < SLACK:
                found.append((call.number, path, call.missed_by(when)))
        return found

    def _changed(self, since: float) -> list[tuple[str, float]]:
        """The files that were made or changed since then, and when.

        All are looked at where that takes little of the time that has passed; else those of the
        folders in which some were made, renamed or removed.
        """
        if not self.path:
            return []
        begin = time.time()
        wide = not self._folders or self._cost < SHARE * (begin - since)
        found = self._all() if wide else self._of_changed_folders()
        known = {} if self.code is None else self.code.files
        new = [
            (path, facts.st_mtime)
            for path, facts in found
            if facts.st_mtime > since - SLACK and mark_of(facts) != known.get(path)
        ]
        if wide:
            self._cost = time.time() - begin
        return new

    def _all(self) -> Iterator[tuple[str, os.stat_result]]:
        found = list(files_below(self.path))
        self._note_folders({os.path.dirname(path) for path, _ in found})
        return iter(found)

    def _of_changed_folders(self) -> Iterator[tuple[str, os.stat_result]]:
        changed = [folder for folder, when in self._folders.items() if self._time(folder) != when]
        for folder in changed:
            if self._time(folder) < 0:
                del self._folders[folder]
                continue
            yield from files_below(self.path, folder)
        self._note_folders(set(changed) & set(self._folders))

    def _note_folders(self, folders: set[str]) -> None:
        """Remember how these were; what changed just now may do so again at the same time."""
        young = time.time_ns() - int(SLACK * 1e9)
        for folder in folders | {""}:
            when = self._time(folder)
            self._folders[folder] = when if when < young else 0

    def _time(self, folder: str) -> int:
        try:
            return os.stat(os.path.join(self.path, folder)).st_mtime_ns
        except OSError:  # it was removed
            return -1


def _copy(code: Code, target: str) -> None:
    """The project's files, with their times, by which a change is seen."""
    made = {""}
    for path, (size, changed) in code.files.items():
        folder = os.path.dirname(path)
        if folder not in made:
            os.makedirs(os.path.join(target, folder), mode=0o700, exist_ok=True)
            made.add(folder)
        if not path.startswith(METADATA):
            _copy_file(os.path.join(code.folder, path), os.path.join(target, path), size)
            os.utime(os.path.join(target, path), ns=(changed, changed))


def _copy_file(source: str, target: str, size: int) -> None:
    file = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        mode = os.fstat(file).st_mode & 0o500 | 0o200
        made = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            _copy_bytes(file, made, size)
        finally:
            os.close(made)
    finally:
        os.close(file)


def _copy_bytes(source: int, target: int, size: int) -> None:
    """Copy all bytes; large files share theirs where the file system can (btrfs, XFS)."""
    left = size
    try:
        while left > SMALL and hasattr(os, "copy_file_range"):
            left -= os.copy_file_range(source, target, left)
    except OSError:  # not between these file systems
        pass
    while data := os.read(source, SMALL):
        view = memoryview(data)
        while view:
            view = view[os.write(target, view) :]

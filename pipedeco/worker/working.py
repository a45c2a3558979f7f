"""The working directory of a run on a machine: the project's files, as copies of its own.

A step may change them, as the bare program may, and neither the shared code nor another run sees
that.  A run and its child runs share one, as they share the bare program's, and it goes with them;
what steps have written there is told before, for few look for it on a worker.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from pipedeco.blobs import make_private
from pipedeco.errors import StoreError
from pipedeco.worker.lookout import Lookout
from pipedeco.worker.places import (
    IDLE,
    METADATA,
    WORK,
    Place,
    folder_aside,
    host,
    private_root,
    remove_tree,
)
from pipedeco.worker.unpacked import Code, keep, remove_aside, unpacked

if TYPE_CHECKING:
    from pipedeco.blobs import BlobStore
    from pipedeco.worker.lookout import Spell

SMALL = 1 << 18  # bytes that are copied at once
SPARE = 4  # directories that wait for a run


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
        self._own = Code("", {}, {})  # of it, what the directory has at first
        self.path = ""
        self._place = Place(WORK, run, digest or "")
        self._top = os.path.join(self._place.folder, os.path.basename(project) or WORK)
        self._lookout: Lookout | None = None  # for what steps write there
        try:
            if digest is not None:
                self.code = unpacked(digest, archives)
                self._own = _own(self.code)
                self._open(self._filled(self._own))
        except BaseException:
            self.leave()
            raise

    def own(self, below: str) -> str:
        """A folder that is there, empty where the project has none of that path."""
        if not self.path:
            self._open(self._top)
        directory = os.path.normpath(os.path.join(self._top, below))
        os.makedirs(directory, mode=0o700, exist_ok=True)
        return directory

    def _open(self, path: str) -> None:
        self.path = path
        self._lookout = Lookout(path, self._own)

    def keep(self) -> None:
        """The code is in use."""
        if self.code is not None:
            keep(self.code.folder)

    def leave(self) -> None:
        self._place.leave(self._give)

    # -- the project's files -----------------------------------------------------------------

    def _filled(self, code: Code) -> str:
        if os.path.isdir(self._top):  # another station of this machine has been quicker
            return self._top
        try:
            if not any(self._take(code, name) for name in _idle(code)):
                self._make(code)
        except OSError as error:
            if not os.path.isdir(self._top):
                raise StoreError(
                    f"the working directory of the run cannot be made in {self._top} on {host()}: "
                    f"{error.strerror}; free some space, or set TMPDIR of the engine's workers"
                ) from error
        return self._top

    def _make(self, code: Code) -> None:
        aside = folder_aside(private_root())
        try:
            _copy(code, aside)
            self._place.write(str(time.time_ns()))
            os.rename(aside, self._top)
        finally:
            remove_tree(aside)

    def _take(self, code: Code, name: str) -> bool:
        """Take a directory of a former run, which is quicker; whether it was as it was made."""
        path, made = os.path.join(private_root(), IDLE, name), name.rpartition("-")[2]
        try:
            if not code.is_whole(path, int(made)):
                remove_aside(private_root(), path)
                return False
            os.rename(path, self._top)
        except FileNotFoundError:  # another run was quicker
            return False
        self._place.write(made)
        return True

    def _give(self, made: str) -> None:
        """Leave the directory to a later run, unless a step has written there."""
        if self.code is None or not made or len(_idle(self.code)) >= SPARE:
            return
        name = f"{os.path.basename(self.code.folder)}-{made}"
        make_private(os.path.join(private_root(), IDLE))
        with suppress(OSError):  # it was removed by hand
            os.rename(self._top, os.path.join(private_root(), IDLE, name))

    def written(self, calls: list[Spell]) -> list[tuple[int, str, float]]:
        """The files that these calls of one worker have written, as Lookout tells them."""
        found = [] if self._lookout is None else self._lookout.written(calls)
        if found:
            self._place.write("")  # it is like no other any more
        return found


def _idle(code: Code) -> list[str]:
    """The directories that no run has, with the files of this code."""
    try:
        names = os.listdir(os.path.join(private_root(), IDLE))
    except FileNotFoundError:
        return []
    return [name for name in names if name.startswith(os.path.basename(code.folder))]


def _copy(code: Code, target: str) -> None:
    """The project's files, with the times of the code's, by which a change is seen."""
    for path in sorted(code.folders):  # a folder comes before those in it
        if path:
            os.mkdir(os.path.join(target, path), 0o700)
    for path, (size, changed) in code.files.items():
        _copy_file(f"{code.folder}/{path}", f"{target}/{path}", size)
        os.utime(f"{target}/{path}", ns=(changed, changed))
    for path, changed in code.folders.items():
        os.utime(os.path.join(target, path), ns=(changed, changed))


def _own(code: Code) -> Code:
    """What the project has itself."""
    if METADATA not in code.folders:
        return code
    files = {path: mark for path, mark in code.files.items() if not path.startswith(METADATA)}
    folders = {path: at for path, at in code.folders.items() if not path.startswith(METADATA)}
    return Code(code.folder, files, folders)


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

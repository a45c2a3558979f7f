"""The working directory of a run on a machine: the project's files, as copies of its own.

A step may change them, as the bare program may, and neither the shared code nor another run sees
that.  A run and its child runs share one, as they share the bare program's, and it goes with them;
what steps have written there is told before, for few look for it on a worker.
"""

from __future__ import annotations

import os
import time
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
from pipedeco.worker.unpacked import files_below, keep, mark_of, unpacked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipedeco.blobs import BlobStore
    from pipedeco.worker.unpacked import Code, Mark

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
        self.path = ""
        self._place = Place(WORK, run, digest or "")
        self._top = os.path.join(self._place.folder, os.path.basename(project) or WORK)
        self.lookout: Lookout | None = None  # for what steps write there
        try:
            if digest is not None:
                self.code = unpacked(digest, archives)
                self._open(self._filled(self.code))
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
        self.lookout = Lookout(path, {} if self.code is None else self.code.files)

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
            self._note(time.time_ns())
            os.rename(aside, self._top)
        finally:
            remove_tree(aside)

    def _take(self, code: Code, name: str) -> bool:
        """Take a directory that a former run has left as it was, which is quicker; whether it is
        so still, and nobody else has it."""
        path, made = os.path.join(private_root(), IDLE, name), int(name.rpartition("-")[2])
        aside = folder_aside(private_root())
        own = os.path.join(aside, name)
        try:
            os.rename(path, own)
            if not _is_as_made(code, own, made):
                return False
            self._note(made)
            os.rename(own, self._top)
        except FileNotFoundError:  # another run was quicker
            return False
        finally:
            remove_tree(aside)
        return True

    def _give(self) -> None:
        """Leave the directory to a later run, which looks whether a step has changed it."""
        try:
            with open(self._mark, encoding="ascii") as file:
                made = int(file.read())
        except (OSError, ValueError):  # it was never whole
            return
        if self.code is None or self._is_touched or len(_idle(self.code)) >= SPARE:
            return
        name = f"{os.path.basename(self.code.folder)}-{made}"
        make_private(os.path.join(private_root(), IDLE))
        os.rename(self._top, os.path.join(private_root(), IDLE, name))

    @property
    def _is_touched(self) -> bool:
        return self.lookout is not None and self.lookout.touched

    @property
    def _mark(self) -> str:
        """The file that says when the directory was made."""
        return os.path.join(self._place.folder, "made")

    def _note(self, made: int) -> None:
        with open(self._mark, "w", encoding="ascii") as file:
            file.write(str(made))


def _idle(code: Code) -> list[str]:
    """The directories that no run has, with the files of this code."""
    try:
        names = os.listdir(os.path.join(private_root(), IDLE))
    except FileNotFoundError:
        return []
    return [name for name in names if name.startswith(os.path.basename(code.folder))]


def _is_as_made(code: Code, folder: str, made: int) -> bool:
    """Whether nothing below a directory was touched since it was made."""
    wanted = _own_files(code)
    there = dict(files_below(folder))
    if any(facts.st_ctime_ns > made for facts in there.values()):
        return False
    if {path: mark_of(facts) for path, facts in there.items()} != wanted:
        return False
    # A folder that a step has made shows in the links of the one above; some systems count none.
    links = {os.path.join(folder, path): 2 + len(below) for path, below in _tree(wanted).items()}
    return all(os.stat(path).st_nlink in (1, count) for path, count in links.items())


def _tree(paths: Iterable[str]) -> dict[str, set[str]]:
    """The folders in which files of these paths are, each with those in it."""
    found: dict[str, set[str]] = {"": set()}
    for path in paths:
        while path := os.path.dirname(path):
            found.setdefault(path, set())
            found.setdefault(os.path.dirname(path), set()).add(path)
    return found


def _copy(code: Code, target: str) -> None:
    """The project's files, with their times, by which a change is seen."""
    made = {""}
    for path, (size, changed) in _own_files(code).items():
        folder = os.path.dirname(path)
        if folder not in made:
            os.makedirs(os.path.join(target, folder), mode=0o700, exist_ok=True)
            made.add(folder)
        _copy_file(os.path.join(code.folder, path), os.path.join(target, path), size)
        os.utime(os.path.join(target, path), ns=(changed, changed))


def _own_files(code: Code) -> dict[str, Mark]:
    """Those that the project has itself."""
    return {path: mark for path, mark in code.files.items() if not path.startswith(METADATA)}


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

"""Where a machine keeps what runs need on it for a while: `<temporary files>/pipedeco-<user>/`.

<digest>/, <digest>.files     a project's code, shared and read-only, and the list of its files
unpacking-...                 what is not whole yet, or is being removed
work/<run>/<project>/         the working directory of a run's steps
runs/<run>/                   values and logs of a run, where an object store stands between
work/<run>.lock               locked by the stations that use the folder; so is runs/<run>.lock
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from pipedeco.blobs import make_private
from pipedeco.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ASIDE = "unpacking-"  # begins the names of folders that are not whole
WORK = "work"
IDLE = "idle"
RUNS = "runs"
NOTE = 128  # bytes of the lock's file: a digest, and a note
UNPACKING = "unpacking.lock"
METADATA = ".pipedeco-metadata"  # a folder of the code, for what is installed of it


def host() -> str:
    return os.uname().nodename if hasattr(os, "uname") else "this machine"


def private_root() -> str:
    """A folder of this user's alone among the temporary files."""
    own = os.getuid() if hasattr(os, "getuid") else 0
    root = os.path.join(tempfile.gettempdir(), f"pipedeco-{own}")
    make_private(root)
    facts = os.lstat(root)
    if facts.st_uid != own or facts.st_mode & 0o077:
        raise StoreError(
            f"{root} on {host()} can be written by others, and code is to be unpacked there; "
            "remove it, or set TMPDIR of the engine's workers"
        )
    return root


def folder_aside(root: str) -> str:
    """A new folder, which nobody takes for whole, and which goes after a day."""
    return tempfile.mkdtemp(prefix=ASIDE, dir=root)


def remove_tree(path: str) -> None:
    """Remove a folder whose folders may be read-only."""
    with suppress(OSError):  # as a rule it is empty, or gone
        os.rmdir(path)
        return
    for folder, _, _ in os.walk(path):  # from the top: each is opened up before it is listed
        with suppress(OSError):
            os.chmod(folder, stat.S_IRWXU)
    shutil.rmtree(path, ignore_errors=True)


@contextmanager
def unpacking(root: str, *, alone: bool) -> Iterator[None]:
    """Keep others from changing the unpacked code meanwhile, or with `alone` from looking at it."""
    path = os.path.join(root, UNPACKING)
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(lock)


class Place:
    """A folder of a run on this machine, which its stations share; the last one removes it.

    A station that was killed has left the lock; the next one that begins removes what it left.

    Parameters
    ----------
    kind: WORK or RUNS.
    name: of the folder.
    needs: the digest of the code that nobody is to remove as long as somebody is here.
    """

    def __init__(self, kind: str, name: str, needs: str = "") -> None:
        parent = os.path.join(private_root(), kind)
        make_private(parent)
        for lock in _locks(parent):
            if os.path.basename(lock) != f"{name}.lock":
                _remove_unused(lock.removesuffix(".lock"))
        self.folder = os.path.join(parent, name)
        self._lock = self._enter()
        self._needs = needs
        if needs and not self.note:
            self.write("")
        make_private(self.folder)

    @property
    def note(self) -> str:
        """What was written last, by any of its stations."""
        return os.pread(self._lock, NOTE, 0).decode("ascii").partition(" ")[2].strip()

    def write(self, note: str) -> None:
        os.pwrite(self._lock, f"{self._needs} {note}".ljust(NOTE).encode("ascii"), 0)

    def _enter(self) -> int:
        path = f"{self.folder}.lock"
        while True:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_SH)
            if is_file(lock, path):
                return lock
            os.close(lock)  # somebody has removed it before we had it

    def leave(self, last: Callable[[str], None] = lambda note: None) -> None:
        """Go; the last one calls `last` with the note, and removes the folder."""
        if self._lock >= 0:
            note = self.note
            os.close(self._lock)
            self._lock = -1
            _remove_unused(self.folder, partial(last, note))


def remove_unused_places(root: str) -> set[str]:
    """Remove the folders of runs that no station is in; what those need that stay."""
    needed = set()
    for kind in (WORK, RUNS):
        for lock in _locks(os.path.join(root, kind)):
            if not _remove_unused(lock.removesuffix(".lock")):
                with suppress(OSError), open(lock, encoding="ascii") as file:
                    needed.add(file.read().partition(" ")[0])
    return needed


def count_places(root: str) -> int:
    return sum(len(_locks(os.path.join(root, kind))) for kind in (WORK, RUNS))


def _locks(parent: str) -> list[str]:
    try:
        return [os.path.join(parent, n) for n in os.listdir(parent) if n.endswith(".lock")]
    except FileNotFoundError:  # no run was ever here
        return []


def _remove_unused(folder: str, before: Callable[[], None] = lambda: None) -> bool:
    """Remove a run's folder unless a station uses it; whether nobody does."""
    path = f"{folder}.lock"
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_file(lock, path):
            before()
            remove_tree(folder)
            if not os.path.exists(folder):  # else somebody still writes there: the next one tries
                os.unlink(path)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(lock)


def is_file(file: int, path: str) -> bool:
    """Whether a path still leads to an open file."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False

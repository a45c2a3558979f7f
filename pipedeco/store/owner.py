"""Who has a run: a lock file for each living controller, which dies with it."""

from __future__ import annotations

import fcntl
import os
import re
from weakref import WeakSet

from pipedeco.blobs import make_private
from pipedeco.errors import StoreError


class OwnerLock:
    """This controller's lock in one store; held until `release` or the process's end.

    Parameters
    ----------
    folder: of the store.
    """

    def __init__(self, folder: str) -> None:
        self.name = f"{os.getpid()}-{os.urandom(6).hex()}"
        self._path = _lock_path(folder, self.name)
        try:
            make_private(os.path.dirname(self._path))
            self._file: int | None = os.open(
                self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreError(f"the lock {self._path} cannot be made: {error.strerror}") from error
        _LOCKS.add(self)

    def release(self) -> None:
        """At a clean end: every run of ours has ended, so nobody asks for the lock again."""
        if self._file is not None:
            try:
                os.unlink(self._path)
            except FileNotFoundError:  # the store was removed
                pass
            self._close()

    def _close(self) -> None:
        """In a forked child too: a copy of the descriptor would keep the lock alive."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _forget() -> None:
    for lock in list(_LOCKS):
        lock._close()


_LOCKS: WeakSet[OwnerLock] = WeakSet()  # of this process, which is the one of a fork that has them
os.register_at_fork(after_in_child=_forget)


def is_alive(folder: str, owner: str) -> bool:
    """Whether the controller of that name lives."""
    if not re.fullmatch(r"[0-9a-f-]+", owner):
        return False
    try:
        file = os.open(_lock_path(folder, owner), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two who ask at once do not take each other for the owner.
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _lock_path(folder: str, owner: str) -> str:
    return os.path.join(folder, "owners", owner)

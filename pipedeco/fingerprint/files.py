"""The content of a file, or of a folder, as a digest."""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from pipedeco.blobs import hasher_for
from pipedeco.fingerprint.unproven import Unproven

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PIECE = 1 << 22

# Paths of the File objects that were pickled or fingerprinted, and digests where they are known.
_met: ContextVar[dict[str, str | None] | None] = ContextVar("pipedeco files", default=None)


def file_digest(path: str | os.PathLike[str]) -> str:
    """The BLAKE3 digest of what a file holds, or a folder: names below it, and contents.

    Modes, owners and times do not count; neither does the name of the file or folder itself. A
    link counts as the file it points to; inside a folder, a link to another folder, or to nothing,
    counts by its text.

    Raises
    ------
    FileNotFoundError: there is no such file or folder.
    Unproven: a pipe, a device or a socket, whose content is there once.
    """
    from blake3 import blake3

    text = os.fspath(path)
    try:
        mode = os.stat(text).st_mode
    except FileNotFoundError:
        why = "no such file or folder, and it counts by its content"
        raise FileNotFoundError(errno.ENOENT, why, text) from None
    if not stat.S_ISDIR(mode):
        return blake3(b"file" + _file(text, mode)).hexdigest()
    hasher = blake3(b"folder")
    for name, entry in _entries(text):
        hasher.update(b"%d:%b" % (len(name), name))
        hasher.update(entry)
    return hasher.hexdigest()


def digest_now(path: str) -> str | None:
    """The same; None where it cannot be told, as the file is gone or is not a regular one."""
    try:
        return file_digest(path)
    except (OSError, Unproven):
        return None


class Contents:
    """What files hold now; those that stay as they are, are read once.

    A file that was written within the last two seconds is read each time: a second change may
    have the time, and the size, of the first.
    """

    SETTLED = 2.0  # seconds; the times of some file systems are no finer

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, ...], str]] = {}  # by path: its marks, its digest

    def changed(self, held: Iterable[tuple[str, str | None]]) -> str | None:
        """The first of the files that is another one than it was, in words; None where none is."""
        for path, digest in held:
            now = self._digest(path)
            if now is None:
                return f"File({path!r}) is not there"
            if now != digest:
                return f"File({path!r}) has changed"
        return None

    def _digest(self, path: str) -> str | None:
        marks = _marks(path)
        known = self._known.get(path)
        if marks is not None and known is not None and known[0] == marks:
            return known[1]
        digest = digest_now(path)
        settled = marks is not None and time.time() - marks[-1] / 1e9 > self.SETTLED
        if settled and digest is not None and marks == _marks(path):
            assert marks is not None
            self._known[path] = marks, digest
        return digest


def _marks(path: str) -> tuple[int, ...] | None:
    """What another content would change; None of a folder, whose files have marks of their own."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    times = found.st_mtime_ns, found.st_ctime_ns
    return found.st_dev, found.st_ino, found.st_size, *times, max(times)


def _file(path: str, mode: int) -> bytes:
    """The digest of one file's content."""
    if not stat.S_ISREG(mode):
        raise Unproven(f"{path} is not a regular file: its content cannot be read twice")
    # Read rather than mapped: a file that is truncated meanwhile would kill the process.
    buffer = bytearray(_PIECE)
    view = memoryview(buffer)
    with open(path, "rb", buffering=0) as file:
        hasher: Any = hasher_for(os.fstat(file.fileno()).st_size)
        while count := file.readinto(buffer):
            hasher.update(view[:count])
    return bytes(hasher.digest())


def _entries(folder: str) -> Iterator[tuple[bytes, bytes]]:
    """Relative names below a folder with their kind and content, in the order of their bytes."""
    todo = [""]
    found: list[tuple[bytes, str]] = []
    while todo:
        below = todo.pop()
        with os.scandir(os.path.join(folder, below)) as entries:
            for entry in entries:
                name = os.path.join(below, entry.name)
                found.append((os.fsencode(name), name))
                if entry.is_dir(follow_symlinks=False):
                    todo.append(name)
    for encoded, name in sorted(found):
        yield encoded.replace(os.fsencode(os.sep), b"/"), _entry(os.path.join(folder, name))


def _entry(path: str) -> bytes:
    """Kind and content of what is below a folder; self-delimiting."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        if not os.path.islink(path):
            raise
        mode = 0  # it points to nothing, or to itself
    if os.path.islink(path) and not stat.S_ISREG(mode):
        target = os.fsencode(os.readlink(path))
        return b"l%d:%b" % (len(target), target)
    if stat.S_ISDIR(mode):
        return b"d"
    return b"f" + _file(path, mode)


class File:
    """A path that counts by the content of its file, or folder.

    It is a `os.PathLike`: `open(file)` and libraries take it as it is.  As an argument of a cached
    component it is read at the call.  In the value of one it is read when the step ends, and again
    before that value is taken from the cache: what changed since, or is gone, is made again.

    Parameters
    ----------
    path: of a file or a folder.
    """

    __slots__ = ("path",)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)

    def __fspath__(self) -> str:
        return self.path

    def __pipedeco_fingerprint__(self) -> str:
        digest = file_digest(self.path)
        met = _met.get()
        if met is not None:
            met[self.path] = digest
        return digest

    def __reduce_ex__(self, protocol: Any) -> Any:
        met = _met.get()
        if met is not None:
            met.setdefault(self.path, None)
        return super().__reduce_ex__(protocol)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, File) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __str__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return f"File({self.path!r})"


@contextmanager
def files_met() -> Iterator[dict[str, str | None]]:
    """The paths of the File objects that are pickled or fingerprinted meanwhile; of those that are
    fingerprinted with their digests."""
    met: dict[str, str | None] = {}
    token = _met.set(met)
    try:
        yield met
    finally:
        _met.reset(token)

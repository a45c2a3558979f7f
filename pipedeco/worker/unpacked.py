"""A project's code on a worker's machine: unpacked once, read-only, and looked at when it is taken.

File modes stop most programs, and none of root's, and cleaners of temporary files take what nobody
has read for days.  So a list beside the code says what belongs to it, and what differs is put back:
file by file, each by a rename, as runs may be using the rest.
"""

from __future__ import annotations

import io
import marshal
import os
import re
import stat
import time
import zipfile
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from pipedeco.errors import StoreError
from pipedeco.worker.places import (
    ASIDE,
    IDLE,
    count_places,
    folder_aside,
    host,
    private_root,
    remove_tree,
    remove_unused_places,
    unpacking,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipedeco.blobs import BlobStore

LIST = ".files"
CODE = re.compile("[0-9a-f]{32}")
UNPACKED = re.compile(rf"[0-9a-f]{{32}}(-\d+|{re.escape(LIST)})?|{ASIDE}.*")
KEPT = 86400.0  # seconds for which unpacked code is kept that no run uses
LEFT_OUT = "__pycache__"  # Python makes it anew, and sees what is stale in it


Mark = tuple[int, int]  # size and time of change, in nanoseconds: by it a file is known


class Code(NamedTuple):
    """A project's code, as it stands on this machine."""

    folder: str
    files: dict[str, Mark]  # by their paths in it
    folders: dict[str, int]  # when each had changed last, so that what is new in it shows

    def is_whole(self, folder: str, made: int | None = None) -> bool:
        """Whether a folder has these files as they are, and no others.

        Parameters
        ----------
        made: when it was, in nanoseconds; nobody is to have touched a file since.
        """
        try:
            for path, (size, changed) in self.files.items():
                facts = os.lstat(f"{folder}/{path}")
                if facts.st_mtime_ns != changed or facts.st_size != size:
                    return False
                if made is not None and facts.st_ctime_ns > made:
                    return False
            folders = self.folders.items()
            return all(os.stat(f"{folder}/{path}").st_mtime_ns == at for path, at in folders)
        except OSError:  # one is gone
            return False


def unpacked(digest: str, blobs: BlobStore) -> Code:
    """The code of this archive, whole.

    Raises StoreError where it cannot be read or unpacked.
    """
    root = private_root()
    folder = os.path.join(root, digest[:32])
    with unpacking(root, alone=False):
        found = _found(folder)
    if found is not None:
        return found
    try:
        with unpacking(root, alone=True):
            found = _found(folder)  # another process was quicker
            return _make(root, folder, digest, blobs) if found is None else found
    except OSError as error:
        raise StoreError(
            f"the project's code cannot be unpacked into {folder} on {host()}: "
            f"{error.strerror}; free some space, or set TMPDIR of the engine's workers"
        ) from error


def keep(folder: str) -> None:
    """The code is in use: nobody is to remove it."""
    try:
        os.utime(folder + LIST)
    except FileNotFoundError:
        pass


class Kept(NamedTuple):
    """What stands on this machine for runs of this user."""

    folder: str
    codes: int  # projects' code
    runs: int  # working directories
    size: int  # bytes


def kept_here() -> Kept:
    """Raises StoreError where the folder is not this user's own."""
    root = private_root()
    codes = sum(bool(CODE.fullmatch(name)) for name in os.listdir(root))
    return Kept(root, codes, count_places(root), sum(f.st_size for _, f in files_below(root)))


def remove_unused() -> int:
    """Remove the code and the working directories that no run of this user uses here; bytes."""
    before = kept_here()
    with unpacking(before.folder, alone=True):
        needed = {digest[:32] for digest in remove_unused_places(before.folder)}
        for name in os.listdir(before.folder):
            path = os.path.join(before.folder, name)
            # Without a list it is of another version of pipedeco, whose runs nobody can see.
            if CODE.fullmatch(name) and name not in needed and os.path.exists(path + LIST):
                os.unlink(path + LIST)
                _remove(before.folder, path)
        for entry in _entries(os.path.join(before.folder, IDLE)):
            _remove(before.folder, entry.path)
    return max(0, before.size - kept_here().size)


def files_below(folder: str, below: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """The path in the folder and the facts of each file, but for one that vanishes meanwhile."""
    with suppress(FileNotFoundError), os.scandir(os.path.join(folder, below)) as entries:
        for entry in entries:
            path = f"{below}/{entry.name}" if below else entry.name
            if not entry.is_dir(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    yield path, entry.stat(follow_symlinks=False)
            elif entry.name != LEFT_OUT:
                yield from files_below(folder, path)


def mark_of(facts: os.stat_result) -> Mark:
    return facts.st_size, facts.st_mtime_ns


def _found(folder: str) -> Code | None:
    """The code that is there, made young; None where it is not whole."""
    try:
        with open(folder + LIST, "rb") as file:
            files, folders = marshal.loads(file.read())
        code = Code(folder, files, folders)
        seen = os.stat(folder + LIST).st_mtime
        os.utime(folder + LIST)
    except (OSError, ValueError, EOFError, TypeError):  # an older version's
        return None
    if not code.is_whole(folder):
        return None
    if time.time() - seen > KEPT / 2:
        _renew(code)
    return code


def _renew(code: Code) -> None:
    """Let cleaners see that old files are used."""
    now = time.time_ns()
    for path, (_, changed) in code.files.items():
        os.utime(os.path.join(code.folder, path), ns=(now, changed))


def _make(root: str, folder: str, digest: str, blobs: BlobStore) -> Code:
    """Unpack the code; what is there and whole stays as it is."""
    _remove_old(root)
    aside = folder_aside(root)
    try:
        _unpack(blobs.get(digest, verify=True)[0], aside)
        if os.path.isdir(folder):
            _mend(folder, aside)
        else:
            os.rename(aside, folder)
        _close(folder)
        code = _read(folder)
        _write_list(code)
    finally:
        remove_tree(aside)  # it has gone where all went well
    return code


def _read(folder: str) -> Code:
    files = {path: mark_of(facts) for path, facts in files_below(folder)}
    places = {"", *(parent for path in files for parent in parents(path))}
    folders = {path: os.stat(os.path.join(folder, path)).st_mtime_ns for path in places}
    return Code(folder, files, folders)


def parents(path: str) -> Iterator[str]:
    """The folders on the way to a relative path."""
    while path := os.path.dirname(path):
        yield path


def _unpack(data: memoryview, folder: str) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for item in archive.infolist():
            made = archive.extract(item, folder)
            os.chmod(made, 0o500 if item.external_attr >> 16 & 0o100 else 0o400)


def _mend(folder: str, whole: str) -> None:
    """Put what is whole in the place of what is there, for which runs may be reading it."""
    for place, _, _ in os.walk(folder):
        os.chmod(place, stat.S_IRWXU)
    wanted = {path for path, _ in files_below(whole)}
    for path, _ in list(files_below(folder)):
        if path not in wanted:
            os.unlink(os.path.join(folder, path))
    for path in wanted:
        target = os.path.join(folder, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.isdir(target):
            remove_tree(target)
        os.replace(os.path.join(whole, path), target)


def _close(folder: str) -> None:
    """Let nobody but root write into the folders."""
    for place, _, _ in os.walk(folder):
        os.chmod(place, 0o500)


def _write_list(code: Code) -> None:
    path = code.folder + LIST
    descriptor = os.open(f"{path}.part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(marshal.dumps((code.files, code.folders)))
    os.rename(f"{path}.part", path)


def _remove_old(root: str) -> None:
    """Remove unpacked code that has not been used for long; each change of a project leaves some.

    So does a process that was killed while it unpacked.
    """
    for entry in [*_entries(root), *_entries(os.path.join(root, IDLE))]:
        if UNPACKED.fullmatch(entry.name):
            try:
                if time.time() - _used(entry) > KEPT:
                    _remove(root, entry.path)
            except OSError:  # somebody else was quicker
                pass


def _used(entry: os.DirEntry[str]) -> float:
    """When it was used last; of code its list tells."""
    try:
        return os.stat(entry.path + LIST).st_mtime
    except FileNotFoundError:
        return entry.stat(follow_symlinks=False).st_mtime


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:  # none was ever idle
        return []


def _remove(root: str, path: str) -> None:
    """Remove code, its list, or what was left aside."""
    if path.endswith(LIST):
        os.unlink(path)
        return
    if os.path.basename(path).startswith(ASIDE):
        remove_tree(path)
    else:
        remove_aside(root, path)


def remove_aside(root: str, path: str) -> None:
    """Remove a folder of which nobody is to find a half."""
    aside = folder_aside(root)
    with suppress(FileNotFoundError):  # somebody was quicker
        os.chmod(path, stat.S_IRWXU)  # else it could not be moved
        os.rename(path, os.path.join(aside, "old"))
    remove_tree(aside)

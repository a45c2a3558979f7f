"""Objects, files and folders as blobs with a description, and back.

A description is plain JSON: `type` (object, file or folder), `blob` (a digest), `size` (bytes),
and `file` (the name of the file or folder) or `preview` (of an object).  A file is a blob of one
part.  A folder is one blob, whose first part lists its files and whose other parts they are.
"""

from __future__ import annotations

import json
import mmap
import os
import stat
from typing import TYPE_CHECKING, Any

from pipedeco.blobs import make_private
from pipedeco.errors import StoreError
from pipedeco.serialization import Pickler, joined, plain_value, unpack
from pipedeco.text import preview

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipedeco.blobs import BlobStore

OBJECT = "object"
FILE = "file"
FOLDER = "folder"
MOST_FILES = 20_000  # of a folder; each is mapped while it is written


def is_path(value: Any) -> bool:
    """Whether an artifact is meant as the file or folder of that name."""
    return isinstance(value, str | os.PathLike)


def keep(value: Any, blobs: BlobStore, what: str) -> dict[str, Any]:
    """Write an artifact into the store; its description.

    Raises FileNotFoundError for a path where nothing is, NotPicklable for an object that cannot
    be carried, and ValueError for a folder of too many files.
    """
    if not is_path(value):
        return _keep_object(value, blobs, what)
    path = os.path.abspath(os.fspath(value))
    name = os.path.basename(path)
    if os.path.isdir(path):
        return {"type": FOLDER, "file": name, **_keep_folder(path, blobs)}
    with _Mapped([path]) as content:
        return {"type": FILE, "file": name, "size": len(content[0]), "blob": blobs.put(content)}


def load(description: dict[str, Any], blobs: BlobStore) -> Any:
    """The object of a description.  Raises what its classes raise, and BlobCorrupt."""
    return unpack(description["blob"], blobs, verify=True)


def restore(
    description: dict[str, Any], blobs: BlobStore, target: str, *, mode: int = 0o600
) -> None:
    """Write a file, a folder or a pickle of an object to `target`, which must not exist.

    Parameters
    ----------
    mode: of the files; executable ones may be executed, too.

    Raises BlobCorrupt, OSError where it cannot be written, and StoreError where a folder's list
    leads out of it.
    """
    parts = blobs.get(description["blob"], verify=True)
    if description["type"] != FOLDER:
        content = parts[0] if description["type"] == FILE else joined(parts)
        _write(target, content, mode)
        return
    listed = json.loads(bytes(parts[0]))
    for name, _ in listed:
        _check_inside(name)
    make_private(target)
    for (name, executable), content in zip(listed, parts[1:], strict=True):
        path = os.path.join(target, *name.split("/"))
        make_private(os.path.dirname(path))
        _write(path, content, mode | 0o100 if executable else mode)


def plain_object(description: dict[str, Any], blobs: BlobStore) -> bytes | bytearray | str | None:
    """Bytes or a text as they were kept, None for any other object.  Raises BlobCorrupt.

    Only a pickle of nothing else is read, so that no code of its writer's is executed.
    """
    parts = blobs.get(description["blob"], verify=True)
    return plain_value(parts[0]) if len(parts) == 1 else None


def _check_inside(name: str) -> None:
    """A store may come from somebody else, and so the names in it."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts) or os.path.isabs(name):
        raise StoreError(f"a folder that was kept names a file outside of itself: {name!r}")
    if os.sep != "/" and any(os.sep in part or ":" in part for part in parts):
        raise StoreError(f"a folder that was kept names a file that cannot be here: {name!r}")


def _keep_object(value: Any, blobs: BlobStore, what: str) -> dict[str, Any]:
    packed = Pickler(blobs).dump(value, what)
    blob = blobs.put([packed]) if isinstance(packed, bytes) else packed
    return {"type": OBJECT, "preview": preview(value), "size": blobs.size(blob), "blob": blob}


def _keep_folder(path: str, blobs: BlobStore) -> dict[str, Any]:
    names = sorted(_files(path))
    if len(names) > MOST_FILES:
        raise ValueError(f"{path} has {len(names):,} files; pack more than {MOST_FILES:,} into one")
    paths = [os.path.join(path, *name.split("/")) for name in names]
    listed = [
        [name, bool(os.stat(p).st_mode & stat.S_IXUSR)]
        for name, p in zip(names, paths, strict=True)
    ]
    with _Mapped(paths) as contents:
        blob = blobs.put([json.dumps(listed).encode("utf-8", "surrogatepass"), *contents])
        return {"files": len(names), "size": sum(map(len, contents)), "blob": blob}


def _files(path: str) -> Iterator[str]:
    """The files below a folder, by names relative to it; links are followed, each folder once."""
    seen = {os.path.realpath(path)}
    for folder, below, files in os.walk(path, followlinks=True):
        kept = []
        for name in below:
            real = os.path.realpath(os.path.join(folder, name))
            if real not in seen:
                seen.add(real)
                kept.append(name)
        below[:] = kept
        for name in files:
            if os.path.isfile(os.path.join(folder, name)):  # no sockets, no links to nowhere
                yield os.path.relpath(os.path.join(folder, name), path).replace(os.sep, "/")


class _Mapped:
    """The contents of files, mapped while they are used."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        self.maps: list[Any] = []

    def __enter__(self) -> list[Any]:
        try:
            for path in self.paths:
                with open(path, "rb") as file:
                    empty = os.fstat(file.fileno()).st_size == 0  # which cannot be mapped
                    self.maps.append(
                        b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                    )
        except BaseException:
            self.__exit__()
            raise
        return self.maps

    def __exit__(self, *_: object) -> None:
        for content in self.maps:
            if isinstance(content, mmap.mmap):
                content.close()


def _write(path: str, content: Any, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as file:
        file.write(content)

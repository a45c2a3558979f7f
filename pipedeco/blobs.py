"""Large values as files: named by their content, written aside and renamed, mapped privately.

A blob is one file:

    64 bytes   magic, version, number of parts, length of the file, room for an HMAC
    16 bytes   for each part: its offset and its length
    parts      the first is a pickle, the others its out-of-band buffers, each 64-byte aligned

Its name is the BLAKE3 digest of the whole file.

A folder may have an origin, a folder of an object store in which the same blobs stand by their
digests.  What is not here is fetched from there, once; what is written here goes there by `send`.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from typing import TYPE_CHECKING, Any

from pipedeco.errors import BlobCorrupt, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from blake3 import blake3

    from pipedeco.objects import ObjectFolder

OWNER = "owner"  # the object that says which store a folder elsewhere is of
ORIGIN = "origin"  # the file that notes where values are
MAGIC = b"PIPEDECO"
VERSION = 1
HEADER = struct.Struct("<8sHHIQ32s8x")  # magic, version, flags, parts, length, room for an HMAC
PART = struct.Struct("<QQ")
ALIGNMENT = 64
RENEWED = 1800.0  # seconds for which nobody takes a blob of an origin for garbage, and more
THREADED = 1 << 24  # bytes from which several threads hash quicker than one


class BlobStore:
    """The folder of blobs of one store.

    Parameters
    ----------
    folder: made at the first write, with mode 0700.
    find_origin: tells the origin, None where there is none; asked when it is needed.
    lazy: whether a blob may stay at the origin until somebody reads it here.
    """

    def __init__(
        self,
        folder: str,
        find_origin: Callable[[], ObjectFolder | None] | None = None,
        *,
        lazy: bool = False,
    ) -> None:
        self.folder = folder
        self.lazy = lazy
        self._find_origin = find_origin
        self._sizes: set[int] = set()  # of the large blobs that were put here

    @property
    def origin(self) -> ObjectFolder | None:
        return None if self._find_origin is None else self._find_origin()

    def path(self, digest: str) -> str:
        return os.path.join(self.folder, digest[:2], digest)

    def size(self, digest: str) -> int:
        """The length of a blob in bytes; BlobCorrupt where there is none."""
        try:
            return os.stat(self.path(digest)).st_size
        except FileNotFoundError:
            origin = self.origin
            size = None if origin is None else origin.size(digest)
            if size is None:
                raise self._missing(digest) from None
            return size

    def is_here(self, digest: str) -> bool:
        return os.path.exists(self.path(digest))

    def is_there(self, digest: str) -> bool:
        """Whether the origin has a blob."""
        origin = self.origin
        return origin is not None and origin.size(digest) is not None

    def send(self, digest: str) -> None:
        """Copy a blob to the origin unless it is there and young: what is old may be removed.

        Raises BlobCorrupt where it is nowhere, and StoreError where the origin cannot be reached.
        """
        origin = self.origin
        if origin is None:
            raise StoreError(f"{self.path(digest)} is to be sent, and no setting says where to")
        age = origin.age(digest)
        if age is not None and (age < RENEWED or not self.is_here(digest)):
            return
        if not self.is_here(digest):
            raise self._missing(digest)
        origin.put_file(digest, self.path(digest))

    def bring(self, digest: str) -> None:
        """Copy a blob from the origin unless it is here.

        Raises BlobCorrupt where it is nowhere or arrives damaged, and StoreError where the origin
        cannot be reached.
        """
        if self.is_here(digest):
            return
        origin = self.origin
        if origin is None:
            raise self._missing(digest)
        temporary = self._temporary()
        try:
            origin.fetch(digest, temporary)
            if _digest([memoryview(_mapped(temporary))]) != digest:
                raise self._corrupt(digest, f"what {origin.url} has of it is damaged")
            os.chmod(temporary, 0o600)
            make_private(os.path.dirname(self.path(digest)))
            os.rename(temporary, self.path(digest))
        except (FileNotFoundError, ValueError):  # ValueError: of mmap, for an empty file
            raise self._missing(digest) from None
        except OSError as error:
            raise StoreError(
                f"a value from {origin.url} cannot be written into {self.folder}: {error.strerror}; "
                "free some space"
            ) from error
        finally:
            _remove(temporary)

    def put(self, parts: Sequence[Any]) -> str:
        """Write `parts` (contiguous bytes-like objects) as one blob and return its digest.

        What is there already stays: ext4 writes a file that replaces another one to the disk at
        once, and the next commit of the database would wait for it.
        """
        temporary = ""
        pieces = [memoryview(piece) for piece in _layout(parts)]
        size = sum(piece.nbytes for piece in pieces)
        try:
            if size < THREADED or size in self._sizes:  # one like it may be there
                digest = _digest(pieces)
                if self._renewed(digest, size):
                    return digest
                temporary = self._temporary()
                _write(temporary, pieces)
            else:
                temporary = self._temporary()
                digest = _write_and_digest(temporary, pieces)
                if self._renewed(digest, size):
                    _remove(temporary)
                    return digest
            final = self.path(digest)
            make_private(os.path.dirname(final))
            os.rename(temporary, final)
            if size >= THREADED:
                self._sizes.add(size)
        except BaseException as error:
            if temporary:
                _remove(temporary)
            if not isinstance(error, OSError):
                raise
            needed = sum(memoryview(part).nbytes for part in parts)
            raise StoreError(
                f"cannot write a value of {needed:,} bytes into {self.folder}: {error.strerror}; "
                "free some space or move the store with PIPEDECO_STORE"
            ) from error
        return digest

    def get(self, digest: str, *, verify: bool = False) -> list[memoryview]:
        """The parts of a blob, mapped copy-on-write: who changes them changes its own copy.

        A copy that is damaged is fetched from the origin again, where that has one.  Raises
        BlobCorrupt where the blob is missing, torn, or with `verify` has another digest, and
        StoreError where the origin cannot be reached.
        """
        try:
            return self._parts(digest, verify=verify)
        except BlobCorrupt:
            if not self.is_here(digest) or not self.is_there(digest):
                raise
        _remove(self.path(digest))
        return self._parts(digest, verify=verify)

    def _parts(self, digest: str, *, verify: bool) -> list[memoryview]:
        view = memoryview(self._map(digest))
        if verify and _digest([view]) != digest:
            raise self._corrupt(digest, "its content is not what was written")
        if len(view) < HEADER.size:
            raise self._corrupt(digest, "it is too short")
        magic, version, _, parts, length, _ = HEADER.unpack_from(view)
        if magic != MAGIC or version != VERSION:
            raise self._corrupt(digest, "it is not a blob of this version of pipedeco")
        if length != len(view):
            raise self._corrupt(digest, f"it has {len(view):,} bytes of {length:,}")
        table = [PART.unpack_from(view, HEADER.size + i * PART.size) for i in range(parts)]
        if any(offset + size > length for offset, size in table):
            raise self._corrupt(digest, "its table points outside")
        return [view[offset : offset + size] for offset, size in table]

    def main_part(self, packed: bytes | str) -> bytes | memoryview:
        """The pickle of a packed value, without its buffers; of one that is elsewhere no more is
        fetched than that."""
        if isinstance(packed, bytes):
            return packed
        origin = None if self.is_here(packed) else self.origin
        if origin is None:
            return self.get(packed)[0]
        try:
            begin = origin.read(packed, 0, HEADER.size + PART.size)
            offset, size = PART.unpack_from(begin, HEADER.size)
            return origin.read(packed, offset, offset + size)
        except FileNotFoundError:
            raise self._missing(packed) from None
        except struct.error:
            raise self._corrupt(packed, f"what {origin.url} has of it is too short") from None

    def is_intact(self, digest: str) -> bool:
        """Whether a blob can be read, with the content that was written.

        Raises StoreError where the origin cannot be reached.
        """
        if self.lazy and not self.is_here(digest):
            return self.is_there(digest)
        try:
            self.get(digest, verify=True)
        except (BlobCorrupt, FileNotFoundError):
            return False
        return True

    def _renewed(self, digest: str, size: int) -> bool:
        """Make a blob young, so that no collection takes it; whether it is there and sound."""
        try:
            if os.stat(self.path(digest)).st_size != size:
                return False
            self._parts(digest, verify=True)
            os.utime(self.path(digest))
        except (BlobCorrupt, FileNotFoundError):
            return False
        return True

    def sync(self, digest: str) -> None:
        """Return once the blob would survive a power cut; one that the origin alone has does."""
        if not self.is_here(digest) and self.origin is not None:
            return  # who told of it had sent it before
        for path in (self.path(digest), os.path.dirname(self.path(digest))):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _map(self, digest: str) -> mmap.mmap:
        try:
            return _mapped(self.path(digest))
        except FileNotFoundError:
            pass
        except ValueError:  # what mmap says of an empty file
            raise self._corrupt(digest, "it is empty") from None
        self.bring(digest)
        return _mapped(self.path(digest))

    def _temporary(self) -> str:
        make_private(self.folder)
        return os.path.join(self.folder, f"writing-{os.getpid()}-{os.urandom(8).hex()}")

    def _missing(self, digest: str) -> BlobCorrupt:
        origin = self.origin
        where = "" if origin is None else f", and {origin.url} does not have it either"
        return self._corrupt(digest, f"the file is missing{where}")

    def _corrupt(self, digest: str, what: str) -> BlobCorrupt:
        path = self.path(digest)
        return BlobCorrupt(f"a recorded value cannot be read: {what} ({path}); run the step again")


def blobs_of(store: str, *, lazy: bool = False) -> BlobStore:
    """The blobs of a store, by its folder."""
    return BlobStore(os.path.join(store, "blobs"), lambda: _origin_of(store), lazy=lazy)


def _origin_of(store: str) -> ObjectFolder | None:
    home = known_home(store)
    return None if home is None else home.below("blobs")


def known_home(store: str) -> ObjectFolder | None:
    """Where values of this store may be: as the settings say, else where the last were sent."""
    from pipedeco.objects import ObjectFolder

    home = home_of(store)
    if home is None:
        url = _read_line(os.path.join(store, ORIGIN))
        home = None if url is None else ObjectFolder(f"{url}/{_identity(store)}")
    return home


def home_of(store: str) -> ObjectFolder | None:
    """What this store has in the object store that the settings name; None where they name none.

    Each store has a folder of its own there, so that what is removed from one is not another's.
    Raises ConfigError for a setting that cannot be used, StoreError for a damaged store.
    """
    from pipedeco.config import find_blobs
    from pipedeco.objects import ObjectFolder

    url = find_blobs()
    return None if url is None else ObjectFolder(f"{url.rstrip('/')}/{_identity(store)}")


def keep_home(store: str, home: ObjectFolder) -> None:
    """Note where the values of a store are, for whoever reads them with other settings."""
    url = home.url.rpartition("/")[0]
    path = os.path.join(store, ORIGIN)
    if _read_line(path) != url:
        if home.size(OWNER) is None:
            home.put(OWNER, owner_mark(store))
        os.rename(_written(path, url), path)


def owner_mark(store: str) -> bytes:
    """What tells a store from a copy of it."""
    path = os.path.realpath(store)
    return f"{path} {os.stat(os.path.join(path, 'id')).st_ino}".encode()


def _identity(store: str) -> str:
    """A name for a store, which stays with it; made when it is first asked for."""
    path = os.path.join(store, "id")
    found = _read_line(path)
    if found is None:
        make_private(store)
        aside = _written(path, os.urandom(8).hex())
        try:
            os.link(aside, path)  # of two at once one is first
        except FileExistsError:
            pass
        finally:
            os.unlink(aside)
        found = _read_line(path) or ""
    if len(found) != 16 or not found.isalnum():
        raise StoreError(
            f"{path} is damaged, which names the store's folder in the object store; write that name "
            "into it again, or remove it where nothing is there"
        )
    return found


def _read_line(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except FileNotFoundError:
        return None


def _written(path: str, text: str) -> str:
    """A file beside this one, which would survive a power cut."""
    aside = f"{path}-{os.urandom(8).hex()}"
    with open(aside, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return aside


def _mapped(path: str) -> mmap.mmap:
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def _layout(parts: Sequence[Any]) -> Iterable[Any]:
    """The pieces of a blob's file in order, padding included."""
    views = [memoryview(part).cast("B") for part in parts]
    table = []
    offset = HEADER.size + PART.size * len(views)
    for view in views:
        offset = -(-offset // ALIGNMENT) * ALIGNMENT
        table.append((offset, len(view)))
        offset += len(view)
    yield HEADER.pack(MAGIC, VERSION, 0, len(views), offset, b"")
    position = HEADER.size + PART.size * len(views)
    yield b"".join(PART.pack(*entry) for entry in table)
    for (start, length), view in zip(table, views, strict=True):
        yield bytes(start - position)
        yield view
        position = start + length


def _write(path: str, pieces: Sequence[memoryview]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb", buffering=0) as file:
        for piece in pieces:
            view = piece
            while view:
                view = view[file.write(view) or 0 :]


def _write_and_digest(path: str, pieces: Sequence[memoryview]) -> str:
    """Write a file while another thread hashes what is written; the file's digest.

    Both need a processor and neither the interpreter's lock: 256 MB took 63 ms so, and 90 ms one
    after the other with two threads to hash (medians of seven; writing alone takes 54 ms).
    """
    from blake3 import blake3

    found: list[str] = []

    def digest() -> None:
        hasher = blake3()
        for piece in pieces:
            hasher.update(piece)
        found.append(hasher.hexdigest())

    thread = threading.Thread(target=digest, name="pipedeco-digest", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no more threads
        _write(path, pieces)
        return _digest(pieces)
    try:
        _write(path, pieces)
    finally:
        thread.join()
    return found[0] if found else _digest(pieces)  # which tells why the thread could not


def _digest(pieces: Sequence[memoryview]) -> str:
    hasher = hasher_for(max(piece.nbytes for piece in pieces))
    for piece in pieces:
        hasher.update(piece)
    return hasher.hexdigest()


def hasher_for(size: int) -> blake3:
    """A BLAKE3 hasher with as many threads as pay for pieces of `size` bytes."""
    from blake3 import blake3

    if size < THREADED:
        return blake3()
    # Not blake3.AUTO: its threads are the process's for ever, and a forked child waits for them
    # without end.  With a number, the hasher has threads of its own.
    able = hasattr(os, "sched_getaffinity")
    return blake3(max_threads=len(os.sched_getaffinity(0)) if able else os.cpu_count() or 1)


def make_private(path: str) -> None:
    """Make a folder with its missing parents, for nobody but this user."""
    if not os.path.isdir(path):
        parent = os.path.dirname(path)
        if parent != path:
            make_private(parent)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:  # another process was quicker
            pass


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass

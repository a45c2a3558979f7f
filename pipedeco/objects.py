"""A folder of an object store, or of whatever else fsspec has a file system for.

Names are relative to the folder, with `/` between their parts.  What is written is there as a
whole or not at all: an object store promises that, elsewhere it is written aside and renamed.

Credentials and endpoints are fsspec's own business: FSSPEC_S3_ENDPOINT_URL, AWS_PROFILE,
~/.config/fsspec/ and the like say them to each process on each machine, and none of them travels.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipedeco.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Protocols whose put is atomic: a reader sees the old object or the new one.
ATOMIC = frozenset({
    "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "obs", "cos",
})  # fmt: skip
LOCAL = frozenset({"file", "local"})
ASIDE = ".writing"  # the folder of what is not whole yet, where put is not atomic
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs"}


class ObjectFolder:
    """A folder by its URL, such as s3://bucket/team; opened when it is first used.

    Every method raises StoreError, which names the URL, where the store cannot be reached or
    refuses, and ConfigError where the package for its protocol is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.protocol = url.partition("://")[0]
        self._opened: tuple[Any, str] | None = None

    def below(self, name: str) -> ObjectFolder:
        return ObjectFolder(f"{self.url}/{name}")

    def check(self) -> None:
        """Raise ConfigError unless there is something here that opens such URLs; nothing is asked."""
        self._open()

    def put(self, name: str, data: bytes) -> None:
        """Write an object, over what is there."""
        with self._told("cannot be written", name):
            self._write(name, lambda fs, path: fs.pipe_file(path, data))

    def put_file(self, name: str, path: str) -> None:
        """Write a file of this machine as an object."""
        with self._told("cannot be written", name):
            self._write(name, lambda fs, target: fs.put_file(path, target))

    def claim(self, name: str) -> bool:
        """Write an object of a name that nobody else has claimed; whether it is ours.

        What is there decides, not what the store answered: a request that was tried again, or that
        met another's, is refused in as many ways as there are stores.  Of two at one moment both
        may be told so, where the file system cannot exclude that.
        """
        token = os.urandom(16)
        try:
            with self._told("cannot be written", name):
                fs, root = self._open()
                if fs.exists(f"{root}/{name}"):
                    return False
                if self.protocol not in ATOMIC:
                    fs.makedirs(os.path.dirname(f"{root}/{name}"), exist_ok=True)
                fs.pipe_file(f"{root}/{name}", token, mode="create")
        except StoreError:
            try:
                return self.read(name) == token
            except FileNotFoundError:
                pass
            raise
        return True

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """The bytes of an object, or a part of them; raises FileNotFoundError where it is not."""
        with self._told("cannot be read", name, absent=True):
            fs, root = self._open()
            return bytes(fs.cat_file(f"{root}/{name}", start=start, end=end))

    def fetch(self, name: str, path: str) -> None:
        """Copy an object into a file of this machine; raises FileNotFoundError where it is not."""
        with self._told("cannot be read", name, absent=True):
            fs, root = self._open()
            fs.get_file(f"{root}/{name}", path)

    def size(self, name: str) -> int | None:
        """Bytes of an object; None where it is not there."""
        try:
            with self._told("cannot be read", name, absent=True):
                fs, root = self._open()
                return int(fs.size(f"{root}/{name}"))
        except FileNotFoundError:
            return None

    def names(self, below: str = "") -> list[str]:
        """The objects and folders that stand directly in a folder, by their last part, in order."""
        try:
            with self._told("cannot be listed", below, absent=True):
                fs, root = self._open()
                found = fs.ls(f"{root}/{below}".rstrip("/"), detail=False, refresh=True)
        except FileNotFoundError:
            return []
        names = (os.path.basename(path.rstrip("/")) for path in found)
        return sorted(name for name in names if name != ASIDE)

    def age(self, name: str) -> float | None:
        """Seconds since an object was written; None where it is not there."""
        try:
            with self._told("cannot be read", name, absent=True):
                fs, root = self._open()
                return time.time() - float(fs.modified(f"{root}/{name}").timestamp())
        except FileNotFoundError:
            return None

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects, and folders with all that is in them; what is not there is no error."""
        for name in names:
            try:
                with self._told("cannot be removed", name, absent=True):
                    fs, root = self._open()
                    fs.rm(f"{root}/{name}", recursive=True)
            except FileNotFoundError:
                continue

    def _open(self) -> tuple[Any, str]:
        """The file system, and the path of the folder within it."""
        if self._opened is None:
            try:
                from fsspec.core import url_to_fs

                # No listing is remembered: the other side changes what is there.
                fs, root = url_to_fs(self.url, use_listings_cache=False)
            except ImportError as error:
                package = PACKAGES.get(self.protocol, f"the package for {self.protocol}://")
                raise ConfigError(
                    f"{self.url} needs what is not installed here ({error}); install it with: "
                    f"pip install fsspec {package}"
                ) from None
            except ValueError as error:  # a protocol that nobody knows
                raise ConfigError(f"{self.url} is no URL that fsspec knows: {error}") from None
            self._opened = fs, root.rstrip("/")
        return self._opened

    def _write(self, name: str, write: Any) -> None:
        fs, root = self._open()
        path = f"{root}/{name}"
        if self.protocol in ATOMIC:
            write(fs, path)
            return
        aside = f"{root}/{ASIDE}/{os.urandom(8).hex()}"
        for folder in (os.path.dirname(aside), os.path.dirname(path)):
            fs.makedirs(folder, exist_ok=True)
        write(fs, aside)
        fs.mv(aside, path)

    @contextmanager
    def _told(self, what: str, name: str, *, absent: bool = False) -> Iterator[None]:
        """Whatever a file system raises, in a sentence; with `absent` FileNotFoundError as it is."""
        try:
            yield
        except (ConfigError, StoreError):
            raise
        except Exception as error:  # a library's, of any kind: botocore's are no OSError
            if absent and isinstance(error, FileNotFoundError):
                raise
            place = f"{self.url}/{name}".rstrip("/")
            cure = (
                "see that the folder can be made and written here"
                if self.protocol in LOCAL
                else "see that this machine reaches it, that the bucket is there, and that this "
                "process has the credentials (AWS_PROFILE, FSSPEC_S3_KEY)"
            )
            raise StoreError(
                f"{place} {what}: {str(error) or type(error).__name__}; {cure}"
            ) from error

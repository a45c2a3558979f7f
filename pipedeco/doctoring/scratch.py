"""A folder of our own in the store, of which nothing stays, and one where workers look for it."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from pipedeco.blobs import make_private
from pipedeco.config import find_blobs, find_store
from pipedeco.errors import PipedecoError
from pipedeco.objects import ObjectFolder
from pipedeco.worker.probing import HELLO

if TYPE_CHECKING:
    from types import TracebackType


class Scratch:
    """Where the store can be tried: in the folder in which runs keep what engines read.

    A store that is not there yet is made as far as that needs, and taken away afterwards.

    Parameters
    ----------
    store: the folder of the store; by default the one that a run here would use.
    """

    def __init__(self, store: str | None = None) -> None:
        self.store = ""
        self.folder = ""
        self.hello = os.urandom(8).hex()  # what workers are to read
        self.trouble = ""  # why there is no folder
        self.objects: ObjectFolder | None = None  # where workers look; else in the folder
        self.distance = ""  # why that cannot be used
        self._made: list[str] = []  # folders, the innermost first
        try:
            self.store = find_store(store)
        except PipedecoError as error:
            self.trouble = str(error)
            return
        name = f"doctor-{os.urandom(4).hex()}"
        self.folder = os.path.join(self.store, "remote", name)
        try:
            url = find_blobs()
            self.objects = None if url is None else ObjectFolder(f"{url.rstrip('/')}/{name}")
        except PipedecoError as error:
            self.distance = str(error)

    def __enter__(self) -> Scratch:
        if not self.folder:
            return self
        self._made = _missing(self.folder)
        try:
            make_private(self.folder)
            with open(os.path.join(self.folder, HELLO), "w", encoding="utf-8") as file:
                file.write(self.hello)
        except OSError as error:
            self.trouble = f"{error.filename}: {error.strerror}"
        if self.objects is not None:
            try:
                self.objects.put(HELLO, self.hello.encode())
                self.objects.read(HELLO)
            except (PipedecoError, FileNotFoundError) as error:
                self.distance = str(error)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.objects is not None and not self.distance:
            try:
                above, _, name = self.objects.url.rpartition("/")
                ObjectFolder(above).remove([name])
            except PipedecoError:  # it has answered a moment ago; nothing in it is needed
                pass
        shutil.rmtree(self.folder, ignore_errors=True)
        for folder in self._made:
            try:
                os.rmdir(folder)
            except OSError:  # never made, or a run has begun meanwhile and uses it
                pass

    @property
    def usable(self) -> bool:
        return not self.trouble

    @property
    def reachable(self) -> bool:
        """Whether workers can be asked to read and write."""
        return not self.trouble and not self.distance

    @property
    def address(self) -> str:
        """Where workers look: a path, or a URL."""
        known = self.objects if not self.distance else None
        return self.folder if known is None else known.url

    def place(self, name: str) -> str:
        """A path within."""
        return os.path.join(self.folder, name)


def _missing(folder: str) -> list[str]:
    """The folders on the way to this one that are not there, the innermost first."""
    found = []
    while not os.path.isdir(folder):
        found.append(folder)
        parent = os.path.dirname(folder)
        if parent == folder:
            break
        folder = parent
    return found

"""What a store has in an object store, and which of it nobody needs any more.

Nothing of an object store tells whether somebody relies on an object at this moment.  Therefore:

1.  Nothing is removed while a run of this store goes on.
2.  A value goes only when it is older than an hour, which is looked at just before; whoever is about
    to rely on one that is older than half an hour writes it again (`BlobStore.send`).
3.  A store that was copied has the same name there as the one it was copied from: only the one that
    was there first removes anything.

What stays, the next removal finds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipedeco.blobs import OWNER, RENEWED, known_home, owner_mark
from pipedeco.errors import PipedecoError, StoreError
from pipedeco.housekeeping.access import reading, someone_lives

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    from pipedeco.objects import ObjectFolder

KEPT = "blobs", "code"  # folders of what is written once and used by many
OLD = 2 * RENEWED  # seconds


def collect_elsewhere(folder: str, known: Callable[[sqlite3.Connection], set[str]]) -> None:
    """Remove what nothing refers to from the object store of this store, if it has one.

    Parameters
    ----------
    folder: of the store.
    known: the digests that are recorded somewhere.

    Raises StoreError where the object store cannot be reached.
    """
    home = known_home(folder)
    if home is None:
        return
    try:
        if someone_lives(folder) or not _is_owner(home, folder):
            return
        with reading(folder) as connection:
            needed = known(connection)
        for name in _garbage(home, needed):
            if someone_lives(folder):
                return
            home.remove([name])
    except PipedecoError as error:
        raise StoreError(
            f"what nobody needs any more is removed here, and not all of it elsewhere: {error}; the "
            "next removal tries again"
        ) from error


def _garbage(home: ObjectFolder, needed: set[str]) -> Iterator[str]:
    for name in home.names():  # of controllers that died
        if name not in (*KEPT, OWNER):
            yield name
    for kind in KEPT:
        for digest in home.names(kind):
            if digest not in needed and (home.age(f"{kind}/{digest}") or 0.0) > OLD:
                yield f"{kind}/{digest}"


def _is_owner(home: ObjectFolder, folder: str) -> bool:
    """Whether a store is the one that its folder elsewhere was made for."""
    try:
        return home.read(OWNER) == owner_mark(folder)
    except FileNotFoundError:  # nothing was ever put there
        return False

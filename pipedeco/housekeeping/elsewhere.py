"""What a store has in an object store, and which of it nobody needs any more.

A station does not send a value again that is there already, and nothing of an object store tells
whether somebody relies on an object at this moment.  Therefore nothing is removed there while a run
of this store goes on; what stays, the next removal finds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipedeco.blobs import home_of
from pipedeco.housekeeping.access import reading, someone_lives

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

BLOBS = "blobs"
AT_ONCE = 100  # objects that are removed before it is asked again who lives


def collect_elsewhere(folder: str, known: Callable[[sqlite3.Connection], set[str]]) -> int:
    """Remove what nothing refers to from the object store that the settings name, if any.

    Parameters
    ----------
    folder: of the store.
    known: the digests that are recorded somewhere.

    Returns how many objects and folders those were; raises StoreError where the object store cannot
    be reached.
    """
    home = home_of(folder)
    if home is None:
        return 0
    listed = home.names(BLOBS)  # before anything is asked, as in garbage.py
    # Archives of code are sent again by whoever needs one; the rest is of controllers that died.
    doomed = [name for name in home.names() if name != BLOBS]
    with reading(folder) as connection:
        doomed += [f"{BLOBS}/{digest}" for digest in set(listed) - known(connection)]
    for start in range(0, len(doomed), AT_ONCE):
        if someone_lives(folder):
            return start
        home.remove(doomed[start : start + AT_ONCE])
    return len(doomed)

"""What the cache knows: its entries, and their removal.

An entry says which recorded step has the value for a key.  Without it the value stays in its run,
and serves no hits.
"""

from __future__ import annotations

import math
import os
import re
import time
from typing import TYPE_CHECKING, NamedTuple

from pipedeco.blobs import BlobStore, blobs_of
from pipedeco.config import find_store
from pipedeco.errors import BlobCorrupt, ConfigError
from pipedeco.housekeeping.access import reading, writing
from pipedeco.housekeeping.removal import parse_age
from pipedeco.store.database import as_dicts, database_path, queries

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from pipedeco.housekeeping.access import Row

FILE = "explaining.sql"
UNLIMITED = -1


class Entry(NamedTuple):
    """One value that the cache knows.

    `run`, `run_name`, `step`, `component`: which step made it.  `made`: seconds since the epoch.
    `size`: in bytes, None where its file is gone.  `hits`: how many recorded steps have it from
    there.  `archived`: whether its run is, so that it serves none.
    """

    key: str
    component: str
    step: str
    run: str
    run_name: str
    made: float
    size: int | None
    hits: int
    archived: bool
    preview: str | None


def entries(
    component: str | None = None, *, limit: int | None = None, store: str | None = None
) -> list[Entry]:
    """The cache's entries, the newest first.

    Parameters
    ----------
    component: only the values of the component of this name.
    limit: at most so many.
    store: the folder of the store; by default the one that a run here would use.
    """
    folder = find_store(store)
    if not os.path.exists(database_path(folder)):
        return []
    blobs = blobs_of(folder)
    most = UNLIMITED if limit is None else limit
    with reading(folder) as connection:
        found = as_dicts(_execute(connection, "entries", component=component, limit=most))
    return [_entry(row, blobs) for row in found]


def count_entries(component: str | None = None, *, store: str | None = None) -> int:
    """How many entries `entries` gives without a limit."""
    folder = find_store(store)
    if not os.path.exists(database_path(folder)):
        return 0
    with reading(folder) as connection:
        return int(_execute(connection, "count_entries", component=component).fetchone()[0])


def cached_components(*, store: str | None = None) -> list[str]:
    """The names of the components of which the cache knows values."""
    folder = find_store(store)
    if not os.path.exists(database_path(folder)):
        return []
    with reading(folder) as connection:
        return [name for (name,) in _execute(connection, "entry_components")]


def remove_entries(
    keys: Sequence[str] = (),
    *,
    component: str | None = None,
    older_than: str | float | None = None,
    everything: bool = False,
    dry_run: bool = False,
    store: str | None = None,
) -> list[str]:
    """Remove entries of the cache; the runs keep their values.

    Parameters
    ----------
    keys: unique prefixes of keys.
    component: the entries of the component of this name.
    older_than: those whose value was made so long ago: seconds, or text as "7d", "12h", "2w".
    everything: all entries.
    dry_run: change nothing, and tell what would be removed.
    store: as for `entries`.

    With both `component` and `older_than`, both must hold.  Returns the keys.
    Raises ConfigError where it is not said what to remove, or a key is not there; StoreError.
    """
    _check_asked(keys, component is not None or older_than is not None, everything)
    before = math.inf if older_than is None else time.time() - parse_age(older_than)
    folder = find_store(store)
    if not os.path.exists(database_path(folder)) and not keys:
        return []
    with writing(folder, keep=not dry_run) as connection:
        if keys:
            doomed = list(dict.fromkeys(_find(connection, key) for key in keys))
        else:
            chosen = _execute(connection, "chosen_entries", component=component, before=before)
            doomed = [key for (key,) in chosen]
        for key in doomed:
            _execute(connection, "rm_entry", key=key)
    return doomed


def _check_asked(keys: Sequence[str], filtered: bool, everything: bool) -> None:
    asked = [bool(keys), filtered, everything]
    if not any(asked):
        raise ConfigError(
            "what to remove is not said; name keys, --component NAME, --older-than 7d, or --all"
        )
    if sum(asked) > 1:
        raise ConfigError(
            "name either keys, or --all, or --component NAME with or without --older-than 7d"
        )


def _find(connection: sqlite3.Connection, key: str) -> str:
    """The key that begins so."""
    prefix = key.lower()
    valid = re.fullmatch(r"[0-9a-f]{1,64}", prefix)
    found = (
        [k for (k,) in _execute(connection, "entries_with_prefix", prefix=prefix)] if valid else []
    )
    if len(found) > 1:
        raise ConfigError(f"more than one key begins with {key!r}; type more of it")
    if not found:
        raise ConfigError(
            f"no key of the cache begins with {key!r}; list them with: pipedeco cache ls"
        )
    return str(found[0])


def _entry(row: Row, blobs: BlobStore) -> Entry:
    size = row["size"]
    if row["digest"] is not None:
        try:
            size = blobs.size(row["digest"])
        except BlobCorrupt:
            size = None
    name = f"{row['pipeline']}#{row['number']}"
    return Entry(
        row["key"], row["component"], row["step"], row["run"], name, row["created"], size,
        row["hits"], bool(row["archived"]), row["preview"],
    )  # fmt: skip


def _execute(connection: sqlite3.Connection, name: str, /, **parameters: object) -> sqlite3.Cursor:
    return connection.execute(queries(FILE)[name], parameters)

"""What is recorded of steps, as far as it tells why they were performed."""

from __future__ import annotations

import json
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from pipedeco.blobs import blobs_of
from pipedeco.errors import RunNotFound, StoreError
from pipedeco.store.database import as_dicts, connect_to_read, queries
from pipedeco.store.rows import SHIFT, step_id, unpack_positions

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

FILE = "explaining.sql"
COMPARED = ("completed", "cached", "failed")  # states of steps whose key was looked at in full

Row = dict[str, Any]


@contextmanager
def reading(store: str) -> Iterator[Records]:
    """The records of a store as they are at one moment.  Raises StoreError."""
    import sqlite3

    with closing(connect_to_read(store)) as connection:
        try:
            connection.execute("begin")
            yield Records(store, connection)
        except sqlite3.Error as error:
            raise StoreError(f"the store {store} cannot be read: {error}") from error


def decoded(text: str | None) -> dict[str, Any]:
    """A JSON object; an empty one where the text is something else."""
    try:
        found = json.loads(text or "{}")
    except ValueError:  # of an imported run
        return {}
    return found if isinstance(found, dict) else {}


def key_parts(step: Row) -> dict[str, Any]:
    """What a step's key is made of, and what was in the way."""
    found = decoded(step["parts"])
    for name in ("arguments", "inputs"):
        digests = found.get(name)
        there = digests.items() if isinstance(digests, dict) else ()
        found[name] = {part: str(digest) for part, digest in there}
    return found


class Records:
    """Reads a store; what was read once is kept.

    Parameters
    ----------
    store: its folder.
    connection: to its database.
    """

    def __init__(self, store: str, connection: sqlite3.Connection) -> None:
        self.store = store
        self.blobs = blobs_of(store)
        self._connection = connection
        self._components: dict[tuple[int, int], Row] = {}
        self._nearest: dict[tuple[int, str], tuple[Row, list[Row]] | None] = {}
        self._range = {"first": 0, "last": 0}
        self._equal: dict[str, list[Row]] | None = None

    def run(self, run: str) -> Row:
        found = self._fetch("explained_run", id=run)
        if not found:
            raise RunNotFound(f"run {run} is not in the store {self.store}")
        return found[0]

    def steps(self, seq: int, name: str | None = None) -> list[Row]:
        """The steps of a run, or the one of that name."""
        first, last = step_id(seq, 0), step_id(seq + 1, 0)
        return self._fetch("explained_steps", first=first, last=last, name=name)

    def component(self, step: Row) -> Row:
        place = (step["id"] >> SHIFT, step["number"])
        if place not in self._components:
            run, number = place
            found = self._fetch("explained_component", run=run, number=number)
            self._components[place] = found[0]
        return self._components[place]

    def arguments(self, step: Row) -> Row:
        """`args` as they are stored, and `inputs`: the ids of the steps whose values are in them."""
        row = self._fetch("explained_arguments", id=step["id"])[0]
        first = step["id"] >> SHIFT << SHIFT
        return {**row, "inputs": [first + place for place in unpack_positions(row["inputs"])]}

    def named(self, step: int) -> Row:
        """The name and the preview of a step."""
        found = self._fetch("step_and_preview", id=step)
        return found[0] if found else {"name": "?", "preview": None}

    def with_run(self, step: int) -> Row | None:
        """A step with its run; None where that was removed."""
        found = self._fetch("step_of_run", id=step)
        return found[0] if found else None

    def child_run(self, run: str, step: str) -> str | None:
        found = self._fetch("explained_child", run=run, step=step)
        return str(found[0]["id"]) if found else None

    def look_for_equal(self, first: int, last: int) -> None:
        """`equal` is going to be asked of steps from `first` to before `last`."""
        self._range = {"first": first, "last": last}
        self._equal = None

    def equal(self, step: Row) -> list[Row]:
        """Other steps of its key that began before it, the newest first."""
        if self._equal is None:  # the keys of all steps are looked at for that, once
            self._equal = {}
            for row in self._fetch("equal_keys", **self._range):
                self._equal.setdefault(row["key"], []).append(row)
        return [
            row
            for row in self._equal.get(step["key"], ())
            if row["id"] != step["id"] and (row["started"] or 0.0) <= (step["started"] or 0.0)
        ]

    def nearest(self, run: Row, step: Row) -> tuple[Row, list[Row]] | None:
        """The last run before that has keys of the step's component, and these steps.

        Of the same pipeline; where that has none, of the same function anywhere.
        """
        place = (run["seq"], step["component"])
        if place not in self._nearest:
            self._nearest[place] = self._find_nearest(run, step)
        return self._nearest[place]

    def _find_nearest(self, run: Row, step: Row) -> tuple[Row, list[Row]] | None:
        facts = {
            "seq": run["seq"],
            "name": step["component"],
            "module": step["module"],
            "qualname": step["qualname"],
        }
        found: list[Row] = []
        for pipeline in (run["pipeline"], None):
            for hidden in (0, 1):  # archived or imported runs where there is no other
                found = found or self._fetch(
                    "nearest_run", pipeline=pipeline, hidden=hidden, **facts
                )
        if not found:
            return None
        steps = [
            row
            for row in self.steps(found[0]["seq"])
            if row["keyed"] and row["component"] == step["component"] and row["state"] in COMPARED
        ]
        return found[0], steps

    def _fetch(self, query: str, /, **parameters: Any) -> list[Row]:
        return as_dicts(self._connection.execute(queries(FILE)[query], parameters))

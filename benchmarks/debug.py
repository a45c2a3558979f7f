"""The overhead of a step in debug mode, beside the least that recording one can cost."""

from __future__ import annotations

import pickle
import sqlite3
import tempfile
import time
from contextlib import closing
from functools import partial
from pathlib import Path

from benchmarks.measure import timed
from benchmarks.steps import increment

STEPS = 2_000
GROUP = 1_000


def pipedeco(quick: bool) -> list[float]:
    """Return seconds a step of a pipeline in debug mode."""
    from benchmarks.systems.ours import fan_out

    fan_out.debug(STEPS // 10)
    return [timed(lambda: fan_out.debug(STEPS)) / STEPS for _ in range(2 if quick else 7)]


def by_hand(quick: bool) -> list[float]:
    """Return seconds a step that is called, pickled in and out, and written as one row."""
    path = Path(tempfile.gettempdir(), "by-hand.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute(
            "CREATE TABLE steps (run TEXT, seq INTEGER, name TEXT, component TEXT, state TEXT,"
            " started REAL, ended REAL, inputs BLOB, result BLOB, PRIMARY KEY (run, seq))"
            " WITHOUT ROWID"
        )
        runs = [partial(_record, database, f"run-{i}") for i in range(2 if quick else 7)]
        return [timed(run) / STEPS for run in runs]


def _record(database: sqlite3.Connection, run: str) -> None:
    """Perform STEPS steps; commit them in groups, as one that writes many rows would."""
    for first in range(0, STEPS, GROUP):
        database.execute("BEGIN IMMEDIATE")
        for i in range(first, first + GROUP):
            started = time.time()
            inputs = pickle.dumps(((i,), {}), 5)
            result = pickle.dumps(increment(i), 5)
            name, times = f"increment-{i}", (started, time.time())
            database.execute(
                "INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (run, i, name, "increment", "completed", *times, inputs, result),
            )
        database.execute("COMMIT")


def dask(quick: bool) -> list[float]:
    """Return seconds a step of Dask's synchronous scheduler, which records nothing."""
    from dask import compute, delayed

    def run() -> None:
        step = delayed(increment, pure=False)
        compute([step(i) for i in range(STEPS)], scheduler="sync")

    run()
    return [timed(run) / STEPS for _ in range(1 if quick else 3)]

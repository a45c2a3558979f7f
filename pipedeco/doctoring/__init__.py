"""Is all well here?  What `pipedeco doctor` looks at: by doing it, not by reading settings.

lines      what is told of one thing: Line
scratch    a folder of our own in the store, of which nothing stays
store      can the store be written, and is it what this pipedeco knows
steps      a step that is really performed, by whoever is to perform it
queues     the engines, all at once, and what their workers answer
installed  callbacks that installed distributions bring
tools      Python, and programs and libraries that are there or not
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipedeco.doctoring.lines import ERROR, OK, WARNING, Line

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["ERROR", "OK", "WARNING", "Line", "examine"]


def examine(store: str | None = None) -> Generator[Line, None, None]:
    """Look at everything; a line as soon as it is known.

    Parameters
    ----------
    store: the folder of the store; by default the one that a run here would use.

    Nothing raises for what is wrong, and nothing is waited for longer than some seconds.
    """
    from pipedeco.doctoring.installed import look_at_callbacks
    from pipedeco.doctoring.queues import visit_queues
    from pipedeco.doctoring.scratch import Scratch
    from pipedeco.doctoring.steps import look_at_workers
    from pipedeco.doctoring.store import look_at_blobs, look_at_store
    from pipedeco.doctoring.tools import look_at_python, look_at_tools, look_at_unpacked

    yield look_at_python()
    with Scratch(store) as scratch:
        yield from look_at_store(scratch)
        yield from look_at_blobs(scratch)
        yield look_at_workers(scratch)
        yield from visit_queues(scratch)
    yield from look_at_callbacks()
    yield look_at_unpacked()
    yield from look_at_tools()

"""The mark of a nursery, by which whoever has come from it is found when nobody above it is left.

The guard and the nursery inherit every process that a step leaves, and end it. Where both are killed
with their workers, nobody has these processes as descendants any more. But each of them has the mark
in its environment: it was forked from the nursery's program, or has inherited the variable.
"""

from __future__ import annotations

import os

from pipedeco.worker.children import is_tracker, kill

MARK = "PIPEDECO_NURSERY"
PASSES = 10  # over processes that may fork meanwhile


def new_mark() -> str:
    return os.urandom(8).hex()


def own_mark() -> dict[str, str]:
    """The variable as this process has it, for the environment of what it starts."""
    mark = os.environ.get(MARK)
    return {} if mark is None else {MARK: mark}


def kill_marked(mark: str) -> None:
    """Kill every process with this mark; resource trackers end by themselves."""
    for _ in range(PASSES):
        found = [pid for pid in _marked(f"{MARK}={mark}".encode()) if not is_tracker(pid)]
        for pid in found:
            kill(pid)
        if not found:
            return


def _marked(variable: bytes) -> list[int]:
    own = os.getpid()
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and int(entry) != own:
            try:
                with open(f"/proc/{entry}/environ", "rb") as file:
                    if variable in file.read().split(b"\0"):
                        found.append(int(entry))
            except OSError:  # it has ended meanwhile, or is another user's
                continue
    return found

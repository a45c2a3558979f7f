"""The mark of a nursery, by which whoever has come from it is found when nobody above it is left.

The guard and the nursery inherit every process that a step leaves, and end it.  Where both are killed
with their workers, nobody has these processes as descendants any more.  But each of them has the mark
in its environment: it was forked from the nursery's program, or has inherited the variable.
"""

from __future__ import annotations

import os
import signal

from pipedeco.worker.children import is_tracker

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
    variable = f"{MARK}={mark}".encode()
    for _ in range(PASSES):
        pids = [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]
        if not sum([_kill_where_marked(pid, variable) for pid in pids if pid != os.getpid()]):
            return


def _kill_where_marked(pid: int, variable: bytes) -> bool:
    """Kill a process that has the variable; whether it has."""
    try:
        process = os.pidfd_open(pid)  # of another process, where the number is used again
    except OSError:  # it has ended meanwhile
        return False
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            if variable not in file.read().split(b"\0") or is_tracker(pid):
                return False
        signal.pidfd_send_signal(process, signal.SIGKILL)
    except OSError:  # the same, or another user's
        return False
    finally:
        os.close(process)
    return True

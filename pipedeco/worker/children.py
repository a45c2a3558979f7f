"""The processes below this one: which there are, which stay, and how they end.

Linux tells of them in /proc; where there is none, a process is taken to have none below it.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

TRACKER_GRACE = 1.0  # seconds that a resource tracker has to unlink what its users have left
QUICKEST = 100_000  # nanoseconds in which no process can be started
PASSES = 2  # over the processes below one that may fork meanwhile
MANY_DEAD = 64  # children that nobody has waited for, after which a worker is replaced
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


class _Entry(NamedTuple):
    """A process as /proc shows it."""

    parent: int
    began: float  # seconds since the system's start
    dead: bool  # a zombie


def has_children() -> bool:
    """Whether this process has any child, reaped or not; about a microsecond."""
    if not hasattr(os, "waitid"):  # where it is missing nobody is looked after
        return False
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def listed_children() -> bytes | None:
    """The children of this process in the system's words, by threads; None where it has none.

    It takes some microseconds a thread, where looking through /proc takes that a process.
    """
    found = []
    try:
        for thread in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{thread}/children", "rb") as file:
                found.append(file.read())
    except OSError:  # a thread has ended meanwhile, or the kernel lists no children
        return None
    return b"".join(found)


def children_of(parent: int) -> list[int]:
    """The children of a process, the dead ones too; empty where there is no /proc."""
    return [pid for pid, entry in _processes().items() if entry.parent == parent]


def descendants_of(*roots: int) -> dict[int, float]:
    """The living processes below some, and when each began in seconds since the system's start."""
    processes = _processes()
    found: dict[int, float] = {}
    level = set(roots)
    while level:
        below = {p: e for p, e in processes.items() if e.parent in level and p not in found}
        found |= {pid: entry.began for pid, entry in below.items()}
        level = set(below)
    return {pid: began for pid, began in found.items() if not processes[pid].dead}


def began_since(monotonic: int) -> list[int]:
    """The processes below this one that have begun since a time of the monotonic clock.

    Resource trackers are none of them: they look after what a library keeps.

    Parameters
    ----------
    monotonic : int
        Nanoseconds.
    """
    if not hasattr(time, "CLOCK_BOOTTIME"):  # Linux alone has it, and /proc
        return []
    passed = (time.monotonic_ns() - monotonic) / 1e9
    since = time.clock_gettime(time.CLOCK_BOOTTIME) - passed - 1 / _TICKS
    found = descendants_of(os.getpid())
    return [pid for pid, began in found.items() if began >= since and not is_tracker(pid)]


def has_many_dead() -> bool:
    """Whether so many children are dead and not waited for that numbers might run out."""
    own = os.getpid()
    return sum(e.dead for e in _processes().values() if e.parent == own) > MANY_DEAD


def is_tracker(pid: int) -> bool:
    """Whether a process is a resource tracker, of multiprocessing or of one of its kin.

    It ignores the signals that could end it, and unlinks shared memory and semaphores when the
    last process that uses them is gone.
    """
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"resource_tracker" in file.read()
    except OSError:
        return False


def bury(keep: frozenset[int] = frozenset()) -> list[int]:
    """Kill every descendant of this process until none is left, but for `keep`.

    This process is a subreaper, so whoever loses its parent becomes a child of ours.

    Returns
    -------
    list of int
        Resource trackers, which are spared: they end by themselves after those that they serve.
    """
    while True:
        children = [pid for pid in children_of(os.getpid()) if pid not in keep]
        trackers = [pid for pid in children if is_tracker(pid)]
        doomed = [pid for pid in children if pid not in trackers]
        if not doomed:
            return trackers
        for pid in doomed:
            kill(pid)
        for pid in doomed:
            reap(pid)


def bury_all() -> None:
    """Leave no process below this one; trackers have a moment for their work."""
    deadline = time.monotonic() + TRACKER_GRACE
    while (trackers := bury()) and time.monotonic() < deadline:
        wait_for(trackers[0], deadline - time.monotonic())
        reap(trackers[0], os.WNOHANG)
    for pid in trackers:
        kill(pid)
        reap(pid)


def kill_trees(roots: Iterable[int]) -> None:
    """Kill processes and those below them, but for resource trackers."""
    stopped = [root for root in roots if _signalled(root, signal.SIGSTOP)]  # to start no more
    for _ in range(PASSES):
        for pid in descendants_of(*stopped):
            if not is_tracker(pid):
                kill(pid)
    for root in stopped:
        kill(root)


def kill(pid: int) -> None:
    """Send SIGKILL to a process that may be gone."""
    _signalled(pid, signal.SIGKILL)


def _signalled(pid: int, number: int) -> bool:
    """Send a signal to a process, where it is there and ours."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):  # it has ended, or has become another user's
        return False
    return True


def reap(pid: int, options: int = 0) -> None:
    """Wait for a child that ends, unless somebody else has."""
    try:
        os.waitpid(pid, options)
    except ChildProcessError:
        pass


def wait_for(pid: int, seconds: float) -> None:
    """Wait for the end of a process, which is not reaped."""
    import select

    try:
        end = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()  # descriptors of 1024 and more, too
        poll.register(end, select.POLLIN)
        poll.poll(max(0.0, seconds) * 1000)
    finally:
        os.close(end)


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process; Linux alone has it."""
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def _processes() -> dict[int, _Entry]:
    """Every process that can be seen."""
    found: dict[int, _Entry] = {}
    for entry in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if entry.isdecimal():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:  # it ended meanwhile
                continue
            found[int(entry)] = _Entry(int(fields[1]), int(fields[19]) / _TICKS, fields[0] == b"Z")
    return found

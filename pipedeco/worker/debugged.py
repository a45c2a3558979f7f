"""The nursery of a program that a debugger has started.

The debugger makes each Python process that the program starts wait for it.  Where it stops before it
has attached to the nursery, that would wait for ever: it has a session of its own, and has not come
to the lines that watch its controller.
"""

from __future__ import annotations

import os
import posix
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ATTENDANT = (
    "import sys;sys.path.append(sys.argv[1]);from pipedeco.worker.guard import attend;"
    "attend(int(sys.argv[2]))"
)


def start_attendant(root: str) -> Callable[[int], None]:
    """Start a process that kills the nursery where it outlives this one.

    Parameters
    ----------
    root : str
        The folder in which pipedeco is found.

    Returns
    -------
    callable
        Tells it the nursery's pid.
    """
    theirs, ours = os.pipe()
    command = [sys.executable, "-S", "-P", "-c", ATTENDANT, root, str(os.getpid())]
    # Not os.posix_spawn, in whose place the debugger has one that starts what waits for it.
    pid = posix.posix_spawn(
        sys.executable, command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, theirs, 0)]
    )
    os.close(theirs)
    try:
        os.waitpid(pid, 0)  # it has forked, and is gone in a moment
    except ChildProcessError:  # the user's code waits for every child
        pass

    def tell(nursery: int) -> None:
        try:
            os.write(ours, str(nursery).encode())
        except BrokenPipeError:  # somebody has killed it
            pass
        os.close(ours)

    return tell

"""The guard: a process above the nursery that ends what the nursery cannot.

The nursery inherits what its workers leave, but nobody would inherit from the nursery: where it is
killed, or stopped while the controller is killed, what steps have started would live on.  So it is
forked by a process that does nothing but wait, is the next subreaper above, and cannot be reached by
the signals that end a job in good order.

    controller -> guard -> nursery -> workers -> what steps start

Under a debugger, which holds each of these processes and is told of each fork, there is none; but a
nursery that the debugger has not let go yet may wait for ever, so somebody outside attends it.
"""

from __future__ import annotations

import os
import select
import signal

from pipedeco.worker.children import (
    PR_SET_CHILD_SUBREAPER,
    bury_all,
    kill,
    kill_tree,
    prctl,
    reap,
)

GRACE = 5.0  # seconds that the nursery has to end what it knows, once the controller is gone
ATTENDED = 1.0  # the same for one that a debugger may hold
DEAF = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the end of the controller is what counts


def guard(connection: int, controller: int) -> int:
    """Fork: this process stays and guards, and the child, the nursery, returns.

    Parameters
    ----------
    connection : int
        The descriptor of the nursery's connection, which the guard gives up.
    controller : int
        A pid.

    Returns
    -------
    int
        The guard's pid.
    """
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    own = os.getpid()
    end = os.pidfd_open(controller)
    nursery = os.fork()
    if nursery == 0:
        os.close(end)
        return own
    os.close(connection)
    _watch(end, nursery)
    os._exit(0)


def _watch(controller: int, nursery: int) -> None:
    """Wait for the nursery's end, or see to it, and leave nobody."""
    end = os.pidfd_open(nursery)
    ready, _, _ = select.select([controller, end], [], [])
    if end not in ready:
        select.select([end], [], [], GRACE)
    kill(nursery)  # unreaped, so its number is its own
    reap(nursery)
    bury_all()


def attend(controller: int) -> None:
    """Kill a nursery that outlives its controller; the life of a process of its own.

    It leaves the controller's children, so that nobody there waits for it, and reads the nursery's pid
    from its standard input.
    """
    if os.fork() == 0:
        os.setsid()
        end = os.pidfd_open(controller)
        pid = os.read(0, 32)
        if pid:
            _attend(end, int(pid))
    os._exit(0)


def _attend(controller: int, nursery: int) -> None:
    try:
        end = os.pidfd_open(nursery)
    except ProcessLookupError:
        return
    ready, _, _ = select.select([controller, end], [], [])
    if end not in ready and not select.select([end], [], [], ATTENDED)[0]:
        kill_tree(nursery)

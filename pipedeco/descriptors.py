"""Descriptors of ours that what steps and programs do to all of theirs does not reach."""

from __future__ import annotations

import os
import socket

HIGH = 300  # above those that steps use, below the usual limit of 1,024


def out_of_reach(descriptor: int) -> int:
    """The same file under a high number; the old one is closed, and a child does not inherit it."""
    try:
        import fcntl

        high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, HIGH)
    except (OSError, ImportError):  # the limit of open files is lower; this is Windows
        return descriptor
    os.close(descriptor)
    return high


def socket_pair(kind: int | None = None) -> tuple[socket.socket, socket.socket]:
    """Two ends that block, whatever default time-out the program has set for its sockets.

    Such a time-out would make the file itself one that never blocks, in the other process, too.
    """
    pair = socket.socketpair() if kind is None else socket.socketpair(socket.AF_UNIX, kind)
    for end in pair:
        end.setblocking(True)
    return pair

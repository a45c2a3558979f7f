"""Descriptors that steps which close "all" of theirs rarely reach."""

from __future__ import annotations

import os

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

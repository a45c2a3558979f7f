"""Frames on a socket between a controller and a process of its own, and the end of that process."""

from __future__ import annotations

import os
import select
import threading
from typing import TYPE_CHECKING

from pipedeco.worker.messages import LENGTH

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

PIECE = 1 << 20  # bytes


def send(connection: socket.socket, data: bytes) -> None:
    connection.sendall(len(data).to_bytes(LENGTH, "little") + data)


def receive(connection: socket.socket) -> bytes:
    """One frame; raises ConnectionError where the other end is gone."""
    length = int.from_bytes(_exactly(connection, LENGTH), "little")
    return bytes(_exactly(connection, length))


def _exactly(connection: socket.socket, count: int) -> bytearray:
    data = bytearray()
    while len(data) < count:
        part = connection.recv(min(count - len(data), PIECE))
        if not part:
            raise ConnectionError("the connection ended")
        data += part
    return data


def end_with(controller: int, end: Callable[[], None]) -> None:
    """Call `end` when the controller is gone; a fork of it may hold our connection open."""
    if hasattr(os, "pidfd_open"):
        threading.Thread(target=_watch, args=(controller, end), daemon=True).start()


def _watch(controller: int, end: Callable[[], None]) -> None:
    try:
        descriptor = os.pidfd_open(controller)
        select.select([descriptor], [], [])
    except ProcessLookupError:
        pass
    end()

"""A process of a controller's own, the frames on the socket between them, and its end."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
from typing import IO, TYPE_CHECKING

from pipedeco.descriptors import socket_pair
from pipedeco.worker.messages import LENGTH

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PIECE = 1 << 20  # bytes
LAST_WORDS = 2000  # bytes of what a process wrote
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SERVE = (
    "import sys;sys.path.append(sys.argv[1]);from {} import serve;"
    "serve(int(sys.argv[2]),int(sys.argv[3]),*sys.argv[4:])"
)


def begin(
    module: str, *arguments: str, flags: Sequence[str] = (), output: IO[bytes] | None = None
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a process that calls `module.serve(socket's descriptor, our pid, *arguments)`.

    It imports nobody's main, stands in no folder of the user's, and gets no Ctrl-C.

    Parameters
    ----------
    flags: of the interpreter.
    output: where it writes; by default where we do.
    """
    ours, theirs = socket_pair()
    command = [sys.executable, *flags, "-P", "-c", SERVE.format(module), ROOT]
    with theirs:
        process = subprocess.Popen(
            [*command, str(theirs.fileno()), str(os.getpid()), *arguments],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    return process, ours


def last_line(output: IO[bytes]) -> str:
    """What a process has written last, which tells why it has ended; "" where it wrote nothing."""
    output.seek(0)
    lines = output.read()[-LAST_WORDS:].decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def opened(file: int) -> socket.socket:
    """Our end of the socket, in that process; what it starts itself does not get it."""
    connection = socket.socket(fileno=file)
    connection.setblocking(True)
    connection.set_inheritable(False)
    return connection


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

"""Frames between controller and worker: eight bytes of length, then a marshalled tuple.

marshal carries the plain types that messages are made of, faster than pickle, and loading it
runs nobody's code.

    to a worker     ("run", key, surroundings, blobs, logs, (run's id, pipeline's name))
                    ("define", [(name, data), ...])            names of its __main__
                    ("modules", (StrayModule, ...))            as the run's, with others since
                    ("changes", [(module, name, data, object), ...])   globals of modules that it imports
                    ("function", id, kind, module, data, retry_on, component's name, auto_log,
                     collect, cached)
                    ("moment", data)                           how things stand at the calls that come
                    ("calls", [(id, function, args, inputs, call number, attempt), ...])
                    ("give_back",)                             calls that are not begun
                    ("cancel", run key)                        precedes a SIGTERM
    from a worker   ("outcomes", [(id, ...), ...])
                    ("given_back", [id, ...])
                    ("unimportable", why)                      the main file; calls are given back
                    ("setup_failed", name, (type, text, traceback, pickled))
"""

from __future__ import annotations

import marshal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

LENGTH = 8
STALE = 80  # the exit status of a worker that leaves a run to a fresh one


def encode(message: tuple[Any, ...]) -> bytes:
    data = marshal.dumps(message)
    return len(data).to_bytes(LENGTH, "little") + data


class Decoder:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Any, ...]]:
        """The messages that `data` completes."""
        buffer = self._buffer
        buffer += data
        position = 0
        while len(buffer) - position >= LENGTH:
            length = int.from_bytes(buffer[position : position + LENGTH], "little")
            end = position + LENGTH + length
            if len(buffer) < end:
                break
            yield marshal.loads(memoryview(buffer)[position + LENGTH : end])
            position = end
        if position:
            del buffer[:position]

"""A Dask cluster of our own, which ends with the controller that started it."""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
import threading
from typing import TYPE_CHECKING

from pipedeco.engines.frames import begin, end_with, last_line, opened, receive, send
from pipedeco.errors import EngineLost

if TYPE_CHECKING:
    import socket

LEAVING = 3.0  # seconds that a cluster has to end


class Cluster:
    """A process with a scheduler and its workers, which ends with us.

    A process of its own, as Dask's workers import the `__main__` of the one that starts them.
    """

    def __init__(self, workers: int) -> None:
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._process, self._connection = begin(__name__, str(workers), output=self._words)
        try:
            self.address = receive(self._connection).decode()
        except OSError:
            why = last_line(self._words)
            self.close()
            raise EngineLost(f"a local Dask cluster cannot be started: {why}") from None

    def close(self) -> None:
        self._connection.close()
        try:
            self._process.wait(LEAVING + 2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._words.close()


def serve(file: int, controller: int, workers: str) -> None:
    """Keep a cluster until the controller closes the connection, or is gone."""
    from distributed import LocalCluster

    connection = opened(file)
    cluster = LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=int(workers),
        threads_per_worker=1,
        dashboard_address="127.0.0.1:0",  # with None it asks for a port that others have
        silence_logs=logging.ERROR,
    )
    send(connection, cluster.scheduler_address.encode())
    left = threading.Event()
    end_with(controller, left.set)
    threading.Thread(target=_await_end, args=(connection, left), daemon=True).start()
    left.wait()
    try:
        cluster.close(timeout=LEAVING)
    except TimeoutError:  # a step goes on: its worker ends with us
        pass
    os._exit(0)


def _await_end(connection: socket.socket, left: threading.Event) -> None:
    connection.recv(1)
    left.set()

"""The controller's end of a bridge: a process of our own that holds the connection to Ray.

A user's own Ray, signals and terminal stay as they are, and Ray may end the process in which it has
lost its cluster.

    to the bridge     ("submit", number, payload, options), ("cancel", number)
    from the bridge   ("holds", {resource: amount}), each second
                      ("done", number, bytes), ("failed", number, kind, what)
"""

from __future__ import annotations

import marshal
import socket
import subprocess
import tempfile
import threading
from concurrent.futures import BrokenExecutor, Executor, Future, InvalidStateError
from typing import Any

from pipedeco.engines.frames import begin, last_line, receive, send
from pipedeco.errors import EngineLost

START = 60.0  # seconds until a bridge has its cluster; Ray's clients take ten
SILENCE = 15.0  # seconds after which a cluster that does not answer is lost
PATIENCE = 10.0  # seconds that a bridge has to end its cluster
LEAVING = 2.0  # seconds that it has to leave another's


class Bridge(Executor):
    """An executor of the one function that engines call, in the workers of a Ray cluster.

    Parameters
    ----------
    address: Ray's; "" for a cluster of our own.
    workers: CPUs of a cluster of our own.

    Raises EngineLost where it cannot be reached.
    """

    def __init__(self, address: str, workers: int) -> None:
        self.nodes: list[dict[str, float]] = []  # what each holds
        self.lost = ""  # why
        self._futures: dict[int, Future[bytes]] = {}
        self._count = 0
        self._lock = threading.Lock()
        self._patience = LEAVING if address else PATIENCE
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `shutdown`
        self._thread = threading.Thread(target=self._follow, name="pipedeco-engine", daemon=True)
        self._process, self._connection = begin(
            "pipedeco.engines.ray_client", address, str(workers), output=self._words
        )
        self._connection.settimeout(START)
        if not self._read():
            self.shutdown()
            raise EngineLost(self.lost)
        self._connection.settimeout(SILENCE)
        self._thread.start()

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a payload (the first argument) performed with options of Ray (the second)."""
        future: Future[bytes] = Future()
        with self._lock:
            self._count += 1
            number = self._count
            self._futures[number] = future
            self._send("submit", number, *args)
        if self.lost:  # at this moment: whoever ended the others may not have seen this one
            _settle(future, ConnectionError(self.lost))
        future.add_done_callback(lambda ended: self._cancel(number, ended))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the bridge; what it has is lost."""
        self._hang_up()
        try:
            self._process.wait(self._patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._thread.is_alive():
            self._thread.join()
        self._connection.close()
        self._words.close()

    def _send(self, *message: Any) -> None:
        try:
            send(self._connection, marshal.dumps(message))
        except OSError:  # a part may have gone: who reads learns that nothing more will come
            self._hang_up()

    def _hang_up(self) -> None:
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:  # it is gone
            pass

    def _cancel(self, number: int, future: Future[bytes]) -> None:
        if future.cancelled():
            with self._lock:
                self._futures.pop(number, None)
                self._send("cancel", number)

    def _follow(self) -> None:
        while self._read():
            pass
        for future in list(self._futures.values()):
            _settle(future, ConnectionError(self.lost))

    def _read(self) -> bool:
        """Take the bridge's next word; whether there will be another one."""
        try:
            kind, *rest = marshal.loads(receive(self._connection))
        except OSError as error:
            self.lost = self._why(error)
            return False
        if kind == "nodes":
            (self.nodes,) = rest
        else:
            future = self._futures.pop(rest[0], None)
            if future is not None:
                _settle(future, rest[1] if kind == "done" else _error(*rest[1:]))
        return True

    def _why(self, error: OSError) -> str:
        if isinstance(error, TimeoutError):
            self._process.kill()
            return "Ray does not answer"
        return last_line(self._words) or "its connection has ended"


def _error(kind: str, what: str) -> Exception:
    kinds: dict[str, type[Exception]] = {"died": BrokenExecutor, "import": ImportError}
    return kinds.get(kind, ConnectionError)(what)


def _settle(future: Future[bytes], end: bytes | Exception) -> None:
    try:
        if isinstance(end, Exception):
            future.set_exception(end)
        else:
            future.set_result(end)
    except InvalidStateError:  # it was cancelled at this moment
        pass

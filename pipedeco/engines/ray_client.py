"""The process that holds the connection to Ray for one controller; `ray_bridge` tells what they say."""

from __future__ import annotations

import logging
import marshal
import os
import secrets
import shutil
import socket
import sys
import tempfile
import threading
import time
from typing import Any

from pipedeco.engines.frames import ROOT, end_with, opened, receive, send
from pipedeco.worker.station import perform_batch

BEAT = 1.0  # seconds
ATTEMPTS = 3

# Ray waits longer than we want a lost cluster to go unnoticed, and tells its makers of itself.
SETTINGS = {
    "RAY_CLIENT_RECONNECT_GRACE_PERIOD": "5",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
    "RAY_USAGE_STATS_ENABLED": "0",
}


class _Served:
    """What one controller has performed.

    Parameters
    ----------
    ray: the module, connected.
    """

    def __init__(self, ray: Any, connection: socket.socket) -> None:
        self.ray = ray
        self.connection = connection
        self.task = ray.remote(perform_batch)
        self.references: dict[int, Any] = {}
        self.lock = threading.Lock()
        self.left = threading.Event()

    def listen(self) -> None:
        """Take orders until the controller is gone."""
        try:
            while True:
                self._obey(*marshal.loads(receive(self.connection)))
        except OSError:
            pass
        finally:
            self.left.set()

    def _obey(self, kind: str, number: int, *rest: Any) -> None:
        if kind == "submit":
            self._submit(number, *rest)
        elif (reference := self.references.pop(number, None)) is not None:
            self.ray.cancel(reference)

    def beat(self) -> None:
        """Tell what each node holds; raises what Ray raises when the cluster is gone."""
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        self._tell("nodes", [{n: float(held) for n, held in node.items()} for node in nodes])

    def _submit(self, number: int, payload: bytes, options: dict[str, Any]) -> None:
        try:
            reference = self.task.options(max_retries=0, **options).remote(payload)
            self.references[number] = reference
            reference.future().add_done_callback(lambda future: self._done(number, future))
        except Exception as error:  # noqa: BLE001 - what Ray says of it ends this payload
            self._tell("failed", number, *self._said(error))

    def _done(self, number: int, future: Any) -> None:
        self.references.pop(number, None)
        error = future.exception()
        if error is None:
            self._tell("done", number, future.result())
        else:
            self._tell("failed", number, *self._said(error))

    def _said(self, error: BaseException) -> tuple[str, str]:
        """The kind of an error, and its first words."""
        known = self.ray.exceptions
        text = str(error).strip()
        if "No module named 'pipedeco" in text:
            return "import", "there is no module pipedeco"
        died = known.WorkerCrashedError, known.NodeDiedError, known.OutOfMemoryError
        lines = text.splitlines() or [""]
        if isinstance(error, known.RayTaskError):  # the traceback of what was raised there
            return "lost", lines[-1]
        what = f"{type(error).__name__}: {lines[0]}"
        return "died" if isinstance(error, died) else "lost", what

    def _tell(self, *message: Any) -> None:
        with self.lock:
            try:
                send(self.connection, marshal.dumps(message))
            except OSError:  # `listen` sees it, too
                pass


def serve(file: int, controller: int, address: str, workers: str) -> None:
    """Hold a connection until the controller closes its own, or is gone.

    Parameters
    ----------
    address: Ray's; "" for a cluster of our own with so many `workers`, 0 for one a CPU.
    """
    connection = opened(file)
    os.environ.update(SETTINGS)
    folder = "" if address else tempfile.mkdtemp(prefix="pipedeco-ray-")
    try:
        ray = _connected(address, int(workers), folder)
        served = _Served(ray, connection)
        served.beat()
        end_with(controller, served.left.set)
        threading.Thread(target=served.listen, daemon=True).start()
        while not served.left.wait(BEAT):
            served.beat()
        ray.shutdown()
    except Exception as error:  # noqa: BLE001 - the last line is what the controller tells
        lines = str(error).strip().splitlines() or [""]  # of which the last is no traceback
        sys.stderr.write(f"\n{type(error).__name__}: {lines[-1]}\n")
        sys.stderr.flush()
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)


def _connected(address: str, workers: int, folder: str) -> Any:
    own: dict[str, Any] = {}
    if address:
        _show_token()
    else:
        _let_workers_find_us()
        # Else Ray would make one in the user's home, and expect it of clusters begun later.
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
        own = {"num_cpus": workers or None, "include_dashboard": False, "_temp_dir": folder}
    import ray

    for attempt in range(ATTEMPTS):
        try:
            ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
            break
        except ConnectionError:  # a head that has just begun listens before it can serve
            if attempt + 1 == ATTEMPTS:
                raise
            time.sleep(BEAT)
    return ray


def _show_token() -> None:
    """A head expects a token where its user has one; Ray's client shows it only when told so."""
    there = os.path.exists(os.path.expanduser("~/.ray/auth_token"))
    if there or "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _let_workers_find_us() -> None:
    """The workers of our own cluster have our environment, where nobody may have installed us."""
    if sys.path.index(ROOT) == len(sys.path) - 1:  # our command has put it there
        paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        os.environ["PYTHONPATH"] = os.pathsep.join([path for path in paths if path] + [ROOT])

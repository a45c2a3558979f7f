"""Dask's distributed scheduler: `dask://host:8786?resources=GPU:1`; `dask://` starts a cluster.

With `tls_ca=`, `tls_cert=` and `tls_key=`, files in PEM form, the connection is by TLS.

A payload is a task.  The station, not Dask, limits its time, cancels it and reports its logs, as
Dask has none of these for what runs.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from concurrent.futures import InvalidStateError
from typing import TYPE_CHECKING, Any

from pipedeco.config import find_cpus
from pipedeco.engines.dask_cluster import Cluster
from pipedeco.engines.executor import ExecutorEngine
from pipedeco.engines.resources import amount, lack, listed
from pipedeco.errors import ConfigError, EngineLost, StepFailed, WorkerDied
from pipedeco.worker.station import perform_batch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Future

    from pipedeco.engines import EngineURL

REQUIRES = "distributed"
CONNECT = 10.0  # seconds
SILENCE = 15.0  # seconds after which a scheduler that does not answer is lost
TLS = "tls_ca", "tls_cert", "tls_key"
GATHER = 0.002  # seconds
INTERVAL = 1.0  # seconds between two looks at the cluster


class DaskEngine(ExecutorEngine):
    """A client of a cluster.

    Parameters
    ----------
    url: as it was given.
    client: connected.
    resources: of every payload.
    cluster: the process of a cluster of ours, which ends with the engine.
    """

    takes_resources = True

    def __init__(
        self,
        url: str,
        client: Any,
        resources: dict[str, float],
        cluster: Cluster | None = None,
    ) -> None:
        super().__init__(url, client.get_executor(pure=False), 0)
        self._client = client
        self._resources = resources
        self._cluster = cluster
        self._leaving = threading.Event()
        self._under_way: set[Future[bytes]] = set()
        self._hasten()
        self._look()
        threading.Thread(target=self._watch, name="pipedeco-engine", daemon=True).start()

    @property
    def alive(self) -> bool:
        return super().alive and self._client.status == "running"

    def submit(
        self, payload: bytes, resources: Mapping[str, float | str], priority: int = 0
    ) -> Future[bytes]:
        wanted = self._wanted(resources)
        executor: Any = self.executor
        future: Future[bytes] = executor.submit(
            perform_batch, payload, resources=wanted or None, priority=priority
        )
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        if self._broken:  # at this moment: `_lose` may not have seen it
            _drop(future)
        return future

    def lacks(self, resources: Mapping[str, float | str]) -> str:
        client = self._client
        known = client.sync(client.scheduler.identity, callback_timeout=SILENCE)["workers"]
        return lack(self.url, self._wanted(resources), [one["resources"] for one in known.values()])

    def _wanted(self, resources: Mapping[str, float | str]) -> dict[str, float]:
        return {**self._resources, **{name: amount(name, v) for name, v in resources.items()}}

    def explain(self, error: BaseException) -> StepFailed:
        if type(error).__name__ == "KilledWorker":
            return WorkerDied(f"the engine's worker ended before the step did ({error})")
        return super().explain(error)

    def close(self) -> None:
        self._closed = True
        self._leaving.set()
        _hush()  # its loss is our wish
        self._client.close(timeout=2)
        if self._cluster is not None:
            self._cluster.close()

    def _hasten(self) -> None:
        """Let the second of two payloads follow the first within 2 ms, not within 10.

        No option of Dask's says how long a client gathers what it sends; workers gather for 2 ms.
        """
        stream = self._client.scheduler_comm
        if hasattr(stream, "interval"):
            stream.interval = GATHER

    def _watch(self) -> None:
        while not self._leaving.wait(INTERVAL):
            self._look()

    def _look(self) -> None:
        """How many threads the workers have at present."""
        client = self._client
        try:
            known = client.sync(client.scheduler.ncores, workers=None, callback_timeout=SILENCE)
            self._slots = sum(known.values())
        except TimeoutError:
            self._lose()
        except Exception:
            if self._client.status == "running" and not self._closed:
                logging.getLogger("pipedeco").debug("%s does not answer", self.url, exc_info=True)

    def _lose(self) -> None:
        """The network is cut, and nobody closes the connection: what is under way ends here."""
        self._broken = True
        self._leaving.set()
        _hush()
        for future in list(self._under_way):
            _drop(future)


def _hush() -> None:
    """No word more of Dask's: it gives the second logger a level of its own."""
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _drop(future: Future[bytes]) -> None:
    """Nobody will tell of a payload."""
    try:
        future.set_exception(ConnectionError(f"no answer for {SILENCE:g} s"))
    except InvalidStateError:  # it has ended at this moment
        pass


def open_dask(url: EngineURL) -> DaskEngine:
    """A client of the cluster at an address, or of a new one."""
    resources, count = read_url(url)
    from distributed import Client

    cluster = None
    secured = _security(url)
    address = f"{'tcp' if secured is None else 'tls'}://{url.address}"
    if not url.address:
        cluster = Cluster(count)
        address = cluster.address
    else:
        _find(url)
    try:
        client = Client(  # type: ignore[no-untyped-call]
            address, timeout=CONNECT, set_as_default=False, name="pipedeco", security=secured
        )
    except (OSError, TimeoutError) as error:
        raise EngineLost(
            f"{url.text} cannot be reached: {error}; is `dask scheduler` running there?"
        ) from error
    return DaskEngine(url.text, client, resources, cluster)


def _find(url: EngineURL) -> None:
    """Raises EngineLost where the host has no address; Dask would go on trying, and not say why."""
    host, port = url.place()
    try:
        socket.getaddrinfo(host, port)
    except OSError as error:
        raise EngineLost(f"{url.text} cannot be reached: {host}: {error.strerror}") from None


def read_url(url: EngineURL) -> tuple[dict[str, float], int]:
    """The resources of every payload, and the workers of a cluster of our own.

    Raises ConfigError for what cannot be.
    """
    options = url.take("resources", "workers", *TLS)
    if url.address:
        url.place()
    _check_tls(url, options)
    return listed(url, options.get("resources", "")), url.workers(find_cpus())


def _check_tls(url: EngineURL, options: dict[str, str]) -> None:
    given = [name for name in TLS if name in options]
    if given and (len(given) < len(TLS) or not url.address):
        raise ConfigError(
            f"{url.text}: TLS takes the address of a scheduler and all of {', '.join(TLS)}"
        )
    for name in given:
        if not os.path.isfile(options[name]):
            raise ConfigError(f"{url.text}: {name} names no file: {options[name]}")


def _security(url: EngineURL) -> Any:
    """How the client proves who it is; None without TLS."""
    if TLS[0] not in url.options:
        return None
    from distributed.security import Security

    ca, cert, key = (url.options[name] for name in TLS)
    return Security(  # type: ignore[no-untyped-call]
        require_encryption=True, tls_ca_file=ca, tls_client_cert=cert, tls_client_key=key
    )

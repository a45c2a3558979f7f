"""Ray: `ray://head:10001`, `ray://auto?num_gpus=1` for the cluster of this machine; `ray://` starts one.

Another process of ours holds the connection, as `ray_bridge` tells.
"""

from __future__ import annotations

import socket
from concurrent.futures import BrokenExecutor
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pipedeco.engines.executor import ExecutorEngine
from pipedeco.engines.ray_bridge import Bridge
from pipedeco.engines.resources import amount, lack, listed
from pipedeco.errors import EngineLost, StepFailed, WorkerDied

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Future

    from pipedeco.engines import EngineURL

REQUIRES = "ray"
PORT = 10001  # Ray's own for clients
CONNECT = 10.0  # seconds
OWN = {"cpu": "num_cpus", "gpu": "num_gpus", "memory": "memory"}  # what Ray has options for


class RayEngine(ExecutorEngine):
    """A queue on a Ray cluster.

    Parameters
    ----------
    url: as it was given.
    bridge: connected.
    needs: of every payload, by the names of Ray's options.
    """

    takes_resources = True
    executor: Bridge

    def __init__(self, url: str, bridge: Bridge, needs: dict[str, float]) -> None:
        super().__init__(url, bridge, 0)
        self._needs = needs

    @property
    def alive(self) -> bool:
        return not self._closed and not self.executor.lost

    @property
    def slots(self) -> int:
        needs = _in_cluster(self._needs)
        return sum(
            int(min(node.get(name, 0.0) // need for name, need in needs.items() if need))
            for node in self.executor.nodes
        )

    def submit(
        self, payload: bytes, resources: Mapping[str, float | str], priority: int = 0
    ) -> Future[bytes]:
        needs = self._asked(resources)
        options: dict[str, Any] = {n: v for n, v in needs.items() if n in OWN.values()}
        options["resources"] = {n: v for n, v in needs.items() if n not in options}
        future: Future[bytes] = self.executor.submit(None, payload, options)
        return future

    def lacks(self, resources: Mapping[str, float | str]) -> str:
        return lack(self.url, _in_cluster(self._asked(resources)), self.executor.nodes)

    def _asked(self, resources: Mapping[str, float | str]) -> dict[str, float]:
        return {**self._needs, **{_option(n): amount(n, v) for n, v in resources.items()}}

    def explain(self, error: BaseException) -> StepFailed:
        if isinstance(error, BrokenExecutor):
            return WorkerDied(f"the engine's worker ended before the step did ({error})")
        return super().explain(error)

    def close(self) -> None:
        self._closed = True
        self.executor.shutdown()


def _option(name: str) -> str:
    return OWN.get(name.lower(), name)


def _in_cluster(needs: Mapping[str, float]) -> dict[str, float]:
    """By the names that a node has for them, with the CPU that Ray adds."""
    names = {"num_cpus": "CPU", "num_gpus": "GPU"}
    return {"CPU": 1.0, **{names.get(option, option): need for option, need in needs.items()}}


def open_ray(url: EngineURL) -> RayEngine:
    """A bridge to the cluster at an address, or to a new one."""
    if find_spec(REQUIRES) is None:  # it is imported by the bridge alone
        raise ModuleNotFoundError("No module named 'ray'", name="ray")
    needs, count = read_url(url)
    address = url.address
    if address not in ("", "auto"):
        address = f"ray://{_reached(url)}"
    try:
        bridge = Bridge(address, count)
    except EngineLost as error:
        raise EngineLost(f"{url.text} cannot be reached: {error}") from None
    return RayEngine(url.text, bridge, needs)


def read_url(url: EngineURL) -> tuple[dict[str, float], int]:
    """What every payload needs, and the workers of a cluster of our own, 0 for one a CPU.

    Raises ConfigError for what cannot be.
    """
    if url.address not in ("", "auto"):
        url.place(PORT)
    options = dict(url.take("num_cpus", "num_gpus", "memory", "resources", "workers"))
    options.pop("workers", None)
    count = url.workers(0)
    needs = {_option(n): v for n, v in listed(url, options.pop("resources", "")).items()}
    needs.update({name: amount(name, given) for name, given in options.items()})
    return needs, count


def _reached(url: EngineURL) -> str:
    """The address with its port; Ray itself would try for minutes."""
    where = url.place(PORT)
    try:
        socket.create_connection(where, CONNECT).close()
    except OSError as error:
        raise EngineLost(
            f"{url.text} cannot be reached: {error}; is `ray start --head` running there, with "
            f"the client's port {where[1]}?"
        ) from error
    return f"{where[0]}:{where[1]}"

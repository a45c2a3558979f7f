"""pipedeco in remote mode on a Dask cluster of this machine: the steps of `ours`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import pipedeco
from benchmarks.systems import WORKERS, ours


class Local(AbstractContextManager["Local"]):
    """The cluster lives as long as the process; workers= is not set, so that payloads queue."""

    fan_out = staticmethod(ours.fan_out.with_options(mode="remote"))
    chain = staticmethod(ours.chain.with_options(mode="remote"))
    stencil = staticmethod(ours.stencil.with_options(mode="remote"))
    share = staticmethod(ours.share.with_options(mode="remote"))
    hand_over = staticmethod(ours.hand_over.with_options(mode="remote"))

    def __init__(self) -> None:
        pipedeco.configure(queues={"default": f"dask://?workers={WORKERS}"})

    def __exit__(self, *_: Any) -> None:
        """Leave the cluster to the end of the process."""

"""`await run`: a thread waits, and wakes the event loop."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Generator


class Waitable(Protocol):
    """What is waited for."""

    id: str

    def wait(self, timeout: float | None = None) -> bool: ...

    def cancel(self) -> None: ...


def awaited(run: Waitable, *, own: bool) -> Generator[Any, None, None]:
    """Return once the run has ended.

    Where the task that awaits it is cancelled, so is the run if it is this process's `own`, and its
    end is waited for, as that of a task would be.  Raises what `run.wait` raises.
    """
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def wait() -> None:
        error = None
        try:
            run.wait()
        except Exception as raised:  # noqa: BLE001 - it is raised where the run is awaited
            error = raised
        try:
            loop.call_soon_threadsafe(_settle, ended, error)
        except RuntimeError:  # the event loop was closed; nobody awaits any more
            pass

    # A daemon: a loop that is closed leaves it behind, and a started run is waited for by itself.
    threading.Thread(target=wait, name=f"pipedeco-await-{run.id}", daemon=True).start()
    try:
        yield from asyncio.shield(ended)
    except asyncio.CancelledError:
        if own:
            run.cancel()
            yield from ended
        raise


def _settle(ended: asyncio.Future[None], error: Exception | None) -> None:
    if ended.done():
        return
    if error is None:
        ended.set_result(None)
    else:
        ended.set_exception(error)

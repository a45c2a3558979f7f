"""Async components where an event loop runs already: notebooks, async programs and their tests.

Debug mode performs a step in the thread that calls it, and asyncio lets no second loop run there.
Here the first one is set aside meanwhile: breakpoints, context variables and thread-local values
are those of the caller, as they are for a plain function that it calls.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator


def run_within(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end while `loop`, which runs in this thread, waits."""
    __tracebackhide__ = True
    # With a factory, asyncio.Runner leaves the thread's own loop (`set_event_loop`) as it is.
    with (
        _set_aside(loop),
        _interruptible(),
        asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner,
    ):
        return runner.run(coroutine)


@contextmanager
def _set_aside(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """No loop and no task is running in this thread."""
    task = asyncio.current_task(loop)
    if task is not None:
        asyncio.tasks._leave_task(loop, task)
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)
        if task is not None:
            asyncio.tasks._enter_task(loop, task)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends the coroutine: asyncio.run's own handler would cancel a task that waits for it."""
    handler = signal.getsignal(signal.SIGINT)
    owner = getattr(getattr(handler, "func", None), "__self__", None)  # a partial of its method
    if threading.current_thread() is not threading.main_thread() or not isinstance(
        owner, asyncio.Runner
    ):
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)

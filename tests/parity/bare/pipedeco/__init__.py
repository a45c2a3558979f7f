"""What programs have in place of pipedeco when they run bare: decorators that change nothing.

Where PARITY_WITNESS names a file, steps are watched as well: the file then has, for each run, the
steps that it should have on record, how each ended, and what each wrote.  Both decorators wrap
then, so that run compares nothing but the record.
"""

from __future__ import annotations

import os
from typing import Any


def component(fn: Any = None, **options: Any) -> Any:
    """The function itself; one that is `async def` is driven to its value, as a step's is."""
    if fn is None:
        return component
    if fn.__code__.co_flags & 0x80:  # a coroutine function
        fn = _driven(fn)
    return WITNESS.watch_step(fn) if WITNESS else fn


def pipeline(fn: Any = None, **options: Any) -> Any:
    """The function itself."""
    if fn is None:
        return pipeline
    return WITNESS.watch_run(fn) if WITNESS else fn


def value(result: Any) -> Any:
    return result


def as_completed(results: Any) -> Any:
    """What plain calls give has completed, in their order."""
    return iter(list(results))


def File(path: Any) -> str:  # noqa: N802
    """The path, which is what the program would have."""
    return os.fspath(path)


def _driven(fn: Any) -> Any:
    import asyncio
    import functools

    @functools.wraps(fn)
    def drive(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(fn(*args, **kwargs))

    return drive


def _witness() -> Any:
    path = os.environ.get("PARITY_WITNESS")
    if not path:
        return None
    from pipedeco.witness import Witness

    return Witness(path)


WITNESS = _witness()

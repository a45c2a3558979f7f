"""perform(call) -> Outcome: one attempt of a step, the same in every mode."""

from __future__ import annotations

import time
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from pipedeco.errors import NotPicklable, PipedecoError
from pipedeco.graph import COMPLETED, FAILED, Outcome, StepError
from pipedeco.serialization import pack_exception
from pipedeco.user_frames import hide_ours, put_note, user_part

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipedeco.serialization import Packed

MAX_TEXT = 10_000  # characters of an exception's text that are kept

# These end threads, loops and processes when they are raised; who reads a result gets
# StepFailed in their place.
CONTROL_FLOW = (SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration)


def perform(
    function: Callable[..., Any],
    arguments: Callable[[], tuple[tuple[Any, ...], dict[str, Any]]],
    pack: Callable[[Any], tuple[Packed | None, str | None, tuple[str, ...]]],
    retry_on: Any,
    worker: str = "",
) -> Outcome:
    """Call `function` with what `arguments()` gives and `pack` what it returns.

    Parameters
    ----------
    function: the user's function; a coroutine that it returns is run to its end.
    arguments: gives (args, kwargs); what it raises fails the attempt.
    pack: value -> (packed value, preview, names of __main__ that it needs).
    retry_on: exception types, or a function of the exception.
    worker: who performs, for the record.

    Never raises: whatever the step raises ends in the Outcome.
    """
    __tracebackhide__ = True
    started = time.time()
    clock = time.perf_counter
    begin = clock()
    try:
        args, kwargs = arguments()
        value = function(*args, **kwargs)
        if type(value) is CoroutineType:
            value = run_coroutine(value)
        packed, preview, names = pack(value)
    except BaseException as error:  # noqa: BLE001 - the user's code; SystemExit fails the step like any other
        return failed(error, retry_on, started, clock() - begin, worker)
    return Outcome(
        COMPLETED,
        started,
        clock() - begin,
        packed,
        preview,
        names,
        None,
        False,
        None,
        worker,
        None,
        (value,),
    )


def run_coroutine(coroutine: Any) -> Any:
    """What a coroutine returns; in debug mode its caller may stand in a loop that runs."""
    import asyncio

    loop = asyncio._get_running_loop()
    if loop is None:
        return asyncio.run(coroutine)
    from pipedeco.worker.loops import run_within

    return run_within(loop, coroutine)


def failed(
    error: BaseException, retry_on: Any, started: float, duration: float, worker: str = ""
) -> Outcome:
    """The Outcome of an attempt that raised `error`."""
    hide_ours(error)
    retryable = is_retryable(error, retry_on)  # may add a note, so it comes first
    return Outcome(
        FAILED,
        started,
        duration,
        error=describe_error(error),
        retryable=retryable,
        worker=worker,
        exception=error,
    )


def describe_error(error: BaseException) -> StepError:
    """What can be told of an exception in any process, and the exception where it can travel."""
    import traceback

    kind = type(error)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    try:
        lines = traceback.format_exception(error)
    except Exception:  # noqa: BLE001 - exceptions whose own __str__ raises
        lines = traceback.format_tb(error.__traceback__)
    pickled = None if isinstance(error, CONTROL_FLOW) else pack_exception(error)
    text = "".join(lines)[-10 * MAX_TEXT :]
    return StepError(name, error_text(error), _encodable(text), pickled)


def describe_trouble(error: BaseException) -> StepError:
    """The same of what kept a step from being performed: a sentence of ours needs no frames."""
    if isinstance(error, PipedecoError):
        error = error.with_traceback(user_part(error.__traceback__))
        if not isinstance(error, NotPicklable):  # of which a reducer of the user's is the cause
            error.__cause__ = error.__context__ = None
    return describe_error(error)


def error_text(error: BaseException) -> str:
    try:
        return _encodable(str(error)[:MAX_TEXT])
    except Exception as broken:  # noqa: BLE001 - the user's __str__
        return f"<its __str__ raised {type(broken).__name__}>"


def _encodable(text: str) -> str:
    """The text with lone surrogates escaped: no database and no terminal takes them."""
    return text.encode("utf-8", "backslashreplace").decode()


def is_retryable(error: BaseException, retry_on: Any) -> bool:
    """Whether `retry_on` asks for another attempt after this exception.

    A `retry_on` function that raises asks for none, and a note on the exception says so.
    """
    if isinstance(retry_on, tuple):
        return isinstance(error, retry_on)
    try:
        return bool(retry_on(error))
    except Exception as broken:  # noqa: BLE001 - the user's function
        put_note(error, f"retry_on raised {type(broken).__name__}: {error_text(broken)}")
        return False

"""How the end of a worker process becomes the end of an attempt."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.errors import PipedecoError, StepTimeout, WorkerDied
from pipedeco.events import length
from pipedeco.worker.perform import describe_error

if TYPE_CHECKING:
    from pipedeco.graph import LogPosition, StepError

FALSE_STARTS = 3  # workers that may die one after another before they have begun anything
GRACE = 5.0  # seconds between SIGTERM and SIGKILL


class Exit(NamedTuple):
    """How a worker process ended."""

    exitcode: int | None  # None where it was a signal, or where nobody knows
    signal: str | None
    peak_memory: int | None  # bytes


def exit_of_code(code: int, peak_memory: int | None) -> Exit:
    """An Exit from an exit code, which is minus the number of the signal that killed."""
    if code >= 0:
        return Exit(code, None, peak_memory)
    try:
        name = signal.Signals(-code).name
    except ValueError:  # real-time signals have no name
        name = f"signal {-code}"
    return Exit(None, name, peak_memory)


def how(end: Exit) -> str:
    if end.signal is not None:
        return f"killed by {end.signal}"
    return "gone with its nursery" if end.exitcode is None else f"exit status {end.exitcode}"


def worker_died(end: Exit) -> StepError:
    text = f"its worker process ended before the step did: {how(end)}"
    if end.peak_memory:
        text += f", peak memory {end.peak_memory / 2**20:.0f} MiB"
    if end.signal == "SIGKILL":
        text += "; the system kills so when memory runs out"
    error = WorkerDied(text, exitcode=end.exitcode, signal=end.signal, peak_memory=end.peak_memory)
    return describe_error(error)


def died_setting_up(end: Exit) -> StepError:
    """Of a worker that was in a function of setup=."""
    return describe_error(PipedecoError(f"its worker process ended: {how(end)}"))


def timed_out(timeout: float) -> StepError:
    text = f"it ran longer than its timeout of {timeout:g} s and was killed"
    return describe_error(StepTimeout(text, timeout=timeout))


def left_alone(seconds: float) -> StepError:
    text = f"it was killed, as its controller has given no sign of life for {seconds:g} s"
    return describe_error(WorkerDied(text))


def time_left(page: Any, number: int, timeout: float) -> float:
    """Seconds until a call is over its time, which counts from the call's own start.

    Parameters
    ----------
    page: of the worker that has the call, perhaps behind others.
    """
    if page[0] != number:
        return min(timeout, 0.05)
    return max(0.0, timeout - spent(page))


def spent(page: Any) -> float:
    """Seconds since the worker of this page began what it performs."""
    return max(0.0, (time.monotonic_ns() - int(page[1])) / 1e9)


def ends_of_dead(base: str, position: LogPosition) -> tuple[int, ...]:
    """The places in the logs between which a dead worker wrote since its last outcome, and the
    number of the call that it died in.

    Parameters
    ----------
    base: the path of its logs without their endings.
    """
    out, err, events = (length(f"{base}.{stream}") for stream in ("out", "err", "events"))
    return position.out, out, position.err, err, position.events, events, position.number

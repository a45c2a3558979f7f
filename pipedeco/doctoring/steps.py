"""A step that is really performed, by whoever is to perform it."""

from __future__ import annotations

import marshal
import pickle
import time
from typing import TYPE_CHECKING, Any

from pipedeco.blobs import make_private
from pipedeco.config import find_start_method
from pipedeco.doctoring.lines import ERROR, OK, Line
from pipedeco.errors import PipedecoError
from pipedeco.worker.batch import Batch
from pipedeco.worker.environment import here
from pipedeco.worker.exchange import SIGN
from pipedeco.worker.messages import Decoder
from pipedeco.worker.station import close_stations, perform_batch
from pipedeco.worker.travel import SETTING, encode_setting, setting_of, write_setting

if TYPE_CHECKING:
    from pipedeco.doctoring.scratch import Scratch
    from pipedeco.objects import ObjectFolder

WORKERS = "workers"
PATIENCE = 20.0  # seconds for a worker to start and to perform a step that does nothing


def trial(scratch: Scratch, name: str, objects: ObjectFolder | None = None) -> bytes:
    """The payload of a step that gives the pid of who performs it; its setting is written.

    Parameters
    ----------
    objects: where that is; by default in the folder.
    """
    folder = scratch.place(f"run-{name}")
    logs = scratch.place("logs")
    make_private(logs)
    facts = {
        "run": "doctor",
        "pipeline": "doctor",
        "blobs": scratch.place("blobs"),
        "archives": scratch.place("code"),
        "logs": logs,
        "log_prefix": f"{name}-",
    }
    setting = setting_of(here(), "", None, **facts)
    if objects is None:
        write_setting(folder, setting)
    else:
        run = objects.below(f"run-{name}")
        run.put(SIGN, marshal.dumps((1, "")))
        run.put(SETTING, encode_setting(setting))
        folder = run.url
    function = ("function", 1, "name", "os", b"getpid", None, "doctor", False, (), False)
    call = (1, 1, pickle.dumps(((), {})), None, 1, 1)
    batch = Batch(folder, name, find_start_method(None), [function], [], [], [call], {}, fresh=True)
    return marshal.dumps(tuple(batch))


def read_trial(told: bytes) -> str:
    """Why the step was not performed; "" where it was."""
    for message in Decoder().feed(told):
        outcome: Any = message[1] if message[0] == "outcome" else None
        if outcome is not None and outcome[1] == "completed":
            return ""
        if outcome is not None and outcome[7] is not None:
            return str(outcome[7][1])
    return "nothing was told of it"


def look_at_workers(scratch: Scratch) -> Line:
    """Have a worker process of this machine perform a step."""
    if not scratch.usable:
        return Line(WORKERS, ERROR, "not tried, as a step needs the store", "mend that first")
    begin = time.perf_counter()
    try:
        method = find_start_method(None)
        wrong = _perform(trial(scratch, "local"))
    except (PipedecoError, OSError) as error:
        return Line(WORKERS, ERROR, f"none can be started here: {error}")
    if wrong:
        advice = "compare with configure(start_method='spawn')" if method == "nursery" else ""
        return Line(WORKERS, ERROR, f"none can perform a step here ({method}): {wrong}", advice)
    took = time.perf_counter() - begin
    text = f"one was started here ({method}) and has performed a step, {took:.2f} s"
    return Line(WORKERS, OK, text)


def _perform(payload: bytes) -> str:
    """Perform it here, bounded in time: a worker that never starts is what we look for."""
    import threading

    told: list[bytes] = []

    def perform() -> None:
        told.append(perform_batch(payload))

    thread = threading.Thread(target=perform, name="pipedeco-doctor", daemon=True)
    thread.start()
    try:
        thread.join(PATIENCE)
    finally:
        close_stations()
    return read_trial(told[0]) if told else f"it has not within {PATIENCE:g} s"

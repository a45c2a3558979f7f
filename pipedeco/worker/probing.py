"""What an engine's worker says of itself, when it is asked before a run.

    probe      a marshalled ("probe", folder, name, group, count, hold)
    answer     JSON: an Answer

Marshal's version 2 and JSON, as every Python reads them: the worker's may be another one.

The folder is in the shared store, or is the URL of one in an object store, and holds a file `hello`; the worker reads it and writes its own
beside it.  It waits for a moment, until as many have answered as were asked: so no worker answers
for its neighbours, however quick it is.
"""

from __future__ import annotations

import marshal
import os
import sys
import time
from typing import NamedTuple

from pipedeco.errors import PipedecoError
from pipedeco.objects import ObjectFolder
from pipedeco.worker.places import host

PROBE = "probe"  # the first word of its payload
HELLO = "hello"
PICKLERS = ("cloudpickle", "dill")
STEP = 0.02  # seconds between two looks


class Answer(NamedTuple):
    """What a worker says; its times are those of its own clock."""

    host: str
    pid: int
    python: str  # 3.11.9
    pipedeco: str
    picklers: dict[str, str]  # versions; "" where one is missing
    hello: str  # what it read in the store; "" where it could not
    trouble: str  # why it could not read or write there
    began: float
    ended: float


def probe(folder: str, name: str, group: str, count: int, hold: float) -> bytes:
    """The payload of a probe.

    Parameters
    ----------
    folder: in the shared store.
    name: of the worker's own file.
    group: what the names of those begin with that are sent at once.
    count: how many probes are sent at once.
    hold: seconds for which a worker waits for the others.
    """
    return marshal.dumps((PROBE, folder, name, group, count, hold), 2)


def answer(folder: str, name: str, group: str, count: int, hold: float) -> bytes:
    began = time.time()
    hello, trouble = _exchange(folder, name)
    _wait(folder, group, count, hold)
    found = Answer(
        host(),
        os.getpid(),
        python_version(),
        version_of("pipedeco"),
        {pickler: version_of(pickler) for pickler in PICKLERS},
        hello,
        trouble,
        began,
        time.time(),
    )
    import json

    return json.dumps(found._asdict()).encode()


def read_answer(data: bytes) -> Answer:
    """What was answered; raises ValueError or TypeError where it is something else."""
    import json

    return Answer(**json.loads(data))


def python_version() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def version_of(distribution: str) -> str:
    """Of an installed distribution; "" where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def _exchange(folder: str, name: str) -> tuple[str, str]:
    """Read what the controller wrote, and write something that it can read."""
    hello = ""
    if "://" in folder:
        return _exchange_objects(ObjectFolder(folder), name)
    try:
        with open(os.path.join(folder, HELLO), encoding="utf-8") as file:
            hello = file.read()
        part = os.path.join(folder, f"{name}.part")
        with open(part, "w", encoding="utf-8") as file:
            file.write(hello)
        os.rename(part, os.path.join(folder, name))
    except OSError as error:
        return hello, f"{error.filename}: {error.strerror}"
    return hello, ""


def _exchange_objects(folder: ObjectFolder, name: str) -> tuple[str, str]:
    hello = ""
    try:
        hello = folder.read(HELLO).decode()
        folder.put(name, hello.encode())
    except FileNotFoundError:
        return hello, f"{folder.url}/{HELLO}: it is not there"
    except PipedecoError as error:
        return hello, str(error)
    return hello, ""


def _names(folder: str) -> list[str]:
    return ObjectFolder(folder).names() if "://" in folder else os.listdir(folder)


def _wait(folder: str, group: str, count: int, hold: float) -> None:
    deadline = time.monotonic() + hold
    while time.monotonic() < deadline:
        try:
            there = [name for name in _names(folder) if name.startswith(group)]
        except (OSError, PipedecoError):  # it is not seen, or the controller has left
            there = []
        if len(there) >= count:
            return
        time.sleep(STEP * 10 if "://" in folder else STEP)

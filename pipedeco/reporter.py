"""Writes what steps and bodies report, while they run, into files that others read.

A worker has one Reporter, whose step changes; a run's body has one of its own.  Nothing here knows a
store's records.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import threading
from functools import cache
from time import time as now
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco import events
from pipedeco.descriptors import out_of_reach
from pipedeco.errors import RunNotFound, StoreError
from pipedeco.events import OF_RUN, OF_STEP, Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipedeco.blobs import BlobStore
    from pipedeco.media import Media

ADDRESS = "PIPEDECO_REPORTS"  # the variable by which processes that a step starts report for it
INLINE_TEXT = 8192  # characters of a text that stand in its line
FINEST = 0.001  # the smallest change of a progress that is written


class StepName(NamedTuple):
    """What a step is called; `number` tells it from others of its worker."""

    name: str
    component: str
    attempt: int
    number: int


class Reporter:
    """Writes what the step of the moment, or the body of a run, reports.

    Parameters
    ----------
    name_of: gives the StepName of what `call` is.
    on_progress: called with a step's own progress, from 0 to 1.

    Attributes
    ----------
    call: whatever stands for the step under way; None in a body.
    """

    def __init__(
        self,
        name_of: Callable[[Any], StepName],
        on_progress: Callable[[float], None] = lambda share: None,
    ) -> None:
        self.name_of = name_of
        self.on_progress = on_progress
        self._process = os.getpid()
        self.call: Any = None
        self.run = ""
        self.pipeline = ""
        self.path = ""
        self.blobs: BlobStore | None = None
        self._file = -1
        self._size = 0  # of the file, when it was looked at last
        self._touched = False  # whether this process has written since
        self._kin: Any = None  # four bytes of the file, shared with the processes that steps start
        self._seen = b""  # what they were then
        self._opening = threading.Lock()  # a body, and its callbacks' thread
        self._begun: Any = None  # the call whose first line is written
        self._written = 0  # bytes of it, by this process
        self._tally = events.Tally()  # of it
        self._progress = -1.0  # the last that it told
        self._heads: dict[tuple[int, str], str] = {}

    def enter(self, run: str, pipeline: str, path: str, blobs: BlobStore) -> None:
        """From now on reports are of this run, and go into the file of this path."""
        self.close()
        self.run, self.pipeline, self.path, self.blobs = run, pipeline, path, blobs

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._kin is not None:
            self._kin.close()
            self._kin = None
        self._size, self._touched = 0, False
        self._heads.clear()
        self._begun = None
        self._forget()
        self.run = ""

    @property
    def step(self) -> StepName | None:
        return None if self.call is None else self.name_of(self.call)

    @property
    def size(self) -> int:
        """The length of the file; no call of the system where nobody has written since."""
        if self._kin is None:
            return self._size
        kin = self._kin[events.KIN]
        if self._touched or kin != self._seen:
            self._touched, self._seen = False, kin
            self._size = events.length(self.path)
        return self._size

    @property
    def own_scope(self) -> int:
        return OF_RUN if self.call is None else OF_STEP

    def where(self) -> str:
        """Who speaks, for errors."""
        step = self.step
        of = f"the body of {self.pipeline}" if step is None else f"step {step.name}"
        return f"{of} of run {self.run}"

    def metric(
        self,
        name: str,
        value: float,
        step: int | None = None,
        time: float | None = None,
        *,
        scope: int | None = None,
    ) -> None:
        """One point; the path of a million calls."""
        if scope is None:
            scope = self.own_scope
        head = self._heads.get((scope, name))
        if head is None:
            head = self._heads[scope, name] = events.metric_head(scope, name)
        at = "null" if step is None else step
        number = repr(value) if value - value == 0 else _special(value)
        time = time or now()
        self.write(f"{head}{time!r}, {at}, {number}]\n".encode())
        self._tally.metrics[scope, name] = value, time

    def emit(
        self,
        kind: str,
        name: str,
        payload: Any,
        step: int | None = None,
        time: float | None = None,
        *,
        scope: int | None = None,
    ) -> None:
        """One event of another kind."""
        scope = self.own_scope if scope is None else scope
        event = Event(kind, scope, name, time or now(), step, payload)
        self.write(events.encoded(event))
        self._tally.add(event)

    def text(
        self,
        name: str,
        text: str,
        step: int | None = None,
        time: float | None = None,
        *,
        scope: int | None = None,
    ) -> None:
        payload: dict[str, Any] = {"text": text}
        if len(text) > INLINE_TEXT:
            data = text.encode("utf-8", "backslashreplace")
            payload = {"preview": text[:200], "size": len(data), "blob": self.put(data)}
        self.emit(events.TEXT, name, payload, step, time, scope=scope)

    def media(
        self,
        kind: str,
        name: str,
        media: Media,
        step: int | None = None,
        time: float | None = None,
        *,
        scope: int | None = None,
    ) -> None:
        """A figure or an image."""
        payload = {"mime": media.mime, "size": len(media.data), "blob": self.put(media.data)}
        self.emit(kind, name, payload, step, time, scope=scope)

    def progress(self, share: float) -> None:
        self.on_progress(share)
        known = self._progress if self._begun is self.call else -1.0
        if abs(share - known) >= FINEST or share == 1.0:
            self.emit(events.PROGRESS, "", share)
            self._progress = share

    def put(self, data: bytes) -> str:
        """Keep bytes in the store; their digest."""
        assert self.blobs is not None
        return self.blobs.put([data])

    def finish(self) -> None:
        """The step, or the body, has ended: its part ends with what is asked for most."""
        if self._begun is self.call and self._written:
            number = self.name_of(self.call).number
            try:
                self.write(events.end(number, self._written, self._tally.summary()))
            except StoreError:  # a full disk; who asks reads the whole part then
                pass

    def write(self, line: bytes) -> None:
        """Append a line (or two) by one call of the system, which a kill cannot divide."""
        if self._begun is not self.call:
            line = events.begin(self.name_of(self.call).number) + line
            self._begun = self.call
            self._forget()
        try:
            file = self._file if self._file >= 0 else self._open()
            if os.write(file, line) != len(line):
                os.write(file, b"\n")  # so that the next line is one
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if error.errno == errno.EBADF:  # the step has closed it, and may do without this line
                self._file = -1
            raise self._unwritten(error) from error
        self._written += len(line)
        self._touched = True
        if os.getpid() != self._process:
            self._tell()

    def _tell(self) -> None:
        """Let the step's own process see that another one has written."""
        if self._kin is not None:
            count = int(self._kin[events.KIN], 16) + 1
            self._kin[events.KIN] = b"%04x" % (count & 0xFFFF)

    def _forget(self) -> None:
        """What is kept of a step is not of the next."""
        self._written = 0
        self._tally = events.Tally()
        self._progress = -1.0

    def open(self) -> None:
        """Make the file, whose length then tells what the step's other processes report, too.

        Raises StoreError where that cannot be.
        """
        try:
            self._open()
        except OSError as error:
            raise self._unwritten(error) from error

    def address(self) -> str:
        """What tells another process where to report for this one's steps."""
        return json.dumps([self.run, self.pipeline, self.path, self.blobs and self.blobs.folder])

    def _unwritten(self, error: OSError) -> StoreError:
        return StoreError(
            f"what {self.where()} reports cannot be written to {self.path}: {error.strerror}; "
            "free some space or move the store with PIPEDECO_STORE"
        )

    def _open(self) -> int:
        from pipedeco.blobs import make_private

        if not self.run:
            raise RunNotFound("a thread reports whose step and run are over")
        with self._opening:
            if self._file < 0:
                make_private(os.path.dirname(self.path))
                flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                file = out_of_reach(os.open(self.path, flags, 0o600))
                if not os.fstat(file).st_size:
                    os.write(file, events.HEAD)
                self._kin = self._kin or mmap.mmap(file, len(events.HEAD))
                self._touched = True
                self._file = file
            return self._file


class _Afar(Reporter):
    """Reports for a step from a process that the step has started, which knows no step.

    Parameters
    ----------
    address: of the step's own Reporter.
    """

    def __init__(self, address: str) -> None:
        super().__init__(lambda call: StepName("", "", 1, 0))
        from pipedeco.blobs import BlobStore

        run, pipeline, path, blobs = json.loads(address)
        self.enter(run, pipeline, path, BlobStore(blobs))
        self._process = 0  # every line is another process's than the step's
        self.call = self._begun = self  # the step's own process says where its part begins

    def where(self) -> str:
        return f"a process that a step of run {self.run} has started"


@cache
def afar(address: str, _process: int) -> Reporter:
    """What reports in a process that a step has started; the step's own has this address."""
    return _Afar(address)


class _Nowhere(Reporter):
    """Takes what is reported where nobody records it: in a replay, and outside of any run where
    PIPEDECO_STRICT=0 allows it."""

    def __init__(self) -> None:
        super().__init__(lambda call: StepName("", "", 1, 0))
        self.call = self

    def where(self) -> str:
        return "no run"

    def write(self, line: bytes) -> None:
        pass

    def put(self, data: bytes) -> str:
        return ""


def silent() -> Reporter:
    """Takes whatever is reported, and drops it."""
    return _Nowhere()


def _special(value: float) -> str:
    """What JSON, as Python writes it, has for a number that is none."""
    if value > 0:
        return "Infinity"
    return "-Infinity" if value < 0 else "NaN"

"""Event files of TensorBoard, read while a step writes them.

A file is a row of records: the length in 8 bytes, a checksum in 4, the data, a checksum in 4.  The
end may be torn, as a writer's buffer is.  Data are protobuf messages, which the module decodes that
the writer itself imported.
"""

from __future__ import annotations

import math
import os
import struct
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.media import SVG, Media, histogram_svg, image_media

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pipedeco.autolog.present import Showing

PROTOS = ("tensorboardX.proto.event_pb2", "tensorboard.compat.proto.event_pb2")
WRITER_THREADS = ("_EventLoggerThread", "_AsyncWriterThread")  # tensorboardX's, tensorboard's
PATIENCE = 2.0  # seconds for what a writer has queued
SETTLING = 0.01  # seconds in which a writer's thread writes what it has taken from its queue
TEXT_ENDING = "/text_summary"  # which writers add to the tags of texts

# The types of tensors' numbers (`DataType`), as struct has them.
TYPES = {1: "f", 2: "d", 3: "i", 4: "B", 5: "h", 6: "b", 9: "q", 10: "?", 19: "e", 22: "I", 23: "Q"}
FIELDS = ("float_val", "double_val", "int_val", "int64_val", "bool_val", "uint32_val", "uint64_val")
HALF = 19


class Found(NamedTuple):
    """One value of a summary."""

    name: str
    step: int
    time: float
    value: Any


class EventFiles:
    """The event files that one step writes."""

    def __init__(self, session: Showing) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._files: dict[str, EventFile] = {}  # by path
        self._owners: dict[str, str] = {}  # the folder that a tag was first met in
        self._closed = False

    def add(self, path: str) -> None:
        """A writer has opened this file."""
        path = os.path.abspath(path)
        self._files.setdefault(path, EventFile(path))

    def read(self) -> None:
        """Report what is new."""
        with self._lock:
            if self._closed:
                return
            for path, file in list(self._files.items()):
                try:
                    for data in file.records():
                        self._report(file, data)
                except Exception as error:  # noqa: BLE001 - a file that is gone, a reporter that fails
                    self._session.failed(f"the event file {path}", error)

    def poll(self) -> None:
        """Report what is new while the step runs, without waiting for its writers to flush."""
        self._flush_threads(patience=0.0)
        self.read()

    def finish(self) -> None:
        """Report what the step's writers still hold, and no more after it."""
        self._flush_threads(patience=PATIENCE)
        self.read()
        with self._lock:
            self._closed = True

    def _flush_threads(self, *, patience: float) -> None:
        """Open writers, and those that were dropped without being closed, live as their threads."""
        for thread in threading.enumerate():
            if type(thread).__name__ in WRITER_THREADS:
                try:
                    _drain(getattr(thread, "_queue", None), patience)
                    for name in ("_record_writer", "_writer"):
                        if hasattr(thread, name):
                            getattr(thread, name).flush()
                except Exception as error:  # noqa: BLE001 - private parts of a library; its disk may be full
                    self._session.failed("what an event file's writer still holds", error)

    # -- events ------------------------------------------------------------------------------

    def _report(self, file: EventFile, data: bytes) -> None:
        try:
            event = _event_class().FromString(data)
        except Exception as error:  # noqa: BLE001 - whatever a decoder raises for a damaged record
            self._session.failed("a record of an event file", error)
            return
        if event.WhichOneof("what") != "summary":
            return
        for value in event.summary.value:
            try:
                self._report_value(file, event, value)
            except Exception as error:  # noqa: BLE001 - a value of no known form, and the reporter
                self._session.failed(f"the value {value.tag!r} of an event file", error)

    def _report_value(self, file: EventFile, event: Any, value: Any) -> None:
        kind = value.WhichOneof("value")
        if kind == "tensor":  # which plugin shows it is said with the first of a tag only
            said = value.metadata.plugin_data.plugin_name
            kind = file.plugins.setdefault(value.tag, said) or said
        report = _REPORTS.get(kind or "")
        if report is not None:
            if value.tag not in file.names:
                file.names[value.tag] = self._name(value.tag, file.folder)
            found = Found(file.names[value.tag], event.step, event.wall_time, value)
            report(self._session, found)

    def _name(self, tag: str, folder: str) -> str:
        """The tag; where several writers have the same one, with what tells them apart."""
        for root in self._folders():
            within = folder.removeprefix(root + os.sep)
            # What add_scalars() opens a file for: in tensorboardX, and in torch.
            for begin in (f"{tag}/", f"{tag.replace('/', '_')}_"):
                if within != folder and within.startswith(begin):
                    return f"{tag}/{within[len(begin) :]}"
        if self._owners.setdefault(tag, folder) == folder:
            return tag
        return f"{os.path.basename(folder)}/{tag}"

    def _folders(self) -> set[str]:
        return {os.path.dirname(path) for path in list(self._files)}


class EventFile:
    """One file, and how far it is read."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.folder = os.path.dirname(path)
        self.plugins: dict[str, str] = {}  # by tag
        self.names: dict[str, str] = {}  # by tag, as they are reported
        self._start = 0

    def records(self) -> Iterator[bytes]:
        """The whole records that came since; a torn one waits for its end."""
        try:
            size = os.path.getsize(self.path)
        except FileNotFoundError:  # not there yet, or no more
            return
        if size < self._start:  # begun anew
            self._start = 0
        if size == self._start:
            return
        with open(self.path, "rb") as file:
            file.seek(self._start)
            while len(head := file.read(12)) == 12:
                length = struct.unpack_from("<Q", head)[0]
                if self._start + 16 + length > size:
                    return
                data = file.read(length)
                if len(data) < length or len(file.read(4)) < 4:
                    return
                self._start += 16 + length
                yield data


def _event_class() -> Any:
    for name in PROTOS:
        if name in sys.modules:
            return sys.modules[name].Event
    raise ImportError(f"neither {' nor '.join(PROTOS)} is imported")


# ---- writers


def _drain(queue: Any, patience: float) -> None:
    """Wait for so many seconds until a writer's thread has written what is queued."""
    if queue is None or not patience:
        return
    end = time.monotonic() + patience
    while _waiting(queue) and time.monotonic() < end:
        time.sleep(SETTLING / 10)
    time.sleep(SETTLING)


def _waiting(queue: Any) -> bool:
    try:
        return bool(queue.qsize())
    except NotImplementedError:  # macOS counts no semaphores
        return not queue.empty()


# ---- values


def _scalar(session: Showing, found: Found) -> None:
    session.reporter.metric(found.name, shortest(found.value.simple_value), found.step, found.time)


def _tensor_scalar(session: Showing, found: Found) -> None:
    number = numbers_of(found.value.tensor)[0]
    if found.value.tensor.dtype == 1:
        number = shortest(number)
    session.reporter.metric(found.name, float(number), found.step, found.time)


def _image(session: Showing, found: Found) -> None:
    media = image_media(found.value.image.encoded_image_string)
    session.reporter.media("image", found.name, media, found.step, found.time)


def _tensor_images(session: Showing, found: Found) -> None:
    images = found.value.tensor.string_val[2:]  # after the width and the height
    for i, data in enumerate(images):
        name = found.name if len(images) == 1 else f"{found.name}/{i}"
        session.reporter.media("image", name, image_media(data), found.step, found.time)


def _histogram(session: Showing, found: Found) -> None:
    """Buckets up to their limits; the first and the last may reach to the ends of all numbers."""
    histogram = found.value.histo
    low, high = histogram.min, histogram.max
    limits = [min(max(limit, low), high) for limit in (low, *histogram.bucket_limit)]
    _draw(session, found, limits, histogram.bucket)


def _tensor_histogram(session: Showing, found: Found) -> None:
    numbers = numbers_of(found.value.tensor)
    lefts, rights, counts = numbers[::3], numbers[1::3], numbers[2::3]
    _draw(session, found, [*lefts, *rights[-1:]] or [0.0], counts)


def _draw(session: Showing, found: Found, limits: Sequence[float], counts: Sequence[float]) -> None:
    drawn = histogram_svg(limits, counts, found.name)
    media = Media(SVG, drawn.encode())
    session.reporter.media("figure", found.name, media, found.step, found.time)


def _text(session: Showing, found: Found) -> None:
    name = found.name.removesuffix(TEXT_ENDING) or found.name
    for data in found.value.tensor.string_val:
        session.reporter.text(name, data.decode("utf-8", "replace"), found.step, found.time)


# By the field that a value has, and by the plugin that shows it.
_REPORTS: dict[str, Callable[[Showing, Found], None]] = {
    "simple_value": _scalar,
    "image": _image,
    "histo": _histogram,
    "scalars": _tensor_scalar,
    "images": _tensor_images,
    "histograms": _tensor_histogram,
    "text": _text,
}


def numbers_of(tensor: Any) -> list[float]:
    """The numbers of a TensorProto, which has them packed or as a list."""
    code = TYPES.get(tensor.dtype)
    if code is None:
        raise ValueError(f"a tensor of type {tensor.dtype} has no numbers")
    content = bytes(tensor.tensor_content)
    if content:
        return list(struct.unpack(f"<{len(content) // struct.calcsize(code)}{code}", content))
    if tensor.dtype == HALF:  # the bits of each, as a whole number
        halves = tensor.half_val
        numbers = list(struct.unpack(f"<{len(halves)}e", struct.pack(f"<{len(halves)}H", *halves)))
    else:
        numbers = next((list(values) for f in FIELDS if (values := getattr(tensor, f, ()))), [])
    count: int = math.prod(size.size for size in tensor.tensor_shape.dim)
    if len(numbers) == 1 < count:  # one stands for all
        return numbers * count
    return numbers or [0.0] * count


def shortest(number: float) -> float:
    """The decimal that was most likely logged: 0.1, where single precision has 0.10000000149."""
    if not math.isfinite(number):
        return number
    single = struct.pack("<f", number)
    for digits in range(6, 9):
        short = float(f"{number:.{digits}g}")
        try:
            if struct.pack("<f", short) == single:
                return short
        except OverflowError:  # rounded over the largest
            continue
    return number

"""What a station and the controller of a run exchange through the store, at the station's end.

    Exchange   of one run: its setting, where its values and logs are, what is asked of it
    Words      what is told of one batch while it goes on

The store is a folder that both see, at the same path:

    setting                        what holds for the steps of the run; touched as a sign of life
    <batch>.words                  a station has begun the batch, and what it tells of it
    cancel, kill                   what is asked of all stations

or a folder of an object store:

    setting                        what holds for the steps of the run
    sign                           marshalled (count, what is asked); counts on while the controller lives
    begun/<batch>                  a station has begun it
    words/<batch>.<number>         parts of its words
    ../blobs/<digest>              values
    ../code/<digest>               archives

Steps see files, so with an object store a station keeps a folder for each run: it fetches what a
batch needs before that begins, and sends what the batch made before it tells of it.  Logs travel
among the words, as ("part", log, suffix, offset, bytes).
"""

from __future__ import annotations

import marshal
import os
import re
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pipedeco.blobs import BlobStore
from pipedeco.errors import BlobCorrupt, PipedecoError, StoreError
from pipedeco.graph import FAILED
from pipedeco.objects import ObjectFolder
from pipedeco.worker.messages import encode
from pipedeco.worker.perform import describe_trouble
from pipedeco.worker.places import RUNS, Place, host
from pipedeco.worker.travel import SETTING, Setting, decode_setting, read_setting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CANCEL = "cancel"
KILL = "kill"
SIGN = "sign"
BEGUN = "begun"
WORDS = "words"
PART = "part"
SUFFIXES = "out", "err", "events"
BEAT = 0.1  # seconds between two words of a batch that goes on, and two looks for its cancel
OBJECT_BEAT = 1.0  # the same, where each costs a request
PART_SIZE = 1 << 23  # bytes of a log in one part
NAMED = re.compile(rb'"blob": "([0-9a-f]{64})"')  # in a line of events


class Asked(NamedTuple):
    """What a controller lets its stations know."""

    sign: object  # another one whenever it has given a sign of life; None where the run is over
    word: str = ""  # CANCEL, KILL


class Words(Protocol):
    """What is told of a batch; of one thread."""

    def write(self, told: list[tuple[Any, ...]], now: tuple[Any, ...] | None) -> None:
        """Let the controller see all that was told so far, and what goes on."""

    def last(self, told: list[tuple[Any, ...]]) -> bytes:
        """What returns through the engine; raises PipedecoError where a value is not sent yet."""

    def rest(self, told: list[tuple[Any, ...]], error: BaseException) -> bytes:
        """The same, where the values that are not sent never will be, because of an error."""

    def close(self) -> None: ...


class Exchange(Protocol):
    """Of one run, for all its batches."""

    beat: float  # seconds between two looks
    ships: bool  # whether telling takes time, for which a child's logs must not go on
    token: str  # what the names of logs end with
    setting: Setting
    blobs: str  # the folder of values, as children know it
    logs: str
    archives: BlobStore

    def begin(self, batch: str, logs: Iterable[str]) -> Words | None:
        """Claim a batch; None where another station has it.  `logs` grows with its children."""

    def asked(self, *, fresh: bool = False) -> Asked:
        """What is asked now, or was within a beat."""

    def bring(self, digests: Iterable[str]) -> None:
        """Have values here; raises BlobCorrupt or StoreError."""

    def value(self, digest: str) -> bytes:
        """The pickle of a value that is here."""

    def close(self) -> None:
        """Leave nothing of the run on this machine."""


def open_exchange(address: str) -> Exchange:
    """The exchange of a run, by its folder's path or URL.

    Raises StoreError where this machine does not see it, PipedecoError where this Python is
    another one than the controller's.
    """
    return ObjectExchange(address) if "://" in address else FolderExchange(address)


class FolderExchange:
    """Through a folder that this machine shares with the controller's."""

    beat = BEAT
    ships = False
    token = ""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.setting = read_setting(folder)
        self.blobs = self.setting.blobs
        self.logs = self.setting.logs
        self.archives = BlobStore(self.setting.archives)

    def begin(self, batch: str, logs: Iterable[str]) -> Words | None:
        path = os.path.join(self.folder, f"{batch}.words")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        try:
            return _FileWords(os.open(path, flags, 0o600))
        except FileExistsError:
            return None

    def asked(self, *, fresh: bool = False) -> Asked:
        try:
            sign = os.stat(os.path.join(self.folder, SETTING)).st_mtime_ns
        except OSError:
            return Asked(None)
        there = (what for what in (KILL, CANCEL) if os.path.exists(os.path.join(self.folder, what)))
        return Asked(sign, next(there, ""))

    def bring(self, digests: Iterable[str]) -> None:
        pass

    def value(self, digest: str) -> bytes:
        return bytes(BlobStore(self.blobs).get(digest)[0])

    def close(self) -> None:
        pass


class _FileWords:
    def __init__(self, file: int) -> None:
        self.file = file
        self.written = 0  # messages
        self.unwritten = bytearray()  # what a full disk has not taken: frames stay whole

    def write(self, told: list[tuple[Any, ...]], now: tuple[Any, ...] | None) -> None:
        if not self.unwritten:
            new = told[self.written :]
            self.written += len(new)
            self.unwritten += b"".join(map(encode, [*new, now] if now is not None else new))
        try:
            del self.unwritten[: os.write(self.file, self.unwritten)]
        except OSError:  # the next write tries again, and all of it is told at the end
            pass

    def last(self, told: list[tuple[Any, ...]]) -> bytes:
        return b"".join(map(encode, told))

    def rest(self, told: list[tuple[Any, ...]], error: BaseException) -> bytes:
        return self.last(told)

    def close(self) -> None:
        os.close(self.file)


class ObjectExchange:
    """Through an object store, with a folder of this machine's own."""

    beat = OBJECT_BEAT
    ships = True

    def __init__(self, url: str) -> None:
        home, _, name = url.rpartition("/")
        self.run = ObjectFolder(url)
        try:
            data = self.run.read(SETTING)
        except (PipedecoError, FileNotFoundError) as error:
            why = "it is not there" if isinstance(error, FileNotFoundError) else error
            raise StoreError(
                f"the engine's worker on {host()} cannot read {url}/{SETTING}, which the controller "
                f"wrote: {why}"
            ) from None
        self.setting = decode_setting(data)
        self.token = f"-{os.urandom(3).hex()}"  # containers may have all else in common
        self._scratch = Place(RUNS, name)
        self.blobs = os.path.join(self._scratch.folder, "blobs")
        self.logs = os.path.join(self._scratch.folder, "logs")
        self.values = BlobStore(self.blobs, lambda: ObjectFolder(f"{home}/blobs"))
        self.archives = BlobStore(
            os.path.join(self._scratch.folder, "code"), lambda: ObjectFolder(f"{home}/code")
        )
        self.sent: set[str] = set()  # digests that the store has
        self.shipped: dict[str, int] = {}  # bytes of each log file
        self._asked = Asked("")
        self._looked = 0.0
        self._looking = threading.Lock()

    def begin(self, batch: str, logs: Iterable[str]) -> Words | None:
        if not self.run.claim(f"{BEGUN}/{batch}"):
            return None
        return _ObjectWords(self, batch, logs)

    def asked(self, *, fresh: bool = False) -> Asked:
        with self._looking:
            if fresh or time.monotonic() - self._looked >= self.beat:
                try:
                    self._asked = Asked(*marshal.loads(self.run.read(SIGN)))
                except FileNotFoundError:
                    self._asked = Asked(None)
                except PipedecoError:  # out of reach for a while; its silence is counted
                    pass
                self._looked = time.monotonic()
            return self._asked

    def bring(self, digests: Iterable[str]) -> None:
        for digest in digests:
            try:
                self.values.bring(digest)
            except (BlobCorrupt, StoreError) as error:
                raise StoreError(
                    f"the engine's worker on {host()} cannot have an argument: {error}"
                ) from error
            self.sent.add(digest)

    def value(self, digest: str) -> bytes:
        return bytes(self.values.get(digest)[0])

    def send(self, digests: Iterable[str]) -> None:
        """Let the store have values; raises BlobCorrupt or StoreError."""
        for digest in digests:
            if digest not in self.sent:
                self.values.send(digest)
                self.sent.add(digest)

    def grown(
        self, logs: Iterable[str], *, whole: bool = False
    ) -> Iterator[tuple[str, str, int, bytes]]:
        """(log, suffix, offset, bytes) of what was written since the last time.

        Parameters
        ----------
        whole: whether a line of events may be cut, as nothing more is written.
        """
        for log in list(logs):
            for suffix in SUFFIXES:
                path = os.path.join(self.logs, f"{log}.{suffix}")
                lines = suffix == "events" and not whole
                while data := _part_of(path, self.shipped.get(path, 0), lines=lines):
                    offset = self.shipped.get(path, 0)
                    yield log, suffix, offset, data
                    self.shipped[path] = offset + len(data)

    def close(self) -> None:
        self._scratch.leave()


def _part_of(path: str, offset: int, *, lines: bool) -> bytes:
    """What comes next in a file; with `lines` up to the end of one, for what a line names."""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read(PART_SIZE)
            return data[: data.rfind(b"\n") + 1] if lines else data
    except FileNotFoundError:
        return b""


class _ObjectWords:
    """Values and logs are in the store before words of them."""

    def __init__(self, exchange: ObjectExchange, batch: str, logs: Iterable[str]) -> None:
        self.exchange = exchange
        self.batch = batch
        self.logs = logs
        self.written = 0  # messages
        self.parts = 0  # objects
        self.now: tuple[Any, ...] = ()

    def write(self, told: list[tuple[Any, ...]], now: tuple[Any, ...] | None) -> None:
        new = told[self.written :]
        if self.exchange.asked().sign is None:  # the run is over, and its folder is gone
            return
        try:
            self.exchange.send(_values_of(new))
            for part in self.exchange.grown(self.logs):
                self._put([(PART, *part)], part)
            news = [*new] if now is None or _is_same(now, self.now) else [*new, now]
            if news:
                self._put(news)
        except (PipedecoError, OSError):  # out of reach for a while: the next write tries again
            return
        self.written += len(new)
        self.now = now or ()

    def last(self, told: list[tuple[Any, ...]]) -> bytes:
        """All that was told, and the rest of the logs: as a rule nothing else is needed."""
        if self.exchange.asked().sign is None:  # nobody is to find anything there any more
            return self.rest(told, StoreError("the run is over"))
        self.write(told, None)  # what is long; the rest returns
        self.exchange.send(_values_of(told))
        found = []
        for part in self.exchange.grown(self.logs, whole=True):
            self.exchange.send(_named_by(part))
            found.append((PART, *part))
        return b"".join(map(encode, [*found, *told]))

    def rest(self, told: list[tuple[Any, ...]], error: BaseException) -> bytes:
        described = tuple(describe_trouble(error))
        sent = self.exchange.sent
        return b"".join(
            encode(_failed(message, described) if set(_values_of([message])) - sent else message)
            for message in told
        )

    def close(self) -> None:
        pass

    def _put(
        self, messages: list[tuple[Any, ...]], part: tuple[str, str, int, bytes] | None = None
    ) -> None:
        if part is not None:
            self.exchange.send(_named_by(part))
        name = f"{WORDS}/{self.batch}.{self.parts:08}"
        self.parts += 1  # first: who does not know whether it is there uses no name again
        self.exchange.run.put(name, b"".join(map(encode, messages)))


def _failed(message: tuple[Any, ...], described: tuple[Any, ...]) -> tuple[Any, ...]:
    """What is told of a call whose value stays here."""
    number, _, began, duration, _, _, _, _, _, logs = message[1]
    outcome = number, FAILED, began, duration, None, None, (), described, None, logs
    return message[0], outcome, *message[2:]


def _is_same(now: tuple[Any, ...], last: tuple[Any, ...]) -> bool:
    """Whether only time has passed."""
    return now[:3] + now[4:] == last[:3] + last[4:]


def _values_of(told: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    """The digests of the values that outcomes name."""
    for message in told:
        if message[0] == "outcome" and isinstance(message[1][4], str):
            yield message[1][4]


def _named_by(part: tuple[str, str, int, bytes]) -> Iterator[str]:
    """The digests of what steps reported, in a part of their events."""
    if part[1] == "events":
        for found in NAMED.finditer(part[3]):
            yield found[1].decode()

"""What a run and its stations exchange through the store, at the controller's end.

The other end, and what lies where, is in worker/exchange.py.  All methods but `open` are the loop's
and never wait: a folder answers at once, an object store by threads of its own, later, on the loop.
What is told of a batch reaches `heard(batch, messages)`.
"""

from __future__ import annotations

import logging
import marshal
import os
import re
import shutil
import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from pipedeco.blobs import BlobStore, home_of, keep_home, make_private
from pipedeco.errors import PipedecoError
from pipedeco.worker.batch import needed
from pipedeco.worker.exchange import BEGUN, PART, SIGN, SUFFIXES, WORDS
from pipedeco.worker.messages import Decoder
from pipedeco.worker.travel import SETTING, encode_setting, write_setting

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipedeco.objects import ObjectFolder
    from pipedeco.runners import RunFacts
    from pipedeco.worker.batch import Batch
    from pipedeco.worker.travel import Setting

    Heard = Callable[[str, list[tuple[Any, ...]]], None]
    Then = Callable[[BaseException | None], None]  # why it could not be done

_log = logging.getLogger("pipedeco")
LOST = 10.0  # seconds for which the end of a run waits for an object store
WORD = re.compile(r"(b\d+)\.\d{8}")
LOOK = 0.5  # seconds between two looks into an object store
SILENT = 86400.0  # seconds without a sign after which a run's folder is nobody's: LEASE many times
HANDS = 4  # threads that send and fetch


class RunExchange(Protocol):
    """Of one run, for all its batches."""

    address: str  # of the run, for its stations
    archives: BlobStore  # here

    def open(self, setting: Setting) -> None:
        """Let stations know the setting and have the code; from any thread, and may take long.

        Raises StoreError or OSError where the store cannot be used.
        """

    def sign(self) -> None:
        """Tell stations that somebody waits for what they do."""

    def ask(self, word: str) -> None:
        """Ask all stations for something: CANCEL or KILL."""

    def offer(self, batch: Batch, then: Then) -> None:
        """Let stations have the values that a batch needs."""

    def unless_begun(self, batch: str, then: Callable[[], object]) -> None:
        """Do something unless a station has begun a batch."""

    def look(self) -> None:
        """Hear what is told of the batches under way."""

    def rest(self, batch: str, data: bytes, then: Then) -> None:
        """Hear what returned through the engine; where nothing did, all that was told before."""

    def over(self, batch: str) -> None:
        """Nothing more is to be heard of a batch."""

    def close(self, then: Callable[[], object]) -> None:
        """The run is over: its stations find nothing there any more."""


def open_exchange(facts: RunFacts, post: Callable[..., None], heard: Heard) -> RunExchange:
    """The exchange of a run, by what the settings say.

    Parameters
    ----------
    post: has something called on the loop.

    Raises ConfigError for a setting that cannot be used.
    """
    store = os.path.dirname(facts.blobs.folder)
    home = home_of(store)
    if home is None:
        return FolderExchange(facts, os.path.join(store, "remote"), heard)
    return ObjectExchange(facts, os.path.join(store, "remote"), home, post, heard)


def _name_of(facts: RunFacts) -> str:
    return f"{facts.id}-{os.urandom(4).hex()}"


def _is_former(name: str, own: str) -> bool:
    """Whether a folder was that of the same run under a former controller."""
    return name != own and name.rpartition("-")[0] == own.rpartition("-")[0]


class FolderExchange:
    """Through a folder that workers see at the same path."""

    def __init__(self, facts: RunFacts, shared: str, heard: Heard) -> None:
        self.facts = facts
        self.shared = shared
        self.address = os.path.join(shared, _name_of(facts))
        self.archives = BlobStore(os.path.join(shared, "code"))
        self.heard = heard
        self._read: dict[str, tuple[int, Decoder]] = {}  # bytes of its words, by batch

    def open(self, setting: Setting) -> None:
        own = os.path.basename(self.address)
        for name in os.listdir(self.shared) if os.path.isdir(self.shared) else ():
            # Who still works for a former one, ends when that is gone.
            if _is_former(name, own) or self._is_left(name):
                shutil.rmtree(os.path.join(self.shared, name), ignore_errors=True)
        facts = self.facts
        write_setting(
            self.address,
            setting._replace(
                blobs=facts.blobs.folder, archives=self.archives.folder, logs=facts.logs
            ),
        )

    def _is_left(self, name: str) -> bool:
        """Whether a folder is of a controller that was killed: its stations have left it, too."""
        try:
            signed = os.stat(os.path.join(self.shared, name, SETTING)).st_mtime
        except OSError:  # it is no run's, is being written, or goes at this moment
            return False
        return time.time() - signed > SILENT

    def sign(self) -> None:
        try:
            os.utime(os.path.join(self.address, SETTING))
        except OSError:  # not written, or the disk is away: the next sign may be seen
            pass

    def ask(self, word: str) -> None:
        try:
            with open(os.path.join(self.address, word), "wb"):
                pass
        except OSError:  # nothing was ever sent, or the disk is full: the folder's end tells, too
            pass

    def offer(self, batch: Batch, then: Then) -> None:
        self._read[batch.name] = 0, Decoder()
        then(None)

    def unless_begun(self, batch: str, then: Callable[[], object]) -> None:
        if not os.path.exists(self._words(batch)):
            then()

    def look(self) -> None:
        for batch in list(self._read):
            self._look(batch)

    def _look(self, batch: str) -> None:
        read, decoder = self._read[batch]
        try:
            with open(self._words(batch), "rb") as file:
                file.seek(read)
                data = file.read()
        except OSError:  # it is not begun, or the store is out of reach for a moment
            return
        if data:
            self._read[batch] = read + len(data), decoder
            self.heard(batch, list(decoder.feed(data)))

    def rest(self, batch: str, data: bytes, then: Then) -> None:
        if data:
            self.heard(batch, list(Decoder().feed(data)))
        else:
            self._look(batch)
        then(None)

    def over(self, batch: str) -> None:
        self._read.pop(batch, None)

    def close(self, then: Callable[[], object]) -> None:
        shutil.rmtree(self.address, ignore_errors=True)
        then()

    def _words(self, batch: str) -> str:
        """The file in which a station tells of a batch; it is there once that is begun."""
        return os.path.join(self.address, f"{batch}.words")


class ObjectExchange:
    """Through an object store; logs that arrive are written where a shared folder has them."""

    def __init__(
        self,
        facts: RunFacts,
        shared: str,
        home: ObjectFolder,
        post: Callable[..., None],
        heard: Heard,
    ) -> None:
        self.facts = facts
        self.home = home
        self.name = _name_of(facts)
        self.run = home.below(self.name)
        self.address = self.run.url
        self.values = BlobStore(facts.blobs.folder, lambda: home.below("blobs"))
        self.archives = BlobStore(os.path.join(shared, "code"), lambda: home.below("code"))
        self.post = post
        self.heard = heard
        self._opened = False  # whether there is anything to remove
        self._closed = False
        # What takes long must hold up neither signs nor what is heard.
        self._hands = _Threads(HANDS)
        self._voice = _Threads(1)
        self._ears = _Threads(1)
        self._word = ""
        self._count = 0  # of signs
        self._signing = threading.Lock()
        self._opening = threading.Lock()
        self._sent: dict[str, threading.Lock] = {}  # digests of values; held while one is sent
        self._there: set[str] = set()  # digests of values that the store has
        self._last: dict[str, str] = {}  # the last object that was read, by batch
        self._looked = 0.0
        self._looking = False

    def open(self, setting: Setting) -> None:
        with self._opening:
            if not self._closed:
                self._open(setting)

    def _open(self, setting: Setting) -> None:
        former = [name for name in self.home.names() if _is_former(name, self.name)]
        self.home.remove([f"{name}/{SIGN}" for name in former])  # who still works for it, ends
        self.home.remove(former)
        self._opened = True
        keep_home(os.path.dirname(self.values.folder), self.home)
        self._sign()
        if setting.code is not None:
            self.archives.send(setting.code)
        self.run.put(SETTING, encode_setting(setting))

    def sign(self) -> None:
        self._do(self._voice, self._sign)

    def ask(self, word: str) -> None:
        self._word = word
        self._do(self._voice, self._sign, then=self._asked)

    def _asked(self, error: BaseException | None) -> None:
        if error is not None and not self._closed:
            self._do(self._voice, self._sign, then=self._asked)

    def _sign(self) -> None:
        with self._signing:
            if self._closed or not self._opened:
                return
            self._count += 1
            self.run.put(SIGN, marshal.dumps((self._count, self._word)))

    def offer(self, batch: Batch, then: Then) -> None:
        self._last[batch.name] = ""
        self._do(self._hands, self._offer, batch, then=then)

    def _offer(self, batch: Batch) -> None:
        for digest in needed(batch):
            with self._sent.setdefault(digest, threading.Lock()):
                if digest not in self._there:
                    self.values.send(digest)
                    self._there.add(digest)

    def unless_begun(self, batch: str, then: Callable[[], object]) -> None:
        def look() -> None:
            if self.run.size(f"{BEGUN}/{batch}") is None:
                self.post(then)

        self._do(self._voice, look)

    def look(self) -> None:
        if not self._looking and time.monotonic() - self._looked >= LOOK:
            self._looking = True
            self._do(self._ears, self._look, then=self._has_looked)

    def _has_looked(self, error: BaseException | None) -> None:  # out of reach: the next may see it
        self._looked = time.monotonic()
        self._looking = False

    def _look(self, batch: str = "") -> None:
        """Hear all words that are new, or those of one batch."""
        for name in self.run.names(WORDS):
            found = WORD.fullmatch(name)
            if found is not None and batch in ("", found[1]):
                self._read(found[1], name)

    def _read(self, batch: str, name: str) -> None:
        """Hear one object, unless it was heard before."""
        last = self._last.get(batch)
        if last is None or name <= last:
            return
        try:
            data = self.run.read(f"{WORDS}/{name}")
        except FileNotFoundError:
            return
        self._hear(batch, data)
        if batch in self._last:
            self._last[batch] = name
        self.run.remove([f"{WORDS}/{name}"])  # a run may be long, and listings are not to be

    def _hear(self, batch: str, data: bytes) -> None:
        """Write parts of logs; the loop hears of the rest, which tells where in them things stand."""
        messages = []
        for message in Decoder().feed(data):
            if message[0] != PART:
                messages.append(message)
                continue
            try:
                self._write(*message[1:])
            except OSError as error:  # a full disk, say: the outcomes still count
                _log.warning("a part of a log of run %s is lost: %s", self.facts.id, error)
        if messages:
            self.post(self.heard, batch, messages)

    def _write(self, log: str, suffix: str, offset: int, data: bytes) -> None:
        if os.path.basename(log) != log or suffix not in SUFFIXES:  # no station of ours says so
            return
        make_private(self.facts.logs)
        path = os.path.join(self.facts.logs, f"{log}.{suffix}")
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(data)
            while view:
                written = os.pwrite(file, view, offset)
                offset += written
                view = view[written:]
        finally:
            os.close(file)

    def rest(self, batch: str, data: bytes, then: Then) -> None:
        def read() -> None:
            try:
                self._look(batch)  # parts of logs may be in what nobody has read
            finally:
                self._hear(batch, data)  # whatever comes of that: these are the outcomes

        def heard(error: BaseException | None) -> None:
            if error is not None:
                _log.warning("a part of a log of run %s is lost: %s", self.facts.id, error)
            then(None)

        self._do(self._ears, read, then=heard)

    def over(self, batch: str) -> None:
        self._last.pop(batch, None)

    def close(self, then: Callable[[], object]) -> None:
        self._closed = True
        threads = self._hands, self._voice, self._ears
        for group in threads:
            group.drop()

        def remove() -> None:
            with self._opening, self._signing:
                if self._opened:
                    self.run.remove([SIGN])  # first, so that whoever works for the run ends
                    self.home.remove([self.name])

        def removed(error: BaseException | None) -> None:
            if error is not None:
                _log.warning("%s is left, pipedeco prune removes it: %s", self.run.url, error)
            then()

        self._do(self._voice, remove, then=removed)
        for group in threads:
            group.end()

    def _do(
        self, threads: _Threads, action: Callable[..., None], *args: Any, then: Then | None = None
    ) -> None:
        """Have something done by a thread; `then` hears on the loop how that went."""

        def do() -> None:
            error: BaseException | None = None
            try:
                action(*args)
            except (PipedecoError, OSError) as found:
                error = found
            except Exception as found:  # noqa: BLE001 - a defect here must not leave the run waiting for ever
                _log.exception("the exchange with %s", self.address)
                error = PipedecoError(f"the exchange with {self.address} has failed: {found!r}")
            if then is not None:
                self.post(then, error)

        threads.do(do)


class _Threads:
    """Daemons that take one action after another; a store that hangs holds up no exit of Python."""

    def __init__(self, count: int) -> None:
        self._actions: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._count = count
        for _ in range(count):
            threading.Thread(target=self._work, name="pipedeco-exchange", daemon=True).start()

    def do(self, action: Callable[[], None]) -> None:
        self._actions.put(action)

    def drop(self) -> None:
        """Forget what nobody has begun."""
        while not self._actions.empty():
            try:
                self._actions.get_nowait()
            except Empty:  # a thread was quicker
                return

    def end(self) -> None:
        """Let the threads end when all is done."""
        for _ in range(self._count):
            self._actions.put(None)

    def _work(self) -> None:
        while True:
            action = self._actions.get()
            if action is None:
                return
            action()

"""Which steps need not be performed: their code, all that it reaches and their arguments are known.

    at the call     the key's digests: code, arguments                  make_key
    when ready      those of the inputs' values; then key -> value      take
    a hit           the recorded value becomes the step's
    a miss          one process computes a key at a time                Flights

What cannot be proven equal is a miss.  Values are fingerprinted by workers, when a cached step first
needs it; here only digests are compared.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sys
import threading
import time
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from pipedeco.components import bound_arguments
from pipedeco.errors import PipedecoError, StoreError
from pipedeco.fingerprint.code import CodeKeys
from pipedeco.fingerprint.files import Contents, File, file_digest
from pipedeco.fingerprint.naming import layout
from pipedeco.fingerprint.registry import BUILT_IN
from pipedeco.fingerprint.results import find_named, fingerprint, parts_of
from pipedeco.fingerprint.unproven import Unproven
from pipedeco.fingerprint.values import value_digest
from pipedeco.graph import (
    CACHED,
    COMPLETED,
    ENDED,
    SUCCESS,
    Called,
    Outcome,
    Step,
    StepCall,
    StepKey,
)
from pipedeco.options import ComponentOptions
from pipedeco.result import ATOMS, StepResult, make_result
from pipedeco.serialization import Pickler, given_input, globals_named, main_names, unpack
from pipedeco.store.database import connect_to_read, queries
from pipedeco.store.reports import adopt
from pipedeco.store.rows import unpack_logs
from pipedeco.tracing import current

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from pipedeco.blobs import BlobStore
    from pipedeco.cache_warnings import CacheWarnings
    from pipedeco.fingerprint.code import CodeKey
    from pipedeco.runners import Session
    from pipedeco.serialization import Packed

Files = tuple[tuple[str, str | None], ...]  # paths, and digests of what they held
NOT_COMPARED = "!cannot be compared: "  # in place of a value's fingerprint, and why
_CONTAINERS = frozenset({list, tuple, set, frozenset, dict})
POLL = 0.02  # seconds between two looks at a key that another process computes


class Flights:
    """Which keys this process computes; no two processes compute one at a time.

    Each key is one byte of a file, locked as long as it is being computed.  Such locks die with
    the process, cost no descriptor each, and are not inherited.

    Parameters
    ----------
    folder: of the store.
    """

    def __init__(self, folder: str) -> None:
        self._lock = threading.Lock()
        self._mine: dict[str, list[Callable[[], None]]] = {}  # and who waits for it
        path = os.path.join(folder, "flights")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def claim(self, key: str) -> bool:
        """Whether the key is ours to compute."""
        with self._lock:
            if key in self._mine:
                return False
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(key))
            except OSError as error:
                # Where the file system has no locks: better done twice than never.
                return error.errno not in (errno.EACCES, errno.EAGAIN)
            self._mine[key] = []
            return True

    def wait(self, key: str, then: Callable[[], None]) -> bool:
        """Have `then` called once this process has computed a key; False where it does not."""
        with self._lock:
            waiting = self._mine.get(key)
            if waiting is not None:
                waiting.append(then)
            return waiting is not None

    def release(self, key: str) -> None:
        with self._lock:
            waiting = self._mine.pop(key, None)
            if waiting is not None:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _place(key))
        for then in waiting or ():
            then()

    def close(self) -> None:
        os.close(self._file)


def _place(key: str) -> int:
    return int(key[:15], 16)  # below the largest offset of a file


class ResultCache:
    """One run's use of the cache.

    Parameters
    ----------
    folder: of the store.
    blobs: its values.
    logs: the folder of the run's logs.
    session: fingerprints values; its thread is where all but `make_key` happens.
    codes: the keys of code, shared by the runs of a process.
    flights: which keys are being computed here.
    refresh: True, or names of components and steps, to perform in any case.
    seed: of the run; what a step draws from it counts, and so its name does.
    fingerprinted: called with a step whose value has got its fingerprint.
    """

    def __init__(
        self,
        folder: str,
        blobs: BlobStore,
        logs: str,
        session: Session,
        *,
        codes: Codes,
        flights: Flights,
        refresh: bool | tuple[str, ...],
        seed: int | None,
        fingerprinted: Callable[[Step], None],
    ) -> None:
        self.folder = folder
        self.blobs = blobs
        self.logs = logs
        self.session = session
        self.codes = codes
        self.flights = flights
        self.refresh = refresh
        self.seed = seed
        self.fingerprinted = fingerprinted
        self._held: dict[StepCall, None] = {}  # neither ended nor handed out
        self._prints: dict[Step, str] = {}  # of values, as keys count them
        self._named: dict[Step, list[tuple[str, str | None]]] = {}  # files in them, by digest
        self._contents = Contents()
        self._layout = layout()
        self._asked: dict[Step, list[StepCall]] = {}  # who waits for the fingerprint of a value
        self._claimed: set[str] = set()  # keys that wait for the record of their step
        self._connection: sqlite3.Connection | None = None
        self._intact: set[str] = set()  # blobs whose content was checked
        self._sent: dict[str, str] = {}  # values of `__main__` as keys first had them
        self._helpers: dict[str, Called] = {}
        self._agreed: dict[Any, bool] = {}  # by function: whether workers have the same code
        self._made_warnings: CacheWarnings | None = None
        self._doubted: dict[Any, list[StepCall]] = {}  # who waits for that

    @property
    def _warnings(self) -> CacheWarnings:
        """Made for the first of them: most runs have none."""
        if self._made_warnings is None:
            from pipedeco.cache_warnings import CacheWarnings

            self._made_warnings = CacheWarnings()
        return self._made_warnings

    # -- at the call, in the body's thread ---------------------------------------------------

    def make_key(
        self,
        component: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        inputs: tuple[Step, ...],
    ) -> StepKey:
        """What a call's key is made of, as far as it is known before its inputs are."""
        cache = component.step_options.cache
        token = current.set(None)  # modules that the code imports late are imported now
        try:
            code = self.codes.of(component.fn)
            if code.unproven:
                self._warnings.tell_of_code(component, code.unproven[0])
            unproven = code.unproven[0] if code.unproven else self._moved(code)
            if unproven:
                return StepKey(cache, code.digest, {}, unproven)
            try:
                arguments = self._arguments(component, args, kwargs, inputs)
            except Unproven as error:
                if all(os.path.exists(file.path) for file in _files((args, kwargs))):
                    self._warnings.tell_of_argument(component, str(error))
                return StepKey(cache, code.digest, {}, str(error))
            key = StepKey(cache, code.digest, arguments, None)
            key.layout = self._layout
            key.files = [(file.path, file_digest(file.path)) for file in _files((args, kwargs))]
            return key
        finally:
            current.reset(token)

    def _moved(self, code: CodeKey) -> str | None:
        """What of `__main__` was changed since the run's first look: workers were sent that."""
        if self.session.in_process:
            return None
        for name, digest in code.parts:
            if name.startswith("value __main__.") and self._sent.setdefault(name, digest) != digest:
                return (
                    f"{name.partition(' ')[2]} was changed during the run; workers do not see that"
                )
        return None

    def _arguments(
        self,
        component: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        inputs: tuple[Step, ...],
    ) -> dict[str, str]:
        places = {step: number for number, step in enumerate(inputs)}
        registry = BUILT_IN
        if inputs:
            registry = BUILT_IN.copy()
            registry.register(StepResult, lambda result: (places[result.step], result._path))
        ignored = component.step_options.cache.ignore
        bound = bound_arguments(component.fn, args, kwargs)
        return {
            name: value_digest(
                value, code_digest=self.codes.digest, what=name, registry=registry
            )
            for name, value in _named_apart(component, *bound)
            if name.partition(" ")[0] not in ignored
        }  # fmt: skip

    # -- when a step is ready, on the scheduler's thread ---------------------------------------

    def covers(self, step: Step) -> bool:
        return step.key is not None

    def keeps(self, step: Step) -> bool:
        return False  # what is known is the value of another step

    def take(self, call: StepCall) -> bool:
        """Whether the call is dealt with: its value is known, or it is held until one can tell."""
        key = call.step.key
        if key is None or key.unproven is not None:
            return False
        if self._named:
            self._forget_changed(call.step)
        missing = [dep for dep in call.step.inputs if dep not in self._prints]
        missing = [dep for dep in missing if not self._known(dep)]
        if missing:
            self._held[call] = None
            for dep in missing:
                self._ask(dep, call)
            return True
        return self._decide(call)

    def stop(self) -> list[StepCall]:
        """The calls that are held, which nobody will perform."""
        held = list(self._held)
        self._held.clear()
        return held

    def withdraw(self, call: StepCall) -> bool:
        """Take back a call that is held; whether it was."""
        return self._held.pop(call, self) is None

    def close(self) -> None:
        if self._made_warnings is not None:
            self._made_warnings.tell_noted()
        for name in list(self._claimed):  # of a run that could not be recorded
            self._release(name)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _decide(self, call: StepCall) -> bool:
        step = call.step
        key = step.key
        assert key is not None
        if key.release is not None:  # an attempt of it has failed; the key is still ours
            return False
        name = self._name(step, key)
        if name is None:
            return False
        key.key = name
        if self._refreshes(step, key):
            key.note = "it was to be refreshed"
        else:
            outcome = self._find(key)
            if outcome is not None:
                self.session.post(call.done, call, outcome)  # not at once: chains may be long
                return True
        agreed = self._agree(call)
        if agreed is None:
            return True
        if not agreed:
            key.unproven = "a worker has other values of globals that it reaches than this process"
            return False
        if self.flights.claim(name):
            self._claimed.add(name)
            key.release = lambda: self._release(name)
            return False
        self._held[call] = None  # somebody computes it; look again then
        again = partial(self.session.post, self._again, call)
        # The debug runner acts in the body's thread alone, and must come back to it by itself.
        if self.session.in_process or not self.flights.wait(name, again):
            self.session.later(POLL, self._again, call)
        return True

    def _release(self, name: str) -> None:
        self._claimed.discard(name)
        self.flights.release(name)

    def _again(self, call: StepCall) -> None:
        if call not in self._held:
            return
        del self._held[call]
        if call.step.state in ENDED:
            return
        try:
            taken = self._decide(call)
        except Exception as error:  # noqa: BLE001 - users' code is looked at
            taken = False
            if call.step.key is not None:
                call.step.key.unproven = f"looking at it raised {type(error).__name__}: {error}"
        if not taken:
            self.session.submit(call)

    def _refreshes(self, step: Step, key: StepKey) -> bool:
        refresh = self.refresh
        if isinstance(refresh, bool):
            return refresh or key.cache.refresh
        return key.cache.refresh or step.called.name in refresh or step.name in refresh

    def _name(self, step: Step, key: StepKey) -> str | None:
        """The key itself; None where an input cannot be compared."""
        key.inputs = {dep.name: self._prints[dep] for dep in step.inputs}
        if self._named:
            key.given = [file for dep in step.inputs for file in self._named.get(dep, ())]
        for name, found in key.inputs.items():
            if found.startswith("!"):
                key.unproven = f"the value of step {name} {found[1:]}"
                if found.startswith(NOT_COMPARED):
                    self._warnings.note(step.called.component, key.unproven)
                return None
        content = [
            key.code,
            key.cache.version,
            sorted(key.arguments.items()),
            list(key.inputs.values()),
        ]
        if key.environment is not None:
            content.append(key.environment)
        if self.seed is not None:
            key.seed = f"{self.seed}/{step.name}"
            content.append(f"seed {key.seed}")
        return blake3(repr(content).encode()).hexdigest()  # of texts and None alone

    # -- what is recorded ----------------------------------------------------------------------

    def _find(self, key: StepKey) -> Outcome | None:
        row = self._lookup(key)
        if row is None:
            return None
        step, value, preview, found_print, created, run, logs, parts = row
        recorded = json.loads(parts) if parts and _tells_more(parts) else {}
        files = files_recorded(recorded)
        elsewhere = recorded.get("layout", "") != self._layout
        key.note = self._why_not(key, value, created, files, elsewhere=elsewhere)
        if key.note is not None:
            return None
        # It counts what files held then, and names modules as they were called there.
        key.fingerprint = None if files or elsewhere else found_print
        key.origin = step
        names: tuple[str, ...] = ()
        if value is not None and _mentions_main(self.blobs.main_part(value)):
            main = sys.modules["__main__"].__dict__
            names = main_names(self.blobs.main_part(value), main)
        reported = adopt(self.folder, run, unpack_logs(logs), self.logs) if logs else None
        facts = value, preview, names
        return Outcome(
            *(CACHED, time.time(), 0.0, *facts), logs=reported, worker="cache", files=files
        )

    def _why_not(
        self, key: StepKey, value: Packed | None, created: float, files: Files, *, elsewhere: bool
    ) -> str | None:
        """Why a known value does not serve; None where it does.

        Parameters
        ----------
        files: that it names, and what they held.
        elsewhere: whether it was made where modules had other names.
        """
        if key.cache.ttl is not None and time.time() - created > key.cache.ttl:
            return f"the known value is older than {key.cache.ttl:g} s"
        if isinstance(value, str) and not self._is_intact(value):
            return "the known value is missing or damaged"
        changed = self._contents.changed(files) if files else None
        if changed is not None:
            return f"{changed}: it is in the known value"
        lost = lost_module(self.blobs.main_part(value)) if elsewhere and value is not None else None
        if lost is not None:
            return f"the known value needs module {lost}, which is called otherwise here"
        return None

    def _lookup(self, key: StepKey) -> Any:
        import sqlite3

        try:
            if self._connection is None:
                self._connection = connect_to_read(self.folder)
            return self._connection.execute(
                queries()["cached_value"], {"key": key.key}
            ).fetchone()  # fmt: skip
        except (sqlite3.Error, StoreError) as error:
            key.note = f"the store could not be read: {error}"
            return None

    def _is_intact(self, digest: str) -> bool:
        if digest not in self._intact:
            try:
                if not self.blobs.is_intact(digest):
                    return False
            except (OSError, PipedecoError):  # of which the second is an origin out of reach
                return False
            self._intact.add(digest)
        return True

    # -- fingerprints of values ----------------------------------------------------------------

    def _forget_changed(self, step: Step) -> None:
        """Forget the fingerprints of inputs whose files have changed since they were made."""
        for dep in step.inputs:
            if dep in self._named and self._contents.changed(self._named[dep]) is not None:
                del self._named[dep], self._prints[dep]
                if dep.key is not None:
                    dep.key.fingerprint = None

    def _known(self, dep: Step) -> bool:
        """Whether the fingerprint of a value is known without looking at the value."""
        if dep.key is not None and dep.key.fingerprint is not None:
            self._prints[dep] = self._counted(dep.key.fingerprint)
            return True
        if dep.state not in SUCCESS:
            self._prints[dep] = "!is not there"
            return True
        return False

    def _ask(self, dep: Step, call: StepCall) -> None:
        """Have a worker fingerprint a value; `call` goes on then."""
        waiting = self._asked.get(dep)
        if waiting is not None:
            waiting.append(call)
            return
        self._asked[dep] = [call]
        results = make_result(dep)
        self._have_done(
            fingerprint, _one_input(), (dep,), ((results,), {}), lambda out: self._told(dep, out)
        )

    def _have_done(
        self,
        fn: Callable[..., Any],
        args: Packed | None,
        inputs: tuple[Step, ...],
        originals: Any,
        then: Callable[[Outcome], None],
    ) -> None:
        """Have a function of ours performed like a step, unrecorded."""
        called = self._helpers.get(fn.__name__)
        if called is None:
            helper = _Helper(fn)
            called = Called(helper, helper.name, ComponentOptions(), is_pipeline=False)
            self._helpers[fn.__name__] = called
            self.session.prepare(called)
        step = Step(None, called, -1, 1)
        step.run = inputs[0].run if inputs else None
        step.args, step.inputs, step.originals = args, inputs, originals
        step.attempt = 1
        self.session.submit(StepCall(step, _Helped(then)))

    def _told(self, dep: Step, outcome: Outcome) -> None:
        """A worker has fingerprinted a value, or could not."""
        text = unpack(outcome.value, self.blobs) if outcome.state == COMPLETED else None
        if text is not None and len(found := json.loads(text)) > 2:
            self._named[dep] = [(path, digest) for path, digest in found[2]]
        elif text is not None and dep.key is not None:
            dep.key.fingerprint = text
            self.fingerprinted(dep)
        why = outcome.error.text if outcome.error is not None else outcome.state
        self._prints[dep] = self._counted(text) if text else f"!was not compared: {why}"
        for call in self._asked.pop(dep, ()):
            if call in self._held and not any(d not in self._prints for d in call.step.inputs):
                self._again(call)

    # -- whether workers have the same code --------------------------------------------------

    def _agree(self, call: StepCall) -> bool | None:
        """Whether a worker imports the code that the key was made of; None while it is asked.

        A global of an imported module that this process has changed, or a file that was edited
        since it was imported here, would give a value that is not the key's.
        """
        fn = call.step.called.component.fn
        if self.session.in_process or self._agreed.get(fn):
            return True
        if fn in self._agreed:
            return False
        names = self.codes.importable(fn)
        if not names:
            self._agreed[fn] = True
            return True
        self._held[call] = None
        waiting = self._doubted.setdefault(fn, [])
        waiting.append(call)
        if len(waiting) == 1:
            packed = Pickler(self.blobs).dump(((names,), {}), "names")
            self._have_done(parts_of, packed, (), None, lambda out: self._compared(fn, out))
        return None

    def _compared(self, fn: Any, outcome: Outcome) -> None:
        found = unpack(outcome.value, self.blobs) if outcome.state == COMPLETED else None
        ours = dict(self.codes.of(fn).parts)
        self._agreed[fn] = found is not None and all(
            ours.get(part, digest) == digest for part, digest in found.items()
        )
        for call in self._doubted.pop(fn, ()):
            self._again(call)

    def _counted(self, text: str) -> str:
        """A value's fingerprint with the code that its classes have now."""
        digest, named = json.loads(text)[:2]
        if digest is None:
            return f"{NOT_COMPARED}{named[0]}"
        try:
            return str(digest) + "".join(f" {self.codes.named(name)}" for name in named)
        except Unproven as error:
            return f"{NOT_COMPARED}{error}"


def _tells_more(parts: str) -> bool:
    """Whether the record of a key has to be read: of most values it tells nothing that counts."""
    return '"files"' in parts or '"layout"' in parts


def held_files(parts: str | None) -> Files:
    """The files that a step's value names, from the record of its key."""
    return files_recorded(json.loads(parts)) if parts else ()


def files_recorded(recorded: dict[str, Any]) -> Files:
    """The same of a record that is read already."""
    return tuple([(path, digest) for path, digest in recorded.get("files", ())])


def lost_module(pickle: bytes | memoryview) -> str | None:
    """A module that a value refers to, and that is not found under its name."""
    names = {module for module, _ in globals_named(pickle)}
    return next((name for name in sorted(names) if not _can_import(name)), None)


def _can_import(module: str) -> bool:
    if module in sys.modules:
        return True
    from importlib.util import find_spec

    try:
        return find_spec(module) is not None
    except Exception:  # noqa: BLE001 - packages of the user's are imported for it
        return False


def _mentions_main(pickle: bytes | memoryview) -> bool:
    if isinstance(pickle, bytes):
        return b"__main__" in pickle
    import re

    return re.search(b"__main__", pickle) is not None  # without a copy of what may be large


def _named_apart(
    component: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[tuple[str, Any]]:
    """Arguments by parameter, no two of one name."""
    found: list[tuple[str, Any]] = component.named_arguments(args, {})
    if hasattr(component.fn, "__wrapped__"):  # whose names those are, maybe in another order
        found = [(f"{name} (argument {i})", value) for i, (name, value) in enumerate(found)]
    taken = dict(found)
    for name, value in kwargs.items():
        single = name.isidentifier() and name not in taken
        found.append((name if single else f"**{name!r}", value))
    return found


def _files(value: Any) -> list[File]:
    """The File objects among arguments, and in containers within them, in their order."""
    found: list[File] = []
    waiting = [value]  # no recursion: containers nest as deep as they like, and hold themselves
    seen: set[int] = set()
    while waiting:
        item = waiting.pop()
        kind = type(item)
        if kind in _CONTAINERS:
            if id(item) not in seen:
                seen.add(id(item))
                parts = item.values() if kind is dict else item
                waiting += [part for part in parts if type(part) not in ATOMS][::-1]
        elif isinstance(item, File):
            found.append(item)
    return found


class Codes:
    """The keys of code, for all runs of a process; of threads one at a time."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._keys = CodeKeys(value_digest=value_digest)

    def refresh(self) -> None:
        """A run begins: look again at values and names that may have changed."""
        with self._lock:
            self._keys.refresh()

    def of(self, fn: Callable[..., Any]) -> Any:
        """The CodeKey of a function."""
        with self._lock:
            return self._keys.key(fn)

    def sources(self, fn: Callable[..., Any]) -> dict[str, str]:
        with self._lock:
            return self._keys.sources(fn)

    def importable(self, fn: Callable[..., Any]) -> list[str]:
        """`module:qualname` of the functions and classes reached that workers import."""
        with self._lock:
            return self._keys.importable(fn)

    def digest(self, found: Any) -> str:
        """For code within values.  Raises Unproven."""
        key = self.of(found)
        if key.unproven:
            raise Unproven(f"has code of which {key.unproven[0]}")
        return str(key.digest)

    def named(self, name: str) -> str:
        """What `module:qualname` within a value counts as, imported or not.  Raises Unproven."""
        module = name.partition(":")[0]
        with self._lock:
            owner = self._keys.owner(module)
        if owner.kind != "user":
            return f"{name} {owner.part}"
        try:
            import_module(module)  # a step's value may be of a class that only the step imports
        except Exception as error:
            raise Unproven(f"{module} cannot be imported: {error!r}") from error
        found = find_named(name)
        if found is None:
            raise Unproven(f"{name} is not there")
        return self.digest(found)


class _Helped:
    """What a runner tells of a call that helps the cache."""

    def __init__(self, then: Callable[[Outcome], None]) -> None:
        self._then = then

    def began(self, call: StepCall) -> None:
        pass

    def finished(self, call: StepCall, outcome: Outcome) -> None:
        self._then(outcome)

    def follow(self, call: StepCall, step: Step) -> StepCall | None:
        return None

    def undone(self, call: StepCall) -> None:
        pass


ACTIVITIES: dict[Callable[..., Any], str] = {
    fingerprint: "fingerprinting values",
    parts_of: "importing the code of cached steps",
}


class _Helper:
    """Stands for a component where a function of ours is performed."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self.name = fn.__name__
        self.activity = ACTIVITIES[fn]  # for who looks at the run

    def parameter_names(self) -> Sequence[str]:
        return ("value",)


class _Input:
    """Stands for the one input while its call is pickled."""


def _one_input() -> Packed:
    """The packed arguments of a call that gets its one input alone."""
    pickler = Pickler(None, {_Input: lambda item: (given_input, (0, ()))})  # type: ignore[arg-type]
    return pickler.dump(((_Input(),), {}), "the input")

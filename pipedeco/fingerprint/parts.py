"""Parts, and how anything is written in them.

A *part* is what can be imported by its name: a function, a class, a value of a module.  Its digest
tells its own content, and other parts by their names alone.  So parts that reach each other in a
circle need no beginning, and `why` can say which of them changed.  What has no name of its own (a
lambda in a dictionary, a closure) is written out where it is met.

Content is written as nested tuples of constants.
"""

from __future__ import annotations

import os
from collections import deque
from marshal import dumps
from typing import TYPE_CHECKING, Any

from pipedeco.fingerprint import lookup
from pipedeco.fingerprint.codes import Codes, Features, digest_of
from pipedeco.fingerprint.naming import public_name
from pipedeco.fingerprint.packages import Owners
from pipedeco.fingerprint.singletons import holder_of
from pipedeco.fingerprint.unproven import Unproven

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType
    from typing import Protocol

    class ValueDigest(Protocol):
        """What fingerprints a value: `pipedeco.fingerprint.values.value_digest`, or the like of it.

        It calls `code_digest` with each function, class and module that it meets in the value,
        begins its messages with `what`, and raises Unproven where nothing can be proven.
        """

        def __call__(
            self, value: Any, /, *, code_digest: Callable[[Any], str], what: str
        ) -> str: ...


MISSING = lookup.MISSING
# Types by their id: a metaclass may give classes a hash and an equality of its own.
PLAIN = frozenset(map(id, (int, str, float, bool, bytes, complex, type(None), type(Ellipsis))))
_LOCKS = frozenset(("_thread.lock", "_thread.RLock", "threading.Condition"))


class Part:
    """One named thing: its digest, the names of the parts that it refers to, and what is amiss."""

    __slots__ = ("asks", "digest", "needs", "object", "unproven")

    def __init__(self, found: Any) -> None:
        self.object = found
        self.digest = ""
        self.needs: dict[str, None] = {}
        self.unproven: dict[str, None] = {}
        self.asks: set[str] = set()


class Writer:
    """The parts met so far; they hold for as long as nobody changes a global.

    Parameters
    ----------
    codes, owners: what is known of code objects and of modules, for longer than that.
    value_digest: fingerprints values.
    features: what else counts.
    """

    def __init__(
        self,
        known: Codes,
        owners: Owners,
        value_digest: ValueDigest,
        features: frozenset[str],
    ) -> None:
        self._codes = known
        self._owners = owners
        self._value_digest = value_digest
        self._docs = Features.DOCS in features
        self._subclasses = Features.SUBCLASSES in features
        self.parts: dict[str, Part] = {}
        self._queue: deque[tuple[Part, str, Callable[[Any], Any], Any]] = deque()
        self._names: dict[int, str | None] = {}
        self._keep: list[Any] = []  # so that no id is used twice
        # of the part that is being made
        self._part = Part(None)
        self._where = ""
        self._depths: dict[int, int] = {}
        self._lowest = 0
        self._written: dict[int, tuple[str, bytes]] = {}

    # ---- parts

    def _add(self, label: str, found: Any, content: Callable[[Any], Any]) -> tuple[str, str]:
        """See to it that a part is made; what stands for it in the content of others."""
        self._part.needs[label] = None
        if label not in self.parts:
            part = self.parts[label] = Part(found)
            self._queue.append((part, label, content, found))
        return "part", label

    def _make(self, part: Part, label: str, content: Callable[[Any], Any], found: Any) -> None:
        self._part = part
        self._where = label.partition(" ")[2]
        self._depths = {}
        self._lowest = 0
        self._written = {}
        try:
            made = content(found)
        except RecursionError:
            self._amiss(f"{self._where} is nested too deeply to be compared")
            made = None
        part.digest = digest_of(made).hex()

    def _amiss(self, sentence: str) -> tuple[str]:
        self._part.unproven[sentence] = None
        return ("unproven",)

    def _package(self, module: str) -> str:
        """The name of the part that a package's module belongs to, or of what it is else."""
        owner = self._owners.of(module)
        if owner.part is None:
            return owner.kind
        label, version = owner.part
        self._part.needs[label] = None
        if label not in self.parts:
            part = self.parts[label] = Part(None)
            part.digest = version
        return label

    def _is_users(self, module: Any) -> bool:
        return type(module) is not str or self._owners.of(module).kind == "user"

    def _named(self, found: Any) -> str | None:
        """The label of what its module has under its name; None of anything else."""
        if id(found) not in self._names:
            place = lookup.place_of(found)
            self._keep.append(found)
            word = "class" if lookup.is_class(found) else "function"
            self._names[id(found)] = f"{word} {public_name(place[0])}.{place[1]}" if place else None
        return self._names[id(found)]

    # ---- what has no name

    def _inline(self, found: Any, make: Callable[[Any], Any]) -> tuple[Any, ...]:
        """Write out what has no name; within itself it is told by how many levels it is above."""
        key = id(found)
        if key in self._written:
            return self._written[key]
        depth = len(self._depths)
        if key in self._depths:
            self._lowest = min(self._lowest, self._depths[key])
            return "above", depth - self._depths[key]
        self._depths[key] = depth
        before, self._lowest = self._lowest, depth
        try:
            written = ("inline", digest_of(make(found)))
        finally:
            del self._depths[key]
            lowest, self._lowest = self._lowest, min(before, self._lowest)
        if lowest >= depth:  # it does not lead back to what is above it
            self._keep.append(found)
            self._written[key] = written
        return written

    def _sequence(self, found: Any) -> Any:
        name = type(found).__name__
        if PLAIN.issuperset(map(id, map(type, found))):
            return name, tuple(found)
        return self._inline(found, lambda items: (name, *map(self._write, list(items))))

    def _set(self, found: Any) -> Any:
        return self._inline(
            found, lambda items: (type(found).__name__, *self._unordered(list(items)))
        )

    def _unordered(self, items: Iterable[Any]) -> list[bytes]:
        return sorted(dumps(self._write(item), 2) for item in items)

    def _dict(self, found: dict[Any, Any]) -> Any:
        """A dictionary with its order: a loop over it sees that."""
        return self._inline(
            found,
            lambda items: (
                "dict",
                *[(self._write(key), self._write(value)) for key, value in list(items.items())],
            ),
        )

    def _value(self, found: Any) -> Any:
        """What values.py fingerprints, or nobody can."""
        kind = type(found)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name in _LOCKS:  # whether it is taken just now is nobody's result
            return "lock", name
        if name == "_contextvars.ContextVar":
            return "variable", found.name, self._write(found.get(MISSING))
        if found is MISSING:
            return ("missing",)
        if name == "os._Environ" and found is os.environ:  # as `os.environ` does
            return "name", "os.environ"
        if name == "pipedeco.components.Bound":
            return self._method(found)
        return self._inline(found, self._digested)

    def _digested(self, found: Any) -> Any:
        kind = type(found)
        owner = self._class_or_reference(kind)  # not every __reduce__ tells its class
        try:
            digest = self._value_digest(found, code_digest=self._code_digest, what=self._where)
        except Unproven as error:
            held = holder_of(found)
            return self._amiss(str(error)) if held is None else self._held(*held)
        except RecursionError:
            raise
        except Exception as error:  # noqa: BLE001 - users' reducers; what fails is not proven
            name = kind.__qualname__
            return self._amiss(f"{self._where} is a {name}, which fails to be compared: {error!r}")
        return "value", owner, digest

    def _held(self, module: ModuleType, name: str) -> Any:
        """What a module of Python or of a package holds counts as `module.name` does."""
        return "name", self._package(module.__name__), f"{module.__name__}.{name}"

    def _code_digest(self, found: Any) -> str:
        """For functions, classes and modules inside a value."""
        return digest_of(self._write(found)).hex()

    def _at(self, where: str, found: Any) -> Any:
        """Write something that a message calls `where`."""
        before, self._where = self._where, where
        try:
            return self._write(found)
        finally:
            self._where = before

    # ---- by those who know functions, classes and modules

    def _write(self, found: Any) -> Any:
        """The content of anything."""
        raise NotImplementedError

    def _class_or_reference(self, found: type) -> Any:
        raise NotImplementedError

    def _method(self, found: Any) -> Any:
        raise NotImplementedError

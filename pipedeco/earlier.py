"""What was recorded of a run before it was resumed, found by what a step is called with.

The number of a step says little: a fan-out over a set comes in another order in each process, one
`as_completed` in the order of the clock.  So a step has its own record if that fits, else that of
any other call of its component with the same inputs.  Each record serves once.  A step that was
called the same before, and had not ended, is performed: the record of an equal call is that of
another step, whose value others have used.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from blake3 import blake3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pipedeco.graph import Step
    from pipedeco.serialization import Packed

Row = dict[str, Any]
Call = tuple[Any, tuple[str, ...]]  # arguments, and the values of the inputs in them


class Known(NamedTuple):
    """What was recorded of a step that ended well.

    `row` is of the table step, with component_name, is_pipeline, code, module, qualname, file, key,
    fingerprint and origin beside; `inputs` are names, `given` the digests of the values that these
    had, `attempts` the rows of the attempts before the last, and `children` the ids of the runs
    that a pipeline's step was.
    """

    row: Row
    args: Packed | None
    value: Packed | None

    @property
    def execution(self) -> tuple[Any, ...]:
        """Tells it apart from every other one, also where a later part of the run has kept it."""
        row = self.row
        return row["component_name"], row["started"], row["duration"], row["worker"] or ""


def packed_digest(value: Packed | None) -> str:
    return blake3(value).hexdigest() if isinstance(value, bytes) else value or "None"


class Earlier:
    """The records of one run, each of which is taken by one step.

    Parameters
    ----------
    known: what was recorded.
    unfinished: the calls of steps that had not ended well, by name.
    arguments, value: give the digest of packed arguments, or of a value, by content.
    by_name: whether a step has the record of its own name alone, as its name counts.
    """

    def __init__(
        self,
        known: Iterable[Known],
        *,
        unfinished: dict[str, Call],
        arguments: Callable[[Packed | None], str | None],
        value: Callable[[Packed | None], str | None],
        by_name: bool,
    ) -> None:
        self._arguments = arguments
        self._value = value
        self._by_name = by_name
        self._unfinished = unfinished
        self._known = list(known)
        self._left: dict[tuple[str, bool], int] = {}  # that are not taken, by component
        self._codes = {(*_kind(one), one.row["code"]) for one in self._known}
        self._named: dict[str, list[Known]] = {}
        self._equal: dict[Call, list[Known]] | None = None  # by pickles
        self._alike: dict[Call, list[Known]] | None = None  # by content
        self._values: dict[str, Packed | None] | None = None
        self._taken: set[int] = set()  # by id, for nobody else has a record
        for one in self._known:
            self._left[_kind(one)] = self._left.get(_kind(one), 0) + 1
            self._named.setdefault(one.row["name"], []).append(one)

    def has(self, step: Step) -> bool:
        """Whether any record is left of the step's component."""
        return bool(self._left.get((step.called.name, step.called.is_pipeline)))

    def take(self, known: Known) -> None:
        """It is a step's, and serves no other."""
        self._taken.add(id(known))
        self._left[_kind(known)] -= 1

    def candidates(self, step: Step, code: str) -> Iterator[Known]:
        """The records that may be the step's, its own first; whether they are is to be seen.

        `code` is the digest of its component's code as it is now.
        """
        called = step.called
        if not self.has(step) or (called.name, called.is_pipeline, code) not in self._codes:
            return
        seen: set[int] = set()
        for found in self._found(step):
            for known in found:
                if id(known) not in self._taken and id(known) not in seen:
                    seen.add(id(known))
                    yield known

    def value(self, digest: str) -> Packed | None:
        """The recorded value with this digest."""
        if self._values is None:
            self._values = {packed_digest(one.value): one.value for one in self._known}
        return self._values.get(digest)

    def names(self, *, taken: bool) -> set[str]:
        """The names of the steps whose records are taken, or are left."""
        return {one.row["name"] for one in self._known if (id(one) in self._taken) is taken}

    def _found(self, step: Step) -> Iterator[Sequence[Known]]:
        yield self._named.get(step.name, ())
        if self._by_name:
            return
        given = tuple([_given(dep) for dep in step.inputs])
        if self._unfinished.get(step.name) == (step.args, given):
            return
        if self._equal is None:
            self._equal = self._index(lambda one: (one.args, tuple(one.row["given"])))
        yield self._equal.get((step.args, given), ())
        if self._alike is None:
            self._alike = self._index(lambda one: self._content(one.args, one.row["given"]))
        values = [dep.outcome.value if dep.outcome is not None else None for dep in step.inputs]
        yield self._alike.get(self._content(step.args, given, values), ())

    def _index(self, key: Callable[[Known], Call]) -> dict[Call, list[Known]]:
        found: dict[Call, list[Known]] = {}
        for one in self._known:
            found.setdefault(key(one), []).append(one)
        return found

    def _content(
        self, args: Packed | None, given: Sequence[str], values: Sequence[Packed | None] = ()
    ) -> Call:
        """A call by content; what is large, or has none to compare, counts by its pickle."""
        known = values or [self.value(digest) for digest in given]
        told = [
            (isinstance(value, bytes) and self._value(value)) or digest
            for digest, value in zip(given, known, strict=True)
        ]
        return (isinstance(args, bytes) and self._arguments(args)) or args, tuple(told)


def _kind(known: Known) -> tuple[str, bool]:
    return known.row["component_name"], bool(known.row["is_pipeline"])


def _given(dep: Step) -> str:
    return packed_digest(dep.outcome.value) if dep.outcome is not None else ""


class Children:
    """The runs that steps of the run were and that did not complete, each of which is taken once.

    Parameters
    ----------
    rows: of child runs: id, parent_step, pipeline, args; the newest first.
    earlier: the records of the run itself.
    by_name: as for `Earlier`.
    """

    def __init__(self, rows: Iterable[Row], earlier: Earlier, *, by_name: bool) -> None:
        self._rows: dict[str, Row] = {}  # by step, the last of each
        for row in rows:
            self._rows.setdefault(row["parent_step"], row)
        self._earlier = earlier
        self._by_name = by_name
        self._taken: set[str] = set()
        self._lock = threading.Lock()  # each child's body has a thread of its own

    def take(self, step: Step, is_same: Callable[[Packed | None], bool]) -> str | None:
        """The id of the one that the step is; `is_same` is asked of its arguments."""
        with self._lock:
            for row in self._candidates(step):
                if is_same(row["args"]):
                    self._taken.add(row["id"])
                    return str(row["id"])
        return None

    def _candidates(self, step: Step) -> list[Row]:
        """Its own first, and last those whose step has ended well, and has not been kept."""
        left, taken = self._earlier.names(taken=False), self._earlier.names(taken=True)
        found = [
            row
            for name, row in self._rows.items()
            if name not in taken and row["id"] not in self._taken
            if name == step.name or (row["pipeline"] == step.called.component.name)
        ]
        if self._by_name:
            return [row for row in found if row["parent_step"] == step.name]
        return sorted(found, key=lambda row: _rank(row["parent_step"], step.name, left))


def _rank(name: str, own: str, left: set[str]) -> int:
    return 0 if name == own else 2 if name in left else 1

"""Values in the place of results: in containers, tables and objects, at any depth, without recursion.

    value(x)       a copy of what holds results, for a body
    settled(x)     what a pipeline returns: containers that can be changed stay the same objects
    settle_tables  arrays and tables that go to a step, as their types are made of their values

What holds no result is returned as it is.  Of objects, the attributes of users' classes are looked at;
what a library's object may hide is left to the pickle.
"""

from __future__ import annotations

import copy
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from pipedeco.errors import GraphError
from pipedeco.iterators import calls_components, is_lazy
from pipedeco.rebuilding import CONTAINERS, NOTHING, OBJECT, PLAIN
from pipedeco.result import ATOMS, StepResult
from pipedeco.tables import table_kind
from pipedeco.user_frames import hides_frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipedeco.rebuilding import Kind, Rebuilding

K = TypeVar("K")
T = TypeVar("T")
U = TypeVar("U")


@overload
def value(item: StepResult[T]) -> T: ...
@overload
def value(item: list[StepResult[T]]) -> list[T]: ...
@overload
def value(item: set[StepResult[T]]) -> set[T]: ...
@overload
def value(item: dict[K, StepResult[T]]) -> dict[K, T]: ...
@overload
def value(item: tuple[StepResult[T], StepResult[U]]) -> tuple[T, U]: ...
@overload
def value(item: tuple[StepResult[T], ...]) -> tuple[T, ...]: ...
@overload
def value(item: T) -> T: ...
@hides_frames
def value(item: Any) -> Any:
    """The plain value of `item`: every StepResult in it, at any depth of lists, tuples, dicts,
    sets, dataclasses, tables, arrays and objects of your classes, is replaced by its value.  Plain
    values are returned as they are, and none of these is changed.

    Raises what reading those results raises.
    """
    if isinstance(item, StepResult):
        return item.result()
    survey = _Survey(item, _is_result)
    return _Rebuild(survey.holders(), in_place=False).of(item) if survey.found else item


def settled(item: Any, pipeline: str) -> Any:
    """What a pipeline returns, with values in the place of results.

    Raises
    ------
    GraphError: where it holds an iterator that would call components, or read results, later.
    """
    survey = _Survey(item, lambda kind: kind is StepResult or is_lazy(kind))
    results = [found for found in survey.found if type(found) is StepResult]
    if len(results) < len(survey.found):
        _refuse([found for found in survey.found if type(found) is not StepResult], pipeline)
    return _Rebuild(survey.holders(results), in_place=True).of(item) if results else item


def settle_tables(item: Any) -> tuple[Any, bool]:
    """The same with values in the place of results that stand in arrays and tables; whether any did.

    Tables are changed themselves where they can be, so that a body sees in them what it would see
    without pipedeco.
    """
    made: dict[int, Any] = {}
    survey = _Survey(item, _is_table)
    changed = []
    for table in survey.found:
        inside = _Survey(table, _is_result)
        if inside.found:
            made[id(table)] = _Rebuild(inside.holders(), in_place=True).of(table)
            changed.append(table)
    if not changed:
        return item, False
    return _Rebuild(survey.holders(changed), in_place=True, made=made).of(item), True


def _refuse(iterators: list[Any], pipeline: str) -> None:
    for iterator in iterators:
        if calls_components(iterator):
            kind = type(iterator).__name__
            raise GraphError(
                f"pipeline {pipeline} returned a {kind}, which would call components or read results "
                "when somebody goes through it, and the run is over then: return a list, such as "
                "[step(x) for x in xs] or list(...)"
            )


def _is_table(kind: type) -> bool:
    return table_kind(kind) is not None


def _is_result(kind: type) -> bool:
    return kind is StepResult


class _Survey:
    """Goes through a value once, and notes what stands where.

    Parameters
    ----------
    wanted: tells the types that are looked for; these are not looked into.

    Attributes
    ----------
    found: everything of these types.
    """

    def __init__(self, item: Any, wanted: Callable[[type], bool]) -> None:
        self.found: list[Any] = []
        self._kinds: dict[type, Kind | None] = {}  # None: it is wanted
        # What has parts, and those that are no atoms; kept, so that no id is used twice.
        self._wholes: list[tuple[Any, list[Any]]] = []
        self._walk(item, wanted)

    def _walk(self, item: Any, wanted: Callable[[type], bool]) -> None:
        seen: set[int] = set()
        waiting = [item]
        while waiting:
            one = waiting.pop()
            if id(one) in seen:
                continue
            seen.add(id(one))
            kind = type(one)
            if kind not in self._kinds:
                self._kinds[kind] = None if wanted(kind) else _kind_of(kind) or NOTHING
            known = self._kinds[kind]
            if known is None:
                self.found.append(one)
                continue
            parts = [part for part in known.parts(one) if type(part) not in ATOMS]
            if parts:
                self._wholes.append((one, parts))
                waiting += parts

    def holders(self, found: list[Any] | None = None) -> set[int]:
        """The ids of `found`, by default all that was, and of everything that holds them."""
        holders = {id(one) for one in (self.found if found is None else found)}
        inner = {id(whole) for whole, _ in self._wholes}
        above: dict[int, list[int]] = {}
        waiting = []
        for whole, parts in self._wholes:
            numbers = [id(part) for part in parts]
            if not holders.isdisjoint(numbers):
                waiting.append(id(whole))
            for number in inner.intersection(numbers):
                above.setdefault(number, []).append(id(whole))
        while waiting:
            number = waiting.pop()
            if number not in holders:
                holders.add(number)
                waiting += above.get(number, ())
        return holders


class _Rebuild:
    """Puts values in the place of results.

    Parameters
    ----------
    holders: the ids of what holds some.
    in_place: whether what can be changed is changed, or copied.
    made: what stands for parts that are known already, by their ids; other results stay then.
    """

    def __init__(
        self, holders: set[int], *, in_place: bool, made: dict[int, Any] | None = None
    ) -> None:
        self._holders = holders
        self._in_place = in_place
        self._reads = made is None
        self._made = made or {}
        self._kept: list[Any] = []

    def of(self, root: Any) -> Any:
        rebuilding, sent = self._begin(root)
        open_ = [] if rebuilding is None else [(root, rebuilding)]
        while open_:
            item, rebuilding = open_[-1]
            try:
                part = rebuilding.send(sent)
            except StopIteration as end:
                open_.pop()
                sent = self._made[id(item)] = end.value
                continue
            if type(part) is StepResult:  # here, as lists of them are long
                sent = part.result() if self._reads else part
                continue
            rebuilding, sent = self._begin(part)
            if rebuilding is not None:
                open_.append((part, rebuilding))
        return sent

    def _begin(self, item: Any) -> tuple[Rebuilding | None, Any]:
        """The rebuilding of a holder, or None and what stands for anything else."""
        if id(item) in self._made:
            return None, self._made[id(item)]
        if type(item) is StepResult:
            return None, item.result() if self._reads else item
        kind = _kind_of(type(item)) if id(item) in self._holders else None
        if kind is None:
            return None, item
        self._kept.append(item)
        return kind.rebuild(item, self._target), None

    def _target(self, item: Any) -> Any:
        """What is changed in the place of a value; known before its parts, as it may hold itself."""
        made = self._made[id(item)] = item if self._in_place else copy.copy(item)
        return made


def _kind_of(kind: type) -> Kind | None:
    """How to look into values of a type; None for those that are not looked into."""
    if kind in PLAIN:
        return PLAIN[kind]
    for types, known in CONTAINERS:
        if issubclass(kind, types):
            return known
    table = table_kind(kind)
    if table is not None:
        return table
    return OBJECT if _has_known_attributes(kind) else None


def _has_known_attributes(kind: type) -> bool:
    if issubclass(kind, type | FunctionType):
        return False
    declared = ("__dataclass_fields__", "__attrs_attrs__", "__pydantic_fields__")
    if any(hasattr(kind, name) for name in declared):
        return True
    from pipedeco.fingerprint.packages import USER, Owners

    return Owners().of(str(kind.__module__)) == USER

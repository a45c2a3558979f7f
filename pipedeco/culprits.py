"""What cannot be pickled, and what to do about it: the sentence that a person gets."""

from __future__ import annotations

import copyreg
import io
import pickle
from types import FunctionType
from typing import TYPE_CHECKING, Any

from pipedeco.errors import NotPicklable
from pipedeco.instructions import global_names
from pipedeco.picklers import (
    PROTOCOL,
    cloud_pickler_to,
    dumps_by_dill,
    refuse_written,
    unnamed_reduction,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULT = "the result"  # what those call a value that pack what a step returned
GIVE_PARTS = "pass what it is made from, and make it inside the step"
RETURN_PARTS = "return what it is made from, and make it in the step that needs it"
# Of a global: a worker has what it imports.
IMPORT = (
    "make it inside the step or in setup=, or put it into a module and use it as module.name: "
    'workers import modules, and scripts with an if __name__ == "__main__": guard'
)
_LONGEST = 100  # characters of a path, and of what a pickler says


def not_picklable(
    value: object,
    what: str,
    reducers: dict[type, Any],
    reason: Exception | None,
    cure: str | None = None,
) -> NotPicklable:
    """The error for a value that no pickler carries, with the path to the culprit."""
    if isinstance(reason, RecursionError):
        return NotPicklable(f"{what} is nested too deeply to be pickled; pass it in flatter parts")
    path, culprit = _culprit_of(value, what, reducers, set())
    text = f"{_short(path)} is {_described(type(culprit))}, which cannot be pickled"
    told = _short(str(reason or ""))
    if told and not told.startswith("cannot pickle '"):  # which says the same
        text += f" ({told})"
    return NotPicklable(f"{text}; {cure or _cure(what, culprit)}")


def _cure(what: str, culprit: object) -> str:
    returned = what == RESULT
    if hasattr(type(culprit), "__next__") or hasattr(type(culprit), "__anext__"):
        verb = "return" if returned else "pass"
        return f"{verb} what it gives: a list, such as list(...) or [... for ...]"
    return RETURN_PARTS if returned else GIVE_PARTS


def _described(kind: type) -> str:
    name = kind.__qualname__
    if kind.__module__ != "builtins":
        name = f"{kind.__module__}.{name}"
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _short(text: str) -> str:
    """The two ends of a long text: where it begins, and what it comes to."""
    line = " ".join(text.split())
    half = _LONGEST // 2
    return line if len(line) <= _LONGEST else f"{line[:half]} ... {line[-half:]}"


def _culprit_of(
    value: object, what: str, reducers: dict[type, Any], seen: set[int]
) -> tuple[str, object]:
    """The way to the innermost thing that is to blame, also through code that goes by value."""
    found = None if _is_code(value) else _CulpritFinder(what, reducers).find(value)
    path, culprit = found or (what, value)
    if id(culprit) not in seen:
        seen.add(id(culprit))
        for where, part in _parts_of(culprit):
            if not _carries(part):
                return _culprit_of(part, where, reducers, seen)
    return path, culprit


def _is_code(obj: object) -> bool:
    return isinstance(obj, FunctionType | type)


def _parts_of(culprit: object) -> Iterator[tuple[str, object]]:
    """What a function or a class takes along, and how that is called."""
    function = _function_in(culprit)
    if function is not None:
        yield from _parts_of_function(function)
    elif isinstance(culprit, type):
        for name, attribute in vars(culprit).items():
            if _function_in(attribute) is not None:  # which its name would seem to carry
                yield from _parts_of(attribute)
            elif not (name.startswith("__") and name.endswith("__")):
                yield f"{culprit.__qualname__}.{name}", attribute


def _function_in(found: object) -> FunctionType | None:
    if isinstance(found, staticmethod | classmethod):
        found = found.__func__
    elif isinstance(found, property):
        found = found.fget
    return found if isinstance(found, FunctionType) else None


def _parts_of_function(function: FunctionType) -> Iterator[tuple[str, object]]:
    namespace = function.__globals__
    for name in sorted(global_names(function.__code__) & namespace.keys()):
        yield _global(name, namespace), namespace[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"{name!r}, which {function.__qualname__} closes over,", cell.cell_contents
        except ValueError:  # assigned later
            continue
    for default in function.__defaults__ or ():
        yield f"a default of {function.__qualname__}", default


def _global(name: str, namespace: dict[str, Any]) -> str:
    module = namespace.get("__name__")
    return f"the global {name}" if module == "__main__" else f"the global {module}.{name}"


class _CulpritFinder(pickle._Pickler):
    """The pure-Python pickler, run again with a stack of the names it goes through."""

    def __init__(self, what: str, reducers: dict[type, Any]) -> None:
        super().__init__(io.BytesIO(), PROTOCOL, buffer_callback=lambda view: None)
        self.dispatch_table = {**copyreg.dispatch_table, **reducers}
        self._what = what
        self._trail: list[Any] = []
        self._found: tuple[str, Any] | None = None

    def find(self, value: object) -> tuple[str, Any] | None:
        try:
            self.dump(value)
        except Exception:  # noqa: BLE001 - users' reducers; the place was noted on the way
            return self._found
        return None

    def reducer_override(self, obj: Any) -> Any:
        return unnamed_reduction(obj)

    def save(self, obj: Any, save_persistent_id: bool = True) -> Any:
        self._trail.append(obj)
        try:
            if _is_code(obj) and not _carries(obj):
                raise pickle.PicklingError("it goes by value, and something in it does not")
            refuse_written(obj)  # dill, once it is loaded, has taught this class to save files
            return super().save(obj, save_persistent_id)  # type: ignore[misc]
        except Exception:
            if self._found is None and not _carries(obj):
                self._found = self._path(), obj
            if self._found is not None:
                raise
        finally:
            self._trail.pop()

    def _path(self) -> str:
        path = self._what
        owner: Any = None
        for place, child in zip(self._trail, self._trail[1:], strict=False):
            path += _accessor(owner, place, child)
            owner = owner if isinstance(place, tuple) and _is_reduction(place) else place
        return path


def _accessor(owner: Any, place: Any, child: Any) -> str:
    """How `child` is reached from `place`: an index, a key, an attribute, or nothing to say.

    `owner` is what stands before `place` on the way; a dict may be its attributes.
    """
    if isinstance(place, list | tuple | set | frozenset):
        if isinstance(place, tuple) and _is_reduction(place):
            return ""
        return next((f"[{i}]" for i, item in enumerate(place) if item is child), "")
    if isinstance(place, dict):
        key = next((key for key, item in place.items() if item is child), None)
        attributes = place is getattr(owner, "__dict__", None)
        return "" if key is None else f".{key}" if attributes else f"[{key!r}]"
    names = getattr(place, "__dict__", {})
    return next((f".{name}" for name, item in names.items() if item is child), "")


def _is_reduction(place: tuple[Any, ...]) -> bool:
    return bool(place) and callable(place[0])


def _carries(obj: object) -> bool:
    """Whether cloudpickle or dill, as we call them, can carry the object."""
    for dump in (_dump_by_cloudpickle, dumps_by_dill):
        try:
            dump(obj)
        except Exception:  # noqa: BLE001, S112 - users' reducers; the next pickler is tried
            continue
        return True
    return False


def _dump_by_cloudpickle(obj: object) -> None:
    cloud_pickler_to(io.BytesIO(), {}, None).dump(obj)

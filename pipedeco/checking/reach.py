"""The components that a pipeline's body may call, found in its code without calling it."""

from __future__ import annotations

from collections import deque
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from pipedeco.components import Bound, Traced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEPTH = 3  # of lists and dicts that hold components


class Reached:
    """What was met so far, in order; components are the calls' own objects.

    Parameters
    ----------
    is_users: whether a module's code is followed.
    """

    def __init__(self, is_users: Callable[[str], bool]) -> None:
        self.components: dict[Traced, None] = {}
        self.pipelines: dict[Traced, None] = {}  # children, which are not followed
        self._is_users = is_users
        self._seen: set[int] = set()

    def walk(self, pipeline: Traced) -> None:
        """Follow the code of a pipeline, and of the functions that it calls."""
        self._seen.add(id(pipeline))
        found = deque(self._named(pipeline.fn))
        while found:
            found.extendleft(reversed(list(self._met(found.popleft(), 0))))

    def _met(self, value: Any, depth: int) -> Iterator[Any]:
        """What stands in, or is named by, something that was met."""
        if id(value) in self._seen:
            return
        self._seen.add(id(value))  # module globals live on, and so do the ids
        kind = type(value)
        if issubclass(kind, Bound):
            yield value.__func__
        elif issubclass(kind, Traced):
            (self.pipelines if value.is_pipeline else self.components)[value] = None
        elif kind is FunctionType:
            yield from self._named(value)
        elif issubclass(kind, type):
            if self._is_users(value.__module__):
                yield from vars(value).values()
        elif kind in (list, tuple, set, frozenset, dict) and depth < DEPTH:
            for item in value.values() if kind is dict else value:
                yield from self._met(item, depth + 1)

    def _named(self, fn: Any) -> Iterator[Any]:
        """What a function of the user's names: globals, what its closure holds, attributes."""
        inner = getattr(fn, "__wrapped__", None)
        if inner is not None:
            yield inner
        if type(fn) is not FunctionType or not self._is_users(fn.__module__ or ""):
            return
        names = _names(fn.__code__)
        for name in names:
            value = fn.__globals__.get(name)
            if isinstance(value, ModuleType):
                if self._is_users(value.__name__):
                    yield from [vars(value)[n] for n in names if n in vars(value)]
            else:
                yield value
        for cell in fn.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # not bound yet
                continue


def _names(code: CodeType) -> list[str]:
    """The names that the code and the code inside it look up, in the order of their first use."""
    found = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found += _names(constant)
    return list(dict.fromkeys(found))

"""Iterators that do their work when somebody goes through them, such as generators and `map`."""

from __future__ import annotations

import gc
import itertools
from functools import partial
from types import AsyncGeneratorType, CodeType, FunctionType, GeneratorType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from pipedeco.definitions import Decorated
from pipedeco.result import ATOMS, StepResult

if TYPE_CHECKING:
    from collections.abc import Iterable

_GENERATORS = (GeneratorType, AsyncGeneratorType)
_ITERATORS = (
    map, filter, zip, enumerate, reversed, type(iter([])), type(iter(())), type(reversed([])),
    type(iter({}.keys())), type(iter({}.values())), type(iter({}.items())), type(iter(set())),
    type(iter(print, None)),
    *(kind for kind in vars(itertools).values() if isinstance(kind, type)),
)  # fmt: skip
_LAZY = frozenset((*_GENERATORS, *_ITERATORS))
_CONTAINERS = (list, tuple, set, frozenset, dict)


def is_lazy(kind: type) -> bool:
    """Whether it is a type of Python's own iterators."""
    return kind in _LAZY


def calls_components(iterator: Any) -> bool:
    """Whether going through it may call a component, or read a result.

    It is neither changed nor advanced.  The functions that it calls are followed by the names in
    their code, those of packages and of Python are not.
    """
    seen: set[int] = set()
    waiting = [iterator]
    while waiting:
        found = waiting.pop()
        if isinstance(found, Decorated | StepResult):
            return True
        if type(found) in ATOMS or id(found) in seen:
            continue
        seen.add(id(found))
        waiting.extend(_reached(found))
    return False


def _reached(found: Any) -> Iterable[Any]:
    """What going through, or calling, something may use."""
    if isinstance(found, GeneratorType):
        return _of_frame(found.gi_frame, found.gi_code)
    if isinstance(found, AsyncGeneratorType):
        return _of_frame(found.ag_frame, found.ag_code)
    if isinstance(found, FunctionType):
        return _of_function(found)
    if isinstance(found, MethodType):
        return found.__func__, found.__self__
    if isinstance(found, dict):
        return list(found.values())
    if isinstance(found, (*_CONTAINERS, partial)) or is_lazy(type(found)):
        return gc.get_referents(found)
    if isinstance(found, type | ModuleType) or not _is_users(type(found).__module__):
        return ()
    return list(getattr(found, "__dict__", {}).values())


def _of_frame(frame: Any, code: CodeType) -> list[Any]:
    if frame is None:  # it has been gone through
        return []
    return [*frame.f_locals.values(), *_named(code, frame.f_globals)]


def _of_function(function: FunctionType) -> list[Any]:
    if not _is_users(function.__module__ or ""):
        return []
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # not bound yet
            continue
    defaults = (function.__defaults__ or (), list((function.__kwdefaults__ or {}).values()))
    return [*_named(function.__code__, function.__globals__), *cells, *defaults]


def _named(code: CodeType, names: dict[str, Any]) -> list[Any]:
    """The globals that a code names, and attributes of modules and objects among them."""
    found = [names[name] for name in code.co_names if name in names]
    owned = [
        part
        for owner in found
        if isinstance(owner, ModuleType) and _is_users(owner.__name__)
        for part in [vars(owner).get(name) for name in code.co_names]
        if part is not None
    ]
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found += _named(constant, names)
    return [item for item in (*found, *owned) if not isinstance(item, ModuleType)]


def _is_users(module: str) -> bool:
    from pipedeco.fingerprint.packages import USER, Owners

    return Owners().of(module) == USER

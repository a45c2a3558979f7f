"""What pickle refuses although it has a plain meaning in another process, and how it is made there.

Synchronization arrives free, whoever holds it here, but for a Semaphore, which does not know how
many it began with; `threading.local` as a new thread finds it; a
`ContextVar` with its value; weak containers with what is alive in them, which they then hold, as
nobody else there does.  A file that cannot be opened again as it is here is refused, rather than
replaced by something else.

`reduction` is asked by every pickler of ours that is more than pickle's own.
"""

from __future__ import annotations

import pickle
import sys
import threading
from contextvars import Context, ContextVar
from functools import cache
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Reducer = Callable[[Any], Any]

_UNSET = object()


def reduction(obj: Any) -> Any:
    """How `obj` is made again, as `__reduce__` says it; NotImplemented where that is pickle's to say.

    Raises PicklingError for what is refused.
    """
    reducer = _reducer_of(obj)
    return NotImplemented if reducer is None else reducer(obj)


def has_reduction(obj: Any) -> bool:
    return _reducer_of(obj) is not None


def _reducer_of(obj: Any) -> Reducer | None:
    kind = type(obj)
    if kind is FunctionType:
        return _reduce_dispatch if is_dispatch(obj) else None
    exact, bases, families = _reducers()
    if kind in exact:
        return exact[kind]
    return _of_subclass(kind, bases) if issubclass(kind, families) else None


def _of_subclass(kind: type, bases: dict[type, Reducer]) -> Reducer | None:
    """The reducer of a base class, unless a class below that says by itself how to pickle it."""
    import copyreg

    if kind in copyreg.dispatch_table:
        return None
    for base in kind.__mro__:
        if base in bases:
            return bases[base]
        if any(name in vars(base) for name in ("__reduce__", "__reduce_ex__", "__getstate__")):
            return None
    return None


@cache
def _reducers() -> tuple[dict[type, Reducer], dict[type, Reducer], tuple[type, ...]]:
    """By exact type, and by base class; and the base classes."""
    import io
    import weakref

    exact: dict[type, Reducer] = {
        type(threading.Lock()): lambda lock: (threading.Lock, ()),
        type(threading.RLock()): lambda lock: (threading.RLock, ()),
        threading.Condition: lambda found: (threading.Condition, (found._lock,)),
        threading.BoundedSemaphore: lambda found: (
            threading.BoundedSemaphore,
            (found._initial_value,),
        ),
        threading.Barrier: lambda found: (
            threading.Barrier,
            (found._parties, found._action, found._timeout),
        ),
        ContextVar: _reduce_variable,
        weakref.ref: _reduce_weak_reference,
        memoryview: _reduce_view,
        io.TextIOWrapper: _reduce_text_file,
    }
    bases: dict[type, Reducer] = {
        threading.local: _reduce_local,
        weakref.WeakSet: lambda found: _reduce_weak(found, weakref.WeakSet, list),
        weakref.WeakKeyDictionary: lambda found: _reduce_weak(
            found, weakref.WeakKeyDictionary, dict
        ),
        weakref.WeakValueDictionary: lambda found: _reduce_weak(
            found, weakref.WeakValueDictionary, dict
        ),
    }
    return exact, bases, tuple(bases)


# ---- threads' own


def _reduce_local(local: Any) -> Any:
    from inspect import signature

    kind = type(local)
    try:
        signature(kind).bind()
    except TypeError:  # C keeps the arguments that it was made with, and shows them to nobody
        raise pickle.PicklingError(f"{kind.__qualname__} is made from arguments") from None
    except ValueError:  # threading.local itself: it has no signature
        pass
    return kind, ()


# ---- context variables


def _reduce_variable(variable: ContextVar[Any]) -> Any:
    try:
        default: tuple[Any, ...] = (Context().run(variable.get),)
    except LookupError:
        default = ()
    value = variable.get(_UNSET)
    if value is _UNSET:
        return make_variable, (variable.name, *default)
    return make_variable, (variable.name, *default), (value,), None, None, set_variable


def make_variable(name: str, *default: Any) -> ContextVar[Any]:
    return ContextVar(name, default=default[0]) if default else ContextVar(name)


def set_variable(variable: ContextVar[Any], value: tuple[Any]) -> None:
    variable.set(value[0])


# ---- weak containers and references


def _reduce_weak(found: Any, base: type, content: Callable[[Any], Any]) -> Any:
    own = vars(base())
    more = {name: value for name, value in vars(found).items() if name not in own}
    more.pop("_pipedeco_held", None)
    return make_weak, (type(found), base), (content(found), more), None, None, fill_weak


def make_weak(kind: Any, base: Any) -> Any:
    made = kind.__new__(kind)
    base.__init__(made)
    return made


def fill_weak(made: Any, state: tuple[Any, dict[str, Any]]) -> None:
    content, more = state
    made.update(content)
    vars(made).update(more)
    made._pipedeco_held = content  # nobody else in this process may hold it


def _reduce_weak_reference(found: Any) -> Any:
    referent = found()
    if referent is None:
        return make_dead_reference, ()
    callback = found.__callback__
    return type(found), (referent,) if callback is None else (referent, callback)


def make_dead_reference() -> Any:
    """A weak reference to what is gone."""
    import weakref

    return weakref.ref(weakref.WeakSet())


# ---- memory and files


def _reduce_view(view: memoryview) -> Any:
    data = view.tobytes() if view.readonly else bytearray(view.tobytes())
    if view.format == "B" and view.ndim == 1:
        return memoryview, (data,)
    made = make_view, (data, view.format, view.shape)
    try:
        make_view(*made[1])
    except (TypeError, ValueError) as error:
        raise pickle.PicklingError(f"a memoryview of {view.format!r} items: {error}") from None
    return made


def make_view(data: bytes | bytearray, form: Any, shape: Any) -> memoryview:
    view = memoryview(data)
    return view.cast(form) if len(shape) == 1 else view.cast(form, shape)


def _reduce_text_file(file: Any) -> Any:
    name = stream_name(file)
    if name:
        return stream, (name,)
    raise pickle.PicklingError("an open file cannot be carried: pass its path, and open it there")


def stream_name(file: Any) -> str:
    """What this process calls a standard stream; "" of other files."""
    for name in ("stdin", "stdout", "stderr"):
        if file is getattr(sys, name, None) or file is getattr(sys, f"__{name}__"):
            return name
    return ""


def stream(name: str) -> Any:
    """A standard stream of this process."""
    return getattr(sys, name)


# ---- functools.singledispatch


def is_dispatch(function: FunctionType) -> bool:
    """Whether functools.singledispatch made a function."""
    return "registry" in function.__dict__ and function.__globals__.get("__name__") == "functools"


def _reduce_dispatch(function: Any) -> Any:
    own = ("register", "dispatch", "registry", "_clear_cache", "__wrapped__")
    more = {name: value for name, value in function.__dict__.items() if name not in own}
    state = function.__wrapped__, list(function.registry.items()), more
    return make_dispatch, (), state, None, None, fill_dispatch


def make_dispatch() -> Any:
    from functools import singledispatch

    return singledispatch(lambda *_, **__: None)


def fill_dispatch(made: Any, state: tuple[Any, Iterable[tuple[type, Any]], dict[str, Any]]) -> None:
    """Give what `make_dispatch` made its implementations."""
    from functools import update_wrapper

    default, implementations, more = state
    for kind, function in implementations:
        made.register(kind, function)
    update_wrapper(made, default)
    made.__dict__.update(more)


# ---- functools.lru_cache


def make_cached(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    """What functools.lru_cache made, with an empty cache."""
    from functools import lru_cache

    return lru_cache(**parameters)(function)

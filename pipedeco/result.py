"""StepResult: the future of one step's value, which behaves like the value wherever Python allows.

Selecting is lazy and gives another StepResult; whatever else is done to a result waits for the
value and does it to that.
"""

from __future__ import annotations

import math
import operator
import sys
import threading
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pipedeco.debuggers import evaluates
from pipedeco.graph import CANCELLED, ENDED, FAILED, PENDING, QUEUED, RUNNING, SUCCESS, Step
from pipedeco.operations import operate
from pipedeco.outputs import ATTRIBUTE, ITEM, OUTPUT, take, taken, unpacked
from pipedeco.serialization import pickle_mark
from pipedeco.text import preview
from pipedeco.user_frames import hide_ours, hides_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from pipedeco.marks import LargeMark

T_co = TypeVar("T_co", covariant=True)

# Types whose values hold no others.
ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes})


class Reader(Protocol):
    """What a StepResult needs of the run that its step belongs to."""

    def wait(self, step: Step, timeout: float | None) -> bool:
        """Return once the step has ended; False where the time is over before."""

    def load(self, step: Step) -> Any:
        """The value of a step that has ended, or raise its failure."""

    def recorded(self, step: Step) -> Any:
        """A copy of the value of a step that has completed, as it is recorded."""

    def failure(self, step: Step) -> BaseException | None:
        """The exception that reading the ended step raises."""

    def cancel_step(self, step: Step) -> bool:
        """Cancel the step unless it runs or has ended."""

    def unpacks(self, result: StepResult[Any]) -> None:
        """Note that the body unpacks a result whose value nobody has seen yet."""


_MAKING_WATCH = threading.RLock()  # two threads may wait for one result at once

_OF_NAMED_TUPLES = frozenset(("_asdict", "_fields", "_replace"))  # public, in spite of their names

_UNREAD: Any = type("Unread", (), {"__repr__": lambda self: "<unread>"})()


class _Watch:
    """What concurrent.futures' wait and as_completed look at; made on first use."""

    __slots__ = ("condition", "waiters")

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.waiters: list[Any] = []


class StepResult(Generic[T_co]):
    """The future of one step's value.

    It has the methods of `concurrent.futures.Future` (`result`, `exception`, `done`, `running`,
    `cancel`, `cancelled`, `add_done_callback`), works with `wait` and `as_completed`, and can be
    awaited.  `.step` is its step.  `r[0]`, `r["x"]` and fields of the annotated type select
    without waiting; everything else waits.  `pipedeco.value(r)` is the plain value.
    """

    __slots__ = (
        "__weakref__",
        "_is_future",
        "_is_unpacked",
        "_mark",
        "_parent",
        "_path",
        "_value",
        "_watch",
        "step",
    )

    step: Step
    _is_future: bool  # whether the program has used it as one
    _is_unpacked: bool  # whether the program has seen what unpacking its value gives
    _mark: bytes | LargeMark | None
    _parent: StepResult[Any] | None
    _path: tuple[tuple[str, Any], ...]
    _value: Any
    _watch: _Watch | None

    @property
    def _run(self) -> Reader:
        run: Reader = self.step.run
        return run

    # -- the future ------------------------------------------------------------------------

    def result(self, timeout: float | None = None) -> T_co:
        """The value; waits for it at most `timeout` seconds.

        Raises TimeoutError, StepCancelled, or the exception that the step raised.
        """
        if self._value is _UNREAD:
            try:
                if not self._run.wait(self.step, timeout):
                    raise TimeoutError(f"step {self.step.name} has not ended within {timeout} s")
                value = self._load(timeout)
            except BaseException as error:
                hide_ours(error)
                raise
            put = object.__setattr__  # our own looks whether the name is one of ours
            if self._parent is None:
                put(self, "_mark", _mark_of(value))
            elif type(self._parent._mark) is not bytes:  # who reads a part reads the whole
                put(self, "_mark", self._parent._mark)
            put(self, "_value", value)
        mark = self._mark
        if mark is not None and not isinstance(mark, bytes):
            mark.read = True
        found: T_co = self._value
        return found

    @hides_frames
    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What reading the value would raise, or None; waits at most `timeout` seconds.

        Raises TimeoutError and StepCancelled.
        """
        self._be_future()
        if not self._run.wait(self.step, timeout):
            raise TimeoutError(f"step {self.step.name} has not ended within {timeout} s")
        failure = self._run.failure(self.step)
        if failure is not None and self.step.state == CANCELLED:
            raise failure
        if not evaluates():
            self.step.root_failure.read = True
        return failure

    def done(self) -> bool:
        self._be_future()
        return self.step.state in ENDED

    def running(self) -> bool:
        self._be_future()
        return self.step.state == RUNNING

    def cancelled(self) -> bool:
        return self.step.state == CANCELLED

    def cancel(self) -> bool:
        """Cancel the step if it has not begun; whether it is cancelled."""
        return self._run.cancel_step(self.step)

    def add_done_callback(self, fn: Callable[[StepResult[T_co]], object]) -> None:
        """Call `fn(self)` when the step has ended, now if it has.

        What it raises is logged and goes no further, as with concurrent.futures.
        """
        self._be_future()
        self.step.watch(lambda _: _call_back(fn, self))

    def __await__(self) -> Generator[Any, None, T_co]:
        import asyncio

        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def tell(_: Step) -> None:
            try:
                loop.call_soon_threadsafe(_set, ended)
            except RuntimeError:  # the event loop was closed; nobody awaits any more
                pass

        self.step.watch(tell)
        yield from ended
        return self.result()

    def _load(self, timeout: float | None) -> Any:
        if self._parent is None:
            return self._run.load(self.step)
        whole: Any = self._parent.result(timeout)
        if self._path[-1][0] == OUTPUT:
            object.__setattr__(self._parent, "_is_unpacked", True)
        return take(whole, *self._path[-1])

    # -- what concurrent.futures.wait and as_completed look at -------------------------------

    @property
    def _state(self) -> str:
        state = self.step.state
        if state == CANCELLED:
            return "CANCELLED_AND_NOTIFIED"
        if state in ENDED:
            return "FINISHED"
        return "PENDING" if state in (PENDING, QUEUED) else "RUNNING"

    @property
    def _condition(self) -> threading.Condition:
        return self._watched().condition

    @property
    def _waiters(self) -> list[Any]:
        return self._watched().waiters

    def _be_future(self) -> None:
        """Note that the program knows it for a future, among which it looks for one itself."""
        if not evaluates():
            object.__setattr__(self, "_is_future", True)

    def _watched(self) -> _Watch:
        if self._watch is None:
            self._be_future()
            with _MAKING_WATCH:
                if self._watch is None:
                    self._watch = _Watch()
                    self.step.watch(self._notify_waiters)
        return self._watch

    def _notify_waiters(self, step: Step) -> None:
        watch = self._watched()
        with watch.condition:
            for waiter in watch.waiters:
                if step.state == CANCELLED:
                    waiter.add_cancelled(self)
                elif step.state not in SUCCESS:
                    waiter.add_exception(self)
                else:
                    waiter.add_result(self)
            watch.condition.notify_all()

    # -- selecting ---------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        return self._select(ITEM, plain(key))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") and name not in _OF_NAMED_TUPLES:
            # Libraries probe for these; a future must not wait for that.
            raise AttributeError(f"a StepResult has no attribute {name!r}")
        if name in _fields(self):
            return self._select(ATTRIBUTE, name)
        try:
            return operate(getattr, self.result(), name)
        except BaseException as error:
            hide_ours(error)
            raise

    def _select(self, kind: str, key: Any) -> StepResult[Any]:
        return make_result(self.step, (*self._path, (kind, key)), self)

    @hides_frames
    def __iter__(self) -> Iterator[Any]:
        count = _outputs(self)
        if count is None:
            whole: Any = self.result()
            return iter(whole)
        names = _output_names(self)
        if not self._check_outputs(count, names):
            self._run.unpacks(self)
        return iter([self._select(OUTPUT, (i, count, names)) for i in range(count)])

    def _check_outputs(self, count: int, names: tuple[str, ...]) -> bool:
        """Raise what unpacking the value raises, where it is in this process; whether it is."""
        outcome = self.step.outcome
        if self._value is not _UNREAD:
            unpacked(self._value, count, names)
        elif outcome is not None and outcome.kept is not None:
            unpacked(outcome.kept[0], count, names)
        else:
            return False
        return True

    # -- the rest waits ----------------------------------------------------------------------

    if TYPE_CHECKING:  # `_install_operators` makes them; what one gives, only the value knows

        def __ne__(self, other: Any) -> Any: ...
        def __lt__(self, other: Any) -> Any: ...
        def __le__(self, other: Any) -> Any: ...
        def __gt__(self, other: Any) -> Any: ...
        def __ge__(self, other: Any) -> Any: ...
        def __add__(self, other: Any) -> Any: ...
        def __radd__(self, other: Any) -> Any: ...
        def __sub__(self, other: Any) -> Any: ...
        def __rsub__(self, other: Any) -> Any: ...
        def __mul__(self, other: Any) -> Any: ...
        def __rmul__(self, other: Any) -> Any: ...
        def __truediv__(self, other: Any) -> Any: ...
        def __rtruediv__(self, other: Any) -> Any: ...
        def __floordiv__(self, other: Any) -> Any: ...
        def __rfloordiv__(self, other: Any) -> Any: ...
        def __mod__(self, other: Any) -> Any: ...
        def __rmod__(self, other: Any) -> Any: ...
        def __divmod__(self, other: Any) -> Any: ...
        def __rdivmod__(self, other: Any) -> Any: ...
        def __pow__(self, other: Any, modulo: Any = None) -> Any: ...
        def __rpow__(self, other: Any) -> Any: ...
        def __matmul__(self, other: Any) -> Any: ...
        def __rmatmul__(self, other: Any) -> Any: ...
        def __and__(self, other: Any) -> Any: ...
        def __rand__(self, other: Any) -> Any: ...
        def __or__(self, other: Any) -> Any: ...
        def __ror__(self, other: Any) -> Any: ...
        def __xor__(self, other: Any) -> Any: ...
        def __rxor__(self, other: Any) -> Any: ...
        def __lshift__(self, other: Any) -> Any: ...
        def __rlshift__(self, other: Any) -> Any: ...
        def __rshift__(self, other: Any) -> Any: ...
        def __rrshift__(self, other: Any) -> Any: ...
        def __neg__(self) -> Any: ...
        def __pos__(self) -> Any: ...
        def __abs__(self) -> Any: ...
        def __invert__(self) -> Any: ...
        def __round__(self, digits: int | None = None) -> Any: ...
        def __trunc__(self) -> int: ...
        def __floor__(self) -> int: ...
        def __ceil__(self) -> int: ...
        def __len__(self) -> int: ...
        def __int__(self) -> int: ...
        def __float__(self) -> float: ...
        def __complex__(self) -> complex: ...
        def __bytes__(self) -> bytes: ...
        def __index__(self) -> int: ...
        def __fspath__(self) -> str: ...
        def __reversed__(self) -> Iterator[Any]: ...
        def __contains__(self, item: Any) -> bool: ...

    def __repr__(self) -> str:
        selected = "".join([taken(*part) for part in self._path])
        text = self._preview()
        shown = "" if text is None else f": {text}"
        return f"<StepResult {self.step.name}{selected} {self.step.state}{shown}>"

    def _preview(self) -> str | None:
        """The value as text, where it is known without waiting or loading."""
        if self._path:
            return None if self._value is _UNREAD else preview(self._value)
        outcome = self.step.outcome
        return outcome.preview if outcome is not None and self.step.state in SUCCESS else None

    def _here(self) -> Any:
        """The value where it is in this process; `_UNREAD` elsewhere.  Nobody has read it by that."""
        outcome = self.step.outcome
        if self._value is _UNREAD and not self._path and outcome is not None and outcome.kept:
            return outcome.kept[0]
        return self._value

    def _repr_html_(self) -> str | None:
        """What a notebook shows: the value's own, where it is here."""
        show = getattr(self._here(), "_repr_html_", None)
        html: str | None = show() if callable(show) else None
        return html

    def __eq__(self, other: object) -> Any:
        try:
            if type(other) is StepResult:
                if (self._is_future or other._is_future) and _asked_by_container():
                    return self is other
                other = other.result()
            return operate(operator.eq, self.result(), other)
        except BaseException as error:
            hide_ours(error)
            raise

    def __hash__(self) -> int:
        return id(self) >> 4

    def __dir__(self) -> list[str]:
        own = [name for name in dir(type(self)) if not name.startswith("_")]
        value = self._here()
        if value is _UNREAD:
            return [*own, *(name for name in _fields(self) if name not in own)]
        return sorted({*own, *(name for name in dir(value) if not name.startswith("_"))})

    def __bool__(self) -> bool:
        # concurrent.futures.wait asks failed futures for their truth, which is that of an object.
        if self.step.state in ENDED - SUCCESS and _asked_by_futures():
            return True
        try:
            return bool(self.result())
        except BaseException as error:
            hide_ours(error)
            raise

    @hides_frames
    def __str__(self) -> str:
        return str(self.result())

    @hides_frames
    def __format__(self, spec: str) -> str:
        return format(self.result(), spec)

    @hides_frames
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        import numpy

        value: Any = self.result()
        if type(value).__module__.startswith("pandas"):
            from pipedeco.library_calls import warn_of_index

            warn_of_index(value, self.step.name)
        return numpy.array(value, dtype=dtype, copy=True if copy is None else copy)

    @hides_frames
    def __copy__(self) -> T_co:
        import copy

        return copy.copy(self.result())

    @hides_frames
    def __deepcopy__(self, memo: dict[int, Any]) -> T_co:
        import copy

        return copy.deepcopy(self.result(), memo)

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self.result(),)

    @hides_frames
    def __setitem__(self, key: Any, item: Any) -> None:
        raise _changed(self, f"[{key!r}] = ...")

    @hides_frames
    def __delitem__(self, key: Any) -> None:
        raise _changed(self, f"[{key!r}]")

    def __setattr__(self, name: str, item: Any) -> None:
        if name not in StepResult.__slots__:
            raise _changed(self, f".{name} = ...")
        object.__setattr__(self, name, item)

    def __delattr__(self, name: str) -> None:
        raise _changed(self, f".{name}")


def make_result(
    step: Step, path: tuple[tuple[str, Any], ...] = (), parent: StepResult[Any] | None = None
) -> StepResult[Any]:
    """The StepResult of a step, or of what `path` selects from its value."""
    made: StepResult[Any] = StepResult.__new__(StepResult)
    put = object.__setattr__
    put(made, "step", step)
    put(made, "_path", path)
    put(made, "_parent", parent)
    put(made, "_value", _UNREAD)
    put(made, "_watch", None)
    put(made, "_mark", None)
    put(made, "_is_future", False)
    put(made, "_is_unpacked", False)
    return made


def _mark_of(value: Any) -> bytes | LargeMark | None:
    if type(value) in ATOMS:
        return None
    from pipedeco.marks import mark_of

    return mark_of(value)


def accept_change(result: StepResult[Any]) -> None:
    """Take the value as it is now for unchanged."""
    while result._parent is not None:
        result = result._parent
    if result._mark is not None:
        result._mark = _mark_of(result._value)


def plain(item: Any) -> Any:
    """The value of a StepResult; anything else as it is."""
    return item.result() if isinstance(item, StepResult) else item


def changed_in_place(result: StepResult[Any]) -> bool:
    """Whether the body has changed the value that it loaded."""
    root = result
    while root._parent is not None:
        root = root._parent
    mark = root._mark
    if mark is None:
        return False
    if not isinstance(mark, bytes):
        mark.read = mark.read and mark.tells(root._value, lambda: root._run.recorded(root.step))
        return mark.read
    if has_changed(mark, root._value):
        return True
    accept_change(root)  # it has remembered something of itself
    return False


def has_changed(before: bytes, value: Any) -> bool:
    """Whether a value is another than when `pickle_mark` gave `before`."""
    if pickle_mark(value) == before:
        return False
    from pipedeco.fingerprint.changes import same_content

    return not same_content(before, value)


def _asked_by_futures() -> bool:
    asking = sys._getframe(2).f_globals.get("__name__")
    return asking == "concurrent.futures._base"


def _asked_by_container() -> bool:
    """Whether a container compares its items, as list.remove does."""
    from pipedeco.membership import looks_for_item

    frame = sys._getframe(2)
    return looks_for_item(frame.f_code, frame.f_lasti)


def _itself(value: Any) -> Any:
    return value


def _set(ended: Any) -> None:
    if not ended.done():
        ended.set_result(None)


def _call_back(fn: Callable[[Any], object], result: StepResult[Any]) -> None:
    try:
        fn(result)
    except Exception:
        import logging

        logging.getLogger("pipedeco").exception("a done callback of %r raised", result)


def _changed(result: StepResult[Any], change: str) -> TypeError:
    return TypeError(
        f"the result of step {result.step.name} cannot be changed in place ({change}); "
        "take its value with pipedeco.value(...), change that, and pass it on, "
        "or make the change inside a step"
    )


def _outputs(result: StepResult[Any]) -> int | None:
    """How many outputs the component says it has; of a selection nothing is known."""
    if result._path:
        return None
    count: int | None = result.step.called.component.output_count
    return count


def _output_names(result: StepResult[Any]) -> tuple[str, ...]:
    names = result.step.called.component.step_options.outputs
    return names if isinstance(names, tuple) else ()


def check_unpacked(results: list[StepResult[Any]], steps: list[Step]) -> None:
    """Raise what unpacking these results raises, once the steps of their run have ended.

    Where the body has read an output, or a step has taken one, that has raised it already.
    """
    if not results:
        return
    performed = (step for step in steps if step.state in SUCCESS or step.state == FAILED)
    used = {needed for step in performed for needed in step.inputs}
    for result in results:
        count = _outputs(result)
        if count is None or result._is_unpacked or result.step in used:
            continue
        if result.step.state not in SUCCESS:
            continue
        names = _output_names(result)
        if not result._check_outputs(count, names):
            unpacked(result._run.load(result.step), count, names)


def _fields(result: StepResult[Any]) -> frozenset[str]:
    """The fields of the annotated return type."""
    if result._path:
        return frozenset()
    fields: frozenset[str] = result.step.called.component.output_fields
    return fields


def _unary(operation: Callable[[Any], Any]) -> Any:
    def call(self: StepResult[Any]) -> Any:
        try:
            return operate(operation, self.result())
        except BaseException as error:
            hide_ours(error)
            raise

    return call


def _binary(operation: Callable[..., Any]) -> Any:
    def call(self: StepResult[Any], other: Any, *more: Any) -> Any:
        try:
            return operate(operation, self.result(), plain(other), *more)
        except BaseException as error:
            hide_ours(error)
            raise

    return call


def _reflected(operation: Callable[[Any, Any], Any]) -> Any:
    def call(self: StepResult[Any], other: Any) -> Any:
        try:
            return operate(operation, plain(other), self.result())
        except BaseException as error:
            hide_ours(error)
            raise

    return call


def _augmented(operation: Callable[[Any, Any], Any]) -> Any:
    """`r += x` binds the name to a changed copy; the result itself stays as it is."""

    def call(self: StepResult[Any], other: Any) -> Any:
        try:
            return operate(operation, self.__copy__(), plain(other))
        except BaseException as error:
            hide_ours(error)
            raise

    return call


def _install_operators(target: type) -> None:
    """Give `target` every operator that waits for the value."""
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "matmul"):
        _install_pair(target, name, getattr(operator, name))
    for name, operation in (("and", operator.and_), ("or", operator.or_), ("xor", operator.xor)):
        _install_pair(target, name, operation)
    for name in ("lshift", "rshift"):
        _install_pair(target, name, getattr(operator, name))
    _install_pair(target, "divmod", divmod)
    _install_pair(target, "pow", pow)
    for name in ("ne", "lt", "le", "gt", "ge"):
        setattr(target, f"__{name}__", _binary(getattr(operator, name)))
    for name, function in _OTHERS.items():
        setattr(target, f"__{name}__", function)
    for name, function in _UNARY.items():
        setattr(target, f"__{name}__", _unary(function))


def _install_pair(target: type, name: str, operation: Callable[[Any, Any], Any]) -> None:
    setattr(target, f"__{name}__", _binary(operation))
    setattr(target, f"__r{name}__", _reflected(operation))
    augmented = getattr(operator, f"i{name.rstrip('_')}", None)
    if augmented is not None:
        setattr(target, f"__i{name}__", _augmented(augmented))


def _index(result: StepResult[Any]) -> int:
    value = result.result()
    if not hasattr(value, "__index__"):  # os.stat asks for a number before it asks for a path
        kind = type(value).__name__
        raise TypeError(
            f"the result of step {result.step.name} is a {kind}, and a number is asked for; if a "
            "path is meant, pass pipedeco.value(...)"
        )
    return operator.index(value)


def _length(result: StepResult[Any]) -> int:
    value: Any = result.result()
    try:
        return len(value)
    except TypeError as error:
        from pipedeco.library_calls import note_future

        note_future(error, result.step.name)
        raise


def _fspath(value: Any) -> str | bytes:
    import os

    path: str | bytes = os.fspath(value)
    return path


_UNARY: dict[str, Callable[[Any], Any]] = {
    "neg": operator.neg,
    "pos": operator.pos,
    "abs": abs,
    "invert": operator.invert,
    "int": int,
    "float": float,
    "complex": complex,
    "bytes": bytes,
    "reversed": reversed,
    "trunc": math.trunc,
    "floor": math.floor,
    "ceil": math.ceil,
    "fspath": _fspath,
}

_OTHERS: dict[str, Any] = {
    "contains": _binary(operator.contains),
    "index": _index,
    "len": _length,
    "round": lambda self, *digits: round(self.result(), *digits),
}

_install_operators(StepResult)

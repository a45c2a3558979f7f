"""The only place that pickles: values and arguments to bytes or blobs, and back.

A packed value is `bytes` (a pickle of at most 64 KiB), `str` (the digest of a blob), or None,
which stands for itself.
Three picklers are tried in turn: pickle, cloudpickle, dill.  What none can carry raises
NotPicklable with the path to the culprit.
"""

from __future__ import annotations

import copyreg
import io
import pickle
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pipedeco.outputs import take, taken
from pipedeco.picklers import PROTOCOL, ReducingPickler, cloud_pickler_to, dumps_by_dill, loads
from pipedeco.user_frames import put_note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pipedeco.blobs import BlobStore

INLINE_LIMIT = 64 * 1024
# Once multiprocessing is imported, pickle finds what has no `__module__` under the second name.
_MAINS = ("__main__", "__mp_main__")
_BEGIN = pickle.PROTO + bytes([PROTOCOL])  # of each pickle of ours
MAIN_MARK = b"main__"  # is in each pickle that refers to `__main__`

Packed = bytes | str
UNRECORDED = b""  # stands for a value that could not be packed
PLAIN = frozenset({  # opcodes that push bytes or a text
    "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8",
    "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
})  # fmt: skip

# What stands for input number i of the arguments that are being loaded.
_inputs: ContextVar[Callable[[int], Any]] = ContextVar("pipedeco inputs")


def unpack(packed: Packed | None, blobs: BlobStore, *, verify: bool = False) -> Any:
    """The value that was packed; whatever its classes raise while loading is raised here.

    Raises LoadingEnded in place of SystemExit and the like; KeyboardInterrupt is a person's.
    """
    if packed is None:
        return None
    if isinstance(packed, bytes):
        return loads(packed)
    main, *buffers = blobs.get(packed, verify=verify)
    return loads(main, buffers)


def joined(parts: Sequence[memoryview]) -> bytes | memoryview:
    """The parts of a blob as one pickle, which holds its buffers; nothing is loaded for it."""
    main, *buffers = parts
    return _inband(bytes(main), buffers) if buffers else main


def plain_value(data: bytes | memoryview) -> bytes | bytearray | str | None:
    """What is pickled where it is bytes or a text alone; nothing is loaded for it."""
    import pickletools

    found: bytes | bytearray | str | None = None
    for opcode, argument, _ in pickletools.genops(io.BytesIO(data)):
        if opcode.name in ("PROTO", "FRAME", "MEMOIZE", "STOP"):
            continue
        if opcode.name not in PLAIN or found is not None:
            return None
        found = argument
    return found


def unpack_arguments(
    packed: Packed | None, blobs: BlobStore, load_input: Callable[[int], Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The (args, kwargs) of a call, with `load_input(i)` in the place of its i-th input."""
    if packed is None:
        return (), {}
    token = _inputs.set(load_input)
    try:
        args, kwargs = unpack(packed, blobs)
        return args, kwargs
    finally:
        _inputs.reset(token)


def given_input(number: int, path: tuple[tuple[str, Any], ...] = ()) -> Any:
    """Named in pickled arguments where a StepResult stood, with what it selected."""
    value = _inputs.get()(number)
    for kind, key in path:
        try:
            value = take(value, kind, key)
        except Exception as error:
            part = taken(kind, key)
            put_note(error, f"while taking {part} of a result that stands in the arguments")
            raise
    return value


class Pickler:
    """Pickles one object after another, for one thread.

    Parameters
    ----------
    blobs: where values over 64 KiB go.
    reducers: extra reducers by type, tried before any other.
    by_value: names of modules whose functions and classes other processes cannot import.
    """

    def __init__(
        self,
        blobs: BlobStore,
        reducers: dict[type, Any] | None = None,
        by_value: Iterable[str] = (),
    ) -> None:
        self.blobs = blobs
        self._by_value = tuple(name.encode() for name in by_value)
        self.reducers = {kind: self._guarded(made) for kind, made in (reducers or {}).items()}
        self._buffer = io.BytesIO()
        self._views: list[pickle.PickleBuffer] = []
        self._pickler: pickle.Pickler | None = None
        self._refusal: Exception | None = None

    def dump(self, value: object, what: str) -> Packed:
        """Pack `value`; on failure raises NotPicklable that calls it `what`."""
        try:
            data = self._plain(value)
            if self._by_value and any(name in data for name in self._by_value):
                data = self._whole(value)
        except MemoryError:
            raise self._short_of_memory(what) from None
        except Exception:  # noqa: BLE001 - the reducers of users' classes may raise anything
            self._pickler = None
            self._raise_refusal()
            data = self._carried(value, what)
        if len(data) <= INLINE_LIMIT and not self._views:
            return data
        return self._place(data)

    def dump_inline(self, value: object) -> bytes:
        """Pack `value` as bytes whatever its size; raises what the last pickler raises."""
        try:
            data = pickle.dumps(value, PROTOCOL)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - users' reducers
            return self._cloud(value)
        return self._cloud(value) if any(name in data for name in self._by_value) else data

    def _whole(self, value: object) -> bytes:
        """A pickle with what it may have named of modules that cannot be imported."""
        self._views.clear()
        try:
            return self._cloud(value)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - as above; the name may be a mere text
            return self._plain(value)

    @classmethod
    def meets(cls, reducers: dict[type, Any], value: object, found: list[Any]) -> bool:
        """Whether some pickler fills `found` through `reducers` on its way through `value`."""
        pickler = cls(None, reducers)  # type: ignore[arg-type]
        for dump in (pickler._plain, pickler._reduced, pickler._cloud, pickler._dill):
            try:
                dump(value)
            except Exception:  # noqa: BLE001 - users' reducers; the next may come further
                if not found:
                    continue
            break
        return bool(found)

    def _guarded(self, reducer: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The reducer; what it raises is final, so that no other pickler is tried then."""

        def reduce(item: Any) -> Any:
            try:
                return reducer(item)
            except Exception as error:
                self._refusal = error
                raise

        return reduce

    def _short_of_memory(self, what: str) -> MemoryError:
        """The error; what was pickled so far is let go."""
        self._pickler = None
        self._buffer = io.BytesIO()
        self._views.clear()
        return MemoryError(f"there is not enough memory to pickle {what}")

    def _raise_refusal(self) -> None:
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise refusal

    def _plain(self, value: object) -> bytes:
        buffer = self._buffer
        buffer.seek(0)
        buffer.truncate()
        pickler = self._pickler
        if pickler is None:
            pickler = pickle.Pickler(buffer, PROTOCOL, buffer_callback=self._keep)
            if self.reducers:
                pickler.dispatch_table = {**copyreg.dispatch_table, **self.reducers}
            self._pickler = pickler
        self._views.clear()
        pickler.dump(value)
        pickler.clear_memo()  # it keeps no object of the value alive
        data = buffer.getvalue()
        if len(data) > INLINE_LIMIT or self._views:
            buffer.seek(0)
            buffer.truncate()
        return data

    def _keep(self, view: pickle.PickleBuffer) -> None:
        self._views.append(view)

    def _carried(self, value: object, what: str) -> bytes:
        """The pickle of a pickler that carries more than pickle's own."""
        reason: Exception | None = None
        for dump in (self._reduced, self._cloud, self._dill):
            self._views.clear()
            try:
                return dump(value)
            except MemoryError:
                raise self._short_of_memory(what) from None
            except Exception as error:  # noqa: BLE001 - as above: users' reducers
                self._raise_refusal()
                reason = error
        from pipedeco.culprits import not_picklable

        raise not_picklable(value, what, self.reducers, reason) from None

    def _reduced(self, value: object) -> bytes:
        """By pickle with our reductions, which imports no other package."""
        buffer = io.BytesIO()
        pickler = ReducingPickler(buffer, PROTOCOL, buffer_callback=self._keep)
        pickler.dispatch_table = {**copyreg.dispatch_table, **self.reducers}
        pickler.dump(value)
        return buffer.getvalue()

    def _cloud(self, value: object) -> bytes:
        buffer = io.BytesIO()
        cloud_pickler_to(buffer, self.reducers, self._keep).dump(value)
        return buffer.getvalue()

    def _dill(self, value: object) -> bytes:
        return dumps_by_dill(value, self.reducers)

    def _place(self, data: bytes) -> Packed:
        """Large values go into a blob; small buffers back into the pickle."""
        views = [view.raw() for view in self._views]
        self._views.clear()
        if len(data) + sum(view.nbytes for view in views) > INLINE_LIMIT:
            return self.blobs.put([data, *views])
        return _inband(data, views)


def _inband(data: bytes, views: list[memoryview]) -> bytes:
    """The same pickle with its out-of-band buffers inside."""
    return pickle.dumps(_Inband(data, [bytearray(view) for view in views]), PROTOCOL)


class _Inband:
    """A pickle together with its buffers; unpickles as what the pickle holds."""

    def __init__(self, data: bytes, buffers: list[bytearray]) -> None:
        self.data = data
        self.buffers = buffers

    def __reduce__(self) -> tuple[Any, ...]:
        # Nothing of ours, so that who loads it needs no pipedeco.
        return partial(pickle.loads, buffers=self.buffers), (self.data,)


def main_names(packed: bytes | memoryview, main: dict[str, Any]) -> tuple[str, ...]:
    """Names of `__main__` that a pickle refers to, as far as `main` has them."""
    if MAIN_MARK not in bytes(packed):
        return ()
    called = (name.partition(".")[0] for module, name in globals_named(packed) if module in _MAINS)
    return tuple(name for name in dict.fromkeys(called) if name in main)


def globals_named(packed: bytes | memoryview) -> dict[tuple[str, str], None]:
    """The modules and qualified names that a pickle looks up, and those that stand in it, see _Inband."""
    import pickletools

    found: dict[tuple[str, str], None] = {}
    strings: list[str | None] = []  # the last ones that were pushed
    memo: list[Any] = []
    last: Any = None  # what the next MEMOIZE keeps
    argument: Any
    for opcode, argument, _ in pickletools.genops(bytes(packed)):
        if opcode.name == "MEMOIZE":
            memo.append(last)
        elif opcode.name in ("BINGET", "LONG_BINGET"):
            last = memo[argument] if argument < len(memo) else None
            strings.append(last)
        elif opcode.name == "GLOBAL":  # of protocols before 4
            module, _, name = argument.partition(" ")
            found[module, name] = None
            last = None
        elif opcode.name == "STACK_GLOBAL":
            module, name = strings[-2:]
            if module is not None and name is not None:
                found[module, name] = None
            last = None
        else:
            last = argument if isinstance(argument, str) else None
            if last is not None:
                strings.append(last)
            elif isinstance(argument, bytes) and argument.startswith(_BEGIN):
                with suppress(ValueError, IndexError):  # it is no pickle
                    found |= globals_named(argument)
    return found


def pickle_mark(value: object, limit: int = INLINE_LIMIT) -> bytes | None:
    """The pickle by which a change of `value` in place is seen; None where it cannot be.

    Types that cannot change, and what is over the limit or cannot be pickled, have none.
    """
    if value is None or type(value) in (bool, int, float, complex, str, bytes):
        return None
    try:
        size = getattr(value, "nbytes", 0)
        if isinstance(size, int) and size > limit:  # an array, whose pickle would be as large
            return None
        data = _dumps_apart_from_tracebacks(value)
    except Exception:  # noqa: BLE001 - users' reducers; nothing to compare then
        return None
    return data if len(data) <= limit else None


def _dumps_apart_from_tracebacks(value: object) -> bytes:
    """A pickle in which exceptions have no traceback: who raises one does not change it.

    They have where tblib's reducers are installed, as they are once Dask is imported.
    """
    if TracebackType not in copyreg.dispatch_table:
        return pickle.dumps(value, PROTOCOL)
    file = io.BytesIO()
    pickler = pickle.Pickler(file, PROTOCOL)
    known = copyreg.dispatch_table.items()
    pickler.dispatch_table = {k: how for k, how in known if not issubclass(k, BaseException)}
    pickler.dump(value)
    return file.getvalue()


def contains(value: object, kind: type) -> bool:
    """Whether pickling `value` would meet an object of this type."""
    found: list[Any] = []

    def note(met: Any) -> tuple[Any, ...]:
        found.append(met)
        return str, ()

    return Pickler.meets({kind: note}, value, found)


def dumps(value: object) -> bytes:
    return pickle.dumps(value, PROTOCOL)


def pack_exception(error: BaseException) -> bytes | None:
    """An exception with its traceback and causes, or what stands for one that cannot travel.

    The trip is tried here, so that the process that reads it meets no surprise.  None where
    nothing arrives.
    """
    try:
        data = _dump_raised(error)
        back = loads(data)
        if type(back) is type(error) and str(back) == str(error) and len(data) <= 16 * INLINE_LIMIT:
            return data
    except Exception:  # noqa: BLE001, S110 - users' exceptions may do anything here
        pass
    from pipedeco.standins import pack_in_parts

    return pack_in_parts(error)


def _dump_raised(error: BaseException) -> bytes:
    from pipedeco.tracebacks import RaisedPickler, reduce_raised  # most steps do not fail

    buffer = io.BytesIO()
    try:
        RaisedPickler(buffer, PROTOCOL).dump(error)
    except Exception:  # noqa: BLE001 - users' reducers; classes of __main__
        buffer = io.BytesIO()
        cloud_pickler_to(buffer, {}, None, reduce_raised).dump(error)
    return buffer.getvalue()


def unpack_exception(data: bytes) -> BaseException:
    error = loads(data)
    assert isinstance(error, BaseException)
    return error

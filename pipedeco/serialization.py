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
import sys
from contextvars import ContextVar
from functools import cache, partial
from types import CodeType, MemberDescriptorType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.errors import NotPicklable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipedeco.blobs import BlobStore

PROTOCOL = 5
INLINE_LIMIT = 64 * 1024

Packed = bytes | str
UNRECORDED = b""  # stands for a value that could not be packed
PLAIN = frozenset({  # opcodes that push bytes or a text
    "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8",
    "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
})  # fmt: skip

# What stands for input number i of the arguments that are being loaded.
_inputs: ContextVar[Callable[[int], Any]] = ContextVar("pipedeco inputs")


def unpack(packed: Packed | None, blobs: BlobStore, *, verify: bool = False) -> Any:
    """The value that was packed; whatever its classes raise while loading is raised here."""
    if packed is None:
        return None
    if isinstance(packed, bytes):
        return pickle.loads(packed)
    main, *buffers = blobs.get(packed, verify=verify)
    return pickle.loads(main, buffers=buffers)


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
            value = value[key] if kind == "item" else getattr(value, key)
        except Exception as error:
            taken = f"[{key!r}]" if kind == "item" else f".{key}"
            error.add_note(f"while taking {taken} of a result that stands in the arguments")
            raise
    return value


class Pickler:
    """Pickles one object after another, for one thread.

    Parameters
    ----------
    blobs: where values over 64 KiB go.
    reducers: extra reducers by type, tried before any other.
    """

    def __init__(self, blobs: BlobStore, reducers: dict[type, Any] | None = None) -> None:
        self.blobs = blobs
        self.reducers = {kind: self._guarded(made) for kind, made in (reducers or {}).items()}
        self._buffer = io.BytesIO()
        self._views: list[pickle.PickleBuffer] = []
        self._pickler: pickle.Pickler | None = None
        self._refusal: Exception | None = None

    def dump(self, value: object, what: str) -> Packed:
        """Pack `value`; on failure raises NotPicklable that calls it `what`."""
        try:
            data = self._plain(value)
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
            return pickle.dumps(value, PROTOCOL)
        except Exception:  # noqa: BLE001 - users' reducers
            return self._cloud(value)

    @classmethod
    def meets(cls, reducers: dict[type, Any], value: object, found: list[Any]) -> bool:
        """Whether some pickler fills `found` through `reducers` on its way through `value`."""
        pickler = cls(None, reducers)  # type: ignore[arg-type]
        for dump in (pickler._plain, pickler._cloud, pickler._dill):
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
        else:
            pickler.clear_memo()
        self._views.clear()
        pickler.dump(value)
        data = buffer.getvalue()
        if len(data) > INLINE_LIMIT or self._views:  # a worker that is idle keeps nothing alive
            pickler.clear_memo()
            buffer.seek(0)
            buffer.truncate()
        return data

    def _keep(self, view: pickle.PickleBuffer) -> None:
        self._views.append(view)

    def _carried(self, value: object, what: str) -> bytes:
        """The pickle of cloudpickle or of dill."""
        reason: Exception | None = None
        for dump in (self._cloud, self._dill):
            self._views.clear()
            try:
                return dump(value)
            except Exception as error:  # noqa: BLE001 - as above: users' reducers
                self._raise_refusal()
                reason = error
        raise not_picklable(value, what, self.reducers, reason) from None

    def _cloud(self, value: object) -> bytes:
        buffer = io.BytesIO()
        _cloudpickle_to(buffer, self.reducers, self._keep).dump(value)
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


def _cloudpickle_to(
    file: Any,
    reducers: dict[type, Any],
    keep: Callable[[Any], None] | None,
    override: Callable[[Any], Any] = lambda _: NotImplemented,
) -> Any:
    """Cloudpickle with reducers of ours; what __main__ names travels by its name, as in pickle.

    Parameters
    ----------
    override: asked first, for what is of no one type.
    """

    class ByReference(cloud_pickler()):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            if type(obj) in reducers:
                return reducers[type(obj)](obj)
            made = override(obj)
            if made is not NotImplemented:
                return made
            if getattr(obj, "__module__", None) == "__main__" and named_in_main(obj):
                return NotImplemented
            return super().reducer_override(obj)

    return ByReference(file, PROTOCOL, buffer_callback=keep)


@cache
def cloud_pickler() -> Any:
    """Cloudpickle's class, except that code keeps the name of its file, and classes their slots.

    From 3.1.3 on cloudpickle writes "<dynamic-code>" there, and tracebacks lose their lines.
    """
    import cloudpickle

    reduce = cloudpickle.Pickler.dispatch_table[CodeType]

    def reduce_code(code: CodeType) -> tuple[Any, ...]:
        make, parts = reduce(code)
        return _code_of_file, (code.co_filename, make, parts)

    class NamingFiles(cloudpickle.Pickler):  # type: ignore[misc]
        dispatch_table = cloudpickle.Pickler.dispatch_table.new_child({CodeType: reduce_code})

        def reducer_override(self, obj: Any) -> Any:
            made = super().reducer_override(obj)
            slotted = isinstance(obj, type) and "__slots__" in vars(obj)
            return _with_slots(obj, made) if slotted and made is not NotImplemented else made

    return NamingFiles


def _with_slots(cls: type, made: tuple[Any, ...]) -> tuple[Any, ...]:
    """What makes a class again, from what cloudpickle says of one with `__slots__`.

    It sets them on a class that is made already, whose objects then keep their attributes in a
    `__dict__`: what pickles such an object says so, and the class itself has none.
    """
    make, arguments, state, *rest = made
    if make.__name__ != "_make_skeleton_class" or "__slots__" in arguments[3]:
        return made
    if NamedTuple in vars(cls).get("__orig_bases__", ()):  # makes its own
        return made
    given = {**arguments[3], "__slots__": vars(cls)["__slots__"]}
    attributes = {
        name: value
        for name, value in state[0].items()
        if name != "__slots__" and not isinstance(value, MemberDescriptorType)
    }
    arguments = (*arguments[:3], given, *arguments[4:])
    return make, arguments, (attributes, *state[1:]), *rest


def _code_of_file(name: str, make: Callable[..., CodeType], parts: tuple[Any, ...]) -> CodeType:
    return make(*parts).replace(co_filename=name)


def _dill_pickler() -> Any:
    """dill, except that it leaves files alone which are written to."""
    import dill

    class Careful(dill.Pickler):  # type: ignore[misc]
        def save(self, obj: Any, save_persistent_id: bool = True) -> None:
            _refuse_written(obj)
            super().save(obj, save_persistent_id)

    return Careful


def dumps_by_dill(value: object, reducers: dict[type, Any] | None = None) -> bytes:
    """The last resort: dill carries locks and more.  Raises what dill raises."""
    import warnings

    buffer = io.BytesIO()
    pickler = _dill_pickler()(buffer, PROTOCOL, byref=True, recurse=True)
    pickler.dispatch_table = {**copyreg.dispatch_table, **(reducers or {})}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dill wonders at names that it finds by reference
        pickler.dump(value)
    return buffer.getvalue()


def _refuse_written(obj: Any) -> None:
    """Raises PicklingError for a file that dill would open again, and so truncate."""
    if isinstance(obj, io.IOBase) and not obj.closed and obj.writable() and _is_file(obj):
        raise pickle.PicklingError("a file that is open for writing cannot be carried")


def _is_file(stream: io.IOBase) -> bool:
    try:
        return stream.fileno() >= 0
    except (OSError, ValueError):  # in memory
        return False


def named_in_main(obj: Any) -> bool:
    """Whether `__main__` has this very function or class under its qualified name."""
    found: Any = sys.modules.get("__main__")
    for part in getattr(obj, "__qualname__", "<locals>").split("."):
        found = getattr(found, part, None)
    return found is obj


def main_names(packed: bytes | memoryview, main: dict[str, Any]) -> tuple[str, ...]:
    """Names of `__main__` that a pickle refers to, as far as `main` has them."""
    if b"__main__" not in bytes(packed):
        return ()
    return tuple(name for name in _globals_of_main(packed) if name in main)


def _globals_of_main(packed: bytes | memoryview) -> dict[str, None]:
    """The first parts of the qualified names that a pickle looks up in `__main__`."""
    import pickletools

    found: dict[str, None] = {}
    strings: list[str] = []  # the last ones that were pushed
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
            if module == "__main__":
                found[name.partition(".")[0]] = None
            last = None
        elif opcode.name == "STACK_GLOBAL":
            if strings[-2] == "__main__" and isinstance(strings[-1], str):
                found[strings[-1].partition(".")[0]] = None
            last = None
        else:
            last = argument if isinstance(argument, str) else None
            if last is not None:
                strings.append(last)
    return found


def pickle_mark(value: object) -> bytes | None:
    """The pickle by which a change of `value` in place is seen; None where it cannot be.

    Types that cannot change, and what is over 64 KiB or cannot be pickled, have none.
    """
    if value is None or type(value) in (bool, int, float, complex, str, bytes):
        return None
    try:
        data = _dumps_apart_from_tracebacks(value)
    except Exception:  # noqa: BLE001 - users' reducers; nothing to compare then
        return None
    return data if len(data) <= INLINE_LIMIT else None


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


def not_picklable(
    value: object, what: str, reducers: dict[type, Any], reason: Exception | None
) -> NotPicklable:
    """The error for a value that no pickler carries, with the path to the culprit."""
    finder = _CulpritFinder(what, reducers)
    found = finder.find(value)
    path, culprit = found or (what, value)
    kind = type(culprit)
    name = kind.__qualname__
    if kind.__module__ != "builtins":
        name = f"{kind.__module__}.{name}"
    article = "an" if name[0] in "aeiouAEIOU" else "a"
    text = f"{path} is {article} {name}, which cannot be pickled"
    if reason is not None and str(reason):
        text += f" ({str(reason)[:200]})"
    return NotPicklable(f"{text}; pass what it is made from, and make it inside the step")


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

    def save(self, obj: Any, save_persistent_id: bool = True) -> Any:
        self._trail.append(obj)
        try:
            _refuse_written(obj)  # dill, once it is loaded, has taught this class to save files
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
    """Whether cloudpickle or dill, as we call it, can carry the object."""
    import cloudpickle

    for dump in (cloudpickle.dumps, dumps_by_dill):
        try:
            dump(obj)
        except Exception:  # noqa: BLE001, S112 - users' reducers; the next pickler is tried
            continue
        return True
    return False


def loads(data: bytes) -> Any:
    return pickle.loads(data)


def dumps(value: object) -> bytes:
    return pickle.dumps(value, PROTOCOL)


def pack_exception(error: BaseException) -> bytes | None:
    """An exception with its traceback and causes, or None where it does not survive the trip.

    The trip is tried here, so that the process that reads it meets no surprise.
    """
    try:
        data = _dump_raised(error)
        back = pickle.loads(data)
        same = type(back) is type(error) and str(back) == str(error)
    except Exception:  # noqa: BLE001 - users' exceptions may do anything here
        return None
    return data if same and len(data) <= 16 * INLINE_LIMIT else None


def _dump_raised(error: BaseException) -> bytes:
    from pipedeco.tracebacks import RaisedPickler, reduce_raised  # most steps do not fail

    buffer = io.BytesIO()
    try:
        RaisedPickler(buffer, PROTOCOL).dump(error)
    except Exception:  # noqa: BLE001 - users' reducers; classes of __main__
        buffer = io.BytesIO()
        _cloudpickle_to(buffer, {}, None, reduce_raised).dump(error)
    return buffer.getvalue()


def unpack_exception(data: bytes) -> BaseException:
    error = pickle.loads(data)
    assert isinstance(error, BaseException)
    return error

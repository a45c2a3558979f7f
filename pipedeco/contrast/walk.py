"""Two values side by side, part by part."""

from __future__ import annotations

from enum import Enum
from itertools import islice
from pathlib import PurePath
from re import Pattern
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from pipedeco.contrast.arrays import compare_arrays
from pipedeco.contrast.found import Found, beside, counted, shown, type_name
from pipedeco.contrast.frames import (
    compare_columns,
    compare_frames,
    compare_indexes,
    compare_series,
    is_of,
)
from pipedeco.contrast.texts import compare_bytes, compare_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

DEPTH = 100  # levels; each takes a few calls of Python
MANY = 1_000_000  # items of an object that is no list
FEW = 5  # elements of a set
HEAP = 1 << 9  # the flag of a class that is made at run time, as by a class statement
PLAIN = frozenset({type(None), bool, int, float, complex})
QUICK = PLAIN | {str, bytes}  # which two are equal, is soon known


class Walk:
    """Compares two values, and tells `found` where they differ."""

    def __init__(self, found: Found) -> None:
        self.found = found
        self._seen: dict[
            tuple[int, int], tuple[Any, Any]
        ] = {}  # holds them, so that ids are theirs
        self._depth = 0

    def compare(self, path: str, left: Any, right: Any) -> None:
        if left is right:
            return
        kind = type(left)
        if kind in PLAIN and kind is type(right):
            if left != right and (left == left or right == right):  # noqa: PLR0124 - or both nan
                self.found.tell(path, beside(left, right))
            return
        if (id(left), id(right)) in self._seen:
            return
        self._seen[id(left), id(right)] = left, right
        if self._depth >= DEPTH:
            self.found.doubt(path, f"deeper than {DEPTH} levels is not compared")
            return
        self._depth += 1
        try:
            self._compare_parts(path, left, right)
        except Exception as error:  # noqa: BLE001 - the users' classes
            self.found.doubt(path, f"cannot be compared: {type(error).__name__}: {error}")
        finally:
            self._depth -= 1

    def _compare_parts(self, path: str, left: Any, right: Any) -> None:
        if self._compare_known(path, left, right):
            return
        if type_name(left) != type_name(right):
            self.found.tell(path, _other_types(left, right))
            return
        rules: tuple[tuple[Any, Callable[[str, Any, Any], None]], ...] = (
            (str, self._compare_texts),
            (bytes | bytearray, self._compare_bytes),
            (dict, self._compare_dicts),
            (list | tuple, self._compare_lists),
            (set | frozenset, self._compare_sets),
            (FunctionType, self._compare_functions),
            (type | ModuleType, self._compare_names),
            (Enum | PurePath | Pattern, self._compare_looks),
        )
        for kinds, comparing in rules:
            if isinstance(left, kinds):
                comparing(path, left, right)
                if comparing in (self._compare_dicts, self._compare_lists):
                    self._compare_attributes(path, left, right)  # of a subclass
                return
        has_any = self._compare_attributes(path, left, right)
        if not has_any or _is_built_in(type(left)):
            self._compare_reduced(path, left, right, with_state=not has_any)

    def _compare_texts(self, path: str, left: str, right: str) -> None:
        if left != right:
            compare_texts(self.found, path, left, right)

    def _compare_bytes(self, path: str, left: Any, right: Any) -> None:
        if left != right:
            compare_bytes(self.found, path, bytes(left), bytes(right))

    def _compare_names(self, path: str, left: Any, right: Any) -> None:
        if left.__name__ != right.__name__:
            self.found.tell(path, beside(left, right))

    def _compare_looks(self, path: str, left: Any, right: Any) -> None:
        """Of what its text tells all."""
        if repr(left) != repr(right):
            self.found.tell(path, beside(left, right))

    def _compare_known(self, path: str, left: Any, right: Any) -> bool:
        """Whether both are of a kind that is compared as a whole, by numpy or a table's library."""
        for module, names, comparing in (
            ("pandas", ("DataFrame",), compare_frames),
            ("pandas", ("Series",), compare_series),
            ("pandas", ("Index",), compare_indexes),
            ("polars", ("DataFrame",), compare_columns),
            ("pyarrow", ("Table", "RecordBatch"), compare_columns),
        ):
            if is_of(left, module, *names) and is_of(right, module, *names):
                comparing(self.found, path, left, right, self.compare)
                return True
        pair = [_as_array(value) for value in (left, right)]
        if any(array is None for array in pair):
            return False
        compare_arrays(self.found, path, pair[0], pair[1], self.compare)
        if is_of(left, "numpy.ma", "MaskedArray") and is_of(right, "numpy.ma", "MaskedArray"):
            self.compare(f"{path}.mask", left.mask, right.mask)
        return True

    def _compare_dicts(self, path: str, left: Mapping[Any, Any], right: Mapping[Any, Any]) -> None:
        for one, other, side in ((left, right, "left"), (right, left, "right")):
            for key in one:
                if key not in other:
                    self.found.tell(path, f"{shown(key)} only on the {side}: {shown(one[key])}")
        for key, value in left.items():
            if key not in right:
                continue
            if self.found.is_late():
                self.found.doubt(path, f"keys from {shown(key)} on were not compared: too long")
                return
            self.compare(f"{path}[{shown(key)}]", value, right[key])

    def _compare_lists(self, path: str, left: Sequence[Any], right: Sequence[Any]) -> None:
        if len(left) != len(right):
            self.found.tell(path, f"{len(left):,} / {counted(len(right), 'element')}")
        for place, (one, other) in enumerate(zip(left, right, strict=False)):
            if one is other or (type(one) in QUICK and type(one) is type(other) and one == other):
                continue
            if self.found.is_late():
                self.found.doubt(path, f"elements from {place:,} on were not compared: too long")
                return
            self.compare(f"{path}[{place}]", one, other)

    def _compare_sets(self, path: str, left: Any, right: Any) -> None:
        for own, side in ((left - right, "left"), (right - left, "right")):
            if own:
                few = ", ".join(sorted(shown(item) for item in islice(own, FEW)))
                more = ", ..." if len(own) > FEW else ""
                told = counted(len(own), "element")
                self.found.tell(path, f"{told} only on the {side}: {few}{more}")

    def _compare_functions(self, path: str, left: FunctionType, right: FunctionType) -> None:
        if left.__qualname__ != right.__qualname__:
            self.found.tell(path, beside(left, right))
        elif left.__code__ != right.__code__:
            self.found.tell(path, f"the code of {left.__qualname__} differs")
        else:
            self.compare(f"{path}.__defaults__", left.__defaults__, right.__defaults__)
            cells = ([cell.cell_contents for cell in f.__closure__ or ()] for f in (left, right))
            self.compare(f"{path}.__closure__", *cells)

    def _compare_attributes(self, path: str, left: Any, right: Any) -> bool:
        """Whether there are any."""
        own, others = _attributes(left), _attributes(right)
        for names, missing, side in ((own, others, "left"), (others, own, "right")):
            for name in names:
                if name not in missing:
                    self.found.tell(f"{path}.{name}", f"only on the {side}: {shown(names[name])}")
        for name, value in own.items():
            if name in others:
                self.compare(f"{path}.{name}", value, others[name])
        return bool(own or others)

    def _compare_reduced(self, path: str, left: Any, right: Any, *, with_state: bool) -> None:
        """By what their pickles would be made from: a date, a path, a pattern, a queue."""
        before = self.found.count, len(self.found.doubts)
        inner, outer = Found(1.0), self.found
        self.found = inner
        try:
            self.compare("", *(_reduced(value, with_state) for value in (left, right)))
        finally:
            self.found = outer
        if inner.count:
            texts = shown(left), shown(right)
            told = beside(left, right) if texts[0] != texts[1] else "; ".join(inner.told())
            outer.tell(path, told)
        elif inner.doubts and before == (outer.count, len(outer.doubts)):
            outer.doubts += [f"{path}: {doubt}" if path else doubt for doubt in inner.doubts]


def _other_types(left: Any, right: Any) -> str:
    names = type_name(left), type_name(right)
    return f"{shown(left)} ({names[0]}) / {shown(right)} ({names[1]})"


def _as_array(value: Any) -> Any:
    """A value that is an array or a column as an array of numpy; None where it is none."""
    if is_of(value, "numpy", "ndarray"):
        return value.data if is_of(value, "numpy.ma", "MaskedArray") else value
    if is_of(value, "polars", "Series"):
        return value.to_numpy()
    if is_of(value, "pyarrow", "Array", "ChunkedArray"):
        return value.to_numpy(zero_copy_only=False)
    if is_of(value, "torch", "Tensor"):
        tensor = value.detach().cpu()
        return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    return None


def _attributes(value: Any) -> dict[str, Any]:
    """What stands in an object's dictionary and slots; no code of its own is executed."""
    if isinstance(value, type | ModuleType | FunctionType):
        return {}
    found: dict[str, Any] = {}
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            mangled = f"_{kind.__name__.lstrip('_')}{name}" if _is_private(name) else name
            try:
                found[name] = object.__getattribute__(value, mangled)
            except AttributeError:  # it is not set
                continue
    found.pop("__dict__", None)
    found.pop("__weakref__", None)
    found.update(getattr(value, "__dict__", None) or {})
    return found


def _is_private(name: str) -> bool:
    return name.startswith("__") and not name.endswith("__")


def _is_built_in(kind: type) -> bool:
    """Whether it is made from a class of C, which may keep more than attributes: an exception."""
    return any(not base.__flags__ & HEAP for base in kind.__mro__ if base is not object)


def _reduced(value: Any, with_state: bool) -> Any:
    parts = value.__reduce_ex__(4)
    if isinstance(parts, str):
        return parts
    items = [list(islice(part, MANY)) for part in parts[3:5] if part is not None]
    made = [getattr(parts[0], "__qualname__", type_name(parts[0])), parts[1]]
    return [*made, *(parts[2:3] if with_state else ()), *items]

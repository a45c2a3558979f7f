"""How two arrays differ: shape, dtype, how many values, the largest difference, the first places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipedeco.contrast.found import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pipedeco.contrast.found import Found

BLOCK = 1 << 20  # values that are compared at once, which bounds the memory
EXAMPLES = 3
NUMBERS = "iufc"  # kinds of dtypes that have differences
NONES = "fcmM"  # kinds with a value that is not equal to itself


def compare_arrays(
    found: Found, path: str, left: Any, right: Any, each: Callable[[str, Any, Any], None]
) -> None:
    """Two arrays of numpy; `each` compares two objects that are elements."""
    if left.shape != right.shape:
        found.tell(path, f"shape {left.shape} / {right.shape}")
        return
    if left.dtype != right.dtype:
        found.tell(path, f"dtype {left.dtype} / {right.dtype}")
        if left.dtype.names != right.dtype.names:
            return
    if left.dtype.names:
        for name in left.dtype.names:
            compare_arrays(found, f"{path}[{name!r}]", left[name], right[name], each)
    elif "O" in (left.dtype.kind, right.dtype.kind):
        _compare_objects(found, path, left, right, each)
    elif _comparable(left.dtype.kind, right.dtype.kind):
        _compare_values(found, path, left, right)


def _comparable(one: str, other: str) -> bool:
    return one == other or (one in "b" + NUMBERS and other in "b" + NUMBERS)


def _compare_objects(
    found: Found, path: str, left: Any, right: Any, each: Callable[[str, Any, Any], None]
) -> None:
    for place, (one, other) in enumerate(zip(left.flat, right.flat, strict=True)):
        if one is other or (type(one) is str and one == other and type(other) is str):
            continue
        if found.is_late():
            found.doubt(path, f"values from {place:,} on were not compared: it takes too long")
            return
        each(f"{path}{_at(place, left.shape).strip()}", one, other)


def _compare_values(found: Found, path: str, left: Any, right: Any) -> None:
    import numpy as np

    count, seen, largest, where = 0, 0, 0.0, ""
    examples: list[str] = []
    for start, one, other in _blocks(left, right):
        if found.is_late():
            found.doubt(path, f"{left.size - seen:,} values were not compared: it takes too long")
            break
        seen += one.size
        unequal = one != other
        if one.dtype.kind in NONES and other.dtype.kind in NONES:
            unequal &= ~((one != one) & (other != other))  # noqa: PLR0124 - both are no number
        places = np.flatnonzero(unequal)
        if not len(places):
            continue
        count += len(places)
        for place in places[: EXAMPLES - len(examples)]:
            pair = one.flat[place], other.flat[place]
            examples.append(f"{_at(start + place, left.shape)}{shown(pair[0])} / {shown(pair[1])}")
        size, place = _largest(one[unequal], other[unequal])
        if size > largest:
            largest, where = size, _at(start + places[place], left.shape)
    if count:
        told = f", the largest difference is {largest:.6g}" if largest else ""
        told += f" at {where.strip()}" if largest and where else ""
        more = ", ..." if count > len(examples) else ""
        found.tell(
            path, f"{count:,} of {left.size:,} values differ{told}: {', '.join(examples)}{more}"
        )


def _blocks(left: Any, right: Any) -> Iterator[tuple[int, Any, Any]]:
    """Parts of both, each with the place of its first value among all; copies are small."""
    if not left.shape or (left.flags.c_contiguous and right.flags.c_contiguous):
        left, right = left.reshape(-1), right.reshape(-1)
    width = max(1, left.size // max(1, len(left)))
    step = max(1, BLOCK // width)
    for start in range(0, len(left), step):
        yield start * width, left[start : start + step], right[start : start + step]


def _at(place: int, shape: tuple[int, ...]) -> str:
    import numpy as np

    return f"{[int(i) for i in np.unravel_index(int(place), shape)]} " if shape else ""


def _largest(left: Any, right: Any) -> tuple[float, int]:
    """The largest difference and its place; 0 where values have none."""
    import numpy as np

    if left.dtype.kind not in NUMBERS or right.dtype.kind not in NUMBERS:
        return 0.0, 0
    kind = complex if "c" in (left.dtype.kind, right.dtype.kind) else float
    with np.errstate(all="ignore"):
        gaps = np.abs(left.astype(kind) - right.astype(kind))
    gaps = np.where(np.isnan(gaps), 0.0, gaps)
    place = int(gaps.argmax())
    return float(gaps[place]), place

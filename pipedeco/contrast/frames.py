"""How two tables differ: columns, rows, dtypes, cells."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pipedeco.contrast.found import counted, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from pipedeco.contrast.found import Found

    Each = Callable[[str, Any, Any], None]

EXAMPLES = 3
FEW = 5  # names of columns or rows


def is_of(value: Any, module: str, *names: str) -> bool:
    """Whether a value is of a class of a package, which is not imported for that."""
    package = sys.modules.get(module)
    return (
        any(isinstance(value, getattr(package, name, ())) for name in names) if package else False
    )


# -- pandas ----------------------------------------------------------------------------------


def compare_frames(found: Found, path: str, left: Any, right: Any, each: Each) -> None:
    """Two frames of pandas: by column, and by label where other rows are there."""
    names = list(left.columns), list(right.columns)
    _compare_names(found, path, "columns", *names)
    left, right = _aligned(found, path, left, right)
    for one, other in _pairs(*names):
        if found.is_late():
            found.doubt(path, f"columns from {names[0][one]!r} on were not compared: too long")
            return
        place = f"{path}[{names[0][one]!r}]"
        _compare_cells(found, place, left.iloc[:, one], right.iloc[:, other], each)


def compare_series(found: Found, path: str, left: Any, right: Any, each: Each) -> None:
    if left.name != right.name:
        found.tell(path, f"name {left.name!r} / {right.name!r}")
    _compare_cells(found, path, *_aligned(found, path, left, right), each)


def compare_indexes(found: Found, path: str, left: Any, right: Any, each: Each) -> None:
    if len(left) != len(right):
        found.tell(path, f"{len(left):,} / {len(right):,} labels")
        return
    if left.names != right.names:
        found.tell(path, f"names {list(left.names)} / {list(right.names)}")
    one, other = (labels.to_series(index=range(len(labels))) for labels in (left, right))
    _compare_cells(found, path, one, other, each)


def _compare_names(
    found: Found, path: str, what: str, left: Sequence[Hashable], right: Sequence[Hashable]
) -> None:
    for names, others, side in ((left, right, "left"), (right, left, "right")):
        there = set(others)
        own = [name for name in names if name not in there]
        if own:
            more = f" and {len(own) - FEW:,} more" if len(own) > FEW else ""
            few = ", ".join(map(shown, own[:FEW]))
            found.tell(path, f"{what} only on the {side}: {few}{more}")
    if left != right and sorted(map(repr, left)) == sorted(map(repr, right)):
        found.tell(path, f"{what} in another order")


def _pairs(left: list[Hashable], right: list[Hashable]) -> list[tuple[int, int]]:
    """Positions of the columns of both."""
    if left == right:
        return [(place, place) for place in range(len(left))]
    places = {name: place for place, name in enumerate(right)}
    return [(place, places[name]) for place, name in enumerate(left) if name in places]


def _aligned(found: Found, path: str, left: Any, right: Any) -> tuple[Any, Any]:
    """The rows of both, in the order of the left one; what is not of both is told."""
    if len(left) != len(right):
        found.tell(path, f"{len(left):,} / {len(right):,} rows")
    if left.index.equals(right.index):
        return left, right
    if left.index.is_unique and right.index.is_unique:
        common = left.index.intersection(right.index, sort=False)
        if len(common):
            _tell_rows(found, path, left.index, right.index)
            at = [side.index.get_indexer(common) for side in (left, right)]
            return left.iloc[at[0]], right.iloc[at[1]]
    rows = min(len(left), len(right))
    if len(left) == len(right):
        compare_labels = left.index[:FEW], right.index[:FEW]
        texts = [", ".join(map(shown, labels)) for labels in compare_labels]
        found.tell(f"{path}.index", f"{texts[0]}, ... / {texts[1]}, ...")
    return left.iloc[:rows], right.iloc[:rows]


def _tell_rows(found: Found, path: str, left: Any, right: Any) -> None:
    """Which rows are on one side only, by their labels."""
    for one, other, side in ((left, right, "left"), (right, left, "right")):
        own = one.difference(other, sort=False)
        if len(own):
            more = ", ..." if len(own) > FEW else ""
            few = ", ".join(map(shown, own[:FEW]))
            found.tell(path, f"{counted(len(own), 'row')} only on the {side}: {few}{more}")
    if len(left) == len(right) == len(left.intersection(right, sort=False)):
        found.tell(path, "rows in another order")


def _compare_cells(found: Found, path: str, left: Any, right: Any, each: Each) -> None:
    """Two columns of as many rows."""
    import numpy as np

    if left.dtype != right.dtype:
        found.tell(path, _dtypes(left.dtype, right.dtype))
    try:
        unequal = _unequal(left, right)
    except (TypeError, ValueError):  # cells that are lists or arrays
        for place in range(len(left)):
            if found.is_late():
                found.doubt(path, f"rows from {place:,} on were not compared: it takes too long")
                return
            each(f"{path}.loc[{left.index[place]!r}]", left.iloc[place], right.iloc[place])
        return
    places = np.flatnonzero(unequal)
    if not len(places):
        return
    examples = [
        f"{shown(left.index[at])}: {shown(left.iloc[at])} / {shown(right.iloc[at])}"
        for at in places[:EXAMPLES]
    ]
    more = ", ..." if len(places) > EXAMPLES else ""
    found.tell(
        path,
        f"{len(places):,} of {len(left):,} cells differ{_largest(left, right, places)}: "
        f"{', '.join(examples)}{more}",
    )


def _dtypes(left: Any, right: Any) -> str:
    texts = str(left), str(right)
    return f"dtype {texts[0]} / {texts[1]}" if texts[0] != texts[1] else f"other {texts[0]} dtypes"


def _unequal(left: Any, right: Any) -> Any:
    """Which cells differ; two that are missing do not."""
    one, other = (side.reset_index(drop=True) for side in (left, right))
    if one.dtype != other.dtype:
        one, other = one.astype(object), other.astype(object)
    unequal = one.ne(other)
    if unequal.dtype != bool:  # of types that know missing values
        unequal = unequal.fillna(True).astype(bool)
    return unequal.to_numpy() & ~(one.isna() & other.isna()).to_numpy()


def _largest(left: Any, right: Any, places: Any) -> str:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    for side in (left, right):
        if not is_numeric_dtype(side.dtype) or is_bool_dtype(side.dtype) or side.dtype.kind == "c":
            return ""
    one, other = (
        side.iloc[places].to_numpy("float64", na_value=float("nan")) for side in (left, right)
    )
    gaps = abs(one - other)
    known = gaps[gaps == gaps]  # noqa: PLR0124 - not against a missing one
    return f", the largest difference is {known.max():.6g}" if len(known) else ""


# -- polars and pyarrow ------------------------------------------------------------------------


def compare_columns(found: Found, path: str, left: Any, right: Any, each: Each) -> None:
    """Two tables that have no labels of rows."""
    names = _columns(left), _columns(right)
    _compare_names(found, path, "columns", list(names[0]), list(names[1]))
    if len(left) != len(right):
        found.tell(path, f"{len(left):,} / {len(right):,} rows")
    rows = min(len(left), len(right))
    for name in names[0]:
        if name not in names[1]:
            continue
        if found.is_late():
            found.doubt(path, f"columns from {name!r} on were not compared: it takes too long")
            return
        place = f"{path}[{name!r}]"
        if names[0][name] != names[1][name]:
            found.tell(place, f"dtype {names[0][name]} / {names[1][name]}")
        each(place, *(_array(side, name)[:rows] for side in (left, right)))


def _columns(table: Any) -> dict[str, str]:
    """Names and types."""
    if hasattr(table, "column_names"):  # pyarrow's
        return {field.name: str(field.type) for field in table.schema}
    return {name: str(dtype) for name, dtype in table.schema.items()}


def _array(table: Any, name: str) -> Any:
    """A column as an array of numpy."""
    if hasattr(table, "column_names"):
        return table.column(name).to_numpy(zero_copy_only=False)
    return table[name].to_numpy()

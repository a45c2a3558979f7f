"""How to look into arrays and tables, and how to make them again of other cells.

A library is looked at where somebody has imported it; nothing is imported here.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pipedeco.rebuilding import Kind
from pipedeco.result import StepResult

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from pipedeco.rebuilding import Rebuilding


def _cells(array: Any) -> list[Any]:
    """The elements of an array, where these are objects."""
    return list(array.flat) if array.dtype.kind == "O" else []


def _rebuild_array(item: Any, target: Callable[[Any], Any]) -> Rebuilding:
    new = target(item) if item.flags.writeable else item.copy()
    for place, part in enumerate(_cells(item)):
        made = yield part
        if made is not part:
            new.flat[place] = made
    return new


def _frame_parts(item: Any) -> list[Any]:
    places = _object_columns(item)
    found = [part for place in places for part in _column_cells(item.iloc[:, place])]
    return [*found, *_column_cells(item.index), *_column_cells(item.columns)]


def _object_columns(frame: Any) -> list[int]:
    return [place for place, dtype in enumerate(frame.dtypes) if dtype == "object"]


def _column_cells(column: Any) -> list[Any]:
    """The cells of a column or an axis, where these are objects."""
    plain = column.dtype == "object" and getattr(column, "nlevels", 1) == 1
    return list(column.array) if plain else []


def _rebuild_frame(item: Any, target: Callable[[Any], Any]) -> Rebuilding:
    new = target(item)
    for place in _object_columns(item):
        column = item.iloc[:, place]
        made = yield from _rebuild_series(column, target)
        if made is not column:
            new.isetitem(place, made)
    for axis in ("index", "columns"):
        labels = getattr(item, axis)
        made = yield from _rebuild_index(labels, target)
        if made is not labels:
            setattr(new, axis, made)
    return new


def _rebuild_series(item: Any, _target: Callable[[Any], Any]) -> Rebuilding:
    """A column, whose type is that of its values where all of them were results."""
    cells, all_results = yield from _made_cells(_column_cells(item))
    index = yield from _rebuild_index(item.index, _target)
    if cells is None and index is item.index:
        return item
    new = item.copy()
    if cells is not None:
        dtype = None if all_results else object
        new = type(item)(cells, index=item.index, name=item.name, dtype=dtype)
        new.attrs.update(item.attrs)
    new.index = index
    return new


def _rebuild_index(item: Any, _target: Callable[[Any], Any]) -> Rebuilding:
    cells, all_results = yield from _made_cells(_column_cells(item))
    if cells is None:
        return item
    return sys.modules["pandas"].Index(cells, name=item.name, dtype=None if all_results else object)


def _rebuild_polars_series(item: Any, _target: Callable[[Any], Any]) -> Rebuilding:
    cells, _ = yield from _made_cells(_polars_cells(item))
    return item if cells is None else type(item)(item.name, cells)


def _rebuild_polars_frame(item: Any, target: Callable[[Any], Any]) -> Rebuilding:
    new = target(item)
    for place, column in enumerate(item.get_columns()):
        made = yield from _rebuild_polars_series(column, target)
        if made is not column:
            new.replace_column(place, made)
    return new


def _polars_cells(series: Any) -> list[Any]:
    return series.to_list() if str(series.dtype) == "Object" else []


def _made_cells(cells: list[Any]) -> Generator[Any, Any, tuple[list[Any] | None, bool]]:
    """What stands for the cells, or None where all stay; and whether all of them were results."""
    made = []
    for cell in cells:
        new = yield cell
        made.append(new)
    if all(new is old for new, old in zip(made, cells, strict=True)):
        return None, False
    return made, all(isinstance(cell, StepResult) for cell in cells)


_ARRAY = Kind(_cells, _rebuild_array)
_SERIES = Kind(lambda item: [*_column_cells(item), *_column_cells(item.index)], _rebuild_series)
_FRAME = Kind(_frame_parts, _rebuild_frame)
_INDEX = Kind(_column_cells, _rebuild_index)
_POLARS_SERIES = Kind(_polars_cells, _rebuild_polars_series)
_POLARS_FRAME = Kind(
    lambda item: [cell for column in item.get_columns() for cell in _polars_cells(column)],
    _rebuild_polars_frame,
)
_LIBRARIES: tuple[tuple[str, str, Kind], ...] = (
    ("numpy", "ndarray", _ARRAY),
    ("pandas", "DataFrame", _FRAME),
    ("pandas", "Series", _SERIES),
    ("pandas", "Index", _INDEX),
    ("polars", "DataFrame", _POLARS_FRAME),
    ("polars", "Series", _POLARS_SERIES),
)


def table_kind(kind: type) -> Kind | None:
    """How to look into values of a type, where it is one of these libraries."""
    for library, name, known in _LIBRARIES:
        table = getattr(sys.modules.get(library), name, None)
        if isinstance(table, type) and issubclass(kind, table):
            return known
    return None

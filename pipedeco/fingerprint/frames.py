"""Tables: pandas, polars and Arrow.

What counts: names and order of columns, types, values, the index, attrs. What does not: how the
columns lie together in memory, chunks, offsets, and what stands under a missing value.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pipedeco.fingerprint.nodes import KEPT, Node, digest_of_pieces, name_of
from pipedeco.fingerprint.unproven import Unproven

if TYPE_CHECKING:
    from collections.abc import Callable

# ---- pandas


def _frame(value: Any) -> Node:
    columns = [_column(series) for _, series in value.items()]
    parts = (value.columns, value.index, value.attrs, value.flags.allows_duplicate_labels)
    return Node(b"16:pandas.DataFrame", (columns, *parts), KEPT, _frame_place)


def _frame_place(_value: Any, index: int) -> str:
    return ("", ".columns", ".index", ".attrs", "")[index]


def _series(value: Any) -> Any:
    attributes = value.name, value.attrs, value.flags.allows_duplicate_labels
    return _column(value), value.index, attributes


def _column(value: Any) -> Any:
    """The values of a Series or an Index: a plain array where there is one."""
    return value.to_numpy() if _is_plain(value.dtype) else value.array


def _is_plain(dtype: Any) -> bool:
    return isinstance(dtype, sys.modules["numpy"].dtype)


def _index(value: Any) -> Any:
    return name_of(type(value)), _column(value), value.name, getattr(value, "freq", None)


def _range_index(value: Any) -> Any:
    return value.start, value.stop, value.step, value.name


def _multi_index(value: Any) -> Any:
    return list(value.levels), [_plain(codes) for codes in value.codes], list(value.names)


def _plain(values: Any) -> Any:
    return sys.modules["numpy"].asarray(values)


def _categorical(value: Any) -> Any:
    return value.codes, value.categories, value.ordered


def _masked(value: Any) -> Any:
    """An array with a mask: zeros where something is missing."""
    missing = value.isna()
    numbers = value.to_numpy(dtype=value.dtype.numpy_dtype, na_value=0)
    return str(value.dtype), missing if missing.any() else None, numbers


def _arrow_backed(value: Any) -> Any:
    return str(value.dtype), value.__arrow_array__()


def _moments(value: Any) -> Any:
    """Dates with a zone, and periods: whole numbers and what they mean."""
    dtype = value.dtype
    return str(dtype), getattr(dtype, "tz", None), value.asi8, getattr(value, "freq", None)


def _intervals(value: Any) -> Any:
    return value.left, value.right, value.closed


def _extension_dtype(value: Any) -> Any:
    """What tells a type from its like; not what it found out about itself meanwhile."""
    return str(value), [getattr(value, name) for name in value._metadata]


def _numpy_backed(value: Any) -> Any:
    return str(value.dtype), value.to_numpy()


# ---- polars


def _polars_frame(value: Any) -> Any:
    return value.columns, [_polars_column(series) for series in value.get_columns()]


def _polars_series(value: Any) -> Any:
    return value.name, _polars_column(value)


def _polars_column(series: Any) -> Any:
    """Type, which are missing, and values; zeros and empty texts where something is missing."""
    polars = sys.modules["polars"]
    dtype = series.dtype
    missing = series.is_null().to_numpy() if series.null_count() else None
    if dtype.base_type() in (polars.Categorical, polars.Enum):
        series = series.cast(polars.String)  # their codes depend on what the process has met before
    physical = series.to_physical()
    kind = physical.dtype
    if kind == polars.Boolean:
        numbers = physical.fill_null(value=False).rechunk().to_numpy()
        return str(dtype), missing, numbers
    if kind.is_float() or (kind.is_integer() and kind != polars.Int128):
        return str(dtype), missing, physical.fill_null(0).rechunk().to_numpy()
    if kind == polars.String:
        return str(dtype), missing, series.fill_null("").to_list()
    return str(dtype), missing, series.to_list()


def _lazy(_value: Any) -> Any:
    raise Unproven("what it will read is not known yet; collect it before")


# ---- Arrow


def _table(value: Any) -> Any:
    schema = value.schema
    columns = [_arrow_column(value.column(i)) for i in range(value.num_columns)]
    return _schema(schema), columns, value.num_rows


def _schema(value: Any) -> Any:
    return [
        (field.name, _arrow_type(field.type), field.nullable, field.metadata) for field in value
    ], (value.metadata)


def _arrow_type(value: Any) -> Any:
    fields = [value.field(i) for i in range(value.num_fields)]
    return str(value), [(field.name, field.nullable, field.metadata) for field in fields]


def _chunked(value: Any) -> Any:
    return _arrow_type(value.type), _arrow_column(value)


def _arrow_array(value: Any) -> Any:
    return _arrow_type(value.type), _arrow_chunks([value], value.type)


def _arrow_scalar(value: Any) -> Any:
    return _arrow_type(value.type), value.as_py()


def _arrow_column(value: Any) -> Any:
    chunks = value.chunks if hasattr(value, "chunks") else [value]
    return _arrow_chunks(chunks, value.type)


def _arrow_chunks(chunks: list[Any], kind: Any) -> Any:
    """The values of chunks one after the other, in one way for every way of cutting them."""
    types = sys.modules["pyarrow"].types
    if types.is_dictionary(kind):
        return _arrow_chunks([chunk.dictionary_decode() for chunk in chunks], kind.value_type)
    if _is_text(types, kind):
        streams: list[tuple[Any, ...]] = [_text_streams(chunk) for chunk in chunks]
    elif _is_number(types, kind):
        streams = [_number_streams(chunk, kind) for chunk in chunks]
    else:
        return [item for chunk in chunks for item in chunk.to_pylist()]
    missing = None
    if any(chunk.null_count for chunk in chunks):
        missing = digest_of_pieces(_mask(chunk) for chunk in chunks)
    return missing, [digest_of_pieces(stream) for stream in zip(*streams, strict=True)]


def _is_text(types: Any, kind: Any) -> bool:
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
    )


def _is_number(types: Any, kind: Any) -> bool:
    plain = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    moment = types.is_timestamp(kind) or types.is_duration(kind)
    return bool(plain or moment or types.is_date(kind) or types.is_time(kind))


def _number_streams(chunk: Any, kind: Any) -> tuple[Any]:
    """The bytes of numbers: zeros where something is missing."""
    arrow = sys.modules["pyarrow"]
    if arrow.types.is_boolean(kind):
        chunk = chunk.cast("uint8")
    else:
        chunk = chunk.view(f"uint{kind.bit_width}")
    if chunk.null_count:
        chunk = chunk.fill_null(0)
    return (_cut(chunk.buffers()[1], chunk.offset, len(chunk), chunk.type.bit_width // 8),)


def _text_streams(chunk: Any) -> tuple[Any, Any]:
    """Lengths and bytes of texts: empty where something is missing."""
    arrow = sys.modules["pyarrow"]
    binary = chunk.type in (arrow.binary(), arrow.large_binary())
    if chunk.null_count:
        chunk = chunk.fill_null(b"" if binary else "")
    wide = chunk.cast(arrow.large_binary() if binary else arrow.large_string())
    if not len(wide):
        return b"", b""
    _, offsets, content = wide.buffers()
    view = memoryview(_cut(offsets, wide.offset, len(wide) + 1, 8)).cast("B").cast("q")
    first, last = view[0], view[len(wide)]
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        lengths: Any = numpy.diff(numpy.frombuffer(view, "q"))
    else:
        from array import array

        lengths = array("q", (view[i + 1] - view[i] for i in range(len(wide))))
    return lengths, _cut(content, first, last - first, 1)


def _cut(buffer: Any, offset: int, count: int, width: int) -> Any:
    return b"" if not count else memoryview(buffer)[offset * width : (offset + count) * width]


def _mask(chunk: Any) -> Any:
    mask = chunk.is_null().cast("uint8")
    return _cut(mask.buffers()[1], mask.offset, len(mask), 1)


_PANDAS: dict[str, Callable[[Any], Any]] = {
    "DataFrame": _frame,
    "core.frame.DataFrame": _frame,
    "Series": _series,
    "core.series.Series": _series,
}
_INDEXES = {
    "base.Index": _index,
    "datetimes.DatetimeIndex": _index,
    "timedeltas.TimedeltaIndex": _index,
    "period.PeriodIndex": _index,
    "interval.IntervalIndex": _index,
    "category.CategoricalIndex": _index,
    "range.RangeIndex": _range_index,
    "multi.MultiIndex": _multi_index,
}
_ARRAYS = {
    "categorical.Categorical": _categorical,
    "integer.IntegerArray": _masked,
    "floating.FloatingArray": _masked,
    "boolean.BooleanArray": _masked,
    "string_arrow.ArrowStringArray": _arrow_backed,
    "arrow.array.ArrowExtensionArray": _arrow_backed,
    "string_.StringArray": _numpy_backed,
    "numpy_.NumpyExtensionArray": _numpy_backed,
    "datetimes.DatetimeArray": _moments,
    "timedeltas.TimedeltaArray": _moments,
    "period.PeriodArray": _moments,
    "interval.IntervalArray": _intervals,
}


def _pandas_entries() -> dict[str, Callable[[Any], Any]]:
    """By the module that has the class, and by the public one that newer versions name."""
    entries = {f"pandas.{name}": function for name, function in _PANDAS.items()}
    for name, function in _INDEXES.items():
        entries[f"pandas.core.indexes.{name}"] = function
        entries[f"pandas.{name.rpartition('.')[2]}"] = function
    for name, function in _ARRAYS.items():
        entries[f"pandas.core.arrays.{name}"] = function
        entries[f"pandas.arrays.{name.rpartition('.')[2]}"] = function
        entries[f"pandas.{name.rpartition('.')[2]}"] = function
    return entries


EXACT: dict[str, Callable[[Any], Any]] = {
    **_pandas_entries(),
    "polars.dataframe.frame.DataFrame": _polars_frame,
    "polars.series.series.Series": _polars_series,
    "polars.lazyframe.frame.LazyFrame": _lazy,
    "pyarrow.lib.Table": _table,
    "pyarrow.lib.RecordBatch": _table,
    "pyarrow.lib.ChunkedArray": _chunked,
    "pyarrow.lib.Schema": _schema,
}

BASES: dict[str, Callable[[Any], Any]] = {
    "pandas.core.dtypes.base.ExtensionDtype": _extension_dtype,
    "pandas.api.extensions.ExtensionDtype": _extension_dtype,
    "pyarrow.lib.Array": _arrow_array,
    "pyarrow.lib.Scalar": _arrow_scalar,
    "pyarrow.lib.DataType": _arrow_type,
}

"""Users' pictures and tables as plain data: bytes with a MIME type, and rows of JSON's values.

No library is imported here: a value of numpy's, matplotlib's or pandas' proves by being there that its
library is, and `sys.modules` has it.
"""

from __future__ import annotations

import html
import math
import os
import re
import struct
import sys
from collections.abc import Mapping, Sequence
from datetime import date, time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from pipedeco.text import plain_text, preview, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PNG, SVG = "image/png", "image/svg+xml"
PLOTLY = "application/vnd.plotly.v1+json"
SUFFIXES = {
    PNG: ".png",
    SVG: ".svg",
    PLOTLY: ".json",
    "image/jpeg": ".jpg",
    "image/gif": ".gif",
    "image/webp": ".webp",
}
CHANNELS = (1, 3, 4)  # grey, colours, colours and opacity
DPI = 144  # sharp on the screens of today
LONGEST = 4096  # pixels of a figure's longer side, as a poster in inches is not meant for a screen
TOLERANCE = 1e-6  # by which rounding may lead a float over 1

BITMAPS = (  # how files begin
    (re.compile(rb"\x89PNG\r\n\x1a\n"), PNG),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "image/webp"),
)
# What may stand before the root of an SVG document: a declaration, comments, a document type.
DRAWING = re.compile(
    r"\ufeff?\s*(?:<\?.*?\?>\s*|<!--.*?-->\s*|<!DOCTYPE[^>\[]*(?:\[.*?\]\s*)?>\s*)*<(?:svg:)?svg[\s>]",
    re.DOTALL | re.IGNORECASE,
)
FIGURES = "a figure of matplotlib or plotly, a PIL image, SVG text, or the bytes of a PNG, JPEG, GIF or WebP"
IMAGES = f"{FIGURES}, an array (H x W, H x W x 1, 3 or 4) or the path of such a file"


class Media(NamedTuple):
    """A picture as it is stored and as a browser takes it."""

    mime: str
    data: bytes

    @property
    def suffix(self) -> str:
        return SUFFIXES.get(self.mime, ".bin")


# ---- figures


def figure_media(value: Any) -> Media:
    """A figure of any of the usual libraries, as a picture or as plotly's JSON."""
    media = _drawn(value)
    if media is None and isinstance(value, str):
        raise ValueError(f"this text is not SVG: {preview(value)}; a figure is {FIGURES}")
    if media is None:
        raise TypeError(f"{_said(value)} is not a figure; a figure is {FIGURES}")
    return media


def image_media(value: Any) -> Media:
    """An image: whatever `figure_media` takes, an array of pixels, or the path of an image file."""
    media = _drawn(value)
    if media is not None:
        return media
    if isinstance(value, str | os.PathLike):
        return _file_media(value)
    array = _array(value)
    if array is None:
        raise TypeError(f"{_said(value)} is not an image; an image is {IMAGES}")
    return Media(PNG, _png(_pixels(array)))


def _drawn(value: Any) -> Media | None:
    """What both take; None for anything else."""
    if isinstance(value, Media):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return _recognised(bytes(value), "these bytes")
    if isinstance(value, str):
        return Media(SVG, value.encode("utf-8", "replace")) if DRAWING.match(value) else None
    if _is(value, "PIL.Image", "Image"):
        return _pil_media(value)
    if _is(value, "plotly.basedatatypes", "BaseFigure"):
        return Media(PLOTLY, value.to_json().encode())
    figure = _figure_of(value)
    return None if figure is None else _matplotlib_media(figure)


def _figure_of(value: Any) -> Any:
    """The figure of matplotlib that a value is or belongs to: axes, artists, grids of seaborn."""
    if "matplotlib.figure" not in sys.modules:
        return None
    if _is(value, "numpy", "ndarray"):  # of axes, as subplots() and DataFrame.hist() give it
        return _figure_of(value.flat[0]) if value.dtype.hasobject and value.size else None
    for _ in range(3):  # axes lie in a figure, or in one within a figure
        if _is(value, "matplotlib.figure", "Figure"):
            return value
        value = getattr(value, "figure", None)
    return None


def _matplotlib_media(figure: Any) -> Media:
    from io import BytesIO

    file = BytesIO()
    dpi = min(DPI, LONGEST / max(figure.get_size_inches()))
    figure.savefig(file, format="png", dpi=dpi, bbox_inches="tight")
    return Media(PNG, file.getvalue())


def _pil_media(image: Any) -> Media:
    from io import BytesIO

    if 0 in image.size:
        raise ValueError(f"an image of {image.width} x {image.height} pixels shows nothing")
    if image.mode not in ("1", "L", "LA", "I;16", "P", "RGB", "RGBA"):  # PNG has no others
        nearest = {"I": "I;16", "F": "L", "La": "LA", "PA": "RGBA", "RGBa": "RGBA"}
        image = image.convert(nearest.get(image.mode, "RGB"))
    file = BytesIO()
    image.save(file, format="PNG")
    return Media(PNG, file.getvalue())


def _recognised(data: bytes, what: str) -> Media:
    for pattern, mime in BITMAPS:
        if pattern.match(data):
            return Media(mime, data)
    if DRAWING.match(data[:10_000].decode("utf-8", "replace")):
        return Media(SVG, data)
    raise ValueError(f"{what} are not those of a PNG, JPEG, GIF, WebP or SVG file: {data[:16]!r}")


def _file_media(path: str | os.PathLike[Any]) -> Media:
    name = os.fsdecode(path)
    try:
        with open(name, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"there is no image file {preview(name)}; a text is SVG or the path of a file"
        ) from None
    except (OSError, ValueError) as error:  # a text that is no path, such as one with a null byte
        raise ValueError(f"the image file {preview(name)} cannot be read: {error}") from error
    return _recognised(data, f"the bytes of {preview(name)}")


# ---- arrays


def _array(value: Any) -> Any:
    """A numpy array of the value's numbers; None for what is no array."""
    if _is(value, "torch", "Tensor"):
        tensor = value.detach().cpu()
        return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    numpy: Any = sys.modules.get("numpy")
    if numpy is None or not hasattr(type(value), "__array__"):
        return None
    # A table has __array__ too, and no dtype of its own.
    return numpy.asarray(value) if hasattr(value, "dtype") else None


def _pixels(array: Any) -> Any:
    """Height x width x channels of bytes."""
    laid_out = _laid_out(array)
    if not laid_out.size:
        raise ValueError(f"an array of shape {array.shape} has no pixels")
    kind, name = array.dtype.kind, array.dtype.name
    if kind == "b":
        return laid_out.astype("uint8") * 255
    if name == "uint8":
        return laid_out
    if kind != "f":
        raise ValueError(
            f"an image's array is uint8 (0 to 255), float (0 to 1) or bool, and not {name}; convert it, "
            "such as with .astype('uint8')"
        )
    low, high = float(laid_out.min()), float(laid_out.max())
    if math.isnan(low):  # min and max pass a NaN on
        raise ValueError(
            "an image's array has NaN in it; fill that first, such as with numpy.nan_to_num"
        )
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise ValueError(
            f"the floats of an image's array are from 0 to 1, and these from {low:.6g} to {high:.6g}; "
            "scale them, or convert 0 to 255 with .astype('uint8')"
        )
    # In double precision: half floats round 254.5 before numpy does.
    return (laid_out.astype("float64").clip(0, 1) * 255).round().astype("uint8")


def _laid_out(array: Any) -> Any:
    shape = array.shape
    if len(shape) == 2:
        return array[:, :, None]
    if len(shape) == 3 and shape[2] in CHANNELS:
        return array
    if len(shape) == 3 and shape[0] in CHANNELS:
        return array.transpose(1, 2, 0)
    raise ValueError(
        f"an image's array is H x W, H x W x C or C x H x W with C of 1, 3 or 4, and not of shape {shape}"
    )


def _png(pixels: Any) -> bytes:
    """A PNG file; each row as its difference to the one above, which zlib packs far better."""
    import zlib

    height, width, channels = pixels.shape
    rows = pixels.reshape(height, width * channels)
    lines = rows.repeat(1, axis=0)
    lines[1:] -= rows[:-1]
    packed = zlib.compress(b"".join(b"\2" + line.tobytes() for line in lines), 6)
    colour = {1: 0, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", packed), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


# ---- tables

_Table: TypeAlias = "tuple[Sequence[Any], Iterable[Sequence[Any]]]"  # names, rows
TABLES = (
    "a list of dicts, of dataclasses or of sequences, a dict of columns, or a table of pandas, polars "
    "or pyarrow"
)


def table_of(value: Any) -> tuple[list[str], list[list[Any]]]:
    """The names of a table's columns, and its rows, whose cells are what JSON has.

    NaN and infinities stay floats; a date is its ISO text; anything else that JSON has not is its preview.
    """
    names, rows = _table(value)
    return [_name(name) for name in names], [[_cell(cell) for cell in row] for row in rows]


def _table(value: Any) -> _Table:
    for module, name, reader in _READERS:
        if _is(value, module, name):
            return reader(value)
    if isinstance(value, Mapping):
        return _of_columns(value)
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return _of_rows(value)
    raise TypeError(f"{_said(value)} is not a table; a table is {TABLES}")


def _pandas_table(frame: Any) -> _Table:
    index = frame.index
    counts = type(index).__name__ == "RangeIndex" and (index.start, index.step) == (0, 1)
    plain = counts and index.name is None  # else it says something of its own
    names, columns = list(frame.columns), []
    if not plain:
        levels = [index.get_level_values(level) for level in range(index.nlevels)]
        usual = ["index"] if len(levels) == 1 else [f"level_{i}" for i in range(len(levels))]
        names[:0] = [
            alias if level.name is None else level.name
            for level, alias in zip(levels, usual, strict=True)
        ]
        columns = [level.tolist() for level in levels]
    columns += [frame.iloc[:, i].tolist() for i in range(frame.shape[1])]
    return names, zip(*columns, strict=True)


def _pandas_series(series: Any) -> _Table:
    return _pandas_table(series.to_frame("value" if series.name is None else series.name))


def _polars_table(frame: Any) -> _Table:
    return frame.columns, frame.rows()


def _lazy_table(_frame: Any) -> _Table:
    raise TypeError("a LazyFrame of polars has no rows yet; pass what its .collect() gives")


def _arrow_table(table: Any) -> _Table:
    columns = [column.to_pylist() for column in table.columns]
    return table.schema.names, zip(*columns, strict=True)


def _array_table(array: Any) -> _Table:
    if array.ndim != 2:
        raise ValueError(f"an array is a table where it has two axes, and not shape {array.shape}")
    return range(array.shape[1]), array.tolist()


_READERS: tuple[tuple[str, str, Callable[[Any], _Table]], ...] = (
    ("pandas", "DataFrame", _pandas_table),
    ("pandas", "Series", _pandas_series),
    ("polars", "DataFrame", _polars_table),
    ("polars", "LazyFrame", _lazy_table),
    ("pyarrow", "Table", _arrow_table),
    ("pyarrow", "RecordBatch", _arrow_table),
    ("numpy", "ndarray", _array_table),
)


def _of_columns(columns: Mapping[Any, Any]) -> _Table:
    lists = {name: _listed(column) for name, column in columns.items()}
    for name, column in lists.items():
        if column is None:
            raise TypeError(
                f"column {preview(name)} is no list but {_said(columns[name])}; a single row is a table as "
                "[row]"
            )
    lengths = {name: len(column or ()) for name, column in lists.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{preview(name)} has {length}" for name, length in lengths.items())
        raise ValueError(f"the columns of a table are of one length, and here {said}")
    return list(lists), zip(*(column or () for column in lists.values()), strict=True)


def _listed(column: Any) -> list[Any] | None:
    """The items of a column or a row; None for what is neither."""
    if isinstance(column, str | bytes | bytearray | Mapping):
        return None
    if isinstance(column, Sequence):
        return list(column)
    # Arrays, and the columns of the libraries above: numpy and pandas, polars, pyarrow.
    for method in ("tolist", "to_list", "to_pylist"):
        if hasattr(type(column), method):
            items = getattr(column, method)()
            return items if isinstance(items, list) else None
    return None


def _of_rows(rows: Sequence[Any]) -> _Table:
    named = [_fields(row) for row in rows]
    names = dict.fromkeys(name for fields in named for name in fields or ())
    if None not in named:
        return list(names), (
            [fields.get(name) for name in names] for fields in named if fields is not None
        )
    if any(fields is not None for fields in named):
        raise TypeError(
            "the rows of a table are of one kind, and here some have names and some do not"
        )
    lists = [_listed(row) for row in rows]
    for i, row in enumerate(lists):
        if row is None:
            raise TypeError(f"row {i} of the table is {_said(rows[i])}; a table is {TABLES}")
        if len(row) != len(lists[0] or ()):
            raise ValueError(
                f"row {i} of the table has {len(row)} cells, and the first has {len(lists[0] or ())}"
            )
    return range(len(lists[0] or ())), [row or [] for row in lists]


def _fields(row: Any) -> Mapping[Any, Any] | None:
    """A row that has names: a mapping, a dataclass, a named tuple."""
    if isinstance(row, Mapping):
        return row
    kind = type(row)
    if hasattr(kind, "__dataclass_fields__"):
        return {name: getattr(row, name, None) for name in kind.__dataclass_fields__}
    if isinstance(row, tuple) and hasattr(kind, "_fields"):
        return dict(zip(kind._fields, row, strict=False))
    return None


def _name(name: Any) -> str:
    return name if type(name) is str else preview(name)


def _cell(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if _is(value, "numpy", "generic"):
        value = value.item()
        if _is(value, "numpy", "longdouble"):  # its item is itself
            return float(value)
    if kind.__name__ in ("NaTType", "NAType"):  # pandas' words for nothing
        return None
    for plain in (bool, str, int, float):
        if isinstance(value, plain):
            return plain(value) if plain is not str else str.__str__(value)
    if isinstance(value, date | time):
        return value.isoformat()
    return None if value is None else preview(value)


_PLAIN = frozenset({bool, int, float, str, type(None)})


# ---- histograms

BARS = 30  # at most
WIDTH, HEIGHT, MARGIN = 480.0, 240.0, 24.0
PAINT = """
.pipedeco{font-family:system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;font-size:11px}
.pipedeco text{fill:#5b6775}
.pipedeco .title{fill:#1f2933;font-size:13px;font-weight:600}
.pipedeco rect{fill:#2f78b7}
.pipedeco path{stroke:#7b8896}
@media (prefers-color-scheme:dark){.pipedeco text{fill:#9aa7b4}.pipedeco .title{fill:#e6edf3}
.pipedeco rect{fill:#62a8e5}.pipedeco path{stroke:#76828f}}
"""


def histogram_svg(limits: Sequence[float], counts: Sequence[float], title: str) -> str:
    """Counts between limits, of which there is one more, as bars of one width.

    Buckets of many widths, as TensorBoard has them, are shared out to the bars that they lie under.
    """
    if len(limits) != len(counts) + 1:
        raise ValueError(
            f"a histogram of {len(counts)} counts has {len(counts) + 1} limits, and here are {len(limits)}"
        )
    if not all(map(math.isfinite, (*limits, sum(counts)))):
        raise ValueError("the limits and the counts of a histogram are finite numbers")
    bars = _shared_out(limits, counts)
    top = max(bars, default=0.0) or 1.0
    step = (WIDTH - 2 * MARGIN) / max(1, len(bars))
    floor, room = HEIGHT - 2 * MARGIN, HEIGHT - 4.5 * MARGIN
    body = [
        f'<rect x="{MARGIN + i * step:.1f}" y="{floor - bar / top * room:.1f}" '
        f'width="{step * 0.9:.1f}" height="{bar / top * room:.1f}"><title>{bar:.6g}</title></rect>'
        for i, bar in enumerate(bars)
        if bar > 0
    ]
    name = html.escape(plain_text(title))
    said = html.escape(shortened(plain_text(title), 56))
    ends = f"{limits[0]:.4g}", f"{limits[-1]:.4g}"
    size = f'width="{WIDTH:g}" height="{HEIGHT:g}" viewBox="0 0 {WIDTH:g} {HEIGHT:g}"'
    rows = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="pipedeco" role="img" aria-label="{name}" {size}>',
        f"<title>{name}</title>",
        f"<style>{PAINT}</style>",
        f'<text class="title" x="{MARGIN:g}" y="{MARGIN:g}">{said}</text>',
        f'<text x="{MARGIN:g}" y="{1.8 * MARGIN:g}">{sum(counts):.6g} values</text>',
        *body,
        f'<path d="M{MARGIN:g} {floor:g}H{WIDTH - MARGIN:g}"/>',
        f'<text x="{MARGIN:g}" y="{floor + 16:g}">{ends[0]}</text>',
        f'<text x="{WIDTH - MARGIN:g}" y="{floor + 16:g}" text-anchor="end">{ends[1]}</text>',
        "</svg>",
    ]
    return "\n".join(rows) + "\n"


def _shared_out(limits: Sequence[float], counts: Sequence[float]) -> list[float]:
    if not counts:
        return []
    if max(map(abs, limits)) > 1e300:  # else the range might be more than a float has
        limits = [limit / 1e10 for limit in limits]
    low, bars = limits[0], [0.0] * min(BARS, len(counts))
    width = (limits[-1] - low) / len(bars)
    if width < 1e-300:
        return [float(sum(counts))]
    for i, count in enumerate(counts):
        _share(bars, (limits[i] - low) / width, (limits[i + 1] - low) / width, count)
    return bars


def _share(bars: list[float], left: float, right: float, count: float) -> None:
    """Add `count` to the bars between `left` and `right`, which are counted in bars."""
    first = min(len(bars) - 1, max(0, int(left)))
    if right - left < 1e-9:
        bars[first] += count
        return
    for i in range(first, min(len(bars), math.ceil(right))):
        bars[i] += count * max(0.0, min(right, i + 1) - max(left, i)) / (right - left)


# ---- what values are


def _is(value: Any, module: str, name: str) -> bool:
    """Whether the value is of a class of a library, which then is imported."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def _said(value: Any) -> str:
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{preview(value)} (a {module}{kind.__qualname__})"

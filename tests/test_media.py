"""Pictures and tables of the usual libraries, as bytes and as rows."""

import dataclasses
import datetime
import io
import json
import math
import random
import subprocess
import sys
import types
import xml.etree.ElementTree as ElementTree
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
import PIL.Image
import plotly.graph_objects
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from matplotlib.figure import Figure

from pipedeco.media import Media, figure_media, histogram_svg, image_media, table_of

SVG = '<svg xmlns="http://www.w3.org/2000/svg"/>'


def opened(media):
    return PIL.Image.open(io.BytesIO(media.data))


def encoded(kind, size=(3, 2)):
    file = io.BytesIO()
    PIL.Image.new("RGB", size, "red").save(file, kind)
    return file.getvalue()


# ---- figures


def test_a_figure_of_matplotlib_is_a_png():
    figure = Figure()
    axes = figure.add_subplot()
    axes.plot([1, 2])
    media = figure_media(figure)
    assert (media.mime, media.suffix) == ("image/png", ".png")
    assert opened(media).width > 500
    assert figure_media(axes) == figure_media(axes.lines[0]) == media
    assert figure_media(np.array([axes], dtype=object)) == media
    assert figure_media(types.SimpleNamespace(figure=figure)) == media, "as seaborn's grids have it"


def test_axes_of_a_figure_within_a_figure_are_the_whole():
    figure = Figure()
    axes = figure.subfigures(1, 2)[0].add_subplot()
    assert figure_media(axes) == figure_media(figure)


def test_a_figure_as_large_as_a_poster_has_bounded_pixels():
    figure = Figure(figsize=(100, 10))
    figure.add_subplot()
    assert max(opened(figure_media(figure)).size) < 5000
    assert tuple(figure.get_size_inches()) == (100, 10)


def test_a_figure_of_plotly_is_its_json():
    media = figure_media(plotly.graph_objects.Figure(plotly.graph_objects.Bar(y=[1, 3])))
    assert (media.mime, media.suffix) == ("application/vnd.plotly.v1+json", ".json")
    assert json.loads(media.data)["data"][0]["type"] == "bar"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "La", "I", "F"])
@pytest.mark.parametrize("take", [figure_media, image_media])
def test_every_mode_of_pil_is_a_png(mode, take):
    media = take(PIL.Image.new(mode, (3, 2)))
    assert opened(media).size == (3, 2)
    assert media.mime == "image/png"


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "LAB", "I;16"])
def test_colours_that_png_has_not_are_converted(mode):
    assert opened(image_media(PIL.Image.new(mode, (3, 2)))).size == (3, 2)


def test_an_image_of_no_pixels_is_refused():
    with pytest.raises(ValueError, match="0 x 2 pixels"):
        image_media(PIL.Image.new("L", (0, 2)))


@pytest.mark.parametrize(
    ("kind", "mime", "suffix"),
    [
        ("PNG", "image/png", ".png"),
        ("JPEG", "image/jpeg", ".jpg"),
        ("GIF", "image/gif", ".gif"),
        ("WEBP", "image/webp", ".webp"),
    ],
)
@pytest.mark.parametrize("form", [bytes, bytearray, memoryview])
def test_bytes_are_recognised_by_how_they_begin(kind, mime, suffix, form):
    data = encoded(kind)
    media = figure_media(form(data))
    assert media == Media(mime, data)
    assert media.suffix == suffix
    assert type(media.data) is bytes


@pytest.mark.parametrize(
    "before",
    [
        "",
        "\ufeff",
        " \n",
        '<?xml version="1.0"?>\n',
        "<!-- made by hand -->",
        '<?xml version="1.0"?><!DOCTYPE svg PUBLIC "a" "b">\n<!-- c -->',
        '<!DOCTYPE svg [<!ENTITY a "b">]>',
    ],
)
def test_svg_is_taken_as_text_and_as_bytes(before):
    text = before + SVG
    assert figure_media(text) == Media("image/svg+xml", text.encode())
    assert image_media(text.encode()) == Media("image/svg+xml", text.encode())
    assert figure_media(text).suffix == ".svg"


def test_media_are_taken_as_they_are():
    media = Media("video/mp4", b"x")
    assert figure_media(media) is media
    assert media.suffix == ".bin"


def test_what_is_no_figure_is_told():
    with pytest.raises(
        TypeError, match=r"^3 \(a int\) is not a figure; a figure is a figure of mat"
    ):
        figure_media(3)
    with pytest.raises(TypeError, match="is not a figure"):
        figure_media(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="this text is not SVG: '<html>'"):
        figure_media("<html>")
    with pytest.raises(ValueError, match="these bytes are not those of a PNG"):
        figure_media(b"BM....")
    with pytest.raises(TypeError, match=r"is not an image; an image is .* the path of such a file"):
        image_media(pd.DataFrame({"a": [1]}))


@given(
    st.binary(max_size=60)
    | st.text(max_size=60)
    | st.integers()
    | st.none()
    | st.lists(st.floats())
)
def test_anything_else_is_refused_with_a_sentence(value):
    beginnings = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"<svg", b"<SVG")
    data = value.encode("utf-8", "replace") if isinstance(value, str) else value
    assume(not isinstance(data, bytes) or not any(begin in data for begin in beginnings))
    with pytest.raises((TypeError, ValueError)):
        figure_media(value)


# ---- images


@given(arrays.arrays("uint8", st.sampled_from([(5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4), (1, 1)])))
def test_pixels_arrive_as_they_are(array):
    image = np.asarray(opened(image_media(array)))
    assert (image == array.reshape(image.shape)).all()


def test_channels_may_come_first():
    pixels = np.arange(3 * 5 * 7, dtype="uint8").reshape(3, 5, 7)
    assert (np.asarray(opened(image_media(pixels))) == pixels.transpose(1, 2, 0)).all()
    assert opened(image_media(np.zeros((3, 9, 4), "uint8"))).size == (9, 3), (
        "the last axis counts first"
    )


def test_a_view_is_not_changed():
    pixels = np.arange(100, dtype="uint8").reshape(10, 10)
    image = np.asarray(opened(image_media(pixels[::2, ::-1])))
    assert (image == pixels[::2, ::-1]).all()
    assert (pixels == np.arange(100).reshape(10, 10)).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_floats_are_from_zero_to_one(dtype):
    pixels = np.linspace(0, 1, 256).reshape(16, 16).astype(dtype)
    image = np.asarray(opened(image_media(pixels))).astype(int).ravel()
    assert abs(image - np.arange(256)).max() <= (1 if dtype == "float16" else 0)
    assert np.asarray(opened(image_media(np.array([[1 + 1e-7]])))) == 255


def test_bools_are_black_and_white():
    assert np.asarray(opened(image_media(np.array([[True, False]])))).tolist() == [[255, 0]]


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array([[0.5, math.nan]]), "NaN"),
        (np.array([[0.0, 255.0]]), "from 0 to 255"),
        (np.array([[-0.5]]), "from -0.5 to -0.5"),
        (np.array([[math.inf]]), "to inf"),
        (np.zeros((2, 2), int), "not int64; convert it"),
        (np.zeros((2, 2), complex), "not complex128"),
        (np.array([["a"]]), "not str"),
        (np.zeros((2, 5, 6)), r"shape \(2, 5, 6\)"),
        (np.zeros(4), r"shape \(4,\)"),
        (np.zeros((1, 2, 3, 4)), r"shape \(1, 2, 3, 4\)"),
        (np.zeros((0, 4)), "no pixels"),
        (pd.Series([1.0]), r"shape \(1,\)"),
    ],
)
def test_arrays_that_are_no_images_are_told(array, said):
    with pytest.raises(ValueError, match=said):
        image_media(array)


def test_tensors_are_brought_to_the_processor(monkeypatch):
    class Tensor:
        """As much of torch's as is asked."""

        def __init__(self, array, *done):
            self.array, self.done = array, done

        def detach(self):
            return Tensor(self.array, *self.done, "detached")

        def cpu(self):
            return Tensor(self.array, *self.done, "here")

        def is_floating_point(self):
            return self.array.dtype.kind == "f"

        def float(self):
            return Tensor(self.array.astype("float32"), *self.done)

        def numpy(self):
            assert self.done == ("detached", "here")
            return self.array

    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(Tensor=Tensor))
    assert opened(image_media(Tensor(np.ones((3, 5, 7))))).size == (7, 5)
    assert opened(image_media(Tensor(np.ones((5, 7), "uint8")))).size == (7, 5)


def test_an_image_is_taken_by_its_path(tmp_path):
    path = tmp_path / "a.dat"
    path.write_bytes(encoded("JPEG"))
    assert image_media(path) == image_media(str(path)) == Media("image/jpeg", encoded("JPEG"))
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"the bytes of '.*a\.dat' are not those of a PNG"):
        image_media(path)
    with pytest.raises(FileNotFoundError, match=r"there is no image file '.*b\.png'"):
        image_media(tmp_path / "b.png")
    with pytest.raises(ValueError, match="cannot be read"):
        image_media(tmp_path)
    with pytest.raises(ValueError, match="cannot be read"):
        image_media("a\0b")


# ---- tables


class Point(NamedTuple):
    x: int
    y: float


@dataclasses.dataclass
class Fit:
    name: str
    score: float


def test_rows_with_names():
    assert table_of([{"a": 1}, {"b": 2, "a": 3}]) == (["a", "b"], [[1, None], [3, 2]])
    assert table_of([Point(1, 2.0)]) == (["x", "y"], [[1, 2.0]])
    assert table_of([Fit("a", 0.5), {"more": 1}]) == (
        ["name", "score", "more"],
        [["a", 0.5, None], [None, None, 1]],
    )
    assert table_of([{1: 2}]) == (["1"], [[2]])
    assert table_of([{}, {"a": 1}]) == (["a"], [[None], [1]])


def test_rows_without_names():
    assert table_of([[1, 2], (3, 4)]) == (["0", "1"], [[1, 2], [3, 4]])
    assert table_of([np.array([1, 2]), range(2)]) == (["0", "1"], [[1, 2], [0, 1]])
    assert table_of(np.array([[1.5, 2]])) == (["0", "1"], [[1.5, 2.0]])
    assert table_of([]) == table_of({}) == ([], [])


def test_columns():
    assert table_of({"a": [1, 2], "b": np.array([3.0, 4.0])}) == (["a", "b"], [[1, 3.0], [2, 4.0]])
    assert table_of({"a": pd.Series([1]), "b": (2,)}) == (["a", "b"], [[1, 2]])
    assert table_of({"a": []}) == (["a"], [])


def test_frames_of_pandas():
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    names, rows = table_of(frame)
    assert (names, rows[0], rows[1][0]) == (["a", "b"], [1, "x"], 2)
    assert table_of(frame[["a"]].iloc[1:]) == (["index", "a"], [[1, 2]])
    assert table_of(frame.set_index("b")[["a"]].iloc[:1]) == (["b", "a"], [["x", 1]])
    grouped = pd.DataFrame({"k": ["x"], "l": [1], "v": [2]}).set_index(["k", "l"])
    assert table_of(grouped) == (["k", "l", "v"], [["x", 1, 2]])
    assert table_of(grouped.v) == (["k", "l", "v"], [["x", 1, 2]])
    double = pd.DataFrame([[1, 2]], columns=["a", "a"])
    assert table_of(double) == (["a", "a"], [[1, 2]])
    assert table_of(pd.DataFrame()) == ([], [])


def test_moments_and_nothing_of_pandas():
    frame = pd.DataFrame({"t": pd.to_datetime(["2024-01-02 03:04", None])})
    frame["n"] = pd.array([1, None], dtype="Int64")
    assert table_of(frame) == (["t", "n"], [["2024-01-02T03:04:00", 1], [None, None]])


def test_tables_of_polars_and_pyarrow():
    import polars
    import pyarrow

    columns = {"a": [1, None], "d": [datetime.date(2024, 1, 2)] * 2}
    expected = ["a", "d"], [[1, "2024-01-02"], [None, "2024-01-02"]]
    assert table_of(polars.DataFrame(columns)) == expected
    assert table_of(pyarrow.table(columns)) == expected
    assert table_of(pyarrow.record_batch(columns)) == expected
    assert (
        table_of({"a": polars.Series([1])}) == table_of({"a": pyarrow.array([1])}) == (["a"], [[1]])
    )
    with pytest.raises(TypeError, match=r"\.collect\(\)"):
        table_of(polars.LazyFrame(columns))


def test_cells_are_what_json_has():
    class Loud(str):
        __slots__ = ()

        def __str__(self):
            raise RuntimeError

    values = [
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.longdouble(2), 2.0),
        (np.datetime64("2024-01-02"), "2024-01-02"),
        (datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC), "2024-01-02T00:00:00+00:00"),
        (datetime.time(1, 2), "01:02:00"),
        (Decimal("1.50"), "1.50"),
        (Path("a/b"), "'a/b'"),
        ([1, 2], "[1, 2]"),
        (Loud("a"), "a"),
        (math.inf, math.inf),
        (None, None),
    ]
    _, rows = table_of([[value for value, _ in values]])
    assert rows == [[expected for _, expected in values]]
    assert [type(cell) for cell in rows[0]] == [type(expected) for _, expected in values]
    assert math.isnan(table_of([[np.float64("nan")]])[1][0][0])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, r"3 \(a int\) is not a table; a table is a list of dicts"),
        ("abc", "'abc'"),
        (Point(1, 2), "is not a table"),
        ({"a": 1}, r"column 'a' is no list but 1 \(a int\); a single row is a table as \[row\]"),
        ({"a": "xy"}, "column 'a'"),
        ({"a": [1], "b": [1, 2]}, "'a' has 1, 'b' has 2"),
        ([1, 2], r"row 0 of the table is 1 \(a int\)"),
        (["ab"], "row 0"),
        ([[1], [1, 2]], "row 1 of the table has 2 cells, and the first has 1"),
        ([{"a": 1}, [1]], "some have names and some do not"),
        (np.zeros(3), r"shape \(3,\)"),
    ],
)
def test_what_is_no_table_is_told(value, said):
    with pytest.raises((TypeError, ValueError), match=said):
        table_of(value)


CELLS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@given(st.lists(st.dictionaries(st.text(), CELLS)))
def test_no_cell_of_a_row_is_lost(rows):
    names, cells = table_of(rows)
    found = [
        {name: cell for name, cell in zip(names, row, strict=True) if name in source}
        for row, source in zip(cells, rows, strict=True)
    ]
    assert repr([dict(sorted(row.items())) for row in found]) == repr(
        [dict(sorted(row.items())) for row in rows]
    )
    json.dumps(cells)


# ---- histograms


def bars(svg):
    root = ElementTree.fromstring(svg)
    name = "{http://www.w3.org/2000/svg}"
    return [float(rect.find(f"{name}title").text) for rect in root.iter(f"{name}rect")]


def test_a_histogram_has_a_bar_for_each_bucket():
    assert bars(histogram_svg([0, 1, 2, 3], [2, 0, 5], "weights")) == [2, 5]


def test_buckets_of_many_widths_are_shared_out():
    assert bars(histogram_svg([0, 1, 4], [1, 3], "")) == pytest.approx([2, 2])
    assert bars(histogram_svg([0, 1e-12, 30], [7, 30], ""))[0] > 7


def test_a_histogram_of_one_value_is_one_bar():
    assert bars(histogram_svg([2, 2], [4], "")) == [4]
    assert bars(histogram_svg([2, 2, 2], [4, 1], "")) == [5]
    assert bars(histogram_svg([0], [], "")) == []


@given(st.text())
def test_a_title_cannot_leave_its_place(title):
    root = ElementTree.fromstring(histogram_svg([0, 1], [1], title))
    assert len(list(root.iter())) == 10


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2).map(sorted),
    st.integers(),
)
def test_every_count_is_in_some_bar(limits, seed):
    counts = [random.Random(seed + i).randrange(9) for i in range(len(limits) - 1)]
    assert sum(bars(histogram_svg(limits, counts, "t"))) == pytest.approx(sum(counts), rel=1e-4)


def test_histograms_that_are_none_are_told():
    with pytest.raises(ValueError, match="2 counts has 3 limits, and here are 2"):
        histogram_svg([0, 1], [1, 2], "")
    with pytest.raises(ValueError, match="finite"):
        histogram_svg([0, math.inf], [1], "")


def test_nothing_is_imported_for_the_sake_of_it():
    program = (
        "import sys; before = set(sys.modules); import pipedeco.media as m; m.table_of([{'a': 1}]);"
        "m.figure_media('<svg>'); print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    heavy = ("numpy", "PIL", "matplotlib", "plotly", "pandas", "polars", "pyarrow", "dataclasses")
    assert not [name for name in heavy if f"'{name}'" in done.stdout]
    assert mpl.__name__ in sys.modules

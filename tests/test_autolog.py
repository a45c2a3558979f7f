"""What the usual libraries show, logged without a call to us: windows of matplotlib, event files."""

import io
import logging
import math
import os
import struct
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager

import matplotlib as mpl
import numpy as np
import PIL.Image
import pytest
import tensorboardX
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from tensorboardX.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2

from pipedeco.autolog import AutoLog
from pipedeco.autolog.backend import NAME
from pipedeco.autolog.present import PRESENT, Showing
from pipedeco.autolog.tensorboard import EventFile, EventFiles, numbers_of, shortest
from pipedeco.errors import StepCancelled
from pipedeco.media import Media


class Log:
    """A reporter that keeps what it takes."""

    def __init__(self):
        self.metrics, self.texts, self.media_taken = [], [], []

    def metric(self, name, value, step=None, time=None):
        self.metrics.append((name, value, step, time))

    def text(self, name, text, step=None, time=None):
        self.texts.append((name, text, step))

    def media(self, kind, name, media, step=None, time=None):
        assert isinstance(media, Media)
        self.media_taken.append((kind, name, media, step))

    @property
    def named(self):
        return [(kind, name, step) for kind, name, _, step in self.media_taken]

    @property
    def values(self):
        return [metric[:3] for metric in self.metrics]


@contextmanager
def in_place(log):
    """One step in the user's own process."""
    auto = AutoLog(ours=False)
    auto.begin(log)
    try:
        yield
    finally:
        auto.end()


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def auto():
    auto = AutoLog()
    yield auto
    auto.end()


@pytest.fixture(autouse=True)
def agg():
    """The backend of the user who debugs."""
    plt.switch_backend("agg")
    yield
    plt.close("all")
    assert not PRESENT.live


def in_process(program):
    """What a program prints that is run as a worker would be, in a process of its own."""
    help_lines = """
        import sys, os
        from pipedeco.autolog import AutoLog
        class Log:
            def __init__(self): self.all = []
            def metric(self, *given): self.all.append(("metric", *given[:3]))
            def text(self, *given): self.all.append(("text", *given[:3]))
            def media(self, kind, name, media, step=None, time=None):
                self.all.append((kind, name, media.mime, step))
        log, auto = Log(), AutoLog()
    """
    whole = textwrap.dedent(help_lines) + textwrap.dedent(program)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", whole], capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
    assert not done.stderr
    return done.stdout.split("\n")[:-1]


# ---- matplotlib


def test_show_hands_every_open_figure_over_and_closes_it(auto, log):
    with in_place(log):
        plt.plot([1, 2])
        plt.title("Loss")
        plt.figure()
        plt.suptitle("Both")
        plt.show()
        assert plt.get_fignums() == []
    assert log.named == [("figure", "Loss", 0), ("figure", "Both", 0)]
    assert PIL.Image.open(io.BytesIO(log.media_taken[0][2].data)).width > 500


def test_a_figure_shows_itself_once(auto, log):
    with in_place(log):
        figure, axes = plt.subplots()
        figure.show()
        figure.show()
        assert log.named == [("figure", "figure", 0)]
        assert plt.get_fignums() == [1], "its window is open"
        axes.plot([1, 2])
        plt.show(block=False)
        assert plt.get_fignums() == [1]
        plt.show()
        assert plt.get_fignums() == []
    assert log.named == [("figure", "figure", 0), ("figure", "figure", 1)]


@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (lambda: plt.figure("window"), "window"),
        (lambda: plt.figure().canvas.manager.set_window_title("window"), "window"),
        (lambda: plt.figure().set_label("label"), "label"),
        (plt.figure, "figure"),
        (lambda: plt.title("left", loc="left"), "left"),
        (lambda: (plt.figure("window"), plt.suptitle("above\n all"), plt.title("t")), "above all"),
        (lambda: (plt.figure("window"), plt.title("t")), "window"),
        (lambda: plt.suptitle("x" * 1000), "x" * 200),
    ],
)
def test_a_figure_is_named_by_the_first_title_that_the_user_gave(auto, log, draw, name):
    with in_place(log):
        draw()
        plt.show()
    assert [taken[1] for taken in log.named] == [name]


def test_names_are_counted_within_a_step(auto):
    logs = [Log(), Log()]
    for log in logs:
        with in_place(log):
            for i in range(2):
                plt.plot([i, 2])
                plt.show()
    assert logs[0].named == logs[1].named == [("figure", "figure", 0), ("figure", "figure", 1)]


def test_what_a_step_leaves_open_is_not_the_next_ones(auto):
    first, second = Log(), Log()
    with in_place(first):
        plt.plot([1, 2])
    assert plt.get_fignums() == []
    with in_place(second):
        plt.show()
    assert first.named == second.named == []


def test_the_users_own_figures_stay_open(auto, log):
    figure = plt.figure()
    manager = figure.canvas.manager
    with in_place(log):
        plt.figure().suptitle("the step's")
        plt.show()
        assert plt.get_fignums() == [1]
        plt.show()  # nothing is new
    assert log.named == [("figure", "figure", 0), ("figure", "the step's", 0)]
    assert plt.figure(1) is figure
    assert figure.canvas.manager is manager


def test_the_users_backend_is_back_afterwards(auto, log):
    plt.switch_backend("svg")
    mpl.rcParams["backend"] = "agg"  # chosen, and not loaded yet
    default = dict.get(mpl.rcParamsDefault, "backend")
    module = plt._backend_mod
    with in_place(log):
        plt.figure()
        assert mpl.get_backend() == NAME
    assert mpl.get_backend() == "agg"
    assert dict.get(mpl.rcParamsDefault, "backend") == default
    assert plt._backend_mod is module


def test_a_backend_that_is_not_chosen_yet_stays_so(auto, log):
    mpl.rcParams._set("backend", mpl.rcsetup._auto_backend_sentinel)
    plt._backend_mod = None
    with in_place(log):
        plt.figure()
        plt.show()
    assert mpl.rcParams._get_backend_or_none() is None
    assert plt._backend_mod is None
    assert len(log.named) == 1


def test_a_backend_that_the_step_chooses_is_left_to_it(auto, log):
    with in_place(log):
        plt.switch_backend("svg")
        plt.figure()
    assert mpl.get_backend() == "svg"
    with in_place(log):
        plt.figure()
        assert mpl.get_backend() == "svg", "who writes SVG files misses no window"


def test_without_a_step_it_is_agg(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    plt.switch_backend(NAME)
    figure = plt.figure()
    plt.show()
    figure.show()
    assert plt.get_fignums() == [1]
    monkeypatch.setenv("DISPLAY", ":none")
    with pytest.warns(UserWarning, match="non-interactive"):
        plt.show()


def test_threads_of_a_step_show_its_figures(auto, log):
    def show():
        plt.figure()
        plt.show()

    with in_place(log):
        thread = threading.Thread(target=show)
        thread.start()
        thread.join()
    assert len(log.named) == 1


def test_two_runs_in_two_threads_keep_to_themselves():
    plt.switch_backend("agg")
    logs, meet = {"a": Log(), "b": Log()}, threading.Barrier(2, timeout=10)
    drawing = threading.Lock()  # matplotlib itself is not made for threads

    def run(name):
        with in_place(logs[name]):
            meet.wait()
            with drawing:
                plt.figure().suptitle(name)
            meet.wait()
            with drawing:
                plt.show()
            meet.wait()

    threads = [threading.Thread(target=run, args=(name,)) for name in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert logs["a"].named == [("figure", "a", 0)]
    assert logs["b"].named == [("figure", "b", 0)]
    assert mpl.get_backend() == "agg"


def test_a_step_within_a_step_has_its_own():
    outer, inner = Log(), Log()
    with in_place(outer):
        with in_place(inner):
            plt.figure()
            plt.show()
            thread = threading.Thread(target=lambda: plt.figure().show())
            thread.start()
            thread.join()
        plt.figure()
        plt.show()
    assert (len(inner.named), len(outer.named)) == (2, 1)


def test_a_child_of_the_process_reports_nothing(auto, log):
    with in_place(log):
        pid = os.fork()
        if not pid:
            code = 1
            try:
                code = 0 if PRESENT.find() is None else 2
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        assert PRESENT.find() is not None


def test_a_figure_that_cannot_be_drawn_fails_nothing(auto, log, caplog):
    with in_place(log):
        for _ in range(2):
            plt.title("$\\nosuch$")
            plt.show()
    assert log.named == []
    assert plt.get_fignums() == []
    [record] = caplog.records
    assert (record.name, record.levelno) == ("pipedeco", logging.WARNING)
    assert record.getMessage().startswith("a figure of matplotlib is not logged: ValueError")


def test_a_cancel_is_not_held_up(auto, log):
    def cancelled(*_, **__):
        raise StepCancelled("the run was cancelled")

    log.media = cancelled
    with in_place(log):
        plt.figure()
        with pytest.raises(StepCancelled):
            plt.show()


def test_a_worker_shows_whatever_the_user_has_chosen():
    program = """
        os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
        for choose in (lambda: None, lambda: plt.switch_backend("agg"), lambda: plt.switch_backend("svg")):
            auto.begin(log)
            import matplotlib.pyplot as plt
            choose()
            plt.plot([1, 2])
            plt.show()
            auto.end()
            auto.begin(log)
            plt.title("again")
            plt.show()
            print(len(log.all), plt.get_fignums())
            auto.end()
    """
    # A file of another kind is what the user wants of svg, which is left to itself.
    assert in_process(program) == ["2 []", "3 []", "3 [1]"]


def test_a_step_that_imports_matplotlib_where_it_is_debugged():
    program = """
        os.environ["MPLBACKEND"] = "pdf"
        import matplotlib
        os.environ.pop("MPLBACKEND")
        matplotlib.rcParams._set("backend", matplotlib.rcsetup._auto_backend_sentinel)
        auto = AutoLog(ours=False)
        auto.begin(log)
        import matplotlib.pyplot as plt
        plt.plot([1, 2])
        plt.show()
        auto.end()
        print(log.all, matplotlib.rcParams._get_backend_or_none(), plt._backend_mod)
    """
    assert in_process(program) == ["[('figure', 'figure', 'image/png', 0)] None None"]


def test_a_step_that_uses_none_of_it_imports_none_of_it():
    program = """
        import builtins
        before = set(sys.modules)
        for auto in (auto, AutoLog(ours=False)):
            auto.begin(log); auto.poll(); auto.end()
        print(sorted(set(sys.modules) - before), "logging" in sys.modules, "matplotlib" in sys.modules)
    """
    assert in_process(program) == ["[] False False"]


# ---- event files


def test_what_a_writer_writes_is_reported(auto, log, tmp_path):
    with in_place(log), tensorboardX.SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("train/löss", 0.1, 3, walltime=12.5)
        writer.add_scalar("train/löss", math.nan, 4)
        writer.add_image("a/b", np.zeros((3, 4, 5), "uint8"), 7)
        writer.add_text("said", "a **text**", 2)
        writer.add_histogram("weights", np.arange(100.0), 1)
        writer.add_hparams({"lr": 0.1}, {"score": 1})
    [name, value, step, when] = log.metrics[0]
    assert (value, step, when) == (0.1, 3, 12.5)
    assert name.startswith("train/l")
    assert math.isnan(log.metrics[1][1])
    assert log.texts == [("said", "a **text**", 2)]
    assert log.named == [("image", "a/b", 7), ("figure", "weights", 1)]
    image = log.media_taken[0][2]
    assert PIL.Image.open(io.BytesIO(image.data)).size == (5, 4)
    assert b"100 values" in log.media_taken[1][2].data


def test_a_writer_that_is_left_open_is_read_to_its_end(auto, log, tmp_path):
    with in_place(log):
        writer = tensorboardX.SummaryWriter(str(tmp_path))
        for i in range(300):
            writer.add_scalar("x", i, i)
    assert log.values == [("x", i, i) for i in range(300)]
    other = Log()
    with in_place(other):
        writer.add_scalar("x", 300, 300)
        writer.close()
    assert len(log.values) == 300
    assert other.values == [], "its file was not opened in this step"


def test_a_writer_in_a_relative_folder(auto, log, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with in_place(log):
        writer = tensorboardX.SummaryWriter("runs/a")
        writer.add_scalar("x", 1, 1)
        monkeypatch.chdir("/")
    assert log.values == [("x", 1, 1)]
    writer.close()


def test_values_come_while_the_step_runs(auto, log, tmp_path):
    auto.begin(log)
    writer = tensorboardX.SummaryWriter(str(tmp_path), flush_secs=0)
    writer.add_scalar("x", 1, 1)
    deadline = time.monotonic() + 10
    while not log.metrics and time.monotonic() < deadline:
        thread = threading.Thread(target=auto.poll)
        thread.start()
        thread.join()
    assert log.values == [("x", 1, 1)]
    auto.end()
    auto.poll()
    writer.close()
    assert len(log.metrics) == 1


def test_writers_with_the_same_tag_are_told_apart(auto, log, tmp_path):
    with in_place(log):
        with tensorboardX.SummaryWriter(str(tmp_path / "train")) as train:
            train.add_scalar("loss", 1, 0)
            train.add_scalars("both/of", {"a": 2, "b": 3}, 0)
        with tensorboardX.SummaryWriter(str(tmp_path / "val")) as validation:
            validation.add_scalar("loss", 4, 0)
        with tensorboardX.SummaryWriter(str(tmp_path / "train" / "both_of_c")) as other:
            other.add_scalar("both/of", 5, 0)  # as torch names its folders
    assert sorted(log.values) == [
        ("both/of/a", 2, 0),
        ("both/of/b", 3, 0),
        ("both/of/c", 5, 0),
        ("loss", 1, 0),
        ("val/loss", 4, 0),
    ]


def test_a_writer_is_seen_that_is_imported_in_the_step(tmp_path):
    program = f"""
        auto.begin(log)
        import tensorboardX
        writer = tensorboardX.SummaryWriter({str(tmp_path)!r})
        writer.add_scalar("x", 0.5, 2)
        auto.end()
        writer.close()
        print(log.all)
    """
    assert in_process(program) == ["[('metric', 'x', 0.5, 2)]"]


def test_a_file_that_is_only_read_is_no_log(auto, log, tmp_path):
    with tensorboardX.SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("x", 1, 1)
    with in_place(log):
        [file] = tmp_path.iterdir()
        file.read_bytes()
    assert log.metrics == []


def test_a_reporter_that_fails_fails_nothing(auto, log, tmp_path, caplog):
    def fail(*_, **__):
        raise RuntimeError("full")

    log.metric = fail
    with in_place(log), tensorboardX.SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("x", 1, 1)
        writer.add_scalar("x", 2, 2)
        writer.add_text("t", "u", 1)
    assert log.texts == [("t", "u", 1)]
    assert [record.getMessage() for record in caplog.records] == [
        "the value 'x' of an event file is not logged: RuntimeError: full"
    ]


# ---- records by hand


def record(event):
    data = event.SerializeToString()
    return struct.pack("<QI", len(data), 0) + data + b"\0\0\0\0"


def summary(**value):
    values = [summary_pb2.Summary.Value(**value)]
    return event_pb2.Event(wall_time=1.5, step=5, summary=summary_pb2.Summary(value=values))


def scalar(tag, value):
    return summary(tag=tag, simple_value=value)


def tensor(tag, plugin, shape=(), **values):
    dims = [tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in shape]
    metadata = summary_pb2.SummaryMetadata(
        plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name=plugin)
    )
    return summary(
        tag=tag,
        metadata=metadata,
        tensor=tensor_pb2.TensorProto(
            tensor_shape=tensor_shape_pb2.TensorShapeProto(dim=dims), **values
        ),
    )


@pytest.fixture
def files(log, tmp_path):
    files = EventFiles(Showing(log, None))
    path = tmp_path / "events.out.tfevents.2"
    files.add(str(path))

    def read(data):
        with open(path, "ab") as file:
            file.write(data)
        files.read()

    return read


def test_summaries_of_the_new_style(files, log):
    packed = np.array([[0, 1, 2], [1, 3, 4]], "float64")
    picture = io.BytesIO()
    PIL.Image.new("L", (2, 2)).save(picture, "PNG")
    size = [b"2", b"2"]
    for event in (
        tensor("s", "scalars", dtype=1, float_val=[0.1]),
        tensor("c", "scalars", dtype=1, tensor_content=struct.pack("<f", 0.2)),
        tensor("", "scalars", dtype=3, int_val=[7]),
        tensor("c", "", dtype=2, double_val=[0.3]),
        tensor("h", "histograms", (2, 3), dtype=2, tensor_content=packed.tobytes()),
        tensor("i", "images", (3,), dtype=7, string_val=[*size, picture.getvalue()]),
        tensor("j", "images", (4,), dtype=7, string_val=[*size, *[picture.getvalue()] * 2]),
        tensor("t", "text", dtype=7, string_val=["é".encode()]),
        tensor("p", "hparams", dtype=1, float_val=[1]),
        tensor("q", "", dtype=1, float_val=[1]),
        event_pb2.Event(graph_def=b"x"),
        event_pb2.Event(file_version="brain.Event:2"),
    ):
        files(record(event))
    assert log.values == [("s", 0.1, 5), ("c", 0.2, 5), ("", 7.0, 5), ("c", 0.3, 5)]
    assert log.named == [
        ("figure", "h", 5),
        ("image", "i", 5),
        ("image", "j/0", 5),
        ("image", "j/1", 5),
    ]
    assert log.texts == [("t", "é", 5)]
    assert b"6 values" in log.media_taken[0][2].data


def test_a_histogram_that_reaches_to_the_end_of_all_numbers(files, log):
    histogram = summary_pb2.HistogramProto(
        min=0, max=4, num=3, bucket_limit=[-1e308, 2, 1.7e308], bucket=[0, 1, 2]
    )
    files(record(summary(tag="h", histo=histogram)))
    assert b"3 values" in log.media_taken[0][2].data


def test_a_torn_record_waits_for_its_end(files, log):
    data = record(scalar("a", 1)) + record(scalar("b", 2))
    for i in range(len(data)):
        files(data[i : i + 1])
        assert len(log.metrics) == (i + 1) // (len(data) // 2)
    assert log.values == [("a", 1, 5), ("b", 2, 5)]


def test_a_damaged_record_is_skipped_with_one_warning(files, log, caplog):
    damaged = struct.pack("<QI", 3, 0) + b"\xff\xff\xff" + b"\0\0\0\0"
    files(damaged + record(scalar("a", 1)) + damaged + record(scalar("b", 2)))
    assert log.values == [("a", 1, 5), ("b", 2, 5)]
    [warning] = caplog.records
    assert "a record of an event file is not logged" in warning.getMessage()


@given(st.lists(st.binary(max_size=40)), st.lists(st.integers(0, 100)))
def test_records_arrive_however_they_are_cut(tmp_path_factory, records, cuts):
    path = tmp_path_factory.mktemp("cut") / "events"
    whole = b"".join(struct.pack("<QI", len(data), 9) + data + b"\1\2\3\4" for data in records)
    file, found, begin = EventFile(str(path)), [], 0
    for end in (*sorted(cuts), len(whole)):
        with open(path, "ab") as out:
            out.write(whole[begin:end])
        begin = max(begin, end)
        found += file.records()
    assert found == records


@given(st.binary(max_size=200))
def test_nonsense_fails_nothing(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("nonsense") / "events"
    path.write_bytes(data)
    for _ in EventFile(str(path)).records():
        pass


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ({"dtype": 1, "float_val": [1.5]}, [1.5]),
        ({"dtype": 2, "double_val": [0.1, 2]}, [0.1, 2]),
        ({"dtype": 9, "int64_val": [1 << 40]}, [1 << 40]),
        ({"dtype": 10, "bool_val": [True]}, [True]),
        ({"dtype": 19, "half_val": [0x3C00]}, [1.0]),
        ({"dtype": 19, "tensor_content": b"\0\x3c"}, [1.0]),
        ({"dtype": 2, "double_val": [3], "shape": (2, 2)}, [3, 3, 3, 3]),
        ({"dtype": 2, "shape": (2,)}, [0, 0]),
    ],
)
def test_numbers_of_tensors(given_, expected):
    event = tensor("t", "scalars", **given_)
    assert numbers_of(event.summary.value[0].tensor) == expected


def test_a_tensor_of_texts_has_no_numbers():
    with pytest.raises(ValueError, match="type 7"):
        numbers_of(tensor_pb2.TensorProto(dtype=7))


@given(st.floats(width=32))
def test_the_shortest_decimal_is_the_same_number(number):
    short = shortest(number)
    assert struct.pack("<f", short) == struct.pack("<f", number) or math.isnan(number)


@given(st.integers(-99999, 99999), st.integers(-8, 3))
def test_decimals_come_back_as_they_were_logged(digits, power):
    logged = float(f"{digits}e{power}")
    assert shortest(struct.unpack("<f", struct.pack("<f", logged))[0]) == logged

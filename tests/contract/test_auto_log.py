"""Figures that are shown and event files that are written become the step's, without a call."""

import math
import os
from pathlib import Path

import pytest
from conftest import wait_for, wait_until

from pipedeco import component, get_run, log_figure, log_image, pipeline, value

PNG = b"\x89PNG\r\n"


def test_shown_figures(mode):
    """pyplot.show() hands over what is open; by its title, counted."""

    @component
    def plot():
        import matplotlib.pyplot as plt

        for epoch in range(2):
            plt.plot([1, 2, epoch])
            plt.title("loss")
            plt.show()
        figure, axes = plt.subplots()
        figure.suptitle("by the figure")
        axes.plot([1])
        figure.show()
        return plt.get_fignums()

    @component
    def quiet():
        return 1

    @pipeline
    def body():
        value(plot())
        value(quiet())

    body()
    run = get_run()
    figures = run.steps["plot"].figures
    assert list(figures) == ["loss", "by the figure"]
    assert [figure.step for figure in figures.history("loss")] == [0, 1]
    assert figures["loss"].mime == "image/png"
    assert figures["loss"].data.startswith(PNG)
    assert len(run.steps["quiet"].figures) == 0


@pytest.mark.parametrize("where", ["component", "pipeline"])
def test_auto_log_is_turned_off(mode, where):
    """By the component or for the whole pipeline; what is logged by a call stays."""

    @component(auto_log=False if where == "component" else None)
    def plot():
        import matplotlib
        import matplotlib.pyplot as plt

        matplotlib.use("agg")
        plt.plot([1, 2])
        log_figure("by hand", plt.gcf())
        plt.close("all")

    @pipeline(auto_log=where == "component")
    def body():
        value(plot())

    body()
    assert list(get_run().steps["plot"].figures) == ["by hand"]


def test_a_component_may_turn_it_on(mode):
    """The component's own word counts."""

    @component(auto_log=True)
    def plot():
        import matplotlib.pyplot as plt

        plt.plot([1, 2])
        plt.title("shown")
        plt.show()

    @pipeline(auto_log=False)
    def body():
        value(plot())

    body()
    assert list(get_run().steps["plot"].figures) == ["shown"]


def test_event_files(mode, tmp_path):
    """Scalars, texts, images and histograms of a SummaryWriter, NaN and unusual tags included."""

    @component
    def train(folder):
        import numpy as np
        from tensorboardX import SummaryWriter

        with SummaryWriter(folder) as writer:
            for epoch in range(3):
                writer.add_scalar("loss/größe", 1.0 / (epoch + 1), epoch)
            writer.add_scalar("nan", math.nan, 1)
            writer.add_text("note", "hello")
            writer.add_image("picture", np.zeros((3, 4, 4), dtype=np.uint8))
            writer.add_histogram("weights", np.arange(10.0))

    @pipeline
    def body():
        value(train(str(tmp_path / "one")))

    body()
    step = get_run().steps["train"]
    losses = [p for p in step._reported.points() if p["name"] == "loss/größe"]
    assert [(p["step"], round(p["value"], 3)) for p in losses] == [(0, 1.0), (1, 0.5), (2, 0.333)]
    assert math.isnan(step.last_metrics["nan"])
    assert step.texts["note"].text == "hello"
    assert step.figures["picture"].data.startswith(PNG)
    assert "<svg" in step.figures["weights"].data.decode()


@pytest.mark.parametrize("mode", ["local"], indirect=True)
def test_a_writer_that_was_dropped(mode, tmp_path):
    """What it still held when the step ended is the step's."""

    @component
    def left_open(folder):
        from tensorboardX import SummaryWriter

        writer = SummaryWriter(folder)
        for number in range(100):
            writer.add_scalar("open", 1.5, number)

    @pipeline
    def body():
        value(left_open(str(tmp_path / "two")))

    body()
    assert len(get_run().steps["left_open"]._reported.points()) == 100


@pytest.mark.parametrize("mode", ["local"], indirect=True)
def test_event_files_are_read_while_the_step_runs(mode, tmp_path):
    """What a writer was given is seen before the step ends."""

    @component
    def train(folder, gate):
        from tensorboardX import SummaryWriter

        with SummaryWriter(folder) as writer:
            writer.add_scalar("loss", 0.5, 1)
            wait_for(gate, timeout=30)

    @pipeline
    def body():
        train(str(tmp_path / "runs"), str(tmp_path / "gate"))

    run = body.start()
    try:
        wait_until(
            lambda: "train" in run.steps and run.steps["train"].last_metrics == {"loss": 0.5},
            "the point is there",
            timeout=20,
        )
    finally:
        (tmp_path / "gate").touch()
    assert run.wait(20)


def test_figures_and_images_by_call(mode, tmp_path):
    """Of matplotlib, plotly and PIL, arrays, SVG text and files."""

    @component
    def draw():
        import numpy as np
        import plotly.graph_objects as go
        from matplotlib.figure import Figure
        from PIL import Image

        figure = Figure()
        figure.subplots().plot([1, 2])
        log_figure("matplotlib", figure, step=3)
        log_figure("plotly", go.Figure(go.Scatter(y=[1, 2])))
        log_figure("svg", "<svg xmlns='http://www.w3.org/2000/svg'/>")
        Image.new("RGB", (2, 2)).save(tmp_path / "dot.png")
        log_image("file", tmp_path / "dot.png")
        log_image("array", np.zeros((4, 4)))
        log_image("pil", Image.new("L", (2, 2)))

    @pipeline
    def body():
        value(draw())

    body()
    figures = get_run().steps["draw"].figures
    assert {name: figure.mime for name, figure in figures.items()} == {
        "matplotlib": "image/png",
        "plotly": "application/vnd.plotly.v1+json",
        "svg": "image/svg+xml",
        "file": "image/png",
        "array": "image/png",
        "pil": "image/png",
    }
    assert figures["matplotlib"].step == 3
    figures["array"].save(tmp_path / "out.png")
    assert Path(tmp_path / "out.png").read_bytes().startswith(PNG)
    assert figures["plotly"]._repr_mimebundle_()["application/vnd.plotly.v1+json"]["data"]


def test_the_users_backend_is_there_again(mode):
    """A run leaves matplotlib, and the environment, as it found them."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")

    @component
    def plot():
        import matplotlib.pyplot as plt

        plt.plot([1])
        plt.show()

    @pipeline
    def body():
        value(plot())

    before = os.environ.get("MPLBACKEND")
    own = plt.figure()
    body()
    assert mpl.get_backend().lower() == "agg"
    assert os.environ.get("MPLBACKEND") == before
    assert plt.fignum_exists(own.number)
    plt.close(own)

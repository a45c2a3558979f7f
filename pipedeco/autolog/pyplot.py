"""A backend of matplotlib for steps: what a window would show goes to the step's reporter.

It draws as Agg does, and is Agg where no step is performed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from matplotlib._pylab_helpers import Gcf
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg

from pipedeco.autolog.present import PRESENT
from pipedeco.media import figure_media

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pipedeco.autolog.present import Showing

LONGEST = 200  # characters of a name


class FigureManager(FigureManagerBase):
    """The window that a figure would have; it belongs to the step that opened it."""

    def __init__(self, canvas: Any, num: int | str) -> None:
        super().__init__(canvas, num)
        self.usual_title = self.get_window_title()
        self.session = PRESENT.find()
        if self.session is not None:
            self.session.drew = True

    @classmethod
    def pyplot_show(cls, *, block: bool | None = None) -> None:
        session = PRESENT.find()
        if session is None:
            super().pyplot_show(block=block)
            return
        for manager in Gcf.get_all_fig_managers():
            if not isinstance(manager, FigureManager):  # the user's, open since before the step
                hand_over(manager, session)
            elif manager.session is session or manager.session is None:
                hand_over(manager, session)
                if block is not False:  # else the program goes on drawing in its open windows
                    Gcf.destroy(manager)

    def show(self) -> None:
        session = PRESENT.find()
        if session is None:
            super().show()
        else:
            hand_over(self, session)


def hand_over(manager: FigureManagerBase, session: Showing) -> None:
    """Report a figure as it is, unless nothing is new since it was shown."""
    try:
        figure = manager.canvas.figure
        media = figure_media(figure)
        if session.shown.get(id(manager)) != media.data:
            name = name_of(figure, manager)
            session.reporter.media("figure", name, media, step=session.count(name))
            session.shown[id(manager)] = media.data
    except Exception as error:  # noqa: BLE001 - showing a figure never fails the user's step
        session.failed("a figure of matplotlib", error)


class FigureCanvas(FigureCanvasAgg):
    """Agg's, with our manager."""

    manager_class: ClassVar[Any] = FigureManager


def name_of(figure: Figure, manager: FigureManagerBase) -> str:
    """The first title that the user gave: the figure's, the window's, that of an axes."""
    window = manager.get_window_title()
    places: tuple[Literal["center", "left", "right"], ...] = ("center", "left", "right")
    titles = [
        figure.get_suptitle(),
        "" if window == getattr(manager, "usual_title", window) else window,
        figure.get_label(),
        *(axes.get_title(place) for axes in figure.axes[:1] for place in places),
    ]
    named = (" ".join(str(title).split()) for title in titles if title)
    return next(filter(None, named), "figure")[:LONGEST]


def close(session: Showing, *, foreign: bool) -> None:
    """Close what a step left open, which the next would draw into.

    `foreign` says that windows of other backends are the step's too, as they are in a worker.
    """
    for manager in Gcf.get_all_fig_managers():
        if manager.session is session if isinstance(manager, FigureManager) else foreign:
            Gcf.destroy(manager)

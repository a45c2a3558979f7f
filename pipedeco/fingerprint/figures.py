"""What a matplotlib figure shows: drawing it, saving it and asking for its limits change its pickle.

Figures that came out of a pickle are looked at; they are drawn first, so that all of them have been.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# What is asked of each artist, where it has that.
_ASKED = (
    "get_label", "get_text", "get_visible", "get_alpha", "get_zorder", "get_position",
    "get_color", "get_facecolor", "get_edgecolor", "get_linewidth", "get_linestyle", "get_marker",
    "get_xydata", "get_offsets", "get_array", "get_path", "get_paths",
    "get_xlim", "get_ylim", "get_xscale", "get_yscale", "get_title", "get_xlabel", "get_ylabel",
    "get_size_inches", "get_tick_params", "get_majorticklocs",
)  # fmt: skip
_LEAVES = ("XAxis", "YAxis", "ZAxis")  # their ticks are made anew by asking
_FRAMES = ("Spine",)  # they follow the limits


def figure_content(item: Any) -> list[Any] | None:
    """The content of a figure, or of what stands in one; None for anything else."""
    artist = getattr(sys.modules.get("matplotlib.artist"), "Artist", None)
    if artist is None or not isinstance(item, artist):
        return None
    figure = getattr(item, "figure", None) or item
    if hasattr(figure, "draw_without_rendering"):
        figure.draw_without_rendering()
    return [list(_told(one)) for one in _artists(figure)]


@contextmanager
def without_pyplot() -> Iterator[None]:
    """Have pyplot not know the figures that are loaded."""
    managers: Any = getattr(sys.modules.get("matplotlib._pylab_helpers"), "Gcf", None)
    shown = {} if managers is None else managers.figs
    before = set(shown)
    try:
        yield
    finally:
        for number in set(shown) - before:
            del shown[number]


def _artists(top: Any) -> Iterator[Any]:
    waiting = [top]
    while waiting:
        found = waiting.pop()
        kind = type(found).__name__
        if kind not in _FRAMES:
            yield found
            waiting.extend(() if kind in _LEAVES else found.get_children())


def _told(artist: Any) -> Iterator[Any]:
    yield type(artist).__qualname__
    for name in _ASKED:
        ask = getattr(artist, name, None)
        if ask is not None:
            try:
                yield name, _plain(ask())
            except TypeError:  # it asks for more
                continue


def _plain(value: Any) -> Any:
    """A value that can be compared."""
    if hasattr(value, "vertices"):
        return _plain(value.vertices)
    if hasattr(value, "tobytes"):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return sorted((str(key), _plain(part)) for key, part in value.items())
    return value if isinstance(value, str | int | float | bool | type(None)) else repr(value)

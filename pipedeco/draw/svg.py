"""Boxes and links as one SVG document: no script, no reference outwards, dark where the page is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipedeco.draw.layout import PORT, lay_out
from pipedeco.draw.order import Line
from pipedeco.draw.text import STATES, escape
from pipedeco.text import breadth, shortened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipedeco.draw.grouping import Box, Link
    from pipedeco.draw.layout import Path

LETTER, SMALL = 8.2, 6.5  # about as wide as a letter of 13 and of 11 pixels is
MARGIN = 24.0
NARROWEST, WIDEST = 132.0, 236.0
COUNTED = 44.0  # between edges at one box where their counts stand beside them
KINDS = {"data": "data", "order": "runs after", "control": "read by the body before"}

# The state's colours after Okabe and Ito, told apart without them by the signs below:
# fill and line in the light, fill and line in the dark.
COLOURS = {
    "none": ("#f6f8fa", "#8c99a8", "#1d242d", "#6e7b8a"),
    "cached": ("#e6f1fb", "#2f78b7", "#12283b", "#62a8e5"),
    "completed": ("#e5f5ee", "#1b8a66", "#11302a", "#3fbf93"),
    "pending": ("#ffffff", "#8c99a8", "#161b22", "#6e7b8a"),
    "queued": ("#efedf9", "#6f63b5", "#25213d", "#9d93e0"),
    "running": ("#fff5d6", "#a87900", "#382d0e", "#e0b23a"),
    "skipped": ("#f3f4f6", "#77818e", "#20262e", "#8b96a5"),
    "cancelled": ("#f8eaf2", "#a3537e", "#381f2e", "#d488b1"),
    "interrupted": ("#f6e9e1", "#8a4b2a", "#36241a", "#cf8f6c"),
    "failed": ("#fdeae0", "#c8500a", "#3d2113", "#f08a4b"),
}
# Drawn in white on a disc of 16 pixels; fonts differ too much.
SIGNS = {
    "cached": "M3.2 1.6A3.6 3.6 0 1 1 2.6-2.6M2.9-4.4V-2.3H.8",
    "completed": "M-3.4.2L-1 2.7L3.5-2.5",
    "pending": "M0-3.6V0L2.4 1.6",
    "queued": "M-3.3 0h.01M0 0h.01M3.3 0h.01",
    "running": "M-1.7-3.1L3 0L-1.7 3.1Z",
    "skipped": "M-3.2-2.9L-.4 0L-3.2 2.9M.6-2.9L3.4 0L.6 2.9",
    "cancelled": "M-3 3L3-3",
    "interrupted": "M1.2-4L-1.8.4H1.8L-1.2 4",
    "failed": "M-2.7-2.7L2.7 2.7M2.7-2.7L-2.7 2.7",
}
# Colours are written out rather than named by CSS variables, which few renderers but browsers know.
LIGHT = {"ink": "#1f2933", "soft": "#5b6775", "edge": "#7b8896", "page": "#fff"}
DARK = {"ink": "#e6edf3", "soft": "#9aa7b4", "edge": "#76828f", "page": "#0d1117"}
SHAPES = """
.pipedeco{font-family:system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;font-size:13px}
.pipedeco .name{font-weight:600}
.pipedeco .title{font-weight:600;font-size:15px}
.pipedeco .soft,.pipedeco .count{font-size:11px}
.pipedeco .count{paint-order:stroke;stroke-width:4px;text-anchor:middle}
.pipedeco .box rect{stroke-width:1.25px}
.pipedeco .skipped rect,.pipedeco .pending rect{stroke-dasharray:4 3}
.pipedeco .sign{fill:none;stroke-width:1.7px;stroke-linecap:round;stroke-linejoin:round}
.pipedeco .edge{fill:none;stroke-width:1.5px}
.pipedeco .edge:hover{stroke-width:2.5px}
.pipedeco .order{stroke-dasharray:7 4}
.pipedeco .control{stroke-dasharray:1.5 4;stroke-linecap:round}
"""
PAINT = """
.pipedeco text{{fill:{ink}}}
.pipedeco .soft,.pipedeco .count{{fill:{soft}}}
.pipedeco .count,.pipedeco .sign{{stroke:{page}}}
.pipedeco .edge{{stroke:{edge}}}
.pipedeco .tip{{fill:{edge};stroke:none}}
.pipedeco .edge:hover{{stroke:{ink}}}
"""


def svg_text(boxes: list[Box], links: list[Link], title: str) -> str:
    """The document."""
    if not boxes:
        return _document(
            220, 72, title, ['<text x="110" y="40" text-anchor="middle">no steps</text>']
        )
    tall = max(len(box.told) for box in boxes)
    width, height = _width(boxes), 34.0 + 15 * tall
    lines = [Line(link.source, link.target, link.kind) for link in links]
    port = COUNTED if any(link.edges > 1 for link in links) else PORT
    places = lay_out(len(boxes), lines, width, height, port)
    head = 34.0 if title else 0.0
    body = [f'<text class="title" x="{MARGIN:g}" y="32">{escape(shortened(title, 80))}</text>']
    body = body if title else []
    body.append(f'<g transform="translate({MARGIN:g} {MARGIN + head:g})">')
    body += [_edge(boxes, link, path) for link, path in zip(links, places.paths, strict=True)]
    body += [
        _box(box, left, top, width, height)
        for box, (left, top) in zip(boxes, places.boxes, strict=True)
    ]
    body += [
        _count(link.edges, path)
        for link, path in zip(links, places.paths, strict=True)
        if link.edges > 1
    ]
    body.append("</g>")
    legend, broad, deep = _legend(boxes, links, max(places.width, 420.0))
    top = MARGIN + head + places.height + (18 if legend else 0)
    if legend:
        body += [
            f'<g class="legend" transform="translate({MARGIN:g} {_number(top)})">',
            *legend,
            "</g>",
        ]
    named = breadth(shortened(title, 80)) * 8.5
    loops = any(link.source == link.target for link in links)
    wide = max(places.width + 24 * loops, broad, named) + 2 * MARGIN
    return _document(wide, top + deep + MARGIN, title, body)


def _document(width: float, height: float, title: str, body: list[str]) -> str:
    name = escape(title) or "pipeline"
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    rows = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="pipedeco" role="img" aria-label="{name}" {size}>',
        f"<title>{name}</title>",
        f"<style>{_style()}</style>",
        *body,
        "</svg>",
    ]
    return "\n".join(rows) + "\n"


def _style() -> str:
    night = f"@media (prefers-color-scheme:dark){{{_paint(DARK, 2)}}}"
    return f"{SHAPES}{_paint(LIGHT, 0)}{night}\n"


def _paint(palette: dict[str, str], first: int) -> str:
    """Colours of everything; those of a state begin at `first` of its four."""
    states = [
        f".pipedeco .{state} rect{{fill:{c[first]};stroke:{c[first + 1]}}}"
        f".pipedeco .{state} circle{{fill:{c[first + 1]}}}\n"
        for state, c in COLOURS.items()
    ]
    return PAINT.format(**palette) + "".join(states)


def _width(boxes: list[Box]) -> float:
    """One for all, so that the boxes stand in line."""
    sign = 22 if any(box.state for box in boxes) else 0
    names = max(breadth(box.name) for box in boxes) * LETTER
    lines = max((breadth(line) for box in boxes for line in box.told), default=0) * SMALL
    return min(WIDEST, max(NARROWEST, round(max(names, lines) + sign + 26)))


def _class(state: str) -> str:
    return (state if state in STATES else "pending") or "none"


def _box(box: Box, left: float, top: float, width: float, height: float) -> str:
    kind = _class(box.state)
    indent = 34 if box.state else 14
    room = width - indent - 10
    used = 34.0 + 15 * len(box.told)
    middle = (height - used) / 2
    parts = [
        f'<g class="box {kind}" transform="translate({_number(left)} {_number(top)})">',
        f"<title>{escape_lines(box.note)}</title>",
        f'<rect width="{width:g}" height="{height:g}" rx="9"/>',
    ]
    if box.state:
        parts.append(_sign(kind, 18, height / 2))
    name = escape(shortened(box.name, room / LETTER))
    parts.append(f'<text class="name" x="{indent}" y="{middle + 21.5:g}">{name}</text>')
    for i, line in enumerate(box.told):
        said = escape(shortened(line, room / SMALL))
        parts.append(f'<text class="soft" x="{indent}" y="{middle + 37 + 15 * i:g}">{said}</text>')
    return "".join([*parts, "</g>"])


def escape_lines(text: str) -> str:
    """Escaped line by line, the line ends kept."""
    return "\n".join(map(escape, text.split("\n")))


def _sign(kind: str, x: float, y: float) -> str:
    path = f'<path class="sign" d="{SIGNS[kind]}"/>'
    return f'<g transform="translate({x:g} {y:g})"><circle r="8"/>{path}</g>'


def _edge(boxes: list[Box], link: Link, path: Path) -> str:
    what = f"{boxes[link.source].name} → {boxes[link.target].name}"
    said = f"{what}\n{KINDS[link.kind]}" + (f", {link.edges:,} edges" if link.edges > 1 else "")
    return (
        f'<g data-from="{link.source}" data-to="{link.target}" data-kind="{link.kind}">'
        f"<title>{escape_lines(said)}</title>"
        f'<path class="edge {link.kind}" d="{_data(path)}"/>'
        f'<path class="tip" d="{_tip(path)}"/></g>'
    )


def _data(path: Path) -> str:
    out = []
    for i, segment in enumerate(path):
        letter = "M" if i == 0 else "C" if len(segment) == 6 else "L"
        out.append(letter + " ".join([_number(number) for number in segment]))
    return "".join(out)


def _number(value: float) -> str:
    """A tenth of a pixel is enough; never in powers of ten, which lose the last digits."""
    short = round(value, 1)
    whole = int(short)
    return str(whole) if whole == short else str(short)


def _tip(path: Path) -> str:
    """An arrowhead, pointing the way on which the edge arrives."""
    x, y = path[-1][-2:]
    last = path[-1]
    before = last[2:4] if len(last) == 6 else path[-2][-2:]
    if abs(before[1] - y) < 1e-6:
        way = 7.0 if before[0] > x else -7.0
        return f"M{_number(x)} {_number(y)}l{way:g}-4v8z"
    way = -7.0 if before[1] < y else 7.0
    return f"M{_number(x)} {_number(y)}l-4 {way:g}h8z"


def _count(count: int, path: Path) -> str:
    """How many edges are in one, where the edge leaves its box."""
    x, y = _halfway(path[0], path[1])
    return f'<text class="count" x="{_number(x)}" y="{_number(y + 4)}">\u00d7{count:,}</text>'


def _halfway(start: tuple[float, ...], segment: tuple[float, ...]) -> tuple[float, float]:
    if len(segment) == 2:
        return (start[0] + segment[0]) / 2, (start[1] + segment[1]) / 2
    points = (*start, *segment)
    x, y = ((points[i] + 3 * points[i + 2] + 3 * points[i + 4] + points[i + 6]) / 8 for i in (0, 1))
    return round(x, 1), round(y, 1)


def _legend(boxes: list[Box], links: list[Link], width: float) -> tuple[list[str], float, float]:
    """The states and the kinds of edges, where there are several; and the size of it."""
    out: list[str] = []
    x = y = broad = 0.0
    for kind, text, drawn in _entries(boxes, links):
        room = 34 + breadth(text) * 6.6
        if x and x + room > width:
            x, y = 0.0, y + 24
        inner = drawn + f'<text class="soft" x="32" y="4">{escape(text)}</text>'
        out.append(f'<g class="box {kind}" transform="translate({x:g} {y + 12:g})">{inner}</g>')
        x += room + 18
        broad = max(broad, x - 18)
    return out, broad, y + 24 if out else 0.0


def _entries(boxes: list[Box], links: list[Link]) -> Iterator[tuple[str, str, str]]:
    states = {_class(box.state) for box in boxes if box.state}
    kinds = {link.kind for link in links}
    if len(states) > 1:
        for state in (s for s in STATES if s in states):
            yield state, state, _sign(state, 18, 0)
    if kinds - {"data"}:
        for kind in (k for k in KINDS if k in kinds):
            yield "none", KINDS[kind], f'<path class="edge {kind}" d="M0 0H26"/>'

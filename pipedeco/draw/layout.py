"""Where boxes and edges go: a layered drawing, top to bottom.

After Sugiyama: cycles are broken, steps get layers, layers an order with few crossings, and boxes
places over one another.  Two things are for pipelines: a layer too wide to read becomes several
rows, and a drawing too tall becomes several columns.  An edge that passes a layer has a place in it
of its own, between the boxes, so no edge runs through a box.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from itertools import pairwise
from typing import NamedTuple

from pipedeco.draw.order import Line, forward_edges, rank_vertices, weak_components
from pipedeco.draw.packing import pack, spread

GAP = 24.0  # between boxes side by side
LANE = 14.0  # between an edge that passes and what is beside it
RISE = 46.0  # between rows, where edges may bend
PORT = 12.0  # between the ends of edges at one box
WIDEST_ROW = 8  # boxes side by side, where the graph is small
BUNDLED = 8  # so many long edges from or to one step share one way
MANY = 1500  # vertices; from here on fewer rounds are spent on beauty
MOST_LANES = 20_000  # places of passing edges; what is beyond goes behind the boxes
TALL = 1500.0  # pixels; what is higher and thin is set in columns

Segment = tuple[float, ...]  # a point, a line to a point, or the three points of a curve
Path = list[Segment]


class Layout(NamedTuple):
    """Left upper corners of the boxes, the way of each line, and the size of it all."""

    boxes: list[tuple[float, float]]
    paths: list[Path]
    width: float
    height: float


def lay_out(
    count: int, lines: list[Line], width: float, height: float, port: float = PORT
) -> Layout:
    """Places for `count` boxes of one size and for the lines between them.

    `port`: how far apart lines begin and end at a box that has room for it.
    """
    forward = forward_edges(count, lines)
    boxes: list[tuple[float, float]] = [(0.0, 0.0)] * count
    paths: list[Path] = [[] for _ in lines]
    members = weak_components(count, forward)
    single = [part[0] for part in members if len(part) == 1]
    of = {vertex: i for i, part in enumerate(members) for vertex in part}
    numbers: list[list[int]] = [[] for _ in members]
    for i, line in enumerate(forward):
        if line.source != line.target:
            numbers[of[line.source]].append(i)
    places = [
        _Part(part, own, forward, width, height)
        for part, own in zip(members, numbers, strict=True)
        if len(part) > 1
    ]
    sizes = [(part.width, part.height) for part in places]
    columns = max(1, min(len(single), round(math.sqrt(len(single) * 3 * height / width) + 0.5)))
    rows = math.ceil(len(single) / columns)
    sizes += [(columns * (width + GAP) - GAP, rows * (height + GAP) - GAP)] if single else []
    corners, whole = pack(sizes, 2 * GAP)
    for part, (left, top) in zip(places, corners, strict=False):
        part.write(left, top, port, boxes, paths)
    for i, vertex in enumerate(single):
        row, column = divmod(i, columns)
        left, top = corners[-1]
        boxes[vertex] = (left + column * (width + GAP), top + row * (height + GAP))
    for i, line in enumerate(lines):
        if line.source == line.target:
            paths[i] = _loop(*boxes[line.source], width, height)
        elif forward[i] != (line.source, line.target, line.kind):
            paths[i] = _reversed(paths[i])
    return Layout(boxes, paths, *whole)


class _Part:
    """The drawing of one connected part of a graph, from its own left upper corner."""

    def __init__(
        self,
        members: list[int],
        numbers: list[int],
        forward: list[Line],
        width: float,
        height: float,
    ) -> None:
        index = {vertex: i for i, vertex in enumerate(members)}
        self.members = members
        self.numbers = numbers
        kept = [forward[i] for i in numbers]
        self.lines = [Line(index[a], index[b], kind) for a, b, kind in kept]
        self.box = (width, height)
        self.rank = rank_vertices(len(members), self.lines, _row_length(len(members)))
        self.wide = [width] * len(members)
        self.routes: list[list[int]] = []
        self.keys: list[object] = []
        self.sides: list[int | None] = []  # of the passing edges, where they share a way
        self._route()
        self.layers: list[list[int]] = [[] for _ in range(max(self.rank) + 1)]
        for vertex, rank in enumerate(self.rank):
            self.layers[rank].append(vertex)
        self._neighbours()
        self._order()
        self._place()
        self._columns()

    # -- edges as ways through the layers ------------------------------------------------

    def _route(self) -> None:
        """Give each line a place in every layer that it passes."""
        rank = self.rank
        long = [b for a, b, _ in self.lines if rank[b] - rank[a] > 1]
        crowded = len(self.lines) > MANY
        leaving: dict[tuple[int, str], int] = {}
        arriving: dict[tuple[int, str], int] = {}
        for a, b, kind in self.lines:
            if rank[b] - rank[a] > 1:
                leaving[a, kind] = leaving.get((a, kind), 0) + 1
                arriving[b, kind] = arriving.get((b, kind), 0) + 1
        lanes: dict[object, int] = {}
        for i, (a, b, kind) in enumerate(self.lines):
            out, into = leaving.get((a, kind), 0), arriving.get((b, kind), 0)
            key: object = i
            if long and max(out, into) >= (2 if crowded else BUNDLED):
                key = (0, a, kind) if out >= into else (1, b, kind)
            passed = range(rank[a] + 1, rank[b])
            if len(lanes) + len(passed) > MOST_LANES:
                passed = range(0)
            way = [self._lane(lanes, key, layer) for layer in passed]
            self.routes.append([a, *way, b])
            self.keys.append(key if passed else i)

    def _lane(self, lanes: dict[object, int], key: object, layer: int) -> int:
        vertex = lanes.get((key, layer))
        if vertex is None:
            vertex = lanes[key, layer] = len(self.rank)
            self.rank.append(layer)
            self.wide.append(0.0)
            self.sides.append(key[0] if isinstance(key, tuple) else None)
        return vertex

    def _neighbours(self) -> None:
        """Who is joined to whom in the layer above and below, and how much it should be straight."""
        count = len(self.rank)
        real = len(self.members)
        self.above: list[list[tuple[int, float]]] = [[] for _ in range(count)]
        self.below: list[list[tuple[int, float]]] = [[] for _ in range(count)]
        joined = {pair for route in self.routes for pair in pairwise(route)}
        leaving, arriving = [0] * count, [0] * count
        for a, b in joined:
            leaving[a] += 1
            arriving[b] += 1
        for a, b in sorted(joined):
            weight = (1.0, 2.0, 8.0)[(a >= real) + (b >= real)]
            if (a >= real) != (b >= real):  # a shared way keeps straight, whoever joins it
                weight /= (leaving[a] if a >= real else arriving[b]) ** 2
            self.below[a].append((b, weight))
            self.above[b].append((a, weight))

    # -- the order within a layer --------------------------------------------------------

    def _order(self) -> None:
        """Few crossings, and the order of the calls where it is as good."""
        self._set_lanes(apart=True)
        best, fewest = [list(layer) for layer in self.layers], self._crossings()
        self._set_lanes(apart=False)
        crossings = self._crossings()
        if crossings <= fewest:
            best, fewest = [list(layer) for layer in self.layers], crossings
        for turn in range(3 if len(self.rank) > MANY else 16):
            if not fewest:
                break
            down = turn % 2 == 0
            span = range(1, len(self.layers)) if down else range(len(self.layers) - 2, -1, -1)
            for i in span:
                self._sort(i, self.above if down else self.below)
            crossings = self._crossings()
            if crossings < fewest:
                best, fewest = [list(layer) for layer in self.layers], crossings
        self.layers = best

    def _set_lanes(self, *, apart: bool) -> None:
        """A passing edge begins below where it comes from; the steps stay in their order.

        `apart`: shared ways keep to the sides, those from one step left, those to one right.
        """
        real = len(self.members)
        place = [0.0] * len(self.rank)
        for layer in self.layers:
            layer.sort()
            boxes = [vertex for vertex in layer if vertex < real]
            for i, vertex in enumerate(boxes):
                place[vertex] = (i + 0.5) / len(boxes)
            for vertex in layer[len(boxes) :]:
                near = [place[n] for n, _ in self.above[vertex]]
                side = self.sides[vertex - real] if apart else None
                place[vertex] = sum(near) / len(near) if side is None else side
            layer.sort(key=place.__getitem__)

    def _sort(self, number: int, beside: list[list[tuple[int, float]]]) -> None:
        layer = self.layers[number]
        at = self._at(number - 1 if beside is self.above else number + 1)
        wanted = {}
        for i, vertex in enumerate(layer):
            near = [at[n] for n, _ in beside[vertex] if n in at]
            wanted[vertex] = sum(near) / len(near) if near else (i + 0.5) / len(layer)
        layer.sort(key=wanted.__getitem__)

    def _at(self, number: int) -> dict[int, float]:
        layer = self.layers[number] if 0 <= number < len(self.layers) else []
        return {vertex: (i + 0.5) / len(layer) for i, vertex in enumerate(layer)}

    def _crossings(self) -> int:
        crossings = 0
        for number, layer in enumerate(self.layers[:-1]):
            at = {vertex: i for i, vertex in enumerate(self.layers[number + 1])}
            seen: list[int] = []
            for vertex in layer:
                ends = sorted(at[n] for n, _ in self.below[vertex] if n in at)
                crossings += sum(len(seen) - bisect_right(seen, end) for end in ends)
                for end in ends:
                    insort(seen, end)
        return crossings

    # -- places --------------------------------------------------------------------------

    def _place(self) -> None:
        """Set each vertex near those it is joined to, as far as its neighbours leave room."""
        wide = self.wide
        self.x = [0.0] * len(self.rank)
        self.room = []
        for layer in self.layers:
            pairs = pairwise(layer)
            apart = [
                (wide[a] + wide[b]) / 2 + (GAP if wide[a] and wide[b] else LANE) for a, b in pairs
            ]
            self.room.append(apart)
            self._set(layer, apart, [0.0] * len(layer), [1.0] * len(layer))
        turns = 3 if len(self.rank) > MANY else 12
        for turn in range(turns):
            both = turn >= turns // 3
            self._pull(range(len(self.layers)), above=True, below=both)
            self._pull(range(len(self.layers) - 1, -1, -1), above=both, below=True)
        left = min(x - w / 2 for x, w in zip(self.x, wide, strict=True))
        self.x = [round(x - left, 1) for x in self.x]

    def _pull(self, numbers: range, *, above: bool, below: bool) -> None:
        for number in numbers:
            layer = self.layers[number]
            wanted, weights = [], []
            for vertex in layer:
                near = (self.above[vertex] if above else []) + (self.below[vertex] if below else [])
                weight = sum(w for _, w in near)
                place = sum(self.x[n] * w for n, w in near) / weight if near else self.x[vertex]
                wanted.append(place)
                weights.append(weight or 0.01)
            self._set(layer, self.room[number], wanted, weights)

    def _set(
        self, layer: list[int], apart: list[float], wanted: list[float], weights: list[float]
    ) -> None:
        for vertex, place in zip(layer, spread(wanted, weights, apart), strict=True):
            self.x[vertex] = place

    # -- columns -------------------------------------------------------------------------

    def _columns(self) -> None:
        """Cut what is tall and thin where few edges pass, and set the pieces side by side."""
        height = self.box[1]
        rises = [self._rise(i) for i in range(len(self.layers) - 1)]
        total = height * len(self.layers) + sum(rises)
        wide = max(x + w / 2 for x, w in zip(self.x, self.wide, strict=True))
        wanted = math.sqrt(1.5 * total / (wide + 3 * GAP)) if total > TALL else 1.0
        cuts = self._cuts(round(wanted))
        self.top: list[float] = []
        self.left: list[float] = []
        left = y = lowest = 0.0
        for number in range(len(self.layers)):
            if number in cuts:
                left, y = left + wide + 3 * GAP, 0.0
            self.top.append(y)
            self.left.append(left)
            lowest = max(lowest, y + height)
            y += height + (rises[number] if number < len(rises) else 0.0)
        margin = RISE if cuts else 0.0  # where edges turn from a column to the next
        self.top = [top + margin for top in self.top]
        self.width, self.height = left + wide, lowest + 2 * margin

    def _rise(self, number: int) -> float:
        """More room for edges that go far to the side."""
        far = [abs(self.x[v] - self.x[n]) for v in self.layers[number] for n, _ in self.below[v]]
        return RISE + round(min(60.0, max(far, default=0.0) / 16))

    def _cuts(self, columns: int) -> set[int]:
        """The layers that begin a column."""
        count = len(self.layers)
        passing = [len({n for v in layer for n, _ in self.below[v]}) for layer in self.layers]
        cuts = set()
        for i in range(1, columns):
            middle, play = i * count // columns, count // columns // 4
            near = range(max(1, middle - play), min(count - 1, middle + play) + 1)
            cut = min(near, key=lambda n: (passing[n - 1], abs(n - middle)), default=0)
            if cut and passing[cut - 1] <= 4:
                cuts.add(cut)
        return cuts

    # -- the ways of the edges -----------------------------------------------------------

    def write(
        self,
        left: float,
        top: float,
        port: float,
        boxes: list[tuple[float, float]],
        paths: list[Path],
    ) -> None:
        """Enter boxes and paths where they belong in the whole."""
        self.left = [x + left for x in self.left]
        self.top = [y + top for y in self.top]
        for vertex, member in enumerate(self.members):
            boxes[member] = (self._x(vertex) - self.box[0] / 2, self.top[self.rank[vertex]])
        leaving, arriving = self._ports(0, 1, port), self._ports(-1, -2, port)
        for i, number in enumerate(self.numbers):
            route, key = self.routes[i], self.keys[i]
            ends = [self._x(vertex) for vertex in route]
            ends[0] += leaving[route[0], key]
            ends[-1] += arriving[route[-1], key]
            paths[number] = self._path(route, ends)

    def _x(self, vertex: int) -> float:
        return self.x[vertex] + self.left[self.rank[vertex]]

    def _ports(self, end: int, then: int, port: float) -> dict[tuple[int, object], float]:
        """How far from the middle of its box each edge begins or ends."""
        found: dict[int, dict[object, tuple[float, int]]] = {}
        for i, (route, key) in enumerate(zip(self.routes, self.keys, strict=True)):
            found.setdefault(route[end], {}).setdefault(key, (self._x(route[then]), i))
        ports = {}
        for vertex, keys in found.items():
            step = min(port, 0.6 * self.box[0] / max(1, len(keys) - 1))
            first = -step * (len(keys) - 1) / 2
            for i, key in enumerate(sorted(keys, key=keys.__getitem__)):
                ports[vertex, key] = first + i * step
        return ports

    def _path(self, route: list[int], xs: list[float]) -> Path:
        height = self.box[1]
        tops = [self.top[self.rank[vertex]] for vertex in route]
        path: Path = [(xs[0], tops[0] + height)]
        for i in range(1, len(route)):
            a, b = (xs[i - 1], tops[i - 1] + height), (xs[i], tops[i])
            before, after = self.rank[route[i - 1]], self.rank[route[i]]
            if self.left[before] == self.left[after]:
                path += _bend(a, b)
            else:
                path += self._turn(a, b, before)
            if i < len(route) - 1:
                path.append((xs[i], tops[i] + height))
        return _straightened(path)

    def _turn(self, a: tuple[float, float], b: tuple[float, float], before: int) -> Path:
        """Round the foot of a column and over the head of the next."""
        edge = next(left for left in self.left[before:] if left != self.left[before])
        gutter = edge - 1.5 * GAP + 4.0 * (before % 3)
        foot = max(
            top for top, left in zip(self.top, self.left, strict=True) if left == self.left[before]
        )
        foot += self.box[1]
        head = min(self.top)
        far = RISE * 1.2
        path: Path = [] if foot == a[1] else [(a[0], foot)]
        path.append((a[0], foot + far, gutter, foot + far, gutter, foot))
        path.append((gutter, head))
        path.append((gutter, head - far, b[0], head - far, b[0], head))
        return path if head == b[1] else [*path, b]


def _row_length(count: int) -> int:
    return max(WIDEST_ROW, math.ceil(1.25 * math.sqrt(count)))


def _bend(a: tuple[float, float], b: tuple[float, float]) -> Path:
    if abs(a[0] - b[0]) < 0.5:
        return [b]
    middle = (a[1] + b[1]) / 2
    return [(a[0], middle, b[0], middle, *b)]


def _straightened(path: Path) -> Path:
    """One line in place of several that go straight on."""
    kept = path[:1]
    start = path[0][-2]  # where the present line began
    for segment in path[1:]:
        straight = len(segment) == 2 and abs(segment[0] - start) < 0.5
        if straight and len(kept) > 1 and len(kept[-1]) == 2:
            kept[-1] = segment
        else:
            start = kept[-1][-2]
            kept.append(segment)
    return kept


def _loop(left: float, top: float, width: float, height: float) -> Path:
    """From a box to itself, at its right side."""
    right, far = left + width, left + width + 0.9 * GAP
    low, high = top + 0.7 * height, top + 0.3 * height
    return [(right, low), (far, low, far, high, right, high)]


def _reversed(path: Path) -> Path:
    """The same way from its end to its beginning."""
    turned: Path = [path[-1][-2:]]
    for i in range(len(path) - 1, 0, -1):
        segment, end = path[i], path[i - 1][-2:]
        curve = len(segment) == 6
        turned.append((*segment[2:4], *segment[0:2], *end) if curve else end)
    return turned

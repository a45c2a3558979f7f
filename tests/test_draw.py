"""Pictures of graphs, judged by what a reader of the SVG, the Mermaid text or the tree would see."""

import itertools
import os
import random
import re
import subprocess
import sys
import time
import unicodedata
import xml.etree.ElementTree as ET
from io import StringIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipedeco.draw import Drawing, Edge, Node
from pipedeco.draw.text import STATES as KNOWN
from pipedeco.errors import GraphError
from pipedeco.text import shortened

SVG = "{http://www.w3.org/2000/svg}"
STATES = [s for s in KNOWN if s]
HOSTILE = ["\0", "\ud800", "]]>", "<script>", "&amp;", '"', "'", "\u202eevil", "a\nb", "end", "`x`"]
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


class Picture:
    """What stands in an SVG: boxes as (left, top, right, bottom), edges as lists of points."""

    def __init__(self, text):
        self.root = ET.fromstring(text.encode("utf-8"))
        self.boxes, self.names, self.notes = [], [], []
        for group in self.root.iter(f"{SVG}g"):
            rect = group.find(f"{SVG}rect")
            if rect is None:
                continue
            x, y = map(float, NUMBER.findall(group.get("transform")))
            self.boxes.append((x, y, x + float(rect.get("width")), y + float(rect.get("height"))))
            self.names.append(group.find(f"{SVG}text").text)
            self.notes.append(group.find(f"{SVG}title").text)
        groups = [g for g in self.root.iter(f"{SVG}g") if g.get("data-kind")]
        self.edges = [
            (int(g.get("data-from")), int(g.get("data-to")), g.get("data-kind")) for g in groups
        ]
        self.paths = [points(g.find(f"{SVG}path").get("d")) for g in groups]
        self.styles = {g.find(f"{SVG}path").get("class") for g in groups}
        self.size = (float(self.root.get("width")), float(self.root.get("height")))


def points(data):
    """The points of a path, curves cut into short lines."""
    found = []
    for letter, rest in re.findall(r"([MLC])([^MLC]*)", data):
        numbers = list(map(float, NUMBER.findall(rest)))
        pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
        if letter != "C":
            found += pairs
            continue
        (a, b), (c, d, e) = found[-1], pairs
        for t in (i / 12 for i in range(1, 13)):
            u = 1 - t
            w = (u**3, 3 * u * u * t, 3 * u * t * t, t**3)
            found.append(
                tuple(
                    sum(k * p[i] for k, p in zip(w, ((a, b), c, d, e), strict=True)) for i in (0, 1)
                )
            )
    return found


def graph(pairs, kind="data", state="completed"):
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    return Drawing([Node(n, n, state, 1.0) for n in names], [Edge(a, b, kind) for a, b in pairs])


def fan(count):
    return graph([("load", f"work-{i}") for i in range(count)])


@st.composite
def drawings(draw, names=None, acyclic=True):
    names = st.integers(0, 10**6).map(str) if names is None else names
    nodes = [
        Node(
            name,
            draw(st.sampled_from(["fit", "score", name])),
            draw(st.sampled_from(["", *STATES])),
            stage=draw(st.sampled_from([None, None, "train", name])),
        )
        for name in draw(st.lists(names, max_size=24, unique=True))
    ]
    edges = []
    if nodes:
        index = st.integers(0, len(nodes) - 1)
        kinds = st.sampled_from(["data", "data", "order", "control"])
        for a, b, kind in draw(st.lists(st.tuples(index, index, kinds), max_size=50)):
            if acyclic and a == b:
                continue
            low, high = (min(a, b), max(a, b)) if acyclic else (a, b)
            edges.append(Edge(nodes[low].name, nodes[high].name, kind))
    return Drawing(nodes, edges)


any_text = st.one_of(st.text(st.characters(), max_size=30), st.sampled_from(HOSTILE))


@given(drawings(names=any_text, acyclic=False), any_text, st.sampled_from([None, True, False]))
@settings(max_examples=150, deadline=None)
def test_any_name_makes_a_whole_document(drawing, title, group):
    """Whatever stands in names and titles, the SVG is well-formed and hides nothing."""
    text = Drawing(drawing.nodes, drawing.edges, title).svg(group=group)
    root = Picture(text).root
    assert root.get("role") == "img"
    assert root.find(f"{SVG}title").text
    assert all(c == "\n" or c.isprintable() for c in text)
    assert not [
        e for e in root.iter() if e.tag.removeprefix(SVG) in {"script", "image", "use", "a"}
    ]
    assert not re.search(r"url\(|@import|href", ET.tostring(root[1], "unicode"))


@given(drawings(acyclic=False))
@settings(max_examples=150, deadline=None)
def test_every_step_and_every_edge_is_drawn_once(drawing):
    """Nothing is left out, cycles and edges to oneself included, and no two boxes overlap."""
    picture = Picture(drawing.svg(group=False))
    index = {node.name: i for i, node in enumerate(drawing.nodes)}
    assert [note.split("\n")[0] for note in picture.notes] == [n.name for n in drawing.nodes]
    wanted = {(index[e.source], index[e.target], e.kind) for e in drawing.edges}
    assert sorted(picture.edges) == sorted(wanted)
    for a, b in itertools.combinations(picture.boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


@given(drawings(acyclic=False))
@settings(max_examples=150, deadline=None)
def test_edges_end_at_their_boxes_and_pass_between_the_others(drawing):
    """An edge touches the border of its two boxes and runs through none."""
    assert_edges_are_clear(Picture(drawing.svg(group=False)))


@pytest.mark.parametrize("number", range(5))
def test_edges_are_clear_in_rows_and_columns(number):
    """Also where edges share a way, and where they go from a column to the next."""
    join = [("load", f"work-{i}") for i in range(60)] + [(f"work-{i}", "end") for i in range(60)]
    drawing = [*shapes(100), graph(join)][number]
    assert_edges_are_clear(Picture(drawing.svg(group=False)))


def assert_edges_are_clear(picture):
    for (source, target, _), path in zip(picture.edges, picture.paths, strict=True):
        assert on_border(path[0], picture.boxes[source])
        assert on_border(path[-1], picture.boxes[target])
        for box in picture.boxes:
            assert not any(enters(a, b, box) for a, b in itertools.pairwise(path))


def enters(a, b, box):
    """Whether the line from a to b runs through the inside of a box."""
    low, high = 0.0, 1.0
    for i in (0, 1):
        first, last, way = box[i] + 1, box[i + 2] - 1, b[i] - a[i]
        if abs(way) < 1e-9:
            if not first < a[i] < last:
                return False
            continue
        near, far = sorted(((first - a[i]) / way, (last - a[i]) / way))
        low, high = max(low, near), min(high, far)
    return low < high


def on_border(point, box):
    x, y = point
    inside = box[0] - 1 <= x <= box[2] + 1 and box[1] - 1 <= y <= box[3] + 1
    return inside and min(abs(x - box[0]), abs(x - box[2]), abs(y - box[1]), abs(y - box[3])) < 1


@given(drawings())
@settings(max_examples=100, deadline=None)
def test_edges_go_down(drawing):
    """Without cycles each edge leads to a lower row."""
    picture = Picture(drawing.svg(group=False))
    for source, target, _ in picture.edges:
        assert picture.boxes[source][3] < picture.boxes[target][1]


def test_a_cycle_of_other_kinds_turns_no_data_edge():
    """What is drawn upwards to break a cycle is an edge that carries no data."""
    nodes = [Node(n, n) for n in "cab"]
    edges = [Edge("b", "c", "control"), Edge("c", "a", "control")]
    edges += [Edge("a", "b", "data"), Edge("a", "c", "data"), Edge("c", "b", "data")]
    picture = Picture(Drawing(nodes, edges).svg())
    for source, target, kind in picture.edges:
        if kind == "data":
            assert picture.boxes[source][3] < picture.boxes[target][1]


def test_kinds_of_edges_differ_and_are_explained():
    """Three kinds, three looks, one legend."""
    edges = [Edge("a", "b", kind) for kind in ("data", "order", "control")]
    drawing = Drawing([Node("a", "a"), Node("b", "b")], edges)
    picture = Picture(drawing.svg())
    assert picture.styles == {"edge data", "edge order", "edge control"}
    assert len({path[0] for path in picture.paths}) == 3
    text = drawing.svg()
    assert ".order{stroke-dasharray" in text
    assert ".control{stroke-dasharray" in text
    assert "runs after" in text
    assert "runs after" not in graph([("a", "b")]).svg()


@pytest.mark.parametrize("state", STATES)
def test_a_state_is_told_in_words_and_by_a_sign(state):
    """Colour is never the only difference."""
    root = Picture(Drawing([Node("a", "a", state, 0.34)], []).svg()).root
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert words == ["a", f"340 ms · {state}"]
    signs = {
        s: Drawing([Node("a", "a", s)], []).svg().split('class="sign" d="')[1].split('"')[0]
        for s in STATES
    }
    assert list(signs.values()).count(signs[state]) == 1


def test_a_state_of_a_newer_version_is_shown_as_it_is():
    """An unknown state is words, not an error and not a class."""
    text = Drawing([Node("a", "a", "<paused>")], []).svg()
    assert "&lt;paused&gt;" in text
    assert 'class="box pending"' in text


def test_dark_pages_get_dark_pictures():
    """The document follows the scheme of the page that it stands in."""
    text = fan(3).svg()
    assert "prefers-color-scheme:dark" in text


def test_an_empty_graph_says_so():
    """Nothing to draw is a picture, too."""
    drawing = Drawing([], [])
    assert [t.text for t in Picture(drawing.svg()).root.iter(f"{SVG}text")] == ["no steps"]
    assert "no steps" in drawing.mermaid()
    assert "no steps" in printed(drawing)


def test_a_long_name_is_short_in_the_box_and_whole_in_the_tooltip():
    """The end of a name is kept, for it tells steps apart."""
    name = "load_the_raw_adult_census_table_from_disk-118"
    picture = Picture(Drawing([Node(name, "load", "completed")], []).svg())
    (shown,) = picture.names
    assert len(shown) < 30
    assert shown.endswith("-118")
    assert picture.notes[0].startswith(name)


def test_a_drawing_does_not_change_and_refuses_what_cannot_be_drawn():
    """Mistakes are told when it is made."""
    drawing = Drawing([Node("a", "a")], [])
    with pytest.raises(AttributeError):
        drawing.title = "other"
    with pytest.raises(GraphError, match="same name"):
        Drawing([Node("a", "a"), Node("a", "b")], [])
    with pytest.raises(GraphError, match="'b'"):
        Drawing([Node("a", "a")], [Edge("a", "b", "data")])
    with pytest.raises(GraphError, match="magic"):
        Drawing([Node("a", "a")], [Edge("a", "a", "magic")])


# -- shape


@pytest.mark.parametrize("count", [20, 50, 120])
def test_a_wide_fan_is_set_in_rows(count):
    """A page can show it: at most three times as wide as high."""
    width, height = Picture(fan(count).svg(group=False)).size
    assert width < 3 * height


@pytest.mark.parametrize("count", [40, 400])
def test_a_long_chain_is_set_in_columns(count):
    """A page can show it: no thread of one box after another."""
    drawing = graph([(f"a{i}", f"a{i + 1}") for i in range(count)])
    width, height = Picture(drawing.svg(group=False)).size
    assert 1 / 3 < width / height < 3


def test_a_chain_of_twelve_is_one_column():
    """Short enough to be read from top to bottom."""
    picture = Picture(graph([(f"a{i}", f"a{i + 1}") for i in range(11)]).svg())
    assert len({box[0] for box in picture.boxes}) == 1


def test_steps_keep_their_order_where_it_costs_no_crossing():
    """fit-1 stands left of fit-2."""
    pairs = [("split", f"fit-{i}") for i in range(6)]
    pairs += [(f"fit-{i}", f"score-{i}") for i in range(6)] + [
        ("split", f"score-{i}") for i in range(6)
    ]
    picture = Picture(graph(pairs).svg())
    left = dict(zip(picture.names, picture.boxes, strict=True))
    for what in ("fit", "score"):
        places = [left[f"{what}-{i}"][0] for i in range(6)]
        assert places == sorted(places)


def test_parts_without_an_edge_between_them_share_the_sheet():
    """Many small parts are packed, not strung out."""
    pairs = [(f"a{i}", f"b{i}") for i in range(25)]
    drawing = Drawing(
        [*graph(pairs).nodes, *(Node(f"c{i}", "c") for i in range(30))], graph(pairs).edges
    )
    width, height = Picture(drawing.svg(group=False)).size
    assert 1 / 3 < width / height < 3


# -- groups


def search(count, failed=()):
    """load -> fit -> score, many times; the next fit is called after a score was read."""
    nodes = [Node("load", "load", "completed", 3.0)]
    edges = []
    for i in range(count):
        bad = i in failed
        nodes.append(Node(f"fit-{i}", "fit", "failed" if bad else "completed", 2.0))
        nodes.append(Node(f"score-{i}", "score", "skipped" if bad else "cached", None))
        edges += [Edge("load", f"fit-{i}", "data"), Edge(f"fit-{i}", f"score-{i}", "data")]
        edges += [Edge(f"score-{i - 1}", f"fit-{i}", "control")] if i else []
    return Drawing(nodes, edges)


def test_more_than_sixty_steps_are_grouped():
    """Unless the caller says otherwise."""
    sixty = Drawing([Node(f"a{i}", "a") for i in range(60)], [])
    more = Drawing([Node(f"a{i}", "a") for i in range(61)], [])
    assert len(Picture(sixty.svg()).boxes) == 60
    assert len(Picture(sixty.svg(group=True)).boxes) == 1
    assert len(Picture(more.svg()).boxes) == 1
    assert len(Picture(more.svg(group=False)).boxes) == 61


def test_a_group_counts_its_steps_and_shows_the_worst():
    """How many, how they ended, how long it took; edges are counted, a cycle is drawn."""
    picture = Picture(search(120, failed=(3, 7)).svg())
    assert picture.names == ["load", "fit \u00d7 120", "score \u00d7 120"]
    assert picture.notes[1].split("\n")[1:] == [
        "118 completed, 2 failed",
        "4 min 00 s, longest 2 s",
    ]
    assert sorted(picture.edges) == [(0, 1, "data"), (1, 2, "data"), (2, 1, "control")]
    classes = [
        g.get("class") for g in picture.root.iter(f"{SVG}g") if g.find(f"{SVG}rect") is not None
    ]
    assert classes == ["box completed", "box failed", "box skipped"]
    counts = [t.text for t in picture.root.iter(f"{SVG}text") if t.get("class") == "count"]
    assert counts == ["\u00d7120", "\u00d7120", "\u00d7119"]


def test_a_stage_is_one_box_with_its_components():
    """In the place of one a component; steps without a stage are grouped as they are without any."""
    nodes = [Node(f"a{i}", "abcde"[i % 5], stage="train" if i < 15 else None) for i in range(30)]
    nodes.append(Node("last", "last", stage="train-2"))
    picture = Picture(Drawing(nodes, []).svg(group=True))
    assert picture.names[0] == "train \u00d7 15"
    assert picture.notes[0].split("\n")[1:] == ["by a, b, c and 2 more"]
    assert picture.names[1:] == [*(f"{c} \u00d7 3" for c in "abcde"), "last"]


def test_one_component_in_two_stages_is_two_boxes():
    """And a stage that is named like a component is not that."""
    nodes = [Node(f"a{i}", "a", stage="train" if i % 2 else "test") for i in range(8)]
    nodes += [Node(f"b{i}", "train") for i in range(2)]
    picture = Picture(Drawing(nodes, []).svg(group=True))
    assert picture.names == ["test \u00d7 4", "train \u00d7 4", "train \u00d7 2"]


def test_steps_of_a_stage_say_so():
    """In the second line of their boxes, behind their names in a tree, in a frame in Mermaid."""
    nodes = [Node("load", "load"), Node("fit", "fit", "failed", 0.34, "train\n]")]
    nodes += [Node("score", "score", "completed", stage="end")]
    drawing = Drawing(nodes, [Edge("load", "fit", "data")])
    root = Picture(drawing.svg()).root
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert words[:3] == ["load", "fit", "stage train\\n]"]
    assert "340 ms · failed" in words
    assert printed(drawing).splitlines()[2:] == [
        "│   └── ✗ fit  stage train\\n] · 340 ms · failed",
        "└── ✓ score  stage end · completed",
    ]
    assert drawing.mermaid().splitlines()[1:9] == [
        '    n0["load"]',
        '    subgraph s0["train#92;#8203;n#93;"]',
        '        n1["fit<br/>340 ms · failed"]:::failed',
        "    end",
        '    subgraph s1["end"]',
        '        n2["score<br/>completed"]:::completed',
        "    end",
        "    n0 --> n1",
    ]


def test_a_component_that_feeds_itself_is_drawn_with_a_loop():
    """A chain of one component is one box and its count."""
    drawing = graph([(f"a{i}", f"a{i + 1}") for i in range(99)])
    nodes = [node._replace(component="step") for node in drawing.nodes]
    picture = Picture(Drawing(nodes, drawing.edges).svg())
    assert picture.edges == [(0, 0, "data")]
    assert max(x for x, _ in picture.paths[0]) > picture.boxes[0][2]


# -- the same input, the same bytes


def test_two_processes_draw_the_same_bytes():
    """Whatever the seed of hashes."""
    code = (
        "import sys; sys.path.insert(0, 'tests'); from test_draw import *\n"
        "d = search(40); print(d.svg(group=False), d.svg(), d.mermaid(), printed(d))"
    )
    found = set()
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"}
        folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, cwd=folder, capture_output=True, check=True
        )
        found.add(done.stdout)
    assert len(found) == 1


def test_the_import_is_cheap():
    """Who only makes a Drawing loads nothing heavy."""
    code = (
        "import sys; before = set(sys.modules); import pipedeco.draw\n"
        "heavy = {'rich', 'inspect', 'dataclasses', 'math', 'unicodedata'} - before\n"
        "print(heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def shapes(count):
    side = round(count**0.5)
    dice = random.Random(1)
    yield fan(count)
    yield graph([(f"a{i}", f"a{i + 1}") for i in range(count)])
    yield graph(
        [
            (f"a{t}.{i}", f"a{t + 1}.{j}")
            for t in range(side)
            for i in range(side)
            for j in (i - 1, i, i + 1)
            if 0 <= j < side
        ]
    )
    yield graph(
        [(f"a{dice.randrange(max(0, i - 50), i)}", f"a{i}") for i in range(1, count) for _ in "12"]
    )


def seconds(drawing):
    start = time.process_time()
    drawing.svg(group=False)
    return time.process_time() - start


def test_ten_times_the_steps_cost_about_ten_times_the_work():
    """No shape of graph makes the layout explode."""
    small = [min(seconds(drawing) for _ in range(3)) for drawing in shapes(500)]
    large = [seconds(drawing) for drawing in shapes(5_000)]
    assert all(b < 28 * a for a, b in zip(small, large, strict=True)), (small, large)


# -- Mermaid


def test_mermaid_tells_the_same():
    """Boxes, edges, kinds and counts."""
    text = search(120, failed=(3,)).mermaid()
    assert text.startswith("flowchart TD\n")
    assert 'n1["fit \u00d7 120<br/>119 completed, 1 failed' in text
    assert 'n0 -->|"\u00d7120"| n1' in text
    assert 'n2 -.->|"\u00d7119"| n1' in text
    assert "linkStyle 2 stroke-dasharray" in text
    assert ":::failed" in text


@given(drawings(names=any_text, acyclic=False), any_text)
@settings(max_examples=100, deadline=None)
def test_mermaid_text_holds_no_foreign_syntax(drawing, title):
    """Foreign text stands in quotes, and there no character means anything."""
    text = Drawing(drawing.nodes, drawing.edges, title).mermaid()
    body = text.split("flowchart TD\n", 1)[1]
    line = r' {4}(subgraph s\d+\["[^"\n`<>\[\]{}|\\&]*"\]|end| {0,4}n\d+\["[^"\n`<>\[\]{}|\\&]*"\](:::\w+)?|n\d+ -[.-]+>(\|"\u00d7\d+"\|)? n\d+|linkStyle .*|classDef .*)'
    for row in body.splitlines():
        assert re.fullmatch(line.replace("<>", ""), row.replace("<br/>", "")) or "no steps" in row


# -- the terminal


def printed(drawing, width=80):
    from rich.console import Console

    console = Console(record=True, width=width, file=StringIO(), force_terminal=False)
    console.print(drawing.tree())
    return console.export_text()


def test_a_step_stands_below_the_last_that_it_needs():
    """What else it needs is named beside it."""
    nodes = [Node("load", "load", "completed", 1.2), Node("fit", "fit", "failed", 0.34)]
    nodes += [Node("score", "score", "skipped")]
    edges = [
        Edge("load", "fit", "data"),
        Edge("fit", "score", "data"),
        Edge("load", "score", "data"),
    ]
    assert printed(Drawing(nodes, edges, "training#3")) == (
        "training#3  3 steps\n"
        "└── ✓ load  1.2 s · completed\n"
        "    └── ✗ fit  340 ms · failed\n"
        "        └── » score  skipped  (needs load)\n"
    )


def test_a_big_tree_is_grouped_or_cut():
    """What is not shown is counted."""
    big = Drawing([Node(f"a{i}", f"a{i}") for i in range(10_000)], [])
    assert printed(big).splitlines()[-1] == "└── ... and 9,940 more"
    assert printed(search(120, (3,))).splitlines() == [
        "pipeline  241 steps",
        "└── ✓ load  3 s · completed",
        "    └── ✗ fit \u00d7 120  119 completed, 1 failed · 4 min 00 s, longest 2 s",
        "        └── » score \u00d7 120  119 cached, 1 skipped",
    ]


@given(drawings(names=any_text, acyclic=False))
@settings(max_examples=100, deadline=None)
def test_a_tree_shows_every_step_and_moves_no_cursor(drawing):
    """Cycles end, control characters and markup are text."""
    text = printed(drawing, width=400)
    assert all(c == "\n" or unicodedata.category(c)[0] != "C" for c in text)
    assert len(text.splitlines()) == 1 + len(drawing.nodes)


def test_a_deep_chain_stays_on_the_screen():
    """From some depth on, steps stand below one another."""
    rows = printed(graph([(f"a{i}", f"a{i + 1}") for i in range(50)])).splitlines()
    assert len(rows) == 52
    assert "a50" in rows[-1]


# -- words


@given(st.text(), st.integers(4, 40))
def test_shortened_text_fits(text, room):
    """And what fits is left alone."""
    short = shortened(text, room)
    assert short == text or "…" in short
    assert len(short) <= len(text) + 1

"""What the command line tells of metrics, artifacts, tags and stages, and how it compares runs."""

import csv
import io
import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import wait_for, wait_until
from terminal import Terminal
from test_cli import COMMAND, CONTROLS, call, refused, shown

import pipedeco
from pipedeco import (
    ConfigError,
    StoreError,
    add_tags,
    component,
    current_run,
    get_run,
    log_artifact,
    log_figure,
    log_metric,
    log_model,
    log_param,
    log_table,
    log_text,
    pipeline,
    set_progress,
    value,
)
from pipedeco import artifacts as kept
from pipedeco.blobs import BlobStore
from pipedeco.cli.artifacts import safe_name
from pipedeco.cli.criteria import parse_metrics, parse_params
from pipedeco.comparison import compare_runs
from pipedeco.serialization import Pickler, plain_value
from pipedeco.text import short_number, sparkline

SVG = b"<svg xmlns='http://www.w3.org/2000/svg'/>"
LARGE = bytes(range(256)) * 1000


class Net:
    """An object whose class a command cannot import."""


@component(stage="train", tags=["heavy"], monitor_metrics=["loss"], monitor_models=["net"])
def fit(n, folder):
    for i in range(30):
        log_metric("loss", n / (i + 1), i)
    log_metric("acc/val", math.nan)
    log_metric("acc/val", 0.5 + n / 10, 7)
    log_model("net", {"w": n}, framework="own")
    log_artifact("bytes", LARGE[:10])
    log_artifact("net.obj", Net())
    log_artifact("data", os.path.join(folder, "data.csv"))
    log_artifact("folder", folder)
    log_text("shared", f"of fit {n}")
    return n


@component(stage="prepare")
def load(n):
    log_text("shared", f"of load {n}")
    return n


@pipeline
def inner(n, folder):
    return fit(load(n), folder)


@pipeline(tags=["nightly"])
def training(n: int, folder: str, kind: str = "a"):
    log_param("seed", 7)
    current_run().log_metric("score", n / 10)
    if n == 2:
        add_tags("two")
    log_figure("plot", SVG)
    log_table("rows", [{"a": 1, "b": "x,y"}, {"a": None, "b": "\u2603"}])
    return value(fit(load(n), folder)), inner(n, folder)


@component
def told():
    log_metric("here", 1)


@pipeline
def steps_only():
    value(told())
    value(told())


@pipeline
def silent():
    return 1


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two runs with child runs, one whose steps alone reported, and one that reported nothing."""
    base = tmp_path_factory.mktemp("reports")
    folder = base / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "data.csv").write_text("x,y\n1,2\n")
    (folder / "sub" / "deep.txt").write_text("deep")
    pipedeco.configure(mode="debug", store=str(base / "store"))
    silent()
    steps_only()
    for n in (1, 2):
        training(n, str(folder))
    yield base / "store"
    pipedeco.configure(mode=None, store=None)


@pytest.fixture(autouse=True)
def default_store(store, monkeypatch):
    monkeypatch.setenv("PIPEDECO_STORE", str(store))


def lines(capsys, *arguments):
    return [line.split() for line in shown(capsys, *arguments).splitlines()]


# -- metrics ---------------------------------------------------------------------------------


def test_metrics_of_a_run_are_a_line_each(capsys):
    """First, last, least and greatest; what steps mirror has its source."""
    assert lines(capsys, "metrics", "training#2") == [
        ["metric", "source", "points", "first", "last", "least", "greatest"],
        ["score", "1", "0.2", "0.2", "0.2", "0.2"],
        ["loss", "fit", "30", "2", "0.0666667", "0.0666667", "2"],
    ]


def test_metrics_of_a_step(capsys):
    """Its own; NaN is neither the least nor the greatest."""
    assert lines(capsys, "metrics", "training#2", "fit", "--name", "acc/val")[1:] == [
        ["acc/val", "fit", "2", "nan", "0.7", "0.7", "0.7"]
    ]
    assert len(lines(capsys, "metrics", "training#2", "fit", "--name", "loss", "--all")) == 31
    found = lines(capsys, "metrics", "training#2", "fit", "--points", "--name", "acc*")
    assert [row[:2] for row in found[1:]] == [["acc/val", "nan"], ["acc/val", "0.7"]]
    assert found[2][2] == "7"


def test_the_last_points(capsys):
    """One a metric, in each form."""
    (_, score, loss) = lines(capsys, "metrics", "--last", "training#1")
    assert (score[:2], loss[:3]) == (["score", "0.1"], ["loss", "0.0333333", "29"])
    found = json.loads(shown(capsys, "metrics", "training#1", "--last", "--json"))
    assert [(point["name"], point["step"]) for point in found] == [("score", None), ("loss", 29)]


def test_points_as_json_and_csv(capsys):
    """The columns of Run.metrics; numbers that JSON does not have are texts."""
    found = json.loads(shown(capsys, "metrics", "training#2", "fit", "--json"))
    for point in found:
        point["value"] = float(point["value"])
    assert repr(found) == repr(
        [{**p, "value": float(p["value"])} for p in get_run("training#2").steps["fit"].points]
    )
    text = shown(capsys, "metrics", "training#2", "fit", "--csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == ["name", "value", "step", "time", "source"]
    assert [float(row["value"]) for row in rows][:30] == [2 / (i + 1) for i in range(30)]
    assert (rows[30]["value"], rows[30]["step"]) == ("nan", "")
    assert json.loads(shown(capsys, "metrics", "silent#1", "--json")) == []
    assert shown(capsys, "metrics", "silent#1", "--csv") == "name,value,step,time,source\n"


def test_where_metrics_are_is_told(capsys):
    """A run without metrics of its own names the steps that have some, and what to type."""
    run = get_run("steps_only#1").id
    assert shown(capsys, "metrics", "steps_only#1") == (
        f"run {run} has no metrics of its own; its steps told, told-2 have: "
        f"pipedeco metrics {run} STEP\n"
    )
    assert shown(capsys, "metrics", "silent#1").endswith("has no metrics of its own\n")
    child = get_run("training#2").steps["inner"].child_run
    assert shown(capsys, "metrics", "training#2", "inner").endswith(
        f"has reported no metrics; it is run {child}: pipedeco metrics {child}\n"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["training#1", "nothing"], "there is no step 'nothing'"),
        (["training#1", "--name", "lost"], "there is no metric 'lost'; there are: score, loss"),
        (["training#1", "--json", "--csv"], "as --json or as --csv"),
        (["training#1", "--last", "--all"], "contradict"),
        (["nonsense"], "there is no run 'nonsense'"),
    ],
)
def test_mistakes_with_metrics(capsys, arguments, says):
    assert says in refused(capsys, "metrics", *arguments)


def test_a_terminal_shows_curves(store):
    """Bars of at most 24 cells; elsewhere there are none."""
    screen = Terminal(COMMAND, "metrics", "training#2", env={"PIPEDECO_STORE": str(store)})
    assert screen.wait() == 0
    assert "█▄" in screen.text
    assert "█" not in call("metrics", "training#2")[0]


# -- artifacts -------------------------------------------------------------------------------


def test_everything_that_was_kept_is_listed(capsys):
    """The run's own first, then the steps'; who reported it, what it is, how large, how it looks."""
    rows = shown(capsys, "artifacts", "training#2").splitlines()
    assert rows[0].split() == ["name", "kind", "source", "type", "size", "preview"]
    found = [row.split() for row in rows[1:]]
    assert [row[:2] for row in found] == [
        ["net", "model"], ["plot", "figure"], ["rows", "table"],
        ["shared", "text"],
        ["bytes", "artifact"], ["net.obj", "artifact"], ["data", "artifact"],
        ["folder", "artifact"], ["net", "model"], ["shared", "text"],
    ]  # fmt: skip
    assert "run, by fit" in rows[1]
    assert "own object" in rows[1]
    assert "image/svg+xml" in rows[2]
    assert "41 bytes" in rows[2]
    assert rows[3].endswith("2 rows: a, b")
    assert rows[4].split() == ["shared", "text", "load", "9", "bytes", "of", "load", "2"]
    assert rows[8].endswith("folder, 2 files")


def test_the_list_as_json(capsys):
    """What each thing tells of itself, and which step has it."""
    found = json.loads(shown(capsys, "artifacts", "training#2", "--json"))
    assert [(one["name"], one["of"], one["source"]) for one in found[:4]] == [
        ("net", None, "fit"), ("plot", None, None), ("rows", None, None),
        ("shared", "load", "load"),
    ]  # fmt: skip
    (text,) = json.loads(shown(capsys, "artifacts", "training#2", "load", "--json"))
    assert (text["kind"], text["size"], text["preview"]) == ("text", 9, "of load 2")
    found = json.loads(shown(capsys, "artifacts", "training#2", "--kind", "model", "--json"))
    assert [one["of"] for one in found] == [None, "fit"]
    assert "has no artifacts" in shown(capsys, "artifacts", "silent#1")
    assert "has no tables" in shown(capsys, "artifacts", "training#2", "load", "--kind", "table")


@pytest.mark.parametrize(
    ("arguments", "file", "content"),
    [
        (["plot"], "plot.svg", SVG),
        (["rows"], "rows.csv", 'a,b\n1,"x,y"\n,\u2603\n'.encode()),
        (["bytes"], "bytes.bin", LARGE[:10]),
        (["data"], "data.csv", b"x,y\n1,2\n"),
    ],
)
def test_get_into_the_working_directory(arguments, file, content, tmp_path):
    """A name of its own with a suffix that fits; a second time nothing is overwritten."""
    out, _ = call("artifacts", "training#2", "--get", *arguments, cwd=tmp_path)
    assert out.rstrip().endswith(f"is in {file}")
    assert [path.name for path in tmp_path.iterdir()] == [file]
    assert (tmp_path / file).read_bytes() == content
    (tmp_path / file).write_text("mine")
    _, err = call("artifacts", "training#2", "--get", *arguments, cwd=tmp_path, check=2)
    assert err.startswith(f"pipedeco: {file} is there already")
    assert (tmp_path / file).read_text() == "mine"


def test_get_a_text_of_one_step(tmp_path):
    """Where several have it the step must be named."""
    run = get_run("training#2").id
    _, err = call("artifacts", "training#2", "--get", "shared", cwd=tmp_path, check=2)
    assert err == (
        "pipedeco: the steps load, fit have a 'shared' each; name one: "
        f"pipedeco artifacts {run} STEP --get shared\n"
    )
    call("artifacts", "training#2", "load", "--get", "shared", "-o", "a.txt", cwd=tmp_path)
    assert (tmp_path / "a.txt").read_text() == "of load 2"
    (tmp_path / "into").mkdir()
    call("artifacts", "training#2", "fit", "--get", "shared", "-o", "into", cwd=tmp_path)
    assert (tmp_path / "into" / "shared.txt").read_text() == "of fit 2"


def test_get_the_runs_own_before_a_steps(capsys, tmp_path):
    """A model that is mirrored is one thing, not two."""
    path = str(tmp_path / "net.pickle")
    found = json.loads(shown(capsys, "artifacts", "--get", "net", "-o", path, "--json"))
    assert (found["of"], found["path"]) == (None, path)
    assert pickle.loads(Path(path).read_bytes()) == {"w": 2}


def test_get_an_object_whose_class_is_not_here(tmp_path):
    """It is copied as the pickle that it is, and loads where the class is."""
    call("artifacts", "training#1", "--get", "net.obj", cwd=tmp_path)
    assert isinstance(pickle.loads((tmp_path / "net.obj.pickle").read_bytes()), Net)


def test_get_a_folder(tmp_path):
    call("artifacts", "training#1", "--get", "folder", "-o", "copy", cwd=tmp_path)
    assert (tmp_path / "copy" / "sub" / "deep.txt").read_text() == "deep"
    assert (tmp_path / "copy" / "data.csv").read_text() == "x,y\n1,2\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--get", "lost"], "there is nothing named 'lost'; there are: net, plot, rows"),
        (["-o", "x"], "--get NAME"),
        (["--get", "plot", "-o", "/nowhere/x"], "/nowhere/x cannot be written: No such file"),
        (["nothing"], "there is no step 'nothing'"),
        (["--kind", "song"], "--kind"),
    ],
)
def test_mistakes_with_artifacts(capsys, arguments, says):
    assert says in refused(capsys, "artifacts", "training#1", *arguments)


def test_one_name_of_two_kinds(capsys, tmp_path):
    """The kind must be named."""

    @pipeline(mode="debug", store=tmp_path)
    def both():
        log_text("report", "words")
        log_artifact("report", 3)

    both()
    at = ("artifacts", "--store", str(tmp_path), "--get", "report", "-o", str(tmp_path / "r"))
    assert "choose with --kind" in refused(capsys, *at)
    shown(capsys, *at, "--kind", "text")
    assert (tmp_path / "r").read_text() == "words"


@pytest.mark.parametrize(
    ("name", "suffix", "safe"),
    [
        ("plot", ".svg", "plot.svg"),
        ("plot.SVG", ".svg", "plot.svg"),
        ("../../etc/passwd", "", "_.._etc_passwd"),
        ("..", ".txt", "unnamed.txt"),
        (".bashrc", "", "bashrc"),
        ("--help", ".csv", "help.csv"),
        ("val/loss: a\\b", ".png", "val_loss_ a_b.png"),
        ("a\x00b\x1b[31m\n", ".txt", "a_b_[31m_.txt"),
        ("größe ☃", ".txt", "größe ☃.txt"),
        ("\ud800", ".txt", "_.txt"),
    ],
)
def test_safe_names(name, suffix, safe):
    """No name leads out of the folder, hides a file or is an option."""
    assert safe_name(name, suffix) == safe


def test_a_long_name_is_cut():
    assert len(safe_name("☃" * 300, ".txt").encode()) < 255


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "a//b", ".", ""])
def test_a_folder_that_leads_out_of_itself_is_refused(tmp_path, name):
    """The list of a folder may have been written by somebody else."""
    blobs = BlobStore(str(tmp_path / "blobs"))
    blob = blobs.put([json.dumps([[name, False]]).encode(), b"evil"])
    target = tmp_path / "a" / "b"
    with pytest.raises(StoreError, match="outside of itself"):
        kept.restore({"type": "folder", "file": "b", "blob": blob}, blobs, str(target))
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("plain", [b"", b"a", LARGE, "text", "x" * 70_000, b"x" * 300])
def test_plain_values_are_read_without_loading(plain, protocol):
    assert plain_value(pickle.dumps(plain, protocol)) == plain


@pytest.mark.parametrize("other", [[b"a"], ("x", "y"), 3, None, Net(), {"a": b"x"}])
def test_other_values_are_not_plain(other):
    assert plain_value(pickle.dumps(other)) is None


def test_a_saved_object_holds_its_buffers(tmp_path):
    """An array is written whole, though its buffer stands beside the pickle in the store."""
    import numpy as np

    blobs = BlobStore(str(tmp_path / "blobs"))
    array = np.arange(50_000)
    description = {"type": "object", "blob": Pickler(blobs).dump({"a": array}, "it")}
    kept.restore(description, blobs, str(tmp_path / "a.pickle"))
    assert (pickle.loads((tmp_path / "a.pickle").read_bytes())["a"] == array).all()


# -- compare ---------------------------------------------------------------------------------


def test_runs_side_by_side(capsys):
    """A column a run; equal parameters are counted, and shown when asked for."""
    out = shown(capsys, "compare", "training#1", "training#2", "inner#2")
    rows = {line.split("  ")[0]: line.split() for line in out.splitlines() if line}
    assert out.split("\n")[0].split() == ["training#1", "training#2", "inner#2"]
    assert rows["n"] == ["n", "1", "2", "2"]
    assert rows["score"] == ["score", "0.1", "0.2", "-"]
    assert rows["loss"] == ["loss", "0.0333333", "0.0666667", "0.0666667"]
    assert rows["fit: acc/val"][2:] == ["0.6", "0.7", "0.7"]
    assert rows["status"] == ["status", *["completed"] * 3]
    out = shown(capsys, "compare", "training#1", "training#2")
    assert "parameters (3 equal, see --all)" in out
    assert "\nseed" not in out
    assert "\nseed" in shown(capsys, "compare", "training#1", "training#2", "--all")


def test_a_comparison_as_json(capsys):
    """All rows, each with whether it differs."""
    found = json.loads(shown(capsys, "compare", "training#1", "training#2", "--json"))
    assert found == compare_runs([get_run("training#1"), get_run("training#2")]).to_json()
    assert [run["name"] for run in found["runs"]] == ["training#1", "training#2"]
    facts = {row["name"]: row for row in found["facts"]}
    assert facts["tags"] == {
        "name": "tags", "values": [["nightly"], ["nightly", "two"]], "differs": True
    }  # fmt: skip
    params = {row["name"]: (row["values"], row["differs"]) for row in found["params"]}
    assert params["n"] == (["1", "2"], True)
    assert params["seed"] == (["7", "7"], False)


def test_two_nans_are_equal(tmp_path):
    """And a number that is missing is not."""

    @pipeline(mode="debug", store=tmp_path)
    def body(more: bool):
        log_metric("x", math.nan)
        if more:
            log_metric("y", 1)

    body(True), body(False)
    found = compare_runs(pipedeco.runs(store=str(tmp_path)))
    assert [(row.name, row.differs) for row in found.metrics] == [("x", False), ("y", True)]


def test_differing_rows_stand_out_on_a_terminal(store):
    screen = Terminal(
        COMMAND, "compare", "training#1", "training#2", env={"PIPEDECO_STORE": str(store)}
    )
    assert screen.wait() == 0
    (row,) = (
        line for line in screen.raw.split(b"\n") if line.lstrip(b"\x1b[;0123m").startswith(b"n ")
    )
    (same,) = (line for line in screen.raw.split(b"\n") if b"pipeline" in line)
    assert b"\x1b[1;33m" in row
    assert b"\x1b[1;33m" not in same


def test_one_run_is_nothing_to_compare(capsys):
    assert "two runs or more" in refused(capsys, "compare", "training#1")
    assert "two runs or more" in refused(capsys, "compare")
    assert "there is no run" in refused(capsys, "compare", "training#1", "lost")


# -- runs ------------------------------------------------------------------------------------


def names(capsys, *arguments):
    return [run["name"] for run in json.loads(shown(capsys, "runs", "--json", *arguments))]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--status", "failed"], []),
        (["--status", "completed", "steps_only"], ["steps_only#1"]),
        (["--tag", "nightly"], ["training#2", "training#1"]),
        (["--tag", "nightly", "--tag", "two"], ["training#2"]),
        (["--tag", "heavy", "--param", "n=1"], ["inner#1", "training#1"]),
        (["--param", "kind=a", "--param", "n=2"], ["training#2"]),
        (["--param", "seed=7", "--limit", "1"], ["training#2"]),
        (["--metric", "score>0.1"], ["training#2"]),
        (["--metric", "score >= 0.1", "--metric", "score<0.2"], ["training#1"]),
        (["--metric", "score>0", "--metric", "score>0.1"], ["training#2"]),
        (["--metric", "score!=0.1", "--metric", "score!=0.2"], []),
        (["--metric", "score=0.2"], ["training#2"]),
    ],
    ids=" ".join,
)
def test_finding_runs(capsys, arguments, found):
    """All that is asked must hold, however often an option is given."""
    assert names(capsys, *arguments) == found


def test_nothing_that_meets_it(capsys):
    assert shown(capsys, "runs", "--tag", "none").startswith("no runs that meet all of this")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--metric", "score"], "--metric takes a name"),
        (["--metric", ">3"], "--metric takes a name"),
        (["--metric", "score>high"], "compares with a number, not 'high'"),
        (["--metric", "score>"], "compares with a number, not ''"),
        (["--metric", "score>nan"], "compares with a number, not 'nan'"),
        (["--param", "n"], "--param takes NAME=VALUE"),
        (["--param", "=3"], "--param takes NAME=VALUE"),
        (["--param", "n=1", "--param", "n=2"], "twice"),
        (["--status", "done"], "--status"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_in_what_is_asked(capsys, arguments, says):
    assert says in refused(capsys, "runs", *arguments)


def test_parsing_params():
    """JSON where it is, else text; the first = divides."""
    given = ["a=1", "b=text", 'c="1"', "d=[1, 2]", "e=true", "f=x=y", "g=", " h = 2"]
    assert parse_params(given) == {
        "a": 1, "b": "text", "c": "1", "d": [1, 2], "e": True, "f": "x=y", "g": "", "h": 2,
    }  # fmt: skip
    with pytest.raises(ConfigError):
        parse_params(["a"])


def test_parsing_metrics():
    """The last operator counts, for names are any text."""
    assert parse_metrics(["a>1", "a>2", "b <= -1e3", "c==inf", "d!=0", "x>y<3", "val/f1=.5"]) == {
        "metric__gt": {"a": [1.0, 2.0]},
        "metric__le": {"b": [-1000.0]},
        "metric__eq": {"c": [math.inf], "val/f1": [0.5]},
        "metric__ne": {"d": [0.0]},
        "metric__lt": {"x>y": [3.0]},
    }
    for text in ("a", "a>", ">1", "a><1", "a>b", "", "a=>1", " >1"):
        with pytest.raises(ConfigError):
            parse_metrics([text])


def test_child_runs_stand_below_their_parents(capsys):
    """Indented, where both are in the list; a child alone stands by itself. Tags have a column."""
    head, *rows = shown(capsys, "runs").splitlines()
    assert head.split()[-2:] == ["parent", "tags"]
    order = [(row.startswith("  "), row.split()[1]) for row in rows]
    assert order == [
        (False, "training#2"), (True, "inner#2"), (False, "training#1"), (True, "inner#1"),
        (False, "steps_only#1"), (False, "silent#1"),
    ]  # fmt: skip
    assert rows[0].endswith("nightly, two")
    head, *rows = shown(capsys, "runs", "inner").splitlines()
    assert head.split()[-1] == "parent"
    assert [row[0] == " " for row in rows] == [False, False]
    assert json.loads(shown(capsys, "runs", "--json"))[1]["tags"] == ["nightly", "two"]


# -- show ------------------------------------------------------------------------------------


def test_show_what_a_run_has(capsys):
    """Tags, parameters that were logged, last metrics, counts, stages, and steps of child runs."""
    run = get_run("training#2")
    out = shown(capsys, "show", "training#2").splitlines()
    assert out[2] == "tags: nightly, two"
    assert {"  seed = 7", "  n = 2", "metrics:", "  score = 0.2", "  loss = 0.0666667"} <= set(out)
    counts = "4 artifacts, 2 models, 1 figure, 1 table, 2 texts"
    assert sorted(counts.split(", ")) == sorted(out[10].partition(":")[0].split(", "))
    assert out[10].endswith(f": pipedeco artifacts {run.id}")
    head, *rows = out[12:17]
    assert head.split()[:3] == ["step", "stage", "state"]
    assert [row.split()[:3] for row in rows] == [
        ["load", "prepare", "completed"], ["fit", "train", "completed"],
        ["inner", "completed", rows[2].split()[2]], ["load", "prepare", "completed"],
    ]  # fmt: skip
    assert [row.startswith("  ") for row in rows] == [False, False, False, True]
    flat = shown(capsys, "show", "training#2", "--depth", "0").splitlines()
    assert len(flat) == len(out) - 2
    assert "--depth" in refused(capsys, "show", "--depth", "-1")


def test_show_as_json_has_children(capsys):
    """As deep as it is asked for."""
    found = json.loads(shown(capsys, "show", "training#2", "--json"))
    (child,) = found["children"]
    assert child["name"] == "inner#2"
    assert list(child["steps"]) == ["load", "fit"]
    assert "children" not in child
    assert "children" not in json.loads(shown(capsys, "show", "--depth", "0", "--json"))
    deep = json.loads(shown(capsys, "show", "training#2", "--depth", "2", "--json"))
    assert deep["children"][0]["children"] == []


def test_show_names_the_steps_with_metrics(capsys):
    run = get_run("steps_only#1").id
    assert f"told, told-2 have: pipedeco metrics {run} STEP" in shown(
        capsys, "show", "steps_only#1"
    )
    assert "metrics" not in shown(capsys, "show", "silent#1")


def test_show_the_first_ten_metrics(capsys, tmp_path):
    @pipeline(mode="debug", store=tmp_path)
    def many():
        for i in range(13):
            log_metric(f"m{i}", i)

    many()
    out = shown(capsys, "show", "--store", str(tmp_path))
    assert "  m9 = 9\n  and 3 more: pipedeco metrics " in out
    assert "m10" not in out


def test_show_how_far_a_step_is(capsys, tmp_path):
    """Of a running step that has told it."""

    @component
    def slow(gate):
        set_progress(0.25)
        wait_for(gate, timeout=40)

    @pipeline(mode="local", workers=1, store=tmp_path)
    def body(gate):
        slow(gate)

    run = body.start(str(tmp_path / "gate"))
    try:
        wait_until(
            lambda: (
                "25% done" in call("show", run.id, "--store", str(tmp_path))[0].split("\n\n")[-1]
            ),
            "the progress is shown",
            timeout=30,
        )
    finally:
        (tmp_path / "gate").touch()
    assert run.wait(10)
    assert "25%" not in shown(capsys, "show", run.id, "--store", str(tmp_path))


# -- what somebody else wrote ----------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["show"], ["show", "--json"], ["metrics"], ["metrics", "--all"], ["metrics", "--csv"],
        ["metrics", "--json"], ["metrics", "latest", "s" + CONTROLS], ["artifacts"],
        ["artifacts", "--json"], ["artifacts", "--get", "t" + CONTROLS], ["runs"],
        ["compare", "latest", "latest"], ["metrics", "--name", CONTROLS],
    ],
)  # fmt: skip
def test_names_move_no_cursor(tmp_path, arguments):
    """Names of metrics, tags, texts, stages and steps are shown with their controls as escapes."""

    @component(name="s" + CONTROLS, stage="g" + CONTROLS, monitor_metrics=["*"])
    def step():
        log_metric("m" + CONTROLS, 1)
        log_text("u" + CONTROLS, CONTROLS)

    @pipeline(mode="debug", store=tmp_path, tags=["tag" + CONTROLS])
    def hostile():
        value(step())
        log_param("p" + CONTROLS, CONTROLS)
        log_text("t" + CONTROLS, CONTROLS)
        log_table("table", [{"c" + CONTROLS: 1}])

    hostile()
    done = subprocess.run(
        [COMMAND, *(word.replace("\0", "") for word in arguments), "--store", str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=20, cwd=tmp_path,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert done.stdout + done.stderr
    for character in done.stdout + done.stderr:
        assert character == "\n" or character.isprintable(), repr(character)


# -- words -----------------------------------------------------------------------------------


def test_sparklines():
    """A bar a share, between the least and the greatest mean; what is no number is blank."""
    assert sparkline([0, 7]) == "▁█"
    assert sparkline([1, 2, 3, 4, 5, 6, 7, 8]) == "▁▂▃▄▅▆▇█"
    assert sparkline([2, 2]) == "▄▄"
    assert sparkline([]) == ""
    assert sparkline([math.nan]) == " "
    assert sparkline([1, math.inf, 3]) == "▁ █"
    assert len(sparkline(range(1000), 24)) == 24
    assert sparkline([-1.7e308, 1.7e308]) == "▁█"
    assert sparkline([10**400, 1]) == " ▄"


def test_short_numbers():
    assert [short_number(n) for n in (0.1 + 0.2, 3, -0.0, math.nan, -math.inf, 1e-30, 10**400)] == [
        "0.3", "3", "-0", "nan", "-inf", "1e-30", "int of 1329 bits",
    ]  # fmt: skip


def test_help_names_the_commands_and_is_quick():
    """And the modules that read reports are loaded by the commands that need them."""
    out, _ = call("--help")
    for command in ("metrics", "artifacts", "compare"):
        assert f"│ {command} " in out
    code = (
        "import sys; from pipedeco.cli import make_app; make_app([])\n"
        "print({'pipedeco.run', 'pipedeco.reported', 'pipedeco.comparison', 'csv', 'pickle'}"
        " & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

"""What was reported is kept, moved and removed with its run."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import wait_for, wait_until

from pipedeco import (
    component,
    current_run,
    get_run,
    log_artifact,
    log_figure,
    log_metric,
    log_text,
    pipeline,
    runs,
    value,
)
from pipedeco.housekeeping import check, export, import_run, remove, repair
from pipedeco.housekeeping.garbage import collect

SVG = "<svg xmlns='http://www.w3.org/2000/svg'><title>{}</title></svg>"


@component(tags=["kept"])
def report(x):
    log_metric("loss", 1.0 / x)
    log_artifact("data", list(range(x * 1000)))
    log_figure("drawing", SVG.format(x))
    log_text("long", "x" * 20_000 + str(x))
    current_run().log_metric("best", x)
    return x


@pipeline(mode="debug", tags=["nightly"])
def reporting(x: int = 1):
    log_artifact("of the run", {"x": x})
    return value(report(x))


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPEDECO_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


def blobs(store):
    return {path.name for path in (store / "blobs").glob("??/*")}


def test_a_run_is_carried_to_another_store(tmp_path, store, monkeypatch):
    """Export and import keep metrics, artifacts, figures, texts and tags, and what finds them."""
    reporting(2)
    run = get_run()
    export(run, str(tmp_path / "run.zip"))
    monkeypatch.setenv("PIPEDECO_STORE", str(tmp_path / "other"))
    import_run(str(tmp_path / "run.zip"))
    again = get_run(run.id)
    step = again.steps["report"]
    assert step.last_metrics == {"loss": 0.5}
    assert step.artifacts["data"].load() == list(range(2000))
    assert step.figures["drawing"].data.decode() == SVG.format(2)
    assert step.texts["long"].text.endswith("x2")
    assert again.artifacts["of the run"].load() == {"x": 2}
    assert (again.tags, step.tags) == (["nightly"], ["kept"])
    assert [found.id for found in runs(tag="kept", metric={"best": 2})] == [run.id]
    assert check() == []


def test_removing_a_run_removes_what_it_alone_reported(store):
    """What another run has reported, too, stays."""
    reporting(2), reporting(2), reporting(3)
    before = blobs(store)
    first, second, third = reversed(runs())
    first.artifacts["of the run"].load()
    remove([first])
    assert blobs(store) == before
    remove([third])
    assert get_run(second.id).steps["report"].artifacts["data"].load() == list(range(2000))
    assert len(blobs(store)) < len(before)
    remove([second])
    assert blobs(store) == set()
    assert runs(tag="kept") == []
    assert check() == []


def test_copies_of_artifacts_are_garbage_once_their_run_is_gone(tmp_path, store):
    """What `path()` has laid out goes with its blob, and is laid out again if it is missed."""

    @component
    def keep():
        log_artifact("file", tmp_path / "data.txt")

    @pipeline(mode="debug")
    def body():
        value(keep())

    (tmp_path / "data.txt").write_text("data")
    body()
    run = get_run()
    path = Path(run.steps["keep"].artifacts["file"].path())
    assert path.name == "data.txt"
    collect(str(store))
    assert path.read_text() == "data"
    shutil.rmtree(store / "files")
    assert Path(run.steps["keep"].artifacts["file"].path()).read_text() == "data"
    remove([run])
    assert not path.exists()
    assert not list((store / "files").iterdir())


def test_a_lost_figure_is_found(store):
    """fsck names the run whose report is damaged; reading it is an error."""
    reporting(2)
    figure = get_run().steps["report"].figures["drawing"]
    os.unlink(get_run().blobs.path(figure._payload["blob"]))
    (finding,) = check()
    assert f"what run {get_run().id} reported" in finding.text


def test_copies_are_laid_out_by_many_at_once(tmp_path, store):
    """Several processes ask for the same path: each gets a whole copy."""

    @pipeline(mode="debug")
    def body():
        log_artifact("file", tmp_path / "big.bin")

    (tmp_path / "big.bin").write_bytes(os.urandom(3_000_000))
    body()
    script = (
        "import sys, pipedeco\n"
        "path = pipedeco.get_run().artifacts['file'].path()\n"
        "print(open(path, 'rb').read() == open(sys.argv[1], 'rb').read())"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "big.bin")]
    jobs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [job.communicate(timeout=30)[0] for job in jobs] == ["True\n"] * 4


KILLED = """
import sys, time
from pathlib import Path
from pipedeco import component, log_artifact, log_metric, pipeline

@component
def report(folder):
    log_metric("loss", 0.5)
    log_artifact("data", list(range(1000)))
    Path(folder, "reported").touch()
    time.sleep(60)

@pipeline(workers=1)
def killed(folder):
    log_artifact("of the body", [1])
    report(folder).result()

killed(sys.argv[1])
"""


def test_reports_of_a_killed_controller(tmp_path, store, monkeypatch):
    """They are read, and no house-keeping takes what they name, though no record does."""
    (tmp_path / "app.py").write_text(KILLED)
    job = subprocess.Popen([sys.executable, str(tmp_path / "app.py"), str(tmp_path)])
    wait_for(tmp_path / "reported", timeout=20)
    wait_until(lambda: runs() and "report" in runs()[0].steps, "the step is recorded")
    job.send_signal(signal.SIGKILL)
    job.wait()
    run = get_run()
    assert run.status == "interrupted"
    assert run.steps["report"].last_metrics == {"loss": 0.5}
    named = blobs(store)
    for path in (store / "blobs").glob("??/*"):
        os.utime(path, (1, 1))
    repair()
    assert blobs(store) == named
    assert run.steps["report"].artifacts["data"].load() == list(range(1000))
    export(run, str(tmp_path / "run.zip"))
    monkeypatch.setenv("PIPEDECO_STORE", str(tmp_path / "other"))
    import_run(str(tmp_path / "run.zip"))
    assert get_run(run.id).artifacts["of the body"].load() == [1]
    assert json.dumps(get_run(run.id).to_json())

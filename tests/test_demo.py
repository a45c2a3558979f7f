"""The example that `make demo` runs."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from remote.conftest import Cluster

import pipedeco

DEMO = Path(__file__).resolve().parent.parent / "examples" / "01_model_comparison.py"
PIPEDECO = str(Path(sys.executable).with_name("pipedeco"))
MODELS = 6
# NumPy's threads wait for each other busily, which takes long where others use the processors.
ALONE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def require_sklearn():
    """Skip where scikit-learn is missing; in CI that is a failure."""
    if importlib.util.find_spec("sklearn") is None:
        reason = "examples/ need scikit-learn: pip install 'pipedeco[demo]'"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


def run_demo(folder, *command, **variables):
    """What the demo prints, with a store in the folder."""
    require_sklearn()
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **ALONE, "PIPEDECO_STORE": str(folder / "store"), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert not re.search("Traceback|Warning|Error", done.stderr)
    return done


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The folder in which the demo has run in local mode, and what it has printed."""
    folder = tmp_path_factory.mktemp("local")
    return folder, run_demo(folder, sys.executable, DEMO, PIPEDECO_MODE="local")


@pytest.mark.timeout(120)
def test_the_demo_compares_models_side_by_side(local):
    """A line for each model, the best marked; the store has a step for each part of the work."""
    folder, done = local
    head, *lines = done.stdout.splitlines()
    rows = [re.fullmatch(r"(\S.*?) +([\d.]+)%(  best)?", line) for line in lines[:MODELS]]
    assert head.split() == ["model", "accuracy"]
    assert all(rows)
    scores = [float(row[2]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > 90
    assert [bool(row[3]) for row in rows] == [True] + [False] * (MODELS - 1)
    assert re.fullmatch(r"14 steps, [\d.]+ s of work in [\d.]+ s", lines[-1])

    run = pipedeco.get_run("latest", store=str(folder / "store"))
    assert (run.status, len(run.steps)) == ("completed", 2 + 2 * MODELS)
    fits = [step for step in run.steps.values() if step.component == "fit"]
    overlaps = [a for a in fits for b in fits if a is not b and a.started < b.started < a.ended]
    if (
        os.process_cpu_count() if hasattr(os, "process_cpu_count") else len(os.sched_getaffinity(0))
    ) > 1:
        assert overlaps


@pytest.mark.skipif(sys.platform != "linux", reason="the cluster's tests read /proc")
@pytest.mark.timeout(180)
def test_the_demo_on_a_dask_cluster(local, tmp_path):
    """`--mode remote` and nothing else: the same scores, from workers without the demo's code."""
    (tmp_path / "dask").mkdir()
    cluster = Cluster(tmp_path / "dask", **ALONE)
    try:
        command = PIPEDECO, "run", str(DEMO), "--mode", "remote"
        run_demo(tmp_path, *command, PIPEDECO_QUEUES=json.dumps({"default": cluster.url}))
    finally:
        cluster.close()
    here = pipedeco.get_run("latest", store=str(local[0] / "store"))
    there = pipedeco.get_run("latest", store=str(tmp_path / "store"))
    assert there.mode == "remote"
    assert scores_of(there) == scores_of(here)
    assert there.result()[0] == here.result()[0]


def scores_of(run):
    return {name: step.result() for name, step in run.steps.items() if step.component == "score"}

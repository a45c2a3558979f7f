"""The example that `make demo` runs."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pipedeco

DEMO = Path(__file__).resolve().parent.parent / "examples" / "01_model_comparison.py"
MODELS = 6


def require_sklearn():
    """Skip where scikit-learn is missing; in CI that is a failure."""
    if importlib.util.find_spec("sklearn") is None:
        reason = "examples/ need scikit-learn: pip install 'pipedeco[demo]'"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.mark.timeout(120)
def test_the_demo_compares_models_side_by_side(tmp_path):
    """A line for each model, the best marked; the store has a step for each part of the work."""
    require_sklearn()
    store = tmp_path / "store"
    environment = {**os.environ, "PIPEDECO_STORE": str(store), "PIPEDECO_MODE": "local"}
    done = subprocess.run(
        [sys.executable, DEMO],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert not re.search("Traceback|Warning|Error", done.stderr)
    head, *lines = done.stdout.splitlines()
    rows = [re.fullmatch(r"(\S.*?) +([\d.]+)%(  best)?", line) for line in lines[:MODELS]]
    assert head.split() == ["model", "accuracy"]
    assert all(rows)
    scores = [float(row[2]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > 90
    assert [bool(row[3]) for row in rows] == [True] + [False] * (MODELS - 1)
    assert re.fullmatch(r"14 steps, [\d.]+ s of work in [\d.]+ s", lines[-1])

    run = pipedeco.get_run("latest", store=str(store))
    assert (run.status, len(run.steps)) == ("completed", 2 + 2 * MODELS)
    fits = [step for step in run.steps.values() if step.component == "fit"]
    overlaps = [a for a in fits for b in fits if a is not b and a.started < b.started < a.ended]
    if (
        os.process_cpu_count() if hasattr(os, "process_cpu_count") else len(os.sched_getaffinity(0))
    ) > 1:
        assert overlaps

"""A file of the runners' contract on a real engine; all of them pass on Dask and on Ray:

    PIPEDECO_TESTS_REMOTE=dask://host:8786 python -m pytest tests/contract -k remote

With PIPEDECO_TESTS_ENGINES=all every file is performed, on Dask and on Ray and through an object
store, which takes a quarter of an hour.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

CONTRACT = Path(__file__).resolve().parent.parent / "contract"
ALL = os.environ.get("PIPEDECO_TESTS_ENGINES") == "all"
# They damage a file of the store, which is a copy here, and is fetched again: see test_objects.
COPIES = "not damaged_blob and not harmed_blob"
PATHS = [CONTRACT] if ALL else [CONTRACT / "test_results.py"]
ENGINES = ["dask", "ray", "objects"] if ALL else ["dask"]
DEADLINE = 1500 if ALL else 280

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the census of processes reads /proc"),
    pytest.mark.timeout(DEADLINE + 20),
]


@pytest.fixture
def objects(tmp_path, monkeypatch):
    """Worker processes of this machine that share no folder with the controller, but for a URL."""
    monkeypatch.setenv("PIPEDECO_BLOBS", f"file://{tmp_path}/objects")
    return SimpleNamespace(url="local://2")


@pytest.mark.parametrize("name", ENGINES)
def test_the_contract(name, request, tmp_path):
    """Tests of a process of their own, which know of the engine by its URL alone."""
    engine = request.getfixturevalue(name)
    variables = {**os.environ, "PIPEDECO_TESTS_REMOTE": engine.url}
    chosen = f"remote and {COPIES}" if name == "objects" else "remote"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen]
    command += [f"--basetemp={tmp_path / 'tests'}", *map(str, PATHS)]
    done = subprocess.run(
        command,
        cwd=CONTRACT.parent.parent,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert "passed" in done.stdout

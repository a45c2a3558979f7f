"""A file of the runners' contract on a real engine; all of them pass on Dask and on Ray:

    PIPEDECO_TESTS_REMOTE=dask://host:8786 python -m pytest tests/contract -k remote

With PIPEDECO_TESTS_ENGINES=all the file is performed on Ray, too, which takes a minute.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONTRACT = Path(__file__).resolve().parent.parent / "contract"
FILES = ["test_results.py"]
ENGINES = ["dask", *(["ray"] if os.environ.get("PIPEDECO_TESTS_ENGINES") == "all" else [])]

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the census of processes reads /proc"),
    pytest.mark.timeout(300),
]


@pytest.mark.parametrize("name", ENGINES)
def test_the_contract(name, request, tmp_path):
    """Tests of a process of their own, which know of the engine by its URL alone."""
    engine = request.getfixturevalue(name)
    variables = {**os.environ, "PIPEDECO_TESTS_REMOTE": engine.url}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "remote"]
    command += [f"--basetemp={tmp_path / 'tests'}", *(str(CONTRACT / file) for file in FILES)]
    done = subprocess.run(
        command,
        cwd=CONTRACT.parent.parent,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert "passed" in done.stdout

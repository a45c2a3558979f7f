"""What Python has warned of once it does not warn of again because pipedeco is there."""

import os
import subprocess
import sys

import pytest

ONCE = """
import warnings

from pipedeco import component, pipeline


@component(cache=True)
def careful(n):
    warnings.warn("careful")
    return n


@pipeline
def main(n):
    return careful(n) + careful(n + 1)


before = list(warnings.filters)
for n in range(3):
    main(10 * n)
assert list(warnings.filters) == before
"""

DOUBTFUL = r"""
from pipedeco import component, pipeline


@component(cache=True)
def words():
    return "a\d" if str is not "b" else 0


@pipeline
def main():
    "Doubtful\d."
    return words()


if __name__ == "__main__":
    main()
    main()
"""


@pytest.fixture
def warned(tmp_path):
    """The warnings of a program that is in a git repository, as stderr has them."""

    def run(text, mode, *options):
        (tmp_path / "app.py").write_text(text)
        subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
        done = subprocess.run(
            [sys.executable, *options, "app.py"],
            cwd=tmp_path,
            env={
                **os.environ,
                "PIPEDECO_MODE": mode,
                "PIPEDECO_STORE": str(tmp_path / "store"),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [line for line in done.stderr.splitlines() if "Warning: " in line]

    return run


def test_the_filter_once_holds_from_run_to_run(warned):
    assert len(warned(ONCE, "debug", "-W", "once")) == 1


@pytest.mark.parametrize("mode", ["debug", "local"])
def test_a_source_that_is_read_again_is_not_warned_of_again(warned, mode):
    """Python warns of each of the three when it compiles the program."""
    lines = warned(DOUBTFUL, mode, "-W", "always")
    assert len(lines) == 3, lines

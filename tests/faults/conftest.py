"""The lab of each test, in which no process may be left."""

from __future__ import annotations

import pytest

from .support import Lab


@pytest.fixture
def lab(tmp_path):
    """A folder for scripts and a store; at the end of the test no process of it is left."""
    made = Lab(tmp_path)
    try:
        yield made
        made.assert_empty()
    finally:
        made.close()

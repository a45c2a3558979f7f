"""The lab of each test, in which no process may be left, in each mode."""

from __future__ import annotations

import pytest
from faults.support import Lab

MODES = {
    "debug": {"PIPEDECO_MODE": "debug"},
    "local": {"PIPEDECO_MODE": "local"},
    "remote": {"PIPEDECO_MODE": "remote", "PIPEDECO_QUEUES": '{"default": "local://1"}'},
}


class ModeLab(Lab):
    """A lab whose scripts run in one mode, as they say nothing of modes themselves."""

    mode = "local"

    def environment(self, **more: str) -> dict[str, str]:
        return super().environment(**{**MODES[self.mode], **more})


@pytest.fixture(params=MODES)
def lab(request, tmp_path):
    """A folder for scripts and a store; at the end of the test no process of it is left."""
    made = ModeLab(tmp_path)
    made.mode = request.param
    try:
        yield made
        made.assert_empty()
    finally:
        made.close()

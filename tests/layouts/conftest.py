"""The lab of each test, in which no process may be left."""

from __future__ import annotations

from faults.conftest import lab

__all__ = ["lab"]

"""How long a run takes: whoever sets the clock meanwhile, and without the time that it lay dead."""

from __future__ import annotations

import time


class RunClock:
    """Measures one part of a run, from now on.

    Attributes
    ----------
    before: the seconds that the parts of before took, of a run that was resumed.
    """

    TOLERANCE = 0.001  # of the seconds; as much as the system may slew its clock

    def __init__(self) -> None:
        self.before = 0.0
        self._begun = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds of this part."""
        return time.monotonic() - self._begun

    def seconds(self, started: float, ended: float) -> float | None:
        """What all parts took; None where the two times tell it as well."""
        taken = self.before + self.elapsed
        told = abs(ended - started - taken) <= max(0.01, self.TOLERANCE * taken)
        return None if told and not self.before else taken

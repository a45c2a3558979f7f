"""The snapshot of a program's ambient state that goes with each run.

Ambient state is what a function meets without being given it: logging, warning filters, the time
zone.  The controller captures it once a run; a worker re-creates it when it enters the run, and
puts back what a step has changed.
"""

from __future__ import annotations

import marshal
from typing import TYPE_CHECKING, Any, Protocol

from pipedeco.ambient.logs import Logs
from pipedeco.ambient.loguru_logs import LoguruLogs
from pipedeco.ambient.structlogs import StructLogs

if TYPE_CHECKING:
    from collections.abc import Sequence


class Part(Protocol):
    """One kind of ambient state.

    Attributes
    ----------
    name : str
        The key of its state in a snapshot.
    """

    name: str

    def capture(self) -> Any:
        """Return the state of this process: plain types only, None for a process's default.

        Called in the controller, once a run.  It must not import what the program has not.
        """

    def enter(self, state: Any) -> None:
        """Re-create a captured state in this worker; None stands for the default."""

    def restore(self) -> None:
        """Undo what a step has changed since `enter`; must be cheap where it changed nothing."""


def parts() -> list[Part]:
    """Every kind of ambient state, in the order in which a worker enters them."""
    return [Logs(), LoguruLogs(), StructLogs()]


def capture(found: Sequence[Part]) -> bytes:
    """Return the snapshot of this process; b"" where everything is at its default."""
    states = {part.name: state for part in found if (state := part.capture()) is not None}
    return marshal.dumps(states) if states else b""


class AmbientState:
    """Keeps a worker in the ambient state of the run that it is in."""

    def __init__(self) -> None:
        self._parts = parts()

    def enter(self, snapshot: bytes) -> None:
        states: dict[str, Any] = marshal.loads(snapshot) if snapshot else {}
        for part in self._parts:
            part.enter(states.get(part.name))

    def adopt(self) -> None:
        """Take what setup= has changed since `enter` for what `restore` goes back to.

        A part that keeps what it goes back to has a method `adopt` for that.
        """
        for part in self._parts:
            adopt = getattr(part, "adopt", None)
            if adopt is not None:
                adopt()

    def restore(self) -> None:
        for part in self._parts:
            part.restore()

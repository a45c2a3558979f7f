"""The snapshot of a program's ambient state that goes with each run.

Ambient state is what a function meets without being given it: logging, warning filters, the time
zone.  The controller captures it once a run; a worker re-creates it when it enters the run, and
puts back what a step has changed.
"""

from __future__ import annotations

import marshal
import sys
from typing import TYPE_CHECKING, Any, Protocol

from pipedeco.ambient.hooks import Hooks
from pipedeco.ambient.interpreter import Interpreter
from pipedeco.ambient.limits import Limits, Niceness
from pipedeco.ambient.logs import Logs
from pipedeco.ambient.loguru_logs import LoguruLogs
from pipedeco.ambient.structlogs import StructLogs
from pipedeco.ambient.trackers import Trackers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipedeco.ambient.calls import Noted


class Part(Protocol):
    """One kind of ambient state.

    Attributes
    ----------
    name : str
        The key of its state in a snapshot.
    needs : str
        May be left out: the module without which no step can have changed anything of it.
    """

    name: str

    def capture(self) -> Any:
        """Return the state of this process: plain types only, None for a process's default.

        Called in the controller, once a run.  It must not import what the program has not.
        """

    def enter(self, state: Any) -> None:
        """Re-create a captured state in this worker; None stands for the default."""

    def restore(self) -> None:
        """Undo what a step has changed since `enter`; must be cheap where it changed nothing.

        Raises CannotRestore where only another process can be as this one was.
        """


def parts(noted: Noted | None = None) -> list[Part]:
    """Every kind of ambient state, in the order in which a worker, who notes calls, enters them."""
    return [
        Interpreter(noted),
        Limits(None if noted is None else noted.limits),
        Niceness(None if noted is None else noted.priority),
        Trackers(),
        Logs(),
        LoguruLogs(),
        StructLogs(),
        Hooks(),  # the last, as other parts put theirs into the same places
    ]


def capture(found: Sequence[Part]) -> bytes:
    """Return the snapshot of this process; b"" where everything is at its default."""
    states = {part.name: state for part in found if (state := part.capture()) is not None}
    return marshal.dumps(states) if states else b""


def at_call(now: bytes, begun: bytes, states: dict[str, Any]) -> bytes:
    """The snapshot of a child run, which begins some time after its call.

    Parameters
    ----------
    now: what is captured as it begins.
    begun: the snapshot of its parent.
    states: what had changed since that when it was called.
    """
    found, former = _states(now), _states(begun)
    found[Interpreter.name] = {**former, **states}.get(Interpreter.name)
    found = {name: state for name, state in found.items() if state is not None}
    # marshal makes other bytes of equal objects, and who compares snapshots compares bytes.
    return begun if found == former else marshal.dumps(found)


def _states(snapshot: bytes) -> dict[str, Any]:
    found: dict[str, Any] = marshal.loads(snapshot) if snapshot else {}
    return found


class AmbientState:
    """Keeps a worker in the ambient state of the run that it is in."""

    def __init__(self, noted: Noted) -> None:
        self._parts = parts(noted)
        self._modules = 0
        self._restores: list[Callable[[], None]] = []
        self._states: dict[str, Any] = {}  # of the run

    def enter(self, snapshot: bytes) -> None:
        self._states = _states(snapshot)
        for part in self._parts:
            part.enter(self._states.get(part.name))

    def turn(self, states: dict[str, Any]) -> None:
        """Be as at another call of the run's: some parts have these states, the rest the run's."""
        for part in self._parts:
            if isinstance(part, Interpreter):
                part.turn({**self._states, **states}.get(part.name))

    def imported(self) -> None:
        """A module of the user's was imported: the functions that it has put into places stay."""
        for part in self._parts:
            if isinstance(part, Hooks):
                part.adopt()

    def adopt(self) -> None:
        """Take what setup= has changed since `enter` for what `restore` goes back to.

        A part that keeps what it goes back to has a method `adopt` for that.
        """
        for part in self._parts:
            adopt = getattr(part, "adopt", None)
            if adopt is not None:
                adopt()

    def restore(self) -> None:
        """Raises CannotRestore."""
        if len(sys.modules) != self._modules:
            self._choose()
        for restore in self._restores:
            restore()

    def _choose(self) -> None:
        """Leave out the parts whose module, `needs`, nobody has imported yet."""
        self._modules = len(sys.modules)
        needs = [(part, getattr(part, "needs", None)) for part in self._parts]
        self._restores = [part.restore for part, name in needs if not name or name in sys.modules]

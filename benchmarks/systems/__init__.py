"""pipedeco and its peers behind one small interface, so that all get the same work.

Each module here has a class `Local` with the methods of `System`. It is imported only in the
process that measures it: a peer that is not installed costs its own cells and nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from types import TracebackType

T = TypeVar("T")

WORKERS = 2


class System(Protocol):
    """A way to run functions in WORKERS processes of this machine; open from with to its end."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def fan_out(self, count: int) -> int:
        """Run count independent steps and return how many results came back."""

    def chain(self, count: int) -> int:
        """Run count steps, each on the result of the one before, and return the last result."""

    def stencil(self, iterations: int, width: int, height: int) -> list[float]:
        """Run height rows of width steps, each on its neighbours in the row above."""

    def share(self, length: int, consumers: int) -> list[float]:
        """Make an array in one step and read it in several."""


class Spreading(System, Protocol):
    """A system whose workers hand large values to each other."""

    def hand_over(self, length: int) -> list[tuple[bool, float]]:
        """Make an array in one step and read it in one for each worker; what these return."""


def open_system(module: str) -> System:
    """Return the system of a module of this package, not entered yet."""
    system: System = import_module(f"{__name__}.{module}").Local()
    return system


def neighbours(row: list[T], i: int) -> list[T]:
    """Return what task i of a 1-D stencil reads of the row above: left, own and right."""
    return row[max(0, i - 1) : i + 2]

"""Functions that are called once in each worker process of a run, before its first step: setup=.

A worker that was set up keeps to it: for a run that wants to be set up otherwise it makes room for a
new one, as nobody can undo what such a function has done.  Runs of one tree share their set-up.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.definitions import describe, find, unwrapped
from pipedeco.errors import NotPicklable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipedeco.definitions import FunctionSpec
    from pipedeco.worker.environment import Surroundings

SETTING_UP = 1 << 62  # stands on a worker's page in place of a call


class Setup(NamedTuple):
    """A function as a worker finds it; plain types all."""

    name: str
    kind: str
    module: str
    data: bytes


class SetupFailed(Exception):
    """A function of setup= has raised `error`; `name` is the function's."""

    def __init__(self, name: str, error: BaseException) -> None:
        super().__init__(name)
        self.name = name
        self.error = error


# -- in the controller ---------------------------------------------------------------------


def name_of(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__qualname__", None) or repr(function))


def described(functions: Sequence[Callable[[], Any]]) -> list[tuple[Setup, FunctionSpec]]:
    """How workers find the functions.  Raises NotPicklable where one cannot travel."""
    found = []
    for function in functions:
        name = name_of(function)
        try:
            spec = describe(unwrapped(function))
        except NotPicklable as error:
            raise NotPicklable(f"setup={name} cannot reach a worker: {error}") from None
        found.append((Setup(name, spec.kind, spec.module, spec.data), spec))
    return found


def call(name: str, function: Callable[[], Any]) -> None:
    """Call a function of setup=.  Raises SetupFailed."""
    try:
        function()
    except BaseException as error:  # noqa: BLE001 - the user's code; SystemExit fails the run, too
        raise SetupFailed(name, error) from None


# -- in a worker ---------------------------------------------------------------------------


class Setups:
    """What of a run's setup= is still to be called in this worker.

    Attributes
    ----------
    due : bool
        Whether anything is.
    """

    def __init__(self) -> None:
        self.due = False
        self._run = ""
        self._functions: tuple[Setup, ...] = ()
        self._around: Surroundings | None = None
        self._called: tuple[Setup, ...] = ()
        self._called_in: Surroundings | None = None
        self._runs: set[str] = set()  # for which they were called, in these surroundings

    def stands_apart(self, wanted: Surroundings) -> bool:
        """Whether this process was set up otherwise than a run wants it."""
        return bool(self._called) and self._called != _functions(wanted)

    def enter(self, wanted: Surroundings) -> bool:
        """A run begins here; whether its surroundings are as setup= has left them."""
        self._run, self._functions = wanted.setup[0], _functions(wanted)
        self._around = _compared(wanted)
        if self._called_in != self._around:
            self._runs.clear()
        self.due = bool(self._functions) and self._run not in self._runs
        return bool(self._called) and self._called_in == self._around

    def call(self, before: Callable[[], None]) -> None:
        """Call what is due, and `before` once each function is imported.  Raises SetupFailed."""
        self._called = self._functions  # one that fails has changed the process, too
        self._called_in = None
        for setup in self._functions:
            call(setup.name, partial(_find_and_call, setup, before))
        self._called_in = self._around
        self._runs.add(self._run)
        self.due = False


def _find_and_call(setup: Setup, before: Callable[[], None]) -> None:
    function = find(setup.kind, setup.module, setup.data)
    before()
    function()


def _functions(wanted: Surroundings) -> tuple[Setup, ...]:
    return tuple([Setup(*function) for function in wanted.setup[1]])


def _compared(wanted: Surroundings) -> Surroundings:
    """Surroundings as they are to be equal: copied, as who enters them adds to them."""
    return wanted._replace(setup=("", ()), seed=None, environment=dict(wanted.environment))

"""How things stand at a call: environment variables and settings that a body changes as it goes.

A step is to find them as they were at its call, though it is performed later and elsewhere.  So a
call carries what has changed since its run began, and a worker is put into that moment before it.
"""

from __future__ import annotations

import marshal
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.ambient.interpreter import Interpreter
from pipedeco.ambient.trackers import active_runs, tracked, variables_here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class Moment(NamedTuple):
    """What is otherwise at a call than when its run began."""

    added: dict[str, str]  # environment variables, new or with other values
    removed: list[str]
    states: dict[str, Any]  # by part of the ambient state; the others are as in the run's snapshot

    @classmethod
    def of(cls, data: bytes) -> Moment:
        return cls(*marshal.loads(data)) if data else cls({}, [], {})

    @property
    def data(self) -> bytes:
        """As it travels; b"" where nothing has changed."""
        return marshal.dumps(tuple(self)) if any(self) else b""

    def applied(self, environment: dict[str, str]) -> dict[str, str]:
        """The environment of the call, from that of the run."""
        if not self.added and not self.removed:
            return environment
        found = {**environment, **self.added}
        for name in self.removed:
            found.pop(name, None)
        return found


class _Glance:
    """Sees whether what bodies change as they go has changed; it is asked at each call.

    That are warning filters and decimal's context.  The other settings go along as they were when
    the run began: reading them takes more time than the rest of a call.
    """

    def __init__(self) -> None:
        self.take()

    def take(self) -> None:
        """Take how things stand."""
        self.modules = len(sys.modules)
        decimal = sys.modules.get("decimal")
        self.getcontext = getattr(decimal, "getcontext", None)  # none while it is being imported
        self.filters = list(warnings.filters)
        if self.getcontext is not None:
            self._context = context = self.getcontext().copy()
            self._numbers = context.prec, context.rounding
            self._traps = context.traps  # a view, which is compared faster; the context lives on

    def calculates_otherwise(self) -> bool:
        """Whether decimal's context is another; `getcontext` is not None."""
        assert self.getcontext is not None
        context = self.getcontext()
        return (context.prec, context.rounding) != self._numbers or context.traps != self._traps


class Moments:
    """Knows the moments of one run's calls.

    Parameters
    ----------
    travels: whether a variable of this name may be sent to workers.
    """

    def __init__(self, travels: Callable[[str], bool] = lambda name: True) -> None:
        self._travels = travels
        self._interpreter = Interpreter(travelling=True)
        self._glance = _Glance()
        # The mapping under os.environ is compared ten times as fast.
        self._variables: Any = getattr(os.environ, "_data", os.environ)
        self._begun = variables_here()
        self._tracked = tracked()
        self._state = self._interpreter.capture()
        self._data = b""
        self._note()

    def now(self) -> bytes:
        """The moment of a call that is made now, in this thread; half a microsecond."""
        glance = self._glance
        if (
            len(sys.modules) == glance.modules
            and self._variables == self._raw
            and warnings.filters == glance.filters
            and (glance.getcontext is None or not glance.calculates_otherwise())
            and (not self._tracked or active_runs() == self._runs)
        ):
            return self._data
        self._tracked = tracked()
        self._note()
        self._data = data = self._moment().data
        return data

    def _note(self) -> None:
        self._raw = dict(self._variables)
        self._glance.take()
        self._runs = active_runs()

    def _moment(self) -> Moment:
        begun, now = self._begun, variables_here()
        added = {name: text for name, text in now.items() if begun.get(name) != text}
        removed = [name for name in begun if name not in now]
        state = self._interpreter.capture()
        return Moment(
            {name: text for name, text in added.items() if self._travels(name)},
            [name for name in removed if self._travels(name)],
            {} if state == self._state else {Interpreter.name: state},
        )


class Turns:
    """Puts one worker into the moments of the calls that it is sent."""

    def __init__(self) -> None:
        self._current = b""

    def messages(
        self, calls: list[tuple[Any, ...]], moments: Mapping[int, bytes]
    ) -> Iterator[tuple[Any, ...]]:
        """The calls as messages, and before those of another moment that one.

        Parameters
        ----------
        moments: by the calls' numbers; as the run began where there is none.
        """
        if not moments and not self._current:
            yield "calls", calls
            return
        together: list[tuple[Any, ...]] = []
        for call in calls:
            moment = moments.get(call[0], b"")
            if moment != self._current:
                if together:
                    yield "calls", together
                    together = []
                self._current = moment
                yield "moment", moment
            together.append(call)
        if together:
            yield "calls", together

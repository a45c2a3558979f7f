"""The queues of remote mode: which engine serves one, what waits for it, and what it has."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from pipedeco.engines import Engine, open_engine
from pipedeco.errors import PipedecoError
from pipedeco.runners.calls import Ready

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from pipedeco.graph import Step, StepCall
    from pipedeco.requirements import Requirements


class Place:
    """An engine, which is opened when there is something for it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine: Engine | None = None
        self.opening = False
        self.trouble: PipedecoError | None = None  # why it cannot be opened
        self.flights: Counter[tuple[Any, ...]] = Counter()  # payloads that it has, by resources


class Gate:
    """How many payloads of a queue an engine may have at once; each performs a step at a time."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.flight = 0  # payloads that it has


class Line:
    """The calls of a run that wait for one place, and ask the same of it."""

    def __init__(
        self,
        place: Place,
        gate: Gate,
        resources: dict[str, float | str],
        environment: Requirements | None,
    ) -> None:
        self.place = place
        self.gate = gate
        self.environment = environment
        self.resources = resources
        self.asks = tuple(sorted(resources.items()))
        self.ready = Ready()
        self.questioned = 0.0  # when the engine was asked what it lacks


class Flight:
    """A payload that an engine has."""

    def __init__(self, name: str, line: Line, calls: dict[int, StepCall]) -> None:
        self.name = name
        self.line = line
        self.calls = calls  # what nothing is known of yet, in order
        self.done: dict[int, Step] = {}  # the steps of those that have ended
        self.future: Future[bytes] | None = None
        self.sent = 0.0  # when the engine got it
        self.current: tuple[int, float, float] | None = None  # call, when it began, progress
        self.place = line.place


class Queues:
    """The engines of a process by their URLs, and the limits of its queues.

    Parameters
    ----------
    post: has an action called on the runner's thread, where all else is called, too.
    """

    def __init__(self, post: Callable[..., None]) -> None:
        self._post = post
        self._places: dict[str, Place] = {}
        self._gates: dict[tuple[str, int | None], Gate] = {}
        self.engines: list[Engine] = []  # that are open
        self._lock = threading.Lock()
        self._closed = False

    def place(self, url: str) -> Place:
        """Where an engine is, or will be; from any thread."""
        return self._places.setdefault(url, Place(url))

    def gate(self, queue: str, limit: int | None) -> Gate:
        """What limits a queue, in all runs; from any thread."""
        return self._gates.setdefault((queue, limit), Gate(limit))

    def engine(self, place: Place) -> Engine | None:
        """The engine of a place; None while it is being opened."""
        if place.engine is not None and place.engine.alive:
            return place.engine
        if not place.opening and place.trouble is None:
            place.opening = True
            lost, place.engine = place.engine, None
            opening = threading.Thread(
                target=self._open, args=(place, lost), name="pipedeco-engine", daemon=True
            )
            opening.start()
        return None

    def forget_troubles(self) -> None:
        """The next call asks again for an engine that could not be opened."""
        for place in list(self._places.values()):
            place.trouble = None

    def ask(self, line: Line, tell: Callable[[str], None]) -> None:
        """Find out what an engine lacks to begin what a line asks for, and tell where it knows."""
        engine = line.place.engine
        if engine is not None:
            threading.Thread(
                target=self._ask, args=(engine, line, tell), name="pipedeco-engine", daemon=True
            ).start()

    def close(self) -> None:
        """Close the engines; one that is still being opened closes as soon as it is."""
        with self._lock:
            self._closed = True
        for engine in self.engines:
            _close(engine)

    # -- in threads of their own, as engines may take their time -----------------------------

    def _open(self, place: Place, lost: Engine | None) -> None:
        if lost is not None:
            self.engines.remove(lost)
            _close(lost)
        try:
            engine = open_engine(place.url)
        except PipedecoError as error:
            self._post(self._opened, place, None, error)
            return
        with self._lock:
            if not self._closed:
                self.engines.append(engine)
                self._post(self._opened, place, engine, None)
                return
        _close(engine)

    def _ask(self, engine: Engine, line: Line, tell: Callable[[str], None]) -> None:
        try:
            lack = engine.lacks(line.resources)
        except Exception:
            logging.getLogger("pipedeco").debug("%s does not answer", line.place.url, exc_info=True)
        else:
            if lack:
                self._post(tell, lack)

    # -- on the runner's thread --------------------------------------------------------------

    def _opened(self, place: Place, engine: Engine | None, trouble: PipedecoError | None) -> None:
        place.opening = False
        place.engine = engine
        place.trouble = trouble


def _close(engine: Engine) -> None:
    """Close an engine that may be lost already."""
    try:
        engine.close()
    except Exception:
        logging.getLogger("pipedeco").debug("an engine does not close", exc_info=True)

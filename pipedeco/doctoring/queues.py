"""The engines behind the queues: all at once, each in a thread of its own, bounded in time."""

from __future__ import annotations

import threading
import time
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from pipedeco.config import find_queues
from pipedeco.doctoring.answers import Trip, best_trips, clock_limit, compare
from pipedeco.doctoring.lines import ERROR, OK, WARNING, Line
from pipedeco.doctoring.steps import PATIENCE as FOR_STEP
from pipedeco.doctoring.steps import read_trial, trial
from pipedeco.engines import error_of, open_engine
from pipedeco.errors import PipedecoError
from pipedeco.worker.probing import probe, read_answer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from pipedeco.doctoring.scratch import Scratch
    from pipedeco.engines import Engine

OPENING = 12.0  # seconds for an engine to be opened; adapters give up after some 10
ANSWERING = 10.0  # seconds for workers to answer
HOLD = 0.5  # seconds for which a worker waits for the others
MOST = 256  # probes at once
CLOSE = 3.0  # seconds for an engine to be closed
PRECISE = 0.1  # seconds of doubt about a clock with which we are content
LOOK = 0.1

QUEUES = "queues"


class _Answers(NamedTuple):
    trips: list[Trip]
    failures: list[BaseException]  # of probes
    missing: int  # probes that nobody has answered


class _Landed(NamedTuple):
    sent: float  # by our clock
    back: float
    future: Future[bytes]


def visit_queues(scratch: Scratch) -> Iterator[Line]:
    """The lines of each engine, in the order of its first queue."""
    try:
        queues = find_queues()
    except PipedecoError as error:
        yield Line(QUEUES, ERROR, str(error))
        return
    if not queues:
        advice = 'remote mode needs one, such as default = "dask://scheduler:8786" in [tool.pipedeco.queues]'
        yield Line(QUEUES, OK, f"none is configured; {advice}")
        return
    names: dict[str, list[str]] = {}
    for name, url in queues.items():
        names.setdefault(url, []).append(name)
    visits = [_Visit(url, named, n, scratch) for n, (url, named) in enumerate(names.items())]
    try:
        for visit in visits:
            visit.start()
        for visit in visits:
            yield from visit.lines()
    finally:  # also where the user has pressed Ctrl-C
        for visit in visits:
            visit.leaving.set()
        deadline = time.monotonic() + CLOSE
        for visit in visits:
            visit.leave(deadline)


class _Visit:
    """One engine, opened, asked and closed again.

    Parameters
    ----------
    url: of the engine.
    queues: that it serves.
    number: of this visit.
    scratch: where workers read and write.
    """

    def __init__(self, url: str, queues: list[str], number: int, scratch: Scratch) -> None:
        self.url = url
        self.what = f"queue {', '.join(queues)}"
        self.number = number
        self.scratch = scratch
        self.found: list[Line] = []
        self.over = threading.Event()
        self.leaving = threading.Event()
        self._opened = threading.Event()
        self._thread = threading.Thread(target=self._visit, name="pipedeco-doctor", daemon=True)
        self._expect("cannot be reached", OPENING)

    def start(self) -> None:
        self._thread.start()

    def lines(self) -> list[Line]:
        """What was found, as soon as it is known; at the latest when its time is over."""
        while not self.over.wait(LOOK):
            if time.monotonic() > self._deadline:
                self.leaving.set()
                advice = "look at its own logs, or mend the URL of the queue"
                text = f"{self.url} {self._trouble}: nothing came within {self._seconds:g} s"
                return [*self.found, self._line(ERROR, text, advice)]
        return self.found

    def leave(self, deadline: float) -> None:
        """Let the thread close its engine; one that hangs is left alone."""
        if self._opened.is_set():
            self._thread.join(max(0.0, deadline - time.monotonic()))

    def _expect(self, trouble: str, seconds: float) -> None:
        self._trouble = trouble
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds

    def _line(self, state: str, text: str, advice: str = "") -> Line:
        return Line(self.what, state, text, advice)

    # -- in its thread -------------------------------------------------------------------------

    def _visit(self) -> None:
        engine = None
        try:
            engine = open_engine(self.url)
            self._opened.set()
            if not self.leaving.is_set():
                self._ask(engine)
        except PipedecoError as error:
            self.found.append(self._line(ERROR, str(error)))
        except Exception as error:  # noqa: BLE001 - an engine's library; what it says is what is found
            text = f"{self.url} fails: {type(error).__name__}: {error}"
            self.found.append(self._line(ERROR, text))
        finally:
            self.over.set()
            if engine is not None:
                self._close(engine)

    def _close(self, engine: Engine) -> None:
        try:
            engine.close()
        except Exception as error:  # noqa: BLE001 - as above; all is told by now
            self.found.append(self._line(WARNING, f"{self.url} does not close: {error}"))

    def _ask(self, engine: Engine) -> None:
        slots = engine.slots
        self._expect("was opened, and its workers do not answer", 3 * ANSWERING)
        answers = self._probe(engine, max(1, min(slots, MOST)), "a")
        if answers.trips and min(trip.doubt for trip in answers.trips) > PRECISE:
            again = self._probe(engine, max(1, min(slots, MOST)), "b")  # all is imported by now
            answers.trips.extend(again.trips)
        if not answers.trips:
            self.found.append(self._none_answered(engine, slots, answers))
            return
        trips = best_trips(answers.trips)
        self.found.append(self._summary(slots, answers, trips))
        wrong = list(compare(trips, self.scratch))
        self.found += [line._replace(what=self.what) for line in wrong]
        if self.scratch.reachable and not any(line.state == ERROR for line in wrong):
            self._try_step(engine)

    def _none_answered(self, engine: Engine, slots: int, answers: _Answers) -> Line:
        if answers.failures:
            return self._line(ERROR, str(engine.explain(answers.failures[0])))
        if not slots:
            text = f"{self.url} was reached and has no workers"
            return self._line(ERROR, text, "start some")
        if lack := engine.lacks({}):
            text = f"{self.url} was reached, and {lack}"
            return self._line(ERROR, text, "start some that have, or ask for less in the URL")
        text = (
            f"{self.url} was reached, and none of its {slots} slots answered within {ANSWERING:g} s"
        )
        return self._line(
            ERROR,
            text,
            "see whether other work keeps them busy, and what their logs say",
        )

    def _summary(self, slots: int, answers: _Answers, trips: list[Trip]) -> Line:
        hosts = sorted({trip.answer.host for trip in trips})
        named = ", ".join(hosts[:3]) + (f" and {len(hosts) - 3} more" if len(hosts) > 3 else "")
        count = len(trips)
        text = f"{self.url} has {slots} slot{'s' * (slots != 1)}; "
        text += f"{count} worker{'s' * (count != 1)} answered, on {named}"
        text += f", clocks within {clock_limit(trips):.2f} s"
        if answers.failures:
            first = answers.failures[0]
            text += f"; {len(answers.failures)} failed ({type(first).__name__}: {first})"
            return self._line(WARNING, text, "look at the logs of its workers")
        if answers.missing:
            text += f"; {answers.missing} slots did not within {ANSWERING:g} s"
            return self._line(WARNING, text, "other work may keep them busy")
        return self._line(OK, text)

    def _probe(self, engine: Engine, count: int, round_: str) -> _Answers:
        """Ask as many times at once as there are slots."""
        back: SimpleQueue[_Landed] = SimpleQueue()
        futures = []
        for n in range(count):
            name = f"answer-{round_}{self.number}-{n}"
            payload = probe(
                self.scratch.address, name, f"answer-{round_}{self.number}-", count, HOLD
            )
            sent = time.time()
            future = engine.submit(payload, {})
            futures.append(future)
            future.add_done_callback(partial(_landed, back, sent))
        answers = _Answers([], [], 0)
        deadline = time.monotonic() + ANSWERING
        for left in range(count, 0, -1):
            landed = self._next(back, deadline)
            if landed is None:
                for future in futures:
                    future.cancel()
                return answers._replace(missing=left)
            _sort(landed, answers)
        return answers

    def _next(self, back: SimpleQueue[_Landed], deadline: float) -> _Landed | None:
        """The next that has landed; None where the time is over, or nobody wants it any more."""
        while not self.leaving.is_set() and time.monotonic() < deadline:
            try:
                return back.get(timeout=LOOK)
            except Empty:
                continue
        return None

    def _try_step(self, engine: Engine) -> None:
        """Have a worker's child perform a step."""
        self._expect("has answered, and does not perform a step", FOR_STEP)
        back: SimpleQueue[_Landed] = SimpleQueue()
        future = engine.submit(trial(self.scratch, f"queue{self.number}", self.scratch.objects), {})
        future.add_done_callback(partial(_landed, back, 0.0))
        landed = self._next(back, time.monotonic() + FOR_STEP)
        if landed is None:
            future.cancel()
            text = f"a worker of {self.url} does not end a step within {FOR_STEP:g} s"
            self.found.append(self._line(ERROR, text, "look at the logs of its workers"))
            return
        error = error_of(future)
        wrong = str(engine.explain(error)) if error is not None else read_trial(future.result())
        if wrong:
            text = f"a worker of {self.url} cannot perform a step: {wrong}"
            self.found.append(self._line(ERROR, text))


def _landed(back: SimpleQueue[_Landed], sent: float, future: Future[bytes]) -> None:
    back.put(_Landed(sent, time.time(), future))


def _sort(landed: _Landed, answers: _Answers) -> None:
    sent, back, future = landed
    error = error_of(future)
    if error is None:
        try:
            answers.trips.append(Trip(sent, back, read_answer(future.result())))
            return
        except (ValueError, TypeError):
            error = PipedecoError(
                "a worker does not know the question, and so has another pipedeco"
            )
    answers.failures.append(error)

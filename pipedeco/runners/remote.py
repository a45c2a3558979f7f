"""The remote runner: batches of calls go to the engines that serve their queues.

    calls of one queue wait in a line    -> a payload of as many as keep a worker busy for a while
    payload                              -> engine -> perform_batch in a worker somewhere
    what is told of it                   <- the future's result; while it goes on, runners/exchange.py

The loop's thread is the scheduler's, as in local mode; engines are opened and code is packed in
threads of their own, as both take seconds.
"""

from __future__ import annotations

import marshal
import os
import threading
import time
from concurrent.futures import CancelledError
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from pipedeco.config import engine_url, find_main
from pipedeco.engines import Engine, check_url, error_of, parse
from pipedeco.errors import ConfigError, NotPicklable, PipedecoError, WorkerDied
from pipedeco.graph import FAILED, Called, LogPosition, Logs, Step, StepCall, StepError
from pipedeco.main_file import read_main
from pipedeco.runners import UnderWay
from pipedeco.runners.activity import not_begun, opening, shown_name
from pipedeco.runners.bundle import Bundles, project_here
from pipedeco.runners.calls import (
    CallSession,
    Function,
    Program,
    Told,
    building,
    cancelled_call,
    check_value,
    failure_of,
    is_worth_a_retry,
    message_of,
    next_calls,
    outcome_of,
    removed,
)
from pipedeco.runners.exchange import LOST, open_exchange
from pipedeco.runners.queues import Flight, Line, Queues
from pipedeco.runners.written import Written
from pipedeco.serialization import INLINE_LIMIT
from pipedeco.worker.batch import Batch
from pipedeco.worker.deaths import GRACE, ends_of_dead
from pipedeco.worker.exchange import BEAT, CANCEL, KILL
from pipedeco.worker.loop import Loop, Timer
from pipedeco.worker.station import LEASE
from pipedeco.worker.travel import of_machine, setting_of

if TYPE_CHECKING:
    from pipedeco.definitions import Definition
    from pipedeco.graph import Outcome
    from pipedeco.runners import RunFacts
    from pipedeco.serialization import Packed

BATCH = 0.1  # seconds of work in a payload: what a trip through an engine costs, and ten times more
LARGEST = 1000  # calls in a payload
WIDEST = 1 << 20  # bytes of arguments in a payload
AHEAD = 2  # payloads of short steps for each slot, so that workers need not wait for the next
SIGN_INTERVAL = LEASE / 10  # seconds between two signs of life
SOON = 1.0  # seconds after which it is of interest that an engine has not begun a payload
PATIENCE = 10.0  # seconds for which an engine need not begin a payload before we ask why
LAST_WORD = 5.0  # seconds after a kill in which a station may still tell the end


class RemoteSession(CallSession):
    """One run's use of the engines."""

    elsewhere = True

    def __init__(self, runner: RemoteRunner, facts: RunFacts) -> None:
        super().__init__(runner, facts, read_main(find_main()))
        self.runner = runner
        self.exchange = open_exchange(facts, self.post, self._heard)
        self.unguarded = Program(None, elsewhere=True)  # for workers that cannot import that file
        self.project = project_here()
        self.lines: dict[tuple[Any, ...], Line] = {}
        self.flights: dict[str, Flight] = {}
        self.trouble: BaseException | None = None  # why nothing can be sent
        self.sent = False  # whether the setting is in the store
        self.settled = threading.Event()  # the same, or it cannot be
        self.parent = runner.session_of(facts.parent)
        self.home: RemoteSession = self.parent.home if self.parent is not None else self
        self.written: Written = self.parent.written if self.parent is not None else Written()
        self.positions: dict[str, LogPosition] = {}  # by log
        self.next_sign: Timer | None = None
        self._names = count(1)
        self._packed: dict[str, tuple[bytes, Packed]] = {}  # definitions that travel as blobs

    def place(self, called: Called) -> tuple[Any, ...]:
        options = called.options
        queue = options.queue or self.facts.default_queue
        return queue, options.resources, called.environment

    def prepare(self, called: Called) -> None:
        super().prepare(called)
        if not called.is_pipeline and called.function.line is None:
            queue, resources, environment = self.place(called)
            try:
                url = parse(engine_url(queue))
                check_url(url)
            except ConfigError as error:
                raise ConfigError(
                    f"component {called.name} of run {self.facts.id}: {error}"
                ) from None
            queues = self.runner.queues
            gate = queues.gate(queue, url.max_in_flight)
            line = Line(queues.place(url.engine), gate, dict(resources), environment)
            called.function.line = self.lines.setdefault((url.text, *self.place(called)), line)

    def submit(self, call: StepCall) -> None:
        call.step.called.function.line.ready.put(call)

    def travels(self, name: str) -> bool:
        return not of_machine(name)

    def by_priority(self) -> list[Line]:
        """The lines, in which the first call has the highest priority of its line."""
        lines = list(self.lines.values())  # the body may add one
        if any(line.ready.ranked for line in lines):
            lines.sort(
                key=lambda line: -line.ready[0].step.called.options.priority if line.ready else 0
            )
        return lines

    def withdraw(self, call: StepCall) -> bool:
        return removed(call.step.called.function.line.ready, call)

    def stop(self) -> list[StepCall]:
        self.stopping = True
        never_begun = [call for line in self.lines.values() for call in line.ready]
        for line in self.lines.values():
            line.ready.clear()
        self.exchange.ask(CANCEL)
        for flight in list(self.flights.values()):
            # Once it is begun the station ends it, and tells how; engines cannot.
            if flight.future is not None:
                self.exchange.unless_begun(flight.name, flight.future.cancel)
        self.later(GRACE, self.kill)
        return never_begun

    def kill(self) -> None:
        if self.flights:
            self.exchange.ask(KILL)
            self.later(LAST_WORD, self._give_up)

    def _heard(self, name: str, messages: list[tuple[Any, ...]]) -> None:
        flight = self.flights.get(name)
        if flight is not None:
            for message in messages:
                self.runner.told(self, flight, message)

    def _give_up(self) -> None:
        """Nobody tells how these ended."""
        for flight in list(self.flights.values()):
            self.runner.over(self, flight)
            for call in list(flight.calls.values()):
                self.runner.end(call, cancelled_call())

    def running(self) -> list[UnderWay]:
        found = []
        for flight in list(self.flights.values()):
            current = flight.current
            call = flight.calls.get(current[0]) if current is not None else None
            if current is not None and call is not None:
                found.append(UnderWay(call.step, time.monotonic() - current[1], current[2]))
        return found

    def preparing(self) -> list[str]:
        lines = list(self.lines.values())
        if not self.sent:
            return ["packing the project's code"] if any(line.ready for line in lines) else []
        found = [opening(line.place.url) for line in lines if line.place.opening]
        now = time.monotonic()
        found += [
            not_begun(flight.place.url)
            for flight in list(self.flights.values())
            if flight.current is None and flight.sent and now - flight.sent > SOON
        ]
        return list(dict.fromkeys(found))

    def close(self) -> None:
        closed = threading.Event()
        self.post(self.runner.forget, self, closed)
        deadline = time.monotonic() + LOST
        while not closed.wait(0.5):
            if not self.runner.alive or time.monotonic() > deadline:
                break
        told = self.written.text() if self.parent is None else ""
        if told:
            self.announce(told)
        self.echo.close()

    # -- what travels ----------------------------------------------------------------------

    def send_setting(self) -> None:
        """Pack the code and write what stations must know; in a thread of its own."""
        try:
            code = None
            if self.project:
                code = self.runner.bundles.bundle(self.project, self.exchange.archives)
                for text in self.runner.bundles.notes if self.parent is None else ():
                    self.announce(text)
            names = {"run": self.facts.id, "pipeline": self.facts.pipeline}
            prefix = self.facts.log_prefix
            home = "" if self.home is self else self.home.exchange.address
            setting = setting_of(
                self.around, self.project, code, log_prefix=prefix, home=home, **names
            )
            if home:
                self.home.settled.wait()  # stations look there
            self.exchange.open(setting)
        except (PipedecoError, OSError) as error:
            self.trouble = error
        except Exception as error:  # noqa: BLE001 - a defect here must not leave the run waiting for ever
            self.trouble = PipedecoError(f"the project's code cannot be packed: {error!r}")
        self.settled.set()
        self.post(self._setting_sent)

    def _setting_sent(self) -> None:
        self.sent = True
        self._give_sign()

    def _give_sign(self) -> None:
        """Tell the stations that somebody waits for what they do."""
        if self in self.runner.sessions:
            self.exchange.sign()
            self.next_sign = self.later(SIGN_INTERVAL, self._give_sign)

    def packed(self, definition: Definition) -> tuple[str, Packed]:
        """A definition of `__main__`; a large one travels once, through the store."""
        name, data = definition
        if len(data) <= INLINE_LIMIT:
            return name, data
        known = self._packed.get(name)
        if known is None or known[0] is not data:
            known = self._packed[name] = data, self.facts.blobs.put([data])
        return name, known[1]

    def current_name(self, log: str) -> str:
        """The step whose output comes last in a log; called in another thread."""
        for flight in list(self.flights.values()):
            current = flight.current
            call = flight.calls.get(current[0]) if current is not None else None
            if call is not None and call.step.logs is self.positions.get(log):
                return shown_name(call.step)
        return ""


class RemoteRunner(Loop):
    """Owns the loop thread and the engines; `open`, `post` and `close` are anybody's."""

    def __init__(self) -> None:
        super().__init__("pipedeco-loop")
        self.sessions: list[RemoteSession] = []
        self.queues = Queues(self.post)
        self.bundles = Bundles()
        self._looking = False
        self.start()

    def open(self, facts: RunFacts) -> RemoteSession:
        session = RemoteSession(self, facts)
        name = "pipedeco-bundle"
        threading.Thread(target=session.send_setting, name=name, daemon=True).start()
        self.post(self.sessions.append, session)
        return session

    def close(self) -> None:
        super().close()
        self.queues.close()

    def session_of(self, run: str) -> RemoteSession | None:
        """That of a run, where it goes on."""
        return next((found for found in list(self.sessions) if found.facts.id == run), None)

    def forget(self, session: RemoteSession, closed: threading.Event) -> None:
        """The run is over; who still performs something for it finds that its folder is gone."""
        self.sessions.remove(session)
        self.cancel(session.next_sign)  # else the run's steps would be kept until then
        for flight in list(session.flights.values()):
            self.over(session, flight)
        session.exchange.close(closed.set)

    def crashed(self, error: BaseException) -> None:
        for session in self.sessions:
            session.facts.crashed(error)

    # -- dispatch ----------------------------------------------------------------------------

    def act(self) -> None:
        for session in self.sessions:
            for line in session.by_priority():
                if line.ready and session.sent:
                    self._dispatch(session, line)
        self.queues.forget_troubles()
        if len(self.sessions) > 1:
            self.sessions.append(self.sessions.pop(0))  # nobody is always first

    def _dispatch(self, session: RemoteSession, line: Line) -> None:
        engine = self.queues.engine(line.place)
        trouble = session.trouble or line.place.trouble
        if line.resources and engine is not None and not engine.takes_resources:
            trouble = ConfigError(
                f"{line.place.url} knows no resources, and the step asks for "
                f"{', '.join(line.resources)}; take resources= away, or give it another queue"
            )
        if trouble is not None:
            waiting = list(line.ready)
            line.ready.clear()
            for call in waiting:
                self._fail(call, trouble)
        elif engine is not None:
            while line.ready and self._has_room(session, line, engine):
                self._send(session, line, engine)

    def _has_room(self, session: RemoteSession, line: Line, engine: Engine) -> bool:
        mean = line.ready[0].step.called.function.mean
        slots = max(1, engine.slots)
        limit = session.facts.limit
        if limit is not None and len(session.flights) >= limit:
            return False
        if line.gate.limit is not None and line.gate.flight >= line.gate.limit:
            return False
        return line.place.flights[line.asks] < (slots if mean >= BATCH else slots * AHEAD)

    def _send(self, session: RemoteSession, line: Line, engine: Engine) -> None:
        """Give an engine its next payload."""
        flight = Flight(f"b{next(session._names)}", line, {})
        batch = self._batch(session, line, flight, max(1, engine.slots))
        if not flight.calls:
            return
        session.flights[flight.name] = flight
        line.place.flights[line.asks] += 1
        line.gate.flight += 1
        session.exchange.offer(
            batch, lambda error: self._submit(session, flight, engine, batch, error)
        )
        if not self._looking:
            self._looking = True
            self.later(BEAT, self._look)

    def _submit(
        self,
        session: RemoteSession,
        flight: Flight,
        engine: Engine,
        batch: Batch,
        error: BaseException | None,
    ) -> None:
        """What a payload needs is there, or cannot be."""
        if session.flights.get(flight.name) is not flight:
            return
        if session.stopping or error is not None or not engine.alive:
            self._not_sent(session, flight, error)
            return
        line = flight.line
        payload = marshal.dumps(tuple(batch))
        try:
            priority = next(iter(flight.calls.values())).step.called.options.priority
            future = engine.submit(payload, line.resources, priority)
        except Exception as refusal:  # noqa: BLE001 - an engine's library; the steps end with what it says
            self.over(session, flight)
            told = refusal if isinstance(refusal, PipedecoError) else engine.explain(refusal)
            for call in list(flight.calls.values()):
                self._fail(call, told)
            return
        flight.future = future
        flight.sent = time.monotonic()
        future.add_done_callback(lambda done: self.post(self._landed, session, flight, engine))

    def _not_sent(
        self, session: RemoteSession, flight: Flight, error: BaseException | None
    ) -> None:
        """The run is to stop, a value cannot be had, or the engine was lost and is opened again."""
        self.over(session, flight)
        for number, call in reversed(list(flight.calls.items())):
            if error is not None and not session.stopping:
                self._fail(call, error)
            else:
                self._ready_again(session, flight, number)

    def _batch(self, session: RemoteSession, line: Line, flight: Flight, slots: int) -> Batch:
        functions: dict[int, tuple[Any, ...]] = {}
        definitions: dict[str, tuple[str, Packed]] = {}
        changes: dict[tuple[str, str], Any] = {}
        spare: set[str] = set()
        renewed: set[str] = set()
        timeouts: dict[int, float] = {}
        calls: list[tuple[Any, ...]] = []
        moments: dict[int, bytes] = {}
        width = 0
        fresh = False
        share = min(-(-len(line.ready) // slots), LARGEST)
        for call in next_calls(line.ready, share, 0.0, BATCH, idle=True):
            step = call.step
            try:
                found = self._needed(session, line, step)
            except PipedecoError as error:
                call.follows = None
                self._fail(call, error)
                continue
            definitions.update({item.name: session.packed(item) for item in found.definitions})
            changes.update({item[:2]: tuple(item) for item in found.changes})
            renewed |= found.renewed
            spare |= found.spare
            function: Function = step.called.function
            functions[function.id] = function.message()
            call.number = next(self.numbers)
            message = message_of(call)
            calls.append(message)
            if step.moment:
                moments[call.number] = step.moment
            flight.calls[call.number] = call
            options = step.called.options
            fresh = fresh or options.fresh_process
            if options.timeout is not None:
                timeouts[call.number] = options.timeout
            width += _width(message)
            if width > WIDEST:
                break
        return Batch(
            session.exchange.address,
            flight.name,
            session.facts.start_method,
            list(functions.values()),
            list(definitions.values()),
            sorted(renewed),
            calls,
            timeouts,
            fresh,
            None if line.environment is None else tuple(line.environment),
            moments,
            list(changes.values()),
            sorted(spare),
        )

    def _needed(self, session: RemoteSession, line: Line, step: Step) -> Told:
        """What a call needs of the program.

        Where workers import the main file its definitions go along all the same, as far as they
        can travel: for a worker on which the import fails.
        """
        program = session.program if line.environment is None else session.unguarded
        fn, names = step.called.component.fn, session.names(step)
        again = step.key is not None
        found = program.needed(fn, names, again=again)
        if program.main is None:
            return found
        try:
            whole = session.unguarded.needed(fn, names, again=again).definitions
        except NotPicklable:
            return found
        known = {item.name for item in found.definitions}
        more = [item for item in whole if item.name not in known]
        return found._replace(
            definitions=[*found.definitions, *more], spare={item.name for item in more}
        )

    # -- what is told of payloads ------------------------------------------------------------

    def _look(self) -> None:
        """Read what stations tell of payloads that they still perform."""
        self._looking = any(session.flights for session in self.sessions)
        for session in list(self.sessions):
            session.exchange.look()
            self._ask_for_waiting(session)
        if self._looking:
            self.later(BEAT, self._look)

    def _ask_for_waiting(self, session: RemoteSession) -> None:
        """Ask the engines why they begin nothing of a line, now and then, and tell."""
        now = time.monotonic()
        for flight in session.flights.values():
            line = flight.line
            waits = flight.future is not None and flight.current is None
            if waits and now - max(flight.sent, line.questioned) > PATIENCE:
                line.questioned = now
                self.queues.ask(line, partial(self._tell_lack, session, flight))

    def _tell_lack(self, session: RemoteSession, flight: Flight, lack: str) -> None:
        if session.flights.get(flight.name) is flight and flight.calls:
            name = next(iter(flight.calls.values())).step.name
            session.announce(f"{name} waits: {lack}")

    def told(self, session: RemoteSession, flight: Flight, message: tuple[Any, ...]) -> None:
        kind = message[0]
        if kind == "outcome":
            self._outcome(session, flight, message[1], message[2])
        elif kind == "given_back":
            for number in reversed(message[1]):
                self._ready_again(session, flight, number)
        elif kind == "setup_failed":
            session.setup_failed(message[1], StepError(*message[2]))
        elif kind == "now":
            self._now(session, flight, message)
        elif kind == "wrote":
            session.written.add(message[1], flight.done, message[2], session.facts.logs)
        elif kind == "building" and flight.calls:
            call = next(iter(flight.calls.values()))
            session.announce(f"{building(call.step.called)} (on {message[1]})")

    def _now(self, session: RemoteSession, flight: Flight, message: tuple[Any, ...]) -> None:
        _, number, log, seconds, progress, *places = message
        call = flight.calls.get(number)
        if call is None:
            return
        flight.current = number, time.monotonic() - seconds, progress / 1e6
        position = self._position(session, log)
        position.out, position.err, position.events = places
        position.number = number
        call.step.logs = position
        call.started(call)

    def _position(self, session: RemoteSession, log: str) -> LogPosition:
        if log not in session.positions:
            session.positions[log] = LogPosition(log)
            session.echo.add(log, lambda: session.current_name(log))
        return session.positions[log]

    def _outcome(
        self, session: RemoteSession, flight: Flight, message: tuple[Any, ...], log: str
    ) -> None:
        number, state, duration, ends, retryable = (
            message[0], message[1], message[3], message[-1], message[-2],
        )  # fmt: skip
        call = flight.calls.pop(number, None)
        if call is None:  # it was read before, or is of a run that was given up
            return
        flight.done[number] = call.step
        call.step.called.function.took(duration)
        logs = None if ends is None else Logs(log, *ends)
        if logs is not None:
            position = self._position(session, log)
            position.out, position.err, position.events = ends[1], ends[3], ends[5]
            session.echo.ended(log, shown_name(call.step), (ends[1], ends[3]))
        outcome = outcome_of(message, logs, log)
        if flight.line.environment is not None:
            outcome = check_value(call.step, outcome, session.facts.blobs)
        if retryable is None:  # the station does not know the user's function
            worth = state == FAILED and is_worth_a_retry(outcome, call.step)
            outcome = outcome._replace(retryable=worth)
        self.end(call, outcome)

    def end(self, call: StepCall, outcome: Any) -> None:
        call.started(call)
        call.done(call, outcome)

    def _fail(self, call: StepCall, error: BaseException) -> None:
        """A call ends without having been performed, or nobody knows how far."""
        self.end(call, failure_of(call, error))

    def _ready_again(self, session: RemoteSession, flight: Flight, number: int) -> None:
        call = flight.calls.pop(number, None)
        if call is None:
            return
        if call.follows is not None:
            call.undone(call)
        elif session.stopping:
            call.done(call, cancelled_call())
        else:
            flight.line.ready.put_back(call)

    def _landed(self, session: RemoteSession, flight: Flight, engine: Engine) -> None:
        """An engine is done with a payload."""
        if session.flights.get(flight.name) is not flight:
            return
        assert flight.future is not None
        error = error_of(flight.future)
        data = flight.future.result() if error is None else b""
        session.exchange.rest(
            flight.name,
            data,
            lambda trouble: self._ended(session, flight, engine, error or trouble),
        )

    def _ended(
        self,
        session: RemoteSession,
        flight: Flight,
        engine: Engine,
        error: BaseException | None,
    ) -> None:
        """All that is told of a payload was heard."""
        if session.flights.get(flight.name) is not flight:
            return
        self.over(session, flight)
        if error is None:
            if flight.calls:
                error = WorkerDied("the engine's worker ended before the step did")
        elif isinstance(error, CancelledError) and session.stopping:
            error = None
            for call in list(flight.calls.values()):
                self.end(call, cancelled_call())
        elif not isinstance(error, PipedecoError):
            error = engine.explain(error)
        if error is not None:
            self._lost(session, flight, error)

    def _lost(self, session: RemoteSession, flight: Flight, error: BaseException) -> None:
        """A payload will not be finished."""
        left = list(flight.calls)
        if not left:
            return
        charged = left if not isinstance(error, WorkerDied) else [self._charged(flight)]
        for number in reversed(left):
            if number not in charged:
                self._ready_again(session, flight, number)
        for number in charged:
            call = flight.calls.pop(number)
            if session.stopping:
                self.end(call, cancelled_call())
            else:
                self.end(call, _with_what_was_seen(session, flight, call, failure_of(call, error)))

    def _charged(self, flight: Flight) -> int:
        """The call that a worker performed when it died: the one that was seen, or the first."""
        if flight.current is not None and flight.current[0] in flight.calls:
            return flight.current[0]
        return next(iter(flight.calls))

    def over(self, session: RemoteSession, flight: Flight) -> None:
        """Nothing more is expected of a payload."""
        if session.flights.pop(flight.name, None) is not None:
            session.exchange.over(flight.name)
            flight.future = None  # its callback leads here: what it holds is not to wait for gc
            flight.place.flights[flight.line.asks] -= 1
            flight.line.gate.flight -= 1


def _with_what_was_seen(
    session: RemoteSession, flight: Flight, call: StepCall, outcome: Outcome
) -> Outcome:
    """The outcome of a call whose worker is gone, with when it began, where, and what it wrote."""
    position = call.step.logs
    if flight.current is None or flight.current[0] != call.number or position is None:
        return outcome
    seconds = time.monotonic() - flight.current[1]
    log = position.name
    ends = ends_of_dead(os.path.join(session.facts.logs, log), position)
    position.out, position.err, position.events = ends[1], ends[3], ends[5]
    session.echo.ended(log, shown_name(call.step), (ends[1], ends[3]))
    return outcome._replace(
        started=time.time() - seconds, duration=seconds, worker=log, logs=Logs(log, *ends)
    )


def _width(message: tuple[Any, ...]) -> int:
    """About how many bytes a call takes."""
    _, _, args, inputs, _, _ = message
    return sum(len(part) for part in (args, *(inputs or ())) if isinstance(part, bytes | str))

"""The local runner: one loop thread that keeps a pool of worker processes busy.

Messages cost more than short steps, so ready calls travel in batches: one call a worker until
its component's duration is known, then as many as keep the worker busy for `BATCH` seconds.
Calls that wait behind a step which takes longer than expected are asked back when somebody else
could do them.
"""

from __future__ import annotations

import heapq
import os
import selectors
import signal
import threading
import time
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any

from pipedeco.definitions import FunctionSpec, MainDefinitions, describe
from pipedeco.errors import NotPicklable, PipedecoError, StepTimeout, WorkerDied
from pipedeco.events import length
from pipedeco.graph import (
    CANCELLED,
    FAILED,
    PENDING,
    SUCCESS,
    Called,
    LogPosition,
    Logs,
    Outcome,
    Step,
    StepCall,
    StepError,
)
from pipedeco.runners import UnderWay, auto_logs
from pipedeco.runners.beside import Aside
from pipedeco.runners.echo import Echo
from pipedeco.serialization import Pickler, unpack_arguments
from pipedeco.worker.environment import here
from pipedeco.worker.perform import describe_error
from pipedeco.worker.pool import Exit, Pool, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pipedeco.runners import RunFacts

BATCH = 0.004  # seconds of work that a worker is given at once
OVERHEAD = 15e-6  # seconds that a worker spends on a call besides the step itself
LARGEST = 400  # calls in a message
UNKNOWN = 1e9  # stands for the duration of a component that never ran
STUCK = 0.01  # seconds without an outcome after which waiting calls are asked back
LONGEST_SLEEP = 3600.0  # seconds; the system's own limit is some weeks
GRACE = 5.0  # seconds between SIGTERM and SIGKILL
FALSE_STARTS = 3  # workers that may die one after another before they have begun anything


class _Function:
    """A component's function as workers get it."""

    __slots__ = ("auto_log", "id", "mean", "name", "retry_on", "spec")

    def __init__(
        self, number: int, name: str, spec: FunctionSpec, retry_on: bytes | None, *, auto_log: bool
    ) -> None:
        self.id = number
        self.name = name
        self.auto_log = auto_log
        self.spec = spec
        self.retry_on = retry_on
        self.mean = UNKNOWN  # seconds, of the last outcomes


class _Slot:
    """A worker and what it was given."""

    def __init__(self, worker: Worker, *, single_use: bool) -> None:
        self.worker = worker
        self.single_use = single_use
        self.calls: dict[int, tuple[StepCall, float]] = {}  # in order, with expected seconds
        self.load = 0.0  # the sum of those seconds
        self.run: LocalSession | None = None
        self.functions: set[int] = set()
        self.shipped: dict[str, bytes] = {}  # what stands in its __main__, by name
        self.complete: set[tuple[str, ...]] = set()  # names that were shipped with all they reach
        self.exclusive = False
        self.moved = 0.0  # monotonic time of the last outcome or message
        self.asked_back = False
        self.verdict: tuple[int, StepError] | None = None  # why its call is being killed
        self.position = LogPosition(worker.name)
        self.proven = False  # whether it ever sent anything


class LocalSession:
    """One run's use of the local runner."""

    in_process = False

    def __init__(self, runner: LocalRunner, key: int, facts: RunFacts) -> None:
        self.runner = runner
        self.key = key
        self.facts = facts
        self.surroundings = tuple(here())
        self.ready: deque[StepCall] = deque()
        self.busy: set[_Slot] = set()
        self.positions: dict[str, LogPosition] = {}  # by worker, which may leave and come back
        self._functions: dict[Any, _Function] = {}
        self.stopping = False
        self.definitions = MainDefinitions()
        self.pickler = Pickler(facts.blobs)
        self.echo = Echo(facts.logs)
        self.post = self.tell = runner.post
        self.later = runner.later

    def prepare(self, called: Called) -> None:
        if called.is_pipeline:
            return
        # Components that differ in other options share what workers know of them.
        retry_on = called.options.retry_on
        auto_log = auto_logs(called, self.facts)
        key = id(called.component.fn), called.name, retry_on, auto_log
        function = self._functions.get(key)
        if function is None:
            spec = describe(called.component.fn)
            pickled = None if retry_on == (Exception,) else self.pickler.dump_inline(retry_on)
            number = next(self.runner.numbers)
            function = _Function(number, called.name, spec, pickled, auto_log=auto_log)
            self._functions[key] = function
        called.function = function

    def submit(self, call: StepCall) -> None:
        self.ready.append(call)

    def withdraw(self, call: StepCall) -> bool:
        try:
            self.ready.remove(call)
        except ValueError:
            return False
        return True

    def stop(self) -> list[StepCall]:
        self.stopping = True
        never_begun = list(self.ready)
        self.ready.clear()
        for slot in list(self.busy):
            slot.worker.page[2] = self.key  # tells a SIGTERM of ours from any other
            self.runner.pool.send(slot.worker, ("cancel", self.key))
            self.runner.pool.kill(slot.worker, signal.SIGTERM)
        self.later(GRACE, self.kill)
        return never_begun

    def kill(self) -> None:
        for slot in list(self.busy):
            self.runner.pool.kill(slot.worker)

    def called(self, step: Step) -> None:
        pass

    def running(self) -> list[UnderWay]:
        found = [_under_way(slot, self) for slot in list(self.busy)]
        return [item for item in found if item is not None]

    def on_scheduler(self) -> bool:
        return self.runner.on_loop()

    def arguments(self, step: Step) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return unpack_arguments(
            step.args, self.facts.blobs, lambda number: step.run.load(step.inputs[number])
        )

    def spawn(self, target: Callable[[], None], name: str) -> None:
        threading.Thread(target=target, name=name).start()

    def beside(self, name: str) -> Aside:
        return Aside(name)

    def close(self) -> None:
        self.post(self.runner.forget, self)
        self.echo.close()


class LocalRunner:
    """Owns the loop thread and the pool; every method but `open`, `post`, `close` is the loop's."""

    def __init__(self, start_method: str) -> None:
        self.start_method = start_method
        self.numbers = count(1)
        self.sessions: list[LocalSession] = []
        self.slots: dict[int, _Slot] = {}
        self.idle: list[_Slot] = []
        self.selector = selectors.DefaultSelector()
        self.false_starts = 0
        self._inbox: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._timers: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._asleep = False
        self._closing = False
        self._ears, self._mouth = os.pipe()
        os.set_blocking(self._mouth, False)
        self.selector.register(self._ears, selectors.EVENT_READ, self._woken)
        self.pool = Pool(self.selector, start_method, self.on_message, self.on_exit)
        self._thread = threading.Thread(target=self._loop, name="pipedeco-loop", daemon=True)
        self._thread.start()
        os.register_at_fork(after_in_child=self._abandon)

    # -- from any thread -----------------------------------------------------------------

    def open(self, facts: RunFacts) -> LocalSession:
        session = LocalSession(self, next(self.numbers), facts)
        self.post(self._opened, session)
        return session

    def post(self, action: Callable[..., None], *args: Any) -> None:
        self._inbox.append((action, args))
        if self._asleep:
            self._wake()

    def later(self, seconds: float, action: Callable[..., None], *args: Any) -> None:
        self.post(self._set_timer, time.monotonic() + seconds, action, args)

    @property
    def alive(self) -> bool:
        return not self._closing

    def on_loop(self) -> bool:
        """Whether the caller is the loop's own thread, in a callback of the user's."""
        return threading.get_ident() == self._thread.ident

    def stop(self) -> None:
        self._closing = True
        self._wake()

    def close(self) -> None:
        """Leave no process; what runs is lost."""
        self.stop()
        self._thread.join(5.0)

    def _wake(self) -> None:
        try:
            os.write(self._mouth, b"!")
        except BlockingIOError:  # the pipe is full of wake-ups
            pass

    def _abandon(self) -> None:
        """In a forked child: the workers are not ours."""
        self.pool.abandon()
        self.selector.close()

    # -- the loop ------------------------------------------------------------------------

    def _loop(self) -> None:
        try:
            while not self._closing:
                self._turn()
        except BaseException as error:  # noqa: BLE001 - a defect of ours must not leave bodies waiting for ever
            self._closing = True
            for session in self.sessions:
                session.facts.crashed(error)
        finally:
            self.pool.close()

    def _turn(self) -> None:
        """One turn: what was posted, what is due, what came in, what can be sent."""
        inbox = self._inbox
        while inbox:
            action, args = inbox.popleft()
            action(*args)
        if self._timers:
            self._run_timers()
        self._dispatch()
        self._asleep = True
        timeout = 0.0 if inbox else self._patience()
        events = self.selector.select(timeout)
        self._asleep = False
        for key, mask in events:
            key.data(mask)

    def _woken(self, events: int) -> None:
        os.read(self._ears, 4096)

    def _set_timer(self, when: float, action: Callable[..., None], args: tuple[Any, ...]) -> None:
        heapq.heappush(self._timers, (when, next(self.numbers), action, args))

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, _, action, args = heapq.heappop(self._timers)
            action(*args)

    def _patience(self) -> float | None:
        """How long the loop may sleep."""
        now = time.monotonic()
        until = self._timers[0][0] - now if self._timers else None
        if self._ask_back(now):
            until = STUCK if until is None else min(until, STUCK)
        return None if until is None else min(max(0.0, until), LONGEST_SLEEP)

    # -- runs and workers ----------------------------------------------------------------

    def _opened(self, session: LocalSession) -> None:
        self.sessions.append(session)
        self._hire()

    def forget(self, session: LocalSession) -> None:
        self.sessions.remove(session)
        for slot in self.slots.values():
            if slot.run is session:
                slot.run = None
                if slot.calls:  # the run was given up; nobody waits for these
                    slot.calls.clear()
                    self.pool.kill(slot.worker)

    def _hire(self) -> None:
        """Start the workers that the open runs may use."""
        wanted = max((session.facts.workers for session in self.sessions), default=0)
        staff = sum(not slot.single_use for slot in self.slots.values())
        for _ in range(wanted - staff):
            self.idle.append(self._start(single_use=False))

    def _start(self, *, single_use: bool) -> _Slot:
        slot = _Slot(self.pool.start(), single_use=single_use)
        self.slots[slot.worker.number] = slot
        return slot

    # -- dispatch ------------------------------------------------------------------------

    def _dispatch(self) -> None:
        for session in self.sessions:
            while session.ready:
                slot = self._choose(session)
                if slot is None:
                    break
                self._fill(slot, session)
        if len(self.sessions) > 1:
            self.sessions.append(self.sessions.pop(0))  # nobody is always first

    def _choose(self, session: LocalSession) -> _Slot | None:
        """Who gets the next calls of a run; None where everybody has enough."""
        head = session.ready[0].step
        if len(session.busy) < session.facts.workers:
            if head.called.options.fresh_process:
                return self._start(single_use=True)
            if self.idle:
                return self._take_idle(head)
        if _is_exclusive(head) or head.key is not None or head.called.function.mean == UNKNOWN:
            return None
        open_slots = [slot for slot in session.busy if slot.load < BATCH / 2 and not slot.exclusive]
        return min(open_slots, key=_load, default=None)

    def _take_idle(self, head: Step) -> _Slot:
        """The worker that made the step's input if it is idle, else the last that was busy."""
        if head.inputs:
            outcome = head.inputs[-1].outcome
            for slot in self.idle:
                if outcome is not None and slot.worker.name == outcome.worker:
                    self.idle.remove(slot)
                    return slot
        return self.idle.pop()

    def _fill(self, slot: _Slot, session: LocalSession) -> None:
        """Send a worker its next calls."""
        self._enter(slot, session)
        share = -(-len(session.ready) // session.facts.workers)
        batch: list[tuple[Any, ...]] = []
        for call in self._next_calls(slot, session, min(share, LARGEST)):
            message = self._prepare(slot, session, call)
            if message is not None:
                if not slot.calls:
                    self._begin(slot, call)
                mean = call.step.called.function.mean
                slot.calls[message[0]] = call, mean
                slot.load += mean
                batch.append(message)
        if batch:
            session.busy.add(slot)
            slot.moved = time.monotonic()
            slot.asked_back = False
            self.pool.send(slot.worker, ("calls", batch))
        elif not slot.calls:
            self._release(slot)

    def _next_calls(self, slot: _Slot, session: LocalSession, most: int) -> Iterable[StepCall]:
        """Take from the ready calls what this worker is to get now."""
        ready = session.ready
        load = slot.load
        taken = 0
        while ready and taken < most and load < BATCH:
            step = ready[0].step
            mean = step.called.function.mean
            alone = not slot.calls and not taken
            if not alone and (mean == UNKNOWN or _is_exclusive(step) or step.key is not None):
                return
            taken += 1
            load += mean
            call = ready.popleft()
            yield call
            if _is_exclusive(step):
                return
            for follower in _followers(call, BATCH - load):
                taken += 1
                load += follower.step.called.function.mean
                yield follower

    def _enter(self, slot: _Slot, session: LocalSession) -> None:
        """Put a worker into the surroundings of a run."""
        if slot.run is session:
            return
        slot.run = session
        slot.functions.clear()
        slot.complete.clear()
        name = f"{session.facts.log_prefix}{slot.worker.name}"
        slot.position = session.positions.setdefault(name, LogPosition(name))
        session.echo.add(name, lambda: _current_name(slot, session))
        facts = session.facts
        folders = facts.blobs.folder, f"{facts.logs}/{name}"
        names = facts.id, facts.pipeline
        self.pool.send(slot.worker, ("run", session.key, session.surroundings, *folders, names))

    def _prepare(
        self, slot: _Slot, session: LocalSession, call: StepCall
    ) -> tuple[Any, ...] | None:
        """The message of a call; what the worker lacks for it is sent before."""
        step = call.step
        function: _Function = step.called.function
        try:
            self._ship(slot, session, step, function)
        except NotPicklable as error:
            call.follows = None
            call.done(call, _failed(describe_error(error)))
            return None
        if function.id not in slot.functions:
            slot.functions.add(function.id)
            spec = function.spec
            how = function.retry_on, function.name, function.auto_log
            known = ("function", function.id, spec.kind, spec.module, spec.data, *how)
            self.pool.send(slot.worker, known)
        number = call.number = next(self.numbers)
        slot.exclusive = _is_exclusive(step)
        timeout = step.called.options.timeout
        if timeout is not None:
            self.later(timeout, self._check_timeout, slot, number, timeout)
        name = step.call_number, call.attempt
        if not step.inputs:
            return number, function.id, step.args, None, *name
        # A number stands for the value of a call that the same worker performs before.
        inputs = tuple(
            [
                dep.outcome.value if dep.state in SUCCESS else call.follows.number  # type: ignore[union-attr]
                for dep in step.inputs
            ]
        )
        return number, function.id, step.args, inputs, *name

    def _ship(self, slot: _Slot, session: LocalSession, step: Step, function: _Function) -> None:
        """Send the names of `__main__` that a call needs and the worker lacks."""
        names = function.spec.names + step.names
        for dep in step.inputs:
            if dep.outcome is not None and dep.outcome.names:
                names += dep.outcome.names
        if not names or (names in slot.complete and step.key is None):
            return
        found = session.definitions.reached(names)
        new = [item for item in found if slot.shipped.get(item.name) != item.data]
        if step.key is not None:  # what others will take for its value is made of no leftovers
            new += [item for item in session.definitions.values(found) if item not in new]
        if new:
            self.pool.send(slot.worker, ("define", [tuple(definition) for definition in new]))
        slot.shipped.update(new)  # pairs of name and data
        slot.complete.add(names)

    def _begin(self, slot: _Slot, call: StepCall) -> None:
        """A worker begins a call, as far as one can know from here."""
        slot.position.number = call.number
        call.step.logs = slot.position
        call.started(call)

    def _release(self, slot: _Slot) -> None:
        """A worker has nothing to do."""
        slot.exclusive = False
        slot.load = 0.0
        if slot.run is not None:
            slot.run.busy.discard(slot)
        if slot.single_use:
            self.pool.kill(slot.worker)
        else:
            self.idle.append(slot)

    # -- what workers say ----------------------------------------------------------------

    def on_message(self, worker: Worker, message: tuple[Any, ...]) -> None:
        slot = self.slots[worker.number]
        slot.proven = True
        slot.moved = time.monotonic()
        if message[0] == "outcomes":
            for outcome in message[1]:
                self._outcome(slot, outcome)
        else:
            self._given_back(slot, message[1])
        if not slot.calls:
            self._release(slot)

    def _outcome(self, slot: _Slot, message: tuple[Any, ...]) -> None:
        number, state, started, duration, value, preview, names, error, retryable, logs = message
        call, expected = slot.calls.pop(number, (None, 0.0))
        if call is None:  # a word of a run that was given up
            return
        slot.load -= expected
        function: _Function = call.step.called.function
        took = duration + OVERHEAD
        function.mean = took if function.mean == UNKNOWN else 0.7 * function.mean + 0.3 * took
        if expected == UNKNOWN:
            slot.load = sum(seconds for _, seconds in slot.calls.values())
        outcome = Outcome(
            state,
            started,
            duration,
            value,
            preview,
            names,
            None if error is None else StepError(*error),
            retryable,
            None if logs is None else self._logs(slot, call, logs),
            slot.worker.name,
        )
        if slot.calls:
            self._begin(slot, next(iter(slot.calls.values()))[0])
        call.done(call, outcome)

    def _logs(self, slot: _Slot, call: StepCall, logs: tuple[int, ...]) -> Logs:
        position = slot.position
        position.out, position.err, position.events = logs[1], logs[3], logs[5]
        if slot.run is not None:
            slot.run.echo.ended(slot.position.name, call.step.name, (logs[1], logs[3]))
        return Logs(slot.position.name, *logs)._replace(number=call.number)

    def _given_back(self, slot: _Slot, numbers: list[int]) -> None:
        """Calls that a worker had not begun are ready again, in their order."""
        for number in reversed(numbers):
            if number in slot.calls:
                call, expected = slot.calls.pop(number)
                slot.load -= expected
                self._ready_again(slot, call)

    def _ready_again(self, slot: _Slot, call: StepCall) -> None:
        session = slot.run
        assert session is not None
        if call.follows is not None:
            call.undone(call)
        elif session.stopping:
            call.done(call, _cancelled())
        else:
            session.ready.appendleft(call)

    def _ask_back(self, now: float) -> bool:
        """Ask for calls that wait behind a long step, if somebody is idle; whether some do wait."""
        waiting = False
        for session in self.sessions:
            if session.ready or not self.idle or len(session.busy) >= session.facts.workers:
                continue
            for slot in session.busy:
                if len(slot.calls) > 1 and not slot.asked_back:
                    waiting = True
                    if now - slot.moved > STUCK:
                        slot.asked_back = True
                        self.pool.send(slot.worker, ("give_back",))
        return waiting

    # -- deaths --------------------------------------------------------------------------

    def _check_timeout(self, slot: _Slot, number: int, timeout: float) -> None:
        """Kill a worker whose call is over its time, which counts from the call's own start."""
        if number not in slot.calls:
            return
        spent = (time.monotonic_ns() - slot.worker.page[1]) / 1e9
        if slot.worker.page[0] != number:
            self.later(min(timeout, 0.05), self._check_timeout, slot, number, timeout)
        elif spent < timeout:
            self.later(timeout - spent, self._check_timeout, slot, number, timeout)
        else:
            text = f"it ran longer than its timeout of {timeout:g} s and was killed"
            slot.verdict = number, describe_error(StepTimeout(text, timeout=timeout))
            self.pool.kill(slot.worker)

    def on_exit(self, worker: Worker, end: Exit) -> None:
        """A worker is gone: its current call is charged, the others are ready again."""
        slot = self.slots.pop(worker.number)
        if slot in self.idle:
            self.idle.remove(slot)
        current = worker.page[0]
        for number in reversed(list(slot.calls)):
            if number != current:
                self._ready_again(slot, slot.calls[number][0])
        charged = slot.calls.get(current)
        if slot.run is not None:
            slot.run.busy.discard(slot)
        self._count_false_starts(slot, end)
        if charged is not None:
            self._died(slot, current, charged[0], end)
        self._hire()

    def _count_false_starts(self, slot: _Slot, end: Exit) -> None:
        """Workers that die before they begin anything would be replaced for ever."""
        self.false_starts = 0 if slot.proven or slot.worker.page[0] else self.false_starts + 1
        if self.false_starts > FALSE_STARTS and end.exitcode != 0:
            error = PipedecoError(
                f"worker processes die as they start ({_how(end)}); what they wrote is on stderr"
            )
            for session in list(self.sessions):
                session.facts.crashed(error)

    def _died(self, slot: _Slot, number: int, call: StepCall, end: Exit) -> None:
        session = slot.run
        assert session is not None
        if session.stopping:
            outcome = _cancelled()
        elif slot.verdict is not None and slot.verdict[0] == number:
            outcome = _failed(slot.verdict[1])
        else:
            outcome = _failed(describe_error(_worker_died(end)))
        began = slot.worker.page[1]
        seconds = max(0.0, (time.monotonic_ns() - began) / 1e9)
        logs = self._logs_of_dead(slot, session, number)
        call.done(
            call,
            outcome._replace(
                started=time.time() - seconds,
                duration=seconds,
                logs=logs,
                worker=slot.worker.name,
                retryable=_retryable(outcome, call.step),
            ),
        )

    def _logs_of_dead(self, slot: _Slot, session: LocalSession, number: int) -> Logs:
        """All that a dead worker wrote since its last outcome."""
        position = slot.position
        base = os.path.join(session.facts.logs, position.name)
        out, err, events = (length(f"{base}.{stream}") for stream in ("out", "err", "events"))
        ends = (position.out, out, position.err, err, position.events, events)
        return Logs(position.name, *ends, number)


def _followers(call: StepCall, seconds: float) -> Iterable[StepCall]:
    """The calls of short steps that only wait for this one, and so on, within a time.

    They travel with it, so that a chain of short steps costs no trip to the controller a step.
    """
    while call.number:  # it was sent
        dependants = call.step.dependants
        if dependants is None or len(dependants) != 1:
            return
        step = dependants[0]
        function: _Function | None = step.called.function
        if function is None or step.waiting != 1 or step.state != PENDING or _is_exclusive(step):
            return
        seconds -= function.mean
        if seconds < 0 or call.step not in step.inputs:
            return
        following = call.follow(call, step)
        if following is None:
            return
        call = following
        yield call


def _current_name(slot: _Slot, session: LocalSession) -> str:
    """The step that a worker performs, for who reads its output; called in another thread."""
    found = _under_way(slot, session)
    return found.step.name if found is not None else ""


def _under_way(slot: _Slot, session: LocalSession) -> UnderWay | None:
    """The step that a worker performs; called in another thread."""
    calls = list(slot.calls.values()) if slot.run is session else []
    if not calls:
        return None
    call = calls[0][0]
    current, began, _, progress = slot.worker.page[:4]
    if current != call.number:
        return UnderWay(call.step, 0.0, 0.0)
    return UnderWay(call.step, (time.monotonic_ns() - began) / 1e9, progress / 1e6)


def _load(slot: _Slot) -> float:
    return slot.load


def _is_exclusive(step: Step) -> bool:
    """Whether the step's worker gets nothing beside it: it may be killed, or is its alone."""
    options = step.called.options
    return options.timeout is not None or options.fresh_process


def _failed(error: StepError) -> Outcome:
    return Outcome(FAILED, time.time(), 0.0, error=error)


def _cancelled() -> Outcome:
    return Outcome(CANCELLED, time.time(), 0.0)


def _how(end: Exit) -> str:
    if end.signal is not None:
        return f"killed by {end.signal}"
    return "gone with its nursery" if end.exitcode is None else f"exit status {end.exitcode}"


def _worker_died(end: Exit) -> WorkerDied:
    text = f"its worker process ended before the step did: {_how(end)}"
    if end.peak_memory:
        text += f", peak memory {end.peak_memory / 2**20:.0f} MiB"
    if end.signal == "SIGKILL":
        text += "; the system kills so when memory runs out"
    return WorkerDied(text, exitcode=end.exitcode, signal=end.signal, peak_memory=end.peak_memory)


def _retryable(outcome: Outcome, step: Step) -> bool:
    """What retry_on says of a death or a timeout; the user's function is asked here."""
    from pipedeco.serialization import unpack_exception
    from pipedeco.worker.perform import is_retryable

    if outcome.error is None or outcome.error.pickled is None:
        return False
    return is_retryable(unpack_exception(outcome.error.pickled), step.called.options.retry_on)

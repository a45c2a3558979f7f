"""The local runner: one loop thread that keeps a pool of worker processes busy.

Messages cost more than short steps, so ready calls travel in batches: one call a worker until
its component's duration is known, then as many as keep the worker busy for `BATCH` seconds.
Calls that wait behind a step which takes longer than expected are asked back when somebody else
could do them.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from pipedeco.ambient.moments import Turns
from pipedeco.config import find_main
from pipedeco.errors import NotPicklable, PipedecoError
from pipedeco.graph import LogPosition, Logs, Step, StepCall, StepError
from pipedeco.main_file import MainFiles
from pipedeco.runners import UnderWay
from pipedeco.runners.activity import activity_of, shown_name
from pipedeco.runners.calls import (
    UNKNOWN,
    CallSession,
    Function,
    Program,
    cancelled_call,
    check_value,
    failed_call,
    is_exclusive,
    is_worth_a_retry,
    message_of,
    next_calls,
    outcome_of,
)
from pipedeco.runners.preparing import Environments
from pipedeco.worker.deaths import (
    FALSE_STARTS,
    GRACE,
    died_setting_up,
    ends_of_dead,
    how,
    spent,
    time_left,
    timed_out,
    worker_died,
)
from pipedeco.worker.environment import stray_modules
from pipedeco.worker.loop import Loop, Timer
from pipedeco.worker.messages import STALE
from pipedeco.worker.perform import describe_trouble
from pipedeco.worker.pool import Pool, Preload, Worker, counts_as_start
from pipedeco.worker.setups import SETTING_UP

if TYPE_CHECKING:
    from pipedeco.graph import Called
    from pipedeco.main_file import MainFile
    from pipedeco.requirements import Requirements
    from pipedeco.runners import RunFacts
    from pipedeco.worker.deaths import Exit
    from pipedeco.worker.venvs import Venv

BATCH = 0.004  # seconds of work that a worker is given at once
LARGEST = 400  # calls in a message
STUCK = 0.01  # seconds without an outcome after which waiting calls are asked back


class _Slot:
    """A worker and what it was given."""

    def __init__(self, worker: Worker, *, single_use: bool) -> None:
        self.worker = worker
        self.single_use = single_use
        self.calls: dict[int, tuple[StepCall, float]] = {}  # in order, with expected seconds
        self.load = 0.0  # the sum of those seconds
        self.run: LocalSession | None = None
        self.modules: tuple[Any, ...] = ()  # that it was told to find
        self.must_enter = False  # it is in its run, and must enter it again
        self.functions: set[int] = set()
        # What it was told of the program: names of its __main__, and (module, name) of others.
        self.shipped: dict[Any, bytes] = {}
        # Functions, by their ids and the other names of a call, that have all they reach.
        self.complete: set[Any] = set()
        self.exclusive = False
        self.moved = 0.0  # monotonic time of the last outcome or message
        self.asked_back = False
        self.verdict: tuple[int, StepError] | None = None  # why its call is being killed
        self.clock: Timer | None = None  # of a call with a timeout, which has nothing beside it
        self.turns = Turns()
        self.position = LogPosition(worker.name)
        self.proven = False  # whether it ever sent anything


class LocalSession(CallSession):
    """One run's use of the local runner."""

    def __init__(self, runner: LocalRunner, key: int, facts: RunFacts) -> None:
        super().__init__(runner, facts, runner.mains.read(find_main()))
        self.runner = runner
        self.key = key
        self.unguarded = Program(None)  # for workers that do not import the main file
        self.environments = Environments(self, self.around, runner.venvs)
        self.busy: set[_Slot] = set()
        self.positions: dict[str, LogPosition] = {}  # by worker, which may leave and come back

    def place(self, called: Called) -> tuple[Any, ...]:
        return (called.environment,)

    def program_of(self, venv: Venv | None) -> Program:
        """What the workers of an environment must be told: another may lack what the main file
        imports."""
        return self.program if venv is None else self.unguarded

    def give_up_main(self, file: MainFile, why: str) -> None:
        """Workers cannot import the main file: what they need of it travels from now on."""
        self.program = self.unguarded
        around = self.environments.surroundings
        self.environments.surroundings = around._replace(main_file=None)
        if self.runner.mains.give_up(file):
            self.announce(
                f"{file.shown} cannot be imported by worker processes ({why}), so its definitions "
                'travel one by one; main = "definitions" in [tool.pipedeco] says so beforehand'
            )

    def prepare(self, called: Called) -> None:
        super().prepare(called)
        around, modules = self.environments.surroundings, stray_modules()
        if modules != around.modules:  # the body has loaded plugins
            self.environments.surroundings = around._replace(modules=modules)
        if called.environment is not None:
            called.function.line = called.environment

    def submit(self, call: StepCall) -> None:
        if call.step.called.environment is None or not self.environments.hold(call):
            self.ready.put(call)

    def withdraw(self, call: StepCall) -> bool:
        return super().withdraw(call) or self.environments.withdraw(call)

    def stop(self) -> list[StepCall]:
        self.stopping = True
        never_begun = [*self.ready, *self.environments.leave()]
        self.ready.clear()
        for slot in list(self.busy):
            self.runner.pool.cancel(slot.worker, self.key)
        self.later(GRACE, self.kill)
        return never_begun

    def kill(self) -> None:
        for slot in list(self.busy):
            self.runner.pool.kill(slot.worker)

    def running(self) -> list[UnderWay]:
        found = [_under_way(slot, self) for slot in list(self.busy)]
        return [item for item in found if item is not None]

    def close(self) -> None:
        self.post(self.runner.forget, self)
        self.echo.close()


class LocalRunner(Loop):
    """Owns the loop thread and the pool; every method but `open`, `post`, `close` is the loop's."""

    def __init__(self, start_method: str) -> None:
        super().__init__("pipedeco-loop")
        self.start_method = start_method
        self.sessions: list[LocalSession] = []
        self.slots: dict[int, _Slot] = {}
        self.idle: list[_Slot] = []
        self.false_starts = 0
        self.mains = MainFiles()
        # Whom nobody uses any more lets go of its environment, which may be removed then.
        self.venvs: WeakValueDictionary[tuple[str, Requirements], Venv] = WeakValueDictionary()
        self.pool = Pool(self.selector, start_method, self.on_message, self.on_exit, self.on_told)
        self.start()

    def open(self, facts: RunFacts) -> LocalSession:
        session = LocalSession(self, next(self.numbers), facts)
        self.post(self._opened, session)
        return session

    def abandon(self) -> None:
        """In a forked child: the workers are not ours."""
        self.pool.abandon()
        super().abandon()

    # -- the loop ------------------------------------------------------------------------

    def act(self) -> None:
        self._dispatch()

    def patience(self, now: float) -> float | None:
        return STUCK if self._ask_back(now) else None

    def crashed(self, error: BaseException) -> None:
        for session in self.sessions:
            session.facts.crashed(error)

    def ended(self) -> None:
        for session in self.sessions:
            session.environments.leave()
        self.pool.close()

    # -- runs and workers ----------------------------------------------------------------

    def _opened(self, session: LocalSession) -> None:
        if not self.sessions:
            self.false_starts = 0  # what kept workers from starting may be mended
        self.sessions.append(session)
        self._preload(session)
        self._hire()

    def _preload(self, session: LocalSession) -> None:
        """Have later workers begin with the program's main file imported."""
        main = session.program.main
        if main is not None:
            around = session.environments.surroundings
            logs = "logging" in sys.modules
            self.pool.import_main(Preload(main.file, around.path, around.argv, logs))
        elif len(self.sessions) == 1:
            self.pool.import_main(None)

    def forget(self, session: LocalSession) -> None:
        self.sessions.remove(session)
        session.environments.leave()
        for slot in self.slots.values():
            if slot.run is session:
                slot.run = None
                if slot.calls:  # the run was given up; nobody waits for these
                    slot.calls.clear()
                    self.pool.kill(slot.worker)

    def _hire(self) -> None:
        """Start the workers that the open runs may use, unless they die as they start."""
        if self.false_starts > FALSE_STARTS:
            return
        wanted = max((session.facts.workers for session in self.sessions), default=0)
        own = [slot for slot in self.slots.values() if slot.worker.venv is None]
        staff = sum(not slot.single_use for slot in own)
        for _ in range(wanted - staff):
            self.idle.append(self._start(single_use=False))

    def _start(self, *, single_use: bool, venv: Venv | None = None) -> _Slot:
        slot = _Slot(self.pool.start(venv), single_use=single_use)
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
            venv = session.environments.of(head)
            if head.called.options.fresh_process:
                return self._start(single_use=True, venv=venv)
            idle = [slot for slot in self.idle if slot.worker.venv == venv]
            if idle:
                return self._take_idle(head, idle)
            if venv is not None:
                return self._start(single_use=False, venv=venv)
        if is_exclusive(head) or head.key is not None or head.called.function.mean == UNKNOWN:
            return None
        open_slots = [slot for slot in session.busy if slot.load < BATCH / 2 and not slot.exclusive]
        venv = session.environments.of(head)
        return min((s for s in open_slots if s.worker.venv == venv), key=_load, default=None)

    def _take_idle(self, head: Step, idle: list[_Slot]) -> _Slot:
        """The worker that made the step's input if it is idle, else the last that was busy."""
        if head.inputs:
            outcome = head.inputs[-1].outcome
            for slot in idle:
                if outcome is not None and slot.worker.name == outcome.worker:
                    self.idle.remove(slot)
                    return slot
        self.idle.remove(idle[-1])
        return idle[-1]

    def _fill(self, slot: _Slot, session: LocalSession) -> None:
        """Send a worker its next calls."""
        self._enter(slot, session)
        share = -(-len(session.ready) // session.facts.workers)
        batch: list[tuple[Any, ...]] = []
        moments: dict[int, bytes] = {}
        most = min(share, LARGEST)
        idle = not slot.calls
        for call in next_calls(session.ready, most, slot.load, BATCH, idle=idle):
            message = self._prepare(slot, session, call)
            if message is not None:
                if not slot.calls:
                    self._begin(slot, call)
                mean = call.step.called.function.mean
                slot.calls[message[0]] = call, mean
                slot.load += mean
                batch.append(message)
                if call.step.moment:
                    moments[call.number] = call.step.moment
        if batch:
            session.busy.add(slot)
            slot.moved = time.monotonic()
            slot.asked_back = False
            for message in slot.turns.messages(batch, moments):
                self.pool.send(slot.worker, message)
        elif not slot.calls:
            self._release(slot)

    def _enter(self, slot: _Slot, session: LocalSession) -> None:
        """Put a worker into the surroundings of a run."""
        if slot.run is session and not slot.must_enter:
            return
        slot.run = session
        slot.turns = Turns()
        slot.must_enter = False
        slot.modules = session.environments.surroundings.modules
        slot.functions.clear()
        slot.complete.clear()
        # A step may have changed globals since they were compared.
        slot.shipped = {name: data for name, data in slot.shipped.items() if type(name) is str}
        name = f"{session.facts.log_prefix}{slot.worker.name}"
        slot.position = session.positions.setdefault(name, LogPosition(name))
        session.echo.add(name, lambda: _current_name(slot, session))
        facts = session.facts
        folders = facts.blobs.folder, f"{facts.logs}/{name}"
        names = facts.id, facts.pipeline
        around = session.environments.around(slot.worker.venv)
        self.pool.send(slot.worker, ("run", session.key, tuple(around), *folders, names))

    def _prepare(
        self, slot: _Slot, session: LocalSession, call: StepCall
    ) -> tuple[Any, ...] | None:
        """The message of a call; what the worker lacks for it is sent before."""
        step = call.step
        function: Function = step.called.function
        try:
            self._ship(slot, session, step)
        except NotPicklable as error:
            call.follows = None
            call.done(call, failed_call(describe_trouble(error)))
            return None
        if function.id not in slot.functions:
            slot.functions.add(function.id)
            self.pool.send(slot.worker, function.message())
        call.number = next(self.numbers)
        slot.exclusive = is_exclusive(step)
        timeout = step.called.options.timeout
        if timeout is not None:
            self._watch(slot, call.number, timeout, timeout)
        return message_of(call)

    def _ship(self, slot: _Slot, session: LocalSession, step: Step) -> None:
        """Send what a call needs of the program and the worker lacks."""
        names = session.names(step)
        function: Function = step.called.function
        key = function.id if names is function.names else (function.id, names)
        if key in slot.complete and step.key is None:
            return
        modules = session.environments.surroundings.modules
        if slot.modules is not modules:
            slot.modules = modules
            self.pool.send(slot.worker, ("modules", modules))
        program = session.program_of(slot.worker.venv)
        fn = step.called.component.fn
        found = program.needed(fn, names, again=step.key is not None)
        shipped, renewed = slot.shipped, found.renewed
        new = [d for d in found.definitions if d.name in renewed or shipped.get(d.name) != d.data]
        if new:
            self.pool.send(slot.worker, ("define", [tuple(definition) for definition in new]))
        shipped.update(new)  # pairs of name and data
        changed = [c for c in found.changes if c.name in renewed or shipped.get(c[:2]) != c.data]
        if changed:
            self.pool.send(slot.worker, ("changes", [tuple(change) for change in changed]))
        shipped.update((change[:2], change.data) for change in changed)
        slot.complete.add(key)

    def _begin(self, slot: _Slot, call: StepCall) -> None:
        """A worker begins a call, as far as one can know from here."""
        slot.position.number = call.number
        call.step.logs = slot.position
        call.started(call)

    def _release(self, slot: _Slot) -> None:
        """A worker has nothing to do."""
        slot.exclusive = False
        self.cancel(slot.clock)
        slot.load = 0.0
        if slot.run is not None:
            slot.run.busy.discard(slot)
        if slot.single_use:
            self.pool.retire(slot.worker)
        else:
            self.idle.append(slot)
            if slot.worker.venv is not None:
                self._dismiss()

    def _dismiss(self) -> None:
        """Of the idle workers of other environments as many stay as a run may have busy."""
        most = max((session.facts.workers for session in self.sessions), default=0)
        others = [slot for slot in self.idle if slot.worker.venv is not None]
        for slot in others[: max(0, len(others) - most)]:
            self.idle.remove(slot)
            self.pool.retire(slot.worker)

    # -- what workers say ----------------------------------------------------------------

    def on_message(self, worker: Worker, message: tuple[Any, ...]) -> None:
        slot = self.slots[worker.number]
        slot.proven = True
        slot.moved = time.monotonic()
        at_work = bool(slot.calls)  # else it is free already: a cancel is answered after the end
        if message[0] == "outcomes":
            for outcome in message[1]:
                self._outcome(slot, outcome)
        elif message[0] == "unimportable":
            self._unimportable(slot, message[1])
        elif message[0] == "setup_failed":
            if slot.run is not None:
                slot.run.setup_failed(message[1], StepError(*message[2]))
        else:
            self._given_back(slot, message[1])
        if at_work and not slot.calls:
            self._release(slot)

    def _unimportable(self, slot: _Slot, why: str) -> None:
        """A worker could not import the main file; it gives back its calls after this."""
        slot.must_enter = True
        session = slot.run
        if session is not None and session.program.main is not None:
            session.give_up_main(session.program.main.file, why)
            self.pool.import_main(None)

    def on_told(self, text: str) -> None:
        for session in self.sessions[:1]:
            session.announce(text)

    def _outcome(self, slot: _Slot, message: tuple[Any, ...]) -> None:
        number, duration, logs = message[0], message[3], message[-1]
        call, expected = slot.calls.pop(number, (None, 0.0))
        if call is None:  # a word of a run that was given up
            return
        slot.load -= expected
        call.step.called.function.took(duration)
        if expected == UNKNOWN:
            slot.load = sum(seconds for _, seconds in slot.calls.values())
        where = None if logs is None else self._logs(slot, call, logs)
        outcome = outcome_of(message, where, slot.worker.name)
        if slot.worker.venv is not None and slot.run is not None:
            outcome = check_value(call.step, outcome, slot.run.facts.blobs)
        if slot.calls:
            self._begin(slot, next(iter(slot.calls.values()))[0])
        call.done(call, outcome)

    def _logs(self, slot: _Slot, call: StepCall, logs: tuple[int, ...]) -> Logs:
        position = slot.position
        position.out, position.err, position.events = logs[1], logs[3], logs[5]
        if slot.run is not None:
            slot.run.echo.ended(slot.position.name, shown_name(call.step), (logs[1], logs[3]))
        return Logs(slot.position.name, *logs)

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
            call.done(call, cancelled_call())
        else:
            session.ready.put_back(call)

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

    def _watch(self, slot: _Slot, number: int, timeout: float, seconds: float) -> None:
        self.cancel(slot.clock)
        slot.clock = self.later(seconds, self._check_timeout, slot, number, timeout)

    def _check_timeout(self, slot: _Slot, number: int, timeout: float) -> None:
        """Kill a worker whose call is over its time, which counts from the call's own start."""
        if number not in slot.calls:
            return
        left = time_left(slot.worker.page, number, timeout)
        if left > 0:
            self._watch(slot, number, timeout, left)
        else:
            slot.verdict = number, timed_out(timeout)
            self.pool.kill(slot.worker)

    def on_exit(self, worker: Worker, end: Exit) -> None:
        """A worker is gone: its current call is charged, the others are ready again."""
        slot = self.slots.pop(worker.number)
        if end.exitcode == STALE and worker.venv is None:
            self.pool.renew(worker.nest)
        self.cancel(slot.clock)
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
        if current == SETTING_UP and slot.run is not None and not slot.run.stopping:
            slot.run.setup_failed("", died_setting_up(end))
        if charged is not None:
            self._died(slot, current, charged[0], end)
        self._hire()

    def _count_false_starts(self, slot: _Slot, end: Exit) -> None:
        """Workers that die before they begin anything would be replaced for ever."""
        if slot.proven or slot.worker.page[0]:
            self.false_starts = 0
        elif (
            not slot.worker.unwanted and end.exitcode != STALE and counts_as_start(slot.worker, end)
        ):
            self.false_starts += 1
        if self.false_starts > FALSE_STARTS:
            error = PipedecoError(
                f"worker processes die as they start ({how(end)}); what they wrote is on stderr"
            )
            for session in list(self.sessions):
                session.facts.crashed(error)

    def _died(self, slot: _Slot, number: int, call: StepCall, end: Exit) -> None:
        session = slot.run
        assert session is not None
        if session.stopping:
            outcome = cancelled_call()
        elif slot.verdict is not None and slot.verdict[0] == number:
            outcome = failed_call(slot.verdict[1])
        else:
            outcome = failed_call(worker_died(end))
        seconds = spent(slot.worker.page)
        position = slot.position
        position.number = number
        base = os.path.join(session.facts.logs, position.name)
        call.done(
            call,
            outcome._replace(
                started=time.time() - seconds,
                duration=seconds,
                logs=Logs(position.name, *ends_of_dead(base, position)),
                worker=slot.worker.name,
                retryable=is_worth_a_retry(outcome, call.step),
            ),
        )


def _current_name(slot: _Slot, session: LocalSession) -> str:
    """The step that a worker performs, for who reads its output; called in another thread."""
    found = _under_way(slot, session)
    return shown_name(found.step) if found is not None else ""


def _under_way(slot: _Slot, session: LocalSession) -> UnderWay | None:
    """The step that a worker performs; called in another thread."""
    calls = list(slot.calls.values()) if slot.run is session else []
    if not calls:
        return None
    call = calls[0][0]
    page = slot.worker.page
    current, began, _, progress = page[:4]
    main = session.program.main
    activity = activity_of(call.step, page, call.number, None if main is None else main.file.shown)
    if current != call.number:
        return UnderWay(call.step, 0.0, 0.0, activity)
    return UnderWay(call.step, (time.monotonic_ns() - began) / 1e9, progress / 1e6, activity)


def _load(slot: _Slot) -> float:
    return slot.load

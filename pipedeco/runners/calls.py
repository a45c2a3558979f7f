"""What runners with worker processes share: how a run's calls become messages, and come back."""

from __future__ import annotations

import re
import threading
import time
from bisect import bisect_left, bisect_right
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.ambient.moments import Moment, Moments
from pipedeco.ambient.snapshot import at_call
from pipedeco.definitions import FunctionSpec, MainDefinitions, describe
from pipedeco.errors import ConfigError, NotPicklable, PipedecoError
from pipedeco.graph import (
    CANCELLED,
    FAILED,
    PENDING,
    SUCCESS,
    Called,
    Logs,
    Outcome,
    Step,
    StepCall,
    StepError,
)
from pipedeco.main_file import MAIN
from pipedeco.module_state import ModuleState
from pipedeco.runners import auto_logs
from pipedeco.runners.beside import Aside
from pipedeco.runners.echo import Echo
from pipedeco.serialization import Pickler, unpack_arguments
from pipedeco.strays import strays
from pipedeco.tracing import warn_user
from pipedeco.worker.environment import here
from pipedeco.worker.perform import describe_error, describe_trouble
from pipedeco.worker.setups import described

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableSequence

    from pipedeco.blobs import BlobStore
    from pipedeco.definitions import Definition
    from pipedeco.main_file import MainSource
    from pipedeco.module_state import Change
    from pipedeco.requirements import Requirements
    from pipedeco.runners import RunFacts
    from pipedeco.serialization import Packed
    from pipedeco.worker.environment import Surroundings
    from pipedeco.worker.loop import Loop

OVERHEAD = 15e-6  # seconds that a worker spends on a call besides the step itself
UNKNOWN = 1e9  # stands for the duration of a component that never ran
PLAIN = 10  # parts of what a worker says of a call whose value names no files


class Function:
    """A component's function as workers get it."""

    __slots__ = (
        "auto_log",
        "cached",
        "collect",
        "id",
        "line",
        "mean",
        "name",
        "names",
        "retry_on",
        "spec",
    )

    def __init__(
        self,
        number: int,
        name: str,
        spec: FunctionSpec,
        retry_on: bytes | None,
        *,
        auto_log: bool,
        collect: tuple[str, ...],
        cached: bool,
    ) -> None:
        self.id = number
        self.name = name
        self.auto_log = auto_log
        self.cached = cached
        self.collect = collect
        self.spec = spec
        self.names = spec.names  # of `__main__`, that each call needs
        self.retry_on = retry_on
        self.mean = UNKNOWN  # seconds, of the last outcomes
        self.line: Any = None  # where its calls wait, in runners that have several such places

    def message(self) -> tuple[Any, ...]:
        """What makes a worker know it."""
        spec = self.spec
        how = self.retry_on, self.name, self.auto_log, self.collect, self.cached
        return ("function", self.id, spec.kind, spec.module, spec.data, *how)

    def took(self, seconds: float) -> None:
        """Learn from one more call."""
        took = seconds + OVERHEAD
        self.mean = took if self.mean == UNKNOWN else 0.7 * self.mean + 0.3 * took


class Ready(deque["StepCall"]):
    """Calls that wait for a worker: higher priority first, those of one priority in their order."""

    ranked = False  # whether any has a priority; the others pay nothing for that

    def put(self, call: StepCall) -> None:
        priority = call.step.called.options.priority
        if priority or self.ranked:
            self.ranked = True
            self.insert(bisect_right(self, -priority, key=_rank), call)
        else:
            self.append(call)

    def put_back(self, call: StepCall) -> None:
        """One that was taken, and not begun."""
        if self.ranked:
            self.insert(bisect_left(self, _rank(call), key=_rank), call)
        else:
            self.appendleft(call)


def _rank(call: StepCall) -> int:
    return -call.step.called.options.priority


class Told(NamedTuple):
    """What a worker must be told of the program before a call."""

    definitions: list[Definition]
    changes: list[Change]
    renewed: set[str]  # names that are sent though the worker has got them before
    spare: set[str]  # of the definitions, those that the import of the main file gives, too


class Program:
    """What workers must be told of the program, beside what they import.

    Parameters
    ----------
    main: the main file, where workers import it; else what they need of it travels.
    elsewhere: whether workers may be on other machines.
    """

    def __init__(self, main: MainSource | None, *, elsewhere: bool = False) -> None:
        self.main = main
        self._state = ModuleState(main, elsewhere=elsewhere)
        self._definitions = MainDefinitions(self._state.given)

    def look_at(self, fn: Any) -> None:
        """Note the globals that a component reaches as they are now; warn of what cannot travel."""
        self._definitions.see()
        self._state.needed(fn)
        for where, reason in self._state.unsent:
            warn_user(
                f"{where.module}.{where.name} is not sent to worker processes: {reason}; their steps "
                "see what importing the module gives it: where the program has set it since, set it "
                "with setup=... of the pipeline, pass it as an argument, or set it inside the step"
            )
        self._state.unsent.clear()

    def needed(self, fn: Any, names: tuple[str, ...], *, again: bool) -> Told:
        """What a worker must be told before it performs a call of `fn`.

        Parameters
        ----------
        names: of `__main__`, that the function and the call refer to.
        again: whether values are to be as the program has them though the worker has got them
            before, as a step may have changed its own: what others will take for the value of a
            cached step is made of no leftovers.

        Raises NotPicklable where a definition cannot travel.
        """
        found = self._state.needed(fn, names)
        wanted = (*names, *found.definitions)
        definitions = self._definitions.reached(wanted)
        renewed: set[str] = set()
        if again:
            renewed = {item.name for item in self._definitions.values(definitions)}
            renewed.update(item.name for item in found.changes if item.module == MAIN)
        return Told(definitions, found.changes, renewed, set())


class CallSession:
    """One run's use of a runner that performs calls elsewhere; runners add how.

    Parameters
    ----------
    loop: whose thread is the scheduler's.
    main: the program's main file, where workers import it.
    """

    in_process = False
    elsewhere = False  # whether workers may be on other machines

    def __init__(self, loop: Loop, facts: RunFacts, main: MainSource | None) -> None:
        self.loop = loop
        self.facts = facts
        self.setups = described(facts.setups)
        self.ready = Ready()
        self.stopping = False
        self.program = Program(main, elsewhere=self.elsewhere)
        self.around = self.surroundings()
        self.moments = Moments(self.travels)
        self.pickler = Pickler(facts.blobs, by_value=strays().by_value)
        self.echo = Echo(facts.logs, facts.id)
        self._announced: set[str] = set()
        self.post = self.tell = loop.post
        self.later = loop.later
        self._functions: dict[Any, Function] = {}

    def preparing(self) -> list[str]:
        return []

    def prepare(self, called: Called) -> None:
        if called.is_pipeline:
            return
        # Components that differ in other options share what workers know of them.
        retry_on, collect = called.options.retry_on, called.options.collect
        auto_log = auto_logs(called, self.facts)
        cached = called.options.cache is not None
        how = retry_on, auto_log, collect, cached
        key = id(called.component.fn), called.name, *how, *self.place(called)
        function = self._functions.get(key)
        if function is None:
            spec = describe(called.component.fn)
            for needed in (spec, *(setup for _, setup in self.setups)):
                _check_environment(called, needed, self.facts)
            pickled = None if retry_on == (Exception,) else self.pickler.dump_inline(retry_on)
            number = next(self.loop.numbers)
            function = Function(
                *(number, called.name, spec, pickled),
                auto_log=auto_log,
                collect=collect,
                cached=cached,
            )
            for _, setup in self.setups:
                function.names += setup.names
            self._functions[key] = function
            self.program.look_at(called.component.fn)
        called.function = function

    def place(self, called: Called) -> tuple[Any, ...]:
        """What else tells apart where calls are performed."""
        return ()

    def submit(self, call: StepCall) -> None:
        self.ready.put(call)

    def withdraw(self, call: StepCall) -> bool:
        return removed(self.ready, call)

    def surroundings(self) -> Surroundings:
        """What the run's steps are to find around them."""
        setups = tuple([tuple(setup) for setup, _ in self.setups])
        main = self.program.main
        return (self.facts.around or here())._replace(
            main_file=None if main is None else tuple(main.file),
            seed=self.facts.seed,
            setup=(self.facts.top, setups),
        )

    def setup_failed(self, name: str, error: StepError) -> None:
        """A worker could not be set up; the run cannot go on."""
        self.facts.setup_failed(name, error, None)

    def announce(self, text: str) -> None:
        """Tell once what the run waits for."""
        if text not in self._announced:
            self._announced.add(text)
            self.echo.tell(text)

    def note(self, step: Step) -> None:
        step.moment = self.moments.now()

    def travels(self, name: str) -> bool:
        """Whether an environment variable that the body sets goes to the workers."""
        return True

    def surroundings_at(self, step: Step) -> Surroundings:
        """As they were at the call of a child pipeline, which begins later."""
        moment, now = Moment.of(step.moment), here()
        return now._replace(
            environment=moment.applied(self.around.environment),
            ambient=at_call(now.ambient, self.around.ambient, moment.states),
        )

    def called(self, step: Step) -> None:
        pass

    def catch_up(self, logs: Logs) -> None:
        self.echo.catch_up(logs.name, (logs.out_end, logs.err_end, logs.events_end))

    def on_scheduler(self) -> bool:
        return self.loop.on_loop()

    def arguments(self, step: Step) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return unpack_arguments(
            step.args, self.facts.blobs, lambda number: step.run.load(step.inputs[number])
        )

    def spawn(self, target: Any, name: str) -> None:
        threading.Thread(target=target, name=name).start()

    def beside(self, name: str) -> Aside:
        return Aside(name)

    # -- calls as messages -----------------------------------------------------------------

    def names(self, step: Step) -> tuple[str, ...]:
        """The names of `__main__` that a call needs."""
        names: tuple[str, ...] = step.called.function.names
        if step.names:
            names += step.names
        for dep in step.inputs:
            if dep.outcome is not None and dep.outcome.names:
                names += dep.outcome.names
        environment = step.called.environment
        if environment is not None and environment.other_python:
            _check_travels(step, names, environment, self.facts.blobs)
        return names


def removed(ready: MutableSequence[StepCall], call: StepCall) -> bool:
    """Take a call out of those that wait; whether it was there."""
    try:
        ready.remove(call)
    except ValueError:
        return False
    return True


def message_of(call: StepCall) -> tuple[Any, ...]:
    """A call as a worker gets it; it has its number."""
    step = call.step
    name = step.call_number, call.attempt
    if not step.inputs:
        return call.number, step.called.function.id, step.args, None, *name
    # A number stands for the value of a call that the same worker performs before.
    inputs = tuple(
        [
            dep.outcome.value if dep.state in SUCCESS else call.follows.number  # type: ignore[union-attr]
            for dep in step.inputs
        ]
    )
    return call.number, step.called.function.id, step.args, inputs, *name


def outcome_of(message: tuple[Any, ...], logs: Logs | None, worker: str) -> Outcome:
    """What a worker says of a call that ended."""
    if len(message) != PLAIN:
        plain = outcome_of((*message[:8], *message[9:]), logs, worker)
        return plain._replace(files=message[8])
    _, state, started, duration, value, preview, names, error, retryable, _ = message
    known = None if error is None else StepError(*error)
    return Outcome(state, started, duration, value, preview, names, known, retryable, logs, worker)


def next_calls(
    ready: deque[StepCall], most: int, load: float, limit: float, *, idle: bool
) -> Iterable[StepCall]:
    """Take from the ready calls what a worker is to get now, up to `limit` seconds of work.

    Parameters
    ----------
    load: seconds of work that it has already.
    idle: whether it has no call at all; a call of unknown duration travels alone.
    """
    taken = 0
    line = ready[0].step.called.function.line if ready else None
    while ready and taken < most and load < limit:
        step = ready[0].step
        mean = step.called.function.mean
        alone = idle and not taken
        if step.called.function.line is not line:  # it is for other workers
            return
        if not alone and (mean == UNKNOWN or is_exclusive(step) or step.key is not None):
            return
        taken += 1
        load += mean
        call = ready.popleft()
        yield call
        if is_exclusive(step):
            return
        for follower in _followers(call, limit - load):
            taken += 1
            load += follower.step.called.function.mean
            yield follower


def _followers(call: StepCall, seconds: float) -> Iterable[StepCall]:
    """The calls of short steps that only wait for this one, and so on, within a time.

    They travel with it, so that a chain of short steps costs no trip to the controller a step.
    """
    own: Function = call.step.called.function
    while call.number:  # it was sent
        dependants = call.step.dependants
        if dependants is None or len(dependants) != 1:
            return
        step = dependants[0]
        function: Function | None = step.called.function
        if function is None or step.waiting != 1 or step.state != PENDING or is_exclusive(step):
            return
        seconds -= function.mean
        if seconds < 0 or call.step not in step.inputs or function.line is not own.line:
            return
        following = call.follow(call, step)
        if following is None:
            return
        call = following
        yield call


def is_exclusive(step: Step) -> bool:
    """Whether the step's worker gets nothing beside it: it may be killed, or is its alone."""
    options = step.called.options
    return options.timeout is not None or options.fresh_process


def building(called: Called) -> str:
    """What is told while the environment of a component's steps is being built."""
    environment = called.environment
    return f"building environment for {called.name}: {environment.text if environment else ''}"


def _check_environment(called: Called, spec: FunctionSpec, facts: RunFacts) -> None:
    """Raise ConfigError where no worker of another environment could perform the function."""
    wanted = called.environment
    if wanted is None:
        return
    if facts.start_method == "spawn":
        raise ConfigError(
            f"component {called.name} of run {facts.id} asks for an environment of its own "
            f"({wanted.text}), which workers get from the nursery alone: Linux, without "
            "start_method='spawn'"
        )
    if wanted.other_python and (spec.kind != "name" or spec.module == "__main__" or spec.names):
        raise ConfigError(
            f"component {called.name} of run {facts.id} asks for Python {wanted.python}, and its "
            "function travels as code compiled by another one; move it into a module that can be "
            "imported"
        )


def check_value(step: Step, outcome: Outcome, blobs: BlobStore) -> Outcome:
    """The outcome, or a failure where its value carries code of another version of Python."""
    wanted = step.called.environment
    if wanted is None or not wanted.other_python or not _carries_code(outcome.value, blobs):
        return outcome
    error = NotPicklable(
        f"the value of {step.called.name} carries a function or class by value, and code that "
        f"Python {wanted.python} compiled does not load in others; move it into a module that can "
        "be imported"
    )
    return outcome._replace(state=FAILED, value=None, preview=None, error=describe_error(error))


def _carries_code(packed: Packed | None, blobs: BlobStore) -> bool:
    """Whether a pickle was made by one of the picklers that carry code by value."""
    if packed is None:
        return False
    try:
        data = blobs.main_part(packed)
    except (PipedecoError, OSError):  # who loads it is told
        return False
    return re.search(rb"cloudpickle\.cloudpickle|dill\._dill", data) is not None


def _check_travels(
    step: Step, names: tuple[str, ...], wanted: Requirements, blobs: BlobStore
) -> None:
    """Raise NotPicklable where a call carries code to another version of Python."""
    packed = [step.args, *(dep.outcome.value for dep in step.inputs if dep.outcome is not None)]
    if names or any(_carries_code(data, blobs) for data in packed):
        what = f"{', '.join(names)} of __main__" if names else "a function or class by value"
        raise NotPicklable(
            f"a call of {step.called.name} carries {what}, and code that was compiled here does "
            f"not load in Python {wanted.python}; move it into a module that can be imported"
        )


def failed_call(error: StepError) -> Outcome:
    return Outcome(FAILED, time.time(), 0.0, error=error)


def failure_of(call: StepCall, error: BaseException) -> Outcome:
    """How a call ends that was not performed, or of which nobody knows how far."""
    outcome = failed_call(describe_trouble(error))
    if isinstance(error, NotPicklable):  # nor is it in another attempt
        return outcome
    return outcome._replace(retryable=is_worth_a_retry(outcome, call.step))


def cancelled_call() -> Outcome:
    return Outcome(CANCELLED, time.time(), 0.0)


def is_worth_a_retry(outcome: Outcome, step: Step) -> bool:
    """What retry_on says of a death or a timeout; the user's function is asked here."""
    from pipedeco.serialization import unpack_exception
    from pipedeco.worker.perform import is_retryable

    if outcome.error is None or outcome.error.pickled is None:
        return False
    return is_retryable(unpack_exception(outcome.error.pickled), step.called.options.retry_on)

"""The steps of a run and the edges between them, and what goes to a worker and comes back.

Pure data: nothing here knows how a step is performed or where it is recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pipedeco.draw import Drawing, Edge, Node
from pipedeco.serialization import Packed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.tree import Tree

    from pipedeco.options import Cache, ComponentOptions
    from pipedeco.requirements import Requirements

PENDING = "pending"
QUEUED = "queued"
RUNNING = "running"
COMPLETED = "completed"
FAILED = "failed"
CANCELLED = "cancelled"
SKIPPED = "skipped"
CACHED = "cached"
INTERRUPTED = "interrupted"

SUCCESS = frozenset({COMPLETED, CACHED})
ENDED = frozenset({COMPLETED, CACHED, FAILED, CANCELLED, SKIPPED})


class StepError(NamedTuple):
    """What is known of the exception that ended an attempt."""

    type: str
    text: str
    traceback: str
    pickled: bytes | None  # the exception itself, where it survives the trip


class Logs(NamedTuple):
    """Where a step's output and reports stand: a log's name, and from which byte to which, by
    stream; an end of -1 is not known yet."""

    name: str
    out_start: int
    out_end: int
    err_start: int
    err_end: int
    events_start: int = 0
    events_end: int = 0
    number: int = 0  # of the step among those of the file of events


class LogPosition:
    """Where the output and the reports of the step begins that a worker performs now; moves on with the worker."""

    __slots__ = ("err", "events", "name", "number", "out")

    def __init__(self, name: str) -> None:
        self.name = name
        self.out = 0
        self.err = 0
        self.events = 0
        self.number = 0

    def so_far(self) -> Logs:
        """The part of the present step, which has no end yet."""
        ends = (self.out, -1, self.err, -1, self.events, -1)
        return Logs(self.name, *ends, self.number)


class Outcome(NamedTuple):
    """How one attempt ended."""

    state: str  # completed, failed or cancelled
    started: float  # seconds since the epoch
    duration: float  # seconds
    value: Packed | None = None
    preview: str | None = None
    names: tuple[str, ...] = ()  # what the value needs of __main__
    error: StepError | None = None
    retryable: bool = False  # what retry_on says of the exception
    logs: Logs | None = None
    worker: str = ""
    exception: BaseException | None = None  # the original, where it never left this process
    kept: Any = None  # the same of the value, in a tuple of one
    raised_by: str | None = None  # the callback whose exception it is, where not the step's own
    files: tuple[
        tuple[str, str | None], ...
    ] = ()  # that a cached component's value names, by digest


class Attempt(NamedTuple):
    """An attempt that was not the last."""

    number: int
    outcome: Outcome


class StepKey:
    """What tells whether a step's value is known; of cached components' steps alone.

    Digests stand for code and values.  `unproven` says why equality cannot be proven; there is no
    key then.
    """

    __slots__ = (
        "arguments",
        "cache",
        "code",
        "environment",
        "files",
        "fingerprint",
        "given",
        "inputs",
        "key",
        "layout",
        "note",
        "origin",
        "release",
        "seed",
        "unproven",
    )

    def __init__(
        self, cache: Cache, code: str, arguments: dict[str, str], unproven: str | None
    ) -> None:
        self.cache = cache
        self.code = code
        self.arguments = arguments  # by parameter
        self.environment: str | None = None  # what its component asks of its own
        self.seed: str | None = None  # of its run, and its name, where there is one
        self.unproven = unproven
        self.files: list[tuple[str, str]] = []  # paths that count by content, and their digests
        self.given: list[tuple[str, str | None]] = []  # the same of those that inputs' values name
        self.inputs: dict[str, str] = {}  # by step, once they have ended
        self.key: str | None = None
        self.layout = ""  # of the program's modules, where it is not the usual one
        self.note: str | None = None  # why a known value was not taken
        self.fingerprint: str | None = None  # of the value
        self.origin: int | None = None  # the recorded step whose value it is
        self.release: Callable[[], None] | None = None  # lets others compute the same key


class Called:
    """What is called: a component or a pipeline, once for all its calls within one run."""

    __slots__ = (
        "component",
        "ended",
        "environment",
        "failed",
        "function",
        "is_pipeline",
        "name",
        "options",
        "steps",
    )

    def __init__(self, component: Any, name: str, options: Any, *, is_pipeline: bool) -> None:
        self.component = component
        self.name = name
        self.options: ComponentOptions = options
        self.is_pipeline = is_pipeline
        self.environment: Requirements | None = None  # of its own, where it asks for one
        self.steps = 0  # its calls
        self.ended = 0  # of these
        self.failed = 0  # of those
        self.function: Any = None  # the runner's own note of how workers find the function


class Step:
    """One call of a component within one run."""

    __slots__ = (
        "after",
        "args",
        "attempt",
        "attempts",
        "began",
        "call_number",
        "called",
        "dependants",
        "inputs",
        "key",
        "line",
        "logs",
        "moment",
        "names",
        "originals",
        "outcome",
        "position",
        "read",
        "reads",
        "reason",
        "run",
        "state",
        "waiting",
        "watchers",
    )

    def __init__(self, run: Any, called: Called, position: int, call_number: int) -> None:
        self.run = run
        self.called = called
        self.position = position
        self.call_number = call_number  # among the steps of the same name
        self.state = PENDING
        self.attempt = 0
        self.began: float | None = None  # seconds since the epoch; of the attempt under way
        self.args: Packed | None = None  # (args, kwargs) pickled; None where there are none
        self.originals: Any = None  # the same unpickled, for runners that perform in place
        self.names: tuple[str, ...] = ()  # what the arguments need of __main__
        self.inputs: tuple[Step, ...] = ()  # whose values stand in the arguments
        self.after: tuple[Step, ...] = ()  # depends_on: waited for, not read
        self.reads = 0  # how many results the body had read before this call
        self.line = 0  # of the body, where the call stands
        self.moment = b""  # what has changed around the call since the run began, for workers
        self.waiting = 0  # steps still to end before this one is ready
        self.dependants: list[Step] | None = None
        self.outcome: Outcome | None = None  # of the last attempt
        self.attempts: list[Attempt] | None = None  # the ones before
        self.reason: Step | str | None = None  # why it was skipped or cancelled, or still waits
        self.read = False  # whether the body has read its failure
        self.logs: LogPosition | None = None  # while it runs
        self.watchers: list[Callable[[Step], None]] | None = None
        self.key: StepKey | None = None

    @property
    def name(self) -> str:
        """`fit`, then `fit-2`, `fit-3`."""
        return numbered(self.called.name, self.call_number)

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def root_failure(self) -> Step:
        """The step whose failure made this one be skipped; itself where it failed."""
        step = self
        while isinstance(step.reason, Step):
            step = step.reason
        return step

    def watch(self, watcher: Callable[[Step], None]) -> None:
        """Call `watcher` once when the step has ended, now if it has.

        Needs no lock: appending and popping are atomic, whoever pops a watcher calls it.
        """
        if self.watchers is None:
            self.watchers = []
        self.watchers.append(watcher)
        if self.ended:
            self.call_watchers()

    def call_watchers(self) -> None:
        watchers = self.watchers
        while watchers:
            try:
                watcher = watchers.pop(0)
            except IndexError:  # another thread took the last one
                return
            watcher(self)

    def __repr__(self) -> str:
        return f"<step {self.name} {self.state}>"


def numbered(component: str, call: int) -> str:
    """What the step of a component's n-th call is called."""
    return component if call == 1 else f"{component}-{call}"


class Drawn:
    """A graph that can be looked at: `nodes` and `edges`, and pictures of them."""

    title = ""

    @property
    def nodes(self) -> list[Node]:
        """The steps in the order of their calls."""
        raise NotImplementedError

    @property
    def edges(self) -> list[Edge]:
        """(source, target, kind) by step names; kind is "data", "order" or "control".

        An order edge comes from `depends_on`.  A control edge says that the body had read the one
        before it called the other; it delays nothing, and only what was read since the call before
        is listed, the rest follows.
        """
        raise NotImplementedError

    def svg(self, *, group: bool | None = None) -> str:
        """A drawing.

        Parameters
        ----------
        group: one box a stage, and one a component of the steps without a stage; by default where
            there are more than 60 steps.
        """
        return self._drawing().svg(group=group)

    def mermaid(self, *, group: bool | None = None) -> str:
        """The graph in Mermaid's language; `group` as for `svg`."""
        return self._drawing().mermaid(group=group)

    def tree(self) -> Tree:
        """A tree that rich prints."""
        return self._drawing().tree()

    def to_json(self) -> dict[str, Any]:
        """Steps and edges as plain types."""
        return {
            "steps": [node._asdict() for node in self.nodes],
            "edges": [list(edge) for edge in self.edges],
        }

    def _drawing(self) -> Drawing:
        return Drawing(self.nodes, self.edges, self.title)

    def _repr_html_(self) -> str:
        return self.svg()

    def __str__(self) -> str:
        return "\n".join(self._drawing().lines())


class Call(NamedTuple):
    """What edges are made of: a call, and what it needs, by names."""

    name: str
    inputs: list[str]
    after: list[str]
    reads: int  # how many results the body had read before


def edges_between(calls: Iterable[Call], read: Sequence[str]) -> list[Edge]:
    """The edges of calls in their order; `read` names the steps in the order of their reading."""
    found: list[Edge] = []
    before = 0
    for call in calls:
        found += [Edge(name, call.name, "data") for name in call.inputs]
        found += [Edge(name, call.name, "order") for name in call.after]
        found += [Edge(name, call.name, "control") for name in read[before : call.reads]]
        before = max(before, call.reads)
    return found


class Graph(Drawn):
    """The steps of a run in the order of their calls, and what the body read between them."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.called: dict[Any, Called] = {}  # by component
        self._counts: dict[str, int] = {}  # calls by name
        self.reads: list[int] = []  # positions of the steps that the body read, in that order

    def add(self, run: Any, called: Called) -> Step:
        """A new step, numbered among those of its name."""
        number = self._counts.get(called.name, 0) + 1
        self._counts[called.name] = number
        called.steps += 1
        step = Step(run, called, len(self.steps), number)
        self.steps.append(step)
        return step

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, name: str) -> Step:
        """The step of that name; KeyError where there is none."""
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)

    @property
    def nodes(self) -> list[Node]:
        return [
            Node(step.name, step.called.name, stage=step.called.options.stage)
            for step in self.steps
        ]

    @property
    def edges(self) -> list[Edge]:
        calls = (
            Call(step.name, _names(step.inputs), _names(step.after), step.reads)
            for step in self.steps
        )
        return edges_between(calls, [self.steps[position].name for position in self.reads])

    def __repr__(self) -> str:
        return f"<graph of {len(self.steps)} steps>"


def _names(steps: Iterable[Step]) -> list[str]:
    return [step.name for step in steps]


def distinct(steps: Any) -> list[Step]:
    """The steps without repetition, in their order."""
    return list(dict.fromkeys(steps))


class StepCall:
    """One attempt of a step, ready to be performed: what a runner gets.

    Attributes
    ----------
    done: called once, with the call and its outcome.
    started: called when a worker begins it.
    follow: called with a step that waits for nothing but this one; gives its call, which the
        runner performs right after this one in the same place, or None where it must be looked
        at first.
    undone: called in place of `done` with a call that was to follow another and was not begun.
    follows: the call that this one follows, until that has ended.
    number: the runner's own name for the call.
    """

    __slots__ = ("attempt", "done", "follow", "follows", "number", "started", "step", "undone")

    def __init__(self, step: Step, life: StepLife) -> None:
        self.step = step
        self.attempt = step.attempt
        self.done = life.finished
        self.started = life.began
        self.follow = life.follow
        self.undone = life.undone
        self.follows: StepCall | None = None
        self.number = 0


class StepLife(Protocol):
    """What a scheduler is told of the calls that it hands out."""

    def began(self, call: StepCall) -> None: ...

    def finished(self, call: StepCall, outcome: Outcome) -> None: ...

    def follow(self, call: StepCall, step: Step) -> StepCall | None: ...

    def undone(self, call: StepCall) -> None: ...

"""How steps are executed: what a runner is, of which each mode has one (`modes`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipedeco.blobs import BlobStore
    from pipedeco.graph import Called, Logs, Step, StepCall, StepError
    from pipedeco.worker.environment import Surroundings


class RunFacts(NamedTuple):
    """What a runner must know of a run."""

    id: str
    pipeline: str
    workers: int
    limit: int | None  # of workers, where anybody has asked for one
    start_method: str
    default_queue: str
    blobs: BlobStore
    logs: str  # the folder of the run's logs
    log_prefix: str  # of their names
    auto_log: bool  # whether what libraries show is logged, where a component does not say
    crashed: Callable[[BaseException], None]  # tells that the runner itself has failed
    top: str  # the id of the run at the top of the tree
    seed: int | None
    setups: tuple[Callable[[], Any], ...]
    # Tells that one of these, by its name, has failed.
    setup_failed: Callable[[str, StepError, BaseException | None], None]
    around: Surroundings | None = None  # those of a child run's call, where they are known
    parent: str = ""  # the id of the run of which this one is a child


class UnderWay(NamedTuple):
    """A step that is being performed."""

    step: Step
    seconds: float  # since it began
    progress: float  # the step's own, from 0 to 1
    activity: str = ""  # what its worker does instead: it imports, it starts


def auto_logs(called: Called, facts: RunFacts) -> bool:
    """Whether what libraries show in a component's steps is logged."""
    own = called.options.auto_log
    return facts.auto_log if own is None else own


class Beside(Protocol):
    """Calls users' callbacks, one after another."""

    @property
    def in_place(self) -> bool:
        """Whether `put` returns only after the call."""

    @property
    def here(self) -> bool:
        """Whether the caller is in such a call."""

    def put(self, job: Callable[[], None]) -> None:
        """Call `job`."""

    def renew(self) -> None:
        """Leave a call that does not return to itself, and forget what waits for its end."""

    def close(self) -> None:
        """No more calls come."""


class Session(Protocol):
    """One run's use of a runner.

    Whatever a run's scheduler does happens through `post` and so on one thread.
    """

    in_process: bool  # steps get the original arguments, and can take this process with them

    def prepare(self, called: Called) -> None:
        """Look at what is about to be called for the first time, in the body's thread.

        Raises NotPicklable where it cannot reach a worker.
        """

    def post(self, action: Callable[..., None], *args: Any) -> None:
        """Have `action(*args)` executed on the scheduler's thread, in order; never waits."""

    def tell(self, action: Callable[..., None], *args: Any) -> None:
        """The same from a thread that must not wait for a step; as soon as may be."""

    def later(self, seconds: float, action: Callable[..., None], *args: Any) -> object:
        """The same after a time."""

    def submit(self, call: StepCall) -> None:
        """Perform a call, and then call its `done` on the scheduler's thread."""

    def withdraw(self, call: StepCall) -> bool:
        """Take back a call that no worker has got; whether it was so."""

    def stop(self) -> list[StepCall]:
        """End the calls that run (SIGTERM, then SIGKILL after a grace).

        Returns the calls that no worker has got; their `done` is not called.
        """

    def kill(self) -> None:
        """End the calls that run at once."""

    def note(self, step: Step) -> None:
        """The body makes a call: note on the step how things stand, where workers must know."""

    def surroundings_at(self, step: Step) -> Surroundings | None:
        """What the steps of a child run find around them, where workers must be told."""

    def called(self, step: Step) -> None:
        """The body has made a call and is about to go on; raises what should stop it there."""

    def running(self) -> list[UnderWay]:
        """The steps that are being performed, and functions of ours; from any thread."""

    def preparing(self) -> list[str]:
        """What must happen before more can be performed, for a person; from any thread."""

    def catch_up(self, logs: Logs) -> None:
        """Show what an ended step wrote, as its value is about to be read; from any thread."""

    def arguments(self, step: Step) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What a child pipeline's body is called with."""

    def on_scheduler(self) -> bool:
        """Whether the caller is on the scheduler's thread, which must not wait for itself."""

    def spawn(self, target: Callable[[], None], name: str) -> None:
        """Execute the body of a child pipeline."""

    def beside(self, name: str) -> Beside:
        """Where callbacks are called, so that nobody else waits for them."""

    def close(self) -> None:
        """The run has ended; returns when its output is shown."""


class Runner(Protocol):
    """Executes steps; shared by the runs of a process."""

    def open(self, facts: RunFacts) -> Session:
        """Begin to serve a run."""

    @property
    def alive(self) -> bool:
        """Whether it can serve another run."""

    def stop(self) -> None:
        """Begin to close; returns at once."""

    def close(self) -> None:
        """Leave no process; returns when none is left."""

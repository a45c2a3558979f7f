"""Run: one execution of a pipeline, and what is remembered of it."""

from __future__ import annotations

import json
import os
import time
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, cast

from pipedeco.blobs import BlobStore, blobs_of
from pipedeco.config import (
    asked_workers,
    find_mode,
    find_progress,
    find_start_method,
    find_store,
    find_workers,
)
from pipedeco.drafts import WAITS
from pipedeco.errors import (
    ConfigError,
    PipedecoError,
    RunBusy,
    RunNotFound,
)
from pipedeco.events import TAG, Part, read
from pipedeco.execution import Execution, Plan
from pipedeco.graph import (
    INTERRUPTED,
    PENDING,
    RUNNING,
)
from pipedeco.interrupts import wait_in_parts
from pipedeco.monitors import names_on_run
from pipedeco.options import check_tags
from pipedeco.process import CONTROLLER
from pipedeco.records import (
    HasReports,
    Row,
    RunGraph,
    StepRecord,
    Steps,
    error_text,
    execute,
    load,
    logs_folder,
    query,
    recorded_error,
)
from pipedeco.reported import Entry, ReportView
from pipedeco.runners.modes import traits_of
from pipedeco.search import chosen_runs, parse_criteria
from pipedeco.serialization import UNRECORDED
from pipedeco.store import rows
from pipedeco.store.database import database_path
from pipedeco.store.owner import is_alive
from pipedeco.store.reports import storable
from pipedeco.text import duration, plain_text
from pipedeco.user_frames import hides_frames

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from typing import Unpack

    from typing_extensions import TypeVar

    from pipedeco.keywords import PipelineChanges

    R_co = TypeVar("R_co", covariant=True, default=Any)
else:
    from typing import TypeVar

    R_co = TypeVar("R_co", covariant=True)  # defaults begin with Python 3.13


def plan_run(pipeline: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
    """What a call of a pipeline asks for.  Raises ConfigError."""
    options = pipeline.options
    mode = find_mode(options.mode)
    if options.seed is None and not traits_of(mode).in_process:
        CONTROLLER.look_for_seeds(pipeline.fn)
    return Plan(
        pipeline,
        args,
        kwargs,
        mode,
        find_workers(options.workers),
        asked_workers(options.workers),
        "" if traits_of(mode).in_process else find_start_method(options.start_method),
        find_store(options.store),
        find_progress(),
        handle=_handle,
    )


def _handle(execution: Execution) -> Run:
    return Run(execution.plan.store, execution.id, execution)


def prepare_run(pipeline: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Execution:
    """A run that its `execute` performs in the caller's thread."""
    return Execution(plan_run(pipeline, args, kwargs))


def call_pipeline(pipeline: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Execute a run in the caller's thread; its value."""
    __tracebackhide__ = True
    with CONTROLLER.recursion:
        return prepare_run(pipeline, args, kwargs).execute()


def start_run(pipeline: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
    """Begin a run and return its handle; in debug mode it has ended by then."""
    return start_execution(Execution(plan_run(pipeline, args, kwargs)))


def prepare_resume(run: Run, **changes: Any) -> Execution:
    """A run that its `execute` goes on with, in the caller's thread.

    Parameters
    ----------
    changes: options of the pipeline, such as mode and workers; by default the run's own mode.

    Raises ConfigError where its pipeline is not found, RunBusy, and PipedecoError where the run is
    completed.
    """
    row = run._fresh()
    if run.status == "running":  # told before anything is loaded
        raise RunBusy(
            f"run {run.id} of {run.pipeline} is performed by process "
            f"{str(row['owner']).partition('-')[0]}; wait for it, or cancel it with: "
            f"pipedeco cancel {run.id}",
            run=run.id,
        )
    known = {"mode": run.mode, "store": run.store, "seed": run.seed}
    if changes.get("seed", run.seed) != run.seed:
        raise ConfigError(
            f"run {run.id} goes on with its own seed, {run.seed}, as the steps that it keeps have "
            "drawn from that; begin another run for another seed"
        )
    pipeline = run.find_pipeline().with_options(**{**known, **changes})
    args, kwargs = load(row["args"], run.blobs, f"the parameters of run {run.id}")
    return Execution(plan_run(pipeline, args, kwargs)._replace(resumes=run.id))


def prepare_rerun(run: Run, pipeline: Any, params: dict[str, Any], **changes: Any) -> Execution:
    """A new run with a run's parameters, some of them changed; it names that as its parent.

    Parameters
    ----------
    pipeline: as its code is to be.
    params: changed parameters by name.
    changes: options of the pipeline, such as mode and workers.

    Raises ConfigError for a parameter that there is not.
    """
    row = run._fresh()
    known = load(row["args"], run.blobs, f"the parameters of run {run.id}")
    args, kwargs = changed_arguments(pipeline, known[0], known[1], params)
    seed = run.seed if run.seed is not None else pipeline.options.seed
    pipeline = pipeline.with_options(**{"store": run.store, "seed": seed, **changes})
    return Execution(plan_run(pipeline, args, kwargs)._replace(reruns=run.id))


def changed_arguments(
    pipeline: Any, args: tuple[Any, ...], kwargs: dict[str, Any], params: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Recorded arguments with some changed by name.

    Raises ConfigError for a name that is none of the pipeline's parameters.
    """
    import inspect

    bound = inspect.signature(pipeline.fn).bind_partial(*args, **kwargs)
    names = inspect.signature(pipeline.fn).parameters
    extra = next((p.name for p in names.values() if p.kind is p.VAR_KEYWORD), None)
    for name, value in params.items():
        if name in names and name != extra:
            bound.arguments[name] = value
        elif extra is not None:
            bound.arguments.setdefault(extra, {})[name] = value
        else:
            raise ConfigError(
                f"{pipeline.name} has no parameter {name!r}; it has {', '.join(names)}"
            )
    return bound.args, bound.kwargs


def start_execution(execution: Execution) -> Run:
    """Have a run executed in a thread of its own; in debug mode it has ended on return."""
    import contextlib
    import contextvars
    import threading

    plan = execution.plan

    def body() -> None:
        with contextlib.suppress(Exception):  # it is kept in execution.error, for result()
            execution.execute()
        CONTROLLER.note_unread(execution)

    CONTROLLER.watch_main()
    if traits_of(plan.mode).in_process:
        body()
    else:
        context = contextvars.copy_context()  # the body sees the caller's variables
        name = f"pipedeco-{execution.id}"
        thread = threading.Thread(target=context.run, args=(body,), name=name)
        execution.thread = thread  # signals are the caller's again
        interrupt, execution.interrupts.kept = execution.interrupts.kept, None
        if interrupt is not None:
            execution.cancel("it was interrupted")
        thread.start()
        if interrupt is not None:
            raise interrupt
    return Run(plan.store, execution.id, execution)


class Run(HasReports, Generic[R_co]):
    """One execution of a pipeline.

    A handle: of a run that this process performs, or of a recorded one.  Made by
    `Pipeline.start`, `get_run` and `runs`.  `await run` gives its result, and so does
    `run.result()`; both are typed as the pipeline's function is.

    Attributes: `id`, `name`, `number`, `pipeline`, `version`, `mode`, `status` (pending, running,
    completed, failed, cancelled, interrupted), `progress` (0 to 1), `params` (name -> value), `seed`,
    `started`, `ended` (seconds since the epoch), `error` (text or None), `graph`, `steps` (a
    mapping from step name to StepRecord, in the order of the calls), `tags`, `children` (its child
    runs), and what was reported on it, or is mirrored onto it by monitors: `metrics`, `artifacts`,
    `models`, `figures`, `tables`, `texts`.
    """

    def __init__(
        self, store: str, run: str, execution: Execution | None = None, row: Row | None = None
    ) -> None:
        self.store = store
        self.id = run
        self._execution = execution
        self._row = row

    # -- what is remembered --------------------------------------------------------------

    @property
    def name(self) -> str:
        """`training#3`: the pipeline and the number of the run."""
        return f"{self.pipeline}#{self.number}"

    @property
    def pipeline(self) -> str:
        return str(self._facts["pipeline"])

    @property
    def number(self) -> int:
        return int(self._facts["number"])

    @property
    def version(self) -> str | None:
        version: str | None = self._facts["version"]
        return version

    @property
    def mode(self) -> str:
        return str(self._facts["mode"])

    @property
    def started(self) -> float:
        return float(self._facts["started"])

    @property
    def ended(self) -> float | None:
        ended: float | None = self._fresh()["ended"]
        return ended

    @property
    def duration(self) -> float | None:
        """Seconds from the start to the end, without those that it lay dead before it was resumed;
        None while it runs."""
        row = self._fresh()
        if row["ended"] is None:
            return None
        told = row["seconds"]
        return float(row["ended"] - row["started"] if told is None else told)

    @property
    def seconds_so_far(self) -> float:
        """How long it has gone by now, as `duration` tells it at the end."""
        taken = self.duration
        if taken is not None:
            return taken
        known = self._query("seconds_of_run", run=self._facts["seq"])  # it was resumed
        before, began = (known[0]["number"], known[0]["time"]) if known else (0.0, self.started)
        return float(before) + max(0.0, time.time() - began)

    @property
    def parent_run(self) -> str | None:
        """The id of the run that this one is a step of, or was started from by `rerun`."""
        parent: str | None = self._facts["parent_run"]
        return parent

    @property
    def parent_step(self) -> str | None:
        """The step of the parent run that this run is."""
        step: str | None = self._facts["parent_step"]
        return step

    @property
    def defined_in(self) -> tuple[str, str, str | None]:
        """Module, qualified name and file of the pipeline's function."""
        row = self._facts
        return row["module"], row["qualname"], row["file"]

    @property
    def capture(self) -> dict[str, Any] | None:
        """What it takes to run it again: git, packages, machine; None while that is not known."""
        text = self._query("run_by_id", id=self.id)[0]["capture"]
        return None if text is None else dict(json.loads(text))

    @property
    def params(self) -> dict[str, Any]:
        """The arguments of the pipeline by name, by preview where they could not be recorded, and
        the parameters that were reported on the run."""
        row = self._facts
        shown: dict[str, Any] = json.loads(row["parameters"])
        told = self._reported.params() if self._has_params() else {}
        if row["args"] == UNRECORDED:
            return {**told, **shown}
        args, kwargs = load(row["args"], self.blobs, f"the parameters of run {self.id}")
        return {**told, **dict(zip(shown, (*args, *kwargs.values()), strict=False))}

    @property
    def seed(self) -> int | None:
        """From which its steps' random numbers are made; None where it had none."""
        found = self._query("seed_of_run", run=self._facts["seq"])
        return int(found[0]["text"]) if found else None

    @property
    def param_texts(self) -> dict[str, str]:
        """The same as previews, for which nothing is unpickled."""
        told = self._reported.param_texts() if self._has_params() else {}
        return {**told, **json.loads(self._facts["parameters"])}

    def _has_params(self) -> bool:
        """Whether any were reported on it, as far as the database knows; all steps are looked at
        only then."""
        ended = self._fresh()["ended"] is not None
        return not ended or bool(self._query("params_of_run", run=self._facts["seq"]))

    @property
    def tags(self) -> list[str]:
        """Of its pipeline, those that it was given while it ran, and those that were added since."""
        ended = self._fresh()["ended"]
        known = [row["name"] for row in self._query("tags_of_run", run=self._facts["seq"])]
        if ended is not None:  # all that it reported is recorded
            return known
        return list(dict.fromkeys([*known, *self._reported.tags()]))

    def add_tags(self, *tags: str) -> None:
        """Tag the run, which may have ended; see also `runs(tag=...)`."""
        for tag in check_tags(tags):
            facts = {"kind": TAG, "name": storable(tag), "number": None, "text": None, "time": 0.0}
            execute(self.store, "put_reported", run=self._facts["seq"], **facts)

    @property
    def children(self) -> list[Run]:
        """The runs that steps of this one are, in the order of their starts."""
        found = self._query("child_runs", parent=self.id)
        return [get_run(row["id"], store=self.store) for row in found]

    @property
    def status(self) -> str:
        if self._execution is not None and not self._execution.over.is_set():
            return self._execution.status
        row = self._fresh()
        status = str(row["status"])
        if status == RUNNING and not is_alive(self.store, row["owner"]):
            return INTERRUPTED
        return status

    @property
    def error(self) -> str | None:
        """`ValueError: text` of what ended the run; None where nothing did."""
        if self._execution is not None:
            CONTROLLER.unread.pop(self.id, None)
        if self.status == INTERRUPTED:
            return (
                "its controller was killed before the run ended; go on with: "
                f"pipedeco resume {self.id}"
            )
        return error_text(self._fresh())

    @property
    def progress(self) -> float:
        """Ended steps of the steps known, or of the last completed run where it had more."""
        if self._execution is not None:
            return self._execution.progress
        row = self._fresh()
        if row["status"] == "completed":
            return 1.0
        if row["progress"] is not None:
            return float(row["progress"])
        counts = self._query("count_steps", **self._range)
        known: int = sum(row["count"] for row in counts)
        active: int = sum(
            row["count"] for row in counts if row["state"] in ("pending", "queued", "running")
        )
        return (known - active) / max(known, 1)

    @property
    def steps(self) -> Steps:
        """The records of the steps by name, in the order of their calls."""
        self._flush()
        records = self._query("run_steps", **self._range)
        attempts: dict[int, list[Row]] = {}
        for row in self._query("run_attempts", **self._range):
            attempts.setdefault(row["step"], []).append(row)
        children = {
            row["parent_step"]: row["id"] for row in self._query("child_runs", parent=self.id)
        }
        found = Steps()
        interrupted = self.status == INTERRUPTED
        for row in records:
            if interrupted and row["state"] in ("queued", "running"):
                row["state"] = INTERRUPTED if row["state"] == "running" else "pending"
            child = children.get(row["name"])
            found._add(StepRecord(self, found, row, attempts.get(row["id"], []), child))
        return found

    @property
    def graph(self) -> RunGraph:
        """The steps' names and the edges between them."""
        execution = self._execution
        reads = (
            rows.unpack_positions(self._fresh()["reads"])
            if execution is None
            else list(execution.graph.reads)
        )
        return RunGraph(self.name, self.steps, reads)

    def logs(self, step: str | None = None) -> str:
        """What a step wrote (stdout, then stderr); without a name, all steps in order."""
        steps = self.steps
        if step is not None:
            return steps[step].logs()
        return "".join(record.logs() for record in steps.values())

    @property
    def _reported(self) -> ReportView:
        return ReportView(self._entries, self.blobs)

    def _entries(self, *, metrics: bool) -> list[Entry]:
        """What was reported on the run or is mirrored onto it, in the order of its time."""
        found = []
        for record in self.steps.values():
            for event in record.events(metrics=metrics):
                names = names_on_run(*event[:3], record.monitors, record.name)
                found += [Entry(event._replace(name=name), record.name) for name in names]
        prefix = "" if self._facts["epoch"] == 1 else f"e{self._facts['epoch']}-"
        body = os.path.join(logs_folder(self), f"{prefix}body.events")
        found += [Entry(event, None) for event in read(Part(body, 0, -1, 0), metrics=metrics)]
        return sorted(found, key=lambda entry: entry.event.time)

    # -- while it runs -------------------------------------------------------------------

    @hides_frames
    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run has ended and is recorded; False where the time is over before.

        Ctrl-C while waiting cancels the run.
        """
        if self._execution is None:
            return self._wait_for_other(timeout)
        try:
            ended = self._execution.wait_until_over(timeout)
            CONTROLLER.tidy()
            return ended
        except KeyboardInterrupt:
            self._execution.cancel("it was interrupted")
            wait_in_parts(self._execution.over.wait, None)
            raise

    @hides_frames
    def result(self, timeout: float | None = None) -> R_co:
        """The value of the pipeline; waits at most `timeout` seconds.

        Raises TimeoutError, what left the body, RunFailed or RunCancelled.
        """
        if not self.wait(timeout):
            raise TimeoutError(f"run {self.id} has not ended within {timeout} s")
        if self._execution is not None:
            CONTROLLER.unread.pop(self.id, None)
            if self._execution.error is not None:
                raise self._execution.error
            value: R_co = self._execution.value
            return value
        row = self._fresh()
        if row["status"] != "completed":
            raise recorded_error(row, f"run {self.id} of {row['pipeline']} is {self.status}")
        recorded: R_co = load(row["value"], self.blobs, f"the result of run {self.id}")
        return recorded

    def __await__(self) -> Generator[Any, None, R_co]:
        """Wait without holding up the event loop.

        A task that is cancelled cancels the run, unless another process performs it.
        """
        from pipedeco.awaiting import awaited

        yield from awaited(self, own=self._execution is not None)
        return self.result()

    def cancel(self) -> None:
        """Cancel the run: nothing new starts, running steps are stopped.  Returns at once.

        A run that another process performs is asked for it, and ends within seconds.
        """
        if self._execution is not None:
            self._execution.cancel()
        elif self.status == RUNNING:
            execute(
                self.store,
                "ask_to_cancel",
                id=self.id,
                reason=f"process {os.getpid()} asked for it",
            )

    def release(self, step: str) -> None:
        """Let a draft step go on, which waits for that.  Returns at once.

        A run that another process performs is asked for it, and goes on within a second.

        Raises PipedecoError where there is no such step, or it does not wait.
        """
        execution = self._execution
        if execution is not None and not execution.over.is_set():
            if execution.release(step):
                return
        elif self.status == RUNNING and self.waits(step):
            facts = {"id": self.id, "step": step}
            execute(self.store, "ask_to_release", **facts)
            return
        raise self._not_waiting(step)

    def waits(self, step: str) -> bool:
        """Whether a draft step waits to be released, as far as is recorded."""
        record = self.steps.get(step)
        reason = record.reason if record is not None and record.state == PENDING else None
        return reason is not None and reason.startswith(WAITS)

    def _not_waiting(self, step: str) -> PipedecoError:
        steps = self.steps
        if step not in steps:
            text = f"there is no step {step!r} in run {self.id}"
            return PipedecoError(
                f"{text}; list its steps with: pipedeco show {self.id}", run=self.id, step=step
            )
        state = steps[step].state
        status = self.status
        now = f"it is {state}"
        if state == PENDING:
            now = (
                f"the run is {status}" if status != RUNNING else "it is no draft, or not ready yet"
            )
        return PipedecoError(
            f"step {step} of run {self.id} does not wait to be released: {now}; see it with: "
            f"pipedeco show {self.id}",
            run=self.id,
            step=step,
        )

    @hides_frames
    def resume(self, **options: Unpack[PipelineChanges]) -> Run[R_co]:
        """Go on with a run that was interrupted, failed or cancelled; returns at once.

        Steps that are recorded, whose code and inputs have not changed, keep their values; the
        others are performed.

        Parameters
        ----------
        options: of the pipeline, such as mode= and workers=; by default the run's own mode.

        Raises RunBusy where a living process has the run, ConfigError where its pipeline is not
        found, and PipedecoError where it is completed.
        """
        return start_execution(prepare_resume(self, **options))

    @hides_frames
    def rerun(self, **params: Any) -> Run[R_co]:
        """Begin a new run with this one's parameters, some of them changed; returns at once.

        The code is what it is now, the mode that of this run.  The new run names this one as its
        `parent_run`.

        Raises ConfigError where the pipeline is not found, or has no such parameter.
        """
        return start_execution(prepare_rerun(self, self.find_pipeline(), params, mode=self.mode))

    def find_pipeline(self) -> Any:
        """The pipeline that the run was of, as its code is now.

        Raises ConfigError where it is not found.
        """
        if self._execution is not None:
            return self._execution.pipeline
        from pipedeco.loading import find_recorded

        module, qualname, file = self.defined_in
        found = find_recorded(module, qualname, file)
        if not getattr(found, "is_pipeline", False):
            raise ConfigError(f"{qualname} in {file or module} is no pipeline")
        return found

    def resume_plan(self) -> list[tuple[str, str, str]]:
        """What `resume` would do: (step, "kept" or "performed", why).

        Raises ConfigError where the pipeline is not found, and RunBusy and PipedecoError as
        `resume` does.
        """
        from pipedeco.resuming import check_free, plan_of

        check_free(self.store, self._fresh())
        self.find_pipeline()  # what it defines, its steps are made of
        return plan_of(self.store, self._facts["seq"])

    def _wait_for_other(self, timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.status == RUNNING:
            if deadline is not None and time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    # -- the store -----------------------------------------------------------------------

    @property
    def _facts(self) -> Row:
        """The run's row; its first columns never change."""
        return self._row if self._row is not None else self._fresh()

    def _fresh(self) -> Row:
        """The run's row as it is now."""
        if self._row is not None and self._row["status"] == "completed":  # others may be resumed
            return self._row
        execution = self._execution
        if execution is not None and not execution.over.is_set():
            execution.log.begun.wait(30.0)
        found = self._query("run_by_id", id=self.id)
        if not found:
            raise RunNotFound(f"run {self.id} is not in the store {self.store}")
        self._row = found[0]
        return self._row

    @property
    def _range(self) -> dict[str, int]:
        seq = self._facts["seq"]
        return {"first": rows.step_id(seq, 0), "last": rows.step_id(seq + 1, 0)}

    @property
    def blobs(self) -> BlobStore:
        return blobs_of(self.store)

    def _flush(self) -> None:
        execution = self._execution
        if execution is not None and not execution.over.is_set():
            execution.recorder.flush(execution)

    def _query(self, name: str, **parameters: Any) -> list[Row]:
        return query(self.store, name, **parameters)

    def to_json(self, *, depth: int = 0) -> dict[str, Any]:
        """The run under the names of its attributes, as plain types.

        Parameters
        ----------
        depth: how many levels of child runs are told, under `children`; by default none.
        """
        row = self._fresh()
        found = {
            "id": self.id,
            "name": self.name,
            "number": self.number,
            "pipeline": self.pipeline,
            "version": self.version,
            "mode": self.mode,
            "status": self.status,
            "progress": self.progress,
            "tags": self.tags,
            "params": self.param_texts,
            "seed": self.seed,
            "started": self.started,
            "ended": row["ended"],
            "duration": self.duration,
            "error": self.error,
            "result": row["preview"],
            "parent_run": self.parent_run,
            "steps": {name: record.to_json() for name, record in self.steps.items()},
        }
        if depth > 0:
            found["children"] = [child.to_json(depth=depth - 1) for child in self.children]
        return found

    def __repr__(self) -> str:
        return f"<run {self.id} of {self.pipeline} {self.status}>"

    def __str__(self) -> str:
        return f"{self._headline()}\n{self.graph}"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(plain_text(self._headline()))}</p>{self.graph.svg()}"

    def row(self) -> tuple[str, str, str, str, str]:
        """Name, id, status, time, and the error or the result, as text."""
        took = "" if self.duration is None else duration(self.duration)
        result = str(self.error or self._facts["preview"] or "")
        return self.name, self.id, self.status, took, result

    def _headline(self) -> str:
        took = self.duration
        progress = f"{self.progress:.0%} done" if took is None else f"took {duration(took)}"
        error = f": {self.error}" if self.error else ""
        return f"{self.name}  {self.id}  {self.status}, {progress}{error}"


@hides_frames
def get_run(name: str = "latest", *, store: str | None = None) -> Run:
    """The run of that name.

    Parameters
    ----------
    name: "latest", an id, a unique prefix of one, "pipeline#number", or the name of a pipeline,
        which stands for its latest run.
    store: the folder of the store; by default the one that a run here would use.

    Raises RunNotFound where no run, or more than one, answers to it, and StoreError.
    """
    try:
        return find_run(name, store=store)
    except RunNotFound:
        folder = find_store(store)
        there = os.path.exists(database_path(folder))
        newest = query(folder, "newest_of", pipeline=str(name)) if there else []
        if not newest:
            raise
    return _from_row(folder, newest[0])


def find_run(name: str, *, store: str | None = None) -> Run:
    """The same, but that the name of a pipeline alone is refused: it may stand for many runs."""
    folder = find_store(store)
    name = str(name)
    _await_live(folder)
    if not os.path.exists(database_path(folder)):
        raise RunNotFound(f"there is no run {name!r}: nothing was recorded in {folder} yet")
    if name == "latest":
        found = query(folder, "latest_run")
    elif "#" in name:
        pipeline, _, number = name.rpartition("#")
        valid = number.isdecimal() and len(number) < 18
        found = (
            query(folder, "numbered_run", pipeline=pipeline, number=int(number)) if valid else []
        )
    else:
        found = query(folder, "find_runs", prefix=_escaped(name)) if name else []
        found = [row for row in found if row["id"] == name] or found
    if len(found) == 1:
        return _from_row(folder, found[0])
    if found:
        raise RunNotFound(f"more than one run begins with {name!r}; type more of the id")
    newest = query(folder, "newest_of", pipeline=name)
    hint = f"; did you mean {name}#{newest[0]['number']}, the latest of its runs?" if newest else ""
    raise RunNotFound(
        f"there is no run {name!r} in {folder}{hint}; list the runs with: pipedeco runs"
    )


class Runs(list[Run[Any]]):
    """What `runs` finds: a list, and a table in a notebook."""

    def _repr_html_(self) -> str:
        from pipedeco.html import table

        heading = ("run", "id", "status", "time", "result")
        return table(heading, [run.row() for run in self])


@hides_frames
def runs(
    pipeline: str | None = None,
    *,
    version: str | None = None,
    status: str | None = None,
    tag: str | Sequence[str] = (),
    param: Mapping[str, Any] | None = None,
    archived: bool = False,
    limit: int = 100,
    store: str | None = None,
    **metrics: Mapping[str, float | list[float]],
) -> Runs:
    """The recorded runs that meet all that is asked, the newest first.

    Parameters
    ----------
    pipeline: only the runs of the pipeline of this name.
    version: only those of this version.
    status: only those that are so now.
    tag: only those that have this tag (or all of several), themselves or on one of their steps.
    param: only those whose parameters have these values, by name.
    archived: archived ones, too.
    limit: at most so many.
    store: as for `get_run`.
    metrics: `metric__gt={"accuracy": 0.9}`: only those whose own metrics have such last values;
        also metric__ge, metric__lt, metric__le, metric__eq (or metric), metric__ne; of a list of
        numbers each must hold.

    Raises ConfigError for another criterion.
    """
    folder = find_store(store)
    asked = parse_criteria(metrics)
    tags = (tag,) if isinstance(tag, str) else tuple(tag)
    _await_live(folder)
    if not os.path.exists(database_path(folder)):
        return Runs()
    chosen = chosen_runs(folder, tags, param or {}, asked)
    found = query(
        folder,
        "list_runs",
        pipeline=pipeline,
        version=version,
        archived=archived,
        chosen=None if chosen is None else json.dumps(sorted(chosen)),
        limit=limit if status is None else -1,  # whether a run is interrupted, no column tells
    )
    if status is None:
        return Runs(_from_row(folder, row) for row in found)
    made = (_from_row(folder, row) for row in found)
    return Runs(islice((run for run in made if run.status == status), limit))


def _await_live(folder: str) -> None:
    """What this process has just started is found, too."""
    for execution in list(CONTROLLER.live):
        if execution.plan.store == folder:
            execution.log.begun.wait(5.0)


def _from_row(folder: str, row: Row) -> Run:
    live = next((e for e in list(CONTROLLER.live) if e.id == row["id"]), None)
    return Run(folder, row["id"], cast("Execution | None", live), row)


def _escaped(text: str) -> str:
    for character in ("\\", "%", "_"):
        text = text.replace(character, "\\" + character)
    return text

"""The commands that read: what was run, and what is remembered of it."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from pipedeco.cli.output import complain, print_json, print_rich, print_table, say
from pipedeco.errors import ConfigError, RunNotFound
from pipedeco.text import duration, when

if TYPE_CHECKING:
    from cyclopts.completion import CompletionContext

    from pipedeco.graph import Drawn
    from pipedeco.records import StepRecord
    from pipedeco.run import Run

POLL = 0.25  # seconds between two looks at a run that goes on


def complete_run(_context: CompletionContext) -> list[str]:
    """Names and ids of the newest runs, for the shell's completion."""
    from pipedeco.run import runs

    found = runs(limit=50)
    return ["latest", *(run.name for run in found), *(run.id for run in found)]


Name = Annotated[
    str,
    Parameter(help="An id, a unique prefix of one, pipeline#number, or latest.",
              completer=complete_run),
]  # fmt: skip
Json = Annotated[bool, Parameter(help="Print JSON.", negative="")]
Store = Annotated[str | None, Parameter(help="The folder of the store.")]


def runs(
    pipeline: str | None = None,
    /,
    *,
    version: str | None = None,
    archived: Annotated[bool, Parameter(negative="")] = False,
    limit: int = 20,
    json: Json = False,
    store: Store = None,
) -> None:
    """List the recorded runs, the newest first.

    Args:
        pipeline: Only the runs of this pipeline.
        version: Only those of this version.
        archived: Archived ones, too.
        limit: At most so many.
    """
    from pipedeco.config import find_store
    from pipedeco.run import runs as find_runs

    if limit < 0:
        raise ConfigError(f"--limit is a number of 0 or more, not {limit}")
    found = find_runs(pipeline, version=version, archived=archived, limit=limit, store=store)
    if json:
        print_json([_summary(run) for run in found])
    elif found:
        _print_runs(found)
    else:
        of = (f" of {pipeline}" if pipeline else "") + (f" of version {version}" if version else "")
        say(f"no runs{of} are recorded in {find_store(store)}")


def _print_runs(found: list[Run]) -> None:
    """A line a run; a column tells which are steps of others, if any are."""
    parents = [_parent(run) for run in found]
    head = ("run", "name", "version", "status", "mode", "started", "time", "parent")
    rows = [
        (
            *(run.id, run.name, run.version or "", run.status, run.mode, when(run.started)),
            *(duration(run.duration), parent),
        )
        for run, parent in zip(found, parents, strict=True)
    ]
    shown = 8 if any(parents) else 7
    print_table(head[:shown], [row[:shown] for row in rows])


def _parent(run: Run) -> str:
    if run.parent_run is None:
        return ""
    return f"step of {run.parent_run}" if run.parent_step else f"rerun of {run.parent_run}"


def _summary(run: Run) -> dict[str, Any]:
    names = (
        "id", "name", "pipeline", "number", "version", "status", "mode", "started", "ended",
        "parent_run",
    )  # fmt: skip
    return {**{name: getattr(run, name) for name in names}, "duration": run.duration}


def show(run: Name = "latest", /, *, json: Json = False, store: Store = None) -> None:
    """Show one run with its steps."""
    from pipedeco.run import get_run

    found = get_run(run, store=store)
    facts = found.to_json()
    if json:
        print_json(facts)
        return
    say(f"{found.name}  {found.id}  {facts['status']}  {found.mode}")
    ended = found.duration
    took = f"took {duration(ended)}" if ended is not None else f"{found.progress:.0%} done"
    say(f"started {when(found.started)}, {took}")
    for name, value in facts["params"].items():
        say(f"  {name} = {value}")
    steps = list(found.steps.values())
    say()
    print_table(
        ("step", "state", "start", "time", "worker", "tries", "result"),
        [_step_row(found, step) for step in steps],
    )
    _show_failures(found, steps)


def _step_row(run: Run, step: StepRecord) -> tuple[str, ...]:
    begin = "" if step.started is None else f"+{duration(step.started - run.started)}"
    return (
        step.name,
        step.state,
        begin,
        duration(step.duration),
        step.worker or "" if step.child_run is None else f"run {step.child_run}",
        str(len(step.attempts)),
        step.error or step.reason or step.preview or "",
    )


def _show_failures(run: Run, steps: list[StepRecord]) -> None:
    for step in steps:
        if step.traceback:
            say(f"\nstep {step.name} failed:\n{step.traceback.rstrip()}")
    if run.error:
        say(f"\nthe run ended with {run.error}")


# -- logs ----------------------------------------------------------------------------------


def logs(
    run: Name = "latest",
    step: str | None = None,
    /,
    *,
    follow: Annotated[bool, Parameter(alias="-f", negative="")] = False,
    json: Json = False,
    store: Store = None,
) -> None:
    """Print what the steps of a run wrote.

    Args:
        step: Only this step; of all steps each line has its step in front.
        follow: Go on while the run goes on.
    """
    from pipedeco.run import get_run

    found = get_run(run, store=store)
    while step is not None and step not in found.steps:
        if not follow or found.status != "running":
            raise RunNotFound(
                f"there is no step {step!r} in run {found.id}; list its steps with: "
                f"pipedeco show {found.id}"
            )
        time.sleep(POLL)
    if json:
        print_json([{"step": s.name, "text": s.logs()} for s in _chosen(found, step)])
        return
    printed: dict[str, int] = {}
    while True:
        going = found.status in ("pending", "running")
        begin = time.monotonic()
        for record in _chosen(found, step):
            _print_new(record, printed, labelled=step is None)
        sys.stdout.flush()
        if not follow or not going:
            return
        # Reading many records takes time; most of it is left to the run.
        time.sleep(max(POLL, 4 * (time.monotonic() - begin)))


def _chosen(run: Run, step: str | None) -> list[StepRecord]:
    steps = run.steps
    return list(steps.values()) if step is None else [steps[step]]


def _print_new(record: StepRecord, printed: dict[str, int], *, labelled: bool) -> None:
    """What a step wrote since the last look; of a step that goes on only whole lines."""
    known = printed.get(record.name, 0)
    if known < 0:  # it has ended and all was printed
        return
    text = record.logs()
    ended = record.state not in ("pending", "queued", "running")
    end = len(text) if ended else text.rfind("\n") + 1
    for line in text[known:end].splitlines():
        say(f"[{record.name}] {line}" if labelled else line)
    printed[record.name] = -1 if ended else max(known, end)


# -- graph ---------------------------------------------------------------------------------


def graph(
    source: Annotated[str, Parameter(completer=complete_run)] = "latest",
    /,
    *,
    output: Annotated[str | None, Parameter(alias="-o")] = None,
    json: Json = False,
    store: Store = None,
) -> None:
    """Draw a run, or a pipeline without running it.

    Args:
        source: A run, or FILE_OR_MODULE[:PIPELINE], whose body is called with its default values.
        output: The file to write: .svg a drawing, .mmd or .md Mermaid, .txt a tree; without it a
            tree is printed.
    """
    found = _graph_of(source, store)
    if json:
        print_json(found.to_json())
    elif output is None:
        print_rich(found.tree())
    else:
        _write_drawing(found, output)


def _graph_of(source: str, store: str | None) -> Drawn:
    from pipedeco.cli.running import is_file
    from pipedeco.run import get_run

    if not is_file(source):
        return get_run(source, store=store).graph
    from pipedeco.errors import GraphError
    from pipedeco.loading import find_pipeline

    pipeline = find_pipeline(source)
    try:
        found: Drawn = pipeline.trace()
    except TypeError as error:
        raise ConfigError(
            f"{pipeline.name} needs arguments to be drawn before it was run ({error}); run it, "
            "and draw the run"
        ) from None
    except GraphError as error:
        if error.graph is None:
            raise
        complain(f"drawn as far as it is known: {error}")
        found = error.graph
    return found


def _write_drawing(drawn: Drawn, path: str) -> None:
    if path.endswith(".svg"):
        text = drawn.svg()
    elif path.endswith((".mmd", ".mermaid")):
        text = drawn.mermaid()
    elif path.endswith(".md"):
        text = f"```mermaid\n{drawn.mermaid()}\n```\n"
    elif path.endswith(".txt"):
        text = f"{drawn}\n"
    else:
        raise ConfigError(f"{path} must end with .svg, .mmd, .md or .txt, by which it is written")
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None

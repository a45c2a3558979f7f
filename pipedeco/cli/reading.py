"""The commands that read: what was run, and what is remembered of it."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from pipedeco.cli.output import complain, print_json, print_rich, print_table, say
from pipedeco.errors import ConfigError, RunNotFound
from pipedeco.text import duration, when

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cyclopts.completion import CompletionContext

    from pipedeco.graph import Drawn
    from pipedeco.records import StepRecord
    from pipedeco.run import Run

Status = Literal["pending", "running", "completed", "failed", "cancelled", "interrupted"]
POLL = 0.25  # seconds between two looks at a run that goes on


def complete_run(_context: CompletionContext) -> list[str]:
    """Names and ids of the newest runs, for the shell's completion."""
    from pipedeco.run import runs

    found = runs(limit=50)
    pipelines = dict.fromkeys(run.pipeline for run in found)
    return ["latest", *pipelines, *(run.name for run in found), *(run.id for run in found)]


Name = Annotated[
    str,
    Parameter(help="An id, a unique prefix of one, pipeline#number, the name of a pipeline, for its "
                   "latest run, or latest.",
              completer=complete_run),
]  # fmt: skip
Json = Annotated[bool, Parameter(help="Print JSON.", negative="")]
Store = Annotated[
    str | None,
    Parameter(
        help="The folder of the store; by default what PIPEDECO_STORE or the project says, and else"
        " .pipedeco beside the nearest pyproject.toml or .git."
    ),
]
Several = Annotated[tuple[str, ...], Parameter(negative="")]
ALWAYS = 7  # columns of the list of runs that are there even where they are empty


def find_step(run: Run, name: str) -> StepRecord:
    """The record of a step; RunNotFound where there is none."""
    steps = run.steps
    if name not in steps:
        raise RunNotFound(
            f"there is no step {name!r} in run {run.id}; list its steps with: "
            f"pipedeco show {run.id}"
        )
    return steps[name]


def runs(
    pipeline: str | None = None,
    /,
    *,
    version: str | None = None,
    status: Status | None = None,
    tag: Several = (),
    param: Several = (),
    metric: Several = (),
    archived: Annotated[bool, Parameter(negative="")] = False,
    limit: int = 20,
    json: Json = False,
    store: Store = None,
) -> None:
    """List the recorded runs, the newest first.

    Args:
        pipeline: Only the runs of this pipeline.
        version: Only those of this version.
        status: Only those that are so now.
        tag: Only those with this tag, on the run or on a step; of several, with all.
        param: NAME=VALUE: only those with this parameter; a value is JSON, or else text.
        metric: Only those whose metric was such in the end: 'accuracy>0.9', or with >= < <= = !=.
        archived: Archived ones, too.
        limit: At most so many.
    """
    from pipedeco.cli.criteria import parse_metrics, parse_params
    from pipedeco.config import find_store
    from pipedeco.run import runs as find_runs

    if limit < 0:
        raise ConfigError(f"--limit is a number of 0 or more, not {limit}")
    chosen: dict[str, Any] = {"status": status, "tag": tag, "param": parse_params(param)}
    chosen |= parse_metrics(metric)
    scope: dict[str, Any] = {"version": version, "archived": archived, "store": store}
    found = find_runs(pipeline, limit=limit, **scope, **chosen)
    if json:
        print_json([_summary(run) for run in found])
    elif found:
        _print_runs(found)
    else:
        of = (f" of {pipeline}" if pipeline else "") + (f" of version {version}" if version else "")
        of += " that meet all of this" if any(chosen.values()) else ""
        say(f"no runs{of} are recorded in {find_store(store)}")


def _print_runs(found: list[Run]) -> None:
    """A line a run, child runs below their parents; parents and tags where there are any."""
    head = ("run", "name", "version", "status", "mode", "started", "time", "parent", "tags")
    rows = [
        (
            *("  " * depth + run.id, run.name, run.version or "", run.status, run.mode),
            *(when(run.started), _time(run), _parent(run), ", ".join(run.tags)),
        )
        for run, depth in nested(found)
    ]
    used = [i for i in range(len(head)) if i < ALWAYS or any(row[i] for row in rows)]
    print_table(_picked(head, used), [_picked(row, used) for row in rows])


def _picked(row: tuple[str, ...], columns: list[int]) -> tuple[str, ...]:
    return tuple(row[i] for i in columns)


def nested(found: list[Run]) -> list[tuple[Run, int]]:
    """Runs with their depth: those that are steps stand below their parents, where both are here."""
    known = {run.id for run in found}
    children: dict[str | None, list[Run]] = {}
    for run in found:
        parent = run.parent_run if run.parent_step is not None else None
        children.setdefault(parent if parent in known else None, []).append(run)
    ordered: list[tuple[Run, int]] = []
    waiting = [(run, 0) for run in reversed(children.get(None, ()))]
    while waiting:
        run, depth = waiting.pop()
        ordered.append((run, depth))
        waiting += [(child, depth + 1) for child in children.get(run.id, ())]  # the first first
    return ordered


def _time(run: Run) -> str:
    """What it took; of one that goes on how long it has gone."""
    if run.duration is None and run.status == "running":
        return f"{duration(run.seconds_so_far)} so far"
    return duration(run.duration)


def _parent(run: Run) -> str:
    if run.parent_run is None:
        return ""
    return f"step of {run.parent_run}" if run.parent_step else f"rerun of {run.parent_run}"


def _summary(run: Run) -> dict[str, Any]:
    names = (
        "id", "name", "pipeline", "number", "version", "status", "mode", "started", "ended",
        "parent_run",
    )  # fmt: skip
    return {name: getattr(run, name) for name in (*names, "duration", "tags")}


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
    """Print what the steps of a run wrote, and those of its child runs.

    Args:
        step: Only this step; of several steps each line has its step in front.
        follow: Go on while the run goes on.
    """
    from pipedeco.run import get_run

    found = get_run(run, store=store)
    while step is not None and step not in found.steps:
        if not follow or found.status != "running":
            find_step(found, step)
        time.sleep(POLL)
    if json:
        chosen = _chosen(found, step)
        print_json([{"step": name, "text": record.logs()} for name, record in chosen])
        return
    shown: dict[str, _Shown] = {}
    while True:
        going = found.status in ("pending", "running")
        begin = time.monotonic()
        for name, record in _chosen(found, step):
            label = "" if name == step else f"[{name}] "
            _print_new(record, shown.setdefault(name, _Shown()), label, follow=follow)
        sys.stdout.flush()
        if not follow or not going:
            return
        # Reading many records takes time; most of it is left to the run.
        time.sleep(max(POLL, 4 * (time.monotonic() - begin)))


def _chosen(run: Run, step: str | None) -> Iterator[tuple[str, StepRecord]]:
    """The steps by what they are called here: those of child runs behind the step that one is."""
    steps = run.steps
    records = steps.values() if step is None else [steps[step]]
    children = {}
    if any(record.child_run is not None for record in records):
        children = {child.id: child for child in run.children}
    for record in records:
        if record.child_run in children:
            for name, inner in _chosen(children[record.child_run], None):
                yield f"{record.name}/{name}", inner
        else:
            yield record.name, record


class _Shown:
    """How much of a step's log is printed, and how much there was at the last look."""

    def __init__(self) -> None:
        self.printed = 0
        self.seen = 0
        self.ended = False


def _print_new(record: StepRecord, shown: _Shown, label: str, *, follow: bool) -> None:
    """What a step wrote since the last look; of a step that goes on only whole lines.

    Of such a one that is followed, only what was there at the last look: what came since may be the
    worker's next step's, as that this one has ended is recorded a moment later.
    """
    if shown.ended:
        return
    text = record.logs()
    shown.ended = record.state not in ("pending", "queued", "running")
    whole = len(text) if shown.ended else text.rfind("\n") + 1
    end = min(whole, shown.seen) if follow and not shown.ended else whole
    shown.seen = whole
    for line in text[shown.printed : end].splitlines():
        say(f"{label}{line}")
    shown.printed = max(shown.printed, end)


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


def _is_file(name: str) -> bool:
    """Whether a name is that of a file, or of a module and a pipeline, and none of a run."""
    return os.path.exists(name) or name.partition(":")[0].endswith(".py") or ":" in name


def _graph_of(source: str, store: str | None) -> Drawn:
    from pipedeco.run import get_run

    if not _is_file(source):
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

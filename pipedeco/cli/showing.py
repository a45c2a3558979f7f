"""The command that shows one run with its steps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from pipedeco.cli.artifacts import list_held
from pipedeco.cli.metrics import where_metrics_are
from pipedeco.cli.output import print_json, print_table, say
from pipedeco.cli.reading import Json, Name, Store
from pipedeco.errors import ConfigError
from pipedeco.text import duration, plain_text, short_number, when

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipedeco.records import StepRecord
    from pipedeco.run import Run

MOST_METRICS = 10
HEAD = ("step", "stage", "state", "start", "time", "worker", "tries", "result")


def show(
    run: Name = "latest",
    /,
    *,
    depth: Annotated[int, Parameter(negative="")] = 1,
    json: Json = False,
    store: Store = None,
) -> None:
    """Show one run with its steps.

    Args:
        depth: So many levels of child runs are shown below the steps that they are.
    """
    from pipedeco.run import get_run

    if depth < 0:
        raise ConfigError(f"--depth is a number of 0 or more, not {depth}")
    found = get_run(run, store=store)
    if json:
        print_json(found.to_json(depth=depth))
        return
    _show_head(found)
    _show_reported(found)
    say()
    _show_steps(found, depth)
    _show_environments(list(found.steps.values()))
    _show_failures(found, list(found.steps.values()))


def _show_head(run: Run) -> None:
    say(f"{run.name}  {run.id}  {run.status}  {run.mode}")
    ended = run.duration
    going = f"{duration(time.time() - run.started)} ago, {run.progress:.0%} done"
    took = f"took {duration(ended)}" if ended is not None else going
    say(f"started {when(run.started)}, {took}")
    if run.tags:
        say(f"tags: {plain_text(', '.join(run.tags))}")
    if run.seed is not None:
        say(f"seed: {run.seed}")
    _show_missing_code(run)
    for name, value in run.param_texts.items():
        say(f"  {name} = {value}")


def _show_missing_code(run: Run) -> None:
    """Which of its code is not recorded, though the commit is."""
    from pipedeco.reproducing import missing_diff

    git = (run.capture or {}).get("git") or {}
    commit = git.get("commit")
    if commit and run.ended is not None:
        missing = missing_diff(git)
        if missing:
            text = f"commit {commit[:12]}; what was not committed is not recorded: {missing}"
            say(plain_text(text))


def _show_reported(run: Run) -> None:
    """The last values of the run's metrics, and how many other things there are."""
    last = run.last_metrics
    where = "" if last else where_metrics_are(run)
    if last:
        say("metrics:")
    elif where:
        say(f"no metrics of its own{where}")
    for name, value in list(last.items())[:MOST_METRICS]:
        say(f"  {plain_text(name)} = {short_number(value)}")
    if len(last) > MOST_METRICS:
        say(f"  and {len(last) - MOST_METRICS:,} more: pipedeco metrics {run.id}")
    counts: dict[str, int] = {}
    for held in list_held(run):
        counts[held.item.kind] = counts.get(held.item.kind, 0) + 1
    if counts:
        told = ", ".join(f"{n:,} {kind}{'s' * (n > 1)}" for kind, n in counts.items())
        say(f"{told}: pipedeco artifacts {run.id}")


# -- steps ---------------------------------------------------------------------------------


def _show_steps(run: Run, depth: int) -> None:
    head: tuple[str, ...] = HEAD
    rows = list(_rows(run, run.started, depth, 0))
    if not any(row[1] for row in rows):
        head, rows = (head[0], *head[2:]), [(row[0], *row[2:]) for row in rows]
    print_table(head, rows)


def _rows(run: Run, begin: float, depth: int, level: int) -> Iterator[tuple[str, ...]]:
    """A row a step, and below one that is a run the rows of that, as deep as they are wanted."""
    children = {child.id: child for child in run.children} if depth else {}
    for step in run.steps.values():
        yield _step_row(step, begin, level)
        if step.child_run in children:
            yield from _rows(children[step.child_run], begin, depth - 1, level + 1)


def _step_row(step: StepRecord, begin: float, level: int) -> tuple[str, ...]:
    return (
        "  " * level + step.name,
        step.stage or "",
        step.state,
        "" if step.started is None else f"+{duration(step.started - begin)}",
        _time(step),
        step.worker or "" if step.child_run is None else f"run {step.child_run}",
        str(len(step.attempts)),
        step.error or step.reason or step.preview or _how_far(step),
    )


def _time(step: StepRecord) -> str:
    """What it took; of a running one how long it has gone."""
    if step.state == "running" and step.started is not None:
        return f"{duration(time.time() - step.started)} so far"
    return duration(step.duration)


def _how_far(step: StepRecord) -> str:
    """What a running step has told of its progress."""
    told = step.progress if step.state == "running" else 0.0
    return f"{told:.0%} done" if told else ""


def _show_environments(steps: Sequence[StepRecord]) -> None:
    """What components asked of environments of their own, once each."""
    found = {(step.component, step.environment) for step in steps if step.environment}
    if found:
        say()
    for component, environment in sorted(found):
        say(f"environment of {component}: {environment}")


def _show_failures(run: Run, steps: Sequence[StepRecord]) -> None:
    for step in steps:
        if step.traceback:
            say(f"\nstep {step.name} failed:\n{step.traceback.rstrip()}")
    if run.error:
        ended = "" if run.status == "interrupted" else "the run ended with "  # that says so itself
        say(f"\n{ended}{run.error}")

"""The command that replays a step under a debugger."""

from __future__ import annotations

from bdb import BdbQuit
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from pipedeco.cli.output import say
from pipedeco.cli.reading import Name, Store
from pipedeco.errors import ConfigError, PipedecoError, RunNotFound

if TYPE_CHECKING:
    from cyclopts.completion import CompletionContext

    from pipedeco.records import StepRecord
    from pipedeco.run import Run

COMPLETED = 0
FAILED = 1
MANY = 20  # failed steps that are named


def complete_step(context: CompletionContext) -> list[str]:
    """Names of the steps of the run that was typed, the failed ones first."""
    from pipedeco.run import get_run

    try:
        steps = list(get_run(context["run"].raw or "latest").steps.values())
    except (PipedecoError, KeyError):
        return []
    return [step.name for step in sorted(steps, key=lambda step: step.state != "failed")]


def debug(
    run: Name = "latest",
    step: Annotated[str | None, Parameter(completer=complete_step)] = None,
    /,
    *,
    break_: Annotated[bool, Parameter(name="--break", negative="")] = False,
    store: Store = None,
) -> int:
    """Replay a step in this process, and stop in pdb at the line that fails.

    Its function is called with the recorded inputs; nothing is recorded. Working directory and
    environment are those of this process. PYTHONBREAKPOINT may name another debugger, such as
    ipdb.set_trace, that is used post mortem. Exits with 0 when the step completed, with 1 when it
    failed.

    Args:
        step: By default the one that failed; of a step that is a child run the one that failed there.
        break_: Stop at the first line of the function, too.
    """
    from pipedeco.replay import check_terminal, has_terminal, prepared
    from pipedeco.run import get_run
    from pipedeco.text import preview

    if break_:
        check_terminal()
    record = _choose(get_run(run, store=store), step)
    with prepared(record.recorded()) as found:
        try:
            value = found.debug(break_=break_)
        except KeyboardInterrupt:
            raise
        except BdbQuit:
            return FAILED
        except BaseException as error:  # noqa: BLE001 - whatever the user's function raises
            if not has_terminal():
                found.tell_failure(error)
            return FAILED
        say(f"{found.named} completes now; {found.recorded_end}")
        say(preview(value) or "")
    return COMPLETED


def _choose(run: Run, step: str | None) -> StepRecord:
    """The step to replay; below a child run its failed one, at any depth."""
    record = _named(run, step) if step is not None else _failed(run)
    if record.child_run is None:
        return record
    from pipedeco.graph import SUCCESS
    from pipedeco.run import get_run

    child = get_run(record.child_run, store=run.store)
    if step is not None and record.state in SUCCESS:
        raise ConfigError(
            f"step {step} of run {run.id} is run {child.id} of {child.pipeline}, in which no step "
            f"failed; name one of its steps to replay: pipedeco debug {child.id} STEP"
        )
    return _choose(child, None)


def _named(run: Run, step: str) -> StepRecord:
    if step not in run.steps:
        raise RunNotFound(
            f"there is no step {step!r} in run {run.id}; list its steps with: pipedeco show {run.id}"
        )
    return run.steps[step]


def _failed(run: Run) -> StepRecord:
    """The one step that failed."""
    failed = [record for record in run.steps.values() if record.state == "failed"]
    if len(failed) == 1:
        return failed[0]
    if not failed:
        body = f"its body did: {run.error}; " if run.status == "failed" else ""
        raise ConfigError(
            f"no step of run {run.id} failed; {body}name one to replay: pipedeco debug {run.id} STEP"
        )
    names = ", ".join([record.name for record in failed[:MANY]])
    raise ConfigError(
        f"{len(failed)} steps of run {run.id} failed; name one: pipedeco debug {run.id} STEP, "
        f"where STEP is one of {names}{', ...' if len(failed) > MANY else ''}"
    )

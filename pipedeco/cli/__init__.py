"""The `pipedeco` command: what is remembered of runs, on a terminal or as JSON."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from pipedeco.errors import PipedecoError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipedeco.run import Run, StepRecord

USAGE_ERROR = 2
BROKEN_PIPE = 141  # as if SIGPIPE had ended us


def main(arguments: list[str] | None = None) -> int:
    """Execute the command line and return its exit code: 0, or 2 for a user's mistake."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal may know fewer characters
        sys.stdout.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
        sys.stdout.flush()
    except PipedecoError as error:
        print(f"pipedeco: {plain_text(str(error))}", file=sys.stderr)
        return USAGE_ERROR
    except BrokenPipeError:  # piped into `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pipedeco", description="See the recorded runs of pipelines."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    runs = commands.add_parser("runs", help="list the recorded runs, the newest first")
    runs.add_argument("pipeline", nargs="?", help="only the runs of this pipeline")
    runs.add_argument("--limit", type=int, default=20, help="at most so many (default: 20)")
    runs.set_defaults(command=_runs)
    show = commands.add_parser("show", help="show one run with its steps")
    show.add_argument(
        "run", metavar="RUN", help="an id, a unique prefix of one, pipeline#number, or latest"
    )
    show.set_defaults(command=_show)
    for command in (runs, show):
        command.add_argument("--json", action="store_true", help="print JSON")
        command.add_argument("--store", help="the folder of the store")
    return parser


def _runs(options: argparse.Namespace) -> None:
    from pipedeco.config import find_store
    from pipedeco.run import runs

    found = runs(options.pipeline, limit=max(0, options.limit), store=options.store)
    if options.json:
        _print_json([_summary(run) for run in found])
        return
    what = f" of {plain_text(options.pipeline)}" if options.pipeline else ""
    if not found:
        print(f"no runs{what} are recorded in {find_store(options.store)}")
        return
    rows = [
        (run.id, run.name, run.status, run.mode, _when(run.started), _seconds(run.duration))
        for run in found
    ]
    _print_table(("run", "name", "status", "mode", "started", "time"), rows)


def _summary(run: Run) -> dict[str, Any]:
    names = ("id", "name", "pipeline", "number", "version", "status", "mode", "started", "ended")
    return {**{name: getattr(run, name) for name in names}, "duration": run.duration}


def _show(options: argparse.Namespace) -> None:
    from pipedeco.run import get_run

    run = get_run(options.run, store=options.store)
    if options.json:
        _print_json(run.to_json())
        return
    facts = run.to_json()
    print(f"{plain_text(run.name)}  {run.id}  {run.status}  {run.mode}")
    print(f"started {_when(run.started)}, took {_seconds(run.duration)}")
    for name, value in facts["params"].items():
        print(f"  {plain_text(name)} = {plain_text(value)}")
    steps = list(run.steps.values())
    print()
    _print_table(
        ("step", "state", "start", "time", "worker", "tries", "result"),
        [_step_row(run, step) for step in steps],
    )
    _print_failures(run, steps)


def _step_row(run: Run, step: StepRecord) -> tuple[str, ...]:
    begin = "" if step.started is None else f"+{_seconds(step.started - run.started)}"
    return (
        step.name,
        step.state,
        begin,
        _seconds(step.duration),
        step.worker or "" if step.child_run is None else f"run {step.child_run}",
        str(len(step.attempts)),
        step.error or step.reason or step.preview or "",
    )


def _print_failures(run: Run, steps: list[StepRecord]) -> None:
    for step in steps:
        if step.traceback:
            print(f"\nstep {plain_text(step.name)} failed:")
            print(plain_text(step.traceback, keep_lines=True).rstrip())
    if run.error:
        print(f"\nthe run ended with {plain_text(run.error)}")


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def _print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    cells = [[plain_text(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    width = _terminal_width()
    for row in cells:
        line = "  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip()
        print(line if width is None or len(line) <= width else line[: width - 3] + "...")


def _terminal_width() -> int | None:
    return os.get_terminal_size().columns if sys.stdout.isatty() else None


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _seconds(duration: float | None) -> str:
    if duration is None:
        return "-"
    if duration < 1:
        return f"{duration * 1000:.3g} ms"
    return f"{duration:.3g} s" if duration < 100 else f"{duration:,.0f} s"


def plain_text(text: str, *, keep_lines: bool = False) -> str:
    """`text` without what could move a cursor, colour a terminal or hide in another direction.

    Control characters are shown as their escapes; line ends too, unless `keep_lines`.
    """
    return "".join(
        character
        if character.isprintable() or (keep_lines and character == "\n")
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )

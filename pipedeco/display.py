"""What a person sees of a run while it goes, and at its end; on stderr alone.

On a terminal a region is drawn and drawn again below what the steps print, and in a notebook one
line; elsewhere, and on a terminal of unknown size, a plain line comes now and then.  Nothing is
drawn in a run's first half second.  A thread of its own looks at the run a few times a second, so
that steps pay nothing for being watched.
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from heapq import nlargest
from itertools import chain, count
from typing import TYPE_CHECKING, Any, Protocol

from pipedeco.config import debugger_attached
from pipedeco.draw.text import COLOURS, SIGNS
from pipedeco.graph import CANCELLED, COMPLETED, FAILED, SUCCESS, Step
from pipedeco.kernels import CellLine, bar, is_kernel
from pipedeco.terminal import (
    OFF_TERMINAL,
    Indulgent,
    Region,
    can_be_drawn_into,
    is_terminal,
    is_typed_to,
    make_console,
)
from pipedeco.text import duration, plain_text, shortened, write_stderr

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rich.console import Console, RenderableType
    from rich.table import Table

    from pipedeco.clock import RunClock
    from pipedeco.graph import Graph
    from pipedeco.runners import UnderWay

FIRST = 0.5  # seconds without a display
INTERVAL = 0.2  # seconds between two drawings, at least
SHARE = 0.01  # of the time may be spent on drawing
LINES = (2.0, 5.0, 10.0, 20.0, 30.0)  # seconds after which a plain line comes; then every 30
MANY = 12  # steps, above which components are shown in their place
ROWS = 8  # lines below the first
SLOWEST = 5  # steps of the summary
INDENT = 2  # characters before a column
LEAST = 6  # characters of a result
FAILURES = 10  # of the summary
ATTACHED = (
    "a debugger has attached to a run whose steps are in worker processes: it stops in the pipeline's "
    "body, and not in components; for those begin the run with it attached, or call .debug(...)"
)
NOTABLE = 1.0  # seconds without a step that the summary tells


class Shown(Protocol):
    """What is asked of a run that is shown."""

    id: str
    graph: Graph
    clock: RunClock
    status: str
    children: list[Any]

    @property
    def name(self) -> str: ...
    @property
    def expected(self) -> tuple[int, float]:
        """Steps and seconds of the last completed run of this version; zeros without one."""
        ...

    @property
    def ended_steps(self) -> int: ...
    @property
    def share(self) -> float:
        """The same, and of the steps under way the part that they have told of."""
        ...

    @property
    def stopping(self) -> str | None:
        """Why it is being cancelled."""
        ...

    def running(self) -> list[UnderWay]:
        """The steps under way."""
        ...

    def preparing(self) -> list[str]:
        """What must happen before more steps can be performed."""
        ...

    def waiting(self) -> list[str]:
        """The names of drafts that wait for a person."""
        ...


class Display:
    """How one run is shown.

    Parameters
    ----------
    run: what is shown.
    live: whether to show it while it goes; else only its end.
    full: show the end of a short run too, with its failures in full.
    """

    def __init__(self, run: Shown, *, live: bool, full: bool) -> None:
        self.run = run
        self.live = live
        self.full = full
        self.begin = time.monotonic()
        self.told = False  # whether a plain line was written
        self.debugged = debugger_attached()
        self.spent: dict[str, float] = {}  # seconds in which no step was performed, and on what
        self._looked = self.begin
        self._times = chain(LINES, count(60.0, 30.0))
        self.due = self.begin + next(self._times)

    @property
    def age(self) -> float:
        return time.monotonic() - self.begin

    def summarise(self) -> None:
        """The run has ended: tell how it went."""
        if self.full or (is_terminal(sys.stderr) and self.age > FIRST) or self.told:
            show_summary(self.run, full=self.full, spent=self.spent)

    def look(self) -> None:
        """Note what went on since the last look, where no step was performed."""
        if not self.debugged and debugger_attached():
            self.debugged = True
            write_stderr(f"pipedeco: {ATTACHED}\n")
        now = time.monotonic()
        seconds, self._looked = now - self._looked, now
        if not _performs(self.run):
            for text in _activities(self.run)[:1]:
                self.spent[text] = self.spent.get(text, 0.0) + seconds

    def write_line(self) -> None:
        """Off a terminal: a line now and then."""
        if time.monotonic() >= self.due:
            self.due = self.begin + next(self._times)
            self.told = True
            write_stderr(f"pipedeco: {line(self.run)}\n")


class Displays:
    """Shows all runs of this process, in a thread that lives while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown: list[Display] = []
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None
        self._region: Region | CellLine | None = None

    def open(self, run: Shown, *, live: bool, full: bool) -> Display:
        """Begin to show a run."""
        display = Display(run, live=live, full=full)
        if live:
            with self._lock:
                self._shown.append(display)
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._watch, name="pipedeco-display", daemon=True
                    )
                    self._thread.start()
        return display

    def close(self, display: Display) -> None:
        """A run has ended: take it away, and tell how it went."""
        with self._lock:
            if display in self._shown:
                self._shown.remove(display)
            thread = self._thread if not self._shown else None
            if thread is not None:
                self._changed.set()
        if thread is not None:
            thread.join(5.0)
        with suppress(OSError, ValueError, AttributeError):  # stderr is closed
            display.summarise()

    def abandon(self) -> None:
        """In a forked child: the streams are the child's own again."""
        if self._region is not None:
            self._region.abandon()

    # -- the thread ----------------------------------------------------------------------

    def _watch(self) -> None:
        pause = FIRST
        try:
            while not self._is_over(pause):
                begin = time.thread_time()
                self._show()
                # Drawing takes time from the runs' own threads; most of it is left to them.
                pause = max(INTERVAL, (time.thread_time() - begin) / SHARE)
        finally:
            with self._lock:
                self._thread = None
            if self._region is not None:
                try:
                    self._region.close()
                except (OSError, ValueError):  # the terminal is gone
                    self._region.abandon()
                self._region = None

    def _is_over(self, pause: float) -> bool:
        """Wait; whether there is nothing more to show, so that the thread may end."""
        end = time.monotonic() + pause
        while not self._changed.wait(max(0.0, min(INTERVAL, end - time.monotonic()))):
            for display in list(self._shown):  # which costs little; drawing may have to wait
                display.look()
            if time.monotonic() >= end:
                break
        with self._lock:
            self._changed.clear()
            if not self._shown:
                self._thread = None
                return True
            return False

    def _show(self) -> None:
        displays = [display for display in self._shown if display.age >= FIRST]
        try:
            if is_kernel(sys.stderr):
                self._draw_line(displays)
            elif self._region is None and not can_be_drawn_into(sys.stderr):
                for display in displays:
                    display.write_line()
            elif displays:
                self._draw([picture(display.run) for display in displays])
        except (OSError, ValueError, AttributeError):  # stderr is closed, or None
            pass

    def _draw_line(self, displays: list[Display]) -> None:
        """In a notebook: one line, which the summary takes the place of."""
        if not isinstance(self._region, CellLine):
            self._region = CellLine()
        for display in displays:
            display.told = True
        self._region.draw("  |  ".join(line_with_bar(display.run) for display in displays))

    def _draw(self, pictures: list[RenderableType]) -> None:
        from rich.console import Group

        if not isinstance(self._region, Region):
            self._region = Region()
            self._region.open()
        if is_typed_to(sys._current_frames().values()):
            self._region.hide()
        else:
            self._region.draw(Group(*pictures))


# -- while it goes -------------------------------------------------------------------------


def line(run: Shown) -> str:
    """One plain line of how far a run is."""
    now = [plain_text(name) for name, _ in _under_way(run, plain=True)]
    more = f" and {len(now) - 4} more" if len(now) > 4 else ""
    parts = [f"{plain_text(run.name)}: {run.ended_steps} of {_known(run)} steps", _clock(run)]
    if now:
        parts.append(f"now {', '.join(now[:4])}{more}")
    return ", ".join(parts)


def line_with_bar(run: Shown) -> str:
    """The same for a notebook, where it is drawn in place."""
    return f"{bar(_share(run))}  {line(run)}"


def picture(run: Shown) -> RenderableType:
    """How far a run is, for a terminal."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    head = Table.grid(padding=(0, 2))
    head.add_row(
        Text(plain_text(run.name), style="bold"),
        ProgressBar(total=1.0, completed=_share(run), width=24),
        Text(f"{run.ended_steps}/{_known(run)}"),
        Text(_clock(run)),
    )
    rows = Table.grid(padding=(0, 2))
    found = list(_component_rows(run) if len(run.graph) > MANY else _step_rows(run))
    for name, text in found[:ROWS]:
        rows.add_row("  " + shortened(plain_text(name), 40), text)
    if len(found) > ROWS:
        rows.add_row(f"  and {len(found) - ROWS} more", "")
    return Group(head, rows)


def _step_rows(run: Shown) -> Iterable[tuple[str, str]]:
    return _under_way(run)


def _component_rows(run: Shown) -> list[tuple[str, str]]:
    """One line a component that is not done: its steps, and how long the present one takes."""
    longest: dict[str, float] = {}
    for step, seconds, _, _ in run.running():
        if step.position >= 0:
            longest[step.called.name] = max(seconds, longest.get(step.called.name, 0.0))
    found = []
    for called in list(run.graph.called.values()):
        if called.ended < called.steps:
            now = duration(longest[called.name]) if called.name in longest else ""
            failed = f", {called.failed} failed" if called.failed else ""
            found.append((called.name, f"{called.ended}/{called.steps}{failed}  {now}".rstrip()))
    found.sort(key=lambda row: row[0] not in longest)
    return [(text, "") for text in _activities(run)] + found


def _under_way(run: Shown, *, plain: bool = False) -> list[tuple[str, str]]:
    """The steps that run now and what is known of them, those of child runs behind their parents'.

    Before them what else goes on; in a `plain` line what stands beside a name is left out.
    """
    found = [(text, "") for text in run.preparing()]
    helpers = dict.fromkeys(activity for step, _, _, activity in run.running() if step.position < 0)
    for step, seconds, progress, activity in run.running():
        if step.position < 0:
            continue
        told = f"{progress:.0%}  " if progress else ""
        name = f"{step.name} ({activity})" if plain and activity else step.name
        found.append((name, activity or told + duration(seconds)))
    found = found or [(text, "") for text in helpers if text]
    found += [(name, "waits to be released") for name in run.waiting()]
    for child in list(run.children):
        step_name = child.plan.parent_step
        done = f"{step_name} {child.ended_steps}/{_known(child)}"
        found.append((done, duration(child.clock.elapsed)))
        found += [(f"{step_name} / {name}", text) for name, text in _under_way(child, plain=plain)]
    return found


def _activities(run: Shown) -> list[str]:
    """What goes on where no step is performed yet."""
    others = [] if _performs(run) else [one.activity for one in run.running() if one.activity]
    return list(dict.fromkeys([*run.preparing(), *others]))


def _performs(run: Shown) -> bool:
    """Whether a step is performed, in a child run, too."""
    own = any(step.position >= 0 and not activity for step, _, _, activity in run.running())
    return own or any(_performs(child) for child in list(run.children))


def _known(run: Shown) -> int:
    return max(len(run.graph), run.expected[0])


def _clock(run: Shown) -> str:
    """How long it has gone, and how long the last run says that it still will."""
    if run.stopping is not None:
        return f"stopping: {plain_text(run.stopping)}; once more Ctrl-C does not wait"
    elapsed = run.clock.elapsed
    waits = bool(run.waiting()) and not run.running()  # who knows how long
    left = 0.0 if waits else run.expected[1] * (1.0 - _share(run))
    return duration(elapsed) + (f", about {duration(left)} left" if left >= 1.0 else "")


def _share(run: Shown) -> float:
    return run.share / max(_known(run), 1)


# -- at the end ----------------------------------------------------------------------------


def show_summary(run: Shown, *, full: bool, spent: Mapping[str, float] | None = None) -> None:
    """How a run went: its slowest steps, its failures, and what to type next.

    Parameters
    ----------
    spent: seconds without a step, and on what.
    """
    from rich.text import Text

    width = None if can_be_drawn_into(sys.stderr) else OFF_TERMINAL
    console = make_console(Indulgent(sys.stderr), width)
    steps = list(run.graph.steps)
    failed = [step for step in steps if step.state == FAILED]
    console.print(Text(_headline(run, steps), style=COLOURS.get(run.status, "")))
    well = [step for step in steps if step.state in SUCCESS]
    shown = failed[:FAILURES] + nlargest(SLOWEST, well, key=_seconds)
    if shown and len(steps) > 1:
        console.print(_table(shown, console.width))
    left_out = []
    if len(failed) > FAILURES:
        left_out.append(f"{len(failed) - FAILURES} more failed")
    if len(well) > SLOWEST:
        left_out.append(f"{len(well) - SLOWEST} more took less time")
    if left_out:
        console.print(Text(f"  {', '.join(left_out)}", style="dim"))
    notable = [(text, seconds) for text, seconds in (spent or {}).items() if seconds >= NOTABLE]
    if notable:
        told = ", ".join(f"{duration(seconds)} {plain_text(text)}" for text, seconds in notable)
        console.print(Text(f"  no step for {told}", style="dim"))
    if full:
        for step in failed[:FAILURES]:
            if not step.read and not step.called.options.allow_failure:  # else it is dealt with
                _print_failure(console, step)
    console.print(Text(f"  see it with: pipedeco show {run.id}", style="dim"))
    if run.status != COMPLETED:
        console.print(Text(f"  go on with it: pipedeco resume {run.id}", style="dim"))


def _headline(run: Shown, steps: list[Step]) -> str:
    counts = dict.fromkeys(("cached", FAILED, "skipped", CANCELLED), 0)
    for step in steps:
        if step.state in counts:
            counts[step.state] += 1
    others = "".join(f", {count} {state}" for state, count in counts.items() if count)
    work = sum(_seconds(step) for step in steps)
    return (
        f"{SIGNS.get(run.status, '·')} {plain_text(run.name)} {run.status} in "
        f"{duration(run.clock.elapsed)}: {len(steps)} step{'s' * (len(steps) != 1)}{others}"
        f", {duration(work)} of work"
    )


def _table(steps: list[Step], room: int) -> Table:
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    rows = [
        (shortened(plain_text(step.name), 30), step.state, duration(_seconds(step)), _result(step))
        for step in steps
    ]
    table = Table(box=None, padding=(0, 0, 0, INDENT), show_edge=False)
    for i, name in enumerate(("step", "state", "time")):
        width = max(cell_len(text) for text in (name, *(row[i] for row in rows)))
        table.add_column(name, header_style="dim", no_wrap=True, min_width=width)
        room -= INDENT + width
    # It alone gives way on a narrow terminal.
    room = max(room - INDENT, LEAST)
    table.add_column(
        "result", header_style="dim", no_wrap=True, overflow="ellipsis", max_width=room
    )
    for name, state, took, result in rows:
        table.add_row(Text(name), Text(state, style=COLOURS.get(state, "")), took, Text(result))
    return table


def _result(step: Step) -> str:
    outcome = step.outcome
    error = outcome.error if outcome is not None else None
    text = f"{error.type}: {error.text}" if error else (outcome and outcome.preview) or ""
    return plain_text(text)


def _print_failure(console: Console, step: Step) -> None:
    from rich.text import Text

    error = step.outcome.error if step.outcome is not None else None
    if error is not None:
        console.print(Text(f"\nstep {plain_text(step.name)} failed:", style="bold red"))
        console.print(Text(plain_text(error.traceback, keep_lines=True).rstrip()), soft_wrap=True)


def _seconds(step: Step) -> float:
    return step.outcome.duration if step.outcome is not None else 0.0

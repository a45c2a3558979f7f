"""What a person sees of a run while it goes, and at its end; on stderr alone.

On a terminal a region is drawn and drawn again below what the steps print; elsewhere a plain
line comes now and then.  Nothing is drawn in a run's first half second.  A thread of its own
looks at the run a few times a second, so that steps pay nothing for being watched.
"""

from __future__ import annotations

import sys
import threading
import time
from heapq import nlargest
from typing import TYPE_CHECKING, Any, Protocol

from pipedeco.graph import CANCELLED, COMPLETED, FAILED, RUNNING, SUCCESS, Step
from pipedeco.text import duration, plain_text, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

    from rich.console import Console, RenderableType
    from rich.table import Table

    from pipedeco.graph import Graph

FIRST = 0.5  # seconds without a display
INTERVAL = 0.2  # seconds between two drawings, at least
SHARE = 0.01  # of the time may be spent on drawing
LINES = (2.0, 5.0, 10.0, 20.0, 30.0)  # seconds after which a plain line comes; then each 30
MANY = 12  # steps, above which components are shown in their place
ROWS = 8  # lines below the first
SLOWEST = 5  # steps of the summary
FAILURES = 10  # of the summary
OFF_TERMINAL = 160  # columns of a summary that goes into a file
GLYPHS = {COMPLETED: "✓", FAILED: "✗", CANCELLED: "■"}
COLOURS = {
    "pending": "dim", "queued": "dim", RUNNING: "cyan", COMPLETED: "green", "cached": "blue",
    FAILED: "red", CANCELLED: "yellow", "skipped": "yellow", "interrupted": "magenta",
}  # fmt: skip


class Shown(Protocol):
    """What is asked of a run that is shown."""

    id: str
    graph: Graph
    started: float
    status: str
    children: list[Any]

    @property
    def name(self) -> str: ...
    @property
    def progress(self) -> float: ...
    @property
    def expected(self) -> tuple[int, float]:
        """Steps and seconds of the last completed run of this version; zeros without one."""
        ...

    @property
    def ended_steps(self) -> int: ...
    @property
    def stopping(self) -> str | None:
        """Why it is being cancelled."""
        ...

    def running(self) -> list[tuple[Step, float]]:
        """The steps under way, and since how many seconds."""
        ...


class Display:
    """Shows one run.

    Parameters
    ----------
    run: what is shown.
    live: whether to show it while it goes; else only its end.
    full: show the end of a short run too, with its failures in full.
    """

    def __init__(self, run: Shown, *, live: bool, full: bool) -> None:
        self.run = run
        self.full = full
        self.begin = time.monotonic()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._told = False  # whether a plain line was written
        if live:
            self._thread = threading.Thread(
                target=self._watch, name="pipedeco-display", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """The run has ended: take the region away and show how it went."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(5.0)
        long = time.monotonic() - self.begin > FIRST
        if self.full or (_is_terminal() and long) or self._told:
            try:
                show_summary(self.run, full=self.full)
            except (OSError, ValueError, AttributeError):  # stderr is closed, or None
                pass

    # -- the thread ----------------------------------------------------------------------

    def _watch(self) -> None:
        if self._over.wait(FIRST):
            return
        try:
            if _is_terminal():
                self._draw()
            else:
                self._write_lines()
        except (OSError, ValueError, AttributeError):  # stderr is closed, or None
            pass

    def _draw(self) -> None:
        region = _Region()
        spent = 0.0
        try:
            # Drawing takes time from the run's own threads; most of it is left to them.
            while not self._over.wait(max(INTERVAL, spent / SHARE)):
                begin = time.thread_time()
                if _debugged(sys._current_frames().values()):  # a person is typing there
                    region.hide()
                else:
                    region.draw(picture(self.run))
                spent = time.thread_time() - begin
        finally:
            region.hide()

    def _write_lines(self) -> None:
        times = list(LINES)
        while True:
            until = times.pop(0) if len(times) > 1 else times[0]
            if len(times) == 1:
                times[0] += 30.0
            if self._over.wait(max(0.0, until - (time.monotonic() - self.begin))):
                return
            self._told = True
            sys.stderr.write(f"pipedeco: {line(self.run)}\n")
            sys.stderr.flush()


def make_console() -> Console:
    """Rich's view of stderr, on which nothing is guessed about what a text means."""
    from rich.console import Console

    width = None if _is_terminal() else OFF_TERMINAL
    return Console(stderr=True, width=width, highlight=False, markup=False, emoji=False)


def _is_terminal() -> bool:
    import os

    try:
        return sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    except (AttributeError, ValueError):  # None, or closed
        return False


def _debugged(frames: Iterable[FrameType]) -> bool:
    """Whether one of these stands in pdb, which reads and writes the same terminal."""
    if "bdb" not in sys.modules:
        return False
    for frame in frames:
        outer: FrameType | None = frame
        while outer is not None:
            if outer.f_globals.get("__name__") in ("bdb", "pdb"):
                return True
            outer = outer.f_back
    return False


class _Region:
    """The lowest lines of the terminal; what is printed meanwhile comes above them."""

    def __init__(self) -> None:
        from rich.live import Live

        self._console = make_console()
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._lock = threading.RLock()
        self._former: list[tuple[str, Any, Any]] = []  # name in sys, what stood there, ours

    def draw(self, renderable: RenderableType) -> None:
        with self._lock:
            if not self._live.is_started:
                self._live.start()
                self._redirect()
            self._live.update(renderable, refresh=True)

    def hide(self) -> None:
        with self._lock:
            if self._live.is_started:
                for name, former, ours in self._former:
                    if getattr(sys, name) is ours:  # else the user's own is newer
                        setattr(sys, name, former)
                self._former.clear()
                self._live.stop()

    def _redirect(self) -> None:
        from rich.file_proxy import FileProxy

        region = self

        class Above(FileProxy):
            """A stream of the terminal; a debugger's first word takes the region away."""

            def write(self, text: str) -> int:
                if "bdb" in sys.modules and _debugged([sys._getframe(1)]):
                    region.hide()
                    return int(self.rich_proxied_file.write(text))
                return super().write(text)

        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is not None and stream.isatty():
                ours = Above(self._console, stream)
                self._former.append((name, stream, ours))
                setattr(sys, name, ours)


# -- while it goes -------------------------------------------------------------------------


def line(run: Shown) -> str:
    """One plain line of how far a run is."""
    now = [plain_text(name) for name, _ in _under_way(run)]
    more = f" and {len(now) - 4} more" if len(now) > 4 else ""
    parts = [f"{plain_text(run.name)}: {run.ended_steps} of {_known(run)} steps", _clock(run)]
    if now:
        parts.append(f"now {', '.join(now[:4])}{more}")
    return ", ".join(parts)


def picture(run: Shown) -> RenderableType:
    """How far a run is, for a terminal."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    head = Table.grid(padding=(0, 2))
    head.add_row(
        Text(plain_text(run.name), style="bold"),
        ProgressBar(total=1.0, completed=run.progress, width=24),
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
    return [(name, duration(seconds)) for name, seconds in _under_way(run)]


def _component_rows(run: Shown) -> list[tuple[str, str]]:
    """One line a component that is not done: its steps, and how long the present one takes."""
    longest: dict[str, float] = {}
    for step, seconds in run.running():
        longest[step.called.name] = max(seconds, longest.get(step.called.name, 0.0))
    found = []
    for called in list(run.graph.called.values()):
        if called.ended < called.steps:
            now = duration(longest[called.name]) if called.name in longest else ""
            failed = f", {called.failed} failed" if called.failed else ""
            found.append((called.name, f"{called.ended}/{called.steps}{failed}  {now}".rstrip()))
    found.sort(key=lambda row: row[0] not in longest)
    return found


def _under_way(run: Shown) -> list[tuple[str, float]]:
    """Names of the steps that run now, those of child runs behind their parents'."""
    found = [(step.name, seconds) for step, seconds in run.running()]
    for child in list(run.children):
        inner = _under_way(child)
        found += [(f"{child.plan.parent_step} / {name}", seconds) for name, seconds in inner]
    return found


def _known(run: Shown) -> int:
    return max(len(run.graph), run.expected[0])


def _clock(run: Shown) -> str:
    """How long it has gone, and how long the last run says that it still will."""
    if run.stopping is not None:
        return f"stopping: {plain_text(run.stopping)}; once more Ctrl-C does not wait"
    elapsed = time.time() - run.started
    left = run.expected[1] * (1.0 - run.progress)
    return duration(elapsed) + (f", about {duration(left)} left" if left >= 1.0 else "")


# -- at the end ----------------------------------------------------------------------------


def show_summary(run: Shown, *, full: bool) -> None:
    """How a run went: its slowest steps, its failures, and what to type next."""
    from rich.text import Text

    console = make_console()
    steps = list(run.graph.steps)
    failed = [step for step in steps if step.state == FAILED]
    console.print(Text(_headline(run, steps), style=COLOURS.get(run.status, "")))
    slowest = nlargest(SLOWEST, (s for s in steps if s.state in SUCCESS), key=_seconds)
    shown = failed[:FAILURES] + slowest
    if len(steps) > 1 or failed:
        console.print(_table(shown))
    if len(failed) > FAILURES:
        console.print(f"  and {len(failed) - FAILURES} more failed")
    if full:
        for step in failed[:FAILURES]:
            if not step.read and not step.called.options.allow_failure:  # else it is dealt with
                _print_failure(console, step)
    console.print(Text(f"  see it with: pipedeco show {run.id}", style="dim"))


def _headline(run: Shown, steps: list[Step]) -> str:
    counts = dict.fromkeys(("cached", FAILED, "skipped", CANCELLED), 0)
    for step in steps:
        if step.state in counts:
            counts[step.state] += 1
    others = "".join(f", {count} {state}" for state, count in counts.items() if count)
    work = sum(_seconds(step) for step in steps)
    return (
        f"{GLYPHS.get(run.status, '·')} {plain_text(run.name)} {run.status} in "
        f"{duration(time.time() - run.started)}: {len(steps)} step{'s' * (len(steps) != 1)}{others}"
        f", {duration(work)} of work"
    )


def _table(steps: list[Step]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2), show_edge=False)
    for name in ("step", "state", "time", "result"):
        least = 12 if name in ("step", "state") else None  # the last to go on a narrow screen
        table.add_column(
            name, header_style="dim", no_wrap=True, overflow="ellipsis", min_width=least
        )
    for step in steps:
        outcome = step.outcome
        error = outcome.error if outcome is not None else None
        text = f"{error.type}: {error.text}" if error else (outcome and outcome.preview) or ""
        table.add_row(
            Text(plain_text(step.name)),
            Text(step.state, style=COLOURS.get(step.state, "")),
            duration(_seconds(step)),
            Text(plain_text(text)),
        )
    return table


def _print_failure(console: Console, step: Step) -> None:
    from rich.text import Text

    error = step.outcome.error if step.outcome is not None else None
    if error is not None:
        console.print(Text(f"\nstep {plain_text(step.name)} failed:", style="bold red"))
        console.print(Text(plain_text(error.traceback, keep_lines=True).rstrip()), soft_wrap=True)


def _seconds(step: Step) -> float:
    return step.outcome.duration if step.outcome is not None else 0.0

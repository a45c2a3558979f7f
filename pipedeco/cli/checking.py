"""The commands that look before a run: check what it needs, and whether all is well here."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING

from pipedeco.cli.output import print_json, say
from pipedeco.cli.reading import Json, Store
from pipedeco.config import absolute
from pipedeco.text import plain_text

if TYPE_CHECKING:
    from pipedeco.checking import Report
    from pipedeco.doctoring import Line

WRONG = 1
INTERRUPTED = 130  # as if SIGINT had ended us
GRACE = 1.0  # seconds for the threads of engines to end
COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}


def check(target: str, /, *, mode: str | None = None, json: Json = False) -> int:
    """Tell what a run of a file would stumble over; no step and no pipeline is executed.

    Among that are values that cannot be pickled, imports and sources that workers will not have,
    queues that are not configured. The exit code is 1 when an error is found. Warnings do not
    count.

    Args:
        target: FILE_OR_MODULE[:PIPELINE]; without a pipeline all of the file. Its top level is
            executed, up to its first call of a pipeline.
        mode: debug, local or remote; by default what the run would take.
    """
    from pipedeco.checking import check as look

    begin = time.perf_counter()
    report = look(target, mode)
    if json:
        findings = [{"place": f.place, **f._asdict()} for f in report.findings]
        print_json({**report._asdict(), "findings": findings, "sound": report.sound})
    else:
        _tell_report(report, time.perf_counter() - begin)
    return 0 if report.sound else WRONG


def _tell_report(report: Report, seconds: float) -> None:
    for finding in report.findings:
        _print_marked(f"{finding.state}:", str(finding), place=finding.place)
    counts = ["it cannot be loaded"]
    if report.loaded:
        pipelines = _count(len(report.pipelines), "pipeline")
        counts = [pipelines, _count(len(report.components), "component")]
    counts.append(_verdict(report))
    modes = f" for mode {' and '.join(report.modes)}" if report.modes else ""
    say(f"{report.source}: {', '.join(counts)}{modes} ({seconds:.1f} s)")


def _verdict(report: Report) -> str:
    states = [finding.state for finding in report.findings]
    told = [_count(states.count(s), s) for s in ("error", "warning") if s in states]
    return " and ".join(told) or "nothing wrong"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def doctor(*, json: Json = False, store: Store = None) -> int:
    """Tell whether all is well here: the store, worker processes, engines and their workers.

    Each line says what was tried, and what to do where it is not well. The exit code is 1 when
    something is wrong. Warnings do not count.
    """
    from pipedeco.doctoring import ERROR, OK, examine

    sys.path.append(absolute(""))  # where the functions are that executor:// names
    found = []
    try:
        with contextlib.closing(examine(store)) as lines:
            for line in lines:
                found.append(line)
                if not json:
                    _tell(line)
                    sys.stdout.flush()  # who waits for an engine sees the rest
    except KeyboardInterrupt:
        return _left(INTERRUPTED)
    wrong = any(line.state == ERROR for line in found)
    if json:
        print_json({"well": not wrong, "lines": [line._asdict() for line in found]})
    elif all(line.state == OK for line in found):
        print("all is well")
    return _left(WRONG if wrong else 0)


def _tell(line: Line) -> None:
    _print_marked(f"{line.state:<7}", f"{line.what}: {line}")


def _print_marked(word: str, text: str, place: str = "") -> None:
    """A line with a word that has its colour on a terminal; never cut."""
    front = f"{plain_text(place)}: " if place else ""
    if sys.stdout.isatty():
        from rich.text import Text

        from pipedeco.terminal import make_console

        colour = COLOURS[word.strip(" :")]
        shown = Text.assemble(front, (word, colour), f" {plain_text(text)}")
        make_console(sys.stdout).print(shown, soft_wrap=True)
        return
    print(f"{front}{word} {plain_text(text)}")


def _left(code: int) -> int:
    """The exit code; threads of an engine that hang do not keep the process."""
    import threading

    deadline = time.monotonic() + GRACE
    for thread in threading.enumerate():
        ours = thread.name == "pipedeco-doctor"
        if thread is not threading.current_thread() and (ours or not thread.daemon):
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                _leave_at_once(code)
    return code


def _leave_at_once(code: int) -> None:
    sys.stdout.flush()
    if "multiprocessing" in sys.modules:  # an executor of the user's
        for process in sys.modules["multiprocessing"].active_children():
            process.kill()
    os._exit(code)

"""The commands that look before a run: check what it needs, and whether all is well here."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING

from pipedeco.cli.output import print_json
from pipedeco.cli.reading import Json, Store
from pipedeco.text import plain_text

if TYPE_CHECKING:
    from pipedeco.doctoring import Line

WRONG = 1
INTERRUPTED = 130  # as if SIGINT had ended us
GRACE = 1.0  # seconds for the threads of engines to end
COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}


def doctor(*, json: Json = False, store: Store = None) -> int:
    """Tell whether all is well here: the store, worker processes, engines and their workers.

    Each line says what was tried, and what to do where it is not well. The exit code is 1 when
    something is wrong. Warnings do not count.
    """
    from pipedeco.doctoring import ERROR, OK, examine

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
    _print_marked(line.state, f"{line.what}: {line}")


def _print_marked(state: str, text: str) -> None:
    """A line that begins with a word, which has its colour on a terminal; never cut."""
    padded = f"{state:<8}"
    if sys.stdout.isatty():
        from rich.text import Text

        from pipedeco.terminal import make_console

        shown = Text.assemble((padded, COLOURS.get(state, "")), plain_text(text))
        make_console(sys.stdout).print(shown, soft_wrap=True)
        return
    print(f"{padded}{plain_text(text)}")


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

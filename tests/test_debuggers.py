"""What a debugger is told of by Python while pipedeco works: only what the user's code does."""

import os
import subprocess
import sys
import traceback
from contextlib import contextmanager

import pytest

from pipedeco import component, pipeline

TOOL = 4  # of sys.monitoring; its own tools have others


@component(retries=1)
def divides(n):
    return n // (n - n)


@component(allow_failure=True)
def tolerated():
    raise LookupError("no such thing")


@pipeline
def program(n):
    tolerated()
    return divides(n)


@contextmanager
def traced():
    """What sys.settrace tells of exceptions in this file: (type, function)."""
    seen = []

    def trace(frame, event, argument):
        if frame.f_code.co_filename != __file__:
            return None
        if event == "exception":
            seen.append((argument[0].__name__, frame.f_code.co_name))
        return trace

    former = sys.gettrace()
    sys.settrace(trace)
    try:
        yield seen
    finally:
        sys.settrace(former)


@contextmanager
def monitored():
    """What sys.monitoring tells of them."""
    seen = []
    monitoring = sys.monitoring
    watched = monitoring.events.RAISE | monitoring.events.PY_THROW | monitoring.events.PY_UNWIND

    def note(code, _, error):
        if code.co_filename == __file__:
            seen.append((type(error).__name__, code.co_name))

    monitoring.use_tool_id(TOOL, "test")
    for event in (monitoring.events.RAISE, monitoring.events.PY_THROW, monitoring.events.PY_UNWIND):
        monitoring.register_callback(TOOL, event, note)
    monitoring.set_events(TOOL, watched)
    try:
        yield seen
    finally:
        monitoring.set_events(TOOL, 0)
        monitoring.free_tool_id(TOOL)


def shown_frames():
    """Our functions on the stack that ipdb and pytest would show."""
    frame, found = sys._getframe(1), []
    while frame is not None and frame.f_code.co_name != "test_stacks_show_no_frame_of_ours":
        own = frame.f_globals.get("__name__", "").startswith("pipedeco")
        if own and not frame.f_locals.get("__tracebackhide__"):
            found.append(frame.f_code.co_qualname)
        frame = frame.f_back
    return found


@component(cache=True)
def stack(_):
    return shown_frames()


class Table:
    @component(collect=["*.nothing"])
    def stack(self):
        return shown_frames()


@pipeline
def child():
    return stack(1), Table().stack()


@pipeline
def stacks():
    return [stack(stack(1)), *child()]


def test_stacks_show_no_frame_of_ours(monkeypatch, tmp_path):
    monkeypatch.setenv("PIPEDECO_STORE", str(tmp_path))
    assert stacks.debug() == [[], [], []]


needs_monitoring = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="sys.monitoring is of Python 3.12"
)


@pytest.mark.parametrize("watch", [traced, pytest.param(monitored, marks=needs_monitoring)])
@pytest.mark.parametrize("mode", ["debug", "local"])
def test_only_what_the_program_raises_is_raised_in_its_file(mode, watch, monkeypatch, tmp_path):
    monkeypatch.setenv("PIPEDECO_STORE", str(tmp_path))
    with watch() as seen:
        try:
            program.with_options(mode=mode)(3)
        except ZeroDivisionError as error:
            raised = error
    theirs = {("ZeroDivisionError", "divides"), ("ZeroDivisionError", "program")}
    expected = theirs | {("LookupError", "tolerated")} if mode == "debug" else theirs
    outside = {(name, function) for name, function in seen if function.startswith("test_")}
    assert set(seen) - outside <= expected
    assert {name for name, _ in outside} <= {"ZeroDivisionError"}
    assert [frame.name for frame in traceback.extract_tb(raised.__traceback__)][-1] == "divides"


ATTACHES = """
import os, sys, time, types
from pipedeco import component, pipeline

# What debugpy is to us: this takes the place of a person who attaches.
debugpy = sys.modules["debugpy"] = types.ModuleType("debugpy")
debugpy.is_client_connected = lambda: os.path.exists("attached")

@component
def waits():
    while not os.path.exists("told"):
        time.sleep(0.01)

@pipeline
def main():
    open("attached", "w").close()
    return waits()

main.local()
main.local()
"""


def test_attaching_to_a_run_in_worker_processes_tells_where_it_stops(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", ATTACHES],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PIPEDECO_STORE": str(tmp_path), "PIPEDECO_PROGRESS": "auto"},
    )
    try:
        first = process.stderr.readline()
        (tmp_path / "told").touch()
        _, rest = process.communicate(timeout=30)
    finally:
        process.kill()
    assert first.startswith("pipedeco: a debugger has attached to a run whose steps are in worker")
    assert ".debug(...)" in first
    assert rest == ""
    assert process.returncode == 0

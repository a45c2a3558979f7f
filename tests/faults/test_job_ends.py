"""Signals that end a whole job: its processes get them all at once, or its terminal is closed."""

from __future__ import annotations

import os
import signal

import pytest

from .support import Terminal

JOB = """
def deaf():
    if os.fork() == 0:
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))
        while True:
            time.sleep(999)


@component
def long():
    os.chdir({folder!r})
    note("worker", os.getpid())
    note("nursery", os.getppid())
    try:
        {ready}
        time.sleep(999)
    finally:
        note("finally")


@pipeline(workers=1, mode={mode!r})
def main():
    return value(long())


{before}
main()
"""


def job_of(lab, mode="local", before="", ready="note('ready')", **variables):
    return lab.start(
        JOB.format(folder=str(lab.folder), mode=mode, before=before, ready=ready), **variables
    )


@pytest.mark.parametrize("way", ["debug", "local", "remote"])
@pytest.mark.parametrize("name", ["TERM", "HUP"])
def test_a_signal_to_every_process_of_a_job_cancels(lab, way, name):
    """As systemd and Slurm do: the step's `finally` runs, the run is cancelled, nobody is left."""
    queues = '{"default": "local://1"}'
    job = job_of(lab, way, ready="deaf(); note('ready')", PIPEDECO_QUEUES=queues)
    job.note("ready")
    number = getattr(signal, f"SIG{name}")
    for pid in sorted(lab.survivors(), reverse=True):  # the controller is the last to hear of it
        os.kill(pid, number)
    assert job.finish().code == -number
    assert lab.latest().status == "cancelled"
    assert (lab.folder / "finally").exists()
    if way != "debug":
        lab.assert_empty()
    else:
        lab.close()


def test_a_closed_terminal_cancels(lab):
    """SIGHUP to the controller alone."""
    script = lab.write(
        "script.py",
        JOB.format(folder=str(lab.folder), mode="local", before="", ready="note('ready')"),
        prelude=True,
    )
    terminal = Terminal(lab, str(script))
    terminal.job.note("ready")
    os.kill(terminal.job.pid, signal.SIGHUP)
    assert terminal.finish() == -signal.SIGHUP
    assert lab.latest().status == "cancelled"
    assert (lab.folder / "finally").exists()


@pytest.mark.parametrize("handler", ["signal.SIG_IGN", "lambda number, frame: note('reloaded')"])
def test_hup_with_a_meaning_of_its_own(lab, handler):
    """nohup has it ignored, and daemons read their settings again: neither cancels."""
    before = f"signal.signal(signal.SIGHUP, {handler})"
    job = job_of(lab, before=before, ready="note('ready'); wait_for('go'); return")
    job.note("ready")
    os.kill(job.pid, signal.SIGHUP)
    if "reloaded" in handler:
        job.note("reloaded")
    (lab.folder / "go").touch()
    assert job.finish().code == 0
    assert lab.latest().status == "completed"


def test_a_signal_to_a_worker_alone_ends_it(lab):
    """Nobody cancels, so it ends of it, a moment later."""
    job = job_of(lab, ready="os.kill(os.getpid(), signal.SIGTERM)")
    done = job.finish()
    assert done.code == 1
    assert "WorkerDied" in done.err
    assert "SIGTERM" in done.err

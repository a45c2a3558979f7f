"""Ctrl-C and SIGTERM end a run in good order."""

from __future__ import annotations

import os
import signal
import textwrap

from .support import PATIENT, Terminal, wait_until

LONG = """
@component
def long(n):
    note(f"begun-{n}")
    try:
        time.sleep(999)
    except BaseException as error:
        note(f"met-{n}", type(error).__name__)
        {answer}
    finally:
        note(f"cleaned-{n}", time.time())


@component
def never(x):
    note("performed-anyway")


@pipeline(workers=2)
def main():
    first = [long(n) for n in range(2)]
    return never(first).result()


try:
    main()
except BaseException as error:
    note("left", type(error).__name__)
    raise
"""


def interrupted(lab, answer: str, patience: str = PATIENT) -> Terminal:
    """A script on a terminal whose two steps have begun."""
    script = lab.write("long.py", patience + LONG.replace("{answer}", answer), prelude=True)
    terminal = Terminal(lab, str(script))
    terminal.job.note("begun-0")
    terminal.job.note("begun-1")
    return terminal


def test_ctrl_c_cancels_the_run_and_leaves_as_keyboard_interrupt(lab):
    """Steps meet StepCancelled and clean up, nothing new starts, the process ends by SIGINT."""
    terminal = interrupted(lab, "raise")
    terminal.type("\x03")
    assert terminal.finish() == -signal.SIGINT, terminal.text
    job = terminal.job
    assert job.note("left") == "KeyboardInterrupt"
    assert {job.note("met-0"), job.note("met-1")} == {"StepCancelled"}
    assert (lab.folder / "cleaned-0").exists()
    assert not (lab.folder / "performed-anyway").exists()
    lab.assert_empty()
    assert lab.latest().status == "cancelled"
    assert {step.state for step in lab.latest().steps.values()} == {"cancelled"}
    assert terminal.text.count("Traceback") == 1, terminal.text


AWAITED = """
import asyncio


@component
def long():
    note("begun")
    try:
        time.sleep(999)
    finally:
        note("cleaned")


@pipeline(workers=1)
def main():
    return long()


async def serve():
    await main.start()


try:
    asyncio.run(serve())
except BaseException as error:
    note("left", type(error).__name__)
    raise
"""


def test_ctrl_c_cancels_a_run_that_is_awaited(lab):
    terminal = Terminal(lab, str(lab.write("awaited.py", AWAITED, prelude=True)))
    terminal.job.note("begun")
    terminal.type("\x03")
    assert terminal.finish() == -signal.SIGINT, terminal.text
    assert terminal.job.note("left") == "KeyboardInterrupt"
    assert (lab.folder / "cleaned").exists()
    lab.assert_empty()
    assert lab.latest().status == "cancelled"


DEAF = """
        while True:
            try:
                time.sleep(999)
            except BaseException:
                pass
"""


def test_a_second_ctrl_c_does_not_wait(lab):
    """Steps that refuse to end are killed at once at the second Ctrl-C."""
    terminal = interrupted(lab, DEAF)
    terminal.type("\x03")
    terminal.job.note("met-0")
    terminal.job.note("met-1")
    terminal.type("\x03")
    assert terminal.finish() == -signal.SIGINT, terminal.text
    lab.assert_empty()
    assert lab.latest().status == "cancelled"
    lab.assert_sound()


def test_a_deaf_step_is_killed_after_the_grace(lab):
    """One Ctrl-C is enough: five seconds later nobody is left."""
    terminal = interrupted(lab, DEAF, patience="")
    terminal.type("\x03")
    assert terminal.finish() == -signal.SIGINT, terminal.text
    assert lab.latest().status == "cancelled"


def test_sigterm_cancels_the_run_and_ends_the_process_by_sigterm(lab):
    """The status is cancelled, `finally` has run, and the parent sees -15."""
    job = lab.start(PATIENT + LONG.replace("{answer}", "raise"))
    job.note("begun-0")
    job.note("begun-1")
    job.process.terminate()
    assert job.finish().code == -signal.SIGTERM
    assert (lab.folder / "cleaned-0").exists()
    lab.assert_empty()
    assert lab.latest().status == "cancelled"


STARTED = PATIENT + LONG.replace("    main()\n", "    main.start().result()\n")
STARTED = STARTED.replace("{answer}", "raise")


def test_sigterm_cancels_a_started_run(lab):
    """The same for a run whose body is in a thread of its own."""
    job = lab.start(STARTED)
    job.note("begun-0")
    job.note("begun-1")
    job.process.terminate()
    assert job.finish().code == -signal.SIGTERM
    lab.assert_empty()
    assert lab.latest().status == "cancelled"


def test_ctrl_c_while_waiting_for_a_started_run(lab):
    """`run.result()` cancels the run and lets KeyboardInterrupt out."""
    job = lab.start(STARTED)
    job.note("begun-0")
    job.note("begun-1")
    job.process.send_signal(signal.SIGINT)
    assert job.finish().code == -signal.SIGINT
    assert job.note("left") == "KeyboardInterrupt"
    assert lab.latest().status == "cancelled"


def test_sigterm_that_the_script_handles_itself(lab):
    """The script's own handler is called once the run is cancelled."""
    handler = (
        "def on_term(number, frame):\n    note('handled', number)\n    sys.exit(7)\n\n\n"
        "signal.signal(signal.SIGTERM, on_term)\n"
    )
    job = lab.start(handler + PATIENT + LONG.replace("{answer}", "raise"))
    job.note("begun-0")
    job.note("begun-1")
    job.process.terminate()
    assert job.finish().code == 7
    assert lab.latest().status == "cancelled"


def test_ctrl_c_at_any_moment_leaves_nobody(lab):
    """Interrupted at many different moments, the process ends by the signal, with no process."""
    source = """
        @component
        def work(n):
            time.sleep(0.02)
            return n


        @pipeline(workers=2)
        def main():
            return sum(value([work(n) for n in range(20)]))


        note("ready")
        while True:
            main()
        """
    for delay in range(6):
        job = lab.start(PATIENT + textwrap.dedent(source))
        job.note("ready")
        (lab.folder / "ready").unlink()
        until = os.times().elapsed + delay * 0.06
        wait_until(lambda until=until: os.times().elapsed >= until)
        job.process.send_signal(signal.SIGINT)
        done = job.finish()
        assert done.code == -signal.SIGINT, done
        lab.assert_empty()
    lab.assert_sound()

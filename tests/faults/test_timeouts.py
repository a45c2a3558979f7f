"""`timeout=` ends whatever does not end by itself."""

from __future__ import annotations

import pytest

from .support import PATIENT

HANGS = {
    "C call that holds the GIL": "__import__('ctypes').PyDLL(None).sleep(999)",
    "busy loop": "while True: pass",
    "stopped process": "os.kill(os.getpid(), signal.SIGSTOP)",
    "sleep": "time.sleep(999)",
    "deaf to signals": "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64)); time.sleep(999)",
    "swallows everything": """
    while True:
        try:
            time.sleep(999)
        except BaseException:
            pass
""",
}

HANGING = (
    PATIENT
    + """
@component(timeout=0.5)
def stuck():
    note("begun", time.time())
    {way}


@component
def sibling(n):
    wait_for("over")
    return n


@pipeline(workers=3)
def main():
    bad = stuck()
    good = [sibling(n) for n in range(2)]
    try:
        bad.result()
    except StepTimeout as error:
        note("spent", time.time() - float(Path("begun").read_text()))
        tell(error)
    note("over")
    return value(good)


print(main())
"""
)


@pytest.mark.parametrize("name", HANGS)
def test_a_timeout_kills_what_hangs(lab, name):
    """StepTimeout after the limit and without a grace, naming the step; siblings complete."""
    done = lab.run(HANGING.format(way=HANGS[name]))
    told, good = done.out.splitlines()
    assert told.startswith("StepTimeout")
    assert "0.5 s" in told
    assert "stuck" in told
    assert good == "[0, 1]"
    assert float((lab.folder / "spent").read_text()) > 0.4


def test_a_timed_out_step_is_tried_again(lab):
    """A timeout is an attempt like another; the next one may be in time."""
    done = lab.run("""
        @component(timeout=0.5, retries=1)
        def slow_once():
            if not Path("tried").exists():
                note("tried")
                time.sleep(999)
            return "in time"


        @pipeline
        def main():
            return slow_once()


        print(main())
        """)
    assert done.out == "in time\n"
    attempts = lab.latest().steps["slow_once"].attempts
    assert [attempt.state for attempt in attempts] == ["failed", "completed"]
    assert "timeout" in attempts[0].error

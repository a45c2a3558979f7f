"""A worker that dies takes its own step with it, and nothing else."""

from __future__ import annotations

import os
import signal

import pytest

KILLED = """
@component
def victim():
    note("pid", os.getpid())
    time.sleep(60)


@component
def sibling(n):
    wait_for("go")
    return n


@component
def filler(n):
    meet(n, 4)
    return n


@pipeline(workers=4)
def main():
    bad = victim()
    good = [sibling(n) for n in range(3)]
    try:
        bad.result()
    except WorkerDied as error:
        note("seen", time.time())
        tell(error)
        note("signal", error.signal)
    note("go")
    return value(good), value([filler(n) for n in range(4)])


print(main())
"""


def test_a_killed_worker_fails_its_step_at_once_and_no_other(lab):
    """kill -9 is seen before siblings end, these finish, and four workers are there again."""
    job = lab.start(KILLED)
    os.kill(int(job.note("pid")), signal.SIGKILL)
    job.note("seen")  # which the siblings wait for
    done = job.finish()
    assert done.out.splitlines()[-1] == "([0, 1, 2], [0, 1, 2, 3])", done
    assert job.note("signal") == "SIGKILL"
    states = {name: step.state for name, step in lab.latest().steps.items()}
    assert {name for name, state in states.items() if state != "completed"} == {"victim"}
    assert "SIGKILL" in lab.latest().steps["victim"].error


WAYS = {
    "os._exit(0)": ("WorkerDied", "exit status 0"),
    "os._exit(3)": ("WorkerDied", "exit status 3"),
    "os.abort()": ("WorkerDied", "SIGABRT"),
    "__import__('ctypes').string_at(0)": ("WorkerDied", "SIGSEGV"),
    "sys.exit()": ("StepFailed", "SystemExit"),
    "sys.exit(0)": ("StepFailed", "SystemExit"),
    "quit_thread()": ("WorkerDied", "exit status 0"),
    "raise KeyboardInterrupt": ("StepFailed", "KeyboardInterrupt"),
    "raise GeneratorExit": ("StepFailed", "GeneratorExit"),
    "raise StopIteration(3)": ("StepFailed", "StopIteration"),
    "raise Pair(1, 2)": ("Pair", "1 and 2"),
    "raise Mute()": ("Mute", "its __str__ raised"),
    "raise make_local()": ("Hidden", "inside"),
    "return (n for n in [1])": ("NotPicklable", "generator"),
    "return nested(100_000)": ("NotPicklable", ""),
    "raise ValueError('x' * 100_000_000)": ("", "xxxx"),
}

FAULT = """
import threading


class Pair(Exception):
    def __init__(self, left, right):
        super().__init__(f"{{left}} and {{right}}")
        self.lock = threading.Lock()


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def make_local():
    class Hidden(Exception):
        pass

    return Hidden("inside")


def nested(depth):
    found = []
    for _ in range(depth):
        found = [found]
    return found


def quit_thread():
    threading.Thread(target=os._exit, args=(0,)).start()
    time.sleep(60)


@component
def culprit():
    {way}


@component
def bystander(n):
    time.sleep(0.01)
    return n


@pipeline(workers=2)
def main():
    before = [bystander(n) for n in range(4)]
    bad = culprit()
    after = [bystander(n) for n in range(4, 8)]
    try:
        bad.result()
    except Exception as error:
        note("type", type(error).__name__)
        note("text", str(error)[:1000] + " ".join(map(str, getattr(error, "__notes__", ()))))
    return value(before + after)


print(main())
"""


@pytest.mark.parametrize("way", WAYS)
def test_each_fault_fails_its_own_step(lab, way):
    """The error names the step, what happened is told, and every other step completes."""
    kind, text = WAYS[way]
    done = lab.run(FAULT.format(way=way))
    assert done.out.splitlines()[-1] == "[0, 1, 2, 3, 4, 5, 6, 7]"
    told = (lab.folder / "text").read_text()
    assert kind in (lab.folder / "type").read_text()
    assert text in told
    assert "culprit" in told
    states = {name: step.state for name, step in lab.latest().steps.items()}
    assert states.pop("culprit") == "failed"
    assert set(states.values()) == {"completed"}


def test_a_segfault_leaves_the_python_stack_in_the_log(lab):
    """faulthandler's stack names the function that crashed."""
    lab.run(FAULT.format(way="__import__('ctypes').string_at(0)"))
    log = lab.latest().steps["culprit"].logs()
    assert "Segmentation fault" in log
    assert "in culprit" in log


def test_the_last_lines_before_a_kill_are_in_the_log(lab):
    """What a step printed before it was killed is kept, of both streams."""
    way = (
        "print('to stdout'); print('to stderr', file=sys.stderr);"
        "os.write(1, b'unbuffered'); os.kill(os.getpid(), 9)"
    )
    lab.run(FAULT.format(way=way))
    log = lab.latest().steps["culprit"].logs()
    assert "to stdout" in log
    assert "to stderr" in log
    assert "unbuffered" in log


def test_an_unfinished_line_before_a_kill_is_in_the_log(lab):
    """What was printed without an end of line, as a progress bar does, is kept too."""
    lab.run(FAULT.format(way="print('50 %', end=''); os.kill(os.getpid(), 9)"))
    assert lab.latest().steps["culprit"].logs() == "50 %"


RETRIED = """
@component(retries=2, retry_on={retry_on})
def frail():
    number = len(list(Path(".").glob("try-*")))
    note(f"try-{{number}}")
    if number < 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return "third time"


@pipeline
def main():
    return frail().result()


try:
    print(main())
except WorkerDied as error:
    tell(error)
"""


@pytest.mark.parametrize("retry_on", ["WorkerDied", "Exception", "lambda e: 'SIGKILL' in str(e)"])
def test_a_death_is_retried_where_retry_on_allows(lab, retry_on):
    """Each death is an attempt of its own in the record."""
    done = lab.run(RETRIED.format(retry_on=retry_on))
    assert done.out == "third time\n"
    attempts = lab.latest().steps["frail"].attempts
    assert [attempt.state for attempt in attempts] == ["failed", "failed", "completed"]
    assert "SIGKILL" in attempts[0].error
    assert len({attempt.worker for attempt in attempts}) == 3


def test_a_death_is_not_retried_where_retry_on_forbids(lab):
    """`retry_on=ValueError` leaves a death alone."""
    done = lab.run(RETRIED.format(retry_on="ValueError"))
    assert done.out.startswith("WorkerDied")
    assert len(lab.latest().steps["frail"].attempts) == 1


POISON = """
@component(retries=2)
def poison():
    os.kill(os.getpid(), signal.SIGKILL)


@component
def innocent(n):
    return n


@pipeline(workers=2)
def main():
    warm = value([innocent(n) for n in range(50)])
    mixed = [poison() if n % 20 == 10 else innocent(n) for n in range(60)]
    good = [n for n in range(60) if n % 20 != 10]
    assert [mixed[n].result() for n in good] == good
    return sum(type(mixed[n].exception()) is WorkerDied for n in (10, 30, 50))


print(main())
"""


def test_poison_steps_are_charged_and_innocents_are_not(lab):
    """Steps that waited behind a poison one are performed once, with one attempt."""
    assert lab.run(POISON).out == "3\n"
    for name, step in lab.latest().steps.items():
        tries = len(step.attempts)
        assert tries == (3 if name.startswith("poison") else 1), (name, tries)

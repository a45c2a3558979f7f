"""No process is left: not of a step, not of a run, however either ended."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from pipedeco.worker import attendant

from .support import all_processes, command_of, is_alive, parent_of, wait_until

# Each leaves processes that live on, and notes their pids.
OFFSPRING = """
import subprocess


def child():
    return subprocess.Popen(["sleep", "999"]).pid


def child_in_session():
    return subprocess.Popen(["sleep", "999"], start_new_session=True).pid


def daemon():
    '''A double fork with a session of its own.'''
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            note("daemon", os.getpid())
            while True:
                time.sleep(999)
        os._exit(0)
    os.wait()
    wait_for("daemon")
    return int(Path("daemon").read_text())


def deaf():
    '''A process that blocks every signal that can be blocked.'''
    pid = os.fork()
    if pid == 0:
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))
        while True:
            time.sleep(999)
    return pid


def offspring():
    pids = [child(), child_in_session(), daemon(), deaf()]
    note("pids", " ".join(map(str, pids)))


"""

ENDS = """
@component(timeout={timeout})
def parent():
    offspring()
    {end}


@component
def after():
    alive = []
    for pid in Path("pids").read_text().split():
        stat = Path(f"/proc/{{pid}}/stat")
        if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
            alive.append(pid)
    return alive


@pipeline
def main():
    parent().exception()
    return after()


print(main())
"""


@pytest.mark.parametrize(
    ("end", "timeout"),
    [
        ("raise ValueError", None),
        ("time.sleep(999)", 3.0),  # offspring takes its time, too
        ("os.kill(os.getpid(), signal.SIGKILL)", None),
        ("os._exit(0)", None),
    ],
)
def test_grandchildren_are_gone_when_their_step_has_failed(lab, end, timeout):
    """At the end of a step that did not succeed the next one sees none of its processes."""
    done = lab.run(OFFSPRING + ENDS.format(end=end, timeout=timeout))
    assert done.out == "[]\n"


def test_grandchildren_of_a_successful_step_end_with_their_worker(lab):
    """They live on for the next step, and none outlives the controller."""
    done = lab.run(OFFSPRING + ENDS.format(end="return 1", timeout=None))
    pids = (lab.folder / "pids").read_text().split()
    assert done.out == f"{pids}\n"
    lab.assert_empty(deadline=2.0)  # they are gone before the controller is


LONG = """
@component
def parent():
    offspring()
    note("pid", os.getpid())
    note("nursery", os.getppid())
    {hang}


@pipeline(workers=2)
def main():
    return value([parent()])


main()
"""

HANGS = {
    "sleep": "time.sleep(999)",
    "C call that holds the GIL": "__import__('ctypes').PyDLL(None).sleep(999)",
    "stopped": "os.kill(os.getpid(), signal.SIGSTOP)",
}


# Who gets which signal, in this order.
DEATHS = [
    "nursery KILL",
    "guard KILL",
    "controller KILL, nursery KILL",
    "nursery KILL, controller KILL",
    "controller KILL, guard KILL",
    "guard KILL, controller KILL",
    "nursery STOP, controller KILL",
    "guard STOP, controller KILL",
    "guard STOP, nursery KILL, controller KILL, guard CONT",
    "controller KILL, nursery KILL, worker KILL",
    "worker KILL, guard KILL, controller KILL",
]


@pytest.mark.parametrize("deaths", DEATHS)
def test_whoever_is_killed_no_process_is_left(lab, deaths):
    """What a step has started ends with its controller, whichever of ours are killed with it."""
    job = lab.start(OFFSPRING + LONG.format(hang=HANGS["sleep"]))
    pids = {"controller": job.pid, "worker": int(job.note("pid"))}
    pids["nursery"] = int(job.note("nursery"))
    pids["guard"] = parent_of(pids["nursery"])
    for death in deaths.split(", "):
        who, _, name = death.partition(" ")
        os.kill(pids[who], getattr(signal, f"SIG{name}"))
    job.process.wait(20)
    lab.assert_empty()


KEPT = """
@component
def parent():
    offspring()
    note("pid", os.getpid())
    note("nursery", os.getppid())
    time.sleep(999)


@component
def after():
    wait_for("killed")
    return 1


@pipeline(workers=1)
def main():
    error = type(parent().exception()).__name__
    return [error, after()]


print(main())
wait_for("looked")
"""


def test_a_controller_ends_what_nobody_below_it_can_end(lab):
    """The guard, the nursery and the worker are killed at once, so all that they had is nobody's."""
    job = lab.start(OFFSPRING + KEPT)
    worker, nursery = int(job.note("pid")), int(job.note("nursery"))
    left = [int(pid) for pid in job.note("pids").split()]
    stopped = [parent_of(nursery), nursery, worker]
    for number in signal.SIGSTOP, signal.SIGKILL:
        for pid in stopped:
            os.kill(pid, number)
    wait_until(lambda: not any(map(is_alive, left)), what="its processes have ended")
    (lab.folder / "killed").touch()
    (lab.folder / "looked").touch()
    assert job.finish().out == "['WorkerDied', 1]\n"


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT"])
def test_nursery_and_guard_end_with_their_controller_alone(lab, name):
    """What a job sends to all its processes does not end those that look after the others."""
    job = lab.start(OFFSPRING + LONG.format(hang='wait_for("go")'))
    nursery = int(job.note("nursery"))
    for pid in nursery, parent_of(nursery):
        os.kill(pid, getattr(signal, f"SIG{name}"))
    (lab.folder / "go").touch()
    assert job.finish().code == 0


@pytest.mark.parametrize("hang", HANGS)
def test_a_killed_controller_leaves_no_process(lab, hang):
    """All are gone by themselves, the database is sound, and the run is interrupted."""
    job = lab.start(OFFSPRING + LONG.format(hang=HANGS[hang]))
    job.note("nursery")
    lab.wait_recorded()
    assert len(lab.survivors()) >= 8  # controller, guard, nursery, two workers, and the offspring
    job.kill()
    assert lab.latest().status == "interrupted"
    lab.assert_empty()
    lab.assert_sound()


def test_an_interrupted_step_is_recorded_so(lab):
    """A step that ran when the controller was killed is interrupted, not running."""
    job = lab.start(OFFSPRING + LONG.format(hang=HANGS["sleep"]))
    job.note("nursery")
    lab.wait_recorded()
    wait_until(lambda: "parent" in lab.latest().steps, what="the record of the step")
    wait_until(lambda: lab.latest().steps["parent"].state == "running", what="running")
    job.kill()
    assert lab.latest().steps["parent"].state == "interrupted"


@pytest.mark.parametrize("hang", HANGS)
def test_a_cancelled_run_leaves_no_process(lab, hang):
    """`run.cancel()` ends offspring too, also of a step that cannot be told."""
    end = """
run = main.start()
wait_for("nursery")
run.cancel()
assert run.wait(20)
print(run.status)
"""
    source = LONG.format(hang=HANGS[hang]).removesuffix("main()\n") + end
    assert lab.run(OFFSPRING + source).out == "cancelled\n"
    assert not [pid for pid in map(int, (lab.folder / "pids").read_text().split()) if is_alive(pid)]


NURSERY_KILLED = """
@component
def told():
    note("nursery", os.getppid())
    wait_for("go")
    return 1


@component
def later(n):
    return n


@pipeline(workers=2)
def main():
    first = told()
    try:
        first.result()
    except WorkerDied as error:
        tell(error)
    return value([later(n) for n in range(5)])


print(main())
"""


def test_a_killed_nursery_is_an_error_of_the_steps_that_ran(lab):
    """kill -9 of the nursery: the running step fails, the run goes on with new workers."""
    job = lab.start(NURSERY_KILLED)
    os.kill(int(job.note("nursery")), signal.SIGKILL)
    done = job.finish()
    assert done.code == 0, done
    lines = done.out.splitlines()
    assert lines[0].startswith("WorkerDied"), done
    assert "told" in lines[0]
    assert lines[1] == "[0, 1, 2, 3, 4]"


def test_a_nursery_killed_between_runs_is_replaced(lab):
    """The next run of the process starts another nursery."""
    done = lab.run("""
        @component
        def nursery():
            return os.getppid()


        @pipeline(workers=2)
        def main():
            return nursery()


        first = main()
        import select

        end = os.pidfd_open(first)
        os.kill(first, signal.SIGKILL)
        select.select([end], [], [])  # till then its workers live, and may perform
        second = main()
        print(first != second)
        """)
    assert done.out == "True\n"


DEBUGGED = """
@component
def parent():
    pids = [child(), child_in_session(), deaf()]
    note("pids", " ".join(map(str, pids)))
    {hang}


@pipeline
def main():
    return value(parent())


main.debug()
note("returned")
{after}
"""

# In parts, as a signal that comes in the moment before a long one would not wake it.
SLEEP = """while True:
        time.sleep(0.1)"""

# How the step goes on, what the program does then, and with which signal it ends.
DEBUGGED_ENDS = {
    "return": ("return 1", "", None),
    "failure": ("raise ValueError", "", None),
    "KILL amid": (SLEEP, "", signal.SIGKILL),
    "TERM amid": (SLEEP, "", signal.SIGTERM),
    "INT amid": (SLEEP, "", signal.SIGINT),
    "HUP amid": (SLEEP, "", signal.SIGHUP),
    "KILL after": ("return 1", "time.sleep(999)", signal.SIGKILL),
}


@pytest.mark.parametrize("end", DEBUGGED_ENDS)
def test_children_of_a_step_end_with_the_process_in_debug_mode(lab, end):
    """As in the other modes, though nobody is above them."""
    hang, after, number = DEBUGGED_ENDS[end]
    job = lab.start(OFFSPRING + DEBUGGED.format(hang=hang, after=after))
    job.note("returned" if after else "pids")
    if end == "KILL amid":  # the recorder looks twice a second
        wait_until(lambda: attendants_of(job.pid), what="an attendant")
    if number is not None:
        os.kill(job.pid, number)
    job.finish()
    lab.assert_empty()


def attendants_of(pid):
    words = "pipedeco.worker.attendant", f"\0{pid}\0"
    found = [command_of(other) for other in all_processes()]
    return [text for text in found if all(word in text for word in words)]


MANY = """
@component
def start():
    pids = [subprocess.Popen(["sleep", "999"]).pid for _ in range({number})]
    note("pids", " ".join(map(str, pids)))
    return os.fork() or time.sleep(999)  # it has every open file of this process


@pipeline
def main():
    return value(start())


main.debug()
note("returned")
time.sleep(999)
"""


def test_many_children_of_a_step_end_with_the_process_in_debug_mode(lab):
    """More than select() takes, and than an attendant is told of in one reading."""
    number = 1100
    job = lab.start(f"import subprocess\n{MANY.format(number=number)}")
    job.note("returned")
    wait_until(lambda: attendants_of(job.pid), what="an attendant")
    os.kill(job.pid, signal.SIGKILL)
    job.finish()
    lab.assert_empty()


def test_an_attendant_kills_nobody_whom_it_was_not_told_of():
    """The number of a process may come in two readings."""
    whole, cut = (subprocess.Popen(["sleep", "999"]) for _ in range(2))
    theirs, ours = os.pipe()
    controller = subprocess.Popen(["sleep", "999"])
    attended = attendant._Attended(os.pidfd_open(controller.pid), theirs)
    text = f"{whole.pid}\n{cut.pid}"
    os.write(ours, text[:-1].encode())
    attended.hear()
    assert set(attended.pids.values()) == {whole.pid}
    os.write(ours, f"{text[-1]}\n".encode())
    controller.kill()
    controller.wait()
    attended.wait()
    assert [process.wait(10) for process in (whole, cut)] == [-signal.SIGKILL] * 2
    for file in (theirs, ours, attended.controller):
        os.close(file)


def test_a_program_that_cannot_start_python_is_told_of_what_may_stay(lab):
    """As where Python is embedded; its steps do what they do."""
    done = lab.run("""
        import subprocess, sys

        @component
        def start():
            return subprocess.Popen(["sleep", "0.5"]).returncode

        @pipeline
        def main():
            return value(start())

        sys.executable = ""
        print(main.debug())
        os.wait()
        """)
    assert done.out == "None\n"
    assert "may outlive this one" in done.err


def test_the_address_that_a_program_inherits_is_there_after_a_run_of_debug_mode(lab):
    """What it starts then still reports to the step that has started the program."""
    done = lab.run("""
        import subprocess, sys
        from pipedeco.reporter import ADDRESS

        def asked():
            code = f"import os; print(os.environ[{ADDRESS!r}])"
            return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout

        @component
        def ask():
            return asked()

        @pipeline
        def main():
            return value(ask())

        os.environ[ADDRESS] = "outer"
        print(main.debug() != "outer\\n", asked() == "outer\\n")
        """)
    assert done.out == "True True\n"

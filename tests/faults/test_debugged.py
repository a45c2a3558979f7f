"""A program that a debugger has started, which stops before it has attached to the nursery."""

from __future__ import annotations

# What debugpy does to the processes that a program starts: they wait for it before they do anything.
HELD = """
import types

sys.modules["pydevd"] = debugger = types.ModuleType("pydevd")
debugger.get_global_debugger = lambda: None
spawn = os.posix_spawn


def held(executable, arguments, variables, **options):
    wait = "open('held', 'w').close(); import time; time.sleep(999)"
    return spawn(executable, [executable, "-c", wait], variables, **options)


os.posix_spawn = held


@component
def step():
    return 1


@pipeline(mode="local", workers=1)
def main():
    return step()


main()
"""


def test_a_debugger_that_stops_before_it_has_attached_leaves_no_nursery(lab):
    """The program is killed, and what waits for the debugger goes with it."""
    job = lab.start(HELD)
    job.note("held")
    job.kill()
    lab.assert_empty()


def test_a_program_that_ends_while_its_nursery_is_held(lab):
    """It ends within a moment, and so does the nursery."""
    job = lab.start(
        HELD.replace("\nmain()\n", "\nrun = main.start()\nwait_for('held')\nos._exit(0)")
    )
    assert job.finish().code == 0
    lab.assert_empty()

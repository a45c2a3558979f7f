"""Find a bug with a debugger: by this time sheet Ben has worked minus sixteen hours.

    python examples/06_stepping_through.py
    python examples/06_stepping_through.py --stop
    python -m pdb -c "break 52, shift.left < shift.came" -c continue examples/06_stepping_through.py

In debug mode a call of a component is a plain call in this thread, so a debugger stops inside the
step, with its arguments at hand.  The first command shows the bug.  The second runs in debug mode
and enters pdb at `breakpoint()` below.  The third needs no change in the code: an attached debugger
selects debug mode by itself, pdb once it has a breakpoint.  At the prompt `args` shows the
arguments, `n` goes on by a line, `where` tells who called, `c` runs on, `q` quits.

In VS Code click beside line 52 to set a breakpoint and press F5: "Debug this file" does what its
name says, and "Debug this pipeline" is `pipedeco run FILE --mode debug`.  There Step Into goes from
a call straight into the component, for the `rules` in .vscode/launch.json leave pipedeco out; other
debuggers go through pipedeco first, so set breakpoints inside components.

The cure: who comes at 22:00 and leaves at 06:00 leaves on the next day, so line 52 should put the
difference in brackets and take it `% (24 * 60)`.
"""

import sys
from typing import NamedTuple

from pipedeco import component, get_run, pipeline

SHEET = "ada 08:00 16:30, ben 22:00 06:00, cleo 09:15 17:00"


class Shift(NamedTuple):
    """Who came and left when."""

    name: str
    came: str
    left: str


def minutes(clock: str) -> int:
    """Return the minutes since midnight."""
    return 60 * int(clock[:2]) + int(clock[3:])


@component
def read(entry: str) -> Shift:
    """Read an entry of the sheet."""
    return Shift(*entry.split())


@component
def hours(shift: Shift, stop: bool = False) -> float:
    """Return how long a shift was."""
    worked = minutes(shift.left) - minutes(shift.came)
    if stop and worked < 0:
        breakpoint()  # see `args`, and `p worked`
    return worked / 60


@pipeline
def time_sheet(sheet: str = SHEET, stop: bool = False) -> list[tuple[str, float]]:
    """Return the hours that each has worked.

    Args:
        sheet: a name, a beginning and an end for each shift, with commas between the shifts.
        stop: whether to enter the debugger where hours are negative; for debug mode.
    """
    shifts = [read(entry) for entry in sheet.split(",")]
    return [(shift.name, hours(shift, stop)) for shift in shifts]


worked = time_sheet.debug(stop=True) if "--stop" in sys.argv else time_sheet()

for name, length in worked:
    print(f"{name:<6}{length:6.2f} h{'  which cannot be' if length < 0 else ''}")

for step in get_run().steps.values():
    if step.component == "hours" and step.result() < 0:
        print(f"\nstep {step.name} got {step.inputs['shift']}; to look inside it: --stop")

"""`python -m tests.parity [PROGRAM ...]`: print the table of programs, modes and differences."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from parity.differences import judge
from parity.harness import MODES, Program, compare, find_programs, run_bare, run_in_mode


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__)
    parser.add_argument("programs", nargs="*", help="some of the programs; all by default")
    parser.add_argument("--mode", choices=MODES, action="append", help="some of the modes")
    parser.add_argument("--all", action="store_true", help="print the known differences, too")
    parser.add_argument("--keep", action="store_true", help="leave the folders of the runs")
    asked = parser.parse_args()
    programs = find_programs()
    wrong = 0
    for name in asked.programs or programs:
        place = Path(tempfile.mkdtemp(prefix="parity-"))
        wrong += show(programs[name], place, asked.mode or list(MODES), everything=asked.all)
        if asked.keep:
            print(f"  kept in {place}")
        else:
            shutil.rmtree(place)
    print(f"{wrong} places in which the table of differences is not right")
    return 1 if wrong else 0


def show(program: Program, place: Path, modes: list[str], *, everything: bool) -> int:
    """Run a program and print how it differs; in how many places the table does not say so."""
    started = time.monotonic()
    bare = run_bare(program, place)
    print(f"{program.name}: bare {bare.end}, {time.monotonic() - started:.1f} s")
    wrong = 0
    for mode in modes:
        started = time.monotonic()
        found = compare(bare, run_in_mode(program, mode, place))
        took = time.monotonic() - started
        print(f"  {mode}: {'differs' if found else 'the same'}, {took:.1f} s")
        verdict = judge(program.name, mode, found)
        for one in verdict.new:
            print(f"    NEW      {one.aspect}: {one.text}")
        for row, aspect in verdict.gone:
            print(f"    GONE     {aspect}: {row.why}")
        for _, one in verdict.known if everything else ():
            print(f"    known    {one.aspect}: {one.text}")
        if verdict.known and not everything:
            print(f"    known    {len(verdict.known)}")
        sys.stdout.flush()
        wrong += len(verdict.new) + len(verdict.gone)
    return wrong


if __name__ == "__main__":
    sys.exit(main())

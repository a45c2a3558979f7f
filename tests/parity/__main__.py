"""`python -m tests.parity [PROGRAM ...]`: print the table of programs, modes and differences."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from parity.differences import KNOWN, tells
from parity.harness import MODES, Found, compare, find_programs, run_bare, run_in_mode


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__)
    parser.add_argument("programs", nargs="*", help="some of the programs; all by default")
    parser.add_argument("--mode", choices=MODES, action="append", help="some of the modes")
    parser.add_argument("--all", action="store_true", help="print the known differences, too")
    parser.add_argument("--keep", action="store_true", help="leave the folders of the runs")
    asked = parser.parse_args()
    programs = find_programs()
    unknown = 0
    for name in asked.programs or programs:
        place = Path(tempfile.mkdtemp(prefix="parity-"))
        started = time.monotonic()
        bare = run_bare(programs[name], place)
        print(f"{name}: bare {bare.end}, {time.monotonic() - started:.1f} s")
        for mode in asked.mode or MODES:
            started = time.monotonic()
            found = compare(bare, run_in_mode(programs[name], mode, place))
            took = time.monotonic() - started
            print(f"  {mode}: {'differs' if found else 'the same'}, {took:.1f} s", flush=True)
            kinds = [kind_of(name, mode, one) for one in found]
            unknown += kinds.count("NEW")
            for kind, one in zip(kinds, found, strict=True):
                if asked.all or kind == "NEW":
                    print(f"    {kind:8} {one.aspect}: {one.text}", flush=True)
            for kind in sorted({kind for kind in kinds if kind != "NEW"}):
                print(f"    {kind:8} {kinds.count(kind)} known", flush=True)
        if asked.keep:
            print(f"  kept in {place}")
        else:
            shutil.rmtree(place)
    print(f"{unknown} differences are not in the table")
    return 1 if unknown else 0


def kind_of(name: str, mode: str, one: Found) -> str:
    """Whether the table knows it: as pending work, as a limit, or not at all."""
    for row in KNOWN:
        if row.program == name and mode in row.modes and tells(row, one):
            return row.pending or "limit"
    return "NEW"


if __name__ == "__main__":
    sys.exit(main())

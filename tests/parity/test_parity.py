"""Every program of the table, in every mode, beside the bare program."""

from __future__ import annotations

import pytest

from parity.differences import KNOWN, Known
from parity.harness import MODES, ROOT, Found, compare, find_programs, run_bare, run_in_mode

PROGRAMS = find_programs()
README = " ".join((ROOT / "README.md").read_text().split())


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Give a program's place and its bare result, which is made once."""
    made = {}

    def find(name):
        if name not in made:
            place = tmp_path_factory.mktemp("p")
            made[name] = place, run_bare(PROGRAMS[name], place)
        return made[name]

    return find


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_as_without_decorators(bare, name, mode):
    """Nothing differs from the bare program but what the table of differences says."""
    place, wanted = bare(name)
    found = compare(wanted, run_in_mode(PROGRAMS[name], mode, place))
    known = [row for row in KNOWN if row.program == name and mode in row.modes]
    new = [one for one in found if not any(is_meant(row, one) for row in known)]
    gone = [row for row in known if not any(is_meant(row, one) for one in found)]
    assert not new, "differs from the bare program:\n" + "\n".join(map(": ".join, new))
    assert not gone, "no longer differs: remove the entry\n" + "\n".join(map(str, gone))


def is_meant(row: Known, one: Found) -> bool:
    return row.aspect == one.aspect and row.like in one.text


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_bare_program_is_sound(bare, name):
    """The oracle itself ends, leaves no process, and has something to say."""
    _, result = bare(name)
    assert result.end.startswith("exit code")
    assert not result.processes
    assert result.stdout or result.stderr or result.tracebacks
    assert result.runs, "the witness saw no run"
    assert any(run.states for run in result.runs), "the witness saw no step"


def test_the_table_of_differences_is_about_these_programs():
    """No row speaks of what is not there, and each says who is to end it or what tells users."""
    for row in KNOWN:
        assert row.program in PROGRAMS
        assert row.modes
        assert set(row.modes) <= set(MODES)
        assert bool(row.limits) != bool(row.pending), row


def test_what_remains_stands_in_the_limits():
    """Users read in README what no mode can do as the bare program does it."""
    limits = README.partition("## Limits")[2]
    missing = {row.limits for row in KNOWN if row.limits and row.limits not in limits}
    assert not missing

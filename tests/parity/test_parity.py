"""Every program of the table, in every mode, beside the bare program."""

from __future__ import annotations

import pytest

from parity.differences import KNOWN, judge
from parity.harness import MODES, ROOT, compare, find_programs, run_bare, run_in_mode

PROGRAMS = find_programs()


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
    verdict = judge(name, mode, found)
    assert not verdict.new, "differs from the bare program:\n" + "\n".join(
        f"{one.aspect}: {one.text}" for one in verdict.new
    )
    assert not verdict.gone, "no longer differs: remove from differences.py\n" + "\n".join(
        f"{aspect} of {row}" for row, aspect in verdict.gone
    )


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
    """No row speaks of what is not there, and each says what tells users."""
    for row in KNOWN:
        assert row.program in PROGRAMS
        assert row.modes
        assert set(row.modes) <= set(MODES)
        assert row.limits, row
        assert row.raises or "end" not in row.aspects.split() or "traceback" not in row.aspects, row


def test_what_remains_stands_in_the_limits():
    """Users read in README what no mode can do as the bare program does it."""
    limits = " ".join((ROOT / "README.md").read_text().partition("## Limits")[2].split())
    for row in KNOWN:
        assert row.limits in limits, f"README and differences.py disagree: {row}"


def test_each_limit_has_a_program():
    """Nothing is called a limit that no program shows."""
    limits = (ROOT / "README.md").read_text().partition("## Limits")[2].partition("### ")[0]
    told = {row.limits for row in KNOWN}
    items = [" ".join(item.split()) for item in limits.split("\n- ")[1:]]
    assert [item for item in items if not any(words in item for words in told)] == []

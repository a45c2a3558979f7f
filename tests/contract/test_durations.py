"""How long a run is said to have taken: neither the clock of the wall nor the time that it lay dead."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from pipedeco import component, get_run, pipeline, value
from pipedeco.cli import main
from pipedeco.resuming import take_over

HOUR = 3600.0


@component
def need(cure):
    if not Path(cure).exists():
        raise ValueError("mend me")
    return 1


@pipeline
def body(cure):
    return value(need(cure))


@pipeline
def shifting(shift):
    """Its clock is set while it goes."""
    shift()
    return value(need(__file__))


@pipeline
def parent(shift):
    child = shifting(shift)
    return value(child)


@pytest.fixture
def wall(monkeypatch):
    """Sets the clock of this process; what it has been set by."""
    real, by = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + by[0])
    return by


@pytest.mark.parametrize("mode", ["debug"], indirect=True)  # the others pickle what sets it
@pytest.mark.parametrize("shift", [-HOUR, 0.0, 400 * 24 * HOUR])
def test_a_clock_that_is_set(mode, wall, shift):
    """Forward or back: the duration is the time that went by."""

    def set_clock():
        wall[0] += shift

    begin = time.monotonic()
    run = shifting.start(set_clock)
    run.result(20)
    assert 0.0 <= run.duration <= time.monotonic() - begin
    assert get_run(run.id).to_json()["duration"] == run.duration
    again = shifting.start(set_clock)
    assert again._execution.expected[1] == pytest.approx(run.duration, abs=0.02)
    outer = parent.start(set_clock)
    outer.result(20)
    step = outer.steps["shifting"]
    assert 0.0 <= step.duration <= time.monotonic() - begin


def age(run, seconds):
    """Let all that is recorded of a run be so much older."""
    with closing(sqlite3.connect(Path(run.store) / "pipedeco.db")) as connection, connection:
        connection.execute(
            "update run set started = started - ?, ended = ended - ?", (seconds,) * 2
        )
        connection.execute("update step set started = started - ?", (seconds,))
        connection.execute("update reported set time = time - ?", (seconds,))


@pytest.mark.parametrize("killed", [False, True])
def test_the_time_that_it_lay_dead(mode, tmp_path, killed, capsys):
    """It does not count, however often the run is resumed."""
    cure = tmp_path / "cure"
    begin = time.monotonic()
    run = body.start(str(cure))
    with pytest.raises(ValueError, match="mend me"):
        run.result(20)
    for _ in range(2):
        age(run, HOUR)
        if killed:
            take_over(run.store, run.id, "1-dead")
            age(run, HOUR)
        with pytest.raises(ValueError, match="mend me"):
            get_run(run.id).resume().result(20)
    age(run, HOUR)
    cure.touch()
    get_run(run.id).resume().result(20)
    found = get_run(run.id)
    assert found.ended - found.started > 2 * HOUR
    assert 0.0 < found.duration <= time.monotonic() - begin
    assert found.seconds_so_far == found.duration
    main(["show", run.id])
    assert " h" not in capsys.readouterr().out.splitlines()[1].partition("took")[2]

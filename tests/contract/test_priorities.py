"""Which of the steps that are ready begins first."""

from __future__ import annotations

import pytest
from conftest import wait_for

from pipedeco import ConfigError, component, pipeline

in_workers = pytest.mark.parametrize("mode", ["local", "remote"], indirect=True)


@component
def hold(began, gate):
    began.touch()
    wait_for(gate)


@component
def note(name, path):
    with path.open("a") as file:
        file.write(f"{name} ")


def order(path):
    return path.read_text().split()


@in_workers
def test_higher_ones_first(mode, tmp_path):
    """While the only worker is busy the ready steps queue by priority, then in their order."""
    gate, told = tmp_path / "gate", tmp_path / "told"

    @pipeline(workers=1)
    def body():
        hold(tmp_path / "began", gate)
        wait_for(tmp_path / "began")
        for n in range(3):
            note(f"low{n}", told)
        for n in range(3):
            note.with_options(priority=5)(f"high{n}", told)
        note.with_options(priority=-1)("least", told)
        note("low3", told)
        note.with_options(priority=7)("first", told)
        gate.touch()

    body()
    highs, lows = [f"high{n}" for n in range(3)], [f"low{n}" for n in range(4)]
    assert order(told) == ["first", *highs, *lows, "least"]


@pytest.mark.parametrize("mode", ["debug"], indirect=True)
def test_a_debugged_call_is_performed_at_once(mode, tmp_path):
    """Whatever its priority: there is never more than one that is ready."""
    told = tmp_path / "told"

    @pipeline(workers=1)
    def body():
        note("one", told)
        note.with_options(priority=9)("two", told)

    body()
    assert order(told) == ["one", "two"]


def test_it_is_no_part_of_the_key(mode, tmp_path):
    """A step that was performed for a higher price serves for a lower one."""
    told = tmp_path / "told"

    @component(cache=True)
    def once(n):
        with told.open("a") as file:
            file.write("x ")
        return n

    @pipeline
    def body(priority):
        return once.with_options(priority=priority)(1)

    assert (body(1), body(2)) == (1, 1)
    assert order(told) == ["x"]


@pytest.mark.parametrize("wrong", ["high", 1.5, None, True])
def test_wrong_ones_are_refused(wrong):
    """With the name of the option."""
    with pytest.raises(ConfigError, match="priority is a whole number"):
        component(priority=wrong)(lambda: 1)

"""Debuggers that ask at a terminal, in steps that have none."""

import pdb

import pytest

from pipedeco import StepFailed, component, pipeline


@component
def by_name():
    breakpoint()
    return 1


@component
def by_pdb(n):
    half = n // 2
    pdb.set_trace()
    return half


class Own(pdb.Pdb):
    """As ipdb's and others are."""


@component
def by_another():
    Own().set_trace()
    return 1


@component
def quits():
    raise LookupError("no prompt")


@pipeline
def program(step, *args):
    return STEPS[step](*args)


STEPS = {"breakpoint": by_name, "pdb": by_pdb, "another": by_another, "none": quits}


@pytest.mark.parametrize("mode", ["local"], indirect=True)
@pytest.mark.parametrize(("step", "args"), [("breakpoint", ()), ("pdb", (4,)), ("another", ())])
def test_a_worker_says_that_it_has_no_terminal(mode, step, args):
    with pytest.raises(
        StepFailed, match="has no terminal in a worker process; step through"
    ) as told:
        program(step, *args)
    assert "bdb.py" not in str(told.value)
    frames = [entry.frame.code.path.name for entry in told.traceback]
    assert frames[-1] != "bdb.py"


@pytest.mark.parametrize("mode", ["local"], indirect=True)
def test_other_failures_stay_as_they_are(mode):
    with pytest.raises(LookupError, match="no prompt"):
        program("none")

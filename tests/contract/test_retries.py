"""Attempts: what is retried and when, and what ends an attempt from outside."""

import asyncio
import os
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import wait_for

from pipedeco import ConfigError, StepFailed, StepTimeout, WorkerDied, component, pipeline, value

in_workers = pytest.mark.parametrize("mode", ["local", "remote"], indirect=True)


@component
def echo(x):
    return x


def count(path):
    """How many attempts there were, this one included."""
    with open(path, "a") as file:
        file.write("x")
    return len(Path(path).read_text())


@component
def flaky(path, good, kind=ValueError):
    """Succeeds at the attempt number `good`."""
    n = count(path)
    if n < good:
        raise kind(f"attempt {n}")
    return n


def states(step):
    return [(attempt.number, attempt.state) for attempt in step.attempts]


# -- which attempts are made


def test_a_retry_succeeds(mode, tmp_path):
    """`retries=n` gives n more attempts; each is a record of its own."""

    @pipeline
    def body():
        return flaky.with_options(retries=5)(str(tmp_path / "n"), 3)

    run = body.start()
    assert run.result(10) == 3
    step = run.steps["flaky"]
    assert step.state == "completed"
    assert states(step) == [(1, "failed"), (2, "failed"), (3, "completed")]
    assert [a.error for a in step.attempts] == [
        "ValueError: attempt 1", "ValueError: attempt 2", None,
    ]  # fmt: skip
    assert all(a.started <= a.ended for a in step.attempts)
    assert step.attempts[0].ended <= step.attempts[2].started


def test_retries_exhausted(mode, tmp_path):
    """After the last attempt the step has failed with that attempt's exception."""

    @pipeline
    def body():
        with pytest.raises(ValueError, match="attempt 3") as caught:
            value(flaky.with_options(retries=2)(str(tmp_path / "n"), 9))
        return caught.value.__notes__[-1]

    run = body.start()
    assert "attempt 3" in run.result(10)
    assert states(run.steps["flaky"]) == [(1, "failed"), (2, "failed"), (3, "failed")]
    assert run.steps["flaky"].error == "ValueError: attempt 3"


def test_no_retries_by_default(mode, tmp_path):
    """Without the option there is one attempt."""
    path = tmp_path / "n"

    @pipeline
    def body():
        return flaky(str(path), 2)

    with pytest.raises(ValueError, match="attempt 1"):
        body()
    assert path.read_text() == "x"


def test_dependants_wait_for_the_last_attempt(mode, tmp_path):
    """What depends on a step that is retried runs after it succeeded."""

    @pipeline
    def body():
        return echo([flaky.with_options(retries=3)(str(tmp_path / "n"), 2)])

    assert body() == [2]


RETRY_ON = {
    "the type": (ValueError, 2),
    "a base class": (Exception, 2),
    "another type": (KeyError, 1),
    "several": ((KeyError, ValueError), 2),
    "a function, yes": (lambda error: "attempt" in str(error), 2),
    "a function, no": (lambda error: False, 1),
}


@pytest.mark.parametrize("case", RETRY_ON)
def test_retry_on(mode, tmp_path, case):
    """`retry_on` chooses the exceptions that are worth another attempt."""
    retry_on, attempts = RETRY_ON[case]
    path = tmp_path / "n"

    @pipeline
    def body():
        with pytest.raises(ValueError, match="attempt"):
            value(flaky.with_options(retries=1, retry_on=retry_on)(str(path), 9))

    body()
    assert len(path.read_text()) == attempts


def test_a_retry_on_that_raises(mode, tmp_path):
    """A `retry_on` function that raises asks for no attempt, and a note says so."""
    path = tmp_path / "n"

    def broken(error):
        raise KeyError("broken")

    @pipeline
    def body():
        with pytest.raises(ValueError, match="attempt 1") as caught:
            value(flaky.with_options(retries=3, retry_on=broken)(str(path), 9))
        return caught.value.__notes__

    assert any("retry_on raised KeyError" in note for note in body())
    assert path.read_text() == "x"


def test_retry_on_what_is_no_exception(mode, tmp_path):
    """SystemExit is retried only where `retry_on` names it."""
    path = tmp_path / "n"

    @pipeline
    def body():
        with pytest.raises(StepFailed, match="SystemExit"):
            value(flaky.with_options(retries=3)(str(path), 9, SystemExit))
        again = flaky.with_options(retries=3, retry_on=SystemExit)
        return again(str(path), 3, SystemExit)

    assert body() == 3


# -- when


def test_retry_delay(mode, tmp_path):
    """`retry_delay` is the least number of seconds between two attempts."""

    @pipeline
    def body():
        return flaky.with_options(retries=2, retry_delay=0.05)(str(tmp_path / "n"), 3)

    run = body.start()
    assert run.result(10) == 3
    one, two, three = run.steps["flaky"].attempts
    assert two.started - one.ended >= 0.04
    assert three.started - two.ended >= 0.04


def test_retry_delay_as_a_function(mode, tmp_path):
    """It may be a function of the number of the attempt that failed."""
    asked = []

    def delay(attempt):
        asked.append(attempt)
        return 0.001 * attempt

    @pipeline
    def body():
        return flaky.with_options(retries=3, retry_delay=delay)(str(tmp_path / "n"), 4)

    assert body() == 4
    assert asked == [1, 2, 3]


def test_retry_delays_one_after_the_other(mode, tmp_path):
    """A list has that before each attempt; the last one holds for all that follow."""

    @pipeline
    def body():
        again = flaky.with_options(retries=4, retry_delay=[0.2, 0.0, 0.1])
        return again(str(tmp_path / "n"), 5)

    run = body.start()
    assert run.result(20) == 5
    attempts = run.steps["flaky"].attempts
    waited = [after.started - before.ended for before, after in pairwise(attempts)]
    assert len(waited) == 4
    assert all(w >= d - 0.01 for w, d in zip(waited, (0.2, 0.0, 0.1, 0.1), strict=True))


@pytest.mark.parametrize("answer", [float("inf"), float("nan"), None, "soon"])
def test_a_retry_delay_that_gives_no_seconds(mode, tmp_path, caplog, answer):
    """It is logged, and the attempt is made at once."""

    @pipeline
    def body():
        again = flaky.with_options(retries=1, retry_delay=lambda attempt: answer)
        return again(str(tmp_path / "n"), 2)

    assert body() == 2
    assert "retry_delay of step flaky raised; its next attempt begins at once" in caplog.text


def test_a_retry_delay_that_raises(mode, tmp_path, caplog):
    """A delay function that raises is logged, and the attempt is made at once."""

    def delay(attempt):
        raise KeyError("no delay")

    @pipeline
    def body():
        return flaky.with_options(retries=1, retry_delay=delay)(str(tmp_path / "n"), 2)

    assert body() == 2
    assert "no delay" in caplog.text


@in_workers
def test_others_run_during_a_delay(mode, tmp_path):
    """A step that waits for its next attempt occupies no worker."""

    @pipeline(workers=1)
    def body():
        slow = flaky.with_options(retries=1, retry_delay=600.0)(str(tmp_path / "n"), 2)
        wait_for(tmp_path / "n")
        others = sum(value([echo(i) for i in range(5)]))
        return slow.done(), others, slow.cancel()

    assert body() == (False, 10, True)


WRONG = [
    {"retries": -1}, {"retries": 1.5}, {"retry_delay": -1}, {"retry_delay": "1"},
    {"retry_on": 5}, {"timeout": 0}, {"timeout": "1"},
]  # fmt: skip


@pytest.mark.parametrize("options", WRONG, ids=str)
def test_wrong_options(options):
    """An option that cannot be is a ConfigError that names it."""
    with pytest.raises(ConfigError, match=next(iter(options))):
        component(**options)(echo.fn)


# -- timeouts


@in_workers
def test_a_timeout(mode):
    """`timeout` kills the worker and ends the attempt with StepTimeout; others lose nothing."""

    @component(timeout=0.1)
    def hang():
        time.sleep(60)

    @pipeline
    def body():
        others = [echo(i) for i in range(5)]
        hung = hang()
        others += [echo(i) for i in range(5)]
        with pytest.raises(StepTimeout, match=r"timeout of 0\.1 s") as caught:
            value(hung)
        return caught.value.timeout, caught.value.step, value(others)

    run = body.start()
    assert run.result(15) == (0.1, "hang", [0, 1, 2, 3, 4] * 2)
    step = run.steps["hang"]
    assert step.state == "failed"
    assert step.error.startswith("pipedeco.errors.StepTimeout")
    assert 0.09 <= step.duration < 5


@in_workers
def test_a_timeout_that_python_cannot_interrupt(mode):
    """A step that blocks every signal it can is killed as well."""

    @component(timeout=0.1)
    def hang():
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
        signal.sigwait([signal.SIGUSR1])

    @pipeline
    def body():
        with pytest.raises(StepTimeout):
            value(hang())
        return echo(1)

    assert body() == 1


@in_workers
def test_a_timeout_is_retried(mode, tmp_path):
    """A timeout ends an attempt, not the step."""
    path = str(tmp_path / "n")

    @component(timeout=1.0, retries=1)
    def hang_once():
        if count(path) == 1:
            time.sleep(60)
        return "second"

    @pipeline
    def body():
        return hang_once()

    run = body.start()
    assert run.result(15) == "second"
    assert states(run.steps["hang_once"]) == [(1, "failed"), (2, "completed")]
    assert "StepTimeout" in run.steps["hang_once"].attempts[0].error


def test_a_timeout_that_is_kept(mode):
    """A step that ends in time is left alone, an async one too."""

    @component(timeout=30)
    def quick(x):
        return x

    @component(timeout=30)
    async def later(x):
        await asyncio.sleep(0.001)
        return x

    @pipeline
    def body():
        return quick(1), later(2)

    assert body() == (1, 2)


@in_workers
def test_a_timeout_counts_from_the_step_s_own_start(mode):
    """Waiting for a worker does not count."""

    @component(timeout=1.0)
    def short():
        time.sleep(0.3)
        return 1

    @pipeline(workers=1)
    def body():
        return sum(value([short() for _ in range(5)]))

    assert body() == 5


# -- workers that die

DEATHS = {
    "os._exit(0)": (lambda: os._exit(0), {"exitcode": 0, "signal": None}),
    "os._exit(3)": (lambda: os._exit(3), {"exitcode": 3, "signal": None}),
    "SIGKILL": (lambda: os.kill(os.getpid(), signal.SIGKILL), {"signal": "SIGKILL"}),
    "SIGSEGV": (lambda: os.kill(os.getpid(), signal.SIGSEGV), {"signal": "SIGSEGV"}),
    "SIGABRT": (os.abort, {"signal": "SIGABRT"}),
}


@in_workers
@pytest.mark.parametrize("death", DEATHS)
def test_a_worker_that_dies(mode, death):
    """It ends the attempt with WorkerDied, which tells how; other steps lose nothing."""
    die, facts = DEATHS[death]
    dying = component(name="dying")(die)

    @pipeline
    def body():
        before = [echo(i) for i in range(10)]
        dead = dying()
        after = [echo(i) for i in range(10)]
        with pytest.raises(WorkerDied) as caught:
            value(dead)
        assert caught.value.peak_memory > 0
        return {name: getattr(caught.value, name) for name in facts}, value([*before, *after])

    run = body.start()
    assert run.result(15) == (facts, list(range(10)) * 2)
    assert run.steps["dying"].state == "failed"
    assert all(len(s.attempts) == 1 for s in run.steps.values())


@in_workers
def test_a_death_is_retried(mode, tmp_path):
    """A death ends an attempt, not the step."""
    path = str(tmp_path / "n")

    @component(retries=2)
    def dies_once():
        if count(path) == 1:
            os._exit(1)
        return "second"

    @pipeline
    def body():
        return dies_once()

    run = body.start()
    assert run.result(15) == "second"
    assert states(run.steps["dies_once"]) == [(1, "failed"), (2, "completed")]


@in_workers
def test_a_death_and_retry_on(mode, tmp_path):
    """`retry_on` is asked about deaths too."""
    path = str(tmp_path / "n")

    @component(retries=3, retry_on=ValueError)
    def dies():
        count(path)
        os._exit(1)

    @pipeline
    def body():
        with pytest.raises(WorkerDied):
            value(dies())

    body()
    assert Path(path).read_text() == "x"


@in_workers
def test_every_worker_dies(mode):
    """Workers are replaced as often as they die."""

    @component(allow_failure=True)
    def die():
        os._exit(1)

    @pipeline
    def body():
        for _ in range(6):
            die()
        return echo("alive")

    run = body.start()
    assert run.result(20) == "alive"
    assert [s.state for s in run.steps.values()] == ["failed"] * 6 + ["completed"]


@in_workers
def test_fresh_process(mode):
    """`fresh_process=True` gives each attempt a process of its own."""

    @component
    def pid(*_):
        return os.getpid()

    @pipeline
    def body():
        fresh = pid.with_options(fresh_process=True)
        return [fresh(i) for i in range(3)], [pid(i) for i in range(3)]

    own, shared = body()
    assert len(set(own)) == 3
    assert not set(own) & {*shared, os.getpid()}

"""Lists of results that a program uses as futures, and lists of results that are values."""

from collections import deque
from concurrent.futures import FIRST_COMPLETED, as_completed, wait

import pytest
from conftest import wait_for, wait_until

from pipedeco import component, pipeline

in_workers = pytest.mark.parametrize("mode", ["local", "remote"], indirect=True)


@component
def echo(x):
    return x


@component
def blocked(path, x):
    wait_for(path)
    return x


@component
def fail(text="no"):
    raise ValueError(text)


fail_quietly = fail.with_options(allow_failure=True)


@in_workers
@pytest.mark.parametrize("kind", [list, deque])
def test_the_result_that_completes_is_removed(mode, tmp_path, kind):
    """`pending.remove(f)` neither waits for those before it, nor takes an equal one."""
    go = tmp_path / "go"

    @pipeline
    def body():
        slow, quick, equal = blocked(str(go), 1), echo(2), echo(2)
        pending = kind([slow, quick, equal])
        for f in as_completed([quick, equal]):
            assert f in pending
            place = pending.index(f)
            pending.remove(f)
            assert all(other is not f for other in pending)
            assert place == 1 or pending[-1] is quick
            assert f not in pending
        assert len(pending) == 1
        assert pending[0] is slow
        assert not slow.done()
        go.touch()
        return slow

    assert body() == 1


@in_workers
def test_polling(mode, tmp_path):
    go = tmp_path / "go"

    @pipeline
    def body():
        pending = [blocked(str(go), 1), echo(1), echo(3)]

        def ready():
            return [f for f in pending if f.done()]

        order = []
        while pending:
            for f in wait_until(ready):
                pending.remove(f)
                order.append(f.result())
            if len(order) == 2:
                go.touch()
        return order

    assert sorted(body()[:2]) == [1, 3]


def test_a_failure_of_another_step_is_not_raised(mode):
    @pipeline
    def body():
        failed, good = fail_quietly(), echo(1)
        pending = [failed, good]
        wait(pending)
        pending.remove(good)
        assert good not in pending
        return [f is failed for f in pending]

    assert body() == [True]


def test_wait_for_the_first(mode):
    @pipeline
    def body():
        pending = [echo(1), echo(1), echo(1)]
        seen = []
        while pending:
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            f = next(iter(done))
            pending.remove(f)
            seen.append(f)
        return seen, len({id(f) for f in seen})

    assert body() == ([1, 1, 1], 3)


def test_results_that_are_values_are_found_by_value(mode):
    """As in the bare program."""

    @pipeline
    def body():
        scores = [echo(3), echo(1), echo(3)]
        seen = []
        for score in scores:
            if score not in seen:
                seen.append(score)
        scores.remove(echo(1))
        return len(seen), scores.index(echo(3)), scores.count(echo(3)), 3 in scores, len(scores)

    assert body() == (2, 0, 2, True, 2)


def test_futures_are_compared_by_value_elsewhere(mode):
    """`==` between two results, with a plain value, within tuples, and in sorting."""

    @pipeline
    def body():
        a, b, c = futures = [echo(2), echo(2), echo(1)]
        wait(futures)
        pairs = sorted([(a, "y"), (b, "x"), (c, "z")])
        return (
            a == b,
            a == 2,
            a != c,
            [a, b] == [b, a],
            2 in futures,
            futures.index(1),
            futures.count(2),
            [name for _, name in pairs],
            max(zip(futures, "pqr", strict=True))[1],
        )

    assert body() == (True, True, True, True, True, 2, 2, ["z", "x", "y"], "q")

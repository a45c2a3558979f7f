"""`future`, `wait` and `as_completed`: what type checkers take, and concurrent.futures does."""

import concurrent.futures

import pytest
from conftest import wait_for

from pipedeco import StepResult, as_completed, component, future, pipeline, value, wait


@component
def half(n):
    return n / 2


@component(allow_failure=True)
def fail(n):
    raise ValueError(n)


@component
def blocked(path, n):
    wait_for(path)
    return n


@component
async def fetched(n):
    return n


def kind(item):
    return type(item)


def test_future_is_the_very_result(mode):
    @pipeline
    def body():
        x = half(3)
        y = half.submit(x)
        assert future(x) is x
        assert future(future(y)) is y
        assert kind(future(x)) is StepResult
        return future(x).result(), future(y)

    assert body() == (1.5, 0.75)


def test_future_of_a_part_is_that_part(mode):
    @component
    def pair() -> tuple[int, str]:
        return 1, "one"

    @pipeline
    def body():
        number, text = pair()
        return future(number).result(), future(text).result().upper()

    assert body() == (1, "ONE")


@pytest.mark.parametrize("plain", [1, None, "text", [1, 2]])
def test_future_refuses_anything_else_with_a_sentence(plain):
    with pytest.raises(TypeError, match=r"future\(\.\.\.\) takes the result of a step, .* not "):
        future(plain)


def test_wait_and_as_completed_refuse_anything_else_at_once():
    with pytest.raises(TypeError, match="takes the result of a step"):
        wait([1])
    with pytest.raises(TypeError, match="takes the result of a step"):
        as_completed([1])


def test_as_completed_gives_each_result_when_it_has_ended(mode):
    @pipeline
    def body():
        found = [half(n) for n in (1, 2)] + [fetched(3)]
        return sorted(done.result() for done in as_completed(found))

    assert body() == [0.5, 1.0, 3]


def test_a_failure_is_done_as_well(mode):
    @pipeline
    def body():
        ended = wait([half(2), fail(1)] if not in_process else [half(2)], timeout=60)
        return sorted(str(done.exception()) for done in ended.done), len(ended.not_done)

    in_process = mode == "debug"  # where the failure leaves at the call
    assert body() == ((["None"], 0) if in_process else (["1", "None"], 0))


@pytest.mark.parametrize("mode", ["local"], indirect=True)
def test_what_has_not_ended_is_not_done(mode, tmp_path):
    gate = tmp_path / "gate"

    @pipeline
    def body():
        slow, quick = blocked(str(gate), 1), half(2)
        ended = wait([slow, quick], return_when="FIRST_COMPLETED")
        with pytest.raises(TimeoutError):
            list(as_completed([slow], timeout=0.01))
        gate.touch()
        assert ended.done == {quick}
        assert ended.not_done == {slow}
        return value([slow, quick])

    assert body() == [1, 1.0]


def test_those_of_concurrent_futures_take_the_same(mode):
    @pipeline
    def body():
        found = [future(half(n)) for n in (1, 2)]
        done, not_done = concurrent.futures.wait(found)
        assert not not_done
        return sorted(r.result() for r in done), len(list(concurrent.futures.as_completed(found)))

    assert body() == ([0.5, 1.0], 2)

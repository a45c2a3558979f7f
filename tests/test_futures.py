"""What CPython's test_concurrent_futures demands of futures, asked of StepResult."""

import asyncio
import gc
import logging
import os
import threading
import weakref
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    as_completed,
    wait,
)
from pathlib import Path

import pytest
from conftest import wait_until

from pipedeco import StepCancelled, component, pipeline

MODES = ("debug", "local")


class Gate:
    """Two named pipes: steps say that they run, and wait until they are let go."""

    def __init__(self, folder):
        self.path = str(folder / "gate")
        self.ends = []
        for suffix in ("in", "out"):
            os.mkfifo(f"{self.path}.{suffix}")
            self.ends.append(os.open(f"{self.path}.{suffix}", os.O_RDWR))

    def wait_for_step(self):
        os.read(self.ends[0], 1)

    def open(self):
        os.write(self.ends[1], b"x" * 100)


@component(allow_failure=True)
def hold(path, value=None, error=None):
    with Path(f"{path}.in").open("wb", buffering=0) as file:
        file.write(b"x")
    with Path(f"{path}.out").open("rb", buffering=0) as file:
        file.read(1)
    if error is not None:
        raise error
    return value


@component
def double(x):
    return 2 * x


@component(allow_failure=True)
def fail(text="boom"):
    raise ValueError(text)


@pytest.fixture(scope="module", autouse=True)
def _store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPEDECO_STORE", str(tmp_path_factory.mktemp("store")))
        yield


@pytest.fixture
def gate(tmp_path):
    made = Gate(tmp_path)
    yield made
    for end in made.ends:
        os.close(end)


@pytest.fixture(params=MODES)
def play(request):
    """Plays a body in each mode."""

    def play(body):
        def plain():
            return body()

        return pipeline(plain).with_options(mode=request.param, workers=2)()

    return play


@pytest.fixture
def play_held(gate):
    """Plays a body in local mode; its gate opens when it ends, however it ends."""

    def play(body, workers=2):
        def guarded():
            try:
                return body()
            finally:
                gate.open()

        return pipeline(guarded).with_options(mode="local", workers=workers)()

    return play


# -- done callbacks ------------------------------------------------------------------------


def test_callbacks_are_called_with_the_future_in_the_order_of_adding(play_held, gate):
    """Every callback gets the future itself, finished, in the order of adding."""

    def body():
        result = hold(gate.path, 5)
        seen = []
        last = threading.Event()
        result.add_done_callback(lambda r: seen.append((1, r is result, r.done())))
        result.add_done_callback(lambda r: seen.append((2, r is result, r.result())))
        result.add_done_callback(lambda _: last.set())
        assert not seen
        gate.open()
        assert last.wait(10)
        return seen

    assert play_held(body) == [(1, True, True), (2, True, 5)]


def test_a_callback_added_after_the_end_is_called_at_once(play):
    """Success or failure: who comes late is called before add_done_callback returns."""

    def body():
        seen = []
        for result in (double(4), fail()):
            result.exception()
            result.add_done_callback(seen.append)
            assert seen.pop() is result

    play(body)


def test_a_callback_is_called_after_a_failure(play_held, gate):
    """The callback of a failing step finds its exception."""

    def body():
        result = hold(gate.path, error=ValueError("boom"))
        seen = []
        last = threading.Event()
        result.add_done_callback(lambda r: (seen.append(repr(r.exception())), last.set()))
        gate.open()
        assert last.wait(10)
        return seen

    assert play_held(body) == ["ValueError('boom')"]


def test_a_callback_is_called_after_a_cancel(play_held, gate):
    """The callback of a cancelled step is called once, with the cancelled future."""

    def body():
        result = double(hold(gate.path, 1))
        seen = []
        result.add_done_callback(lambda r: seen.append(r.cancelled()))
        assert result.cancel()
        assert result.cancel()
        return seen

    assert play_held(body) == [True]


def test_a_callback_that_raises_is_logged_and_the_next_is_called(play_held, gate, caplog):
    """What a callback raises is logged on "pipedeco" and goes no further."""

    def body():
        result = hold(gate.path, 1)
        last = threading.Event()
        result.add_done_callback(lambda _: 1 / 0)
        result.add_done_callback(lambda _: last.set())
        gate.open()
        assert last.wait(10)
        return result

    with caplog.at_level(logging.ERROR, logger="pipedeco"):
        assert play_held(body) == 1
    logged = [record for record in caplog.records if record.name == "pipedeco"]
    assert [record.exc_info[0] for record in logged] == [ZeroDivisionError]


def test_a_late_callback_that_raises_is_logged(play, caplog):
    """The same holds where the callback is called at once."""

    def body():
        result = double(1)
        result.result()
        result.add_done_callback(lambda _: 1 / 0)
        return result

    with caplog.at_level(logging.ERROR, logger="pipedeco"):
        assert play(body) == 2
    assert [record.name for record in caplog.records] == ["pipedeco"]


def test_a_callback_may_be_added_twice_and_by_a_callback(play_held, gate):
    """Each adding is one call; a callback that adds another has it called too."""

    def body():
        result = hold(gate.path)
        seen = []
        last = threading.Event()
        result.add_done_callback(seen.append)
        result.add_done_callback(seen.append)
        result.add_done_callback(lambda r: r.add_done_callback(lambda _: last.set()))
        gate.open()
        assert last.wait(10)
        return len(seen)

    assert play_held(body) == 2


# -- wait ----------------------------------------------------------------------------------


def test_wait_for_all(play):
    """ALL_COMPLETED returns with every future done, the failed ones included."""

    def body():
        results = [double(1), fail(), double(3)]
        done, rest = wait(results, return_when=ALL_COMPLETED)
        assert (len(done), rest) == (3, set())
        assert all(r.done() for r in results)

    play(body)


def test_wait_for_the_first(play_held, gate):
    """FIRST_COMPLETED returns as soon as one is done."""

    def body():
        quick, held = double(1), hold(gate.path)
        done, rest = wait([quick, held], return_when=FIRST_COMPLETED)
        assert (done, rest) == ({quick}, {held})

    play_held(body)


def test_wait_for_the_first_where_one_is_done_already(play_held, gate):
    """A future that is done already, cancelled ones included, ends the wait at once."""

    def body():
        held = hold(gate.path, 1)
        cancelled = double(held)
        assert cancelled.cancel()
        done, rest = wait([held, cancelled], return_when=FIRST_COMPLETED)
        assert (done, rest) == ({cancelled}, {held})

    play_held(body)


def test_wait_for_the_first_exception(play_held, gate):
    """FIRST_EXCEPTION passes over a success and returns at the failure."""

    def body():
        good, held = double(1), hold(gate.path)
        good.result()
        bad = fail()
        done, rest = wait([good, bad, held], return_when=FIRST_EXCEPTION)
        assert (done, rest) == ({good, bad}, {held})

    play_held(body)


def test_wait_for_the_first_exception_where_one_failed_already(play_held, gate):
    """A failure that is there already ends the wait at once; a cancelled future is none."""

    def body():
        held = hold(gate.path, 1)
        cancelled, bad = double(held), fail()
        assert cancelled.cancel()
        assert bad.exception() is not None
        done, rest = wait([cancelled, bad, held], return_when=FIRST_EXCEPTION)
        assert (done, rest) == ({cancelled, bad}, {held})

    play_held(body)


def test_wait_for_the_first_exception_where_none_comes(play):
    """Without a failure FIRST_EXCEPTION waits for all."""

    def body():
        done, rest = wait([double(1), double(2)], return_when=FIRST_EXCEPTION)
        assert (len(done), len(rest)) == (2, 0)

    play(body)


def test_wait_with_a_timeout(play_held, gate):
    """After the timeout wait tells the done from the others and raises nothing."""

    def body():
        quick, held = double(1), hold(gate.path)
        quick.result()
        for when in (ALL_COMPLETED, FIRST_EXCEPTION):
            done, rest = wait([quick, held], timeout=0.01, return_when=when)
            assert (done, rest) == ({quick}, {held})

    play_held(body)


def test_wait_counts_a_duplicate_once(play):
    """The same future given twice is waited for once (CPython issue 20369)."""

    def body():
        result = double(1)
        done, rest = wait([result, result], return_when=ALL_COMPLETED)
        assert (done, rest) == ({result}, set())

    play(body)


def test_many_threads_may_wait_for_the_same_futures(play_held, gate):
    """Waiting threads do not take each other's wake-ups."""

    def body():
        results = [hold(gate.path, n) for n in range(2)]
        found = []
        threads = [
            threading.Thread(target=lambda: found.append(len(wait(results, 20).done)))
            for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        gate.open()
        for thread in threads:
            thread.join(20)
        return found

    assert play_held(body) == [2] * 5


# -- as_completed --------------------------------------------------------------------------


def test_as_completed_gives_every_future_once_done(play):
    """Finished or not at the start, each future comes once, and comes done."""

    def body():
        first = double(1)
        first.result()
        results = [first, double(2), fail(), double(3)]
        found = list(as_completed(results))
        assert set(found) == set(results)
        assert all(r.done() for r in found)
        assert len(found) == len(results)

    play(body)


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_as_completed_with_a_timeout(play_held, gate, timeout):
    """What is done comes first; then TimeoutError says how many are not."""

    def body():
        quick, held = double(1), hold(gate.path)
        quick.result()
        found = []
        with pytest.raises(TimeoutError, match=r"1 \(of 2\) futures unfinished"):
            found.extend(as_completed([quick, held], timeout=timeout))
        assert found == [quick]

    play_held(body)


def test_as_completed_counts_a_duplicate_once(play):
    """The same future given twice comes once (CPython issue 31641)."""

    def body():
        result = double(1)
        assert len(list(as_completed([result, result]))) == 1

    play(body)


def test_as_completed_gives_a_cancelled_future(play_held, gate):
    """A cancelled future is a completed one."""

    def body():
        cancelled = double(hold(gate.path, 1))
        assert cancelled.cancel()
        assert list(as_completed([cancelled], timeout=0)) == [cancelled]

    play_held(body)


def test_as_completed_keeps_no_future_that_it_gave(play):
    """A future that the caller drops is freed while the others are still waited for."""

    def body():
        results = [double(n) for n in range(4)]
        for result in as_completed(results):
            results.remove(result)
            seen = weakref.ref(result)
            del result
            gc.collect()
            # The loop's thread may still be where it has told of it.
            wait_until(lambda: seen() is None, "it is freed")  # noqa: B023
            if results:
                assert results[0] is not None

    play(body)


# -- cancel and the states -----------------------------------------------------------------


def test_cancel_of_a_step_that_waits_for_its_input(play_held, gate):
    """It is cancelled at once: cancelled() and done(), and reading it raises StepCancelled."""

    def body():
        held = hold(gate.path, 1)
        waiting = double(held)
        assert waiting.cancel()
        assert (waiting.cancelled(), waiting.done(), waiting.running()) == (True, True, False)
        assert waiting.cancel()
        for read in (waiting.result, waiting.exception):
            with pytest.raises(CancelledError) as caught:
                read(timeout=5)
            assert type(caught.value) is StepCancelled
        gate.open()
        return held

    assert play_held(body) == 1


def test_cancel_of_a_step_that_waits_for_a_worker(play_held, gate):
    """A queued step that no worker has begun can be cancelled."""

    def body():
        held = hold(gate.path, 1)
        gate.wait_for_step()
        queued = double(1)
        assert queued.cancel()
        gate.open()
        return queued.cancelled(), held

    assert play_held(body, workers=1) == (True, 1)


def test_cancel_of_a_running_step_is_refused(play_held, gate):
    """A running step goes on to its value."""

    def body():
        held = hold(gate.path, 7)
        gate.wait_for_step()
        assert held.running()
        assert not held.cancel()
        assert not held.cancelled()
        gate.open()
        return held

    assert play_held(body) == 7


def test_cancel_of_a_step_that_is_done_is_refused(play):
    """Neither a value nor a failure can be cancelled any more."""

    def body():
        good, bad = double(1), fail()
        assert (good.result(), str(bad.exception())) == (2, "boom")
        assert not good.cancel()
        assert not bad.cancel()
        assert not good.cancelled()
        assert not bad.cancelled()

    play(body)


def test_a_step_that_needs_a_cancelled_one_is_done_too(play_held, gate):
    """Its future ends, and reading it tells of the cancel."""

    def body():
        first = double(hold(gate.path, 1))
        second = double(first)
        assert first.cancel()
        with pytest.raises(StepCancelled):
            second.result(timeout=10)
        assert second.done()

    play_held(body)


def test_states_before_and_after(play_held, gate):
    """running() and done() tell pending, running and done apart, and repr names the state."""

    def body():
        held = hold(gate.path, [3])
        waiting = double(held)
        gate.wait_for_step()
        assert (held.running(), held.done()) == (True, False)
        assert (waiting.running(), waiting.done()) == (False, False)
        shown = [repr(held), repr(waiting), repr(held[0])]
        gate.open()
        wait([held, waiting])
        assert (held.running(), held.done(), waiting.done()) == (False, True, True)
        return [*shown, repr(held), repr(waiting)]

    assert play_held(body) == [
        "<StepResult hold running>",
        "<StepResult double pending>",
        "<StepResult hold[0] running>",
        "<StepResult hold completed: [3]>",
        "<StepResult double completed: [3, 3]>",
    ]


def test_repr_of_a_failed_and_a_cancelled_step(play_held, gate):
    """repr never waits and never raises."""

    def body():
        bad, cancelled = fail(), double(hold(gate.path, 1))
        bad.exception()
        cancelled.cancel()
        return repr(bad), repr(cancelled)

    assert play_held(body) == ("<StepResult fail failed>", "<StepResult double cancelled>")


# -- result and exception ------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_result_and_exception_with_a_timeout(play_held, gate, timeout):
    """TimeoutError names the step, the step goes on, and a selection behaves the same."""

    def body():
        held = hold(gate.path, [9])
        for read in (held.result, held.exception, held[0].result):
            with pytest.raises(TimeoutError, match="hold"):
                read(timeout=timeout)
        gate.open()
        return held[0]

    assert play_held(body) == 9


def test_result_and_exception_of_what_is_done(play):
    """A value has no exception; a failure raises it from result, the same object each time."""

    def body():
        good, bad = double(2), fail("once")
        assert (good.result(timeout=5), good.exception(timeout=5)) == (4, None)
        error = bad.exception(timeout=5)
        assert isinstance(error, ValueError)
        for _ in range(2):
            with pytest.raises(ValueError, match="once") as caught:
                bad.result(timeout=5)
            assert caught.value is error

    play(body)


def test_result_may_be_read_in_another_thread(play_held, gate):
    """A thread that waits for a result gets it when the step ends."""

    def body():
        held = hold(gate.path, 11)
        found = []
        thread = threading.Thread(target=lambda: found.append(held.result(timeout=10)))
        thread.start()
        gate.open()
        thread.join(20)
        return found

    assert play_held(body) == [11]


def test_the_failure_may_be_read_in_another_thread(play_held, gate):
    """The same for an exception."""

    def body():
        held = hold(gate.path, error=KeyError("k"))
        found = []
        thread = threading.Thread(target=lambda: found.append(held.exception(timeout=10)))
        thread.start()
        gate.open()
        thread.join(20)
        return [repr(error) for error in found]

    assert play_held(body) == ["KeyError('k')"]


# -- asyncio -------------------------------------------------------------------------------


def test_await_gives_the_value(play):
    """A body may run an event loop, call components in it and await their results."""

    async def main():
        return await double(await double(2))

    assert play(lambda: asyncio.run(main())) == 8


def test_await_raises_the_failure(play):
    """The step's own exception leaves the await."""

    async def main():
        with pytest.raises(ValueError, match="boom"):
            await fail()

    play(lambda: asyncio.run(main()))


def test_gather(play):
    """gather takes results as it takes coroutines, failures included."""

    async def main():
        found = await asyncio.gather(double(1), fail(), double(3), return_exceptions=True)
        return [repr(item) for item in found]

    assert play(lambda: asyncio.run(main())) == ["2", "ValueError('boom')", "6"]


def test_await_leaves_the_loop_running(play_held, gate):
    """While one task awaits a step, the others go on."""

    async def main():
        held = hold(gate.path, 1)

        async def read():
            return await held

        async def let_go():
            await asyncio.sleep(0)
            gate.open()

        return (await asyncio.gather(read(), let_go()))[0]

    assert play_held(lambda: asyncio.run(main())) == 1


def test_await_of_a_cancelled_step(play_held, gate):
    """Awaiting it raises StepCancelled."""

    async def main():
        waiting = double(hold(gate.path, 1))
        waiting.cancel()
        with pytest.raises(StepCancelled):
            await waiting

    play_held(lambda: asyncio.run(main()))


def test_an_await_that_is_given_up_harms_nobody(play_held, gate):
    """The step that ends after its awaiter and its loop are gone gives its value all the same."""

    def body():
        held = hold(gate.path, 5)

        async def main():
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(held, 0.01)

        asyncio.run(main())
        gate.open()
        return held.result(timeout=10), double(1).result(timeout=10)

    assert play_held(body) == (5, 2)

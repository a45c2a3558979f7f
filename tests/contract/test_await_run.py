"""`await run`: the loop goes on, and what is raised and cancelled goes where tasks have it go."""

import asyncio

import pytest
from conftest import wait_for, wait_until

from pipedeco import RunCancelled, component, get_run, pipeline


@component
def blocked(path, n):
    wait_for(path)
    return n


@component
def half(n):
    return n / 2


@pipeline
def halves(n):
    return half(n)


@pipeline
def gated(path, n):
    return blocked(path, n)


@pipeline
def failing():
    raise LookupError("no such thing")


def test_it_is_the_value_of_the_pipeline(mode):
    async def main():
        return await halves.start(3)

    assert asyncio.run(main()) == 1.5


def test_what_left_the_body_is_raised(mode):
    async def main():
        await failing.start()

    with pytest.raises(LookupError, match="no such thing"):
        asyncio.run(main())


@pytest.mark.parametrize("mode", ["local"], indirect=True)
def test_several_runs_are_awaited_side_by_side_and_the_loop_goes_on(mode, tmp_path):
    gate = tmp_path / "gate"

    async def main():
        found = asyncio.gather(gated.start(str(gate), 1), gated.start(str(gate), 2))
        await asyncio.sleep(0)
        gate.touch()  # neither could end before
        return await found

    assert asyncio.run(main()) == [1, 2]


@pytest.mark.parametrize("mode", ["local"], indirect=True)
def test_a_task_that_is_cancelled_cancels_the_run(mode, tmp_path):
    async def main():
        run = gated.start(str(tmp_path / "gate"), 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run, 0.05)
        assert run.status == "cancelled"
        return run

    with pytest.raises(RunCancelled):
        asyncio.run(main()).result()


@pytest.mark.parametrize("mode", ["local"], indirect=True)
def test_a_shielded_run_goes_on(mode, tmp_path):
    gate = tmp_path / "gate"

    async def main():
        run = gated.start(str(gate), 1)
        shielded = asyncio.ensure_future(run)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(shielded), 0.05)
        gate.touch()
        return await shielded

    assert asyncio.run(main()) == 1


def test_a_recorded_run_is_awaited_too(mode):
    halves(3)

    async def main():
        return await get_run()

    assert asyncio.run(main()) == 1.5


@pytest.mark.parametrize("mode", ["local"], indirect=True)
def test_a_run_whose_loop_was_closed_ends_all_the_same(mode, tmp_path):
    gate = tmp_path / "gate"
    run = gated.start(str(gate), 1)
    loop = asyncio.new_event_loop()
    task = loop.create_task(_awaiting(run))
    loop.run_until_complete(asyncio.sleep(0))
    task.cancel = lambda *_: None  # nobody ends it in good order
    loop.call_soon(loop.stop)
    loop.run_forever()
    task._log_destroy_pending = False
    loop.close()
    gate.touch()
    assert run.result() == 1
    wait_until(lambda: run.status == "completed")


async def _awaiting(run):
    return await run

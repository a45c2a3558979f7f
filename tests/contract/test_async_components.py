"""Async components, called where an event loop runs already: in notebooks and in async programs."""

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import threading

import pytest

from pipedeco import StepFailed, component, pipeline

REQUEST = contextvars.ContextVar("request", default="none")


@component
async def plus(n):
    await asyncio.sleep(0)
    return n + 1


@component
async def fails(text):
    await asyncio.sleep(0)
    raise LookupError(text)


@component
async def cancelled():
    raise asyncio.CancelledError


@component
async def surroundings():
    return threading.get_ident(), REQUEST.get()


@component
async def aside(n):
    return await asyncio.gather(asyncio.to_thread(abs, -n), asyncio.wait_for(_later(n), 30))


@component
async def shell():
    process = await asyncio.create_subprocess_exec("true")
    return await process.wait()


@component
async def nests(n):
    return await plus(await plus(n))  # in a component they are plain functions


async def _later(n):
    await asyncio.sleep(0)
    return n


@pipeline
def twice(n):
    return plus(plus(n))


@pipeline
def failing(text):
    return fails(text)


@pipeline
def gives_up():
    return cancelled()


@pipeline
def where():
    return surroundings()


@pipeline
def beside(n):
    return aside(n)


@pipeline
def starts():
    return shell()


@pipeline
def nested(n):
    return nests(n)


def test_the_value_is_that_of_a_program_without_a_loop(mode):
    async def main():
        return twice(1), nested(1), beside(4), starts()

    assert asyncio.run(main()) == (3, 3, [4, 4], 0)


def test_a_failure_leaves_the_loop_as_it_was(mode):
    async def main():
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        with pytest.raises(LookupError, match="no such thing"):
            failing("no such thing")
        assert asyncio.get_running_loop() is loop
        assert asyncio.current_task() is task
        return await asyncio.wait_for(_later(5), 30)

    assert asyncio.run(main()) == 5


def test_a_task_that_cancels_itself_cancels_no_other(mode):
    async def main():
        with pytest.raises(StepFailed, match="CancelledError"):
            gives_up()
        assert not asyncio.current_task().cancelling()
        return await _later(5)

    assert asyncio.run(main()) == 5


@pytest.mark.parametrize("mode", ["debug"], indirect=True)
def test_in_debug_mode_it_has_its_callers_thread_and_context(mode):
    async def main():
        REQUEST.set("the caller's")
        return where()

    assert asyncio.run(main()) == (threading.get_ident(), "the caller's")


@pytest.mark.parametrize("mode", ["debug"], indirect=True)
def test_the_loop_of_a_thread_stays_set(mode):
    """As in a notebook, whose kernel runs the cell in the thread's own loop."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:

        async def main():
            return twice(1)

        assert loop.run_until_complete(main()) == 3
        assert loop.run_until_complete(main()) == 3
        assert asyncio.get_event_loop_policy().get_event_loop() is loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@pytest.mark.parametrize("mode", ["debug"], indirect=True)
def test_a_callback_of_the_loop_may_call_it(mode):
    """No task is under way there."""

    async def main():
        found = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: found.set_result(twice(1)))
        return await found

    assert asyncio.run(main()) == 3


INTERRUPTED = """
import asyncio
from pipedeco import component, pipeline

@component
async def waits():
    print("waits", flush=True)
    await asyncio.sleep(3600)

@pipeline
def main():
    return waits()

async def program():
    main.debug()

asyncio.run(program())
"""


def test_ctrl_c_ends_it(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PIPEDECO_STORE": str(tmp_path)},
    )
    try:
        assert process.stdout.readline() == "waits\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGINT, errors
    assert errors.rstrip().endswith("KeyboardInterrupt")

"""Threads: of the caller, of the body's own making, and of steps."""

import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipedeco import GraphError, component, pipeline, value

in_workers = pytest.mark.parametrize("mode", ["local", "remote"], indirect=True)


@component
def echo(x):
    return x


@pipeline
def inner(x):
    return echo(x)


def caught_in_thread(function):
    """What `function()` raises or returns in a thread of its own."""
    found = []

    def run():
        try:
            found.append(function())
        except BaseException as error:  # noqa: BLE001 - whatever it is
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    return found[0]


def test_the_body_runs_in_the_caller_s_thread(mode):
    """A blocking call runs the body in the caller's thread."""

    @pipeline
    def body():
        echo(1)
        return threading.get_ident()

    assert body() == threading.get_ident()


@in_workers
def test_a_started_body_runs_in_a_thread_of_the_run(mode):
    """`start()` runs it in another."""

    @pipeline
    def body():
        echo(1)
        return threading.get_ident()

    assert body.start().result(10) != threading.get_ident()


def test_a_component_in_a_thread_of_the_body(mode):
    """GraphError, which names `contextvars.copy_context().run`."""

    @pipeline
    def body():
        error = caught_in_thread(lambda: echo(1))
        return type(error).__name__, str(error)

    name, text = body()
    assert name == "GraphError"
    assert "echo" in text
    assert "contextvars.copy_context().run" in text


def test_a_pipeline_in_a_thread_of_the_body(mode):
    """The same for a pipeline."""

    @pipeline
    def body():
        found = [caught_in_thread(lambda: inner(1)), caught_in_thread(lambda: inner.start(1))]
        return [type(error).__name__ for error in found]

    assert body() == ["GraphError", "GraphError"]


def test_a_component_in_a_thread_pool_of_the_body(mode):
    """The threads of a pool that the body makes are its own too."""

    @pipeline
    def body():
        with ThreadPoolExecutor(2) as pool, pytest.raises(GraphError):
            pool.submit(echo, 1).result()
        return True

    assert body()


def test_a_thread_of_a_thread_of_the_body(mode):
    """So are the threads that those start."""

    @pipeline
    def body():
        return type(caught_in_thread(lambda: caught_in_thread(lambda: echo(1)))).__name__

    assert body() == "GraphError"


def test_copy_context(mode):
    """With `copy_context().run` the calls of a thread are steps of the run."""

    @pipeline
    def body(n):
        made = []
        threads = []
        for i in range(n):
            context = contextvars.copy_context()
            target = lambda i=i, run=context.run: made.append(run(echo, i))  # noqa: E731
            threads.append(threading.Thread(target=target))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(value(made))

    run = body.start(8)
    assert run.result(10) == list(range(8))
    assert len(run.steps) == 8


def test_results_may_be_read_in_any_thread(mode):
    """Reading needs no context."""

    @pipeline
    def body():
        r = echo([1, 2])
        return caught_in_thread(lambda: len(r) + r[1])

    assert body() == 4


def test_a_call_after_the_run_has_ended(mode):
    """A context that outlives its run takes no calls."""
    kept = []

    @pipeline
    def body():
        kept.append(contextvars.copy_context())
        return echo(1)

    assert body() == 1
    with pytest.raises(GraphError, match="has ended"):
        kept[0].run(echo, 2)


def test_threads_of_a_step(mode):
    """In threads that a step starts, components are bare functions."""

    @component
    def step():
        return caught_in_thread(lambda: echo(5)), caught_in_thread(lambda: inner(6))

    @pipeline
    def body():
        return step()

    assert body() == (5, 6)


def test_a_thread_that_knows_no_run(mode):
    """A thread that was there before the run calls bare functions meanwhile."""
    go, done = threading.Event(), threading.Event()
    found = []

    def work():
        go.wait(10)
        found.append(echo(7))
        done.set()

    thread = threading.Thread(target=work)
    thread.start()

    @pipeline
    def body():
        go.set()
        assert done.wait(10)
        return echo(1)

    assert body() == 1
    thread.join(10)
    assert found == [7]


def test_runs_in_several_threads(mode):
    """Several threads may each run a pipeline; they do not mix."""

    @pipeline
    def body(x):
        made = [echo((x, i)) for i in range(5)]
        return value(made)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(body, range(8)))
    assert found == [[(x, i) for i in range(5)] for x in range(8)]


def test_a_failure_in_a_thread_s_run(mode):
    """A run in a thread raises there."""

    @pipeline
    def body():
        echo(1)
        raise LookupError("mine")

    assert type(caught_in_thread(body)) is LookupError


def test_context_variables_of_the_caller(mode):
    """The body sees the context variables of its caller, started or not."""
    variable = contextvars.ContextVar("variable", default="none")

    @pipeline
    def body():
        echo(1)
        return variable.get()

    token = variable.set("mine")
    try:
        assert body() == "mine"
        assert body.start().result(10) == "mine"
    finally:
        variable.reset(token)

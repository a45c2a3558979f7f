"""Odd meetings of features, each of which once went wrong."""

import os
import sys

import pytest

from pipedeco import GraphError, RunFailed, WorkerDied, component, get_run, pipeline, value

in_workers = pytest.mark.parametrize("mode", ["local", "remote"], indirect=True)


@component
def give(item):
    return item


@component
def size(data):
    return len(data)


@component
def fail(text):
    raise ValueError(text)


@component
def fork_and_raise():
    if os.fork() == 0:
        raise SystemExit(0)
    os.wait()
    return 1


@in_workers
def test_a_callback_cancels_another_step(mode, tmp_path):
    """A done callback runs on the loop's thread, and may cancel what waits."""
    gate = str(tmp_path / "gate")

    @component
    def wait_for(path):
        while not os.path.exists(path):
            os.sched_yield()
        return 1

    @pipeline
    def body():
        first = give(1)
        held = wait_for(gate)
        waiting = give(held)
        answers = []
        first.add_done_callback(lambda _: answers.append(waiting.cancel()))
        value(first)
        open(gate, "w").close()
        value(held)
        return answers, waiting.cancelled()

    assert body() == ([True], True)


@in_workers
def test_a_callback_cannot_wait(mode, tmp_path):
    """It would wait for the thread that it is on; it gets an error instead."""
    seen = []

    def read(_):
        try:
            later[0].result()
        except GraphError as error:
            seen.append(str(error))

    later = []

    @pipeline
    def body():
        first = give(1)
        later.append(give(first))
        later[0] = give(later[0])
        first.add_done_callback(read)
        return later[0]

    assert body() == 1
    assert all("callback waits for step" in text for text in seen)


def test_text_that_no_database_takes(mode):
    """A lone surrogate in an exception's text is escaped; later runs are recorded as ever."""

    @pipeline
    def body():
        fail("bad \udcff")

    with pytest.raises((RunFailed, ValueError)):
        body()
    assert get_run().error is not None
    assert "\\udcff" in get_run().steps["fail"].error
    with pytest.raises((RunFailed, ValueError)):
        body()


def test_depends_on_a_step_of_another_run(mode):
    """Only the run's own steps can be waited for without their value."""

    @pipeline
    def child(outer):
        return give.with_options(depends_on=[captured[0]])(1)

    captured = []

    @pipeline
    def body():
        captured.append(give(1))
        return child(2)

    with pytest.raises(GraphError, match="of another run"):
        body()


@in_workers
def test_a_fork_in_a_step_comes_to_nothing(mode):
    """The child of a step that forks never answers in its place."""

    @pipeline
    def body():
        try:
            return value(fork_and_raise())
        except WorkerDied:
            return 1

    assert body() == 1
    assert body() == 1


def test_a_timeout_of_months(mode):
    """No system sleeps so long at once, and none has to."""

    @pipeline
    def body():
        return give.with_options(timeout=5e6, retry_delay=1e9)(1)

    assert body() == 1


def test_children_with_large_arguments_at_once(mode):
    """Their blobs are written side by side under names of their own."""

    @pipeline
    def child(number):
        return size(bytes([number]) * 200_000)

    @pipeline
    def body():
        return [child(i) for i in range(6)]

    assert body() == [200_000] * 6


def test_a_value_whose_shape_cannot_be_asked(mode):
    """A preview never fails the step."""
    assert pipeline(lambda: give(1))() == 1

    @pipeline
    def body():
        return type(value(give(Shapeless()))).__name__

    assert body() == "Shapeless"


class Shapeless:
    @property
    def shape(self):
        raise ValueError("no shape")


@in_workers
def test_an_abort_reaches_child_runs(mode, tmp_path):
    """`on_failure="abort"` cancels what child runs perform."""

    @component
    def hang(path):
        open(path, "w").close()
        while True:
            os.sched_yield()

    @component
    def fail_after(path):
        while not os.path.exists(path):
            os.sched_yield()
        raise ValueError("now")

    @pipeline
    def child(path):
        return hang(path)

    @pipeline(on_failure="abort")
    def body(path):
        child(path)
        fail_after(path)

    with pytest.raises(RunFailed):
        body(str(tmp_path / "began"))
    assert get_run(get_run().steps["child"].child_run).status == "cancelled"


class Wide:
    """A program's own stream, whose `write` takes what that of a file does not."""

    def __init__(self):
        self.texts = []

    def write(self, *parts, end=""):
        self.texts.append("".join(map(str, parts)) + end)

    def flush(self):
        pass


@pytest.mark.parametrize("mode", ["debug"], indirect=True)
def test_a_stream_of_the_programs_own_is_written_as_it_is(mode, monkeypatch):
    stream = Wide()
    monkeypatch.setattr(sys, "stdout", stream)

    @component
    def write():
        sys.stdout.write(5, 6, end="!")
        sys.stdout.write("text")

    @pipeline
    def body():
        write()

    body()
    assert "".join(stream.texts) == "56!text"
    assert get_run("latest").logs("write") == "text"

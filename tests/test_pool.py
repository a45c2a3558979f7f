"""Messages in any pieces, and a pool of real workers."""

import os
import pickle
import selectors
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import DEADLINE, function_message, wait_until
from hypothesis import given
from hypothesis import strategies as st

from pipedeco.runners.local import LocalRunner
from pipedeco.worker.deaths import FALSE_STARTS
from pipedeco.worker.environment import here
from pipedeco.worker.messages import Decoder, encode
from pipedeco.worker.pool import SPARE, Exit, Pool, exit_of_code, interpreter_flags

atoms = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(atoms | st.binary(), lambda inner: st.lists(inner) | st.tuples(inner))
messages = st.lists(st.tuples(st.text(max_size=9), values), max_size=6)


# -- messages --------------------------------------------------------------------------------


@given(sent=messages, data=st.data())
def test_messages_arrive_whole_however_they_are_cut(sent, data):
    """Every way of cutting the stream gives the same messages, in their order."""
    stream = b"".join(map(encode, sent))
    places = data.draw(st.lists(st.integers(0, len(stream)), max_size=12).map(sorted))
    decoder = Decoder()
    found = []
    for start, end in zip([0, *places], [*places, len(stream)], strict=True):
        found += decoder.feed(stream[start:end])
    assert found == sent
    assert list(decoder.feed(b"")) == []


def test_a_message_arrives_byte_by_byte():
    """Nothing is given before it is whole."""
    stream = encode(("a", b"x" * 100)) + encode(("b",))
    decoder = Decoder()
    found = [list(decoder.feed(bytes([byte]))) for byte in stream]
    assert [(i, m) for i, part in enumerate(found) for m in part] == [
        (len(encode(("a", b"x" * 100))) - 1, ("a", b"x" * 100)),
        (len(stream) - 1, ("b",)),
    ]


def test_a_message_of_many_megabytes_takes_no_quadratic_time():
    """A large argument comes in pieces of the size of a socket's buffer."""
    stream = encode(("calls", os.urandom(30_000_000)))
    decoder = Decoder()
    began = time.process_time()
    found = []
    for start in range(0, len(stream), 1 << 16):
        found += decoder.feed(stream[start : start + (1 << 16)])
    assert encode(found[0]) == stream
    assert time.process_time() - began < 2.0


# -- exits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0, Exit(0, None, 5)),
        (3, Exit(3, None, 5)),
        (-9, Exit(None, "SIGKILL", 5)),
        (-40, Exit(None, "signal 40", 5)),
    ],
)
def test_exit_of_code(code, expected):
    """A negative code is a signal, by its name where it has one."""
    assert exit_of_code(code, 5) == expected


def test_interpreter_flags():
    """What changes how code runs is handed on, and is what a command line takes."""
    assert all(isinstance(flag, str) for flag in interpreter_flags())


# -- the pool --------------------------------------------------------------------------------


class Office:
    """A pool and the loop that owns it."""

    def __init__(self, tmp_path):
        self.folder = tmp_path
        self.selector = selectors.DefaultSelector()
        self.messages = []
        self.exits = {}
        self.pool = Pool(
            self.selector,
            "nursery",
            lambda worker, message: self.messages.append((worker.number, message)),
            lambda worker, end: self.exits.update({worker.number: end}),
        )

    def run_until(self, condition):
        """Turn the loop until `condition()` is true."""
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline
            for key, events in self.selector.select(0.05):
                key.data(events)

    def end_of(self, worker):
        self.run_until(lambda: worker.number in self.exits)
        return self.exits[worker.number]

    def call(self, worker, module, name, *args, number=1):
        """Have a worker call a function."""
        logs, blobs = str(self.folder / "logs" / worker.name), str(self.folder / "blobs")
        self.pool.send(worker, ("run", 1, tuple(here()), blobs, logs, ("cafe", "body")))
        self.pool.send(worker, function_message(1, name, module, auto_log=True))
        self.pool.send(worker, ("calls", [(number, 1, pickle.dumps((args, {})), None, 1, 1)]))

    def outcome(self, number=1):
        """What came back for a call: its state and value."""

        def found():
            outcomes = [o for _, m in self.messages if m[0] == "outcomes" for o in m[1]]
            return next((o for o in outcomes if o[0] == number), None)

        self.run_until(found)
        _, state, _, _, value, *_ = found()
        return state, value if value is None else pickle.loads(value)


@pytest.fixture
def office(tmp_path):
    office = Office(tmp_path)
    yield office
    office.pool.close()
    assert not office.selector.get_map()
    office.selector.close()


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])


def test_a_worker_performs_and_is_another_process(office):
    """It may be sent to at once; its nursery is below a guard, and its session its own."""
    worker = office.pool.start()
    office.call(worker, "os", "getppid")
    state, nursery = office.outcome()
    assert state == "completed"
    assert parent_of(nursery) == office.pool.nests[None].pid
    office.call(worker, "os", "getsid", 0, number=2)
    session = office.outcome(2)[1]
    assert session not in (os.getsid(0), os.getsid(office.pool.nests[None].pid))
    assert (worker.name, office.exits) == ("w1", {})


def test_an_exit_code_is_told(office):
    """And which call it was: the shared page says so."""
    worker = office.pool.start()
    office.call(worker, "os", "_exit", 7, number=41)
    end = office.end_of(worker)
    assert (end.exitcode, end.signal) == (7, None)
    assert worker.page[0] == 41
    assert not worker.alive
    assert office.pool.workers == {}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_signal_is_told_by_its_name(office, number):
    """Whoever sent it."""
    worker, other = office.pool.start(), office.pool.start()
    office.call(worker, "os", "getpid")
    pid = office.outcome()[1]
    os.kill(pid, number)
    end = office.end_of(worker)
    assert (end.exitcode, end.signal) == (None, signal.Signals(number).name)
    office.call(other, "os", "getpid", number=2)
    assert office.outcome(2)[0] == "completed"


def test_kill_reaches_a_worker_and_its_group(office):
    """The pool's own kill, of a worker that hangs, takes its children along."""
    worker = office.pool.start()
    command = f"sleep 300 & echo $! > {office.folder}/pid; wait"
    office.call(worker, "os", "system", command)
    path = office.folder / "pid"
    wait_until(lambda: path.exists() and path.read_text().endswith("\n"))
    office.pool.kill(worker)
    assert office.end_of(worker).signal == "SIGKILL"
    wait_until(lambda: not alive(int(path.read_text())), "the child is gone")


def test_peak_memory_is_told(office):
    """In bytes, as the kernel counted it."""
    small, large = office.pool.start(), office.pool.start()
    office.call(small, "os", "_exit", 0)
    office.call(large, "builtins", "exec", "x = b'1' * 200_000_000; import os; os._exit(0)")
    low, high = office.end_of(small).peak_memory, office.end_of(large).peak_memory
    assert 1_000_000 < low < 100_000_000
    assert 200_000_000 < high < 400_000_000


def test_what_was_sent_before_a_death_is_told_before_it(office):
    """Outcomes that a worker had sent count, though the nursery's word was quicker."""
    worker = office.pool.start()
    office.call(worker, "os", "getpid")
    pid = wait_until(lambda: worker.page[1] and office.outcome())[1]
    code = f"print('x'); import os; os.kill({pid}, 9)"
    office.call(worker, "builtins", "len", "abc", number=2)
    wait_until(lambda: worker.page[0] == 0 and office.outcome(2))
    office.call(worker, "builtins", "exec", code, number=3)
    office.end_of(worker)
    assert office.outcome(2) == ("completed", 3)


def test_a_large_message_does_not_block_the_loop(office):
    """50 MB to a worker that is busy is queued, and arrives."""
    worker = office.pool.start()
    data = os.urandom(50_000_000)
    office.call(worker, "time", "sleep", 0.1)
    began = time.monotonic()
    office.call(worker, "builtins", "len", data, number=2)
    assert worker.unsent
    assert time.monotonic() - began < 5.0
    assert office.outcome(2) == ("completed", len(data))
    assert not worker.unsent


def test_close_leaves_nobody(office):
    """Idle, busy and half-started workers, and the nursery."""
    busy = office.pool.start()
    office.call(busy, "os", "getpid")
    pid = office.outcome()[1]
    office.call(busy, "time", "sleep", 300, number=2)
    for _ in range(3):
        office.pool.start()
    nursery = office.pool.nests[None].pid
    office.pool.close()
    assert not alive(pid)
    assert not alive(nursery)
    assert office.exits == {}


def test_a_worker_that_we_end_as_it_starts_is_no_false_start():
    """However often; of those that end by themselves the runs are told after some."""
    told = []
    facts = SimpleNamespace(crashed=told.append)
    runner = SimpleNamespace(false_starts=0, sessions=[SimpleNamespace(facts=facts)])
    for unwanted in (True, False):
        assert told == []
        worker = SimpleNamespace(page=[0], unwanted=unwanted)
        slot = SimpleNamespace(worker=worker, proven=False)
        for _ in range(FALSE_STARTS + 1):
            LocalRunner._count_false_starts(runner, slot, Exit(None, "SIGTERM", None))
    assert len(told) == 1


def test_a_nursery_that_died_is_told_for_each_worker_and_replaced(office):
    """Nobody knows how its workers ended; the next start makes another."""
    workers = [office.pool.start(), office.pool.start()]
    os.kill(office.pool.nests[None].pid, signal.SIGKILL)
    assert {office.end_of(worker) for worker in workers} == {Exit(None, None, None)}
    office.call(office.pool.start(), "builtins", "len", "abc", number=9)
    assert office.outcome(9) == ("completed", 3)


class Elsewhere:
    """Stands for an environment, which has the same Python."""

    executable = sys.executable


def test_few_nurseries_wait_for_a_worker(office):
    """Each environment has one; those that nobody uses end, but for the last ones."""
    venvs = [Elsewhere() for _ in range(SPARE + 3)]
    pids = []
    for venv in venvs:
        worker = office.pool.start(venv)
        pids.append(office.pool.nests[venv].pid)
        office.pool.kill(worker)
        office.end_of(worker)
    assert list(office.pool.nests) == [None, *venvs[3:]]
    assert list(map(alive, pids)) == [False] * 3 + [True] * SPARE

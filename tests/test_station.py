"""A station by itself: what a payload comes back as."""

import errno
import gc
import marshal
import os
import pickle
import threading

import pytest
from conftest import function_message, wait_for, wait_until

from pipedeco.worker import station
from pipedeco.worker.batch import Batch
from pipedeco.worker.environment import here
from pipedeco.worker.exchange import CANCEL, FolderExchange, _FileWords
from pipedeco.worker.messages import Decoder
from pipedeco.worker.station import close_stations, perform_batch
from pipedeco.worker.travel import setting_of, write_setting


@pytest.fixture
def folder(tmp_path):
    """A run's folder in a shared store, with its setting."""
    facts = {
        "run": "r1",
        "pipeline": "p",
        "blobs": str(tmp_path / "blobs"),
        "archives": str(tmp_path / "code"),
        "logs": str(tmp_path / "logs"),
        "log_prefix": "",
    }
    write_setting(str(tmp_path / "run"), setting_of(here(), "", None, **facts))
    yield tmp_path / "run"
    close_stations()


def told(folder, *calls, name="b1", timeouts=None):
    """What is told of a batch of calls of functions of os: (number, function, arguments)."""
    functions = []
    messages = []
    for number, function, *args in calls:
        known = function_message(number, function)
        functions.append(known)
        messages.append((number, number, pickle.dumps((tuple(args), {})), None, 1, 1))
    batch = Batch(
        str(folder), name, "nursery", functions, [], [], messages, timeouts or {}, fresh=False
    )
    return list(Decoder().feed(perform_batch(marshal.dumps(tuple(batch)))))


def ended(message):
    """(number, state, value or type of the error) of an outcome."""
    kind, (number, state, _, _, value, _, _, error, *_), _ = message
    assert kind == "outcome"
    return number, state, pickle.loads(value) if value else error and error[0].rpartition(".")[2]


def test_outcomes_of_a_batch(folder):
    """One after another, in order; each has the name of its log."""
    found = told(folder, (1, "fspath", "a"), (2, "fspath", 5), (3, "fspath", "c"))
    outcomes = [ended(message) for message in found]
    assert outcomes == [(1, "completed", "a"), (2, "failed", "TypeError"), (3, "completed", "c")]
    assert len({message[2] for message in found}) == 1


def test_a_batch_is_begun_once(folder):
    """An engine that hands it out again, as after a death, learns that it is lost."""
    assert ended(told(folder, (1, "fspath", "a"))[0]) == (1, "completed", "a")
    assert told(folder, (1, "fspath", "a")) == [("lost",)]
    assert ended(told(folder, (1, "fspath", "a"), name="b2")[0]) == (1, "completed", "a")


def test_a_death_is_charged_to_its_call(folder):
    """What had ended has ended; what was not begun is given back."""
    found = told(folder, (1, "fspath", "a"), (2, "_exit", 3), (3, "fspath", "c"))
    (before, dead), back = [ended(m) for m in found if m[0] == "outcome"], found[-1]
    assert (before, dead) == ((1, "completed", "a"), (2, "failed", "WorkerDied"))
    assert back == ("given_back", [3])


def test_a_timeout(folder):
    """The child is killed; the next batch has another."""
    found = told(folder, (1, "system", "sleep 30"), (2, "fspath", "b"), timeouts={1: 0.2})
    assert sorted(message[0] for message in found) == ["given_back", "outcome"]
    [outcome] = [message for message in found if message[0] == "outcome"]
    assert ended(outcome) == (1, "failed", "StepTimeout")
    assert ("given_back", [2]) in found
    assert ended(told(folder, (3, "getpid"), name="b2")[0])[1] == "completed"


def test_a_cancelled_run_begins_nothing(folder):
    """Everything is given back."""
    (folder / CANCEL).touch()
    assert told(folder, (1, "fspath", "a"), (2, "fspath", "b")) == [("given_back", [1, 2])]


def test_another_python(folder):
    """The steps fail with both versions."""
    path = folder / "setting"
    setting = list(marshal.loads(path.read_bytes()))
    setting[2] = "3.1"
    path.write_bytes(marshal.dumps(tuple(setting)))
    [message] = told(folder, (1, "fspath", "a"))
    assert ended(message) == (1, "failed", "PipedecoError")
    assert "the controller Python 3.1" in message[1][7][1]


def test_a_timer_keeps_no_batch(folder):
    """A long timeout of a short step holds nothing of it until then."""
    for number in range(3):
        told(folder, (1, "fspath", "a"), name=f"b{number}", timeouts={1: 3600.0})

    def kept():
        gc.collect()
        return [found for found in gc.get_objects() if isinstance(found, station._Work)]

    wait_until(lambda: not kept(), "the station's own thread has let go")


def test_a_run_in_use_is_not_forgotten(folder, monkeypatch):
    """Where a batch of a run that is over is still here, as while its environment is built."""
    forgotten = []

    def tidied(exchange, digests):
        (folder / "setting").rename(folder / "aside")
        [here] = station._stations.values()
        here._tidy()
        forgotten.append(str(folder) not in here.runs)
        (folder / "aside").rename(folder / "setting")

    monkeypatch.setattr(FolderExchange, "bring", tidied)
    assert ended(told(folder, (1, "fspath", "a"))[0]) == (1, "completed", "a")
    assert forgotten == [False]


def test_a_run_whose_controller_is_silent_is_forgotten(folder, monkeypatch):
    """One that was killed leaves its folder; when it gives a sign again, the run is opened again."""
    assert ended(told(folder, (1, "fspath", "a"))[0]) == (1, "completed", "a")
    [here] = station._stations.values()
    here._tidy()
    assert list(here.runs) == [str(folder)]
    with monkeypatch.context() as silence:
        silence.setattr(station, "LEASE", 0.0)
        here._tidy()
    assert (here.runs, here.signs, here.entering) == ({}, {}, {})
    assert ended(told(folder, (1, "fspath", "b"), name="b2")[0]) == (1, "completed", "b")


def test_a_run_that_cannot_be_opened_leaves_nothing(folder):
    """As where this machine does not see its store."""
    for number in range(3):
        gone = folder.with_name(f"gone{number}")
        assert ended(told(gone, (1, "fspath", "a"))[0]) == (1, "failed", "StoreError")
    [here] = station._stations.values()
    assert (here.runs, here.used, here.entering) == ({}, [], {})


def test_many_runs_are_not_kept_for_a_minute(folder, monkeypatch):
    """Each may hold a lock, and a process may open about a thousand files."""
    setting = (folder / "setting").read_bytes()
    tidied = threading.Event()
    tidy = station.Station._tidy
    monkeypatch.setattr(station.Station, "_tidy", lambda here: (tidy(here), tidied.set()))
    for number in range(station.MANY):
        run = folder.with_name(f"run{number}")
        run.mkdir()
        (run / "setting").write_bytes(setting)
        assert ended(told(run, (1, "fspath", "a"))[0]) == (1, "completed", "a")
        (run / "setting").unlink()
    assert tidied.wait(10)
    [here] = station._stations.values()
    assert len(here.runs) <= 1  # the last one was in use


def test_words_on_a_full_disk_stay_whole(tmp_path, monkeypatch):
    """What is written in part is written on, and nothing stands between."""
    words = _FileWords(os.open(tmp_path / "words", os.O_WRONLY | os.O_CREAT))
    write = os.write
    room = iter([3, 0, 5, 1000, 1000])

    def short(file, data):
        left = next(room)
        if not left:
            raise OSError(errno.ENOSPC, "no space left on device")
        return write(file, bytes(data)[:left])

    monkeypatch.setattr(os, "write", short)
    messages = [("outcome", n) for n in range(5)]
    for n in range(5):
        words.write(messages[: n + 1], ("now", n))
    monkeypatch.undo()
    words.close()
    heard = list(Decoder().feed((tmp_path / "words").read_bytes()))
    assert [message for message in heard if message[0] == "outcome"] == messages


def test_a_run_that_is_nobodys_any_more(folder, monkeypatch):
    """A controller that gives no sign is dead, on whatever host: its steps are killed."""
    monkeypatch.setattr(station, "LEASE", 0.5)
    found = told(folder, (1, "system", "sleep 30"), (2, "fspath", "b"))
    [outcome] = [message for message in found if message[0] == "outcome"]
    assert ended(outcome) == (1, "failed", "WorkerDied")
    assert "no sign of life for 0.5 s" in outcome[1][7][1]


def test_signs_of_a_controller(folder, monkeypatch):
    """While they come, a step may be as long as it likes."""
    monkeypatch.setattr(station, "LEASE", 1.0)
    over = threading.Event()

    def give_signs():
        while not over.wait(0.05):
            os.utime(folder / "setting")

    signs = threading.Thread(target=give_signs)
    signs.start()
    try:
        assert ended(told(folder, (1, "system", "sleep 2.5"))[0]) == (1, "completed", 0)
    finally:
        over.set()
        signs.join()


def test_a_folder_that_is_gone(folder, tmp_path):
    """So is the run: what goes on for it ends."""
    began = tmp_path / "began"

    def remove():
        wait_for(began)
        (folder / "setting").unlink()

    removing = threading.Thread(target=remove)
    removing.start()
    found = told(folder, (1, "system", f"touch {began}; sleep 30"))
    removing.join()
    assert ended(found[0]) == (1, "failed", "WorkerDied")

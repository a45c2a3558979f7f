"""`pipedeco doctor`: what is tried, and what is said of it."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import wait_until
from hypothesis import given
from hypothesis import strategies as st

import pipedeco
from pipedeco import config
from pipedeco.doctoring import ERROR, OK, WARNING, examine, queues
from pipedeco.doctoring.answers import Trip
from pipedeco.doctoring.store import find_mount
from pipedeco.doctoring.tools import look_at_tools
from pipedeco.store.database import VERSION, connect
from pipedeco.worker.probing import Answer, answer, probe, read_answer
from pipedeco.worker.station import close_stations, perform_batch
from pipedeco.worker.venvs import MARK

COMMAND = str(Path(sys.executable).with_name("pipedeco"))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder for a store and no queues; this process has no settings."""
    monkeypatch.setattr(config, "SETTINGS", config.Settings())
    monkeypatch.delenv("PIPEDECO_QUEUES", raising=False)
    monkeypatch.setenv("PIPEDECO_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    close_stations()  # those of workers that are threads of this process


def told(what, **urls):
    """The lines of one thing, with these queues."""
    pipedeco.configure(queues=urls or None)
    return [line for line in examine() if line.what == what]


# -- workers that answer otherwise


class Changed(Executor):
    """Workers in threads, whose answers are changed on their way.

    Parameters
    ----------
    changes: fields of an Answer, or functions of what they are.
    """

    _max_workers = 2

    def __init__(self, **changes):
        self._changes = changes
        self._threads = ThreadPoolExecutor(2)

    def submit(self, fn, /, *args, **kwargs):
        return self._threads.submit(self._perform, fn, *args)

    def _perform(self, fn, payload):
        done = fn(payload)
        try:
            found = read_answer(done)
        except ValueError:  # no probe
            return done
        new = {
            name: change(getattr(found, name)) if callable(change) else change
            for name, change in self._changes.items()
        }
        return json.dumps(found._replace(**new)._asdict()).encode()

    def shutdown(self, wait=True, *, cancel_futures=False):
        self._threads.shutdown(wait)


def like_us():
    return Changed()


def late_clock():
    return Changed(began=lambda t: t - 5, ended=lambda t: t - 5)


def other_python():
    return Changed(python="3.1.4", pid=17)


def other_patch():
    return Changed(python=f"{sys.version_info[0]}.{sys.version_info[1]}.99", pipedeco="0.0.1")


def other_cloudpickle():
    return Changed(picklers={"cloudpickle": "1.0", "dill": ""})


def blind():
    return Changed(hello="", trouble="/store/hello: No such file or directory", host="far")


class Silent(Executor):
    """Workers that never answer."""

    _max_workers = 3

    def submit(self, fn, /, *args, **kwargs):
        return Future()

    def shutdown(self, wait=True, *, cancel_futures=False):
        pass


def refuses():
    raise ConnectionRefusedError(111, "Connection refused")


OPEN = threading.Event()


def hangs():
    OPEN.wait(20)
    raise AssertionError("it was to hang")


def old_pipedeco():
    """It takes a probe for a batch, and raises."""
    made = Changed()
    made._perform = lambda fn, payload: fn(b"\xa9\x01i\x07\x00\x00\x00")
    return made


@pytest.mark.parametrize(
    ("factory", "state", "said"),
    [
        ("late_clock", WARNING, "5.0 s behind ours"),
        ("other_python", ERROR, "(pid 17) runs Python 3.1.4, this process 3."),
        ("other_patch", WARNING, ".99, this process 3."),
        ("other_patch", WARNING, "runs pipedeco 0.0.1, this process"),
        ("other_cloudpickle", WARNING, "runs cloudpickle 1.0, this process"),
        ("other_cloudpickle", WARNING, "runs dill that is not installed, this process"),
        ("blind", ERROR, "worker far (pid"),
        ("blind", ERROR, "No such file or directory); workers need it at the same path"),
        ("refuses", ERROR, "cannot be reached: ConnectionRefusedError"),
        ("old_pipedeco", ERROR, "TypeError"),
    ],
)
def test_what_is_not_well_with_workers(place, factory, state, said):
    """The line says what, of which worker, and what to do."""
    lines = told("queue default", default=f"executor://test_doctor:{factory}?slots=1")
    assert [line.state for line in lines if said in str(line)] == [state], lines


def test_workers_that_are_well(place):
    """One line: how many of them, where, and how far their clocks can be from ours."""
    [line] = told(
        "queue a, b", a="executor://test_doctor:like_us", b="executor://test_doctor:like_us"
    )
    assert line.state == OK
    assert "has 2 slots; 1 worker answered, on " in line.text
    assert ", clocks within 0." in line.text


def test_engines_are_bounded_in_time(place, monkeypatch):
    """One that does not open and one whose workers do not answer keep nobody."""
    monkeypatch.setattr(queues, "OPENING", 0.3)
    monkeypatch.setattr(queues, "ANSWERING", 0.3)
    monkeypatch.setattr(queues, "CLOSE", 0.1)
    try:
        [line] = told("queue default", default="executor://test_doctor:hangs")
        assert (line.state, "nothing came within 0.3 s" in line.text) == (ERROR, True)
    finally:
        OPEN.set()
    [line] = told("queue default", default="executor://test_doctor:Silent")
    assert (line.state, "none of its 3 slots answered within 0.3 s" in line.text) == (ERROR, True)


def test_queues_that_cannot_be_read(place, monkeypatch):
    """A line, as for anything else."""
    monkeypatch.setenv("PIPEDECO_QUEUES", "{")
    [line] = told("queues")
    assert (line.state, "PIPEDECO_QUEUES is JSON" in line.text) == (ERROR, True)
    [line] = told("queue default", default="kafka://x")
    assert (line.state, "names no engine" in line.text) == (ERROR, True)


def test_every_slot_answers(place):
    """Workers wait for each other, so none answers for the rest."""
    folder = place / "probes"
    folder.mkdir()
    (folder / "hello").write_text("word")
    with ThreadPoolExecutor(3) as threads:
        sent = [probe(str(folder), f"answer-{n}", "answer-", 3, 20.0) for n in range(3)]
        found = [read_answer(data) for data in threads.map(perform_batch, sent)]
    assert max(one.began for one in found) <= min(one.ended for one in found)
    assert {one.hello for one in found} == {"word"}
    assert sorted(path.name for path in folder.glob("answer-*")) == [
        f"answer-{n}" for n in range(3)
    ]


def test_a_store_that_is_not_there(tmp_path):
    """The answer says so, after a moment."""
    found = read_answer(answer(str(tmp_path / "none"), "a", "a", 1, 0.01))
    assert (found.hello, "No such file" in found.trouble) == ("", True)


TIMES = st.floats(0, 100)


@given(st.floats(-1e4, 1e4), TIMES, TIMES, TIMES)
def test_the_clock_is_within_the_doubt(offset, there, held, back):
    """However a trip is divided between its two ways."""
    sent = 1e6
    began = sent + there + offset
    answered = Answer("h", 1, "3.11.0", "1", {}, "", "", began, began + held)
    trip = Trip(sent, sent + there + held + back, answered)
    assert abs(trip.ahead - offset) <= trip.doubt + 1e-6
    assert trip.doubt == pytest.approx((there + back) / 2, abs=1e-6)


# -- the store


def test_a_store_that_is_well(place):
    """It is tried and stays as it was; one that is not there is not made."""
    [line] = told("store")
    assert (line.state, "to be made by the first run" in line.text) == (OK, True)
    assert list(place.iterdir()) == []
    (place / "store").mkdir(mode=0o700)
    [line] = told("store")
    assert line.state == OK
    assert list(place.iterdir()) == [place / "store"]
    assert list((place / "store").iterdir()) == []


def test_a_store_of_another_version(place):
    """The sentence of the store."""
    folder = place / "store"
    folder.mkdir()
    connection = sqlite3.connect(folder / "pipedeco.db")
    connection.execute("pragma application_id = 1885958245")
    connection.execute("pragma user_version = 999")
    connection.execute("create table t (x)")
    connection.close()
    [line] = told("store")
    assert (line.state, "newer pipedeco (schema 999" in line.text) == (ERROR, True)


def test_a_store_that_somebody_holds(place, monkeypatch):
    """After a while that is said."""
    monkeypatch.setattr("pipedeco.doctoring.store.BUSY", 50)
    connect(str(place / "store")).close()
    other = sqlite3.connect(place / "store" / "pipedeco.db", isolation_level=None)
    other.execute("begin exclusive")
    try:
        [line] = told("store")
    finally:
        other.close()
    assert (line.state, "see who writes there" in line.advice) == (ERROR, True)
    [line] = told("store")
    assert (line.state, f", schema {VERSION}, 0 runs, can be written" in line.text) == (OK, True)


def test_a_store_that_cannot_be_made(place):
    """The workers' line says why nothing was tried there."""
    (place / "store").write_text("a file")
    lines = list(examine())
    assert [line.what for line in lines if line.state == ERROR] == ["store", "workers"]


def test_a_store_that_others_can_write(place):
    """Whoever writes there has us run it."""
    (place / "store").mkdir()
    (place / "store").chmod(0o777)
    lines = told("store")
    assert [line.state for line in lines] == [OK, WARNING]
    assert "chmod go-rwx" in lines[1].advice


MOUNTS = """\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
40 22 0:35 / /home rw,nosuid shared:1 - nfs4 server:/home rw
41 22 0:36 / /home rw - tmpfs none rw
42 22 0:37 / /data\\040here rw - cifs //s/d rw
short
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [("/etc", "ext4"), ("/home/me", "tmpfs"), ("/homes", "ext4"), ("/data here/x", "cifs")],
)
def test_the_file_system_of_a_folder(tmp_path, folder, kind):
    """The innermost mount counts, and of two in one place the later one."""
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    assert find_mount(folder, str(mounts)).kind == kind
    assert find_mount(folder, str(tmp_path / "none")).kind == ""


# -- tools


def test_environments_are_counted(tmp_path, monkeypatch):
    """Those that are whole; a builder that was killed has left the other."""
    monkeypatch.setenv("PIPEDECO_ENVIRONMENTS", str(tmp_path))
    for name, mark in (("one", MARK), ("two", "half")):
        (tmp_path / name).mkdir()
        (tmp_path / name / mark).touch()
    [uv] = [line for line in look_at_tools() if line.what == "uv"]
    assert f", 1 environment of steps in {tmp_path}, each kept 30 days after its use" in uv.text


# -- the command


def start(folder, *arguments, **variables):
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PIPEDECO_Q")}
    kept |= {"PYTHONPATH": str(Path(__file__).parent), **variables}
    return subprocess.Popen(
        [COMMAND, "doctor", *arguments],
        cwd=folder, env=kept, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_the_command(place):
    """Everything that there is, in one call: a line each, and the exit code."""
    mine = place / "mine.py"
    mine.write_text("def refuses():\n    raise ConnectionRefusedError('no')\n")
    queues = {"default": "local://2", "bad": "executor://mine:refuses"}
    variables = {"PIPEDECO_QUEUES": json.dumps(queues), "PYTHONDONTWRITEBYTECODE": "1"}
    process = start(place, "--json", **variables)
    out, err = process.communicate(timeout=40)
    assert (process.returncode, err) == (1, "")
    report = json.loads(out)
    [bad] = [line for line in report["lines"] if line["what"] == "queue bad"]
    assert (bad["state"], "ConnectionRefusedError: no" in bad["text"]) == (ERROR, True)
    states = {line["what"]: line["state"] for line in report["lines"] if line != bad}
    assert set(states) >= {"python", "store", "workers", "queue default", "git", "uv", "extras"}
    assert ERROR not in states.values()
    local = next(line for line in report["lines"] if line["what"] == "queue default")
    assert "local://2 has 2 slots; 2 workers answered" in local["text"]
    assert not report["well"]
    assert list(place.iterdir()) == [mine]


def test_all_is_well(place):
    """And the exit code says so; no queue is no fault."""
    process = start(place)
    out, err = process.communicate(timeout=40)
    assert (process.returncode, err) == (0, ""), out
    assert "\nok      queues: none is configured" in out
    assert "error" not in out


def waits():
    """Tell that we are here, and be slow."""
    Path(os.environ["HERE"]).touch()
    time.sleep(30)


def test_ctrl_c(place):
    """It ends at once, though an engine is still being opened."""
    here = place / "here"
    process = start(
        place, PIPEDECO_QUEUES='{"default": "executor://test_doctor:waits"}', HERE=str(here)
    )
    wait_until(here.exists, timeout=30)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=15)
    assert process.returncode == 130
    assert "queue" not in out
    assert list(place.iterdir()) == [here]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "raise ValueError('no luck')",
            "error   callbacks: every run fails: the callback 'odd' of ",
        ),
        ("raise SystemExit(3)", "raised SystemExit: 3"),
        ("made = 3", "gave 3, which is no pipedeco.Callback"),
        (
            "from pipedeco.callbacks import Callback as made",
            "ok      callbacks: odd (tools), called for every run\n",
        ),
    ],
)
def test_callbacks_that_a_distribution_brings(place, code, said):
    """`check` knows of them, too."""
    site = place / "site"
    folder = site / "tools-1.0.dist-info"
    folder.mkdir(parents=True)
    (site / "brought.py").write_text(code)
    (folder / "entry_points.txt").write_text("[pipedeco.callbacks]\nodd = brought:made\n")
    (place / "app.py").write_text(
        "from pipedeco import pipeline\n\n@pipeline\ndef main():\n    return 1\n"
    )
    out, _ = start(place, PYTHONPATH=str(site)).communicate(timeout=40)
    assert said in out
    done = subprocess.run(
        [COMMAND, "check", "app.py"],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    well = said.startswith("ok")
    assert done.returncode == (0 if well else 1), done.stdout
    assert ("the callback 'odd' of the installed distribution tools" in done.stdout) is not well

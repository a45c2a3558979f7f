"""Runs whose values, code, words and logs go through an object store: moto's server speaks S3.

The store of a run is where workers need not see it; nothing of a run may be in its `remote` folder.
"""

import json
import marshal
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from faults.support import is_alive, wait_until

from pipedeco import configure, get_run
from pipedeco.blobs import BlobStore, home_of
from pipedeco.errors import BlobCorrupt, ConfigError, StoreError
from pipedeco.housekeeping import elsewhere, prune
from pipedeco.objects import ObjectFolder
from pipedeco.runners.exchange import ObjectExchange
from pipedeco.worker.batch import Batch
from pipedeco.worker.exchange import PART
from pipedeco.worker.messages import Decoder, encode
from pipedeco.worker.station import close_stations, perform_batch

from .conftest import Cluster, Proxy, free_port, said_in

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the census of processes reads /proc"),
    pytest.mark.timeout(120),
]
DEADLINE = 60.0
LOCAL = {"PIPEDECO_MODE": "remote", "PIPEDECO_QUEUES": json.dumps({"default": "local://2"})}

STEPS = """
import sys
import numpy as np
from pipedeco import component, log_artifact, pipeline

@component
def make(like) -> tuple[np.ndarray, str]:
    print("made", flush=True)
    return np.arange(like.size), "small"

@component(cache=True)
def total(array, k):
    print(f"total {k}", file=sys.stderr, flush=True)
    log_artifact("part", array[:20_000])
    return {"sum": int(array.sum()) + k, "array": array[k:]}

@pipeline
def main(n):
    array, _ = make(np.zeros(n))
    found = [total(array, k) for k in range(3)]
    return sum(part["sum"] for part in found) + int(found[2]["array"][0])
"""
N = 50_000
EXPECTED = str(3 * (N * (N - 1) // 2) + 3 + 2)
CALL = f"\nprint(main({N}))\n"


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """The environment of whoever uses a bucket of moto's server, which is this process's, too."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    words = tmp_path_factory.mktemp("moto") / "log"
    log = words.open("wb")
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        [port] = said_in(words, r"Running on http://127\.0\.0\.1:(\d+)\s", "moto's server")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", "a")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "b")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
            import fsspec

            fsspec.filesystem("s3").mkdir("bucket")
            yield "s3://bucket/team"
    finally:
        server.kill()
        server.wait(5)
        log.close()


@pytest.fixture(scope="module")
def dask(s3, tmp_path_factory):
    """A cluster whose workers know how to reach the bucket."""
    cluster = Cluster(tmp_path_factory.mktemp("dask"))
    yield cluster
    cluster.close()


@pytest.fixture
def blobs(lab, s3, monkeypatch):
    """A URL of this test's own, which this process uses, too."""
    url = f"{s3}/{lab.marker}"
    monkeypatch.setenv("PIPEDECO_BLOBS", url)
    yield url
    configure(blobs=None)


@pytest.fixture
def proxy(blobs):
    """The way to the object store, which can be shut."""
    found = Proxy(int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]))
    yield found
    found.close()


def through(proxy, blobs):
    """The variables of who takes that way, and is not patient."""
    way = f"http://127.0.0.1:{proxy.port}"
    return {**LOCAL, "PIPEDECO_BLOBS": blobs, "AWS_ENDPOINT_URL": way, "AWS_MAX_ATTEMPTS": "1"}


def home(lab):
    found = home_of(str(lab.store))
    assert found is not None
    return found


def left(lab):
    """What there is of the store in the object store."""
    return {name for name in home(lab).names() if name not in ("blobs", "code", "owner")}


def assert_exchanged(lab):
    """Nothing was left for workers in the store's own folder, nor in the other one afterwards."""
    remote = lab.store / "remote"
    assert [entry.name for entry in remote.iterdir()] == ["code"]
    assert left(lab) == set()


def run_main(lab, url, **variables):
    lab.write("steps.py", STEPS)
    lab.write("script.py", "from steps import main\n" + CALL)
    command = [sys.executable, "script.py"]
    done = lab.command(command, **{**variables, "PIPEDECO_BLOBS": url}).finish(DEADLINE)
    assert done.code == 0, done.err
    assert done.out.splitlines() == ["made", EXPECTED]
    return done


def test_a_run(lab, dask, blobs):
    """Large arguments, values, parts of values, artifacts and logs go through the bucket alone."""
    done = run_main(lab, blobs, **dask.variables())
    assert sorted(done.err.splitlines()) == ["total 0", "total 1", "total 2"]
    assert_exchanged(lab)
    run = lab.latest()
    assert run.logs("make") == "made\n"
    here = {path.name for path in (lab.store / "blobs").glob("*/*")}
    there = set(home(lab).names("blobs"))
    assert (
        len(here) == 4
    )  # the argument, which was made here, and the values that the body has read
    assert len(there) == 6  # the same, the value that nobody has read, and an artifact
    assert here < there
    assert run.steps["total"].result()["array"].size == N
    assert run.steps["total"].artifacts["part"].load().size == 20_000


def test_a_folder_by_its_url(lab, tmp_path):
    """Whatever fsspec knows will do; here it is a folder."""
    run_main(lab, f"file://{tmp_path}/team", **LOCAL)
    [store] = (tmp_path / "team").iterdir()
    assert sorted(entry.name for entry in store.iterdir()) == [".writing", "blobs", "code", "owner"]
    assert not list((store / ".writing").iterdir())


def test_a_cached_value_is_where_it_is(lab, blobs):
    """A hit in remote mode fetches nothing that nobody reads; local mode fetches what it needs."""
    run_main(lab, blobs, **LOCAL)
    for path in (lab.store / "blobs").glob("*/*"):
        path.unlink()
    code = f"from steps import main\nprint(main({N}))\n"
    lab.write("again.py", code)
    for mode in ("remote", "local"):
        variables = {**LOCAL, "PIPEDECO_MODE": mode, "PIPEDECO_BLOBS": blobs}
        done = lab.command([sys.executable, "again.py"], **variables).finish(DEADLINE)
        assert done.out.splitlines() == ["made", EXPECTED], done.err
        states = {name: step.state for name, step in lab.latest().steps.items()}
        assert set(states.values()) == {"completed", "cached"}, states


def tear(path):
    path.write_bytes(path.read_bytes()[:1000])


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [tear, flip, os.unlink])
def test_a_damaged_copy_is_fetched_again(tmp_path, damage):
    """What the object store has is what was written; where it has it no more, that is told."""
    origin = ObjectFolder(f"file://{tmp_path}/there")
    store = BlobStore(str(tmp_path / "here"), lambda: origin)
    digest = store.put([b"a" * 70_000])
    path = tmp_path / "here" / digest[:2] / digest
    store.send(digest)
    damage(path)
    assert store.get(digest, verify=True)[0] == b"a" * 70_000
    assert store.is_intact(digest)
    damage(path)
    origin.remove([digest])
    with pytest.raises(BlobCorrupt):
        store.get(digest, verify=True)


def test_logs_arrive_while_a_step_runs(lab, dask, blobs):
    """What a step has written is here before it ends."""
    job = lab.start(
        f"""
        @component
        def speak():
            print("I speak", flush=True)
            wait_for({str(lab.folder / "heard")!r})
            print("I have spoken", flush=True)

        @pipeline
        def main():
            return speak()

        main()
        """,
        **dask.variables(),
        PIPEDECO_BLOBS=blobs,
    )
    wait_until(lambda: "I speak" in job.out() or job.process.poll() is not None, DEADLINE)
    (lab.folder / "heard").touch()
    done = job.finish(DEADLINE)
    assert done.out == "I speak\nI have spoken\n"
    assert lab.latest().logs("speak") == done.out


def test_a_lot_of_output(lab, blobs):
    """Logs of more than a part arrive whole, and in order."""
    source = """
    @component
    def speak():
        print("\\n".join(f"{n:08}" for n in range(1_500_000)))

    @pipeline
    def main():
        return speak()

    main()
    """
    job = lab.start(source, **LOCAL, PIPEDECO_BLOBS=blobs)
    lines = job.finish(DEADLINE).out.splitlines()
    assert lines == [f"{n:08}" for n in range(1_500_000)]


HOLD = """
@component(retries={retries})
def stay():
    try:
        Path({folder!r}, f"began-{{os.getpid()}}").touch()
        wait_for({gate!r}, 60)
        print("I stayed")
        return 1
    finally:
        Path({folder!r}, "ended").touch()

@component
def before():
    return 1

@pipeline
def main():
    return before().result() + stay()  # one has ended when the other begins
"""


def held(lab, retries=0):
    return HOLD.format(retries=retries, folder=str(lab.folder), gate=str(lab.folder / "gate"))


def children(lab):
    return [int(path.name.rpartition("-")[2]) for path in lab.folder.glob("began-*")]


def test_ctrl_c_stops_what_runs(lab, dask, blobs):
    """The step's `finally` runs, and nothing of the run is left in the object store."""
    job = lab.start(held(lab) + "\nmain()\n", **dask.variables(), PIPEDECO_BLOBS=blobs)
    wait_until(lambda: children(lab), DEADLINE)
    job.process.send_signal(signal.SIGINT)
    done = job.finish()
    assert "KeyboardInterrupt" in done.err
    assert (lab.folder / "ended").exists()
    assert lab.latest().steps["stay"].state == "cancelled"
    assert_exchanged(lab)


def test_a_killed_controller(lab, dask, blobs):
    """Who resumes the run ends what goes on for it, and performs that again."""
    job = lab.start(held(lab) + "\nmain()\n", **dask.variables(), PIPEDECO_BLOBS=blobs)
    wait_until(lambda: children(lab), DEADLINE)
    [child] = children(lab)
    lab.wait_recorded()
    job.kill()
    run = lab.latest()
    assert run.status == "interrupted"
    resume = [sys.executable, "-m", "pipedeco", "resume", run.id]
    again = lab.command(resume, **dask.variables(), PIPEDECO_BLOBS=blobs)
    wait_until(lambda: len(children(lab)) == 2, DEADLINE, "another attempt")
    wait_until(lambda: not is_alive(child), DEADLINE, "the former child ends")
    (lab.folder / "gate").touch()
    assert again.finish(DEADLINE).code == 0
    steps = get_run(run.id, store=str(lab.store)).steps
    assert {step.state for step in steps.values()} == {"completed"}
    assert_exchanged(lab)


def test_doctor(lab, dask, blobs):
    """The object store has a line of its own, and workers are asked to use it; nothing stays there."""
    command = [sys.executable, "-m", "pipedeco", "doctor"]
    done = lab.command(command, **dask.variables(), PIPEDECO_BLOBS=blobs).finish(DEADLINE)
    assert done.code == 0, done.out
    assert f"{blobs} can be written and read" in done.out
    assert "2 workers answered" in done.out
    assert ObjectFolder(blobs).names() == []
    store = lab.folder / "store"
    assert not store.exists()


def test_doctor_of_a_url_that_cannot_be_used(lab):
    """The line says why, and the command fails."""
    variables = {**LOCAL, "PIPEDECO_BLOBS": "nothing://bucket"}
    command = [sys.executable, "-m", "pipedeco", "doctor"]
    done = lab.command(command, **variables).finish(DEADLINE)
    assert done.code == 1
    assert "nothing://bucket/doctor-" in done.out
    assert "no URL that fsspec knows" in done.out


def test_removal(lab, blobs, monkeypatch):
    """With a run goes what it had elsewhere, once that is old, and what a killed controller left."""
    run_main(lab, blobs, **LOCAL)
    folder = home(lab)
    values = folder.names("blobs")
    folder.put("0123456789ab-01234567/setting", b"of a run whose controller was killed")
    ObjectFolder(blobs).put("neighbour/blobs/a", b"of another store")
    prune(keep_last=0, store=str(lab.store))
    assert left(lab) == set()
    assert folder.names("blobs") == values
    monkeypatch.setattr(elsewhere, "OLD", -1.0)
    copy = lab.folder / "copy"
    shutil.copytree(lab.store, copy)
    prune(keep_last=0, store=str(copy))
    assert folder.names("blobs") == values
    prune(keep_last=0, store=str(lab.store))
    assert folder.names() == ["owner"]
    assert ObjectFolder(blobs).read("neighbour/blobs/a") == b"of another store"


def test_a_store_without_its_name(lab, blobs):
    """Half a name would be the folder of all stores."""
    lab.store.mkdir()
    (lab.store / "id").write_text("")
    with pytest.raises(StoreError, match="is damaged, which names the store's folder"):
        home(lab)


def test_values_are_found_without_the_setting(lab, blobs, monkeypatch):
    """The store knows where its values are."""
    run_main(lab, blobs, **LOCAL)
    monkeypatch.delenv("PIPEDECO_BLOBS")
    assert lab.latest().steps["make"].result()[0].size == N


def test_without_the_setting_runs_use_the_folder_again(lab, blobs):
    """And have there what was sent elsewhere before; nothing more is sent."""
    run_main(lab, blobs, **LOCAL)
    there = home(lab).names("blobs")
    for path in (lab.store / "blobs").glob("*/*"):
        path.unlink()
    lab.write("again.py", f"from steps import main\nprint(main({N}))\nmain({N + 1})\n")
    done = lab.command([sys.executable, "again.py"], **LOCAL).finish(DEADLINE)
    assert done.out.splitlines() == ["made", EXPECTED, "made"], done.err
    known = get_run("main#2", store=str(lab.store))
    assert {step.state for step in known.steps.values()} == {"completed", "cached"}
    assert home(lab).names("blobs") == there


OUT_OF_REACH = """
try:
    main()
except Exception as error:
    print(type(error).__name__, error)
"""


def test_an_object_store_out_of_reach(lab, blobs):
    """The steps fail with the URL and what to do, the run ends, and nothing hangs."""
    source = held(lab) + OUT_OF_REACH
    gone = f"http://127.0.0.1:{free_port()}"
    variables = {
        **LOCAL,
        "PIPEDECO_BLOBS": blobs,
        "AWS_ENDPOINT_URL": gone,
        "AWS_MAX_ATTEMPTS": "1",
    }
    done = lab.start(source, **variables).finish(DEADLINE)
    assert "StoreError" in done.out, done.err
    assert f"{blobs}/" in done.out
    assert gone in done.out
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) < 15


def test_an_object_store_that_is_away_for_a_while(lab, blobs, proxy):
    """A step ends meanwhile; its value, its logs and its end arrive when the store is back."""
    job = lab.start(held(lab) + "\nprint(main())\n", **through(proxy, blobs))
    wait_until(lambda: children(lab), DEADLINE)
    proxy.shut_for_a_while()
    wait_until(lambda: proxy.refused, DEADLINE, "somebody asks in vain")
    (lab.folder / "gate").touch()
    wait_until((lab.folder / "ended").exists, DEADLINE)
    before = proxy.refused
    wait_until(lambda: proxy.refused > before + 3, DEADLINE, "they ask again and again")
    proxy.shut = False
    done = job.finish(DEADLINE)
    assert (done.code, done.out.splitlines()) == (0, ["I stayed", "2"]), done.err
    assert_exchanged(lab)


def test_a_log_that_cannot_be_written_costs_no_outcome(tmp_path, caplog):
    """Where the controller's disk is full, say."""
    heard = []
    (tmp_path / "logs").write_text("no folder")
    facts = SimpleNamespace(
        id="r1",
        log_prefix="",
        logs=str(tmp_path / "logs"),
        blobs=BlobStore(str(tmp_path / "blobs")),
    )
    home = ObjectFolder(f"file://{tmp_path}/home")
    exchange = ObjectExchange(
        facts, str(tmp_path), home, lambda f, *args: f(*args), lambda _, told: heard.extend(told)
    )
    told = encode((PART, "w1", "out", 0, b"text")) + encode(("outcome", 1))
    over = threading.Event()
    exchange.rest("b1", told, lambda _: over.set())
    assert over.wait(DEADLINE)
    assert heard == [("outcome", 1)]
    assert "a part of a log of run r1 is lost" in caplog.text
    exchange.close(lambda: None)


def test_ctrl_c_while_the_object_store_is_away(lab, blobs, proxy):
    """The run ends in time all the same, and its step with it."""
    job = lab.start(held(lab) + "\nmain()\n", **through(proxy, blobs))
    wait_until(lambda: children(lab), DEADLINE)
    [child] = children(lab)
    proxy.shut_for_a_while()
    wait_until(lambda: proxy.refused, DEADLINE, "somebody asks in vain")
    begin = time.monotonic()
    job.process.send_signal(signal.SIGINT)
    done = job.finish(DEADLINE)
    assert time.monotonic() - begin < 40
    assert "KeyboardInterrupt" in done.err
    assert lab.latest().status == "cancelled"
    wait_until(lambda: not is_alive(child), DEADLINE, "the step ends")


def test_check_knows_a_url_that_cannot_be_used(lab):
    """Before the run, as all its steps would fail."""
    lab.write("script.py", STEPS)
    command = [sys.executable, "-m", "pipedeco", "check", "script.py", "--mode", "remote"]
    for url in ("nothing://bucket", "bucket/team"):
        done = lab.command(command, **{**LOCAL, "PIPEDECO_BLOBS": url}).finish(DEADLINE)
        assert done.code == 1, done.out
        assert url in done.out


def test_a_worker_that_does_not_reach_it(s3):
    """Its first step says so, with the worker's host."""
    call = (5, 1, None, None, 1, 1)
    batch = Batch(f"{s3}/nobody/run-1", "b1", "nursery", [], [], [], [call], {}, fresh=False)
    try:
        [told] = Decoder().feed(perform_batch(marshal.dumps(tuple(batch))))
    finally:
        close_stations()
    _, (_, state, *_, error, _, _), _ = told
    assert state == "failed"
    assert error[0].endswith("StoreError")
    assert f"on {os.uname().nodename} cannot read {s3}/nobody/run-1/setting" in error[1]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("bucket/team", "is the URL of a folder"),
        ("file://mnt/team", "say where it is, as in 'file:///mnt/team'"),
        ("memory://team", "is seen by one process alone"),
        ("s3://key:secret@bucket/team", "no options and no password"),
        ("s3://bucket/team?key=a", "no options and no password"),
    ],
)
def test_urls_that_are_refused(url, said):
    """What carries secrets would be recorded and shown."""
    with pytest.raises(ConfigError, match=said):
        configure(blobs=url)


def test_protocols_that_nobody_knows():
    """The sentence tells what to install."""
    with pytest.raises(ConfigError, match="no URL that fsspec knows"):
        ObjectFolder("nothing://bucket").names()
    with pytest.raises(ConfigError, match="pip install fsspec gcsfs"):
        ObjectFolder("gs://bucket").names()


def test_no_bucket(s3):
    """It is not ours to make."""
    with pytest.raises(StoreError, match="s3://nobody-has-it/x/a cannot be written"):
        ObjectFolder("s3://nobody-has-it/x").put("a", b"1")


@pytest.mark.parametrize("kind", ["s3", "file", "memory"])
def test_objects(kind, s3, tmp_path):
    """One behaviour on every file system: whole objects, exclusive creation, no error for removal."""
    urls = {"s3": f"{s3}/objects", "file": f"file://{tmp_path}/a/b", "memory": "memory://m"}
    folder = ObjectFolder(urls[kind])
    assert folder.names() == []
    assert folder.size("x/y") is None
    folder.put("x/y", b"first")
    folder.put("x/y", b"second")
    assert folder.read("x/y") == b"second"
    assert folder.read("x/y", 1, 3) == b"ec"
    assert folder.size("x/y") == 6
    assert folder.claim("x/z")
    assert not folder.claim("x/z")
    assert folder.claim("new/z")
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"of a file")
    folder.put_file("x/file", str(source))
    folder.fetch("x/file", str(target))
    assert target.read_bytes() == b"of a file"
    assert folder.names() == ["new", "x"]
    assert folder.names("x") == ["file", "y", "z"]
    folder.remove(["x", "nothing"])
    assert folder.names() == ["new"]
    for read in (lambda: folder.read("x/y"), lambda: folder.fetch("x/y", str(target))):
        with pytest.raises(FileNotFoundError):
            read()

"""A project on a Ray cluster whose workers have Python and pipedeco, and nothing else."""

from __future__ import annotations

import contextlib
import socket
import sys
import time

import pytest
from faults.support import is_alive, wait_until

from pipedeco.engines import open_engine
from pipedeco.errors import ConfigError, EngineLost

from .conftest import RayHead, command_of
from .test_dask import CALL, EXPECTED, FAULT, HELPER, STEPS, parent, station_of

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the census of processes reads /proc"),
    pytest.mark.timeout(240),
]
DEADLINE = 120.0  # a client of Ray takes ten seconds to be served, and more on a busy machine


# -- URLs


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ray://h:1?color=red", "has no option 'color'"),
        ("ray://h:1?workers=2", "is for a cluster of our own"),
        ("ray://h:x", "is to name a host and a port"),
        ("ray://h:99999", "is to name a host and a port"),
        ("ray://h:1/", "with nothing behind"),
        ("ray://auto?num_gpus=some", "num_gpus is a number or a size such as 8GB, not 'some'"),
        ("ray://auto?resources=GPU", "written as GPU:1"),
        ("ray://?workers=0", "1 or more"),
    ],
)
def test_a_wrong_url_is_refused(url, said):
    """Before anything is started."""
    with pytest.raises(ConfigError, match=said):
        open_engine(url)


def test_nobody_listens():
    """Told at once, though Ray itself would try for minutes."""
    with pytest.raises(EngineLost, match=r"ray://127.0.0.1:9 cannot be reached.*ray start --head"):
        open_engine("ray://127.0.0.1:9")


def test_a_cluster_that_does_not_answer(monkeypatch):
    """Somebody listens there who is not Ray."""
    monkeypatch.setattr("pipedeco.engines.ray_bridge.START", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(EngineLost, match="cannot be reached: Ray does not answer"):
            open_engine(f"ray://127.0.0.1:{port}")


# -- runs


def test_projects_queues_and_faults(lab, ray):
    """In one process, as each client costs seconds: the code travels, three engines serve one run,
    a killed worker is WorkerDied and the next attempt has the value, resources are Ray's."""
    lab.write("parts.py", HELPER)
    lab.write(
        "script.py",
        "from parts import helper\n"
        + STEPS
        + """
@component(queue="other")
def there():
    import os
    return os.getppid()


@component(resources={"CPU": 2, "memory": "100MB"})
def greedy():
    import os
    return os.getppid()


@component(retries=1)
def dies(tried):
    import os, signal
    with open(tried, "a") as file:
        file.write("x")
    if open(tried).read() == "x":
        with open(f"/proc/{os.getppid()}/stat") as file:
            os.kill(int(file.read().rpartition(")")[2].split()[1]), signal.SIGKILL)
        signal.pause()
    return "alive"


@pipeline
def wide(tried):
    one, two, three = greedy(), there(), dies(tried)
    return value([one != two, three])


if __name__ == "__main__":
    import sys
"""
        + "\n".join("    " + line for line in CALL.splitlines())
        + """
    run = wide.start(sys.argv[1])
    print(*run.result(), [a.error and a.error.split(":")[0] for a in run.steps["dies"].attempts])
""",
    )
    job = lab.command(
        [sys.executable, "script.py", str(lab.folder / "tried")], **ray.variables(other="local://1")
    )
    done = job.finish(DEADLINE)
    assert done.code == 0, done.err
    died = ["pipedeco.errors.WorkerDied", None]
    assert done.out.splitlines() == [EXPECTED, f"True alive {died}"]
    assert done.err == ""


@pytest.fixture
def own_ray(tmp_path):
    """A head of the test's own, which it may break."""
    folder = tmp_path / "ray"
    folder.mkdir()
    head = RayHead(folder)
    yield head
    with contextlib.suppress(ProcessLookupError):
        head.kill()


def test_a_killed_head(lab, own_ray):
    """What is in flight ends as EngineLost within 30 s; what had ended stays, and is not done
    again when the run is resumed elsewhere; nobody is left of the cluster's steps."""
    source = FAULT.format(retries=0, folder=str(lab.folder), gate=str(lab.folder / "gate"))
    source = source.partition("    try:")[0] + "    return value([held, others])\n"
    job = lab.start(source + "\nif __name__ == '__main__':\n    main()\n", **own_ray.variables())
    child = station_of(lab)
    assert "ray::" in command_of(parent(parent(parent(child))))  # nursery, guard
    wait_until(lambda: others(lab.latest()) == ["completed"] * 20, DEADLINE, "the others' end")
    begin = time.monotonic()
    own_ray.kill()
    done = job.finish(60.0)
    assert time.monotonic() - begin < 30
    assert "EngineLost" in done.err
    wait_until(lambda: not is_alive(child), what="the step ends with the cluster")
    run = lab.latest()
    assert others(run) == ["completed"] * 20
    (lab.folder / "gate").touch()
    resumed = lab.command(
        [sys.executable, "-m", "pipedeco", "resume", run.id],
        PIPEDECO_QUEUES='{"default": "local://1"}',
    ).finish(DEADLINE)
    assert resumed.code == 0, resumed.err
    assert lab.latest().status == "completed"


def others(run):
    return [step.state for name, step in run.steps.items() if name != "stay"]


def test_a_cluster_of_our_own(lab):
    """`ray://` needs nothing that runs; a killed controller takes the cluster with it."""
    job = lab.start(
        f"""
        @component
        def place():
            return os.getpid()

        @component
        def stay(folder):
            Path(folder, "began").touch()
            wait_for(folder + "/gate", 60)

        @pipeline
        def main():
            place().result()
            stay({str(lab.folder)!r})

        main()
        """,
        PIPEDECO_MODE="remote",
        PIPEDECO_QUEUES='{"default": "ray://?workers=1"}',
        HOME=str(lab.folder),
    )
    job.note("began", DEADLINE)
    job.kill()
    lab.assert_empty(30.0)
    assert not (lab.folder / ".ray").exists()

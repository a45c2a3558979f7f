"""A project on a Dask cluster whose workers have Python and pipedeco, and nothing else."""

import json
import marshal
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults.support import is_alive, wait_until

from pipedeco.doctoring import ERROR
from pipedeco.doctoring.queues import visit_queues
from pipedeco.doctoring.scratch import Scratch
from pipedeco.engines import open_engine
from pipedeco.engines.dask import SILENCE
from pipedeco.errors import ConfigError, EngineLost
from pipedeco.worker.batch import Batch
from pipedeco.worker.messages import Decoder
from pipedeco.worker.station import close_stations, perform_batch

from .conftest import Cluster, Proxy

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the census of processes reads /proc"),
    pytest.mark.timeout(120),
]
DEADLINE = 60.0  # a cluster's workers import much at their first task

STEPS = """
from pipedeco import component, pipeline, value


@component
def scaled(n):
    return helper(n)


@component
def place():
    import os
    return os.getcwd()


@pipeline
def main(n):
    return [scaled(n), place()]
"""
HELPER = "def helper(n):\n    return n * 3\n"
CALL = """
import os
number, where = main(7)
print("RESULT", number, where != os.getcwd())
"""
EXPECTED = "RESULT 21 True"


def check(lab, dask, *command, expected=EXPECTED, **more):
    done = lab.command([sys.executable, *command], **dask.variables(), **more).finish(DEADLINE)
    assert done.code == 0, done.err
    assert done.out.splitlines() == [expected]
    assert done.err == ""


def git(lab, *arguments):
    subprocess.run(["git", *arguments], cwd=lab.folder, check=True, capture_output=True)


# -- the project's code travels ------------------------------------------------------------------


def test_a_script(lab, dask):
    """One file without a main guard."""
    lab.write("script.py", HELPER + STEPS + CALL)
    check(lab, dask, "script.py")


def test_a_helper_beside_the_script(lab, dask):
    """A module that is imported from the script's folder."""
    lab.write("bin/parts.py", HELPER)
    lab.write("bin/script.py", "from parts import helper\n" + STEPS + CALL)
    # Its working directory is no part of the project, and is there on the workers' side, too.
    check(lab, dask, "bin/script.py", expected="RESULT 21 False")


def test_a_package_run_by_dash_m(lab, dask):
    """Relative imports in `__main__`, and modules by their real names."""
    lab.write("pkg/__init__.py", "")
    lab.write("pkg/parts.py", HELPER)
    lab.write("pkg/steps.py", "from .parts import helper\n" + STEPS)
    lab.write("pkg/app.py", "from .steps import main\n" + CALL)
    lab.write("pyproject.toml", "[project]\nname = 'p'\n")
    check(lab, dask, "-m", "pkg.app")


def test_what_git_does_not_track_travels_and_what_it_ignores_does_not(lab, dask):
    """An untracked module is found; an ignored one is missed, by its name."""
    git(lab, "init", "-q")
    lab.write(".gitignore", "secret.py\n")
    lab.write("parts.py", HELPER)
    lab.write("secret.py", "KEY = 1\n")
    lab.write("steps.py", "from parts import helper\n" + STEPS)
    lab.write("script.py", "from steps import main\n" + CALL)
    check(lab, dask, "script.py")
    lab.write("steps.py", "from parts import helper\nimport secret\n" + STEPS)
    done = lab.command([sys.executable, "script.py"], **dask.variables()).finish(DEADLINE)
    assert "ModuleNotFoundError: No module named 'secret'" in done.err


def test_changed_code_is_what_runs(lab, dask):
    """The next run has the code as it is then, and data files with it."""
    lab.write("pyproject.toml", "[project]\nname = 'p'\n")
    lab.write("factor.txt", "3")
    helper = "def helper(n):\n    return n * int(open('factor.txt').read())\n"
    lab.write("parts.py", helper)
    lab.write("script.py", "from parts import helper\n" + STEPS + CALL)
    check(lab, dask, "script.py")
    lab.write("factor.txt", "5")
    check(lab, dask, "script.py", expected="RESULT 35 True")


def test_code_over_the_limit(lab, dask):
    """The sentence names the largest files and the setting."""
    lab.write("pyproject.toml", "[tool.pipedeco]\ncode_limit = 1\n")
    (lab.folder / "big.bin").write_bytes(bytes(2 << 20))
    lab.write("script.py", HELPER + STEPS + CALL)
    done = lab.command([sys.executable, "script.py"], **dask.variables()).finish(DEADLINE)
    assert done.code == 1
    assert "big.bin (2.0 MiB)" in done.err
    assert "code_limit" in done.err


# -- before a run --------------------------------------------------------------------------------


def command(lab, dask, *words, **queues):
    script = str(Path(sys.executable).with_name("pipedeco"))
    return lab.command([sys.executable, script, *words], **dask.variables(**queues)).finish(
        DEADLINE
    )


def test_doctor(lab, dask):
    """Both workers answer, and one performs a step."""
    done = command(lab, dask, "doctor")
    assert (done.code, done.err) == (0, ""), done.out
    [line] = [line for line in done.out.splitlines() if "queue default" in line]
    assert line.startswith(
        f"ok      queue default: {dask.url} has 2 slots; 2 workers answered, on "
    )


def test_doctor_of_a_queue_that_asks_for_what_nobody_has(dask, tmp_path, monkeypatch):
    """It says what, and does not speak of logs and of other work."""
    monkeypatch.setattr("pipedeco.doctoring.queues.ANSWERING", 0.3)
    monkeypatch.setenv("PIPEDECO_QUEUES", f'{{"gpu": "{dask.url}?resources=GPU:1"}}')
    with Scratch(str(tmp_path / "store")) as scratch:
        [line] = visit_queues(scratch)
    assert (line.what, line.state) == ("queue gpu", ERROR)
    assert line.text.endswith("?resources=GPU:1 has GPU: 1 (the most that one has: GPU: 0)")


def test_doctor_of_a_dead_scheduler(tmp_path, monkeypatch):
    """It has its line."""
    monkeypatch.setattr("pipedeco.engines.dask.CONNECT", 0.5)
    monkeypatch.setenv("PIPEDECO_QUEUES", '{"dead": "dask://127.0.0.1:9"}')
    with Scratch(str(tmp_path / "store")) as scratch:
        [line] = visit_queues(scratch)
    assert (line.what, line.state) == ("queue dead", ERROR)
    assert "dask://127.0.0.1:9 cannot be reached" in line.text


def test_check_knows_what_a_run_would_miss(lab, dask):
    """The ignored module of the test above, before anything is sent."""
    git(lab, "init", "-q")
    lab.write(".gitignore", "secret.py\n")
    lab.write("parts.py", HELPER)
    lab.write("secret.py", "KEY = 1\n")
    lab.write("steps.py", "from parts import helper\nimport secret\n" + STEPS)
    lab.write("script.py", "from steps import main\n" + CALL)
    done = command(lab, dask, "check", "script.py")
    assert (done.code, done.err) == (1, "")
    assert "steps.py:2: error: component scaled, place: secret is ignored by git" in done.out
    lab.write(".gitignore", "")
    done = command(lab, dask, "check", "script.py")
    assert (done.code, done.err) == (0, ""), done.out


def test_a_store_that_the_workers_do_not_see(tmp_path):
    """The first step fails with what is to be done."""
    call = (5, 1, None, None, 1, 1)
    missing = str(tmp_path / "elsewhere")
    batch = Batch(missing, "b1", "nursery", [], [], [], [call], {}, fresh=False)
    try:
        [told] = Decoder().feed(perform_batch(marshal.dumps(tuple(batch))))
    finally:
        close_stations()
    kind, (number, state, *_, error, _, _), _ = told
    assert (kind, number, state) == ("outcome", 5, "failed")
    assert error[0].endswith("StoreError")
    assert "cannot read" in error[1]
    assert "PIPEDECO_STORE" in error[1]


def test_nobody_listens(monkeypatch):
    """An engine that is not there is lost, and the sentence says which."""
    monkeypatch.setattr("pipedeco.engines.dask.CONNECT", 0.5)
    with pytest.raises(EngineLost, match=r"dask://127.0.0.1:9 cannot be reached"):
        open_engine("dask://127.0.0.1:9")


def test_a_host_that_has_no_address():
    """That is known at once, and said."""
    with pytest.raises(EngineLost, match=r"dask://no-such.invalid:1 .*: no-such.invalid: "):
        open_engine("dask://no-such.invalid:1")


# -- while it runs -------------------------------------------------------------------------------


def test_logs_arrive_while_a_step_runs(lab, dask):
    """The controller shows what a step writes within three seconds."""
    job = lab.start(
        f"""
        @component
        def speak():
            print("I speak", flush=True)
            wait_for({str(lab.folder / "heard")!r})

        @pipeline
        def main():
            return speak()

        main()
        """,
        **dask.variables(),
    )
    wait_until(lambda: "I speak" in job.out() or job.process.poll() is not None, DEADLINE)
    (lab.folder / "heard").touch()
    assert job.finish(DEADLINE).code == 0


def test_ctrl_c_stops_what_runs(lab, dask):
    """The step's `finally` runs, and the call ends long before the step would."""
    began, ended = str(lab.folder / "began"), str(lab.folder / "ended")
    job = lab.start(
        f"""
        @component
        def hang():
            try:
                Path({began!r}).touch()
                time.sleep(60)
            finally:
                Path({ended!r}).touch()

        @pipeline
        def main():
            return hang()

        main()
        """,
        **dask.variables(),
    )
    job.note("began", DEADLINE)
    job.process.send_signal(signal.SIGINT)
    done = job.finish()
    assert "KeyboardInterrupt" in done.err
    assert (lab.folder / "ended").exists()


def test_a_timeout_kills_the_step(lab, dask):
    """Dask has no such thing; the station has."""
    done = lab.run(
        """
        @component(timeout=0.5)
        def hang():
            time.sleep(60)

        @pipeline
        def main():
            try:
                hang().result()
            except StepTimeout as error:
                return str(error)

        print(main())
        """,
        DEADLINE,
        **dask.variables(),
    )
    assert "timeout of 0.5 s" in done.out


def test_two_queues_in_one_run(lab, dask):
    """Each step goes where its component says."""
    done = lab.run(
        """
        @component
        def here():
            return os.getppid()

        @component(queue="other")
        def there():
            return os.getppid()

        @pipeline
        def main():
            return [here(), there()]

        a, b = main()
        print(a != b)
        """,
        DEADLINE,
        **dask.variables(other="local://1"),
    )
    assert done.out == "True\n"


# -- faults --------------------------------------------------------------------------------------

FAULT = """
@component(retries={retries})
def stay(n):
    Path({folder!r}, f"began-{{n}}-{{os.getpid()}}").touch()
    wait_for({gate!r}, 60)
    return n

@component
def quick(n):
    return n

@pipeline
def main():
    others = [quick(n) for n in range(20)]
    held = stay(1)
    try:
        return value([held, others])
    except StepFailed as error:
        tell(error)

run = main.start()
try:
    print(run.result()[0], flush=True)
except TypeError:
    pass
print([attempt.error for attempt in run.steps["stay"].attempts], flush=True)
"""


def state_of(lab, name):
    """The recorded state of a step; None while it is not recorded."""
    return {name: step.state for name, step in lab.latest().steps.items()}.get(name)


def station_of(lab):
    """The engine's worker below which `stay` runs: its child tells, by its parent's parent."""

    def found():
        return list(lab.folder.glob("began-1-*"))

    wait_until(found, DEADLINE, "stay has begun")
    lab.wait_recorded(DEADLINE)
    return int(found()[0].name.rpartition("-")[2])


def parent(pid):
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])


def test_what_waits_for_a_resource_holds_up_nobody_else(lab, tmp_path):
    """Each kind of step has its own place in the queue: here the other kind lets these end."""
    source = f"""
    @component(resources={{"GPU": 1}})
    def scarce(i):
        wait_for({str(lab.folder / "gate")!r}, 30)
        return i

    @component
    def plain():
        Path({str(lab.folder / "gate")!r}).touch()
        return 10

    @pipeline
    def main():
        return value([[scarce(i) for i in range(4)], plain()])

    print(main())
    """
    cluster = Cluster(tmp_path, resources="GPU=1")
    try:
        done = lab.start(source, **cluster.variables()).finish(DEADLINE)
        assert done.out.splitlines() == ["[[0, 1, 2, 3], 10]"], done.err
    finally:
        cluster.close()


def test_a_step_that_no_worker_can_begin_says_why(lab, dask):
    """The run goes on waiting, as a worker may come; Ctrl-C ends it."""
    job = lab.start(
        """
        import logging
        from pipedeco.runners import remote

        logging.basicConfig(level=logging.INFO, format="%(message)s")
        remote.PATIENCE = 0.2

        @component(resources={"GPU": 1, "memory": "8GB"})
        def train():
            return 1

        @pipeline
        def main():
            return train()

        main()
        """,
        **dask.variables(),
    )
    wait_until(lambda: " waits: " in job.err() or job.process.poll() is not None, DEADLINE)
    job.process.send_signal(signal.SIGINT)
    done = job.finish()
    assert (
        f"train waits: no worker of {dask.url} has GPU: 1, memory: 8,000,000,000 (the most that "
        "one has: GPU: 0, memory: 0)"
    ) in done.err.splitlines()
    assert "KeyboardInterrupt" in done.err


def test_a_killed_worker(lab, own_dask):
    """The attempt is WorkerDied, the next one has the value, and nobody is left of the first."""
    gate = str(lab.folder / "gate")
    source = FAULT.format(retries=1, folder=str(lab.folder), gate=gate)
    job = lab.start(source, **own_dask.variables())
    child = station_of(lab)
    wait_until(lambda: state_of(lab, "stay") == "running", DEADLINE)
    worker = parent(parent(parent(child)))  # nursery, guard
    [name] = [n for n, p in own_dask.processes.items() if p.pid == worker]
    own_dask.kill(name)
    wait_until(lambda: not is_alive(child), what="the child dies with the engine's worker")
    wait_until(lambda: len(list(lab.folder.glob("began-1-*"))) == 2, DEADLINE, "another attempt")
    (lab.folder / "gate").touch()
    done = job.finish(DEADLINE)
    lines = done.out.splitlines()
    assert lines[0] == "1"
    assert "WorkerDied" in lines[1]
    assert lines[1].endswith(", None]")
    lost = lab.latest().steps["stay"].attempts[0]
    assert lost.duration > 0
    assert str(worker) in lost.worker


def test_a_killed_scheduler(lab, own_dask):
    """What is in flight ends as EngineLost within 30 s; what had ended stays."""
    gate = str(lab.folder / "gate")
    source = FAULT.format(retries=0, folder=str(lab.folder), gate=gate)
    job = lab.start(source, **own_dask.variables())
    station_of(lab)
    wait_until(lambda: state_of(lab, "stay") == "running", DEADLINE)
    begin = time.monotonic()
    own_dask.kill("scheduler")
    done = job.finish(40.0)
    assert time.monotonic() - begin < 30
    assert "EngineLost" in done.out
    assert "distributed" not in done.err  # nor any traceback of its own
    run = lab.latest()
    assert run.steps["stay"].duration > 0
    assert {step.state for name, step in run.steps.items() if name != "stay"} == {"completed"}


def test_a_cut_network(lab, dask):
    """Nobody tells of it: the steps end as EngineLost within 30 s, and the run can be resumed.

    The script is less patient than a user's, by so much as is added to what it takes.
    """
    patience = 5.0
    proxy = Proxy(dask.port)
    try:
        source = FAULT.format(retries=0, folder=str(lab.folder), gate=str(lab.folder / "gate"))
        source = source.partition("    try:")[0] + "    return value([held, others])\n"
        source += "\nif __name__ == '__main__':\n    import pipedeco.engines.dask\n"
        source += f"    pipedeco.engines.dask.SILENCE = {patience}\n    main()\n"
        queues = json.dumps({"default": f"dask://127.0.0.1:{proxy.port}"})
        job = lab.start(source, PIPEDECO_MODE="remote", PIPEDECO_QUEUES=queues)
        child = station_of(lab)
        begin = time.monotonic()
        proxy.cut.set()
        done = job.finish(60.0)
        assert time.monotonic() - begin + SILENCE - patience < 30
        assert done.code == 1
        assert "EngineLost" in done.err
        wait_until(lambda: not is_alive(child), what="nobody waits for the step any more")
    finally:
        proxy.close()
    (lab.folder / "gate").touch()
    run = lab.latest()
    command = [sys.executable, "-m", "pipedeco", "resume", run.id]
    resumed = lab.command(command, **dask.variables()).finish(DEADLINE)
    assert resumed.code == 0, resumed.err
    assert lab.latest().status == "completed"


def test_tls(lab, tmp_path):
    """The client proves who it is, and the project runs as anywhere."""
    if shutil.which("openssl") is None:
        reason = "certificates are made by openssl: apt install openssl"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run(
        ["openssl", *made, "-keyout", key, "-out", cert], check=True, capture_output=True
    )
    (tmp_path / "dask").mkdir()
    cluster = Cluster(tmp_path / "dask", (cert, key))
    try:
        lab.write("app/script.py", HELPER + STEPS + CALL)
        check(lab, cluster, "app/script.py", expected="RESULT 21 False")
        with pytest.raises(EngineLost, match="cannot be reached"):
            open_engine(f"dask://127.0.0.1:{cluster.port}")
    finally:
        cluster.close()


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("tls_ca=a.pem", "all of tls_ca, tls_cert, tls_key"),
        ("tls_ca=/none&tls_cert=/none&tls_key=/none", "tls_ca names no file: /none"),
    ],
)
def test_half_of_tls_is_refused(query, said):
    """Before anybody is asked."""
    with pytest.raises(ConfigError, match=said):
        open_engine(f"dask://127.0.0.1:9?{query}")


OWN_CLUSTER = """
@component
def place():
    return os.getppid()

@component
def stay(folder):
    Path(folder, "began").touch()
    wait_for(folder + "/gate", 60)

@pipeline
def main():
    place().result()
    if sys.argv[1:]:
        stay(sys.argv[1])

main()
"""
ALONE = {"PIPEDECO_MODE": "remote", "PIPEDECO_QUEUES": '{"default": "dask://?workers=1"}'}


def test_a_cluster_of_our_own(lab):
    """`dask://` needs nothing that runs, writes nothing, and leaves nothing."""
    done = lab.run(OWN_CLUSTER, DEADLINE, **ALONE)
    assert (done.out, done.err) == ("", "")
    lab.assert_empty()


def test_a_cluster_of_our_own_whose_controller_is_killed(lab):
    """It ends with the step that goes on, and says nothing of it."""
    script = lab.write("script.py", OWN_CLUSTER, prelude=True)
    job = lab.command([sys.executable, str(script), str(lab.folder)], **ALONE)
    job.note("began", DEADLINE)
    job.kill()
    lab.assert_empty(20.0)
    assert job.finish().err == ""

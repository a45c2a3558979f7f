"""How workers begin and end: what is registered for the end runs, and a bad start is told."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

KEEPS = """
KEPT = dict()


@component(fresh_process={fresh})
def keep(folder):
    import atexit, gzip, multiprocessing.util, tempfile, weakref

    os.chdir(folder)
    KEPT["file"] = open("file", "w")
    KEPT["file"].write("held back")
    KEPT["zipped"] = gzip.open("zipped", "wt")
    KEPT["zipped"].write("held back")
    KEPT["folder"] = tempfile.TemporaryDirectory(dir=folder)
    KEPT["temporary"] = tempfile.NamedTemporaryFile(dir=folder)
    atexit.register(note, os.path.join(folder, "atexit"))
    KEPT["object"] = {{1}}
    weakref.finalize(KEPT["object"], note, os.path.join(folder, "finalized"))
    multiprocessing.util.Finalize(None, note, (os.path.join(folder, "mp"),), exitpriority=1)
    {more}


@pipeline({options})
def main():
    return value(keep(os.getcwd()))


if __name__ == "__main__":
    main()
"""

ENDS = {
    "nursery": ("mode='local'", False),
    "spawn": ("mode='local', start_method='spawn'", False),
    "remote": ("mode='remote'", False),
    "fresh process": ("mode='local'", True),
}


@pytest.mark.parametrize("way", ENDS)
def test_a_worker_ends_in_good_order(lab, way):
    """It runs what is registered for its end, and files that modules keep are whole."""
    options, fresh = ENDS[way]
    source = KEEPS.format(options=options, fresh=fresh, more="")
    lab.run(source, PIPEDECO_QUEUES='{"default": "local://1"}')
    assert (lab.folder / "file").read_text() == "held back"
    assert gzip.decompress((lab.folder / "zipped").read_bytes()) == b"held back"
    assert all((lab.folder / name).exists() for name in ("atexit", "finalized", "mp"))
    assert not list(lab.folder.glob("tmp*"))


def test_an_end_that_takes_too_long_is_cut_off(lab):
    """By the system, as what hangs may hold Python's lock."""
    more = "atexit.register(__import__('ctypes').PyDLL(None).sleep, 999)"
    lab.run(KEEPS.format(options="mode='local'", fresh=False, more=more))
    lab.assert_empty()


def test_what_the_script_registers_runs_in_it_alone(lab):
    """Once, and neither in the nursery nor in a worker."""
    lab.run("""
        import atexit


        @atexit.register
        def ended():
            with open("ended", "a") as file:
                file.write(f"{os.getpid()}\\n")


        @component
        def step():
            ended  # so that it stands in the worker's main, too
            return 1


        @pipeline(mode="local")
        def main():
            return step()


        main()
        note("pid", os.getpid())
        """)
    assert (lab.folder / "ended").read_text().split() == [(lab.folder / "pid").read_text()]


GONE = """
import tempfile


@component
def add(a):
    return a + 1


@pipeline(mode="local", workers=1)
def main():
    os.rmdir(folder)
    try:
        value(add(1))
    except FileNotFoundError as error:
        tell(error)
    os.mkdir(folder)
    return value(add(1))


before = len(os.listdir("/proc/self/fd"))
folder = tempfile.mkdtemp()
os.chdir(folder)
print(main(), folder)
"""


def test_a_working_directory_that_is_gone(lab):
    """The step says which, and steps begin again where it is there again."""
    said, end = lab.run(GONE).out.splitlines()
    two, folder = end.split()
    assert two == "2"
    assert said.startswith("FileNotFoundError: ")
    assert f"the working directory of run {lab.latest().id}, {folder}, cannot be entered" in said
    os.rmdir(folder)


STARTS = """
@component
def add(a):
    return a + 1


@pipeline(mode="local", workers=2)
def main():
    return add(1)


main.debug()
before = len(os.listdir("/proc/self/fd"))
for _ in range(2):
    try:
        main()
    except PipedecoError as error:
        tell(error)
print(len(os.listdir("/proc/self/fd")) - before < 20)
"""


@pytest.mark.parametrize("code", ["os._exit(3)", "os._exit(0)", "os.kill(os.getpid(), 9)"])
@pytest.mark.parametrize("who", ["nursery", "worker"])
def test_workers_that_die_as_they_start(lab, code, who):
    """After some of them the run says so, in this run and in the next; no descriptor stays."""
    depth = {"nursery": 0, "worker": 2}[who]  # forks: the first is that of the guard
    site = lab.write(
        "site/sitecustomize.py",
        f"""
        import os, sys


        def begin():
            forks.append(1)
            if len(forks) > {depth - 1}:
                {code}


        forks = []
        if any("pipedeco.worker.nursery" in word for word in sys.orig_argv):
            os.register_at_fork(after_in_child=begin)
            {"begin()" if depth == 0 else ""}
        """,
    )
    job = lab.start(STARTS, PYTHONPATH=str(site.parent))
    done = job.finish()
    assert done.code == 0, done.err
    first, second, few = done.out.splitlines()
    assert "worker processes die as they start" in first
    assert "worker processes die as they start" in second
    assert few == "True"


REMOVED = """
@component
def step(x):
    return x + 1


@pipeline
def main():
    return step(1)


home = Path.cwd()
gone = home / "gone"
gone.mkdir()
os.chdir(gone)
gone.rmdir()
print(main.debug(), main.local())
del os.environ["PIPEDECO_STORE"]
try:
    main()
except ConfigError as error:
    tell(error)
os.chdir(home)
"""


def test_a_run_from_a_directory_that_was_removed(lab):
    """Only a store that would stand in it is missed."""
    values, said = lab.run(REMOVED).out.splitlines()
    assert values == "2 2"
    assert "name the store's with PIPEDECO_STORE" in said


STORES = """
@component
def step(x):
    return x + 1


@pipeline(workers=1, mode={mode!r})
def main(x):
    return step(x)


def descriptors(first, last):
    for number in range(first, last):
        os.environ["PIPEDECO_STORE"] = os.path.join(os.getcwd(), f"store{{number}}")
        assert main(number) == number + 1
    return len(os.listdir("/proc/self/fd"))


def settles(first, last):
    # A store whose run is only just ending is closed when a later run begins.
    return any(descriptors(first, last) <= few + 8 for _ in range(4))


few = descriptors(0, 12)
print(settles(12, 30), settles(0, 30))
"""


@pytest.mark.parametrize("mode", ["debug", "local"])
def test_stores_that_are_no_longer_used_are_closed(lab, mode):
    """Those of many runs keep no descriptors, and serve again."""
    assert lab.run(STORES.format(mode=mode)).out == "True True\n"
    assert len(list(Path(lab.folder).glob("store*"))) == 30

"""Dask and Ray clusters as an engineer starts them: Dask's scheduler and two workers, Ray's head.

They stand in an empty folder, with Python's -P, so that nothing of a project is on their path.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psutil
import pytest
from faults.conftest import lab
from faults.support import all_processes, is_alive, wait_until

__all__ = ["lab"]

START = 40.0  # seconds
OPTIONS = "--nthreads", "1", "--no-dashboard", "--no-nanny"


class Cluster:
    """A scheduler and two workers.

    Parameters
    ----------
    folder: empty; they work and write their logs there.
    pem: a certificate, which is its own authority, and its key, for TLS.
    resources: of its second worker, as Dask writes them.
    more: variables of its processes.
    """

    def __init__(self, folder, pem=None, resources=None, **more):
        self.folder = folder
        self.more = more
        self.processes = {}
        self.tls = () if pem is None else (pem[0], *pem)
        protocol = "tls" if self.tls else "tcp"
        names = "--tls-ca-file", "--tls-cert", "--tls-key"
        tls = [str(word) for pair in zip(names, self.tls, strict=False) for word in pair]
        where = "--host", f"{protocol}://127.0.0.1", "--port", "0"
        self._start("scheduler", "scheduler", *where, "--no-dashboard", *tls)
        said = rf"Scheduler at:\s+({protocol}://127\.0\.0\.1:(\d+))\s"
        address, port = said_in(folder / "scheduler.log", said, "a Dask scheduler")
        self.port = int(port)
        asked = ("--resources", resources) if resources else ()
        for name, has in (("one", ()), ("two", asked)):
            self._start(name, "worker", address, "--name", name, *OPTIONS, *has, *tls)
        wait_until(
            lambda: self._count("Starting established connection") == 2, START, "two workers"
        )

    @property
    def url(self):
        tls = zip(("tls_ca", "tls_cert", "tls_key"), self.tls, strict=False)
        query = "&".join(f"{name}={path}" for name, path in tls)
        return f"dask://127.0.0.1:{self.port}{'?' if query else ''}{query}"

    def variables(self, **queues):
        """What makes a script use it."""
        named = {"default": self.url, **queues}
        return {"PIPEDECO_MODE": "remote", "PIPEDECO_QUEUES": json.dumps(named)}

    def kill(self, name):
        process = self.processes.pop(name)
        process.kill()
        process.wait(5)

    def close(self):
        """The workers first: one whose scheduler is gone takes leave of it for seconds."""
        workers = [each for name, each in self.processes.items() if name != "scheduler"]
        for group in workers, [self.processes.get("scheduler")]:
            _end(list(filter(None, group)))

    def _start(self, name, *arguments):
        kept = _kept()
        kept["DASK_DISTRIBUTED__WORKER__DAEMON"] = "False"
        kept |= self.more
        command = [sys.executable, "-P", "-m", "dask", *arguments]
        self.processes[name] = _begun(command, self.folder, name, kept)

    def _count(self, text):
        logs = (self.folder / f"{name}.log" for name in ("one", "two"))
        return sum(text in log.read_text() for log in logs if log.exists())


def _end(processes):
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _begun(command, folder, name, variables):
    """A process that works in a folder, and writes `name.log` there."""
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _kept():
    """The environment without what tells of the project."""
    told = "PIPEDECO", "PYTHONPATH"
    return {name: text for name, text in os.environ.items() if not name.startswith(told)}


def said_in(log, pattern, what):
    """What a server says in its log of where it listens: a port that was free may be so no more."""
    wait_until(lambda: log.exists() and re.search(pattern, log.read_text()), START, what)
    return re.search(pattern, log.read_text()).groups()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(autouse=True)
def nothing_left(lab):
    """The cluster stays between tests; that of the lab's processes none is left, the lab sees to."""


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
    """A cluster that the tests of a module share."""
    cluster = Cluster(tmp_path_factory.mktemp("dask"))
    yield cluster
    cluster.close()


@pytest.fixture
def own_dask(tmp_path):
    """A cluster of the test's own, which it may break."""
    folder = tmp_path / "dask"
    folder.mkdir()
    cluster = Cluster(folder)
    yield cluster
    cluster.close()


class RayHead:
    """The head of a Ray cluster with two CPUs.

    Parameters
    ----------
    folder: empty; it works there.
    """

    def __init__(self, folder):
        self.folder = folder
        self.port = free_port()
        self.token = {"RAY_AUTH_TOKEN": "5" * 64}
        # Ray's sockets lie there, and their names may have 107 bytes.
        self.place = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
        kept = _kept()
        command = [
            str(Path(sys.executable).with_name("ray")), "start", "--head", "--block",
            "--node-ip-address", "127.0.0.1", "--port", str(free_port()),
            "--ray-client-server-port", str(self.port), "--num-cpus", "2",
            "--include-dashboard=false", "--disable-usage-stats", "--temp-dir", self.place,
        ]  # fmt: skip
        kept |= {"RAY_AUTH_MODE": "token", **self.token}
        self.process = _begun(command, folder, "head", kept)
        wait_until(self._listens, START, "a Ray head")

    @property
    def url(self):
        return f"ray://127.0.0.1:{self.port}"

    def variables(self, **queues):
        """What makes a script use it."""
        named = {"default": self.url, **queues}
        return {"PIPEDECO_MODE": "remote", "PIPEDECO_QUEUES": json.dumps(named), **self.token}

    def processes(self):
        """All that belong to it: they have its folder on their command lines, or such a parent."""
        found = [pid for pid in all_processes() if self.place in command_of(pid)]
        for pid in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                found += [p.pid for p in psutil.Process(pid).children() if p.pid not in found]
        return found

    def kill(self):
        found = self.processes()
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait(5)
        wait_until(lambda: not any(map(is_alive, found)), what="the cluster is gone")
        shutil.rmtree(self.place, ignore_errors=True)

    def _listens(self):
        assert self.process.poll() is None, (self.folder / "head.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    """A head that the tests of a module share."""
    head = RayHead(tmp_path_factory.mktemp("ray"))
    os.environ.update(head.token)
    yield head
    for name in head.token:
        del os.environ[name]
    head.kill()


class Proxy:
    """A way to a port.

    It can be cut, so that nothing is closed and nothing arrives any more; or shut for a while, so
    that all connections end and others are refused.

    Parameters
    ----------
    port: where it leads.
    """

    def __init__(self, port):
        self.target = port
        self.cut = threading.Event()
        self.shut = False
        self.refused = 0  # connections
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.sockets = [self.server]
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def shut_for_a_while(self):
        self.shut = True
        _end_all(self.sockets[1:])

    def close(self):
        _end_all(self.sockets)
        for each in self.sockets:
            each.close()
        for thread in self.threads:
            thread.join()

    def _accept(self):
        with contextlib.suppress(OSError):  # it is closed
            while True:
                near, _ = self.server.accept()
                if self.shut:
                    near.close()
                    self.refused += 1
                    continue
                far = socket.create_connection(("127.0.0.1", self.target))
                self.sockets += [near, far]
                for pair in ((near, far), (far, near)):
                    self.threads.append(threading.Thread(target=self._pump, args=pair))
                    self.threads[-1].start()

    def _pump(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if not self.cut.is_set():
                    sink.sendall(data)
            if not self.cut.is_set():
                sink.shutdown(socket.SHUT_WR)


def _end_all(sockets):
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)

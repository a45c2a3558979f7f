"""Environments of their own for steps: made by uv, once for all runs of a user on a machine.

    <cache>/<digest>/        a virtual environment, built where it stays, as it cannot be moved
    <cache>/<digest>/MARK    written last: without it nobody uses the environment
    <cache>/<digest>.lock    locked exclusively by who builds or removes it, shared by who uses it

The descriptor of the lock is uv's too.  So where a builder is killed nobody else begins before its
uv is gone; then the next one removes what is there and builds again.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from contextlib import suppress
from hashlib import sha256
from importlib import metadata
from typing import TYPE_CHECKING, Any

from pipedeco.blobs import make_private
from pipedeco.errors import ConfigError, EnvironmentFailed
from pipedeco.worker.environment import Surroundings
from pipedeco.worker.places import host
from pipedeco.worker.travel import is_installed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipedeco.requirements import Requirements

MARK = "pipedeco.json"
FOLDER = "PIPEDECO_ENVIRONMENTS"
KEPT = 30 * 86400.0  # seconds for which an environment is kept that is not used
POLL = 0.05  # seconds between two looks at a lock, at uv and at who waits
LAST_LINES = 12  # of what uv says
FORMAT = 1  # rises when what is built changes

# uv ends with who has started it, however that ends.
_GUARD = (
    "import ctypes,os,sys;ctypes.CDLL(None).prctl(1,9,0,0,0);"
    "os.getppid()==int(sys.argv[1]) or os._exit(1);os.execv(sys.argv[2],sys.argv[2:])"
)
_LOOK = (
    "import json,sys;print(json.dumps({'path':[p for p in sys.path if p],"
    "'version':'%d.%d.%d'%sys.version_info[:3]}))"
)
_CONFUSING = (
    "VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH", "UV_PYTHON", "UV_SYSTEM_PYTHON",
    "UV_TARGET", "UV_PREFIX", "UV_PROJECT_ENVIRONMENT", "UV_NO_BINARY", "UV_PROJECT",
)  # fmt: skip
_ESCAPES = re.compile(
    r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|.)|[\x00-\x08\x0b-\x1f]"
)


# Of sysconfig, which uv asks, threads see a half made table.
_finding = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_finding._at_fork_reinit)  # type: ignore[attr-defined]


class Stopped(Exception):
    """Nobody waits for the environment any more."""


class Venv:
    """An environment that is there; nobody removes it as long as this object lives."""

    def __init__(self, folder: str, lock: int, facts: dict[str, Any]) -> None:
        self.folder = folder
        self.executable = os.path.join(folder, "bin", "python")
        self.path: list[str] = facts["path"]
        self.version: str = facts["version"]
        self._lock = lock

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Venv) and self.folder == other.folder

    def __hash__(self) -> int:
        return hash(self.folder)

    @property
    def there(self) -> bool:
        """Whether nobody has removed it by hand."""
        return os.path.exists(os.path.join(self.folder, MARK))

    def __del__(self) -> None:
        with suppress(OSError):
            os.close(self._lock)

    def around(self, wanted: Surroundings, project: str) -> Surroundings:
        """The surroundings of a run, with this environment's packages for the installation's."""
        own = [entry for entry in wanted.path if not is_installed(entry, project)]
        programs = os.path.dirname(self.executable)
        variables = {
            **wanted.environment,
            "VIRTUAL_ENV": self.folder,
            "PATH": os.pathsep.join(filter(None, (programs, wanted.environment.get("PATH")))),
        }
        variables.pop("PYTHONHOME", None)
        path = list(dict.fromkeys([*own, *self.path]))
        return wanted._replace(path=path, environment=variables)


def environments_folder(variables: Mapping[str, str]) -> str:
    """Where environments are kept on this machine."""
    chosen = variables.get(FOLDER)
    if not chosen:
        caches = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
        chosen = os.path.join(caches, "pipedeco", "environments")
    return os.path.abspath(os.path.expanduser(chosen))


def venv_of(
    wanted: Requirements,
    variables: Mapping[str, str],
    building: Callable[[], None],
    stopping: Callable[[], bool],
) -> Venv:
    """The environment that meets the requirements; it is built where nobody has.

    Takes as long as that does; of many that want the same one, one builds and the others wait.

    Parameters
    ----------
    variables: the environment variables of the run: those of uv hold, and PIPEDECO_ENVIRONMENTS.
    building: called once it is known that the environment is not there yet.
    stopping: asked again and again whether nobody wants it any more; Stopped is raised then.

    Raises EnvironmentFailed with what uv says, and ConfigError where there is no uv.
    """
    root = environments_folder(variables)
    try:
        make_private(root)
        return _Maker(root, wanted, variables, stopping).make(building)
    except OSError as error:
        raise EnvironmentFailed(
            f"the environment for {wanted.text} cannot be built in {root} on {host()}: {error}; "
            f"free some space, or set {FOLDER} to another folder"
        ) from error


class _Maker:
    """Makes one environment, or finds it."""

    def __init__(
        self,
        root: str,
        wanted: Requirements,
        variables: Mapping[str, str],
        stopping: Callable[[], bool],
    ) -> None:
        self.root = root
        self.wanted = wanted
        self.stopping = stopping
        self.variables = {
            name: text for name, text in variables.items() if name not in _CONFUSING
        }  # fmt: skip
        self.variables |= {"NO_COLOR": "1", "UV_NO_PROGRESS": "1"}
        self.core = _core()
        self.python = _interpreter(wanted)
        self.folder = os.path.join(root, self._digest())
        self.lock = -1

    def make(self, building: Callable[[], None]) -> Venv:
        found = self._take(fcntl.LOCK_SH)
        if found is None:
            building()
            found = self._take(fcntl.LOCK_EX)
        while found is None:
            found = self._build()
        return found

    def _digest(self) -> str:
        """What environments are told apart by."""
        # Normal paths: a relative one may have started this interpreter.
        python, prefix = os.path.normpath(self.python), os.path.normpath(sys.base_prefix)
        here = prefix, sys.version if self.python == sys.executable else ""
        what = FORMAT, sysconfig.get_platform(), self.wanted, python, here, self.core
        return sha256(repr(what).encode()).hexdigest()[:32]

    def _take(self, kind: int) -> Venv | None:
        """The environment if it is there; else the lock is ours, of this kind."""
        self._get_lock(kind)
        try:
            with open(os.path.join(self.folder, MARK), "rb") as file:
                facts = json.loads(file.read())
            os.utime(file.name)
        except (OSError, ValueError):
            if kind == fcntl.LOCK_SH:
                self._leave()
            return None
        if kind == fcntl.LOCK_EX:  # somebody has built it meanwhile
            self._leave()
            return self._take(fcntl.LOCK_SH)
        lock, self.lock = self.lock, -1
        return Venv(self.folder, lock, facts)

    def _get_lock(self, kind: int) -> None:
        path = f"{self.folder}.lock"
        while True:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, kind | fcntl.LOCK_NB)
                if _is_file(lock, path):
                    self.lock = lock
                    return
            except BlockingIOError:
                pass
            os.close(lock)
            self._wait()

    def _leave(self) -> None:
        os.close(self.lock)
        self.lock = -1

    def _wait(self) -> None:
        if self.stopping():
            raise Stopped
        time.sleep(POLL)

    # -- building, with the lock -----------------------------------------------------------

    def _build(self) -> Venv | None:
        try:
            uv = find_uv(self.variables)
            shutil.rmtree(self.folder, ignore_errors=True)  # of a builder that was killed
            self._run(uv, "venv", "--no-project", "--python", self.python, self.folder)
            self._install(uv)
            python = os.path.join(self.folder, "bin", "python")
            facts = self._run(python, "-I", "-c", _LOOK)
            made = os.path.join(self.folder, MARK)
            with open(f"{made}.part", "w", encoding="utf-8") as file:
                file.write(facts)
                file.flush()
                os.fsync(file.fileno())
            os.rename(f"{made}.part", made)
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        finally:
            self._leave()
        remove_unused(self.root)
        return self._take(fcntl.LOCK_SH) or self._take(fcntl.LOCK_EX)

    def _install(self, uv: str) -> None:
        """What was asked for, and what pipedeco needs: in the versions of this interpreter, unless
        what was asked for does not go with them."""
        python = os.path.join(self.folder, "bin", "python")
        install = uv, "pip", "install", "--quiet", "--python", python, "--"
        pinned = [pin for _, pin in self.core]
        try:
            self._run(*install, *self.wanted.packages, *pinned)
        except EnvironmentFailed:
            ranges = [text for text, _ in self.core]
            self._run(*install, *self.wanted.packages, *ranges)

    def _run(self, *command: str) -> str:
        """What a command writes to its stdout; raises EnvironmentFailed with its last lines."""
        guarded = [sys.executable, "-I", "-S", "-c", _GUARD, str(os.getpid()), *command]
        process = subprocess.Popen(
            guarded if sys.platform == "linux" else command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.root,  # no project's own settings of uv
            env=self.variables,
            start_new_session=True,
            pass_fds=(self.lock,),
        )
        try:
            out, err = self._output(process)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        if process.returncode:
            raise EnvironmentFailed(
                f"the environment for {self.wanted.text} cannot be built on {host()}; uv says:\n"
                f"{_last_lines(err or out) or f'nothing, and ends with {process.returncode}'}"
            )
        return out.decode("utf-8", "replace")

    def _output(self, process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
        while True:
            try:
                return process.communicate(timeout=POLL)
            except subprocess.TimeoutExpired:
                if self.stopping():
                    raise Stopped from None


def find_uv(variables: Mapping[str, str]) -> str:
    """The program uv: that of the package, else the one on the PATH; raises ConfigError."""
    try:
        from uv import find_uv_bin

        with _finding:
            return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv", path=variables.get("PATH"))
    if found is None:
        raise ConfigError(
            f"packages= and python= need the program uv, which is not on {host()}; install it "
            "there: pip install 'pipedeco[packages]'"
        )
    return found


def count_environments(root: str) -> int:
    """How many are there, whole."""
    try:
        names = os.listdir(root)
    except OSError:  # none was ever made, or they are another user's
        return 0
    return sum(os.path.exists(os.path.join(root, name, MARK)) for name in names)


def remove_unused(root: str) -> None:
    """Remove environments that nobody has used for long, and what killed builders have left."""
    for name in os.listdir(root):
        folder = os.path.join(root, name)
        if name.endswith(".lock") or not _is_unused(folder):
            continue
        with suppress(OSError):  # somebody uses it, or another one removes it
            lock = os.open(f"{folder}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_file(lock, f"{folder}.lock") and _is_unused(folder):
                    with suppress(FileNotFoundError):
                        os.unlink(os.path.join(folder, MARK))
                    shutil.rmtree(folder, ignore_errors=True)
                    os.unlink(f"{folder}.lock")
            finally:
                os.close(lock)


def _is_unused(folder: str) -> bool:
    try:
        return time.time() - os.stat(os.path.join(folder, MARK)).st_mtime > KEPT
    except OSError:  # it was never finished
        return True


def _is_file(descriptor: int, path: str) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def _interpreter(wanted: Requirements) -> str:
    """What uv is to take: this interpreter where it is of that version, else one it finds."""
    version = ".".join(map(str, sys.version_info[:3]))
    here = wanted.python is None or f"{version}.".startswith(f"{wanted.python}.")
    return sys.executable if here else str(wanted.python)


def _core() -> list[tuple[str, str]]:
    """What pipedeco needs itself: as its metadata says, and in the version that is here."""
    from packaging.requirements import Requirement

    found = []
    try:
        needed = metadata.requires("pipedeco") or []
    except metadata.PackageNotFoundError:
        raise ConfigError(
            "packages= and python= need pipedeco to be installed, so that it is known what it needs "
            "itself; install it with pip, with -e where it is a checkout"
        ) from None
    for text in needed:
        item = Requirement(text)
        if item.marker is None or item.marker.evaluate({"extra": ""}):
            found.append((text.partition(";")[0], f"{item.name}=={metadata.version(item.name)}"))
    return sorted(found)


def _last_lines(data: bytes) -> str:
    lines = _ESCAPES.sub("", data.decode("utf-8", "replace")).splitlines()
    return "\n".join([line.rstrip() for line in lines if line.strip()][-LAST_LINES:])

"""The project's code and the surroundings of its steps, on a machine where they never were.

The controller writes a run's setting into the store; here it is read, the code that it names is
unpacked once, and what stood below the project's folder is found below the unpacked one.
"""

from __future__ import annotations

import io
import marshal
import os
import re
import shutil
import sys
import tempfile
import time
import zipfile
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.blobs import BlobStore, make_private
from pipedeco.errors import PipedecoError, StoreError
from pipedeco.main_file import MainFile
from pipedeco.worker.environment import Surroundings

if TYPE_CHECKING:
    from collections.abc import Callable

SETTING = "setting"  # the name of its file
PROJECT = "project"  # an entry of sys.path below the project's folder
INSTALLED = "installed"  # one of the Python installation
OTHER = "other"

# What variables say of the machine that a process runs on is not the controller's to say.
_MACHINE = (
    "PATH HOME USER LOGNAME SHELL HOSTNAME HOST PWD OLDPWD TMPDIR TEMP TMP TERM DISPLAY MAIL "
    "VIRTUAL_ENV PYTHONHOME PYTHONPATH PYTHONEXECUTABLE LD_LIBRARY_PATH LD_PRELOAD "
    "CUDA_VISIBLE_DEVICES NVIDIA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES "
    "OMP_NUM_THREADS MKL_NUM_THREADS OPENBLAS_NUM_THREADS"
)
MACHINE = frozenset(_MACHINE.split())
MACHINES = ("SSH_", "XDG_", "CONDA_", "SLURM_", "DASK_", "KUBERNETES_")

ASIDE = "unpacking-"  # begins the names of folders that are not whole
UNPACKED = re.compile(rf"[0-9a-f]{{32}}|{ASIDE}.*")
KEPT = 86400.0  # seconds for which unpacked code is kept that no run uses

_OWN_PATH = [entry for entry in sys.path if entry]


class Setting(NamedTuple):
    """What holds for every step of a run that is performed elsewhere; plain types all."""

    run: str
    pipeline: str
    python: str  # 3.11
    log_prefix: str
    project: str  # its folder; "" where it has none
    code: str | None  # the digest of the project's
    path: list[tuple[str, str]]  # (kind, entry) of sys.path; those of the project are relative
    directory: str
    environment: dict[str, str]
    argv: list[str]
    main: dict[str, str | None]
    umask: int
    recursion_limit: int
    ambient: bytes  # a snapshot, see pipedeco.ambient
    modules: list[tuple[str, str, bytes]]  # name, file and content of worker.stray.StrayModules
    main_file: tuple[Any, ...] | None  # a MainFile, where workers import it
    seed: int | None = None
    setup: tuple[str, tuple[Any, ...]] = ("", ())
    # Folders that both sides see; "" where an object store stands between them.
    blobs: str = ""
    logs: str = ""
    archives: str = ""


def setting_of(here: Surroundings, project: str, code: str | None, **facts: str) -> Setting:
    """The setting of a run that is started in these surroundings.

    Parameters
    ----------
    facts: the other fields.
    """
    sent = {name: text for name, text in here.environment.items() if not of_machine(name)}
    path = [kind_of(os.path.join(here.directory, entry), project) for entry in here.path]
    return Setting(
        python=python(),
        project=project,
        code=code,
        path=path,
        directory=here.directory,
        environment=sent,
        argv=here.argv,
        main=here.main,
        umask=here.umask,
        recursion_limit=here.recursion_limit,
        ambient=here.ambient,
        modules=[_sent(name, origin, project) for name, _, origin, _ in here.modules],
        main_file=here.main_file,
        seed=here.seed,
        setup=here.setup,
        **facts,
    )


def _sent(name: str, path: str, project: str) -> tuple[str, str, bytes]:
    """A module as it travels: with its content where the project's code does not hold it."""
    if relative(path, project) is not None or not path.endswith(".py"):
        return name, path, b""
    try:
        with open(path, "rb") as file:
            return name, path, file.read()
    except OSError:  # its file is gone: who imports it is told so
        return name, path, b""


def write_setting(folder: str, setting: Setting) -> None:
    make_private(folder)
    path = os.path.join(folder, SETTING)
    descriptor = os.open(f"{path}.part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(encode_setting(setting))
    os.rename(f"{path}.part", path)


def read_setting(folder: str) -> Setting:
    """What the controller wrote.

    Raises StoreError where this machine does not see it, and PipedecoError as `decode_setting`.
    """
    path = os.path.join(folder, SETTING)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise StoreError(
            f"the engine's worker on {host()} cannot read {path}, which the controller wrote: "
            f"{error.strerror}; both need the store at the same path: put it into a folder that "
            "they share, with configure(store=...) or PIPEDECO_STORE, or let them use an object "
            "store, with configure(blobs=...) or PIPEDECO_BLOBS"
        ) from None
    return decode_setting(data)


def encode_setting(setting: Setting) -> bytes:
    return marshal.dumps(tuple(setting))


def decode_setting(data: bytes) -> Setting:
    """Raises PipedecoError where this Python is another one than the controller's."""
    setting = Setting(*marshal.loads(data))
    if setting.python != python():
        raise PipedecoError(
            f"the engine's worker on {host()} runs Python {python()}, the controller Python "
            f"{setting.python}; both need the same one"
        )
    return setting


def surroundings(setting: Setting, archives: BlobStore) -> Surroundings:
    """What the steps of a run find around them here; its code, one of the archives, is unpacked.

    Raises StoreError where the code cannot be read or unpacked.
    """
    folder = "" if setting.code is None else _unpacked(setting.code, archives)

    def moved(path: str) -> str:
        below = relative(path, setting.project)
        if below is None or not folder:
            return path
        found = os.path.normpath(os.path.join(folder, below))
        return found if os.path.exists(found) else path  # an environment below the project stays

    directory = moved(setting.directory)
    if not os.path.isdir(directory):
        directory = folder or "/"
    main = {
        name: moved(text) if text and name == "__file__" else text
        for name, text in setting.main.items()
    }
    return Surroundings(
        directory,
        _path(setting, folder),
        {**_own_environment(), **setting.environment},
        [moved(argument) for argument in setting.argv[:1]] + setting.argv[1:],
        main,
        setting.umask,
        setting.recursion_limit,
        (folder, setting.project),
        setting.ambient,
        tuple((name, moved(origin), origin, source) for name, origin, source in setting.modules),
        _moved_main(setting.main_file, moved, directory),
        setting.seed,
        setting.setup,
    )


def _moved_main(
    file: tuple[Any, ...] | None, moved: Callable[[str], str], directory: str
) -> tuple[Any, ...] | None:
    """The main file of the program where it stands here."""
    if file is None:
        return None
    found = MainFile(*file)
    began_in = moved(found.directory)
    if not os.path.isdir(began_in):
        began_in = directory
    return tuple(found._replace(path=moved(found.path), directory=began_in))


def relative(path: str, project: str) -> str | None:
    """The path from the project's folder; None where it is elsewhere."""
    if not project or not os.path.isabs(path):
        return None
    if path == project:
        return "."
    top = project.rstrip(os.sep) + os.sep
    return path[len(top) :] if path.startswith(top) else None


def host() -> str:
    return os.uname().nodename if hasattr(os, "uname") else "this machine"


def python() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def of_machine(name: str) -> bool:
    """Whether a variable speaks of the machine that a process runs on."""
    return name in MACHINE or name.startswith(MACHINES)


def _own_environment() -> dict[str, str]:
    return dict(os.environ)


def kind_of(entry: str, project: str) -> tuple[str, str]:
    """An entry of this process's sys.path, as another machine can find its like."""
    homes = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    installed = max((len(home) for home in homes if relative(entry, home)), default=0)
    below = relative(entry, project)
    if below is not None and len(project) > installed:
        return PROJECT, below
    packages = f"{os.sep}site-packages" in entry or f"{os.sep}dist-packages" in entry
    return (INSTALLED if installed or packages else OTHER), entry


def is_installed(entry: str, project: str) -> bool:
    """Whether an entry of this process's sys.path is of its Python installation."""
    return kind_of(entry, project)[0] == INSTALLED


def _path(setting: Setting, folder: str) -> list[str]:
    """sys.path: the installation is this machine's own, and stands where the other's stood."""
    found: list[str] = []
    for kind, entry in setting.path:
        if kind == PROJECT:
            found.append(os.path.normpath(os.path.join(folder or setting.project, entry)))
        elif kind == INSTALLED:
            found += _OWN_PATH
        elif os.path.exists(entry):
            found.append(entry)
    return list(dict.fromkeys([*found, *_OWN_PATH]))


def _unpacked(digest: str, blobs: BlobStore) -> str:
    """The folder in which this archive stands."""
    root = private_root()
    folder = os.path.join(root, digest[:32])
    if _touched(folder):
        return folder
    _remove_old(root)
    aside = tempfile.mkdtemp(prefix=ASIDE, dir=root)
    try:
        _unpack(blobs.get(digest, verify=True)[0], aside)
        os.rename(aside, folder)
    except OSError as error:
        if not os.path.isdir(folder):  # else another process was quicker
            raise StoreError(
                f"the project's code cannot be unpacked into {folder} on {host()}: "
                f"{error.strerror}; free some space, or set TMPDIR of the engine's workers"
            ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)  # it has gone where all went well
    return folder


def keep(around: Surroundings) -> None:
    """The code of these surroundings is in use: nobody is to remove it."""
    if around.moved[0]:
        _touched(around.moved[0])


def _touched(folder: str) -> bool:
    """Whether a folder is there; if so, it counts as used now."""
    try:
        os.utime(folder)
    except FileNotFoundError:
        return False
    return True


def _remove_old(root: str) -> None:
    """Remove unpacked code that has not been used for long; each change of a project leaves some.

    So does a process that was killed while it unpacked.
    """
    for entry in os.scandir(root):
        if not UNPACKED.fullmatch(entry.name):
            continue
        try:
            if time.time() - entry.stat(follow_symlinks=False).st_mtime > KEPT:
                aside = entry.path
                if not entry.name.startswith(ASIDE):  # nobody is to find a half of it
                    aside = os.path.join(tempfile.mkdtemp(prefix=ASIDE, dir=root), entry.name)
                    os.rename(entry.path, aside)
                    aside = os.path.dirname(aside)
                shutil.rmtree(aside, ignore_errors=True)
        except OSError:  # somebody else was quicker
            pass


def _unpack(data: memoryview, folder: str) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for item in archive.infolist():
            made = archive.extract(item, folder)
            os.chmod(made, 0o700 if item.external_attr >> 16 & 0o100 else 0o600)


def private_root() -> str:
    """A folder of this user's alone among the temporary files."""
    own = os.getuid() if hasattr(os, "getuid") else 0
    root = os.path.join(tempfile.gettempdir(), f"pipedeco-{own}")
    make_private(root)
    facts = os.lstat(root)
    if facts.st_uid != own or facts.st_mode & 0o077:
        raise StoreError(
            f"{root} on {host()} can be written by others, and code is to be unpacked there; "
            "remove it, or set TMPDIR of the engine's workers"
        )
    return root

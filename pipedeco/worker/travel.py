"""The project's code and the surroundings of its steps, on a machine where they never were.

The controller writes a run's setting into the store; here it is read, and what stood below the
project's folder is found below the folders of worker/unpacked.py and worker/working.py.
"""

from __future__ import annotations

import marshal
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.blobs import make_private
from pipedeco.errors import PipedecoError, StoreError
from pipedeco.main_file import MainFile
from pipedeco.worker.environment import Surroundings
from pipedeco.worker.places import METADATA, host

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipedeco.worker.working import WorkFolder

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
    home: str = ""  # where the setting of the run is that began it all, unless that is this one


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


def surroundings(setting: Setting, work: WorkFolder) -> Surroundings:
    """What the steps of a run find around them here, where its folders are made.

    Modules are imported from the code that all runs share, and so is a main file that workers
    import; the working directory, and a script of which definitions travel, are of the run's own
    folder.
    """
    code = "" if work.code is None else work.code.folder

    def moved(path: str, home: str) -> str:
        below = relative(path, setting.project)
        if below is None or not home:
            return path
        found = os.path.normpath(os.path.join(home, below))
        return found if os.path.exists(found) else path  # an environment below the project stays

    below = relative(setting.directory, setting.project)
    directory = moved(setting.directory, work.path)
    if not os.path.isdir(directory) or (below is not None and directory == setting.directory):
        directory = work.own(below or "")  # an empty folder does not travel
    home = work.path if setting.main_file is None else code
    main = {
        name: moved(text, home) if text and name == "__file__" else text
        for name, text in setting.main.items()
    }
    return Surroundings(
        directory,
        _path(setting, code),
        {**_own_environment(), **setting.environment},
        [moved(argument, work.path) for argument in setting.argv[:1]] + setting.argv[1:],
        main,
        setting.umask,
        setting.recursion_limit,
        (code, setting.project),
        setting.ambient,
        tuple(
            (name, moved(origin, code), origin, source) for name, origin, source in setting.modules
        ),
        _moved_main(setting.main_file, moved, code),
        setting.seed,
        setting.setup,
    )


def _moved_main(
    file: tuple[Any, ...] | None, moved: Callable[[str, str], str], code: str
) -> tuple[Any, ...] | None:
    """The main file of the program where it stands here; it is imported in a run's folder."""
    if file is None:
        return None
    found = MainFile(*file)
    return tuple(found._replace(path=moved(found.path, code), directory=""))


def relative(path: str, project: str) -> str | None:
    """The path from the project's folder; None where it is elsewhere."""
    if not project or not os.path.isabs(path):
        return None
    if path == project:
        return "."
    top = project.rstrip(os.sep) + os.sep
    return path[len(top) :] if path.startswith(top) else None


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
    metadata = os.path.join(folder, METADATA)
    if folder and os.path.isdir(metadata):
        found.insert(1, metadata)  # the first one is the script's folder, to who looks there
    return list(dict.fromkeys([*found, *_OWN_PATH]))

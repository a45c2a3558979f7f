"""Where settings come from: configure() > environment > debugger > pyproject.toml > default."""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pipedeco.errors import ConfigError
from pipedeco.options import (
    check_blobs,
    check_code_include,
    check_code_limit,
    check_main,
    check_mode,
    check_progress,
    check_queues,
    check_setup,
    check_start_method,
    check_store,
    check_workers,
)
from pipedeco.requirements import Requirements, requirements_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from pipedeco.keywords import Progress, SettingsChanges
    from pipedeco.options import ComponentOptions


PROJECT_FILE = "pyproject.toml"
CODE_LIMIT = 32  # MiB
KEYS = (  # of [tool.pipedeco]
    "mode", "workers", "store", "start_method", "queues", "blobs", "code_limit", "code_include", "main",
)  # fmt: skip


class Settings:
    """The settings that hold for every run of this process; None means not set."""

    __slots__ = (
        "blobs",
        "code_include",
        "code_limit",
        "main",
        "mode",
        "progress",
        "queues",
        "setup",
        "start_method",
        "store",
        "workers",
    )

    def __init__(self) -> None:
        self.mode: str | None = None
        self.workers: int | None = None
        self.store: str | None = None
        self.blobs: str | None = None
        self.start_method: str | None = None
        self.progress: Progress | None = None
        self.queues: dict[str, str] | None = None
        self.code_limit: int | None = None
        self.main: str | None = None
        self.setup: Callable[[], Any] | None = None
        self.code_include: tuple[str, ...] | None = None

    def update(self, **changes: Any) -> None:
        checks: dict[str, Callable[[Any], Any]] = {
            "mode": check_mode,
            "workers": check_workers,
            "start_method": check_start_method,
            "progress": check_progress,
            "main": check_main,
            "queues": check_queues,
            "code_limit": check_code_limit,
            "code_include": check_code_include,
            "blobs": check_blobs,
            "setup": check_setup,
            "store": lambda store: None if store is None else os.fspath(store),
        }
        for name, value in changes.items():
            if name not in checks:
                raise ConfigError(f"there is no setting {name!r}; there are {', '.join(checks)}")
            changes[name] = checks[name](value)
        for name, value in changes.items():
            setattr(self, name, value)


SETTINGS = Settings()


def configure(**changes: Unpack[SettingsChanges]) -> None:
    """Set what holds for every later run of this process.

    Parameters
    ----------
    mode: "debug", "local", "remote" or None.
    workers: number of worker processes, or None for the CPUs this process may use.
    store: folder of the store, or None for what PIPEDECO_STORE and [tool.pipedeco] store of
        pyproject.toml say, of which the latter is relative to the project's folder; where nobody
        says, `.pipedeco` beside the nearest pyproject.toml or .git.
    blobs: URL of a folder that fsspec can open, such as s3://bucket/team, in which the values of
        remote steps are, with all that goes between a run and the engines' workers; or None for
        what PIPEDECO_BLOBS and [tool.pipedeco] blobs of pyproject.toml say.  Where nobody says, the
        workers see the store's own folder.
    start_method: "nursery" or "spawn", or None for what PIPEDECO_START_METHOD and [tool.pipedeco]
        start_method say, and the platform's best where nobody does.
    progress: "auto" shows runs of more than half a second on stderr, live and with a summary on a
        terminal, else by a line now and then; "full" also tells how short runs ended, with their
        failures; "off" shows nothing; None for what PIPEDECO_PROGRESS says, and "auto" where it is not set.
    queues: the engines of remote mode, by the names that components use: {"default": "local://2",
        "gpu": "dask://scheduler:8786?resources=GPU:1"}, or None for what PIPEDECO_QUEUES (the same
        as JSON) and [tool.pipedeco.queues] of pyproject.toml say.
    code_limit: MiB that a project's code may have to travel in remote mode; 32 by default.
    main: "import" has workers import the program's main file, as multiprocessing does; with
        "definitions" what steps use of it travels.  None for what [tool.pipedeco] main says, and
        where it says nothing the file is imported if its pipeline calls stand below
        `if __name__ == "__main__":` or in functions.
    setup: a function that is called once in each worker process of a run before its first step, as
        a pool calls its initializer; or None.  See also `pipeline`, whose own comes after it.
    code_include: patterns of files and folders of the project that travel in remote mode though git
        ignores them, such as ["build/*.so"], or None for what [tool.pipedeco] code_include says.

    Raises ConfigError for an unknown setting or a value that it cannot have.
    """
    SETTINGS.update(**changes)


def find_mode(asked: str | None) -> str:
    """The mode of a run; `asked` is what its call or its options say."""
    if asked or SETTINGS.mode:
        return asked or str(SETTINGS.mode)
    environment = os.environ.get("PIPEDECO_MODE")
    if environment:
        return str(_checked("PIPEDECO_MODE", check_mode, environment))
    if debugger_attached():
        return "debug"
    return str(_of_project("mode", check_mode) or "local")


def asked_workers(asked: int | None) -> int | None:
    """How many workers a run may use, where anybody says so."""
    if asked or SETTINGS.workers:
        return asked or SETTINGS.workers
    environment = os.environ.get("PIPEDECO_WORKERS")
    if environment:
        if not environment.isdecimal() or int(environment) < 1:
            raise ConfigError(f"PIPEDECO_WORKERS is a number of 1 or more, not {environment!r}")
        return int(environment)
    found: int | None = _of_project("workers", check_workers)
    return found


def find_workers(asked: int | None) -> int:
    """How many worker processes a run may use on this machine."""
    found = asked_workers(asked)
    return find_cpus() if found is None else found


def find_cpus() -> int:
    """How many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def find_queues() -> dict[str, str]:
    """The URLs of the engines, by queue."""
    if SETTINGS.queues is not None:
        return SETTINGS.queues
    environment = os.environ.get("PIPEDECO_QUEUES")
    if environment:
        import json

        try:
            known = json.loads(environment)
        except ValueError as error:
            raise ConfigError(
                f'PIPEDECO_QUEUES is JSON, such as {{"default": "local://2"}}, and cannot be read: {error}'
            ) from None
        return _checked("PIPEDECO_QUEUES", check_queues, known) or {}
    return _of_project("queues", check_queues, "[tool.pipedeco.queues]") or {}


def engine_url(queue: str) -> str:
    """The URL of the engine that serves a queue; raises ConfigError where nobody says."""
    known = find_queues()
    if queue in known:
        return known[queue]
    there = f"there are {', '.join(sorted(known))}" if known else "there is none"
    raise ConfigError(
        f"the queue {queue!r} is not configured ({there}); name its engine in "
        f'[tool.pipedeco.queues] of pyproject.toml, such as {queue} = "dask://scheduler:8786", or '
        "with configure(queues=...) or PIPEDECO_QUEUES"
    )


def find_main() -> str | None:
    """How workers get the program's main file: "import", "definitions", or None for what fits."""
    if SETTINGS.main is not None:
        return SETTINGS.main
    found: str | None = _of_project("main", check_main)
    return found


def find_code_limit() -> int:
    """Bytes that a project's code may have to travel."""
    chosen = SETTINGS.code_limit
    if chosen is None:
        chosen = _of_project("code_limit", check_code_limit)
    return (CODE_LIMIT if chosen is None else int(chosen)) << 20


def find_code_include() -> tuple[str, ...]:
    """The patterns of files that travel though git ignores them."""
    chosen = SETTINGS.code_include
    if chosen is None:
        chosen = _of_project("code_include", check_code_include)
    return chosen or ()


def find_requirements(options: ComponentOptions, fn: Any) -> Requirements | None:
    """What a component asks of an environment of its own.

    A requirements file is looked for beside the file that defines the function, then in the
    project's folder.  Raises ConfigError where it is not there or is refused.
    """
    if options.packages is None and options.python is None:
        return None
    import inspect

    code = getattr(inspect.unwrap(fn), "__code__", None)
    beside = os.path.dirname(absolute(code.co_filename)) if code is not None else ""
    here = absolute("")
    folders = dict.fromkeys([beside or here, project_folder() or here])
    return requirements_of(options.packages, options.python, tuple(folders))


def find_start_method(asked: str | None) -> str:
    """Where workers come from: the nursery where the system has what it needs, else spawn."""
    able = sys.platform == "linux" and hasattr(os, "pidfd_open")
    chosen = asked or SETTINGS.start_method
    if not chosen:
        environment = os.environ.get("PIPEDECO_START_METHOD") or None
        chosen = _checked("PIPEDECO_START_METHOD", check_start_method, environment)
        chosen = chosen or _of_project("start_method", check_start_method)
    chosen = chosen or ("nursery" if able else "spawn")
    if chosen == "nursery" and not able:
        raise ConfigError("the nursery needs Linux 5.3 or newer; use start_method='spawn'")
    return chosen


def find_progress(default: Progress = "auto") -> Progress:
    """How runs are shown: auto, full or off."""
    if SETTINGS.progress:
        return SETTINGS.progress
    environment = os.environ.get("PIPEDECO_PROGRESS")
    asked: Progress | None = _checked("PIPEDECO_PROGRESS", check_progress, environment)
    return asked or default


def find_store(asked: str | None = None) -> str:
    """The folder of the store, absolute; it need not exist."""
    chosen = asked or SETTINGS.store or os.environ.get("PIPEDECO_STORE")
    if chosen:
        base, folder = "", str(check_store(os.fspath(chosen)))
    else:
        base, folder = project_folder() or "", _of_project("store", check_store) or ".pipedeco"
    folder = os.path.expanduser(folder)
    if not os.path.isabs(folder):
        folder = os.path.join(base or _place_of_store(), folder)
    return os.path.normpath(folder)


def _place_of_store() -> str:
    return working_directory("the store would be there", "name the store's with PIPEDECO_STORE")


def working_directory(why: str, instead: str = "") -> str:
    """The working directory.

    Parameters
    ----------
    why: what it is needed for.
    instead: what else helps.

    Raises ConfigError where it has been removed.
    """
    try:
        return os.getcwd()
    except FileNotFoundError:
        cure = f", or {instead}" if instead else ""
        raise ConfigError(
            f"the working directory has been removed, and {why}; go to a folder that exists{cure}"
        ) from None


def absolute(path: str) -> str:
    """The absolute form of a path; as it is where the working directory has been removed.

    That of `""` is the working directory.
    """
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        return path


def find_blobs() -> str | None:
    """The URL at which the values of remote steps are; None for the folder of the store."""
    environment = os.environ.get("PIPEDECO_BLOBS")
    if SETTINGS.blobs or environment:
        return SETTINGS.blobs or str(_checked("PIPEDECO_BLOBS", check_blobs, environment))
    found: str | None = _of_project("blobs", check_blobs)
    return found


def project_folder() -> str | None:
    """The nearest folder upwards of the working directory with a pyproject.toml or a .git."""
    try:
        folder = os.getcwd()
    except FileNotFoundError:  # it was removed under us
        return None
    while True:
        if any(os.path.exists(os.path.join(folder, mark)) for mark in (PROJECT_FILE, ".git")):
            return folder
        parent = os.path.dirname(folder)
        if parent == folder:
            return None
        folder = parent


def _of_project(key: str, check: Callable[[Any], Any], source: str = "") -> Any:
    """What the project's pyproject.toml says below [tool.pipedeco]; None where it does not."""
    folder = project_folder()
    if folder is None:
        return None
    path = os.path.join(folder, PROJECT_FILE)
    table = _project_settings(path)
    try:
        return _checked(source or f"[tool.pipedeco] {key}", check, table.get(key))
    except ConfigError as error:
        raise ConfigError(f"{error} (in {path})") from None


def _project_settings(path: str) -> dict[str, Any]:
    """The table [tool.pipedeco] of a pyproject.toml."""
    if not os.path.isfile(path):
        return {}
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    if b"pipedeco" not in text:  # parsing costs 5 ms that most projects need not pay
        return {}
    return _parsed(path, text)


@lru_cache(maxsize=4)
def _parsed(path: str, text: bytes) -> dict[str, Any]:
    import tomllib

    try:
        table = tomllib.loads(text.decode()).get("tool", {}).get("pipedeco", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: pipedeco is a table, [tool.pipedeco]")
    for key in table:
        if key not in KEYS:
            raise ConfigError(
                f"{path}: [tool.pipedeco] has a key {key!r}, which nobody reads{_near(key)}; there "
                f"are {', '.join(KEYS)}"
            )
    return table


def _near(key: str) -> str:
    import difflib

    near = difflib.get_close_matches(key, KEYS, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _checked(source: str, check: Any, value: Any) -> Any:
    try:
        return check(value)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def debugger_attached() -> bool:
    """Whether a person is stepping through this process.

    An idle debugpy (every ipykernel has one) and a coverage tracer are no debuggers.
    """
    if _is_bdb(sys.gettrace()):
        return True
    if "debugpy" in sys.modules:
        return bool(sys.modules["debugpy"].is_client_connected())
    if "pydevd" in sys.modules:
        debugger = sys.modules["pydevd"].get_global_debugger()
        return debugger is not None and not getattr(debugger, "_finish_debugging_session", False)
    return _monitored()


def _is_bdb(tracer: Any) -> bool:
    bdb = sys.modules.get("bdb")
    return bdb is not None and isinstance(getattr(tracer, "__self__", None), bdb.Bdb)


def _monitored() -> bool:
    monitoring = getattr(sys, "monitoring", None)  # from Python 3.12
    return monitoring is not None and monitoring.get_tool(monitoring.DEBUGGER_ID) is not None

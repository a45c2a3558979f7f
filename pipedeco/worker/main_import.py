"""The import of the program's main file in the nursery, or in a worker of its own.

The nursery imports it once and forks workers that have it.  Nothing that an import has opened or
started is shared by these workers: where it leaves a thread, a child process, a connection or an
open file behind, the nursery begins again without it, and each worker imports the file itself.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipedeco.main_file import MainFile, import_main, is_users
from pipedeco.tracing import PipelineCalled, inside_step, loading
from pipedeco.worker.children import has_children

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

FORK_AWARE = ("jemalloc_bg_thd",)  # of pyarrow's allocator
# By these a nursery is controlled.
OUR_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGALRM, signal.SIGHUP)
SHOWN = 2000  # characters of what a failed import has written


class CannotImport(Exception):
    """Importing the main file has failed; the text says why."""


def import_quietly(file: MainFile) -> ModuleType:
    """Import the main file; what it prints was printed by the program itself.

    Raises
    ------
    CannotImport
        Its top level raised, ended the process or called a pipeline.
    """
    tokens = loading.set(True), inside_step.set(False)
    try:
        with _no_output(), _appending_log_files(), _own_signals(), _no_exit_functions():
            return import_main(file)
    except PipelineCalled:
        raise CannotImport("its top level calls a pipeline") from None
    except BaseException as error:  # noqa: BLE001 - the user's file; SystemExit, too
        raise CannotImport(f"{type(error).__name__}: {error}"[:SHOWN]) from None
    finally:
        loading.reset(tokens[0])
        inside_step.reset(tokens[1])


@contextmanager
def _no_output() -> Iterator[None]:
    """Let both standard streams lead nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    saved = [os.dup(descriptor) for descriptor in (1, 2)]
    try:
        for descriptor in (1, 2):
            os.dup2(null, descriptor)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        for descriptor, former in zip((1, 2), saved, strict=True):
            os.dup2(former, descriptor)
            os.close(former)
        os.close(null)


@contextmanager
def _appending_log_files() -> Iterator[None]:
    """Let no log file that the program has begun be begun again.

    Only where logging is imported: the caller imports it where the program has it.
    """
    logging = sys.modules.get("logging")
    if logging is None:
        yield
        return
    handler: Any = logging.FileHandler
    whole = handler.__init__

    def appending(self: Any, filename: Any, mode: str = "a", *rest: Any, **more: Any) -> None:
        whole(self, filename, mode.replace("w", "a"), *rest, **more)

    handler.__init__ = appending
    try:
        yield
    finally:
        handler.__init__ = whole


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handlers by which this process is controlled."""
    former = {number: signal.getsignal(number) for number in OUR_SIGNALS}
    try:
        yield
    finally:
        for number, handler in former.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)


@contextmanager
def _no_exit_functions() -> Iterator[None]:
    """Let functions of the program's own that it registers for its exit be called there alone."""
    whole = atexit.register
    importing = True

    def register(function: Any, *args: Any, **kwargs: Any) -> Any:
        module = sys.modules.get(getattr(function, "__module__", None) or "")
        path = getattr(module, "__file__", None)
        if importing and isinstance(path, str) and is_users(path):
            return function
        return whole(function, *args, **kwargs)

    atexit.register = register  # type: ignore[assignment]
    try:
        yield
    finally:
        importing = False  # who has taken our function by name keeps it
        atexit.register = whole


class Leftovers:
    """What an import leaves behind that forked processes must not share.

    Made before the import.
    """

    def __init__(self) -> None:
        self._files = _descriptors()

    def found(self) -> list[str]:
        """Return what there is now, in words; native threads that survive a fork do not count."""
        import threading

        others = [t.name for t in threading.enumerate() if t is not threading.current_thread()]
        found = [f"the thread {name}" for name in others]
        if not found and _native_threads():
            _fork_once()  # libraries that know of forks end their threads before one
            found += [f"the native thread {name}" for name in _native_threads()]
        if has_children():
            found.append("a child process")
        found += [text for file in _descriptors() - self._files if (text := _shared(file))]
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            found.append("a CUDA context")
        return found


def _descriptors() -> frozenset[int]:
    return frozenset(int(name) for name in os.listdir("/proc/self/fd"))


def _native_threads() -> list[str]:
    """The names of threads beside this one, but for those that a forked process begins anew."""
    found = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/comm") as file:
                name = file.read().strip()
        except OSError:  # it ended meanwhile
            continue
        if int(task) != os.getpid() and name not in FORK_AWARE:
            found.append(name)
    return found


def _fork_once() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _shared(descriptor: int) -> str:
    """What an open descriptor is, where processes must not share it; else ""."""
    import fcntl
    import stat

    try:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        mode = os.fstat(descriptor).st_mode
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    except OSError:  # closed meanwhile, as that of the listing itself
        return ""
    if stat.S_ISREG(mode) and flags & os.O_APPEND:  # a log file: each line goes to its end
        return ""
    if path.startswith(("/dev/null", "/dev/urandom", "/dev/random")) or stat.S_ISDIR(mode):
        return ""
    if stat.S_ISSOCK(mode):
        return "an open connection"
    return f"the open file {path}"

"""How a worker ends in good order, and which processes its steps leave to the next.

What a successful step has started lives until its worker ends: a library keeps a pool, and expects to
find it.  What another one has started is killed at once, and the worker with it, as the library would
wait for a pool that is gone.

At its end a worker does what Python does at the end of a process: it waits for threads, calls what is
registered with atexit, lets go of what modules keep and writes what files hold back.  It does so for
its own part alone, as multiprocessing's forked processes do: what was registered before the fork
belongs to the process that registered it.  A clock of the system's ends it when that takes too long.
"""

from __future__ import annotations

import _io
import atexit
import gc
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, NoReturn

from pipedeco.main_file import MAIN, is_users
from pipedeco.worker.children import began_since, bury, has_children, has_many_dead, kill

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

LONGEST = 2.0  # seconds that the end of a worker may take
SAMPLE = 64  # steps with children between two looks at how many are dead
FILES = (_io.TextIOWrapper, _io.BufferedWriter, _io.BufferedRandom)  # as they wrap each other


class Ending:
    """The end of one worker process, which is to be made before the process imports anything."""

    def __init__(self) -> None:
        self.due = False  # whether this process is not to perform another step
        self._inherited = dict(sys.modules)
        self._steps = 0  # after which there were children

    def look_after_children(self, began: int, *, succeeded: bool) -> None:
        """Keep the processes that a step has left, or kill them.

        Parameters
        ----------
        began : int
            When the step did, in nanoseconds of the monotonic clock.
        succeeded : bool
            Whether it did.
        """
        self._steps += 1
        if self._steps % SAMPLE == 0 and has_many_dead():
            self.due = True
        if not succeeded and (new := began_since(began)):
            self.due = True
            for pid in new:
                kill(pid)

    def now(self, status: int = 0) -> NoReturn:
        """End this process with an exit status."""
        try:
            _limit(LONGEST)
            _attempt(threading._shutdown)  # type: ignore[attr-defined]
            _attempt(atexit._run_exitfuncs)
            _attempt(self._let_go)
            _attempt(_write_files)
            if has_children():
                bury()
        finally:
            os._exit(status)

    def at_once(self) -> NoReturn:
        """End this process amid a step: there is nobody left to perform it for."""
        try:
            if has_children():
                bury()
        finally:
            os._exit(0)

    def _let_go(self) -> None:
        """Clear the user's modules, so that what they keep ends as in any other process."""
        for name, module in list(sys.modules.items()):
            path = getattr(module, "__file__", None)
            own = name == MAIN or (isinstance(path, str) and is_users(path))
            if own and self._inherited.get(name) is not module:
                _clear(module)


def disown() -> None:
    """Leave to the process that has forked this one what it has registered for its end."""
    atexit._clear()
    finalize: Any = sys.modules["weakref"].finalize if "weakref" in sys.modules else None
    if finalize is not None:
        finalize._registry.clear()
        finalize._registered_with_atexit = False
    if "logging" in sys.modules:
        atexit.register(sys.modules["logging"].shutdown)
    for name in ("multiprocessing.util", "multiprocess.util"):
        util = sys.modules.get(name)
        if util is not None:
            util._finalizer_registry.clear()
            util._run_after_forkers()
            atexit.register(util._exit_function)


def _limit(seconds: float) -> None:
    """Have the system kill this process after a time, also amid a C function."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _attempt(act: Callable[[], object]) -> None:
    """Do a part of the end; the user's code in it may raise anything, and the rest is done, too."""
    try:
        act()
    except BaseException:  # noqa: BLE001 - as at the end of any Python process
        sys.excepthook(*sys.exc_info())


def _clear(module: ModuleType) -> None:
    """Forget a module's names as Python does at its end: private ones first."""
    names = module.__dict__
    for private in (True, False):
        for name in [each for each in names if each.startswith("_") is private]:
            if name != "__builtins__":
                names[name] = None


def _write_files() -> None:
    """Write what open files hold back: those that this process has made, as others are frozen."""
    made = gc.get_objects()
    files = [each for each in made if issubclass(type(each), _io._IOBase)]
    _flush_all(files)
    for file in files:
        if type(file).__module__ != "_io":  # one that wraps files of Python's, as GzipFile
            _attempt(file.close)
    _flush_all(files)
    temporary: Any = sys.modules.get("tempfile")
    if temporary is not None:
        for file in [each for each in made if type(each) is temporary._TemporaryFileWrapper]:
            _attempt(file.close)


def _flush_all(files: list[Any]) -> None:
    for kind in FILES:
        for file in files:
            if type(file) is kind:
                _flush(file)


def _flush(file: Any) -> None:
    try:
        if not file.closed:
            file.flush()
    except (OSError, ValueError):  # Python has no word for it at its end either; it is detached
        pass

"""The surroundings of a step: working directory, import path, environment, `__main__`."""

from __future__ import annotations

import builtins
import importlib
import os
import signal
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pipedeco.ambient.calls import Noted
from pipedeco.ambient.calls import noted as begin_to_note
from pipedeco.ambient.moments import Moment
from pipedeco.ambient.places import Zone
from pipedeco.ambient.snapshot import AmbientState, capture, parts
from pipedeco.ambient.trackers import variables_here
from pipedeco.config import absolute
from pipedeco.main_file import ALIAS, MAIN, MainFile, is_users
from pipedeco.strays import strays
from pipedeco.worker.marks import own_mark

if TYPE_CHECKING:
    from pipedeco.worker.stray import StrayFinder

_signal = importlib.import_module("_signal")

# Those that programs handle.
_HANDLED = (
    "SIGHUP SIGINT SIGQUIT SIGUSR1 SIGUSR2 SIGPIPE SIGALRM SIGTERM SIGCHLD SIGCONT SIGTSTP SIGWINCH "
    "SIGXCPU SIGVTALRM SIGPROF SIGABRT"
)
WATCHED_SIGNALS = [int(getattr(signal, name)) for name in _HANDLED.split() if hasattr(signal, name)]

Result = TypeVar("Result")


class Surroundings(NamedTuple):
    """What a run's steps find around them: a copy of what its controller had."""

    directory: str
    path: list[str]
    environment: dict[str, str]
    argv: list[str]
    main: dict[str, str | None]  # __file__ and __package__ of __main__
    umask: int
    recursion_limit: int
    moved: tuple[str, str] = ("", "")  # where the project's code stands, and where it is from
    ambient: bytes = b""  # a snapshot, see pipedeco.ambient
    modules: tuple[tuple[Any, ...], ...] = ()  # each as a worker.stray.StrayModule
    main_file: tuple[Any, ...] | None = None  # a MainFile, where workers import it
    seed: int | None = None  # see pipedeco.worker.generators
    # The run at the top of the tree, and what it has to be called; see pipedeco.worker.setups.
    setup: tuple[str, tuple[Any, ...]] = ("", ())


def here() -> Surroundings:
    """The surroundings of this process."""
    main = sys.modules[MAIN]
    facts = {name: getattr(main, name, None) for name in ("__file__", "__package__")}
    # Exact strings: debuggers put subclasses of str in these places.
    return Surroundings(
        _directory(),
        [absolute(entry) if entry == "" else _exact(entry) for entry in sys.path],
        variables_here(),
        [_exact(argument) for argument in getattr(sys, "argv", [])],
        {name: _exact(value) for name, value in facts.items() if isinstance(value, str)},
        _umask(),
        sys.getrecursionlimit(),
        ambient=capture(parts()),
        modules=stray_modules(),
    )


def _exact(text: object) -> str:
    return "".join(str(text))


def _directory() -> str:
    """The working directory; an empty text where it has been removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def _enter(directory: str) -> None:
    """Make this the working directory, also where it is the one that has been removed."""
    if directory:
        os.chdir(directory)
        return
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="pipedeco-") as folder:
        os.chdir(folder)


def _umask() -> int:
    """The umask, read without setting it, as other threads create files meanwhile."""
    try:
        with open("/proc/self/status", "rb") as file:
            return int(file.read().partition(b"Umask:")[2].split(None, 1)[0], 8)
    except (OSError, IndexError, ValueError):  # no /proc here
        return 0o022


def stray_modules() -> tuple[tuple[Any, ...], ...]:
    """The modules of this process that workers need help to find."""
    return tuple((name, path, path, b"") for name, path in strays().files)


class Environment:
    """Puts a worker into a run's surroundings, and back into them after each step."""

    def __init__(self, main_file: MainFile | None = None, noted: Noted | None = None) -> None:
        self.main_file = main_file  # what `__main__` was imported from
        self._wanted: Surroundings | None = None
        self._mark = own_mark()
        self._environment: dict[str, str] = {}  # as the calls are to find it
        self._variables: dict[Any, Any] = {}  # the same, as the interpreter keeps it
        self._modules = 0
        self._stamps: dict[str, tuple[str, int]] = {}
        self._handlers: list[Any] = []
        self._path: list[str] = []
        self.homeless = False  # whether the working directory could not be entered
        self._noted = noted or begin_to_note()
        self._ambient = AmbientState(self._noted)
        self._zone = Zone()
        self._strays: StrayFinder | None = None
        if main_file is not None:
            self._note_modules()

    def enter(self, wanted: Surroundings) -> None:
        """Take on the surroundings of a run.

        Raises CannotImport where the program's main file is to be imported, and cannot be.
        """
        self._wanted = wanted
        wanted.environment.update(self._mark)
        self._put_environment(wanted.environment)
        self._path = list(wanted.path)
        sys.path[:] = wanted.path
        sys.argv = list(wanted.argv)
        sys.setrecursionlimit(wanted.recursion_limit)
        os.umask(wanted.umask)
        self._go_home(wanted.directory)
        if wanted.moved[0]:
            from pipedeco.worker.moved import name_by_origin

            name_by_origin(*wanted.moved)
        sys.path_importer_cache.clear()  # the user may have written modules since
        self.find(wanted.modules)
        if wanted.main_file is not None and self.main_file is None:
            self._import_main(MainFile(*wanted.main_file), wanted.directory)
        sys.modules[MAIN].__dict__.update(wanted.main)
        self._note_modules()
        self._handlers = list(map(_signal.getsignal, WATCHED_SIGNALS))
        self._ambient.enter(wanted.ambient)

    def turn(self, data: bytes) -> None:
        """Be as things were at another call of the run."""
        assert self._wanted is not None
        moment = Moment.of(data)
        self._put_environment(moment.applied(self._wanted.environment))
        self._ambient.turn(moment.states)

    def _import_main(self, file: MainFile, directory: str) -> None:
        from pipedeco.worker.main_import import import_quietly

        try:
            import_quietly(file)
        finally:
            self._go_home(directory)
        self.main_file = file

    @property
    def moved(self) -> tuple[str, str]:
        """Where the project's code stands here, and where it is from; else ("", "")."""
        return ("", "") if self._wanted is None else self._wanted.moved

    def find(self, modules: tuple[tuple[Any, ...], ...]) -> None:
        """From now on these modules can be imported, beside what `sys.path` leads to."""
        finder = self._finder(modules)
        if finder is not None:
            finder.enter(modules)

    def _finder(self, modules: tuple[tuple[Any, ...], ...]) -> StrayFinder | None:
        """What finds modules that have no other finder; most programs have no such."""
        if modules and self._strays is None:
            from pipedeco.worker.stray import StrayFinder

            self._strays = StrayFinder()
        return self._strays

    def adopt(self) -> None:
        """What setup= has changed is what steps find from now on, and are put back to."""
        assert self._wanted is not None
        now, begun = dict(os.environ), self._environment
        changes = Moment(
            {name: text for name, text in now.items() if begun.get(name) != text},
            [name for name in begun if name not in now],
            {},
        )
        self._wanted = self._wanted._replace(
            directory=_directory(),
            path=list(sys.path),
            environment=changes.applied(self._wanted.environment),
            argv=list(sys.argv),
            umask=_umask(),
            recursion_limit=sys.getrecursionlimit(),
        )
        self._put_environment(now)
        self._path = list(sys.path)
        self._note_modules()
        self._handlers = list(map(_signal.getsignal, WATCHED_SIGNALS))
        self._ambient.adopt()

    def set_variable(self, name: str, text: str) -> None:
        """Another run begins in the same surroundings, but for one variable."""
        assert self._wanted is not None
        self._wanted.environment[name] = text
        self.turn(b"")  # the run before may have ended at another moment

    def restore(self) -> None:
        """Undo what a step did to the process; cheap where it did nothing.

        Raises CannotRestore where only another process can be as this one was.
        """
        wanted = self._wanted
        assert wanted is not None
        if _raw_environment() != self._variables:
            self._put_environment(self._environment)
        self._zone.restore()
        if self.homeless or _directory() != wanted.directory:
            self._go_home(wanted.directory)
        if sys.path != self._path:
            sys.path[:] = self._path
        if sys.argv != wanted.argv:
            sys.argv = list(wanted.argv)
        if sys.getrecursionlimit() != wanted.recursion_limit:
            sys.setrecursionlimit(wanted.recursion_limit)
        os.umask(wanted.umask)
        self._restore_signals()
        self._ambient.restore()
        if len(sys.modules) != self._modules:
            self._note_modules()

    def _go_home(self, directory: str) -> None:
        try:
            _enter(directory)
            self.homeless = False
        except OSError:  # it was removed since the run began; a step says so
            self.homeless = True

    def check_directory(self, run: str) -> None:
        """Raise OSError where a step of a run would not be in the run's working directory."""
        assert self._wanted is not None
        directory = self._wanted.directory
        try:
            _enter(directory)
        except OSError as error:
            raise OSError(
                error.errno,
                f"the working directory of run {run}, {directory}, cannot be entered by a worker: "
                f"{os.strerror(error.errno or 0)}; keep it until the run has ended, or start the "
                "run from a folder that stays",
            ) from None
        self.homeless = False

    def settle(self) -> None:
        """Undo what modules do that were imported here: their like has been done in the program.

        Functions that they put into the interpreter's places stay.
        """
        self._ambient.imported()
        self.restore()

    def _restore_signals(self) -> None:
        # The C module's functions, as signal's own wrap each number in an enum.
        if not self._noted.signals.noted:
            return
        self._noted.signals.noted = False
        if hasattr(_signal, "setitimer"):
            for timer in (_signal.ITIMER_REAL, _signal.ITIMER_VIRTUAL, _signal.ITIMER_PROF):
                _signal.setitimer(timer, 0)
            _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        for number, handler in zip(WATCHED_SIGNALS, self._handlers, strict=True):
            if _signal.getsignal(number) is not handler:
                _signal.signal(number, handler)

    def _put_environment(self, wanted: dict[str, str]) -> None:
        self._environment = wanted
        os.environ.clear()
        os.environ.update(wanted)
        self._variables = dict(_raw_environment())
        self._zone.enter()

    def unfit(self, wanted: Surroundings) -> bool:
        """Whether only a fresh process can enter these surroundings.

        A module of the user's that this process has imported changed on disk, or would not be found
        there as it was; or `__main__` is that of another program.
        """
        main_file = None if wanted.main_file is None else MainFile(*wanted.main_file)
        if self.main_file is not None and self.main_file != main_file:
            return True
        if self._stamps and self._path and set(self._path) - set(wanted.path):
            return True
        finder = self._finder(wanted.modules)
        if finder is not None and finder.stale(wanted.modules):
            return True
        return any(_stamp(file) != stamp for file, stamp in self._stamps.values())

    def _note_modules(self) -> None:
        self._modules = len(sys.modules)
        for name, module in list(sys.modules.items()):
            path = getattr(module, "__file__", None)
            # That of `__main__` may be a run's own copy.
            if name not in self._stamps and name != MAIN and path and is_users(path):
                self._stamps[name] = (path, _stamp(path))


def _raw_environment() -> Any:
    """The mapping under os.environ: comparing it costs a microsecond, not forty."""
    return getattr(os.environ, "_data", None) or dict(os.environ)


def _stamp(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:  # gone: that is a change too
        return -1


def new_main() -> None:
    """Give this worker an empty `__main__`, which definitions will fill."""
    main = ModuleType(MAIN)
    main.__dict__["__builtins__"] = builtins  # C code that imports looks for it
    sys.modules[MAIN] = main
    sys.modules[ALIAS] = main  # as multiprocessing would do

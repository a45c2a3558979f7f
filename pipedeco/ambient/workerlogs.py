"""`logging` in a worker: as the program has set it up, whatever a step or an import does to it."""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.ambient import wire
from pipedeco.ambient.loggers import FORWARDED, LEVELS, STEP, log_text
from pipedeco.ambient.watch import RecordWatch
from pipedeco.errors import PipedecoError
from pipedeco.events import LOG
from pipedeco.picklers import loads
from pipedeco.tracing import reporting
from pipedeco.tracking import stderr_handler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pipedeco.reporter import Reporter


class Shown(logging.StreamHandler):  # type: ignore[type-arg]
    """Stands for a handler of the program's that writes to its stdout or stderr.

    Parameters
    ----------
    place : str
        Which of them; the stream is what it is at that moment, another for each run.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        super().__init__()

    @property
    def stream(self) -> Any:
        return getattr(sys, self._place)

    @stream.setter
    def stream(self, stream: Any) -> None:
        pass


class Forwarded(logging.Handler):
    """Stands for any other handler of the program's, which gets the record where it is.

    Its formatter is for the step's log alone, and may need modules that take long to import.
    """

    def __init__(self, key: int, log: StepLog, formatter: bytes | None, *, filtered: bool) -> None:
        super().__init__()
        self._packed = formatter
        self._theirs: logging.Formatter | None = None
        self.address = key, filtered  # with whether its filters are applied here
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._log.keep(self.address, record)
        except Exception:  # noqa: BLE001 - the user's objects, as in any handler
            self.handleError(record)
        if not self._log.watch.watching:  # else all handlers of the record go in one report
            self._log.took(record, [self], None)

    def format(self, record: logging.LogRecord) -> str:
        if self._packed is not None:
            self._theirs = next(iter(_loaded([self._packed])), None)
            self._packed = None
        formatter = self.formatter or self._theirs
        return super().format(record) if formatter is None else formatter.format(record)


class StepLog:
    """Reports the records that go to forwarded handlers, and those that stand in no log else."""

    def __init__(self, reporter: Reporter) -> None:
        self.watch = RecordWatch(self)
        self._reporter = reporter
        self._kept = _Kept()

    def begin(self) -> Any:
        return _written()

    def keep(self, address: tuple[int, bool], record: logging.LogRecord) -> None:
        """Take a record as a handler gets it: a filter of a later one may change it."""
        kept = self._kept.records.setdefault(id(record), [])
        if not kept or kept[-1][0] is not record.msg or kept[-1][1] is not record.args:
            kept.append((record.msg, record.args, [], wire.pack(record)))
        kept[-1][2].append(address)

    def took(
        self, record: logging.LogRecord, handlers: list[logging.Handler], begun: object
    ) -> None:
        kept = self._kept.records.pop(id(record), ())
        payloads = [{"to": to, **packed} for _, _, to, packed in kept]
        forwarded = sum(len(payload["to"]) for payload in payloads)
        shown = any(isinstance(handler, (Shown, stderr_handler())) for handler in handlers)
        if not shown and forwarded < len(handlers):  # a handler that the step has made
            shown = _written() != begun
        if not shown:
            payloads = payloads or [{}]
            payloads[0]["text"] = log_text(handlers[0], record)
        for payload in payloads:
            try:
                self._reporter.emit(LOG, record.name, payload, time=record.created)
            except PipedecoError:  # a full disk, or a thread whose step is over
                handlers[0].handleError(record)


class _Kept(threading.local):
    """Records that are being handled, as their forwarded handlers have got them."""

    def __init__(self) -> None:
        # By the record's id: message, arguments, addresses and the packed record.
        self.records: dict[int, list[tuple[Any, Any, list[Any], dict[str, Any]]]] = {}


def _written() -> tuple[int, ...]:
    """How much stands in the files of stdout and stderr."""
    try:
        return os.fstat(1).st_size, os.fstat(2).st_size
    except OSError:  # the step has closed one
        return ()


class _State(NamedTuple):
    """Of one logger."""

    level: int = 0
    propagate: bool = True
    disabled: bool = False
    filters: tuple[Any, ...] = ()
    handlers: tuple[logging.Handler, ...] = ()


_DEFAULT = _State()


class _Globals(NamedTuple):
    """What logging has one of in a process."""

    disable: int
    silent: bool  # without a handler of last resort
    quiet: bool  # failures of handlers are not shown
    captures: bool  # warnings
    levels: dict[int, str]
    factory: Callable[..., logging.LogRecord]
    kind: type[logging.Logger]


class Loggers:
    """Keeps all loggers of this worker as a captured state says."""

    def __init__(self) -> None:
        reporter: Reporter = reporting.get()
        self.log = StepLog(reporter)
        self.log.watch.install()
        self._touched = False
        self._notice_changes()
        self._keep_files()
        self._wanted: dict[str, _State] = {}
        self._libraries: dict[str, _State] = {}  # of loggers that only modules here have set up
        self._modules: frozenset[str] = frozenset()  # that have been here at the last look
        self._files: frozenset[str] = frozenset()
        self._aside: list[logging.Handler] = []  # the program's own, in a process forked from it
        self._lists: list[tuple[logging.Logger, list[Any]]] = []  # handlers, where there are any
        self._made: list[tuple[logging.Handler, tuple[Any, ...]]] = []
        self._globals = _globals_now()

    def enter(self, state: Any) -> None:
        """Take on a captured state; what handlers there are is left alone, and open."""
        state = state or {}
        made = [self._handler(packed) for packed in state.get("handlers", ())]
        self._made = [(handler, _facts(handler)) for handler in made]
        self._wanted = {"root": _DEFAULT._replace(level=logging.WARNING)}
        for name, (level, propagate, disabled, filters, numbers) in state.get(
            "loggers", {}
        ).items():
            handlers = tuple(made[number] for number in numbers)
            self._wanted[name] = _State(level, propagate, disabled, _loaded(filters), handlers)
        self._globals = _Globals(
            state.get("disable", 0),
            silent="silent" in state,
            quiet="quiet" in state,
            captures="captures" in state,
            levels=dict(state.get("levels") or LEVELS),
            factory=_loaded_or(state.get("factory"), logging.LogRecord),
            kind=_loaded_or(state.get("class"), logging.Logger),
        )
        self._files = frozenset(state.get("files", ()))
        self._aside += self._apply()

    def adopt(self) -> None:
        """Take loggers as they are now for what `restore` goes back to."""
        known = logging.root.manager.loggerDict.values()
        loggers = [logging.root, *(item for item in known if isinstance(item, logging.Logger))]
        self._wanted = {logger.name: _state_of(logger) for logger in loggers}
        self._globals = _globals_now()
        self._lists = [(each, list(each.handlers)) for each in loggers if each.handlers]
        self._made = [(handler, _facts(handler)) for handler, _ in self._made]
        self._touched = False

    def restore(self) -> None:
        """Put back what was changed since; a microsecond where nothing was."""
        if self._touched or self._has_changed():
            for handler in self._apply():
                _put_away(handler)

    # -- what is changed -------------------------------------------------------------------

    def _notice_changes(self) -> None:
        """Note that a logger was made or changed; lists that are changed in place are compared."""
        for owner, name in (
            (logging.Logger, "__setattr__"),
            (logging.Logger, "addHandler"),
            (logging.Logger, "removeHandler"),
            (logging.Filterer, "addFilter"),
            (logging.Filterer, "removeFilter"),
        ):
            setattr(owner, name, self._noting(getattr(owner, name)))

    def _noting(self, before: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(before)
        def note(*args: Any, **kwargs: Any) -> Any:
            self._touched = True
            return before(*args, **kwargs)

        return note

    def _keep_files(self) -> None:
        """Have a module that is imported here truncate no file that the program logs to."""
        before = logging.FileHandler._open

        def open_(handler: logging.FileHandler) -> Any:
            if handler.mode.startswith("w") and handler.baseFilename in self._files:
                handler.mode = f"a{handler.mode[1:]}"
            return before(handler)

        logging.FileHandler._open = open_  # type: ignore[method-assign, assignment]

    def _has_changed(self) -> bool:
        for logger, handlers in self._lists:
            if logger.handlers != handlers:
                return True
        for handler, facts in self._made:
            if _facts(handler) != facts:
                return True
        return _read_globals() != self._globals

    # -- putting it back -------------------------------------------------------------------

    def _apply(self) -> list[logging.Handler]:
        """Make all loggers as they are wanted; the handlers that were taken away."""
        for handler, (level, formatter, *_) in self._made:
            handler.setLevel(level)
            handler.setFormatter(formatter)
        manager = logging.root.manager
        for name in self._wanted:
            logging.getLogger(name)
        loggers = [item for item in manager.loggerDict.values() if isinstance(item, logging.Logger)]
        aside: list[logging.Handler] = []
        for logger in (logging.root, *loggers):
            wanted = self._wanted.get(logger.name) or self._library(logger)
            aside += [handler for handler in logger.handlers if handler not in wanted.handlers]
            _set(logger, wanted)
        _forget(aside)
        self._apply_globals()
        self._lists = [
            (logger, list(logger.handlers))
            for logger in (logging.root, *loggers)
            if logger.handlers
        ]
        self._modules = frozenset(sys.modules)
        self._touched = False
        return aside

    def _library(self, logger: logging.Logger) -> _State:
        """What a logger is to be that the program has not set up.

        A library that was imported here sets up loggers of its own, and is not asked again.
        """
        known = self._libraries.get(logger.name)
        if known is None:
            top = logger.name.partition(".")[0]
            new = {top, logger.name} - self._modules
            known = _state_of(logger) if any(name in sys.modules for name in new) else _DEFAULT
            self._libraries[logger.name] = known
        return known

    def _apply_globals(self) -> None:
        wanted = self._globals
        logging.disable(wanted.disable)
        last = None if wanted.silent else logging._defaultLastResort  # type: ignore[attr-defined]
        logging.lastResort = last
        logging.raiseExceptions = not wanted.quiet
        for number in logging._levelToName.keys() - wanted.levels.keys():
            logging._nameToLevel.pop(logging._levelToName.pop(number), None)
        for number, name in wanted.levels.items():
            logging.addLevelName(number, name)
        logging.setLogRecordFactory(wanted.factory)
        logging.setLoggerClass(wanted.kind)
        if wanted.captures != _captures():
            logging.captureWarnings(not wanted.captures)  # it believes so, others do not
            logging.captureWarnings(wanted.captures)

    def _handler(self, packed: tuple[Any, ...]) -> logging.Handler:
        place, key, level, formatter, filters, filtered = packed
        handler: logging.Handler
        if place == FORWARDED:
            handler = Forwarded(key, self.log, formatter, filtered=filtered)
        else:
            handler = stderr_handler()() if place == STEP else Shown(place)
            if formatter is not None:
                handler.setFormatter(next(iter(_loaded([formatter])), None))
        handler.setLevel(level)
        handler.filters = list(_loaded(filters))
        _forget([handler])
        return handler


def _facts(handler: logging.Handler) -> tuple[Any, ...]:
    return handler.level, handler.formatter, *handler.filters


def _globals_now() -> _Globals:
    found = _Globals(*_read_globals())
    return found._replace(levels=dict(found.levels))


def _read_globals() -> tuple[Any, ...]:
    """As in `_Globals`; read after each step, so a mere tuple."""
    return (
        logging.root.manager.disable,
        logging.lastResort is None,
        not logging.raiseExceptions,
        _captures(),
        logging._levelToName,
        logging._logRecordFactory,  # type: ignore[attr-defined]
        logging._loggerClass,  # type: ignore[attr-defined]
    )


def _captures() -> bool:
    return warnings.showwarning is logging._showwarning  # type: ignore[attr-defined]


def _put_away(handler: logging.Handler) -> None:
    """Lose nothing of a handler that a step or an import has made, and leave no file open."""
    try:
        handler.flush()
        if type(handler).__module__ in ("logging", "logging.handlers"):  # others may write an end
            handler.close()
    except Exception as error:  # noqa: BLE001 - the user's handler
        sys.stderr.write(f"pipedeco: {handler!r} cannot be flushed: {error!r}\n")


def _state_of(logger: logging.Logger) -> _State:
    switches = logger.level, logger.propagate, logger.disabled
    return _State(*switches, tuple(logger.filters), tuple(logger.handlers))


def _set(logger: logging.Logger, wanted: _State) -> None:
    if logger.level != wanted.level:
        logger.setLevel(wanted.level)
    logger.propagate, logger.disabled = wanted.propagate, wanted.disabled
    logger.filters[:] = wanted.filters
    logger.handlers[:] = wanted.handlers


def _forget(handlers: list[logging.Handler]) -> None:
    """Have the end of this process close none of these: the program's own are its alone."""
    known: list[Any] = logging._handlerList  # type: ignore[attr-defined]
    known[:] = [entry for entry in known if entry() not in handlers]


def _loaded_or(packed: bytes | None, usual: Any) -> Any:
    return next(iter(_loaded([] if packed is None else [packed])), usual)


def _loaded(packed: Iterable[bytes]) -> tuple[Any, ...]:
    """What was pickled; of what cannot be loaded here the log tells."""
    found = []
    for data in packed:
        try:
            found.append(loads(data))
        except Exception as error:  # noqa: BLE001 - the user's modules
            sys.stderr.write(f"pipedeco: a part of logging cannot be loaded: {error!r}\n")
    return tuple(found)

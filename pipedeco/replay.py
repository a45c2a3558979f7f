"""Replay: the function of a recorded step with its recorded inputs, once more, in this process.

    Recorded       which step
    prepared       its function and its arguments, found; nothing is called yet
    Replay.call    calls the bare function; nothing is recorded
    Replay.debug   the same under pdb, which stops at the line that fails, or at the first one

Working directory and environment are this process's own.
"""

from __future__ import annotations

import inspect
import json
import os
import pdb
import sys
from bdb import BdbQuit
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.blobs import blobs_of
from pipedeco.components import Traced, check_arguments
from pipedeco.config import absolute, debugger_attached, project_folder
from pipedeco.definitions import find
from pipedeco.errors import BlobCorrupt, ConfigError, NotPicklable, PipedecoError, StoreError
from pipedeco.fingerprint.code import CodeKeys
from pipedeco.fingerprint.packages import Owners
from pipedeco.fingerprint.values import value_digest
from pipedeco.graph import CANCELLED, FAILED, RUNNING, SKIPPED, SUCCESS
from pipedeco.loading import load
from pipedeco.main_file import MAIN
from pipedeco.reporter import silent
from pipedeco.requirements import Requirements, unmet
from pipedeco.serialization import UNRECORDED, unpack_arguments
from pipedeco.store import rows
from pipedeco.store.database import as_dicts, connect_to_read, queries
from pipedeco.text import plain_text, write_stderr
from pipedeco.tracing import current, inside_step, reporting
from pipedeco.user_frames import put_traceback, user_part
from pipedeco.worker.generators import seeded
from pipedeco.worker.perform import describe_error, run_coroutine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from types import FrameType, ModuleType, TracebackType

Row = dict[str, Any]
OURS = ("pipedeco", "pipedeco.*", "asyncio", "asyncio.*", "selectors")  # modules not stepped into
NAMED = 5  # changed parts of the code that are told by name


class Recorded(NamedTuple):
    """Which step is to be replayed.

    Attributes: `store` (its folder), `step` (the id of its row), `state`, `child_run` (the id of
    the run that a pipeline's step is), `value_of` (gives the value of the step at a position).
    """

    store: str
    step: int
    state: str
    child_run: str | None
    value_of: Callable[[int], Any]


def replay(recorded: Recorded, *, break_: bool = False, debugger: bool = True) -> Any:
    """Call the step's function with its recorded inputs; gives its value, and records nothing.

    Parameters
    ----------
    recorded: the step.
    break_: stop in pdb at the first line of the function.
    debugger: stop in pdb at the line that fails, where there is a terminal.  Under the debugger of
        an IDE the function is simply called, and that debugger stops.

    Raises what the function raises, ConfigError where it is not found or cannot be replayed,
    StoreError and BlobCorrupt where its inputs are not there any more.
    """
    by_itself = not debugger or debugger_attached()
    if break_ and not by_itself:
        check_terminal()
    with prepared(recorded) as found:
        return found.call() if by_itself else found.debug(break_=break_)


def has_terminal() -> bool:
    """Whether somebody is there to talk to a debugger."""
    try:
        return sys.stdin is not None and sys.stdin.isatty()
    except ValueError:  # it is closed
        return False


def check_terminal() -> None:
    if not has_terminal():
        raise ConfigError(
            "a debugger that stops at the first line needs a terminal; in an IDE or a notebook set "
            "a breakpoint there"
        )


@contextmanager
def prepared(recorded: Recorded) -> Iterator[Replay]:
    """A step that is ready to be called; afterwards `__main__` and the import path are as before.

    What should be known of it (other code, another place) is told on stderr, a line each.
    Raises ConfigError, StoreError and BlobCorrupt.
    """
    facts = _read_facts(recorded)
    _refuse(recorded, facts)
    _tell_place(recorded, facts)
    _tell_environment(facts)
    saved = sys.modules[MAIN], sys.argv, list(sys.path)
    try:
        code = _Code(facts)
        function = code.find()
        args, kwargs = _load_arguments(recorded, facts, code)
        try:
            check_arguments(function, args, kwargs)
        except TypeError as error:
            raise ConfigError(
                f"{facts['what']} cannot be replayed: its function does not take the recorded "
                f"arguments: {error}"
            ) from None
        if code.comparable:
            _tell_changes(facts, function)
        yield Replay(facts, recorded.state, function, args, kwargs)
    finally:
        sys.modules[MAIN], sys.argv, sys.path[:] = saved


# -- what is recorded ----------------------------------------------------------------------


def _read_facts(recorded: Recorded) -> Row:
    found = _query(recorded.store, "replayed_step", recorded.step)
    if not found:
        raise StoreError(f"the step is not in the store {recorded.store} any more")
    facts = found[0]
    facts["what"] = f"step {facts['name']} of run {facts['run']}"
    facts["capture"] = json.loads(facts["capture"] or "{}")
    return facts


def _query(folder: str, name: str, step: int) -> list[Row]:
    import sqlite3

    connection = connect_to_read(folder)
    try:
        return as_dicts(connection.execute(queries("replaying.sql")[name], {"id": step}))
    except sqlite3.Error as error:
        raise StoreError(f"the store {folder} cannot be read: {error}") from error
    finally:
        connection.close()


def _refuse(recorded: Recorded, facts: Row) -> None:
    """Raise where a step cannot be replayed whatever its code is."""
    what = facts["what"]
    if facts["is_pipeline"]:
        raise ConfigError(f"{what} is a pipeline; {_instead(recorded)}")
    for position in rows.unpack_positions(facts["inputs"]):
        needed = _query(recorded.store, "step_state", rows.step_id(facts["seq"], position))[0]
        if needed["state"] not in SUCCESS:
            why = facts["reason"] or f"step {needed['name']} is {needed['state']}"
            failed = f" {needed['name']}" if needed["state"] == FAILED else ""
            raise ConfigError(
                f"{what} is {recorded.state} and never had its inputs: {why}; replay what failed: "
                f"pipedeco debug {facts['run']}{failed}"
            )
    if facts["args"] == UNRECORDED:
        raise StoreError(f"the arguments of {what} could not be recorded: they cannot be pickled")


def _instead(recorded: Recorded) -> str:
    """What to do where a step is a child run."""
    child = recorded.child_run
    if child is None:
        return "it never began"
    if recorded.state == FAILED:
        return f"replay the step that failed in its run: pipedeco debug {child}"
    return (
        f"replay a step of its run: pipedeco debug {child} STEP, which pipedeco show {child} lists"
    )


def _tell_place(recorded: Recorded, facts: Row) -> None:
    if recorded.state == RUNNING:
        _tell(f"{facts['what']} is still running")
    then = facts["capture"].get("process", {}).get("cwd")
    folder = project_folder()
    here = absolute("") or "gone"
    now = here if folder is None else os.path.relpath(here, folder)
    if then is not None and then != now:
        _tell(f"the run's working directory was {then}, that of the replay is {now}")


def _tell_environment(facts: Row) -> None:
    """Say what of the step's own environment is not met here."""
    own = json.loads(facts["component_facts"] or "{}").get("environment")
    lacking = unmet(Requirements.recorded(own)) if own else []
    if lacking:
        _tell(
            f"{facts['what']} had an environment of its own, and this one differs: "
            f"{'; '.join(lacking)}"
        )


def _load_arguments(
    recorded: Recorded, facts: Row, code: _Code
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The (args, kwargs) of the recorded call; classes of `__main__` may lie in the script."""
    what = f"the arguments of {facts['what']}"
    try:
        return _unpack(recorded, facts)
    except BlobCorrupt as error:
        raise BlobCorrupt(f"{what}: {error}") from error
    except PipedecoError:
        raise
    except Exception as error:  # whatever the classes of the values raise, or their absence
        if code.load_main():
            return _load_arguments(recorded, facts, code)
        raise StoreError(
            f"{what} cannot be loaded in this process: {type(error).__name__}: {error}"
        ) from error


def _unpack(recorded: Recorded, facts: Row) -> tuple[tuple[Any, ...], dict[str, Any]]:
    blobs = blobs_of(recorded.store)
    positions = rows.unpack_positions(facts["inputs"])
    values: dict[int, Any] = {}  # one object however often it stands in the arguments

    def value(number: int) -> Any:
        if number not in values:
            values[number] = recorded.value_of(positions[number])
        return values[number]

    if isinstance(facts["args"], str):
        blobs.get(facts["args"], verify=True)
    return unpack_arguments(facts["args"], blobs, value)


# -- the code ------------------------------------------------------------------------------


class _Code:
    """Where the function of a step is looked for.

    Attributes: `comparable` (whether names in it are what they were in the run).
    """

    def __init__(self, facts: Row) -> None:
        self.facts = facts
        self.comparable = True
        self._main = False  # whether the run's __main__ is ours
        self._tried: list[str] = []

    def find(self) -> Callable[..., Any]:
        """The bare function, of the module as it is now.  Raises ConfigError."""
        facts = self.facts
        for name in dict.fromkeys((facts["module"], facts["run_module"])):
            if not self._open(name):
                continue
            module = sys.modules[name]
            found = self._named(module) if name == facts["module"] else None
            found = found or self._alike(module)
            if found is not None:
                return found
        raise ConfigError(self._missing())

    def load_main(self) -> bool:
        """Have the script of the run as `__main__`; False where that is so, or cannot be."""
        return not self._main and self._open(MAIN)

    def _open(self, name: str) -> bool:
        """Import a module, or load the script that was `__main__`; whether it is there then."""
        if name == MAIN and self._main:
            return True
        file = self.facts["run_file" if name == self.facts["run_module"] else "file"]
        here = _find_file(file)
        folder = _import_folder(name, here)
        if folder is not None and folder not in sys.path:
            sys.path.insert(0, folder)
        if name == MAIN:
            self._main = self._open_main(file, here)
            return self._main
        if name in sys.modules:
            return True
        try:
            load(name)
        except ConfigError as error:
            if hasattr(error, "traceback"):
                raise
            self._tried.append(f"the module {name}, which is not found")
            return False
        return True

    def _open_main(self, file: str | None, here: str | None) -> bool:
        own = getattr(sys.modules[MAIN], "__file__", None)
        typed = file is None or not file.endswith(".py") or "ipykernel" in file
        if typed and own is None:  # a notebook or a prompt, and this is one
            self._tried.append("what was typed here")
            return True
        if here is None:
            self._tried.append(f"{file}, which is not there")
            return False
        self._tried.append(here)
        if own is not None and os.path.exists(own) and os.path.samefile(own, here):
            return True
        if here != file:
            _tell(f"{here} is taken for {file}")
        module = _started_as(self.facts["capture"], here)
        if module is None:
            load(here)
        else:  # by `python -m`; its imports may be relative
            self.comparable = False
            sys.path.insert(0, _import_folder(module, here) or "")
            sys.modules[MAIN] = load(module).module
        return True

    def _named(self, module: ModuleType) -> Callable[..., Any] | None:
        """What the module has under the function's name."""
        name, recorded = self.facts["module"], self.facts["file"]
        if name != MAIN:
            self._tried.append(f"the module {name} ({getattr(module, '__file__', 'built-in')})")
        try:
            found: Any = find("name", name, self.facts["qualname"].encode())
        except NotPicklable:
            return None
        code = getattr(found, "__code__", None)
        if code is not None and name != MAIN and recorded and code.co_filename != recorded:
            _tell(f"{name} is imported from {code.co_filename}; the run had {recorded}")
        return found if callable(found) else None

    def _alike(self, module: ModuleType) -> Callable[..., Any] | None:
        """The function of the one component there that can have been it, such as a lambda."""
        facts = self.facts
        found = {
            id(value.fn): value.fn
            for value in vars(module).values()
            if isinstance(value, Traced)
            and value.name == facts["component"]
            and getattr(value.fn, "__qualname__", value.name) == facts["qualname"]
        }
        at_line = [fn for fn in found.values() if _line(fn) == facts["line"]]
        chosen = at_line or list(found.values())
        return chosen[0] if len(chosen) == 1 else None

    def _missing(self) -> str:
        facts = self.facts
        qualname = facts["qualname"]
        text = (
            f"{facts['what']} cannot be replayed: its function {qualname} was looked for in "
            f"{' and in '.join(dict.fromkeys(self._tried))}"
        )
        if "<locals>" in qualname:
            return f"{text}; it was made inside another function: define it at the top level"
        if facts["module"] == MAIN and not str(facts["file"]).endswith(".py"):
            return f"{text}; it was typed at a prompt: call replay() there"
        if "ipykernel" in str(facts["file"]):
            return f"{text}; it was typed in a notebook: call replay() there"
        return (
            f"{text}; it has been renamed or removed since, or stands behind the first call of a "
            "pipeline, where loading stops"
        )


def _line(function: Any) -> int | None:
    code = getattr(function, "__code__", None)
    return None if code is None else int(code.co_firstlineno)


def _find_file(path: str | None) -> str | None:
    """A recorded file, or the one below here that has the longest end of its path in common."""
    if path is None or os.path.isfile(path):
        return path
    parts = path.split(os.sep)
    for start in range(1, len(parts)):
        for folder in (absolute(""), project_folder()):
            found = os.path.join(folder or "", *parts[start:])
            if folder and parts[-1].endswith(".py") and os.path.isfile(found):
                return found
    return None


def _import_folder(module: str, file: str | None) -> str | None:
    """The folder on the import path that makes `file` this module; None where none does."""
    if file is None:
        return None
    if module == MAIN:
        return os.path.dirname(file)
    path = os.path.splitext(file)[0]
    if os.path.basename(path) in ("__init__", "__main__"):
        path = os.path.dirname(path)
    end = os.sep + module.removesuffix(".__main__").replace(".", os.sep)
    return path.removesuffix(end) if path.endswith(end) else None


def _started_as(capture: dict[str, Any], file: str) -> str | None:
    """The module that `python -m` named, where it is this file."""
    command = capture.get("process", {}).get("command", [])
    if "-m" not in command[:-1]:
        return None
    name = str(command[command.index("-m") + 1])
    for module in (name, f"{name}.__main__"):
        if "." in module and _import_folder(module, file) is not None:
            stem = os.path.splitext(os.path.basename(file))[0]
            if module.rpartition(".")[2] == stem:
                return module
    return None


def _tell_changes(facts: Row, function: Callable[..., Any]) -> None:
    """A line that names what the function reaches and has changed since the run."""
    if facts["code"] is None:
        return
    key = CodeKeys(value_digest=value_digest).key(function)
    if key.digest == facts["code"]:
        return
    then, now = dict(json.loads(facts["parts"] or "[]")), dict(key.parts)
    changed = [name for name in sorted({*then, *now}) if then.get(name) != now.get(name)]
    more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
    if changed:
        _tell(f"the code has changed since: {', '.join(changed[:NAMED])}{more}")


def _tell(text: str) -> None:
    write_stderr(f"pipedeco: {plain_text(text)}\n")


# -- the call ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Replay:
    """A step that is ready to be called.

    Attributes: `facts` (what is recorded), `state`, `function` (undecorated), `args`, `kwargs`.
    """

    facts: Row
    state: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def call(self, *, break_: bool = False) -> Any:
        """The value of the function; raises what it raises, without frames of ours on top.

        With `break_` pdb stops at its first line.
        """
        # Components are bare functions, and what is reported is dropped.
        tokens = current.set(None), inside_step.set(True), reporting.set(silent())
        try:
            with self._seeded():
                return self._traced() if break_ else _invoke(self.function, self.args, self.kwargs)
        except BaseException as error:
            put_traceback(error, user_part(error.__traceback__))
            raise
        finally:
            current.reset(tokens[0])
            inside_step.reset(tokens[1])
            reporting.reset(tokens[2])

    def _traced(self) -> Any:
        tracer = sys.gettrace()
        try:
            sys.settrace(self._make_tracer())
            return _invoke(self.function, self.args, self.kwargs)
        finally:
            sys.settrace(tracer)

    def _seeded(self) -> AbstractContextManager[None]:
        """The step draws what it drew in its run, where that had a seed."""
        seed = self.facts["seed"]
        if seed is None:
            return nullcontext()
        return seeded(int(seed), self.facts["name"], self.facts["attempt"] or 1)

    def debug(self, *, break_: bool = False) -> Any:
        """As `call`; on a terminal pdb stops at the line that fails, before that leaves."""
        try:
            return self.call(break_=break_)
        except (KeyboardInterrupt, BdbQuit):
            raise
        except BaseException as error:
            if has_terminal():
                self.tell_failure(error)
                _post_mortem(user_part(error.__traceback__))
            raise

    def tell_failure(self, error: BaseException) -> None:
        """Write the traceback, and how the failure compares with what is recorded, to stderr."""
        put_traceback(error, user_part(error.__traceback__))
        known = describe_error(error)
        write_stderr(plain_text(known.traceback, keep_lines=True).rstrip() + "\n")
        then = (self.facts["error_type"], self.facts["error_text"])
        if then == (known.type, known.text):
            _tell(f"{self.named} fails as recorded")
        else:
            now = f"{known.type}: {known.text}" if known.text else known.type
            _tell(f"{self.named} fails with {now}; {self.recorded_end}")

    @property
    def named(self) -> str:
        return f"{self.facts['what']} ({self.facts['pipeline']}#{self.facts['number']})"

    @property
    def recorded_end(self) -> str:
        """How the step ended in its run."""
        ends = {SKIPPED: "was skipped", CANCELLED: "was cancelled", RUNNING: "is still running"}
        if self.facts["error_type"]:
            parts = self.facts["error_type"], self.facts["error_text"]
            return f"recorded is {': '.join(filter(None, parts))}"
        return f"in the run it {ends.get(self.state, f'was {self.state}')}"

    def _make_tracer(self) -> Callable[..., Any]:
        """A trace function that hands the function's frame to pdb once it is entered."""
        code = _code_of(self.function)
        if code is None:
            raise ConfigError(f"{self.facts['qualname']} has no lines to stop at")
        debugger = _Debugger(skip=OURS)

        def tracer(frame: FrameType, event: str, _argument: Any) -> Any:
            if event != "call" or frame.f_code is not code:
                return None
            debugger.set_trace(frame)
            return debugger.trace_dispatch

        return tracer


def _invoke(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    value = function(*args, **kwargs)
    if type(value) is CoroutineType:
        value = run_coroutine(value)
    return value


def _code_of(function: Any) -> Any:
    """The code that the user wrote, below decorators and partials."""
    while hasattr(function, "func") and not hasattr(function, "__code__"):
        function = function.func
    function = inspect.unwrap(function)
    if not hasattr(function, "__code__"):
        function = type(function).__call__
    return getattr(function, "__code__", None)


# -- pdb -----------------------------------------------------------------------------------


class _Debugger(pdb.Pdb):
    """pdb without the frames above the step; post mortem it stands in the user's innermost."""

    def get_stack(
        self, f: FrameType | None, t: TracebackType | None
    ) -> tuple[list[tuple[FrameType, int]], int]:
        stack, index = super().get_stack(f, t)
        users = _UserFrames()
        codes = [frame.f_code for frame, _ in stack]
        first = codes.index(_invoke.__code__) + 1 if _invoke.__code__ in codes else 0
        while first < index and not users.has(stack[first][0]):
            first += 1
        stack, index = stack[first:], index - first
        if t is not None:
            own = [n for n, (frame, _) in enumerate(stack) if users.has(frame)]
            index = own[-1] if own else index
        return stack, index


class _UserFrames:
    """Which frames execute code of the user's."""

    def __init__(self) -> None:
        self._owners = Owners()

    def has(self, frame: FrameType) -> bool:
        module = frame.f_globals.get("__name__")
        return not module or self._owners.of(str(module)).kind == "user"


def _post_mortem(traceback: TracebackType | None) -> None:
    """Stop where the exception was raised, in pdb or in what PYTHONBREAKPOINT names."""
    if traceback is None:  # it was raised by a function that is not Python's
        return
    other = _named_debugger()
    if other is not None:
        other(traceback)
        return
    debugger = _Debugger()
    debugger.reset()
    debugger.interaction(None, traceback)


def _named_debugger() -> Callable[[TracebackType], None] | None:
    """`post_mortem` of the debugger that PYTHONBREAKPOINT names."""
    import importlib

    name = os.environ.get("PYTHONBREAKPOINT", "").rpartition(".")[0]
    if name in ("", "pdb"):
        return None
    try:
        found = getattr(importlib.import_module(name), "post_mortem", None)
    except ImportError:
        return None
    return found if callable(found) else None

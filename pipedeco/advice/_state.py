"""Where the reading of a body stands: its names, the tries around it, what has been found."""

from __future__ import annotations

import _ast
from typing import TYPE_CHECKING

from pipedeco.advice import _rules as rules
from pipedeco.advice._lookup import Names
from pipedeco.advice._shapes import Known, Origin, Result, Shape, Traced, join, origins

if TYPE_CHECKING:
    import ast
    from collections.abc import Callable, Sequence
    from types import CodeType
    from typing import Any

    from pipedeco.advice._source import Body

    Env = dict[str, Shape | None]

# How surely a use waits for the value.
MAYBE = 0  # it may
ACTS = 1  # it does, and what is then done to the value may itself raise
WAITS = 2  # it does, and nothing but the step's failure can come of it

# Failures that no step has, or that come at the call: a handler for these is not for a step.
_NOT_OF_STEPS = frozenset(
    (
        "builtins.KeyboardInterrupt",
        "builtins.SystemExit",
        "builtins.GeneratorExit",
        "builtins.TimeoutError",  # of result(timeout=...)
        "concurrent.futures._base.CancelledError",
        "asyncio.exceptions.CancelledError",
        "pipedeco.errors.BlobCorrupt",
        "pipedeco.errors.ConfigError",
        "pipedeco.errors.GraphError",
        "pipedeco.errors.RunBusy",
        "pipedeco.errors.RunCancelled",
        "pipedeco.errors.RunFailed",
        "pipedeco.errors.RunNotFound",
        "pipedeco.errors.StepCancelled",
        "pipedeco.errors.StoreError",
    )
)
_LOOKUPS = frozenset(("builtins.LookupError", "builtins.KeyError", "builtins.IndexError"))
_BROAD = frozenset(("", "builtins.Exception", "builtins.BaseException"))


class Guard:
    """A `try` whose body is being read.

    Attributes:
        broad: a handler takes any exception.
        lookups: a handler takes those of a selection.
        relevant: a handler is for what a step may raise.
        reraises: each broad handler passes on what it got.
        foreign: something inside may raise that has nothing to do with a step.
        indexes: something inside looks up what is no result.
        started: the calls and selections made inside.
        reads: whether a result is read inside.
        late: the calls outside whose results are read inside, and how.
        touched: what names have been inside, for the handlers to find.
    """

    __slots__ = (
        "broad",
        "foreign",
        "indexes",
        "late",
        "line",
        "lookups",
        "reads",
        "relevant",
        "reraises",
        "started",
        "touched",
    )

    def __init__(self, node: ast.Try, caught: Sequence[str]) -> None:
        self.line = node.lineno
        self.broad = not _BROAD.isdisjoint(caught)
        self.lookups = not _LOOKUPS.isdisjoint(caught)
        self.relevant = not _NOT_OF_STEPS.issuperset(caught)
        last = [handler.body[-1] for handler in node.handlers]
        self.reraises = all(type(end) is _ast.Raise and end.exc is None for end in last)
        self.foreign = self.indexes = self.reads = False
        self.started: list[Origin] = []
        self.late: list[tuple[Origin, ast.expr]] = []
        self.touched: Env = {}


class State:
    """What is known at the point that the reading has reached.

    Attributes:
        env: what each name bound so far stands for.
        guards: the tries around this point, outermost first.
        found: lines and messages.
        awaits_futures: the body treats results as futures on purpose.
        in_comprehension: how many comprehensions, whose names are their own, are around.
    """

    def __init__(
        self, function: Callable[..., Any], is_traced: Callable[[object], bool], body: Body
    ) -> None:
        code = function.__code__
        self.definition = body.definition
        self.names = Names(function)
        self.env: Env = {}
        self.guards: list[Guard] = []
        self.found: list[tuple[int, str]] = []
        # `futures = {fit(n): n for n in rounds}` before as_completed(futures) is right.
        self.awaits_futures = not {"as_completed", "wait"}.isdisjoint(code.co_names)
        self.in_comprehension = 0
        self._is_traced = is_traced
        self._offset = body.offset
        self._own = self.names.own - _bound_elsewhere(code)

    def warn(self, node: ast.expr | ast.stmt, message: str) -> None:
        self.found.append((self.line(node.lineno), message))

    def line(self, line: int) -> int:
        """A line of the parsed text as a line of the file."""
        return line + self._offset

    def traced(self, shape: Shape | None) -> Traced | None:
        """The component that it is, if it is one."""
        if isinstance(shape, Known) and self._is_traced(shape.obj):
            options = getattr(shape.obj, "options", None)
            return Traced(shape.obj, quiet=bool(getattr(options, "allow_failure", False)))
        return shape if isinstance(shape, Traced) else None

    # -- names -------------------------------------------------------------------------------

    def bind_name(self, name: str, shape: Shape | None) -> None:
        if name not in self._own and not self.in_comprehension:
            shape = None
        self.env[name] = shape
        for guard in self.guards:
            seen = guard.touched
            seen[name] = join(seen[name], shape) if name in seen else shape

    # -- readings ----------------------------------------------------------------------------

    def read(self, shape: Shape | None, how: int, node: ast.expr) -> None:
        """Note that the value of a result, if it is one, is waited for here."""
        if type(shape) is Result:
            self._note(list(shape.origins), how, node)

    def read_all(self, shape: Shape | None, how: int, node: ast.expr) -> None:
        """Note that this and whatever results are inside are waited for here."""
        if shape is not None:
            self._note(list(origins(shape)), how, node)

    def _note(self, made: list[Origin], how: int, node: ast.expr) -> None:
        if not made:
            return
        if how != WAITS:
            self.note_foreign()
        self._note_late(made, how, node)
        for guard in self.guards:
            guard.reads = True
        for origin in made:
            origin.reads.append(tuple(self.guards))

    def _note_late(self, made: list[Origin], how: int, node: ast.expr) -> None:
        """Remember calls that stand outside the innermost `try` that reads them."""
        guard = next((guard for guard in reversed(self.guards) if guard.relevant), None)
        if guard is None or how == MAYBE or any(guard in origin.guards for origin in made):
            return
        for origin in made:
            read_before = any(guard not in place for place in origin.reads)
            if type(origin.node) is _ast.Call and not origin.quiet and not read_before:
                guard.late.append((origin, node))

    def note_foreign(self) -> None:
        """Note that something here may raise on its own account."""
        for guard in self.guards:
            guard.foreign = True

    def note_index(self) -> None:
        """Note that something other than a result is looked into here."""
        for guard in self.guards:
            guard.foreign = guard.indexes = True

    # -- tries -------------------------------------------------------------------------------

    def close(self, guard: Guard) -> None:
        """Say what is to be said of a `try` whose body has been read."""
        if guard.relevant:
            self._close_late(guard)
        unread = [origin for origin in guard.started if _is_unread(origin, guard)]
        # Of `fit(x)["k"]` the selection is spoken of: its cure is one for the call as well.
        unread.sort(key=lambda origin: type(origin.node) is _ast.Call)
        lines = set()
        for origin in unread:
            message = self._unread_message(origin, guard)
            if message is None:
                if self.guards:  # for the outer one to judge
                    self.guards[-1].started.append(origin)
            elif origin.node.lineno not in lines:
                lines.add(origin.node.lineno)
                self.warn(origin.node, message)

    def _close_late(self, guard: Guard) -> None:
        if guard.reraises if guard.broad else guard.foreign or guard.started:
            return
        said = set()
        for origin, node in guard.late:
            if origin not in said:
                said.add(origin)
                line = self.line(guard.line)
                self.warn(origin.node, rules.called_outside(origin.node, node, line))

    def _unread_message(self, origin: Origin, guard: Guard) -> str | None:
        node = origin.node
        if isinstance(node, _ast.Call):
            sure = guard.broad or not (guard.foreign or guard.reads)
            return rules.never_read(node) if guard.relevant and sure else None
        if isinstance(node, _ast.Subscript):
            sure = not guard.indexes if guard.lookups else guard.broad and not guard.foreign
            return rules.lazy_selection(node, node.value) if sure else None
        return None


def _is_unread(origin: Origin, guard: Guard) -> bool:
    if origin.quiet or guard in origin.passed:
        return False
    return not any(guard in place for place in origin.reads)


def _bound_elsewhere(code: CodeType) -> set[str]:
    """The names that a nested function may bind (`nonlocal`), or more than these."""
    from opcode import opmap

    nested = [constant for constant in code.co_consts if type(constant) is type(code)]
    names = set().union(*map(_bound_elsewhere, nested))
    for inner in nested:
        if opmap["STORE_DEREF"] in inner.co_code[::2]:
            names.update(inner.co_freevars)
    return names

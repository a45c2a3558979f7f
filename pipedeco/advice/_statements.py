"""The walk through the statements of a body, in order, with what holds on each way through it."""

from __future__ import annotations

import _ast
from typing import TYPE_CHECKING

from pipedeco.advice import _rules as rules
from pipedeco.advice._calls import Calls
from pipedeco.advice._expressions import known
from pipedeco.advice._lookup import MISSING, dotted, imported, member
from pipedeco.advice._shapes import (
    TABLE,
    Group,
    Known,
    Result,
    Shape,
    element,
    is_table_type,
    join,
)
from pipedeco.advice._state import ACTS, WAITS, Guard
from pipedeco.syntax import walk

if TYPE_CHECKING:
    import ast
    from collections.abc import Iterable, Sequence

    from pipedeco.advice._state import Env

    Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

_VISITORS = {
    kind: f"do_{name.lower()}"
    for name, kind in vars(_ast).items()
    if isinstance(kind, type) and issubclass(kind, _ast.stmt)
}
# What matches with `==`, or anything at all: these patterns see the value of a future.
_HONEST_PATTERNS = (_ast.MatchValue, _ast.MatchAs, _ast.MatchOr)


class Statements(Calls):
    """Goes through statements; what it returns is whether they leave the block they stand in."""

    def read_body(self) -> list[tuple[int, str]]:
        """Go through it all; the lines and messages that were found."""
        arguments = self.definition.args
        for argument in walk(arguments):
            if isinstance(argument, _ast.arg):
                self.env[argument.arg] = self._annotated(argument)
        self._leaving: list[list[Env]] = []
        self.block(self.definition.body)
        return self.found

    def _annotated(self, argument: ast.arg) -> Shape | None:
        """What is known of an argument by its annotation: whether it is a table."""
        said = argument.annotation
        kind = None if said is None else self.visit(said)
        return TABLE if isinstance(kind, Known) and is_table_type(dotted(kind.obj)) else None

    def block(self, statements: Iterable[ast.stmt]) -> bool:
        return any(self.do(statement) for statement in statements)

    def do(self, node: ast.stmt) -> bool:
        doer = getattr(self, _VISITORS[type(node)], self.do_other)
        return bool(doer(node))

    def do_other(self, node: ast.stmt) -> None:
        self.note_foreign()
        self.visit_other(node)

    def _branch(self, env: Env, statements: Iterable[ast.stmt]) -> Env | None:
        """What the names are after a block; None where it leaves."""
        self.env = dict(env)
        return None if self.block(statements) else self.env

    def _meet(self, ways: Iterable[Env | None]) -> bool:
        """Go on with what holds on every way that gets here; True where none does."""
        here = [way for way in ways if way is not None]
        if here:
            self.env = _merged(here)
        return not here

    # -- simple statements -------------------------------------------------------------------

    def do_expr(self, node: ast.Expr) -> None:
        self.visit(node.value)

    def do_return(self, node: ast.Return) -> bool:
        if node.value is not None:
            self.visit(node.value)
        return True

    def do_raise(self, node: ast.Raise) -> bool:
        self.do_other(node)
        return True

    def do_assert(self, node: ast.Assert) -> None:
        self.read_operand(node.test, ACTS)
        self.note_foreign()
        if node.msg is not None:
            self.visit(node.msg)

    def do_pass(self, node: ast.Pass) -> None:
        pass

    do_global = do_nonlocal = do_pass

    def do_break(self, _: ast.Break | ast.Continue) -> bool:
        self._leaving[-1].append(dict(self.env))
        return True

    do_continue = do_break

    def do_delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if isinstance(target, _ast.Name):
                self.env.pop(target.id, None)
            else:
                self.visit(target)

    # -- binding -----------------------------------------------------------------------------

    def do_assign(self, node: ast.Assign) -> None:
        shape = self.visit(node.value)
        for target in node.targets:
            self.bind(target, shape, node.value)

    def do_annassign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.bind(node.target, self.visit(node.value), node.value)

    def do_augassign(self, node: ast.AugAssign) -> None:
        shape = self.visit(node.value)
        name = node.target.id if isinstance(node.target, _ast.Name) else ""
        before = self.env.get(name)
        if isinstance(before, Group) and type(node.op) is _ast.Add:
            self.read(shape, WAITS, node.value)
            self.bind_name(name, before.grown(element(shape)))
            return
        self.note_foreign()
        self.read(shape, ACTS, node.value)
        self.read(before, ACTS, node.target)
        self.bind(node.target, None, node.value)

    def do_import(self, node: ast.Import) -> None:
        self.note_foreign()
        for alias in node.names:
            top = alias.name.partition(".")[0]
            name, bound = (alias.name, alias.asname) if alias.asname else (top, top)
            self.bind_name(bound, known(imported(name), name))

    def do_importfrom(self, node: ast.ImportFrom) -> None:
        self.note_foreign()
        module = MISSING if node.level else imported(node.module or "")
        for alias in node.names:
            name = f"{node.module}.{alias.name}"
            self.bind_name(alias.asname or alias.name, known(member(module, alias.name), name))

    def do_functiondef(self, node: Function) -> None:
        """A nested function or class; its body is not gone into."""
        self.capture(node)
        self.bind_name(node.name, None)

    do_asyncfunctiondef = do_classdef = do_functiondef

    # -- branches and loops ------------------------------------------------------------------

    def do_if(self, node: ast.If) -> bool:
        self.read_operand(node.test, WAITS)
        before = self.env
        return self._meet([self._branch(before, way) for way in (node.body, node.orelse)])

    def do_while(self, node: ast.While) -> None:
        self.read_operand(node.test, WAITS)
        self._loop(node, dict(self.env))

    def do_for(self, node: ast.For | ast.AsyncFor) -> None:
        before = dict(self.env)
        self.iterate(node.target, node.iter)
        self._loop(node, before)

    do_asyncfor = do_for

    def _loop(self, node: ast.While | ast.For | ast.AsyncFor, before: Env) -> None:
        self._leaving.append([])
        after = self._branch(self.env, node.body)
        self._meet([before, after, *self._leaving.pop()])
        self.block(node.orelse)

    def do_with(self, node: ast.With | ast.AsyncWith) -> bool:
        self.note_foreign()
        for item in node.items:
            self.read_operand(item.context_expr, ACTS)
            if item.optional_vars is not None:
                self.bind(item.optional_vars, None, item.context_expr)
        self.block(node.body)
        return False  # whether it leaves, a context manager may decide

    do_asyncwith = do_with

    # -- match -------------------------------------------------------------------------------

    def do_match(self, node: ast.Match) -> bool:
        shape = self.visit(node.subject)
        if type(shape) is Result:
            if all(_is_honest(case.pattern) for case in node.cases):
                self.read(shape, WAITS, node.subject)
            else:
                self.warn(node.subject, rules.match(node.subject))
        before, ways = self.env, [self.env]
        for case in node.cases:
            self.env = dict(before)
            self._bind_pattern(case.pattern)
            if case.guard is not None:
                self.read_operand(case.guard, WAITS)
            after = self._branch(self.env, case.body)
            ways += [after] if after is not None else []
        return self._meet(ways)

    def _bind_pattern(self, pattern: ast.pattern) -> None:
        for node in walk(pattern):
            name = getattr(node, "name", None) or getattr(node, "rest", None)
            if name is not None:
                self.bind_name(name, None)

    # -- try ---------------------------------------------------------------------------------

    def do_try(self, node: ast.Try) -> bool:
        guard = Guard(node, [name for handler in node.handlers for name in self._caught(handler)])
        before = dict(self.env)
        self.guards.append(guard)
        after = self._branch(before, node.body)
        self.guards.pop()
        self.close(guard)
        ways = [None if after is None else self._branch(after, node.orelse)]
        at_handlers = _merged([before, {**before, **guard.touched}])
        ways.extend([self._handle(handler, at_handlers) for handler in node.handlers])
        left = self._meet(ways)
        if left:
            self.env = at_handlers
        return self.block(node.finalbody) or left

    do_trystar = do_try

    def _handle(self, handler: ast.ExceptHandler, env: Env) -> Env | None:
        self.env = dict(env)
        if handler.name:
            self.bind_name(handler.name, None)
        return self._branch(self.env, handler.body)

    def _caught(self, handler: ast.ExceptHandler) -> Sequence[str]:
        """The full names of what a handler catches; "?" where that is not known."""
        if handler.type is None:
            return [""]
        kinds = handler.type.elts if isinstance(handler.type, _ast.Tuple) else [handler.type]
        shapes = [self.visit(kind) for kind in kinds]
        return [shape.name if isinstance(shape, Known) else "?" for shape in shapes]


def _is_honest(pattern: ast.pattern) -> bool:
    parts = (node for node in walk(pattern) if isinstance(node, _ast.pattern))
    return all(isinstance(part, _HONEST_PATTERNS) for part in parts)


def _merged(ways: Sequence[Env]) -> Env:
    """What holds on all ways; a name that one of them has not bound is what the others say."""
    merged = dict(ways[0])
    for way in ways[1:]:
        for name, shape in way.items():
            merged[name] = join(merged[name], shape) if name in merged else shape
    return merged

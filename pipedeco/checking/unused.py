"""Calls whose result nobody uses: a run keeps no order between them and the others.

In the bare program `make_folder(); download()` happens one after the other.  In a run both begin at
once, as neither has the other's result.  What takes a result (`save(fit(data))`) begins after
that, and the same call for many things (`convert(file)` in a loop) is meant to be done side by side:
of these nothing is said.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.advice._source import read_body
from pipedeco.checking.findings import WARNING, Finding, named
from pipedeco.components import Traced

if TYPE_CHECKING:
    from collections.abc import Iterator

MISSING = object()
NESTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
CHANGED = ("with_options", "submit")  # what gives, or calls, the same component


class _Called(NamedTuple):
    """One call of a component in a body.

    `arms` says in which of its ways each branch around it is taken; `waits` tells that the body
    has read a result before it gets there.
    """

    component: Traced
    node: ast.Call
    unused: bool
    dependent: bool
    waits: bool
    arms: dict[int, int]


def look_at_unused(pipeline: Any) -> Iterator[Finding]:
    """Calls that begin at once though the bare program has others before or after them."""
    body = read_body(pipeline.fn)
    if body is None:
        return
    calls = _Body(pipeline.fn, body.definition).calls()
    told: set[int] = set()  # positions of calls that a finding has named
    for position, call in enumerate(calls):
        if not call.unused or call.dependent:
            continue
        before = [] if call.waits or position in told else range(position)
        others = (*range(position + 1, len(calls)), *reversed(before))
        other = next((o for o in others if _is_beside(call, calls[o])), None)
        if other is None:
            continue
        told.add(other)
        name, beside = ast.unparse(call.node.func), ast.unparse(calls[other].node.func)
        later, first = (beside, name) if other > position else (name, beside)
        yield Finding(
            WARNING,
            body.path,
            call.node.lineno + body.offset,
            named(pipeline),
            f"nobody uses the result of {name}(...), so it is performed beside {beside}(...), not "
            "one after the other",
            f"if their order matters: {later}.with_options(depends_on=[the result of {first}])(...)",
        )


def _is_beside(call: _Called, other: _Called) -> bool:
    """Whether both may be called, and are two things to do."""
    apart = any(
        call.arms[branch] != arm for branch, arm in other.arms.items() if branch in call.arms
    )
    return other.component.fn is not call.component.fn and not apart


class _Body:
    """Goes through the statements of a pipeline's body in their order."""

    def __init__(self, fn: Any, definition: ast.FunctionDef) -> None:
        self._fn = fn
        self._definition = definition
        self._made = self._results()  # names of what comes from calls of components
        self._read = {
            node.id
            for node in ast.walk(definition)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        }
        self._found: list[_Called] = []
        self._waits = False

    def calls(self) -> list[_Called]:
        self._go(self._definition.body, {})
        return self._found

    def _go(self, statements: list[ast.stmt], arms: dict[int, int]) -> None:
        for statement in statements:
            if isinstance(statement, NESTED):
                continue
            for expression in ast.iter_child_nodes(statement):
                if isinstance(expression, ast.expr):
                    self._look(expression, arms, unused=self._drops(statement))
            blocks = [block for _, block in ast.iter_fields(statement) if _is_block(block)]
            branches = isinstance(statement, ast.If | ast.Match | ast.Try)
            for arm, block in enumerate(blocks):
                if isinstance(block[0], ast.stmt):
                    self._go(block, {**arms, id(statement): arm} if branches else arms)
                    continue
                for number, part in enumerate(block):  # handlers, cases
                    self._go(part.body, {**arms, id(statement): arm + number + 1})

    def _drops(self, statement: ast.stmt) -> bool:
        """Whether what the statement's expression gives is dropped."""
        if isinstance(statement, ast.Assign):
            names = [target.id for target in statement.targets if isinstance(target, ast.Name)]
            return len(names) == len(statement.targets) and self._read.isdisjoint(names)
        return isinstance(statement, ast.Expr)

    def _look(self, expression: ast.expr, arms: dict[int, int], *, unused: bool) -> None:
        """The calls of components in an expression; the outermost may be of no use."""
        dropped = _dropped(expression) if unused else None
        if dropped is not None and self._component(dropped) is None:
            dropped = None
        waits = self._waits
        for node in ast.walk(expression):
            component = self._component(node)
            if component is not None and isinstance(node, ast.Call):
                given = [*node.args, *(keyword.value for keyword in node.keywords)]
                depends = "depends_on" in ast.unparse(node.func)
                dependent = depends or any(map(self._is_made, given))
                self._found.append(
                    _Called(component, node, node is dropped, dependent, waits, arms)
                )
            elif isinstance(node, ast.Call | ast.Compare | ast.BinOp | ast.Await | ast.JoinedStr):
                self._waits |= node is not dropped and self._is_made(node)
        self._found.sort(key=lambda call: (call.node.lineno, call.node.col_offset))

    def _results(self) -> set[str]:
        """Names that are bound to what calls of components give, or to what is made of that."""
        made: set[str] = set()
        self._made = made
        while True:
            known = len(made)
            for node in ast.walk(self._definition):
                for target, value in _bindings(node):
                    if self._is_made(value):
                        made |= {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
            if len(made) == known:
                return made

    def _is_made(self, node: ast.AST) -> bool:
        """Whether an expression has a result in it."""
        return any(
            (isinstance(inner, ast.Name) and inner.id in self._made)
            or self._component(inner) is not None
            for inner in ast.walk(node)
        )

    def _component(self, node: ast.AST) -> Traced | None:
        """What is called, where that is a component or a pipeline."""
        if not isinstance(node, ast.Call):
            return None
        called = node.func
        while isinstance(called, ast.Attribute | ast.Call):
            if isinstance(called, ast.Call):  # fit.with_options(...)(...)
                called = called.func
                if not isinstance(called, ast.Attribute) or called.attr not in CHANGED:
                    return None
                called = called.value
            elif called.attr == "submit":
                called = called.value
            elif called.attr in CHANGED:
                return None
            else:
                break
        found = self._value(called)
        return found if isinstance(found, Traced) else None

    def _value(self, node: ast.expr) -> object:
        """What a name, or an attribute of a module, stands for."""
        if isinstance(node, ast.Attribute):
            owner = self._value(node.value)
            return vars(owner).get(node.attr, MISSING) if type(owner) is type(ast) else MISSING
        if not isinstance(node, ast.Name):
            return MISSING
        code = self._fn.__code__
        if node.id in code.co_freevars:
            try:
                return self._fn.__closure__[code.co_freevars.index(node.id)].cell_contents
            except ValueError:  # it is bound later
                return MISSING
        return self._fn.__globals__.get(node.id, MISSING)


def _dropped(expression: ast.expr) -> ast.expr | None:
    """The call that an expression statement makes, also for each of many."""
    if isinstance(expression, ast.ListComp | ast.SetComp):
        return expression.elt
    return expression


def _is_block(field: object) -> bool:
    kinds = (ast.stmt, ast.ExceptHandler, ast.match_case)
    return isinstance(field, list) and bool(field) and isinstance(field[0], kinds)


def _bindings(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Targets of a statement and what they are bound to."""
    if isinstance(node, ast.Assign):
        yield from ((target, node.value) for target in node.targets)
    elif isinstance(node, ast.AugAssign | ast.NamedExpr) or (
        isinstance(node, ast.AnnAssign) and node.value is not None
    ):
        yield node.target, node.value  # type: ignore[misc]
    elif isinstance(node, ast.For | ast.comprehension):
        yield node.target, node.iter
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        yield node.optional_vars, node.context_expr
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        yield from ((node.func.value, given) for given in node.args)  # results.append(...)

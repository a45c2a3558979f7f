"""What an expression of a body stands for, and what it does to results."""

from __future__ import annotations

import _ast
from typing import TYPE_CHECKING

from pipedeco.advice import _rules as rules
from pipedeco.advice._lookup import MISSING, dotted, member
from pipedeco.advice._shapes import (
    TABLE,
    TEXT,
    Group,
    Known,
    Origin,
    Result,
    Shape,
    display,
    element,
    elements_are_results,
    finds_by_hash,
    holds_result,
    is_key,
    join,
    join_all,
)
from pipedeco.advice._state import ACTS, MAYBE, WAITS, State
from pipedeco.syntax import children, walk

if TYPE_CHECKING:
    import ast
    from collections.abc import Iterable, Sequence

    Comprehension = ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp

_VISITORS = {
    kind: f"visit_{name.lower()}"
    for name, kind in vars(_ast).items()
    if isinstance(kind, type) and issubclass(kind, _ast.AST)
}


class Expressions(State):
    """Goes through expressions, each node once; what it returns is the shape of the value."""

    def visit(self, node: ast.AST) -> Shape | None:
        visitor = getattr(self, _VISITORS[type(node)], self.visit_other)
        shape: Shape | None = visitor(node)
        return shape

    def visit_other(self, node: ast.AST) -> Shape | None:
        """Whatever has no visitor: what it does to results is not known."""
        for child in children(node):
            shape = self.visit(child)
            if shape is not None and isinstance(child, _ast.expr):
                self.read_all(shape, MAYBE, child)
        return None

    def read_operand(self, node: ast.expr, how: int) -> None:
        self.read(self.visit(node), how, node)

    # -- names and constants -----------------------------------------------------------------

    def visit_name(self, node: ast.Name) -> Shape | None:
        if node.id in self.env:
            return self.env[node.id]
        if node.id in self.names.own:  # not bound yet
            return None
        return known(self.names.find(node.id), node.id)

    def visit_constant(self, node: ast.Constant) -> Shape | None:
        return TEXT if type(node.value) is str else None

    def visit_attribute(self, node: ast.Attribute) -> Shape | None:
        return self.attribute(node, self.visit(node.value))

    def attribute(self, node: ast.Attribute, owner: Shape | None) -> Shape | None:
        """What an attribute of an object is, the object having been visited."""
        if isinstance(owner, Known):
            return self.member_of(owner, node.attr)
        if isinstance(owner, Result):
            return self._attribute_of_result(node, owner)
        self.note_foreign()
        return owner if owner is TABLE else None

    def member_of(self, owner: Known, name: str) -> Shape | None:
        found = member(owner.obj, name)
        shape = known(found, f"{owner.name}.{name}")
        if shape is None:
            self.note_foreign()
        return shape

    def _attribute_of_result(self, node: ast.Attribute, owner: Result) -> Shape | None:
        if node.attr == "step":
            return None
        if node.attr.startswith("_"):  # never forwarded: a future has none
            self.note_foreign()
            return None
        fields = getattr(owner.component, "output_fields", None)
        if owner.component is not None and fields is None:  # whether it waits is not known
            self.read(owner, MAYBE, node.value)
            return None
        if fields and node.attr in fields:
            return Result(owner.origins, None)
        self.read(owner, ACTS, node.value)
        return None

    # -- operators ---------------------------------------------------------------------------

    def visit_binop(self, node: ast.BinOp) -> Shape | None:
        left, right = self.visit(node.left), self.visit(node.right)
        if isinstance(left, Group) and isinstance(right, Group):
            return join(left, right)
        if isinstance(left, Group) and left.kind == "list":  # [r] * 3
            self.read(right, ACTS, node.right)
            return left.loose() if type(node.op) is _ast.Mult else None
        self.note_foreign()
        self.read(left, ACTS, node.left)
        self.read(right, ACTS, node.right)
        return None

    def visit_unaryop(self, node: ast.UnaryOp) -> None:
        self.read_operand(node.operand, WAITS if type(node.op) is _ast.Not else ACTS)

    def visit_boolop(self, node: ast.BoolOp) -> Shape | None:
        shapes = [self.visit(value) for value in node.values]
        for shape, value in zip(shapes[:-1], node.values, strict=False):
            self.read(shape, WAITS, value)
        return join_all(shapes)

    def visit_ifexp(self, node: ast.IfExp) -> Shape | None:
        self.read_operand(node.test, WAITS)
        return join(self.visit(node.body), self.visit(node.orelse))

    def visit_compare(self, node: ast.Compare) -> None:
        nodes = [node.left, *node.comparators]
        shapes = [self.visit(operand) for operand in nodes]
        for i, operator in enumerate(node.ops):
            left, right = (nodes[i], shapes[i]), (nodes[i + 1], shapes[i + 1])
            if isinstance(operator, _ast.Is | _ast.IsNot):
                self._identity(left, right, negated=type(operator) is _ast.IsNot)
            elif isinstance(operator, _ast.In | _ast.NotIn):
                self._membership(left, right)
            else:
                self.read(left[1], WAITS, left[0])
                self.read(right[1], WAITS, right[0])

    def _identity(
        self,
        left: tuple[ast.expr, Shape | None],
        right: tuple[ast.expr, Shape | None],
        *,
        negated: bool,
    ) -> None:
        if type(left[1]) is not Result:
            left, right = right, left
        node, shape = right
        # Of two names, both may be futures, and then `is` tells the truth.
        if type(left[1]) is Result and (type(node) is _ast.Constant or type(shape) is Known):
            self.warn(left[0], rules.identity(left[0], node, negated=negated))

    def _membership(
        self, left: tuple[ast.expr, Shape | None], right: tuple[ast.expr, Shape | None]
    ) -> None:
        node, container = right
        if finds_by_hash(container):
            if is_key(left[1]) and not self.awaits_futures:
                self.warn(left[0], rules.membership(left[0], node))
            return
        self.read(container, WAITS, node)
        listed = isinstance(container, Group) and container.kind == "list"
        self.read(left[1], WAITS if listed or type(container) is Result else MAYBE, left[0])
        if listed:
            self.read_all(container, MAYBE, node)

    # -- texts -------------------------------------------------------------------------------

    def visit_joinedstr(self, node: ast.JoinedStr) -> Shape:
        for value in node.values:
            self.visit(value)
        return TEXT

    def visit_formattedvalue(self, node: ast.FormattedValue) -> None:
        shape = self.visit(node.value)
        if node.format_spec is not None:
            self.visit(node.format_spec)
        if node.conversion not in (ord("r"), ord("a")):  # repr() never waits
            self.read(shape, ACTS if node.format_spec else WAITS, node.value)

    # -- displays ----------------------------------------------------------------------------

    def visit_list(self, node: ast.List | ast.Tuple) -> Shape:
        parts = [self.visit(item) for item in node.elts]
        if any(type(item) is _ast.Starred for item in node.elts):
            return Group("list", join_all(parts), holds=any(map(holds_result, parts)))
        return display("list", parts)

    visit_tuple = visit_list

    def visit_starred(self, node: ast.Starred) -> Shape | None:
        shape = self.visit(node.value)
        self.read(shape, MAYBE, node.value)
        return element(shape)

    def visit_set(self, node: ast.Set) -> Shape:
        parts = [self.visit(item) for item in node.elts]
        for item, shape in zip(node.elts, parts, strict=True):
            self._check_hashed(item, shape, rules.member)
        return display("set", parts)

    def visit_dict(self, node: ast.Dict) -> Shape:
        keys: list[Shape | None] = []
        for key in node.keys:
            keys.append(None if key is None else self.visit(key))
            if key is not None:
                self._check_hashed(key, keys[-1], rules.key)
        values = [self.visit(value) for value in node.values]
        if None in node.keys:  # {**other}
            return Group("dict")
        shown = display("dict", values)
        shown.key, shown.parts = join_all(keys), None
        return shown

    def _check_hashed(self, node: ast.expr, shape: Shape | None, rule: object) -> None:
        if is_key(shape) and not self.awaits_futures:
            self.warn(node, rule(node))  # type: ignore[operator]

    # -- comprehensions ----------------------------------------------------------------------

    def visit_listcomp(self, node: ast.ListComp | ast.GeneratorExp) -> Shape:
        return Group("list", *self._comprehend(node, node.elt))

    visit_generatorexp = visit_listcomp

    def visit_setcomp(self, node: ast.SetComp) -> Shape:
        (shape,) = self._comprehend(node, node.elt)
        self._check_hashed(node.elt, shape, rules.member)
        return Group("set", shape)

    def visit_dictcomp(self, node: ast.DictComp) -> Shape:
        key, value = self._comprehend(node, node.key, node.value)
        self._check_hashed(node.key, key, rules.key)
        return Group("dict", value, key)

    def _comprehend(self, node: Comprehension, *results: ast.expr) -> list[Shape | None]:
        """The shapes of a comprehension's elements, its own names having gone again."""
        outside, own = self.env, set()
        self.env = dict(outside)
        self.in_comprehension += 1
        for generator in node.generators:
            own.update(_targets(generator.target))
            self.iterate(generator.target, generator.iter)
            for test in generator.ifs:
                self.read_operand(test, WAITS)
        shapes = [self.visit(result) for result in results]
        self.in_comprehension -= 1
        inside, self.env = self.env, outside
        for name in inside.keys() - own:  # bound by := or grown by a method
            if outside.get(name, MISSING) is not inside[name]:
                outside[name] = inside[name]
        return shapes

    def iterate(self, target: ast.expr, source: ast.expr) -> None:
        """Bind the target of a loop."""
        shape = self.visit(source)
        self.read(shape, WAITS, source)
        self.bind(target, element(shape), source)

    # -- selecting ---------------------------------------------------------------------------

    def visit_subscript(self, node: ast.Subscript) -> Shape | None:
        owner, index = self.visit(node.value), self.visit(node.slice)
        if isinstance(owner, Result):
            self.read(index, WAITS, node.slice)
            return self._select(node, owner)
        self.check_index(node, owner, index)
        self.note_index()
        return owner if owner is TABLE else _item(owner, node.slice)

    def _select(self, node: ast.Subscript, owner: Result) -> Shape:
        selection = Origin(node, self.guards, quiet=False)
        if self.guards:
            self.guards[-1].started.append(selection)
        return Result((*owner.origins, selection), None)

    def check_index(self, node: ast.Subscript, owner: Shape | None, index: Shape | None) -> None:
        """Warn of a future where a dict looks for a key; a list takes it for its number."""
        if finds_by_hash(owner):
            if is_key(index) and not self.awaits_futures:
                self.warn(node, rules.index(node.slice, node))
        elif index is not None:
            listed = isinstance(owner, Group) and owner.kind == "list"
            self.read_all(index, ACTS if listed else MAYBE, node.slice)

    def visit_slice(self, node: ast.Slice) -> None:
        for bound in (node.lower, node.upper, node.step):
            if bound is not None:
                self.read_operand(bound, ACTS)

    # -- binding -----------------------------------------------------------------------------

    def visit_namedexpr(self, node: ast.NamedExpr) -> Shape | None:
        shape = self.visit(node.value)
        self.bind(node.target, shape, node.value)
        return shape

    def bind(self, target: ast.expr, shape: Shape | None, source: ast.expr) -> None:
        """Give a target what `source`, of this shape, stands for."""
        if isinstance(target, _ast.Name):
            self.bind_name(target.id, shape)
        elif isinstance(target, _ast.Tuple | _ast.List):
            parts = self._unpack(shape, target.elts, source)
            for inner, part in zip(target.elts, parts, strict=True):
                self.bind(inner, part, source)
        elif isinstance(target, _ast.Starred):
            self.bind(target.value, None if shape is None else Group("list", shape), source)
        elif isinstance(target, _ast.Subscript):
            self._store(target, shape, source)
        elif isinstance(target, _ast.Attribute):
            self.visit(target.value)

    def _unpack(
        self, shape: Shape | None, targets: Sequence[ast.expr], source: ast.expr
    ) -> Sequence[Shape | None]:
        unknown = [None] * len(targets)
        if isinstance(shape, Result):
            if _unpacks_lazily(shape, targets):
                return [Result(shape.origins, None)] * len(targets)
            self.read(shape, MAYBE, source)
            return unknown
        if shape is None:
            self.note_foreign()
        if not isinstance(shape, Group):
            return unknown
        exact = shape.parts is not None and len(shape.parts) == len(targets)
        if exact and not any(type(target) is _ast.Starred for target in targets):
            return shape.parts or ()
        return [element(shape)] * len(targets)

    def _store(self, target: ast.Subscript, shape: Shape | None, source: ast.expr) -> None:
        """`owner[index] = shape`: the owner, if it has a name, has one element more."""
        owner, index = self.visit(target.value), self.visit(target.slice)
        self.check_index(target, owner, index)
        if isinstance(owner, Group):
            self.grow(target.value, owner.grown(shape, index))
        elif owner is TABLE:
            self.check_column(target, shape, source)

    def check_column(self, place: ast.expr, shape: Shape | None, source: ast.expr) -> None:
        """Warn of futures that are put into a table."""
        if elements_are_results(shape):
            self.warn(place, rules.column(place, source))
        elif isinstance(shape, Result):
            self.warn(place, rules.cell(place, source))

    def grow(self, owner: ast.expr, grown: Group) -> None:
        if isinstance(owner, _ast.Name):
            self.bind_name(owner.id, grown)

    # -- what is read elsewhere --------------------------------------------------------------

    def visit_lambda(self, node: ast.Lambda) -> None:
        self.capture(node)

    def capture(self, node: ast.AST) -> None:
        """Note that a nested function may read whatever it names."""
        for inner in walk(node):
            if isinstance(inner, _ast.Name):
                self.read_all(self.env.get(inner.id), MAYBE, inner)


def known(found: object, name: str) -> Shape | None:
    """The shape of an object that stands there already, or of nothing."""
    if type(found) is str:
        return TEXT
    if found is MISSING:  # the public names of pipedeco are there when they are asked for
        return Known(found, name) if name == "pipedeco.value" else None
    return Known(found, dotted(found) or name)


def _item(owner: Shape | None, index: ast.expr) -> Shape | None:
    """What indexing a group gives."""
    if not isinstance(owner, Group) or owner.kind == "set":
        return None
    if isinstance(index, _ast.Slice):
        return owner.loose()
    position = getattr(index, "value", None)
    if owner.parts and type(position) is int and position < len(owner.parts):
        return owner.parts[position]
    return owner.item


def _unpacks_lazily(shape: Result, targets: Iterable[ast.expr]) -> bool:
    """Whether so many parts of a result are made without waiting."""
    if shape.component is None or any(type(target) is _ast.Starred for target in targets):
        return False
    count = getattr(shape.component, "output_count", MISSING)
    return count is MISSING or count == len(list(targets))


def _targets(target: ast.expr) -> set[str]:
    return {node.id for node in walk(target) if isinstance(node, _ast.Name)}

"""What a call in a body does to results: steps, what reads, what is deceived."""

from __future__ import annotations

import _ast
from types import FunctionType
from typing import TYPE_CHECKING

from pipedeco.advice import _rules as rules
from pipedeco.advice._expressions import Expressions
from pipedeco.advice._lookup import dotted
from pipedeco.advice._shapes import (
    TABLE,
    TEXT,
    UNSURE,
    Group,
    Known,
    Origin,
    Result,
    Shape,
    Text,
    Traced,
    display,
    element,
    elements_are_results,
    finds_by_hash,
    holds_result,
    is_key,
    is_table_type,
    join_all,
    origins,
)
from pipedeco.advice._state import ACTS, MAYBE, WAITS
from pipedeco.syntax import walk

if TYPE_CHECKING:
    import ast
    from collections.abc import Callable

# Methods of a StepResult that wait for nothing.
_OF_FUTURES = frozenset(("done", "running", "cancel", "cancelled", "add_done_callback"))
# What takes the items of its first argument for rows and values.
_TABLES = (".concat", ".DataFrame", ".Series")
_TAKES_COLUMNS = frozenset(("assign", "insert", "with_columns"))
_MAPS = frozenset(("map", "apply", "applymap", "transform", "map_elements", "pipe"))
_LOGGING = frozenset(("debug", "info", "warning", "error", "exception"))
_INTO_FUTURES = frozenset(("StepResult", "Future"))

# What built-in functions do to a result that is their argument.
_WAIT = frozenset(("print", "str", "bool"))
_ACT = frozenset(
    (
        *("abs", "bytearray", "bytes", "chr", "complex", "divmod", "float", "format", "getattr"),
        *("hasattr", "hex", "int", "len", "next", "oct", "open", "ord", "pow", "range", "round"),
    )
)
# Functions of statistics that make their value of the type of the items.
_TYPED = ("harmonic_mean", "mean", "pstdev", "pvariance", "stdev", "variance")
_IGNORE = frozenset(("ascii", "callable", "dir", "hash", "id", "repr"))

# The functions with a rule or a shape of their own, by their full names.
_SPECIAL = {
    **{f"builtins.{name}": "_wait" for name in _WAIT},
    **{f"builtins.{name}": "_act" for name in _ACT},
    **{f"builtins.{name}": "_ignore" for name in _IGNORE},
    **{f"builtins.{name}": "_copy" for name in ("list", "tuple", "iter", "reversed")},
    **{f"builtins.{name}": "_make_set" for name in ("set", "frozenset")},
    **{f"builtins.{name}": "_choose" for name in ("max", "min")},
    **{f"builtins.{name}": "_test_all" for name in ("all", "any")},
    "builtins.dict": "_make_dict",
    "builtins.dict.fromkeys": "_count",
    "builtins.enumerate": "_enumerate",
    "builtins.isinstance": "_isinstance",
    "builtins.map": "_map",
    "builtins.sorted": "_sort",
    "builtins.sum": "_sum",
    "builtins.type": "_type",
    "builtins.zip": "_zip",
    "collections.Counter": "_count",
    "collections.OrderedDict": "_make_dict",
    "collections.defaultdict": "_make_defaultdict",
    "json.dump": "_encode",
    "json.dumps": "_encode",
    **{f"statistics.{name}": "_concat" for name in _TYPED},
    "pipedeco.value": "_value",
    "pipedeco.resolving.value": "_value",
}

# What is known of the methods of lists, sets and dicts: those that give a group, and the others.
_VIEWS: dict[str, Callable[[Group], Shape]] = {
    "copy": lambda owner: owner,
    "items": lambda owner: Group("list", display("list", (owner.key, owner.item))),
    "keys": lambda owner: Group("list", owner.key),
    "values": lambda owner: Group("list", owner.item),
}
_OF_GROUPS = {
    "add": "_put",
    "append": "_put",
    "appendleft": "_put",
    "extend": "_put_all",
    "get": "_look_up",
    "insert": "_put",
    "pop": "_look_up",
    "setdefault": "_look_up",
}


class Call:
    """A call whose function and arguments have been visited."""

    __slots__ = ("named", "node", "shapes")

    def __init__(
        self, node: ast.Call, shapes: list[Shape | None], named: list[Shape | None]
    ) -> None:
        self.node = node
        self.shapes = shapes
        self.named = named

    @property
    def first(self) -> tuple[ast.expr, Shape | None] | None:
        """The first positional argument."""
        return (self.node.args[0], self.shapes[0]) if self.shapes else None

    def arguments(self) -> list[tuple[ast.expr, Shape | None]]:
        values = [keyword.value for keyword in self.node.keywords]
        return list(zip(self.node.args + values, self.shapes + self.named, strict=True))

    def keyword(self, name: str) -> ast.expr | None:
        return next((given.value for given in self.node.keywords if given.arg == name), None)


class Calls(Expressions):
    """Goes through calls."""

    def visit_call(self, node: ast.Call) -> Shape | None:
        func = node.func
        owner = self.visit(func.value if isinstance(func, _ast.Attribute) else func)
        shapes = [self.visit(argument) for argument in node.args]
        named = [self.visit(keyword.value) for keyword in node.keywords]
        call = Call(node, shapes, named)
        if isinstance(func, _ast.Attribute):
            return self._call_method(call, func, owner)
        return self._call(call, owner)

    def _call_method(self, call: Call, func: ast.Attribute, owner: Shape | None) -> Shape | None:
        traced = self.traced(owner)
        if traced is not None:
            return self._call_of_component(call, func.attr, traced)
        if isinstance(owner, Result):
            self._call_of_result(call, func, owner)
            return None
        if isinstance(owner, Group):
            return self._call_of_group(call, func, owner)
        if isinstance(owner, Text) and func.attr == "join":
            self._check_items(call, call.first)
            return TEXT
        if owner is TABLE:
            return self._call_of_table(call, func)
        if func.attr in _LOGGING:
            self._log(call)
            return None
        return self._call(call, self.attribute(func, owner))

    def _call(self, call: Call, callee: Shape | None) -> Shape | None:
        traced = self.traced(callee)
        if traced is not None:
            return self._step(call, traced)
        name = callee.name if isinstance(callee, Known) else ""
        special = getattr(self, _SPECIAL.get(name, "_foreign"))
        if name.startswith(("pandas.", "polars.")) and name.endswith(_TABLES):
            special = self._concat
        elif name.startswith("pipedeco.tracking."):
            special = self._log
        shape: Shape | None = special(call)
        makes_table = name.startswith(("pandas.", "polars.")) and shape is None
        return TABLE if makes_table else shape

    def _call_of_table(self, call: Call, func: ast.Attribute) -> Shape:
        self._foreign(call)
        if func.attr in _TAKES_COLUMNS:
            for node, shape in call.arguments():
                self.check_column(call.node, shape, node)
        if func.attr in _MAPS and call.first is not None:
            node, shape = call.first
            if self.traced(shape) is not None:
                self.warn(call.node, rules.mapped(func, node))
        return TABLE

    def _foreign(self, call: Call) -> None:
        """A function of which nothing is known: it may read, and it may raise."""
        self.note_foreign()
        for node, shape in call.arguments():
            self.read_all(shape, MAYBE, node)

    # -- components and their results --------------------------------------------------------

    def _call_of_component(self, call: Call, method: str, traced: Traced) -> Shape | None:
        if method == "submit":
            return self._step(call, traced)
        if method != "with_options":
            self._foreign(call)
            return None
        component = traced.component if call.keyword("outputs") is None else UNSURE
        allowed = call.keyword("allow_failure")
        quiet = traced.quiet if allowed is None else getattr(allowed, "value", True) is not False
        return Traced(component, quiet=quiet)

    def _step(self, call: Call, traced: Traced) -> Shape:
        for _, shape in call.arguments():
            for origin in origins(shape):
                origin.passed.update(self.guards)
        origin = Origin(call.node, self.guards, quiet=traced.quiet)
        if self.guards:
            self.guards[-1].started.append(origin)
        return Result((origin,), traced.component)

    def _call_of_result(self, call: Call, func: ast.Attribute, owner: Result) -> None:
        if func.attr == "result":  # with a timeout, the handler may be for that
            self.read(owner, MAYBE if call.arguments() else WAITS, func.value)
        elif func.attr == "exception":
            self.read(owner, MAYBE, func.value)
        elif func.attr not in _OF_FUTURES:
            self.attribute(func, owner)
            self._foreign(call)

    # -- functions that read -----------------------------------------------------------------

    def _wait(self, call: Call) -> Shape | None:
        for node, shape in call.arguments():
            self.read(shape, WAITS, node)
        return TEXT if getattr(call.node.func, "id", "") == "str" else None

    def _log(self, call: Call) -> None:
        """Whether a logger makes a text of its arguments depends on its level."""
        for node, shape in call.arguments():
            self.read_all(shape, MAYBE, node)

    def _act(self, call: Call) -> None:
        self.note_foreign()
        for node, shape in call.arguments():
            self.read(shape, ACTS, node)

    def _ignore(self, call: Call) -> None:
        """`repr`, `id` and the like never wait."""

    def _value(self, call: Call) -> Shape | None:
        for node, shape in call.arguments():
            self.read_all(shape, WAITS, node)
        first = call.first
        component = first[1].component if first and isinstance(first[1], Result) else None
        return TABLE if is_table_type(_returned_by(component)) else None

    def _sum(self, call: Call) -> None:
        self.note_foreign()
        for node, shape in call.arguments():
            self.read_all(shape, ACTS, node)

    def _test_all(self, call: Call) -> None:
        for node, shape in call.arguments():
            self.read_all(shape, WAITS, node)

    def _choose(self, call: Call) -> Shape | None:
        """`max` and `min` give back one of what they compare."""
        self._sum(call)
        if call.keyword("default") is not None:
            return None
        if len(call.shapes) == 1:
            return element(call.shapes[0])
        return join_all(call.shapes)

    # -- functions that make groups ----------------------------------------------------------

    def _copy(self, call: Call) -> Shape | None:
        if call.first is None:
            return Group("list", empty=True)
        node, shape = call.first
        self.read(shape, WAITS, node)
        if not isinstance(shape, Group):
            return None
        return shape if shape.kind == "list" else Group("list", element(shape))

    def _sort(self, call: Call) -> Shape | None:
        self._sum(call)
        return self._copy(call)

    def _enumerate(self, call: Call) -> Shape | None:
        if call.first is None:
            return None
        self.read(call.first[1], WAITS, call.first[0])
        return Group("list", display("list", (None, element(call.first[1]))))

    def _zip(self, call: Call) -> Shape | None:
        for node, shape in call.arguments():
            self.read(shape, WAITS, node)
        if any(type(node) is _ast.Starred for node in call.node.args):
            return None
        return Group("list", display("list", [element(shape) for shape in call.shapes]))

    def _map(self, call: Call) -> Shape | None:
        traced = self.traced(call.shapes[0]) if call.shapes else None
        if traced is None:
            self._foreign(call)
            return None
        # The calls happen as the map is gone through, wherever that is.
        made = Origin(call.node, (), quiet=True)
        return Group("list", Result((made,), traced.component))

    def _make_dict(self, call: Call) -> Shape:
        if call.first is None:
            return Group("dict", join_all(call.named), empty=not call.named)
        node, shape = call.first
        self.read(shape, WAITS, node)
        if isinstance(shape, Group) and shape.kind == "dict" and not call.named:
            return shape
        pair = element(shape)
        if isinstance(pair, Group) and pair.parts and len(pair.parts) == 2:
            return Group("dict", pair.parts[1], pair.parts[0])
        return Group("dict")

    def _make_defaultdict(self, call: Call) -> Shape:
        self._foreign(call)
        return Group("dict", empty=len(call.arguments()) < 2)

    # -- functions that are deceived ---------------------------------------------------------

    def _isinstance(self, call: Call) -> None:
        if call.first is None or type(call.first[1]) is not Result or len(call.shapes) != 2:
            return
        if not _mentions(call.node.args[1], _INTO_FUTURES):
            self.warn(call.node, rules.type_test("isinstance", call.first[0]))

    def _type(self, call: Call) -> None:
        if call.first is not None and len(call.shapes) == 1 and type(call.first[1]) is Result:
            self.warn(call.node, rules.type_of(call.first[0]))

    def _make_set(self, call: Call) -> Shape:
        if call.first is None:
            return Group("set", empty=True)
        self._check_hashing(call)
        return Group("set", element(call.first[1]))

    def _count(self, call: Call) -> Shape:
        """`Counter` and `dict.fromkeys`."""
        if call.first is None:
            return Group("dict", empty=True)
        self._check_hashing(call)
        return Group("dict", None, element(call.first[1]))

    def _check_hashing(self, call: Call) -> None:
        """Warn of futures among what is told apart by hash."""
        node, shape = call.node.args[0], call.shapes[0]
        self.read(shape, WAITS, node)
        if elements_are_results(shape) and not self.awaits_futures:
            self.warn(call.node, rules.hashing(call.node.func, node))

    def _encode(self, call: Call) -> None:
        self._foreign(call)
        if call.first is None or not holds_result(call.first[1]):
            return
        if call.keyword("default") is None and call.keyword("cls") is None:
            self.warn(call.node, rules.encoding(call.node.func, call.first[0]))

    def _concat(self, call: Call) -> None:
        self._foreign(call)
        self._check_items(call, call.first)

    def _check_items(self, call: Call, items: tuple[ast.expr, Shape | None] | None) -> None:
        """Warn of futures among items whose types are checked."""
        if items is None:
            return
        node, shape = items
        self.read(shape, WAITS, node)
        if type(shape) is Group and shape.holds:
            self.warn(call.node, rules.joining(call.node.func, node))

    # -- methods of groups -------------------------------------------------------------------

    def _call_of_group(self, call: Call, func: ast.Attribute, owner: Group) -> Shape | None:
        if func.attr in _VIEWS:
            return _VIEWS[func.attr](owner)
        if func.attr not in _OF_GROUPS:
            return self._call(call, self.attribute(func, owner))
        shape: Shape | None = getattr(self, _OF_GROUPS[func.attr])(call, func, owner)
        return shape

    def _put(self, call: Call, func: ast.Attribute, owner: Group) -> None:
        if call.shapes:
            self.grow(func.value, owner.grown(call.shapes[-1]))

    def _put_all(self, call: Call, func: ast.Attribute, owner: Group) -> None:
        if call.first is not None:
            self.read(call.first[1], WAITS, call.first[0])
            self.grow(func.value, owner.grown(element(call.first[1])))

    def _look_up(self, call: Call, func: ast.Attribute, owner: Group) -> Shape | None:
        """`get`, `pop` and `setdefault` of a dict, `pop` of a list or a set."""
        self.note_index()
        if call.first is not None and owner.kind == "dict":
            deceived = is_key(call.first[1]) and finds_by_hash(owner)
            if deceived and not self.awaits_futures:
                self.warn(call.node, rules.index(call.first[0], call.node))
        if func.attr == "setdefault" and len(call.shapes) == 2:
            self.grow(func.value, owner.grown(call.shapes[1], call.shapes[0]))
        return owner.item if func.attr == "pop" and len(call.shapes) < 2 else None


def _mentions(node: ast.expr, names: frozenset[str]) -> bool:
    return any(
        getattr(inner, "id", "") in names or getattr(inner, "attr", "") in names
        for inner in walk(node)
    )


def _returned_by(component: object) -> str:
    """The full name of the type that a component is annotated to return."""
    fn = getattr(component, "fn", None)
    found = fn.__annotations__.get("return") if type(fn) is FunctionType else None
    if type(found) is not str:
        return dotted(found)
    owner = dict.get(fn.__globals__, found.partition(".")[0], None)  # type: ignore[union-attr]
    return dotted(owner) + "." + found.partition(".")[2] if "." in found else dotted(owner)

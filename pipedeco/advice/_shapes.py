"""What is known of a value at one point of a body; None stands for a value of which nothing is."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ast
    from collections.abc import Iterator, Sequence

    from pipedeco.advice._state import Guard

HASHED = frozenset((dict, set, frozenset, Counter, OrderedDict, defaultdict))


class Origin:
    """A call that made a result, or a selection from one: what can fail where it is read.

    Attributes:
        node: the call or the selection.
        guards: the tries around it.
        quiet: nothing is to be said of it (it may fail, or it happens elsewhere).
        reads: for each place that reads it, the tries around that place.
        passed: the tries in which another step takes it.
    """

    __slots__ = ("guards", "node", "passed", "quiet", "reads")

    def __init__(self, node: ast.expr, guards: Sequence[Guard], *, quiet: bool) -> None:
        self.node = node
        self.guards = tuple(guards)
        self.quiet = quiet
        self.reads: list[tuple[Guard, ...]] = []
        self.passed: set[Guard] = set()


class Result:
    """A StepResult.

    Attributes:
        origins: the calls it may come from, then the selections made on the way.
        component: what was called; None for a part of a result, of which nothing is lazy but [].
    """

    __slots__ = ("component", "origins")

    def __init__(self, origins: tuple[Origin, ...], component: object) -> None:
        self.origins = origins
        self.component = component


class Group:
    """A list, tuple or iterator ("list"), a set or a dict.

    Attributes:
        item: what each element is (each value, of a dict).
        key: what each key of a dict is.
        parts: the elements of a display, one by one.
        holds: whether a result is among them for certain.
        empty: whether nothing has been put in yet.
    """

    __slots__ = ("empty", "holds", "item", "key", "kind", "parts")

    def __init__(
        self,
        kind: str,
        item: Shape | None = None,
        key: Shape | None = None,
        *,
        parts: tuple[Shape | None, ...] | None = None,
        holds: bool | None = None,
        empty: bool = False,
    ) -> None:
        self.kind = kind
        self.item = item
        self.key = key
        self.parts = parts
        self.holds = holds_result(item) if holds is None else holds
        self.empty = empty

    def grown(self, item: Shape | None, key: Shape | None = None) -> Group:
        """This group with one more element."""
        holds = self.holds or holds_result(item)
        if not self.empty:
            item, key = join(self.item, item), join(self.key, key)
        return Group(self.kind, item, key, holds=holds)

    def loose(self) -> Group:
        """This group without knowledge of single elements."""
        return Group(self.kind, self.item, self.key, holds=self.holds, empty=self.empty)


class Known:
    """An object that exists before the body runs, and its full name."""

    __slots__ = ("name", "obj")

    def __init__(self, obj: object, name: str) -> None:
        self.obj = obj
        self.name = name


class Traced:
    """A component or pipeline; calling it gives a result."""

    __slots__ = ("component", "quiet")

    def __init__(self, component: object, *, quiet: bool) -> None:
        self.component = component
        self.quiet = quiet


class Text:
    """A str."""

    __slots__ = ()


class Table:
    """A table of pandas or polars, or a part of one, which takes the items of a list as they are."""

    __slots__ = ()


class Unsure:
    """The type of UNSURE."""

    __slots__ = ()

    output_count = None


Shape = Result | Group | Known | Traced | Text | Table
TEXT = Text()
TABLE = Table()
UNSURE = Unsure()  # stands for the component of a result that may come from several


def display(kind: str, parts: Sequence[Shape | None]) -> Group:
    """The group that a display such as `[a, b]` makes."""
    return Group(
        kind,
        join_all(parts),
        parts=tuple(parts),
        holds=any(map(holds_result, parts)),
        empty=not parts,
    )


def holds_result(shape: Shape | None) -> bool:
    """Whether it is a result or has one inside, for certain."""
    return shape.holds if type(shape) is Group else type(shape) is Result


def element(shape: Shape | None) -> Shape | None:
    """What iterating over it gives; a result waits and gives plain values."""
    if type(shape) is Group:
        return shape.key if shape.kind == "dict" else shape.item
    return None


def elements_are_results(shape: Shape | None) -> bool:
    return type(element(shape)) is Result or (
        type(shape) is Group and any(type(part) is Result for part in shape.parts or ())
    )


def is_table_type(name: str) -> bool:
    """Whether it is the full name of a type of tables."""
    library, _, last = name.partition(".")
    return library in ("pandas", "polars") and name.endswith(("DataFrame", "Series")) and bool(last)


def finds_by_hash(shape: Shape | None) -> bool:
    """Whether it is a set or a dict, and not one of futures."""
    if type(shape) is Known:
        return type(shape.obj) in HASHED
    return type(shape) is Group and shape.kind != "list" and type(element(shape)) is not Result


def is_key(shape: Shape | None) -> bool:
    """Whether hashing it hashes a future: a result, or a tuple that has one."""
    return holds_result(shape) and (type(shape) is Result or getattr(shape, "kind", "") == "list")


def origins(shape: Shape | None) -> Iterator[Origin]:
    """Every call and selection whose failure may be met in it."""
    if type(shape) is Result:
        yield from shape.origins
    elif type(shape) is Group:
        for inner in (shape.item, shape.key, *(shape.parts or ())):
            yield from origins(inner)


def join(a: Shape | None, b: Shape | None) -> Shape | None:
    """What is known of a value that is one or the other."""
    if a is b or a is None or type(a) is not type(b):
        return a if a is b else None
    if isinstance(a, Result) and isinstance(b, Result):
        component = a.component if a.component is b.component else UNSURE
        return Result(tuple(dict.fromkeys(a.origins + b.origins)), component)
    if isinstance(a, Group) and isinstance(b, Group):
        return _join_groups(a, b)
    if isinstance(a, Known) and isinstance(b, Known):
        return a if a.obj is b.obj else None
    if isinstance(a, Traced) and isinstance(b, Traced):
        return Traced(UNSURE, quiet=a.quiet or b.quiet)
    return None


def _join_groups(a: Group, b: Group) -> Group | None:
    if a.kind != b.kind:
        return None
    if a.empty or b.empty:
        return (b if a.empty else a).loose()
    item, key = join(a.item, b.item), join(a.key, b.key)
    return Group(a.kind, item, key, holds=a.holds and b.holds)


def join_all(shapes: Sequence[Shape | None]) -> Shape | None:
    """What is known of a value that is one of several."""
    if not shapes:
        return None
    joined = shapes[0]
    for shape in shapes[1:]:
        joined = join(joined, shape)
    return joined

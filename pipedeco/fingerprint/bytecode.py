"""What the bytecode of a function tells: the names that it looks up, and a form to compare.

Bytecode is read as `co_code` gives it, without what the interpreter has specialised.  Line
numbers and positions never count.
"""

from __future__ import annotations

from collections import namedtuple
from opcode import hasconst, hasname, opmap
from types import CodeType
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.instructions import GLOBAL, codes, instructions, name_of, numbers

if TYPE_CHECKING:
    from collections.abc import Iterable

    class Root(NamedTuple):
        """Where a chain of attributes begins.

        `kind` is "global", "import" (the module of that name), "top" (the package that
        `import a.b` binds) or "from" (`name` of the module).  `level` is that of a relative import.
        """

        kind: str
        name: str
        module: str = ""
        level: int = 0

    class Read(NamedTuple):
        """A root, the attributes taken from it at once, and the text that is loaded next."""

        root: Root
        attributes: tuple[str, ...]
        text: str | None

else:
    Root = namedtuple("Root", ("kind", "name", "module", "level"), defaults=("", 0))
    Read = namedtuple("Read", ("root", "attributes", "text"))


_CONST = frozenset(hasconst)
_NAME = frozenset(hasname)
_ATTRIBUTE = numbers("LOAD_ATTR", "LOAD_METHOD")
_LOCAL = numbers("LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW")
_STORE = numbers("STORE_FAST", "STORE_DEREF", "STORE_GLOBAL", "STORE_NAME")
_NOTHING = numbers("PUSH_NULL", "NOP")
_STORE_FAST = opmap["STORE_FAST"]
_IMPORT = opmap["IMPORT_NAME"]
_FROM = opmap["IMPORT_FROM"]
_SMALL_INT = opmap.get("LOAD_SMALL_INT", -1)
# ---- names

_GLOBALS = Root("global", "globals")
_MEMO = Root("from", "TypeCheckMemo", "typeguard")  # as in TypeCheckMemo(globals(), locals())


def reads(code: CodeType) -> set[Read]:
    """What a function and all within it look up outside of it."""
    found: set[Read] = set()
    for inner in codes(code):
        if not GLOBAL.isdisjoint(inner.co_code[::2]) or _IMPORT in inner.co_code[::2]:
            _Scan(inner, found).run()
    return found


class _Scan:
    """One walk along the instructions of one code object."""

    def __init__(self, code: CodeType, found: set[Read]) -> None:
        self._code = code
        self._found = found
        self._root: Root | None = None
        self._attributes: list[str] = []
        self._asks = False  # the last thing loaded was getattr or hasattr
        self._constants: tuple[Any, Any] = (None, None)
        self._import: tuple[str, int, bool] = ("", 0, False)
        self._pending: Root | None = None  # imported, and not yet stored
        self._modules: dict[int, Root] = {}  # locals that stand for an import, and nothing else
        self._unused: set[int] = set()
        self._last: Root | None = None  # the one before

    def run(self) -> None:
        steps = list(instructions(self._code))
        stores = [arg for op, arg in steps if op == _STORE_FAST]
        for op, arg in steps:
            self._step(op, arg, stores)
        self._close(None)
        for index in self._unused:  # imported for what the import does
            self._found.add(Read(self._modules[index], (), None))

    def _step(self, op: int, arg: int, stores: list[int]) -> None:
        if self._root is not None:
            if op in _ATTRIBUTE:
                self._attributes.append(self._name(op, arg))
                return
            if op in _NOTHING:
                return
            self._close(self._text(op, arg))
        if op in GLOBAL:
            self._root = Root("global", self._name(op, arg))
        elif op in _LOCAL:
            self._root = self._modules.get(arg)
            self._unused.discard(arg)
        elif op in _CONST or op == _SMALL_INT:
            value = arg if op == _SMALL_INT else self._code.co_consts[arg]
            self._constants = (self._constants[1], value)
        elif op in (_IMPORT, _FROM):
            self._imported(op, self._code.co_names[arg])
        elif op in _STORE and self._pending is not None:
            self._stored(op, arg, stores)

    def _name(self, op: int, arg: int) -> str:
        return name_of(self._code, op, arg)

    def _text(self, op: int, arg: int) -> str | None:
        value = self._code.co_consts[arg] if op in _CONST else None
        return value if type(value) is str else None

    def _close(self, text: str | None) -> None:
        root, last = self._root, self._last
        if root is None:
            return
        attributes = self._attributes
        self._root, self._last, self._attributes = None, root, []
        if root == _GLOBALS and last == _MEMO:  # typeguard's own: it looks annotations up
            return
        if self._asks and text is not None:  # getattr(module, "name")
            attributes.append(text)
        self._found.add(Read(root, tuple(attributes), text))
        self._asks = root.name in ("getattr", "hasattr") and not attributes

    def _imported(self, op: int, name: str) -> None:
        if op == _IMPORT:
            level, names = self._constants
            self._import = (name, level or 0, bool(names))
            self._pending = Root("import" if "." not in name else "top", "", name, level or 0)
            return
        module, level, by_name = self._import
        # `import a.b as c` takes b from a, where `from a import b` says so in its list
        self._pending = Root(
            "from" if by_name else "import", name if by_name else "", module, level
        )

    def _stored(self, op: int, arg: int, stores: list[int]) -> None:
        root = self._pending
        assert root is not None
        self._pending = None
        if op == _STORE_FAST and stores.count(arg) == 1:
            self._modules[arg] = root
            self._unused.add(arg)
        else:
            self._found.add(Read(root, (), None))


# ---- a form to compare


def form(code: CodeType, docs: bool) -> tuple[Any, ...]:
    """Nested tuples of constants for code whose source is not to be had.

    Equal for the same instructions, whatever the numbers of lines, the order of constants and,
    but for `docs`, the docstrings.
    """
    head = (*signature(code), code.co_varnames, code.co_cellvars, code.co_exceptiontable)
    steps = tuple(
        (op, _constant(code.co_consts[arg], docs))
        if op in _CONST
        else (op, name_of(code, op, arg), arg & 3)
        if op in _NAME
        else (op, arg)
        for op, arg in instructions(code)
    )
    return head, steps, code.co_consts[:1] if docs and _has_doc(code) else ()


def signature(code: CodeType) -> tuple[Any, ...]:
    """What a function's text alone does not tell: its place, how it is called and compiled."""
    return (
        code.co_qualname,
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        code.co_flags & _FLAGS,
        code.co_freevars,
    )


# Without CO_HAS_DOCSTRING (3.13) and without CO_FUTURE_ANNOTATIONS, which shows in annotations.
_FLAGS = ~(0x4000000 | 0x1000000)


def _has_doc(code: CodeType) -> bool:
    return bool(code.co_consts) and type(code.co_consts[0]) is str


def _constant(value: Any, docs: bool) -> Any:
    kind = type(value)
    if kind is CodeType:
        return ("code", *form(value, docs))
    if kind is tuple:
        return ("tuple", *[_constant(item, docs) for item in value])
    if kind is frozenset:
        return ("set", *_sorted(_constant(item, docs) for item in value))
    if kind is slice:
        return ("slice", *[_constant(i, docs) for i in (value.start, value.stop, value.step)])
    return value


def _sorted(items: Iterable[Any]) -> list[Any]:
    return sorted(items, key=repr)

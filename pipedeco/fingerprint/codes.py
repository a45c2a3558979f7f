"""What is known of code objects: the names that they look up, and their digests."""

from __future__ import annotations

import sys
from marshal import dumps
from types import FunctionType
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from pipedeco.fingerprint import lookup
from pipedeco.fingerprint.bytecode import Read, form, reads, signature
from pipedeco.fingerprint.source import Sources
from pipedeco.instructions import codes

if TYPE_CHECKING:
    from types import CodeType


class Features:
    """What else of everything reached has to count, because some code asks for it."""

    DOCS = "docs"
    SUBCLASSES = "subclasses"


_ASKS = {"__doc__": Features.DOCS, "getdoc": Features.DOCS, "__subclasses__": Features.SUBCLASSES}


class Code:
    """What never changes about a code object."""

    __slots__ = ("asks", "code", "forms", "reads")

    def __init__(self, code: CodeType) -> None:
        self.code = code
        self.reads = [(_plain(read), read) for read in sorted(reads(code), key=repr)]
        names = {name for inner in codes(code) for name in inner.co_names}
        self.asks = frozenset(_ASKS[name] for name in names & _ASKS.keys())
        self.forms: dict[bool, bytes] = {}


def _plain(read: Read) -> tuple[Any, ...]:
    """Of tuples alone, as marshal wants them; without what follows, which layout may change."""
    return tuple(read.root), read.attributes


class Codes:
    """The code objects of this process that were met, by their identity."""

    def __init__(self) -> None:
        self._known: dict[int, Code] = {}
        self._sources = Sources()

    def of(self, code: CodeType) -> Code:
        found = self._known.get(id(code))
        if found is None:
            found = self._known[id(code)] = Code(code)
        return found

    def forget_files(self) -> None:
        self._sources = Sources()

    def text(self, found: Any) -> str | None:
        """A function or a class as it is written; None where that is not proven."""
        if lookup.is_class(found):
            methods = [_plain_function(item) for item in lookup.members(found).values()]
            own = [m for m in methods if m is not None and m.__module__ == found.__module__]
            file = getattr(sys.modules.get(found.__module__), "__file__", None)
            proven = all(
                self._sources.text(m.__code__) for m in own if m.__code__.co_filename == file
            )
            return self._sources.class_text(file, found.__qualname__) if file and proven else None
        function = _plain_function(found)
        return None if function is None else self._sources.text(function.__code__)

    def digest(self, code: Code, docs: bool) -> bytes:
        known = code.forms.get(docs)
        if known is None:
            known = code.forms[docs] = self._digest(code.code, docs)
        return known

    def _digest(self, code: CodeType, docs: bool) -> bytes:
        if code.co_filename.startswith("<attrs generated"):  # has a hash of a text within it
            return digest_of((*signature(code), code.co_names, code.co_varnames))
        try:
            tree = self._sources.form(code, docs)
            if tree is not None:
                return digest_of((*signature(code), tree))
        except (RecursionError, ValueError):  # a tree too deep for us, or for marshal
            pass
        return digest_of(form(code, docs))


def digest_of(content: Any) -> bytes:
    # Version 2 of marshal: later ones write shared objects as such, and sharing is chance.
    return blake3(dumps(content, 2)).digest()


def _plain_function(found: Any) -> FunctionType | None:
    """The function that a method or a wrapper stands for."""
    for name in ("fn", "__func__", "fget", "func", "__wrapped__"):
        inner = getattr(found, name, None) if not isinstance(found, FunctionType) else None
        found = inner if isinstance(inner, FunctionType) else found
    return found if isinstance(found, FunctionType) else None

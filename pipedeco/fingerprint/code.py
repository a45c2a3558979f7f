"""The code half of a cache key: a function and everything that it reaches in the user's modules.

    code.py      keys; what they remember of a process
    reach.py     the walk from a function to all that it reaches
    parts.py     what is met on the way, by name, and how it is written down
    lookup.py    what names stand for
    codes.py     what is known of code objects
    bytecode.py  which names a function looks up; a form for code without source
    source.py    the syntax tree of a function, proven to be what runs
    packages.py  whose a module is, and of which version

Two keys are equal only if everything reached is.  Comments, docstrings, formatting and code that
is not reached do not count, for the form of a function is its syntax tree without them.  Where the
source is not there, or is not what runs (a file edited since it was imported), bytecode takes its
place, and a change of layout may cost a miss.  What cannot be proven is said in `unproven`.

A global value counts by its content (values.py).  One that has none to compare counts
- by its name and the version, where a module of Python or a package holds it (singletons.py);
- by its settings, where it is an instrument: a logger, console, client or engine (libraries.py);
- else not at all: the key is no proof, and a run says which global it is.
Never by the expression that was assigned to it: what a script has put into the object since
(a model that was fitted, a table that was filled) would be served stale.
"""

from __future__ import annotations

import os
import sys
from collections import namedtuple
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from pipedeco.definitions import Decorated
from pipedeco.fingerprint.codes import Codes, digest_of
from pipedeco.fingerprint.lookup import place_of
from pipedeco.fingerprint.naming import module_called
from pipedeco.fingerprint.packages import Owners, python_part
from pipedeco.fingerprint.parts import PLAIN
from pipedeco.fingerprint.reach import Reach
from pipedeco.fingerprint.singletons import holder_of
from pipedeco.fingerprint.unproven import Unproven

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import NamedTuple

    from pipedeco.fingerprint.packages import Owner
    from pipedeco.fingerprint.parts import Part, ValueDigest

    class CodeKey(NamedTuple):
        """A function's code and all that it reaches.

        `digest` is of all `parts`, which are sorted pairs of what it is ("function
        mylib.clean.helper", "value mylib.RATE", "package numpy", "python") and a digest or a
        version.  `unproven` are sentences; while there are any, the key is no proof of anything.
        """

        digest: str
        parts: tuple[tuple[str, str], ...]
        unproven: tuple[str, ...]

else:
    CodeKey = namedtuple("CodeKey", ("digest", "parts", "unproven"))
    CodeKey.__doc__ = "A function's code and all that it reaches."

PASSING = 32  # functions without a name of which a key is known at once


def unread_code(why: str) -> CodeKey:
    """Stands for code that could not be looked at."""
    return CodeKey("", (), (why,))


def code_key(fn: Callable[..., Any], *, value_digest: ValueDigest) -> CodeKey:
    """The key of one function's code.

    Parameters
    ----------
    fn: an undecorated function, or any callable; of a component or a pipeline, its function.
    value_digest: fingerprints values, such as `pipedeco.fingerprint.values.value_digest`.

    Modules that the function imports in its body are imported.
    """
    return CodeKeys(value_digest=value_digest).key(fn)


class CodeKeys:
    """The keys of many functions, each made once until `refresh`.

    Parameters
    ----------
    value_digest: as for `code_key`.
    """

    def __init__(self, *, value_digest: ValueDigest) -> None:
        self._value_digest = value_digest
        self._codes = Codes()
        self._owners = Owners()
        self._reaches: dict[frozenset[str], Reach] = {}
        self._keys: dict[int, tuple[Any, CodeKey]] = {}
        self._watched: dict[int, list[_Global]] = {}
        self._passing = 0  # keys of functions without a name

    def key(self, fn: Callable[..., Any]) -> CodeKey:
        """The key of a function's code; see `code_key`.

        A global that was changed since the last call makes another key.
        """
        found = self._keys.get(id(fn))
        if found is not None and not all(item.is_same() for item in self._watched[id(fn)]):
            self.refresh()
            found = None
        if found is None:
            if place_of(_function(fn)) is None:  # it was made for a run, and its closure with it
                if self._passing == PASSING:
                    self.refresh()
                self._passing += 1
            label, part, reach = self._reach(_function(fn))
            parts = dict(self._parts(label, part, reach))
            found = self._keys[id(fn)] = (fn, _key(parts))
            watched = [
                _watch(name, part.object, self._value_digest) for name, part in parts.items()
            ]
            self._watched[id(fn)] = [item for item in watched if item is not None]
        return found[1]

    def refresh(self) -> None:
        """Look again at values and names, which may have changed; to be called before each run."""
        self._reaches.clear()
        self._keys.clear()
        self._watched.clear()
        self._passing = 0
        self._owners.refresh()
        self._codes.forget_files()

    def owner(self, module: str) -> Owner:
        """Who owns a module, imported or not."""
        return self._owners.of(module)

    def sources(self, fn: Callable[..., Any]) -> dict[str, str]:
        """The text of each function and class reached, by the name of its part.

        Without those whose text cannot be proven to be what runs.
        """
        label, part, reach = self._reach(_function(fn))
        texts = {
            name: self._codes.text(found.object)
            for name, found in self._parts(label, part, reach)
            if name.startswith(("function ", "class "))
        }
        return {name: text for name, text in texts.items() if text is not None}

    def importable(self, fn: Callable[..., Any]) -> list[str]:
        """`module:qualname` of the functions and classes reached, but those of `__main__`."""
        label, part, reach = self._reach(_function(fn))
        found = {
            f"{item.object.__module__}:{item.object.__qualname__}"
            for name, item in self._parts(label, part, reach)
            if name.startswith(("function ", "class ")) and _is_named(item.object)
        }
        return sorted(name for name in found if not name.startswith("__main__:"))

    def _reach(self, fn: Any) -> tuple[str, Part, Reach]:
        """The parts of a function, with all counted that any code among them asks for."""
        features: frozenset[str] = frozenset()
        while True:
            if features not in self._reaches:
                self._reaches[features] = Reach(
                    self._codes, self._owners, self._value_digest, features
                )
            reach = self._reaches[features]
            label, part = reach.root(fn)
            asked = features.union(*[found.asks for _, found in self._parts(label, part, reach)])
            if asked == features:
                return label, part, reach
            features = asked

    def _parts(self, label: str, part: Part, reach: Reach) -> Iterator[tuple[str, Part]]:
        """A part and all that it needs, each once."""
        found = {label: part}
        todo = [(label, part)]
        while todo:
            name, part = todo.pop()
            yield name, part
            for needed in part.needs:
                if needed not in found:
                    found[needed] = reach.parts[needed]
                    todo.append((needed, found[needed]))


def _is_named(found: Any) -> bool:
    return isinstance(getattr(found, "__module__", None), str) and isinstance(
        getattr(found, "__qualname__", None), str
    )


class _Global:
    """A name of a module and what it stood for."""

    __slots__ = ("content", "digest", "found", "name", "names")

    def __init__(self, names: dict[str, Any], name: str, found: Any, digest: ValueDigest) -> None:
        self.names = names
        self.name = name
        self.found = found
        self.digest = digest
        self.content = None if _is_itself(found) else self._content()

    def is_same(self) -> bool:
        if self.names.get(self.name, self) is not self.found:
            return False
        return self.content is None or self.content == self._content()

    def _content(self) -> Any:
        if isinstance(self.found, type):  # methods and attributes may be replaced
            return [(name, id(value)) for name, value in vars(self.found).items()]
        if isinstance(self.found, FunctionType):
            return _function_content(self.found)
        try:
            return self.digest(self.found, code_digest=lambda item: str(id(item)), what=self.name)
        except Unproven:
            return ""  # no key is made of it anyway


def _is_itself(found: Any) -> bool:
    """Whether nothing can change about a value but which one it is."""
    if id(type(found)) in PLAIN or found is os.environ:
        return True
    return (
        type(found) in (MethodType, BuiltinFunctionType)
        and holder_of(found.__self__, anywhere=True) is not None
    )


def _function_content(found: FunctionType) -> Any:
    """What of a function can be replaced."""
    cells = [_cell(cell) for cell in found.__closure__ or ()]
    return id(found.__code__), cells, id(found.__defaults__), [*map(id, vars(found).values())]


def _cell(cell: Any) -> int:
    try:
        return id(cell.cell_contents)
    except ValueError:  # it is empty
        return 0


def _watch(label: str, found: Any, digest: ValueDigest) -> _Global | None:
    """What a part's label names, where that is a global of a module."""
    module, _, name = label.partition(" ")[2].rpartition(".")
    names = getattr(sys.modules.get(module_called(module)), "__dict__", None)
    if names is None or names.get(name, _Global) is not found:
        return None
    return _Global(names, name, found, digest)


def _function(fn: Any) -> Any:
    return fn.fn if isinstance(fn, Decorated) else fn


def _key(found: dict[str, Part]) -> CodeKey:
    parts = tuple(sorted([(name, part.digest) for name, part in found.items()] + [python_part()]))
    unproven = tuple(sorted({said for part in found.values() for said in part.unproven}))
    return CodeKey(digest_of((FORMAT, parts)).hex(), parts, unproven)


FORMAT = "pipedeco code 1"  # another number for another way of writing code down

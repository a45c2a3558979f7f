"""Whether two values are the same, told by a digest: in any process, on any machine, on any day.

`value_digest` walks through a value without recursion. Every value becomes a token (nodes.py): a
scalar at once (exact types only, so that 1, True, 1.0 and numpy.int64(1) differ), a container or an
object from the tokens of its children. What is shared counts as if it were not, and is written once.
Values that contain themselves are strongly connected components, found on the way after R. Tarjan,
Depth-first search and linear graph algorithms (SIAM J. Comput. 1, 1972), and left to knots.py.

Equal digests mean: same types, same content. The order of dictionaries and sets does not count.
What cannot be proven raises Unproven with the path to it. Beyond proof is a `__reduce__` that tells
less than the object knows, or something else each time: its class is believed.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from pipedeco.fingerprint.files import file_digest
from pipedeco.fingerprint.knots import tokens_of
from pipedeco.fingerprint.nodes import KEPT, SCALARS, Node, Opened, name_of, node_token
from pipedeco.fingerprint.objects import OPENERS, is_reference, object_opener, opened_reference
from pipedeco.fingerprint.registry import BUILT_IN, Fingerprints
from pipedeco.fingerprint.unproven import Unproven

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Fingerprints", "file_digest", "value_digest"]

FORMAT = b"pipedeco value 1\n"  # another number for another way of writing values down
_FEW = 8  # children of a container that is not worth remembering
_DEEPEST = 500_000  # a reduction that makes a new object of its own class each time has no end
METHOD = "__pipedeco_fingerprint__"


def value_digest(
    value: Any,
    *,
    code_digest: Callable[[Any], str] | None = None,
    what: str = "value",
    registry: Fingerprints = BUILT_IN,
) -> str:
    """The canonical, typed fingerprint of a value: 64 hexadecimal digits.

    Parameters
    ----------
    value: anything; it is neither changed nor consumed, and nothing of it is compared, hashed or
        printed by methods of the user's.
    code_digest: fingerprints the functions, classes and modules met inside the value that are not
        Python's own. Without it they count by module and name.
    what: how the value is called in a message.
    registry: fingerprints of types that are not the user's to change.

    Raises
    ------
    Unproven: something in it has no content to compare; the message gives the path.
    """
    make = SCALARS.get(id(type(value)))
    token = make(value) if make else _Walk(code_digest, what, registry).token(value)
    return blake3(FORMAT + token).hexdigest()


class _Frame:
    """A value whose children are being written down; a `knots.Member` once they are."""

    __slots__ = ("label", "low", "number", "order", "place", "rest", "tied", "tokens", "value")

    def __init__(self, value: Any, number: int, node: Opened, rest: Iterator[Any]) -> None:
        self.value = value
        self.number = self.low = number  # low: the first value of the walk that it leads back to
        self.label, _, self.order, self.place = node
        self.rest = rest
        self.tokens: list[Any] = []  # whole numbers for values that have no token yet
        self.tied = False  # whether there are such


class _Walk:
    """One walk through one value."""

    def __init__(
        self,
        code_digest: Callable[[Any], str] | None,
        what: str,
        registry: Fingerprints,
    ) -> None:
        self._code_digest = code_digest
        self._what = what
        self._registry = registry
        self._seen: dict[
            int, bytes | int
        ] = {}  # by id: the token, or the number until there is one
        self._keep: list[Any] = []  # so that no id is used twice
        self._frames: list[_Frame] = []
        self._waiting: list[_Frame] = []  # ended, and part of a knot that has not
        self._openers: dict[int, Callable[[Any], Opened]] = {}

    def token(self, root: Any) -> bytes:
        """The token of a value that is no scalar."""
        frames = self._frames
        top = self._enter(root)
        if type(top) is not _Frame:
            assert type(top) is bytes
            return top
        frames.append(top)
        while True:
            frame = frames[-1]
            child = self._advance(frame)
            if child is not None:
                frames.append(child)
                if len(frames) > _DEEPEST:
                    raise Unproven(f"{self._what} is nested more than {_DEEPEST:,} levels deep")
                continue
            frames.pop()
            token = self._leave(frame)
            if not frames:
                assert type(token) is bytes
                return token
            parent = frames[-1]
            parent.tokens.append(token)
            if type(token) is int:
                parent.tied = True
                parent.low = min(parent.low, frame.low)

    def _advance(self, frame: _Frame) -> _Frame | None:
        """Write children down up to one that has children of its own; None at the end."""
        scalar, seen = SCALARS.get, self._seen.get
        tokens = frame.tokens
        for child in frame.rest:
            make = scalar(id(type(child)))
            if make is not None:
                tokens.append(make(child))
                continue
            token = seen(id(child)) or self._enter(child)
            if type(token) is _Frame:
                return token
            tokens.append(token)
            if type(token) is int:
                frame.tied = True
                frame.low = min(frame.low, token)
        return None

    def _enter(self, value: Any) -> bytes | _Frame:
        """The token of a value whose children are scalars, or a frame for the others."""
        kind = type(value)
        common = OPENERS.get(id(kind))
        try:
            node = (common or self._openers.get(id(kind)) or self._opener(kind))(value)
        except Exception as error:  # users' reducers: what fails is not proven
            raise Unproven(self._sentence(kind, error)) from error
        rest = iter(node[1])
        tokens: list[bytes] = []
        scalar = SCALARS.get
        for child in rest:
            make = scalar(id(type(child)))
            if make is None:
                break
            tokens.append(make(child))
        else:
            token = node_token(node[0], node[2], tokens)
            if common is None or len(tokens) > _FEW:  # else it is as quickly done again
                self._keep.append(value)
                self._seen[id(value)] = token
            return token
        self._keep.append(value)
        number = self._seen[id(value)] = len(self._keep)
        frame = _Frame(value, number, node, chain((child,), rest))
        frame.tokens = tokens
        return frame

    def _leave(self, frame: _Frame) -> bytes | int:
        """The token of a value whose children are all written down, or its number."""
        number = frame.number
        if frame.low < number:
            self._waiting.append(frame)
            return number
        if not frame.tied:
            token = node_token(frame.label, frame.order, frame.tokens)
            self._seen[id(frame.value)] = token
            return token
        knot = [frame]
        while self._waiting and self._waiting[-1].number > number:
            knot.append(self._waiting.pop())
        try:
            tokens = tokens_of(knot)
        except Unproven as error:
            raise Unproven(self._sentence(type(frame.value), error)) from None
        for member in knot:
            self._seen[id(member.value)] = tokens[member.number]
        return tokens[number]

    # ---- how a value is opened

    def _opener(self, kind: type) -> Callable[[Any], Opened]:
        opener = self._openers[id(kind)] = self._find(kind)
        return opener

    def _find(self, kind: type) -> Callable[[Any], Opened]:
        if is_reference(kind):
            return (issubclass(kind, type) and self._registry.find(kind)) or self._reference
        if any(METHOD in base.__dict__ for base in kind.__mro__):
            return _by_method
        return self._registry.find(kind) or object_opener(kind)

    def _reference(self, value: Any) -> Node:
        return opened_reference(value, self._code_digest)

    # ---- what is said of a culprit

    def _sentence(self, kind: type, error: Exception) -> str:
        path = self._what
        for frame in self._frames:
            path += frame.place(frame.value, len(frame.tokens))
        name = kind.__qualname__ if kind.__module__ == "builtins" else name_of(kind)
        article = "an" if name[0] in "aeiouAEIOU" else "a"
        reason = str(error) if type(error) is Unproven else _short(error)
        return f"{path} is {article} {name}, which has no fingerprint: {reason}"


def _by_method(value: Any) -> Node:
    content = getattr(type(value), METHOD)(value)
    return Node(b"6:custom", (type(value), content), KEPT, lambda value, index: f".{METHOD}()")


def _short(error: Exception) -> str:
    try:
        text = str(error)[:200]
    except Exception:  # noqa: BLE001 - an exception of the user's may fail to tell itself
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

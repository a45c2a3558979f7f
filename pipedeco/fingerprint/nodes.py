"""How a value is written down before it is hashed: tokens, nodes, and the hash itself.

A *token* is a few self-delimiting bytes that stand for one value. Its first byte says how it is read,
so that no two sequences of tokens are the same bytes:

    N T F . ~     None, True, False, Ellipsis, NotImplemented
    i f c         an int of 64 bits, a float, a complex: fixed width
    n             the float nan, whatever its payload
    I s b         a larger int, text, bytes: length, colon, content
    S B           text and bytes over 1 KiB: their BLAKE3 digest
    (             a short node: one byte of length, label, tokens of its children
    #             any other node: the BLAKE3 digest of the same
    @             within a knot (see knots.py): a member of it

A *node* is what a container or an object is opened into: a label and children.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from blake3 import blake3

from pipedeco.blobs import THREADED, hasher_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

KEPT = 0  # children count in their order
SORTED = 1  # children in no order
PAIRS = 2  # keys and values in turn; the pairs in no order

_SHORT = 255  # longest node that is its own token
_LONG_TEXT = 1024  # text and bytes beyond are hashed at once

_INT = struct.Struct("<cq").pack
_FLOAT = struct.Struct("<cd").pack
_NAN = b"n"


class Node(NamedTuple):
    """A value opened into its parts.

    Parameters
    ----------
    label: kind of the value; none is the beginning of another (see `label_of`).
    children: values to be fingerprinted in turn.
    order: KEPT, SORTED or PAIRS.
    place: of the value and a child's index, how that child is reached, such as ".name" or "[3]".
    """

    label: bytes
    children: Iterable[Any]
    order: int = KEPT
    place: Callable[[Any, int], str] = lambda value, index: ""


# What the most common types return: a Node takes longer to make than a short list to write down.
Opened = tuple["bytes", "Iterable[Any]", int, "Callable[[Any, int], str]"]


def label_of(kind: str) -> bytes:
    """A label; self-delimiting, as tokens are."""
    text = kind.encode("utf-8", "surrogatepass")
    return b"%d:%b" % (len(text), text)


def name_of(kind: type) -> str:
    """The full name of a class."""
    return f"{kind.__module__}.{kind.__qualname__}"


def by_index(_value: Any, index: int) -> str:
    return f"[{index}]"


def digest_of(data: Any) -> bytes:
    """The 32 bytes of BLAKE3 of one bytes-like object."""
    if len(data) < THREADED:
        return blake3(data).digest()
    return digest_of_pieces((data,))


def digest_of_pieces(pieces: Iterable[Any]) -> bytes:
    """The digest of contiguous buffers one after the other."""
    hasher = None
    for piece in pieces:
        view = memoryview(piece)
        if hasher is None:
            hasher = hasher_for(view.nbytes)
        if view.nbytes:  # an empty view cannot be cast
            hasher.update(view.cast("B"))
    return (hasher or blake3()).digest()


def node_token(label: bytes, order: int, tokens: list[bytes]) -> bytes:
    """The token of a node, from those of its children."""
    body = node_body(label, order, tokens)
    if len(body) <= _SHORT:
        return b"(%c%b" % (len(body), body)
    return b"#" + digest_of(body)


def node_body(label: bytes, order: int, tokens: list[bytes]) -> bytes:
    if order == SORTED:
        tokens = sorted(tokens)
    elif order == PAIRS:
        tokens = sorted(map(bytes.__add__, tokens[::2], tokens[1::2]))
    return label + b"".join(tokens)


# ---- scalars


def _int(value: int) -> bytes:
    try:
        return _INT(b"i", value)
    except struct.error:  # not by digits: their number is limited, and their cost quadratic
        data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"I%d:%b" % (len(data), data)


def _float(value: float) -> bytes:
    # One nan: the sign that arithmetic gives it differs between processors.
    return _FLOAT(b"f", value) if value == value else _NAN  # noqa: PLR0124 - false for nan


def _complex(value: complex) -> bytes:
    return b"c" + _float(value.real) + _float(value.imag)


def _str(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    if len(data) > _LONG_TEXT:
        return b"S" + digest_of(data)
    return b"s%d:%b" % (len(data), data)


def _bytes(value: bytes) -> bytes:
    if len(value) > _LONG_TEXT:
        return b"B" + digest_of(value)
    return b"b%d:%b" % (len(value), value)


def _true_or_false(value: bool) -> bytes:
    return b"T" if value else b"F"


# By id: a metaclass may give classes a hash and an equality of its own. These types never go away.
SCALARS: dict[int, Callable[[Any], bytes]] = {
    id(bool): _true_or_false,
    id(int): _int,
    id(float): _float,
    id(complex): _complex,
    id(str): _str,
    id(bytes): _bytes,
    id(type(None)): lambda value: b"N",
    id(type(Ellipsis)): lambda value: b".",
    id(type(NotImplemented)): lambda value: b"~",
}


# ---- long sequences of one scalar type

PACKED_FROM = 64  # items; shorter sequences are as quick one by one


def packed(items: Sequence[Any]) -> tuple[bytes, ...] | None:
    """Many scalars of one type as a few buffers; None where they are to be taken one by one.

    Which of the two is taken depends on nothing but the items.
    """
    kinds = set(map(id, map(type, items)))
    if len(kinds) > 1:
        return None
    pack = _PACKERS.get(kinds.pop())
    return pack(items) if pack else None


def _pack_floats(items: Sequence[float]) -> tuple[bytes, ...] | None:
    from array import array
    from math import isnan

    if any(map(isnan, items)):
        return None  # one by one, so that every nan is the same
    return b"f", _little(array("d", items))


def _pack_ints(items: Sequence[int]) -> tuple[bytes, ...] | None:
    from array import array

    try:
        return b"i", _little(array("q", items))
    except OverflowError:
        return None


def _pack_texts(items: Sequence[str]) -> tuple[bytes, ...]:
    from array import array

    lengths = _little(array("q", map(len, items)))
    return b"s", lengths, "".join(items).encode("utf-8", "surrogatepass")


def _little(numbers: Any) -> bytes:
    import sys

    if sys.byteorder == "big":
        numbers.byteswap()
    return bytes(numbers.tobytes())


_PACKERS: dict[int, Callable[[Any], tuple[bytes, ...] | None]] = {
    id(float): _pack_floats,
    id(int): _pack_ints,
    id(str): _pack_texts,
}

"""Values that contain themselves.

The members of a knot (a strongly connected component of what refers to what, found by the walk in
values.py) have no token before one of them has. They are told apart by refinement instead: at first
all have one name; in each round, the new name of a member is the digest of its label and of its
children, with the last round's names in place of members; this ends when a round tells no more of
them apart. Two members are equal exactly when nothing that can be reached from them by any path
differs: R. Paige and R. E. Tarjan, Three partition refinement algorithms (SIAM J. Comput. 16, 1987).

The pairs of a last and a next name say of each class where its children lead, and so describe the
knot up to which of its equal members were shared: their digest is the knot's, in any process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pipedeco.fingerprint.nodes import digest_of, node_body, node_token
from pipedeco.fingerprint.unproven import Unproven

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST = 2_000_000  # digests spent on one knot: some seconds


class Member(Protocol):
    """A node with the tokens of its children; whole numbers stand for members of its knot."""

    number: int
    label: bytes
    order: int
    tokens: list[bytes | int]


def tokens_of(members: Sequence[Member]) -> dict[int, bytes]:
    """The tokens of all members of a knot, by number.

    Raises Unproven where the knot is so large and so uniform that it would take too long.
    """
    names = dict.fromkeys((member.number for member in members), b"@" + bytes(32))
    classes = 1
    spent = 0
    while True:
        following = {member.number: _name(member, names) for member in members}
        found = len(set(following.values()))
        if found == classes:
            break
        names, classes = following, found
        spent += len(members)
        if spent > _MOST:
            raise Unproven(f"it is part of {len(members):,} objects that refer to each other")
    whole = digest_of(b"".join(sorted({names[number] + following[number] for number in names})))
    return {
        number: node_token(b"4:knot", 0, [b"#" + whole, name]) for number, name in names.items()
    }


def _name(member: Member, names: dict[int, bytes]) -> bytes:
    tokens = [names[token] if type(token) is int else token for token in member.tokens]
    return b"@" + digest_of(node_body(member.label, member.order, tokens))  # type: ignore[arg-type]

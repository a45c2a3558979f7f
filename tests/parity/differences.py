"""The differences from the bare program that are known: why they are, and what tells users so."""

from __future__ import annotations

from typing import NamedTuple

EVERY = ("debug", "local", "spawn", "remote")
WORKERS = ("local", "spawn", "remote")


class Known(NamedTuple):
    """A difference that a program shows in some modes.

    Attributes
    ----------
    program, modes, aspect : what differs, where.
    like : a part of each text that tells it; "" for all of the aspect.
    why : what is behind it, for a reader of this table.
    limits : the words of README's Limits that tell users of it.
    pending : the part of the work that will end it; "" where it stays.
    """

    program: str
    modes: tuple[str, ...]
    aspect: str
    like: str
    why: str
    limits: str = ""
    pending: str = ""


KNOWN: tuple[Known, ...] = ()

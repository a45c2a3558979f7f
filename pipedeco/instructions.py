"""The instructions of a code object, and the globals that they look up."""

from __future__ import annotations

import sys
from opcode import EXTENDED_ARG, opmap
from types import CodeType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def numbers(*names: str) -> frozenset[int]:
    return frozenset(opmap[name] for name in names if name in opmap)


GLOBAL = numbers("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
# Which bits of an argument are flags and not part of the index of a name.
SHIFTS = {opmap["LOAD_GLOBAL"]: 1}
if sys.version_info >= (3, 12):
    SHIFTS |= {opmap["LOAD_ATTR"]: 1, opmap["LOAD_SUPER_ATTR"]: 2}
# From 3.13 on: two loads or stores of locals in one instruction.
_PAIRS = {
    opmap[f"{one}_{two}"]: (opmap[one], opmap[two])
    for one in ("LOAD_FAST", "STORE_FAST", "LOAD_FAST_BORROW")
    for two in ("LOAD_FAST", "STORE_FAST", "LOAD_FAST_BORROW")
    if f"{one}_{two}" in opmap
}


def codes(code: CodeType) -> Iterator[CodeType]:
    """A code object and those within it."""
    yield code
    for constant in code.co_consts:
        if type(constant) is CodeType:
            yield from codes(constant)


def instructions(code: CodeType) -> Iterator[tuple[int, int]]:
    """Operations with their whole arguments; neither caches nor prefixes."""
    extended = 0
    raw = code.co_code
    for op, low in zip(raw[::2], raw[1::2], strict=True):
        arg = low | extended
        if op == EXTENDED_ARG:
            extended = arg << 8
        elif op:  # 0 is CACHE
            extended = 0
            pair = _PAIRS.get(op)
            if pair is None:
                yield op, arg
            else:
                yield pair[0], arg >> 4
                yield pair[1], arg & 15


def name_of(code: CodeType, op: int, arg: int) -> str:
    """The name that an instruction has for its argument."""
    name: str = code.co_names[arg >> SHIFTS.get(op, 0)]
    return name


def global_names(code: CodeType) -> set[str]:
    """Names that the code and the code inside it look up in their globals."""
    found: set[str] = set()
    for inner in codes(code):
        if inner.co_names:
            steps = instructions(inner)
            found.update(name_of(inner, op, arg) for op, arg in steps if op in GLOBAL)
    return found

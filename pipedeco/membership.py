"""Whether an instruction looks for an item in a container.

`pending.remove(f)` compares its items with f, as `f == other` does; to the method of f that is asked
both look the same.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType

_METHODS = ("remove", "index", "count")
_LOADS = ("LOAD_METHOD", "LOAD_ATTR")


@lru_cache(maxsize=1000)
def looks_for_item(code: CodeType, offset: int) -> bool:
    """Whether the instruction at `offset` is `in`, or a call of a method that finds an item."""
    import dis

    methods = []  # where the calls begin of those that were named before
    for instruction in dis.get_instructions(code):
        name = instruction.opname
        if instruction.offset == offset:
            called = "CALL" in name and _place(instruction) in methods
            return name == "CONTAINS_OP" or called
        if name in _LOADS and instruction.argval in _METHODS:
            methods.append(_place(instruction))
    return False


def _place(instruction: Any) -> tuple[int, int] | None:
    """Where its expression begins; that of a call begins with that of its function."""
    positions = instruction.positions
    if positions is None or positions.lineno is None or positions.col_offset is None:
        return None  # -X no_debug_ranges
    return positions.lineno, positions.col_offset

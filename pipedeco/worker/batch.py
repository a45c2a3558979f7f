"""A payload's batch of calls, as it travels from a controller to a station."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipedeco.serialization import Packed


class Batch(NamedTuple):
    """What a payload says; plain types all."""

    folder: str  # of the run in the store, or its URL
    name: str  # of the batch within it
    start_method: str  # of the children
    functions: list[tuple[Any, ...]]  # messages
    definitions: list[tuple[str, Packed]]  # names of __main__
    renewed: list[str]  # those that a child gets again though it has them
    calls: list[tuple[Any, ...]]  # messages
    timeouts: dict[int, float]  # by call
    fresh: bool  # whether the child is to have done nothing before, nor afterwards
    environment: tuple[Any, ...] | None = None  # Requirements, where it is to be in its own
    moments: dict[int, bytes] = {}  # noqa: RUF012 - by call, of those that find something changed
    changes: list[tuple[str, str, bytes, str]] = []  # noqa: RUF012 - globals of modules
    spare: list[str] = []  # noqa: RUF012 - definitions that the import of the main file gives, too


def needed(batch: Batch) -> Iterator[str]:
    """The digests of the values that a batch begins with."""
    packed = [item for _, item in batch.definitions]
    for _, _, args, inputs, *_ in batch.calls:
        packed += [args, *(inputs or ())]
    return (item for item in packed if isinstance(item, str))

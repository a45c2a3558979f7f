"""What a step of debug mode changes in its arguments, which the other modes would lose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipedeco.result import StepResult, accept_change
from pipedeco.serialization import pickle_mark
from pipedeco.tracing import warn_user

if TYPE_CHECKING:
    from pipedeco.graph import Outcome, Step

# One step at a time holds its arguments' pickle, so it may be large: a frame, a drawing.
ARGUMENTS_LIMIT = 16 * 1024 * 1024

_CONTAINERS = (list, tuple, set, frozenset)


def warn_of_changes(step: Step, before: bytes, arguments: list[Any], outcome: Outcome) -> None:
    """Warn where the step has changed an argument that it does not return.

    Parameters
    ----------
    before: the pickle of the list of arguments.
    """
    if pickle_mark(arguments, ARGUMENTS_LIMIT) == before:
        return
    from pipedeco.fingerprint.changes import changed_parts

    changed = list(changed_parts(before, arguments))
    if not changed:
        return
    returned = () if outcome.kept is None else _returned(outcome.kept[0])
    if any(not any(part is value for value in returned) for part in changed):
        warn_user(
            f"step {step.name} changed its argument in place; the other modes would not see "
            "that outside the step: return the changed value instead"
        )
    for argument in (*step.originals[0], *step.originals[1].values()):
        if isinstance(argument, StepResult):
            accept_change(argument)  # it was the step's, not the body's


def _returned(value: Any) -> list[Any]:
    """What a step returns, and what stands in it."""
    parts = list(value.values()) if isinstance(value, dict) else value
    return [value, *(parts if isinstance(parts, _CONTAINERS) else ())]

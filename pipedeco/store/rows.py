"""Steps as rows of the database, and back."""

from __future__ import annotations

import json
from array import array
from typing import TYPE_CHECKING, Any

from pipedeco.graph import FAILED, Logs, Outcome, Step

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipedeco.graph import Called, StepKey

SHIFT = 32  # a step's id is its run's seq and its position
COLUMNS = {"put_steps": 22, "put_keys": 5, "put_cached": 3}  # of statements for many rows


def step_id(seq: int, position: int) -> int:
    return (seq << SHIFT) + position


def step_row(seq: int, number: int, step: Step) -> tuple[Any, ...]:
    """The row of a step; `number` is its component's."""
    outcome = step.outcome
    error = outcome.error if outcome is not None else None
    logs = _logs(step)
    reason = step.reason
    return (
        (seq << SHIFT) + step.position,
        seq,
        step.name,
        number,
        step.state,
        step.attempt,
        outcome.worker if outcome is not None else (logs.name if logs is not None else None),
        outcome.started if outcome is not None else step.began,
        outcome.duration if outcome is not None else None,
        step.args,
        positions(step.inputs) if step.inputs else None,
        positions(step.after) if step.after else None,
        step.reads,
        step.line,
        outcome.value if outcome is not None else None,
        outcome.preview if outcome is not None else None,
        *((None, None, None, None) if error is None else error),
        reason_text(step) if reason is not None else None,
        pack_logs(logs) if logs is not None else None,
    )


def _logs(step: Step) -> Logs | None:
    if step.outcome is not None and step.outcome.logs is not None:
        return step.outcome.logs
    return step.logs.so_far() if step.logs is not None else None


def attempt_row(seq: int, step: Step, number: int, outcome: Outcome) -> dict[str, Any]:
    error = outcome.error
    return {
        "step": step_id(seq, step.position),
        "number": number,
        "state": outcome.state,
        "worker": outcome.worker,
        "started": outcome.started,
        "duration": outcome.duration,
        "error_type": error and error.type,
        "error_text": error and error.text,
        "traceback": error and error.traceback,
        "logs": pack_logs(outcome.logs) if outcome.logs is not None else None,
    }


def key_row(seq: int, step: Step, key: StepKey) -> tuple[Any, ...]:
    """What is remembered of a cached component's step, for later hits and for `why`."""
    parts = {
        "code": key.code,
        "version": key.cache.version,
        "environment": key.environment,
        "seed": key.seed,
        "arguments": key.arguments,
        "inputs": key.inputs,
        "unproven": key.unproven,
        "layout": key.layout,
        "note": key.note,
        "files": step.outcome.files if step.outcome is not None else None,
    }
    return (
        step_id(seq, step.position),
        key.key if key.unproven is None else None,
        json.dumps({name: part for name, part in parts.items() if part}),
        key.fingerprint,
        key.origin,
    )


def component_row(seq: int, number: int, called: Called, code: dict[str, Any]) -> dict[str, Any]:
    """The row of a component; `code` is what is known of its code."""
    fn = called.component.fn
    where = getattr(fn, "__code__", None)
    return {
        "run": seq,
        "number": number,
        "name": called.name,
        "module": str(getattr(fn, "__module__", "")),
        "qualname": str(getattr(fn, "__qualname__", called.name)),
        "parameters": json.dumps(called.component.parameter_names()),
        "file": where and where.co_filename,
        "line": where and where.co_firstlineno,
        "options": json.dumps(called.component.options_text()),
        "is_pipeline": called.is_pipeline,
        "facts": component_facts(called),
        **code,
    }


def component_facts(called: Called) -> str | None:
    """What is told of a component beside its code, as JSON; None where there is nothing."""
    options = called.options
    facts: dict[str, Any] = {
        "stage": options.stage,
        "tags": options.tags,
        "monitors": options.monitors,
        "environment": called.environment,
    }
    told = {name: fact for name, fact in facts.items() if fact}
    return json.dumps(told) if told else None


def reason_text(step: Step) -> str:
    """Why a step was skipped or cancelled."""
    if isinstance(step.reason, Step):
        verb = "" if step.reason.state == FAILED else "was "
        return f"step {step.reason.name}, which it needs, {verb}{step.reason.state}"
    return str(step.reason)


def positions(steps: Iterable[Step]) -> bytes:
    return array("I", [step.position for step in steps]).tobytes()


def unpack_positions(data: bytes | None) -> list[int]:
    numbers = array("I")
    numbers.frombytes(data or b"")
    return numbers.tolist()


def pack_logs(logs: Logs) -> str:
    return " ".join(map(str, logs))


def unpack_logs(text: str | None) -> Logs | None:
    if text is None:
        return None
    name, *numbers = text.split()
    return Logs(name, *map(int, numbers))

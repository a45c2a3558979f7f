"""What is said of a step."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pipedeco.errors import RunNotFound
from pipedeco.explaining.differing import Reason, differing, likeness
from pipedeco.explaining.records import decoded, key_parts, reading
from pipedeco.graph import (
    CACHED,
    CANCELLED,
    COMPLETED,
    FAILED,
    INTERRUPTED,
    PENDING,
    QUEUED,
    RUNNING,
    SKIPPED,
)
from pipedeco.store.owner import is_alive
from pipedeco.text import plain_text, when

if TYPE_CHECKING:
    from pipedeco.explaining.records import Records, Row

SHOWN = 20  # reasons; an upgrade of everything has hundreds
_SAID = {
    CACHED: "was not performed",
    COMPLETED: "was performed",
    FAILED: "failed",
    SKIPPED: "was skipped",
    CANCELLED: "was cancelled",
    INTERRUPTED: "was interrupted",
    RUNNING: "is being performed",
    QUEUED: "has not begun",
    PENDING: "has not begun",
}


@dataclass(frozen=True, slots=True)
class Why:
    """Why a step was performed, or was not.

    `run`, `run_name`, `step`, `component`, `state`: of the step.  `reasons`: sentences, each with
    what it is about.  `other`: the step that it was compared with, or whose value it has, under
    `run`, `run_name` and `step`; None where there is none.
    """

    run: str
    run_name: str
    step: str
    component: str
    state: str
    reasons: tuple[Reason, ...]
    other: dict[str, str] | None = None

    @property
    def text(self) -> str:
        """The reasons in one line."""
        return "; ".join(reason.text for reason in self.reasons)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain types."""
        return {**asdict(self), "reasons": [asdict(reason) for reason in self.reasons]}

    def __str__(self) -> str:
        head = f"step {self.step} of run {self.run} ({self.run_name}) {_SAID.get(self.state, self.state)}"
        if self.other is None or self.state == CACHED:
            return plain_text(f"{head}: {self.text}")
        other = self.other
        lines = [f"{head}; compared with step {other['step']} of {_run(other)}:"]
        lines += [f"  {reason.text}" for reason in self.reasons[:SHOWN]]
        if len(self.reasons) > SHOWN:
            lines.append(f"  ... and {len(self.reasons) - SHOWN:,} more")
        if any(reason.part == "code" for reason in self.reasons):
            lines.append(f"the code of both: pipedeco diff {other['run']} {self.run}")
        return "\n".join(map(plain_text, lines))


def why(store: str, run: str, step: str) -> Why:
    """Why a step was performed, or was not.

    Parameters
    ----------
    store: its folder.
    run: the id of a run.
    step: the name of its step.

    Raises RunNotFound where there is no such step, and StoreError.
    """
    with reading(store) as records:
        row = records.run(run)
        found = records.steps(row["seq"], step)
        if not found:
            raise RunNotFound(
                f"there is no step {step!r} in run {run}; list its steps with: pipedeco show {run}"
            )
        records.look_for_equal(found[0]["id"], found[0]["id"] + 1)
        return _answer(records, row, found[0])


def why_all(store: str, run: str) -> list[Why]:
    """The same of all steps of cached components, in the order of their calls."""
    with reading(store) as records:
        row = records.run(run)
        steps = records.steps(row["seq"])
        if steps:
            records.look_for_equal(steps[0]["id"], steps[-1]["id"] + 1)
        return [_answer(records, row, step) for step in steps if step["keyed"] or _says_cache(step)]


Answer = tuple[list[Reason], "dict[str, str] | None"]  # and the other step


def _answer(records: Records, run: Row, step: Row) -> Why:
    state = _state(records.store, run, step["state"])
    if state == CACHED:
        reasons, other = _taken(records, step)
    elif state in (SKIPPED, CANCELLED, PENDING, QUEUED):
        reasons, other = [_not_begun(run, step, state)], None
    elif step["is_pipeline"]:
        reasons, other = [_child(records, run, step)], None
    elif state == COMPLETED:
        reasons, other = _performed(records, run, step)
    else:
        reasons, other = [_without_value(step, state)], None
    name = f"{run['pipeline']}#{run['number']}"
    return Why(run["id"], name, step["name"], step["component"], state, tuple(reasons), other)


def _state(store: str, run: Row, state: str) -> str:
    """As the run's record says it, too: what ran is interrupted once its controller died."""
    active = {RUNNING: INTERRUPTED, QUEUED: PENDING}
    if state in active and run["status"] == RUNNING and not is_alive(store, run["owner"]):
        return active[state]
    return state


def _says_cache(step: Row) -> bool:
    return "cache" in decoded(step["options"])


def _run(row: Row) -> str:
    """A run by its id and its name."""
    return f"run {row['run']} ({row['run_name']})"


def _other(step: str, run: str, pipeline: str, number: int) -> dict[str, str]:
    return {"run": run, "run_name": f"{pipeline}#{number}", "step": step}


# -- steps that were not performed, or gave nothing -------------------------------------------


def _taken(records: Records, step: Row) -> Answer:
    """A step that has the value of another."""
    maker = None if step["origin"] is None else records.with_run(step["origin"])
    if maker is None:
        text = "its value was known; the run that made it was removed since, or never was here"
        return [Reason("origin", f"{text}; the same code and arguments")], None
    other = _other(maker["name"], maker["run"], maker["pipeline"], maker["number"])
    made = when((maker["started"] or 0.0) + (maker["duration"] or 0.0))
    since = ", which is archived since" if maker["archived"] else ""
    text = (
        f"it has the value of step {maker['name']} of {_run(other)}{since}, made {made}; "
        "the same code and arguments"
    )
    return [Reason("origin", text, maker["name"])], other


def _not_begun(run: Row, step: Row, state: str) -> Reason:
    if state in (SKIPPED, CANCELLED):
        return Reason(state, step["reason"] or "the records do not tell why")
    if run["status"] == RUNNING:
        return Reason(
            state, "whether its value is known is looked up once all that it needs is there"
        )
    return Reason(state, f"the run is {run['status']}")


def _child(records: Records, run: Row, step: Row) -> Reason:
    child = records.child_run(run["id"], step["name"])
    see = f"; see its run {child}" if child else ""
    return Reason("pipeline", f"a pipeline is never cached as a whole{see}", child)


def _without_value(step: Row, state: str) -> Reason:
    if state == FAILED:
        error = ": ".join(filter(None, (step["error_type"], step["error_text"])))
        return Reason(state, f"{error or 'it raised'}; failures are not kept")
    if state == INTERRUPTED:
        return Reason(state, "its controller was killed while it ran")
    return Reason(state, "why is recorded when it ends")


# -- steps that were performed ------------------------------------------------------------------


def _performed(records: Records, run: Row, step: Row) -> Answer:
    if not step["keyed"]:
        return _without_key(records, run, step)
    parts = key_parts(step)
    if parts.get("unproven"):
        return _unproven(records, step, str(parts["unproven"])), None
    if parts.get("note"):
        return [Reason("note", str(parts["note"]))], None
    equal = records.equal(step)
    if equal:
        return _not_taken(records, step, equal)
    return _compared(records, run, step, parts)


def _without_key(records: Records, run: Row, step: Row) -> Answer:
    name = step["component"]
    if _says_cache(step):
        return [Reason("off", "the cache was off: its pipeline was run with cache=False")], None
    nearest = records.nearest(run, step)
    if nearest is None:
        text = f"component {name} is not cached; @component(cache=True) would cache it"
        return [Reason("uncached", text, name)], None
    before = nearest[0]
    other = _other(nearest[1][0]["name"], before["id"], before["pipeline"], before["number"])
    text = f"component {name} is not cached here, as it was in {_run(other)}: its cache= is off"
    return [Reason("uncached", text, name)], None


def _unproven(records: Records, step: Row, said: str) -> list[Reason]:
    """All that is unproven of its code, or what is of its arguments."""
    try:
        code = json.loads(records.component(step)["unproven"] or "[]")
    except ValueError:  # of an imported run
        code = []
    sentences = code if said in code else [said]
    return [Reason("unproven", f"equality cannot be proven: {text}") for text in sentences]


def _not_taken(records: Records, step: Row, equal: list[Row]) -> Answer:
    """Why the value of a step with the same key did not serve."""
    good = [row for row in equal if row["state"] in (COMPLETED, CACHED)]
    chosen = (good or equal)[0]
    place = records.with_run(chosen["id"])
    if place is None:
        return [Reason("removed", "the run that made its value is not recorded whole")], None
    other = _other(place["name"], place["run"], place["pipeline"], place["number"])
    if not good:
        ended = "failed" if chosen["state"] == FAILED else f"was {chosen['state']}"
        text = f"all parts are equal; that one {ended}, and only values are kept"
        return [Reason("equal", text)], other
    maker = records.with_run(chosen["origin"] or chosen["id"])
    return [Reason("equal", f"all parts are equal; {_in_the_way(step, maker)}")], other


def _in_the_way(step: Row, maker: Row | None) -> str:
    if maker is None:
        return "the run that made the value was removed"
    if maker["archived"]:
        return f"run {maker['run']}, which made the value, is archived"
    if maker["owner"] == "imported":
        return f"run {maker['run']}, which made the value, was imported, and serves no hits"
    if maker["unrecorded"]:
        return "its value could not be recorded"
    if (maker["started"] or 0.0) + (maker["duration"] or 0.0) > (step["started"] or 0.0):
        return "it was being performed at the same time"
    return (
        "the cache did not have that value then: it was removed, its run was archived, or a File "
        "changed while it was being read"
    )


def _compared(records: Records, run: Row, step: Row, parts: dict[str, Any]) -> Answer:
    """With the last run that has something to compare it with."""
    nearest = records.nearest(run, step)
    if nearest is None:
        text = f"no earlier run has performed component {step['component']} with the cache on"
        return [Reason("first", text)], None
    before, steps = nearest
    then = next((row for row in steps if row["name"] == step["name"]), None)
    if then is None:
        then = max(steps, key=lambda row: likeness(parts, key_parts(row)))
    other = _other(then["name"], before["id"], before["pipeline"], before["number"])
    unproven = key_parts(then).get("unproven")
    if unproven:
        return [Reason("unproven", f"nothing could be proven equal to that one: {unproven}")], other
    return differing(records, then, step), other

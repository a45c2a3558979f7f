"""What is different between two runs: what went in, what computed it, and what came out.

Times are told and are no difference.  Neither is a value from the cache instead of a performed
step.  Steps are compared by name, and values by their fingerprint where both have one, else by
their stored bytes.  Values that differ are loaded, to tell in what; those that turn out to be equal
(a set in another order) are no difference.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pipedeco.errors import RunNotFound, StoreError
from pipedeco.graph import INTERRUPTED, RUNNING, SUCCESS
from pipedeco.recorded_values import RecordedValues, tells_all
from pipedeco.serialization import UNRECORDED
from pipedeco.store import rows
from pipedeco.store.database import as_dicts, connect_to_read, queries

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping

    from pipedeco.run import Run

    Row = dict[str, Any]

FILE = "comparing.sql"
WITHIN = "differs within"
NOT_FOUND = "no difference is found in it, though its fingerprint is another"


@dataclass(frozen=True, slots=True)
class Change:
    """Something that is not the same: as text on either side, None where it is not there.

    `details`: in what two values differ, a line each.
    """

    name: str
    left: str | None
    right: str | None
    note: str | None = None
    details: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ComponentChange:
    """A component whose code is not the same; `parts` are those of it and of all it reaches."""

    name: str
    parts: list[Change]


@dataclass(frozen=True, slots=True)
class Times:
    """How long something took on either side, in seconds; `ratio` is right to left."""

    name: str
    left: float | None
    right: float | None
    ratio: float | None


@dataclass(slots=True)
class Differences:
    """What is different between two runs; false where nothing is but times.

    `left`, `right`: id, name and status of the runs.  `run`: pipeline, version, mode, status,
    error and result.  `parameters`, `python`, `git`, `packages`, `environment`: each a list of
    changes.  `components`: which were added, removed or have other options; `code`: which have
    other code, and `sources` has the unified diff of each part's text.  `steps`: state, result or
    error.  `times`: of the run, then of the steps of both.  `notes`: what could not be compared.
    """

    left: dict[str, Any]
    right: dict[str, Any]
    run: list[Change] = field(default_factory=list)
    parameters: list[Change] = field(default_factory=list)
    python: list[Change] = field(default_factory=list)
    git: list[Change] = field(default_factory=list)
    packages: list[Change] = field(default_factory=list)
    environment: list[Change] = field(default_factory=list)
    components: list[Change] = field(default_factory=list)
    code: list[ComponentChange] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    steps: list[Change] = field(default_factory=list)
    times: list[Times] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any((
            self.run, self.parameters, self.python, self.git, self.packages, self.environment,
            self.components, self.code, self.steps,
        ))  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """All of it as plain types, and `equal`."""
        return {"equal": not self, **asdict(self)}


def compare(left: Run, right: Run) -> Differences:
    """What is different between two runs, of one pipeline or of two, from one store or from two.

    Raises StoreError where a store cannot be read.
    """
    import sqlite3

    # A run that goes on is at one moment only, which comparing it with itself is about.
    same = (left.store, left.id) == (right.store, right.id)
    # Asking for the status waits until a run that has just begun is recorded.
    named = _named(left)
    found = Differences(named, named if same else _named(right))
    with (
        closing(connect_to_read(left.store)) as one,
        closing(connect_to_read(right.store)) as two,
        RecordedValues(left, right) as values,
    ):
        try:
            side = _read(one, found.left)
            sides = side, side if same else _read(two, found.right)
            _compare_runs(found, *sides, values)
            _compare_captures(found, *sides)
            _compare_components(found, *sides)
            _compare_steps(found, *sides, values)
        except sqlite3.Error as error:
            stores = " and ".join(dict.fromkeys([left.store, right.store]))
            raise StoreError(f"the store {stores} cannot be read: {error}") from error
    if values.skipped:
        found.notes.append(f"values that were not looked at: {values.skipped:,}")
    return found


def _named(run: Run) -> dict[str, Any]:
    return {"id": run.id, "name": run.name, "status": run.status}


@dataclass(slots=True)
class _Side:
    """What is recorded of one run."""

    connection: sqlite3.Connection
    id: str
    status: str
    facts: Row
    components: dict[str, _Component]
    steps: dict[str, Row]
    capture: dict[str, Any] | None

    def text(self, digest: str | None) -> str:
        """The text of a function or a class; empty where there is none."""
        found = _fetch(self.connection, "source_text", digest=digest)
        return str(found[0]["text"]) if found else ""

    def value(self, step: int) -> Any:
        """What is stored of a step's value."""
        return _fetch(self.connection, "compared_value", id=step)[0]["value"]


@dataclass(slots=True)
class _Component:
    """A component, whose rows (one for each set of options) are taken together."""

    options: set[str] = field(default_factory=set)
    codes: set[str | None] = field(default_factory=set)
    parts: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)


# -- reading -------------------------------------------------------------------------------


def _read(connection: sqlite3.Connection, run: dict[str, Any]) -> _Side:
    connection.execute("begin")  # of what is being recorded, all is read as of one moment
    found = _fetch(connection, "compared_run", id=run["id"])
    if not found:
        raise RunNotFound(f"run {run['id']} is not in the store any more")
    facts = found[0]
    return _Side(
        connection,
        run["id"],
        run["status"],
        facts,
        _read_components(connection, facts["seq"]),
        _read_steps(connection, facts["seq"], run["status"]),
        json.loads(facts["capture"]) if facts["capture"] else None,
    )


def _fetch(connection: sqlite3.Connection, name: str, **parameters: Any) -> list[Row]:
    return as_dicts(connection.execute(queries(FILE)[name], parameters))


def _read_components(connection: sqlite3.Connection, seq: int) -> dict[str, _Component]:
    found: dict[str, _Component] = {}
    for row in _fetch(connection, "compared_components", seq=seq):
        component = found.setdefault(row["name"], _Component())
        component.options.add(row["options"])
        component.codes.add(row["code"])
        component.parts.update(map(tuple, json.loads(row["parts"] or "[]")))
        component.sources.update(json.loads(row["sources"] or "{}"))
    return found


def _read_steps(connection: sqlite3.Connection, seq: int, status: str) -> dict[str, Row]:
    """The rows by name; of each value, which may be large, no more than what identifies it."""
    cursor = connection.execute(
        queries(FILE)["compared_steps"],
        {"first": rows.step_id(seq, 0), "last": rows.step_id(seq + 1, 0)},
    )
    names = [column[0] for column in cursor.description]
    found = {}
    for values in cursor:
        row = dict(zip(names, values, strict=True))
        row["value"] = _identity(row["value"])
        if status == INTERRUPTED and row["state"] == RUNNING:
            row["state"] = INTERRUPTED
        found[row["name"]] = row
    return found


def _identity(packed: Any) -> Any:
    """Of stored bytes their digest; what stands for a blob is one already."""
    if isinstance(packed, bytes) and len(packed) > 32:
        from blake3 import blake3

        return blake3(packed).digest()
    return packed


# -- comparing -----------------------------------------------------------------------------


def _changes(
    left: Mapping[str, str | None], right: Mapping[str, str | None], *, ordered: bool = False
) -> list[Change]:
    """What two mappings of names to texts do not have in common."""
    names: Iterable[str] = dict.fromkeys([*left, *right])
    return [
        Change(name, left.get(name), right.get(name))
        for name in (names if ordered else sorted(names))
        if left.get(name) != right.get(name)
    ]


def _differ(left: Row, right: Row, column: str = "value") -> bool:
    """Whether two stored values differ; what was not recorded is not known to."""
    pair = (_identity(left[column]), _identity(right[column]))
    return UNRECORDED not in pair and pair[0] != pair[1]


def _error(row: Row) -> str | None:
    parts = [row["error_type"], row["error_text"]]
    return ": ".join(filter(None, parts)) or None


def _compare_runs(found: Differences, left: _Side, right: _Side, values: RecordedValues) -> None:
    sides = [
        {
            "pipeline": side.facts["pipeline"],
            "version": side.facts["version"],
            "mode": side.facts["mode"],
            "seed": side.facts["seed"],
            "status": side.status,
            "error": _error(side.facts),
        }
        for side in (left, right)
    ]
    found.run = _changes(*sides, ordered=True)
    one, other = left.facts, right.facts
    if one["preview"] is None or other["preview"] is None:
        found.run += _changes({"result": one["preview"]}, {"result": other["preview"]})
    elif one["preview"] != other["preview"] or _differ(one, other):
        change = Change("result", one["preview"], other["preview"])
        found.run += _within(change, lambda: (one["value"], other["value"]), values, certain=False)
    found.parameters = _compare_parameters(one, other, values)
    found.times.append(_times("(run)", _seconds(one), _seconds(other)))


def _seconds(facts: Row) -> float | None:
    """How long a run took; None of one that goes on."""
    if not facts["ended"]:
        return None
    told: float | None = facts["seconds"]
    return facts["ended"] - facts["started"] if told is None else told


def _compare_parameters(one: Row, other: Row, values: RecordedValues) -> list[Change]:
    shown = [json.loads(facts["parameters"]) for facts in (one, other)]
    changes = _changes(*shown, ordered=True)
    both = [change for change in changes if None not in (change.left, change.right)]
    if not _differ(one, other, "args") or (both and all(map(_tells_all, both))):
        return changes
    names = list(shown[0])
    if names != list(shown[1]):
        return changes

    def named(call: tuple[tuple[Any, ...], dict[str, Any]]) -> dict[str, Any]:
        return dict(zip(names, (*call[0], *call[1].values()), strict=False))

    contrast = values.contrast(one["args"], other["args"], named)
    if changes or contrast.equal:
        return [*changes[:-1], *(replace(c, details=contrast.lines) for c in changes[-1:])]
    return [Change("(all)", None, None, WITHIN, contrast.lines)]


def _tells_all(change: Change) -> bool:
    return tells_all(change.left) and tells_all(change.right)


def _within(
    change: Change, packed: Callable[[], tuple[Any, Any]], values: RecordedValues, *, certain: bool
) -> list[Change]:
    """A change of a value with what differs in it; nothing where the values turn out to be equal.

    Parameters
    ----------
    packed: gives what is stored of both.
    certain: fingerprints say that they differ.
    """
    alike = change.left == change.right
    if not alike and _tells_all(change):
        return [change]
    pair = packed()
    if UNRECORDED in pair:
        return [replace(change, note="what differs was not recorded")]
    contrast = values.contrast(*pair)
    if contrast.equal and alike:
        return [replace(change, note=NOT_FOUND)] if certain else []
    return [replace(change, note=WITHIN if alike else None, details=contrast.lines)]


def _times(name: str, left: float | None, right: float | None) -> Times:
    return Times(name, left, right, right / left if left and right is not None else None)


def _compare_captures(found: Differences, left: _Side, right: _Side) -> None:
    if left.capture is None or right.capture is None:
        found.python = _changes(
            {"python": left.facts["python"], "host": left.facts["host"]},
            {"python": right.facts["python"], "host": right.facts["host"]},
        )
        missing = [side.id for side in (left, right) if side.capture is None]
        found.notes.append(
            f"git, packages and environment were not recorded of run {' and '.join(missing)}"
        )
        return
    one, other = left.capture, right.capture
    found.python = _changes(_machine(one), _machine(other), ordered=True)
    found.git = _changes(_git(one), _git(other), ordered=True)
    for name in ("packages", "environment"):
        if name in one and name in other:
            setattr(found, name, _changes(one[name], other[name]))
    for side in (left, right):
        capture = side.capture or {}
        notes = [*capture.get("notes", ()), *(capture.get("git") or {}).get("notes", ())]
        found.notes += [f"run {side.id}: {note}" for note in notes]


def _machine(capture: dict[str, Any]) -> dict[str, str | None]:
    """Python and the machine, each fact as text."""
    python, system = capture.get("python", {}), capture.get("platform", {})
    facts = {
        "python": python.get("version"),
        "implementation": python.get("implementation"),
        "optimize": python.get("optimize"),
        **{name: system.get(name) for name in ("system", "release", "machine", "host", "cpus")},
    }
    return {name: None if fact is None else str(fact) for name, fact in facts.items()}


def _git(capture: dict[str, Any]) -> dict[str, str | None]:
    """The commit and what is beside it, each fact as text."""
    git = capture.get("git") or {}
    known = {"commit": git.get("commit"), "branch": git.get("branch"), "remote": git.get("remote")}
    size, digest = git.get("diff_bytes"), git.get("diff_digest")
    if digest:
        known["uncommitted diff"] = f"{size:,} bytes, {digest[:12]}"
    elif git.get("commit") and git.get("dirty") is not False:
        known["uncommitted diff"] = "not recorded"
    untracked = git.get("untracked", {})
    return {
        **known,
        **{f"untracked {path}": digest[:12] for path, digest in sorted(untracked.items())},
    }


def _compare_components(found: Differences, left: _Side, right: _Side) -> None:
    for name in dict.fromkeys([*left.components, *right.components]):
        one, other = left.components.get(name), right.components.get(name)
        if one is None or other is None:
            there, missing = ("there", None) if other is None else (None, "there")
            found.components.append(Change(name, there, missing))
            continue
        if one.options != other.options:
            shown = [", ".join(sorted(side.options)) for side in (one, other)]
            found.components.append(Change(name, shown[0], shown[1], "options"))
        if None in one.codes or None in other.codes:
            if one.codes != other.codes:
                found.notes.append(f"the code of component {name} was recorded in one run only")
        elif one.codes != other.codes:
            found.code.append(ComponentChange(name, _changes(one.parts, other.parts)))
            _compare_sources(found, left, right, name)


def _compare_sources(found: Differences, left: _Side, right: _Side, name: str) -> None:
    """The texts of a component's parts; a part that several components reach is told once."""
    sources = [side.components[name].sources for side in (left, right)]
    for change in _changes(*sources):
        if change.name not in found.sources:
            texts = left.text(change.left), right.text(change.right)
            if texts[0] != texts[1]:
                found.sources[change.name] = _unified(*texts)


def _unified(left: str, right: str) -> str:
    from difflib import unified_diff

    lines = unified_diff(left.split("\n"), right.split("\n"), lineterm="", n=3)
    return "\n".join(list(lines)[2:])  # without the names of files, which there are not


def _compare_steps(found: Differences, left: _Side, right: _Side, values: RecordedValues) -> None:
    for name in dict.fromkeys([*left.steps, *right.steps]):
        one, other = left.steps.get(name), right.steps.get(name)
        if one is None or other is None:
            found.steps.append(Change(name, _told(one), _told(other)))
            continue
        packed = partial(_packed, left, one, right, other)
        found.steps += _compare_step(one, other, packed, values)
        found.times.append(_times(name, one["duration"], other["duration"]))


def _packed(left: _Side, one: Row, right: _Side, other: Row) -> tuple[Any, Any]:
    return left.value(one["id"]), right.value(other["id"])


def _compare_step(
    one: Row, other: Row, packed: Callable[[], tuple[Any, Any]], values: RecordedValues
) -> list[Change]:
    """At most one change."""
    change = Change(one["name"], _told(one), _told(other))
    if one["component"] != other["component"]:
        return [replace(change, note=f"component {one['component']} and {other['component']}")]
    if one["state"] not in SUCCESS or other["state"] not in SUCCESS:
        return [change] if change.left != change.right else []
    prints = (one["fingerprint"], other["fingerprint"])
    if None not in prints:
        differ = prints[0] != prints[1]
    else:
        differ = _differ(one, other) or change.left != change.right
    return _within(change, packed, values, certain=None not in prints) if differ else []


def _told(row: Row | None) -> str | None:
    """How a step ended, as text."""
    if row is None:
        return None
    if row["state"] in SUCCESS:
        return str(row["preview"])
    why = _error(row) or row["reason"]
    return f"{row['state']}: {why}" if why else str(row["state"])

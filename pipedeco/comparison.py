"""Several runs side by side: what each was called with, and what came of it.

    runs            what is recorded of each
      -> rows       a name, and what each run has under it
      -> columns    on a terminal, or as JSON

What is different in the code, the packages or the results of two runs, `differences` tells.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipedeco.run import Run


@dataclass(frozen=True, slots=True)
class Row:
    """Something that runs have: a value of each run, in their order; None where it has none."""

    name: str
    values: list[Any]

    @property
    def differs(self) -> bool:
        first = self.values[0]
        return not all(_same(first, value) for value in self.values[1:])


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs as columns.

    `runs`: id and name of each.  `facts`: pipeline, version, status, mode, started, duration and
    tags.  `params`: previews, of arguments and of what was reported.  `metrics`: the last values
    of the runs' own; `step_metrics`: those of their steps, named `step: metric`.
    """

    runs: list[dict[str, str]]
    facts: list[Row] = field(default_factory=list)
    params: list[Row] = field(default_factory=list)
    metrics: list[Row] = field(default_factory=list)
    step_metrics: list[Row] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain types; each row with whether it `differs`."""
        found: dict[str, Any] = {"runs": self.runs}
        for name in ("facts", "params", "metrics", "step_metrics"):
            rows: list[Row] = getattr(self, name)
            found[name] = [{**asdict(row), "differs": row.differs} for row in rows]
        return found


def compare_runs(runs: Sequence[Run]) -> Comparison:
    """One run or more side by side, of one pipeline or of several.

    Nothing is unpickled.  Raises StoreError where a store cannot be read.
    """
    return Comparison(
        [{"id": run.id, "name": run.name} for run in runs],
        _rows([_facts(run) for run in runs]),
        _rows([run.param_texts for run in runs]),
        _rows([run.last_metrics for run in runs]),
        _rows([_step_metrics(run) for run in runs]),
    )


def _facts(run: Run) -> dict[str, Any]:
    names = ("pipeline", "version", "status", "mode", "started", "duration", "tags")
    return {name: getattr(run, name) for name in names}


def _step_metrics(run: Run) -> dict[str, float]:
    return {
        f"{step.name}: {name}": value
        for step in run.steps.values()
        for name, value in step.last_metrics.items()
    }


def _rows(columns: Sequence[dict[str, Any]]) -> list[Row]:
    """In the order of the first run; what only later ones have follows."""
    names = dict.fromkeys(name for column in columns for name in column)
    return [Row(name, [column.get(name) for column in columns]) for name in names]


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal, or both no number."""
    return bool(one == other or (one != one and other != other))  # noqa: PLR0124

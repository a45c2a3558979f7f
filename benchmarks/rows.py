"""The rows of the table: what is measured, by whom, and the goal.

A goal beside our own name is a number; beside a peer's name it is the ratio of ours to theirs.
Slow systems get fewer steps, for it is the cost of one that counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from benchmarks import debug, hits, metg, reporting, startup, throughput

if TYPE_CHECKING:
    from benchmarks.measure import Measure

OURS = "pipedeco"
POOL = "ProcessPoolExecutor"
JOBLIB = "joblib"
DASK = "Dask"


@dataclass(frozen=True)
class Contender:
    """A system in one row; needs is the module without which it cannot take part."""

    name: str
    measure: Measure
    needs: str = ""


@dataclass(frozen=True)
class Goal:
    """A bound to keep: a value in the row's unit, or a ratio to a peer."""

    relation: Literal["<=", ">="]
    bound: float

    def met(self, value: float) -> bool:
        """Say whether a value or a ratio keeps the bound."""
        return value <= self.bound if self.relation == "<=" else value >= self.bound


@dataclass(frozen=True)
class Row:
    """One thing measured. Samples come in seconds, bytes or steps a second, as unit says."""

    name: str
    title: str
    unit: str
    contenders: tuple[Contender, ...]
    goals: dict[str, Goal] = field(default_factory=dict)

    def contender(self, name: str) -> Contender:
        """Return the contender of a name."""
        return next(contender for contender in self.contenders if contender.name == name)


def _ours(measure: Measure) -> Contender:
    return Contender(OURS, measure, needs="pipedeco")


def _pool(measure: Measure, name: str = POOL) -> Contender:
    return Contender(name, measure)


def _joblib(measure: Measure) -> Contender:
    return Contender(JOBLIB, measure, needs="joblib")


def _dask(measure: Measure, name: str = DASK) -> Contender:
    return Contender(name, measure, needs="distributed")


_ROWS = (
    Row(
        "debug",
        "debug mode: overhead of a step",
        "us",
        (
            _ours(debug.pipedeco),
            Contender("two pickles, one SQLite row", debug.by_hand),
            _dask(debug.dask, "Dask, synchronous"),
        ),
        {OURS: Goal("<=", 30e-6), "two pickles, one SQLite row": Goal("<=", 3)},
    ),
    Row(
        "fan-out",
        "10,000 independent steps",
        "steps/s",
        (
            _ours(throughput.fan_out("ours", 10_000)),
            _pool(throughput.fan_out("pool", 10_000)),
            _joblib(throughput.fan_out("loky", 10_000)),
            _dask(throughput.fan_out("cluster", 1_000)),
        ),
        {POOL: Goal(">=", 6)},
    ),
    Row(
        "chain",
        "chain of dependent steps, each",
        "us",
        (
            _ours(throughput.chain("ours", 2_000)),
            _pool(throughput.chain("pool", 2_000)),
            _joblib(throughput.chain("loky", 50)),
            _dask(throughput.chain("cluster", 200)),
        ),
        {POOL: Goal("<=", 0.4)},
    ),
    Row(
        "metg",
        "METG(50%), stencil of width 4",
        "ms",
        (
            _ours(metg.stencil("ours", 500)),
            _pool(metg.stencil("pool", 500)),
            _joblib(metg.stencil("loky", 25)),
            _dask(metg.stencil("cluster", 25)),
        ),
        {OURS: Goal("<=", 0.3e-3)},
    ),
    Row(
        "array",
        "256 MB array to four consumers",
        "s",
        (
            _ours(throughput.share("ours")),
            _pool(throughput.share("by_hand"), "one file, mapped by hand"),
            _dask(throughput.share("cluster")),
            _joblib(throughput.share("loky")),
            _pool(throughput.share("pool")),
        ),
        {DASK: Goal("<=", 0.6), "one file, mapped by hand": Goal("<=", 1.3)},
    ),
    Row(
        "remote",
        "remote mode on Dask: 1,000 independent steps",
        "steps/s",
        (
            _ours(throughput.fan_out("remote", 1_000)),
            _dask(throughput.fan_out("cluster", 1_000)),
        ),
        {DASK: Goal(">=", 0.8)},
    ),
    Row(
        "remote-chain",
        "remote mode on Dask: chain, each",
        "us",
        (
            _ours(throughput.chain("remote", 200)),
            _dask(throughput.chain("cluster", 200)),
        ),
        {DASK: Goal("<=", 1.2)},
    ),
    Row(
        "remote-array",
        "remote mode on Dask: 256 MB to another worker",
        "s",
        (
            _ours(throughput.hand_over("remote")),
            _dask(throughput.hand_over("cluster")),
        ),
        {DASK: Goal("<=", 1)},
    ),
    Row(
        "remote-share",
        "remote mode on Dask: 256 MB to four, in all",
        "s",
        (
            _ours(throughput.share("remote")),
            _dask(throughput.share("cluster")),
        ),
        {},
    ),
    Row(
        "import",
        "import, over a bare Python",
        "ms",
        (
            _ours(startup.imports("from pipedeco import component, pipeline")),
            _pool(startup.imports("from concurrent.futures import ProcessPoolExecutor")),
            _joblib(startup.imports("import joblib")),
            _dask(startup.imports("import dask.distributed")),
        ),
        {OURS: Goal("<=", 50e-3)},
    ),
    Row(
        "cold",
        "ten steps in a cold process",
        "s",
        (
            _ours(startup.ten_steps("with_pipedeco.py")),
            _pool(startup.ten_steps("with_pool.py", "fork"), f"{POOL}, fork"),
            _pool(startup.ten_steps("with_pool.py", "spawn"), f"{POOL}, spawn"),
            _joblib(startup.ten_steps("with_joblib.py")),
            _dask(startup.ten_steps("with_dask.py")),
        ),
        {OURS: Goal("<=", 0.25)},
    ),
    Row(
        "hits",
        "500 cache hits in a fresh process, each",
        "us",
        (
            _ours(hits.hits("hits_pipedeco.py", "local")),
            Contender(f"{OURS}, debug", hits.hits("hits_pipedeco.py", "debug"), needs="pipedeco"),
            Contender("joblib.Memory", hits.hits("hits_joblib.py", "{place}"), needs="joblib"),
        ),
        {OURS: Goal("<=", 150e-6), "joblib.Memory": Goal("<=", 1)},
    ),
    Row(
        "report",
        "a point of a metric, logged in a loop in a step",
        "us",
        (
            _ours(reporting.pipedeco),
            Contender("a line written by hand", reporting.by_hand),
            Contender("tensorboardX", reporting.tensorboard, needs="tensorboardX"),
        ),
        {OURS: Goal("<=", 5e-6), "tensorboardX": Goal("<=", 1)},
    ),
    Row(
        "growth",
        "100,000 steps in one run, each",
        "us",
        (
            _ours(throughput.growth("ours", 100_000)),
            Contender(f"{OURS}, 1,000 steps", throughput.growth("ours", 1_000), needs="pipedeco"),
            _pool(throughput.growth("pool", 100_000)),
        ),
        {f"{OURS}, 1,000 steps": Goal("<=", 1.3)},
    ),
    Row(
        "memory",
        "100,000 steps in one run, memory",
        "KB",
        (
            _ours(throughput.memory("ours", 100_000)),
            _pool(throughput.memory("pool", 100_000)),
        ),
        {OURS: Goal("<=", 2048)},
    ),
)

ROWS = {row.name: row for row in _ROWS}

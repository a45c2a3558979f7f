"""A program as people write it: no checker has anything to say about it, and it runs."""

# pyright: strict

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from pipedeco import (
    Cache,
    Run,
    StepResult,
    as_completed,
    component,
    configure,
    current_step,
    future,
    get_run,
    log_metric,
    pipeline,
    runs,
    value,
    wait,
)
from pipedeco.callbacks import StepView

T = TypeVar("T")
N = TypeVar("N", int, float)


@dataclass
class Model:
    """What a fit gives."""

    weights: list[float]
    rounds: int

    def predict(self, x: float) -> float:
        return sum(weight * x for weight in self.weights)


class Halves(NamedTuple):
    """Two parts of the data."""

    train: list[float]
    test: list[float]


def told(step: StepView) -> None:
    assert step.name


@component(cache=Cache(ttl=timedelta(days=1), version=2))
def load(path: str, *, rows: int = 8) -> list[float]:
    return [math.sqrt(n) for n in range(len(path), len(path) + rows)]


@component
def split(data: Sequence[float], share: float = 0.5) -> Halves:
    cut = int(len(data) * share)
    return Halves(list(data[:cut]), list(data[cut:]))


@component(retries=2, timeout=600, retry_on=(OSError, ValueError), after_step=told)
def fit(train: list[float], rounds: int) -> Model:
    log_metric("rounds", rounds)
    assert current_step().name
    return Model([x / rounds for x in train], rounds)


@component(outputs=("low", "high"))
def limits(data: Iterable[float]) -> tuple[float, float]:
    found = sorted(data)
    return found[0], found[-1]


@component
def score(model: Model, test: list[float], weight: float | None = None) -> float:
    return sum(map(model.predict, test)) * (1.0 if weight is None else weight)


@component
def first(items: list[T]) -> T:
    return items[0]


@component
def total(items: list[N]) -> N:
    return sum(items[1:], start=items[0])


@component
async def fetch(url: str, attempts: int = 1) -> bytes:
    await asyncio.sleep(0)
    return url.encode() * attempts


@component
async def echo(item: T) -> T:
    await asyncio.sleep(0)
    return item


class Study(Generic[T]):
    """Components as methods."""

    def __init__(self, name: str, extra: T) -> None:
        self.name = name
        self.extra = extra

    @component
    def note(self, text: str, times: int = 1) -> str:
        return f"{self.name}: {text * times}"

    @component
    def kept(self) -> T:
        return self.extra

    @staticmethod
    @component
    def scaled(n: int) -> float:
        return n / 2

    @pipeline
    def report(self, text: str) -> str:
        return self.note(text) + self.note.with_options(priority=1)(text, times=2)


def longest(names: Iterable[str], measure: Callable[[str], bytes]) -> int:
    return max(len(measure(name)) for name in names)


@pipeline(workers=2, tags=["typed"], on_run_end=lambda run: print(run.name))
def training(path: str, rounds: tuple[int, ...] = (2, 3)) -> Model:
    data = load(path, rows=6)
    train, test = split(data)
    low, high = limits(data)
    models = [fit(train, n) for n in rounds]
    scores = [score(model, test) for model in models]
    for done in as_completed(scores):
        assert done.result() > 0.0
    ended = wait([future(model) for model in models], timeout=60)
    assert len(ended.done) == len(models)
    best = max(range(len(models)), key=lambda i: scores[i])
    quick = fit.with_options(retries=0, stage="quick", depends_on=[models[0]])(train, rounds=1)
    submitted = score.submit(quick, test, weight=0.5)
    if submitted.exception() is None and submitted > 0.0:
        print(f"{submitted.result():.2f}", round(low, 2), -submitted + 1, high - low)
    page = fetch("http://x", attempts=2)
    assert len(echo(page)) == 16
    print(longest(["a", "bcd"], fetch), first(["a", "b"]).upper(), total([1, 2]) + 1)
    study = Study("s", 5)
    print(study.note("text").upper(), study.kept() + 1, Study.scaled(3) * 2)
    handle: StepResult[Model] = future(models[best])
    handle.add_done_callback(lambda result: print(result.result().rounds))
    numbers: list[float] = value([score.submit(quick, test)])
    print(sum(numbers), value(handle).rounds)
    return models[best]


async def serve(path: str) -> int:
    run = training.with_options(mode="local").start(path)
    model = await run
    page = await fetch.fn("http://x")
    return model.rounds + len(page)


def summary(run: Run) -> dict[str, Any]:
    return {"name": run.name, "status": run.status, "steps": list(run.steps)}


def main() -> None:
    configure(mode="debug", progress="off", store=Path(".pipedeco"))
    model = training("adult.csv", rounds=(2,))
    again = training.debug("adult.csv")
    run = training.with_options(mode="local", workers=1).start("adult.csv")
    print(model.rounds, again.predict(1.0), run.result().rounds, summary(run)["name"])
    print(Study("s", "t").report("x").upper(), asyncio.run(serve("adult.csv")))
    print([found.duration for found in runs("training", limit=2)], get_run().result())


if __name__ == "__main__":
    main()

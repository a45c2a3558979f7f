"""What checkers infer of calls, where an error would not show that it is wrong."""

# pyright: strict

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, assert_type

from pipedeco import (
    Pipeline,
    Run,
    StepResult,
    as_completed,
    component,
    future,
    get_run,
    pipeline,
    value,
    wait,
)

T = TypeVar("T")
N = TypeVar("N", bound=float)


@component
def plain(n: int) -> float:
    return float(n)


@component()
def first(items: Sequence[T]) -> T:
    return items[0]


@component
def same(items: list[N]) -> list[N]:
    return items


@component
def paired(item: T, times: int = 2) -> tuple[T, ...]:
    return (item,) * times


@component
def anything(item: Any) -> Any:
    return item


@component(retries=1)
async def fetch(url: str) -> bytes:
    return url.encode()


@component
async def echo(item: T) -> T:
    return item


class Box(Generic[T]):
    def __init__(self, item: T) -> None:
        self.item = item

    @component
    def get(self) -> T:
        return self.item

    @component
    async def load(self, n: int) -> list[T]:
        return [self.item] * n

    @component(cache=True)
    def chosen(self, items: list[N]) -> N:
        return items[0]

    @pipeline
    def run(self, n: int) -> str:
        return str(n)


class Steps:
    @staticmethod
    @component
    def doubled(n: int) -> float:
        return n * 2

    @staticmethod
    @component
    def kept(item: Any, times: int) -> str:
        return str(item) * times

    @classmethod
    @component
    def named(cls, text: str) -> str:
        return cls.__name__ + text

    @component
    def chosen(self, items: list[T]) -> T:
        return items[0]


class More(Steps):
    @component
    def own(self, n: int) -> float:
        return super().chosen([n]) / 2


def applied(fn: Callable[[str], bytes]) -> bytes:
    return fn("x")


@pipeline
def body() -> float:
    assert_type(plain(1), float)
    assert_type(first([1, 2]), int)
    assert_type(first("ab"), str)
    assert_type(same([1, 2]), list[int])
    assert_type(paired("a"), tuple[str, ...])
    assert_type(anything(1), Any)
    assert_type(fetch("x"), bytes)
    assert_type(fetch.submit("x"), StepResult[bytes])
    assert_type(fetch.with_options(retries=2)("x"), bytes)
    assert_type(echo(1), int)
    assert_type(first.with_options(retries=1)([1]), int)
    assert_type(first.submit([1]), StepResult[int])
    box = Box("x")
    assert_type(box.get(), str)
    assert_type(box.load(1), list[str])
    assert_type(box.load.submit(1), StepResult[list[str]])
    assert_type(box.chosen([1.5]), float)
    assert_type(box.run(1), str)
    assert_type(box.run.debug(1), str)
    assert_type(box.run.start(1), Run[str])
    assert_type(Steps.doubled(1), float)
    assert_type(Steps.kept(1, 2), str)
    assert_type(Steps.named("x"), str)
    assert_type(Steps().chosen([1]), int)
    assert_type(More().chosen(["x"]), str)
    assert_type(More().own(1), float)
    assert_type(plain.__name__, str)
    x = plain(1)
    assert_type(future(x), StepResult[float])
    assert_type(future(future(x)), StepResult[float])
    assert_type(future(x).result(), float)
    assert_type(future(x).exception(), BaseException | None)
    assert_type(value(x), float)
    h = plain.submit(1)
    assert_type(value(h), float)
    assert_type(value([h, h]), list[float])
    assert_type(value([x, x]), list[float])
    assert_type(value({"a": h}), dict[str, float])
    assert_type(value((h, fetch.submit("x"))), tuple[float, bytes])
    assert_type(wait([x, x]).done, set[StepResult[float]])
    assert_type([r.result() for r in as_completed([h, h])], list[float])
    assert_type(len(h), int)
    assert_type([1, 2][h], int)
    assert_type(float(h), float)
    assert_type(os.fspath(h), str)
    print(h + 1, 1 + h, -h, abs(h), h > 0.5, h == x, h**2, h @ x, round(h, 1), max([h, h]), 1 in h)
    for part in h:
        print(part, h["key"], h.anything, [*reversed(h)], divmod(h, 2), 7 // h, h & 1, ~h)
    assert_type(applied(fetch), bytes)
    assert_type(list(map(plain, [1])), list[float])
    return x


def outside() -> None:
    assert_type(body(), float)
    assert_type(body.local(), float)
    assert_type(body.with_options(mode="debug")(), float)
    assert_type(body.start(), Run[float])
    assert_type(body.start().resume(workers=1), Run[float])
    assert_type(get_run("latest").result(), Any)
    named: Pipeline[[], float] = body
    wider: Run[object] = named.start()
    print(wider)


async def awaited(run: Run[str]) -> None:
    assert_type(await run, str)
    assert_type(await future(plain(1)), float)
    assert_type(await fetch.fn("x"), bytes)
    assert_type(await Box(1).load.fn(2), list[int])

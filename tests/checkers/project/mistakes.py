"""Planted mistakes: each marked line has these errors for each checker, and no other line has any."""

from __future__ import annotations

from pipedeco import Cache, Run, as_completed, component, configure, future, pipeline, runs, value


@component(retrys=1)  # E: mypy=call-overload,untyped-decorator pyright=reportCallIssue
def misspelt(n: int) -> int:
    return n


@component(cache=Cache(ttl="a day"))  # E: mypy=arg-type pyright=reportArgumentType
def kept(n: int) -> int:
    return n


@component
def half(n: int, *, exact: bool = True) -> float:
    return n / 2 if exact else n // 2


@component
def first(items: list[int]) -> int:
    return items[0]


@component
async def fetch(url: str) -> bytes:
    return url.encode()


class Study:
    @component
    def note(self, text: str) -> str:
        return text

    @pipeline
    def report(self, text: str) -> str:
        return self.note(text)


@pipeline(wrkers=2)  # E: mypy=call-overload,untyped-decorator pyright=reportCallIssue
def crowded() -> int:
    return 1


@pipeline
async def asynchronous() -> int:
    return 1


@pipeline
def halves(n: int) -> float:
    x = half("one")  # E: mypy=arg-type pyright=reportArgumentType
    half(1, exakt=True)  # E: mypy=call-arg pyright=reportCallIssue
    x.upper()  # E: mypy=attr-defined pyright=reportAttributeAccessIssue
    first(x)  # E: mypy=arg-type pyright=reportArgumentType
    first([half(1)])  # E: mypy=list-item pyright=reportArgumentType
    fetch(1)  # E: mypy=call-overload pyright=reportArgumentType,reportCallIssue
    fetch("x").upper().nothing()  # E: mypy=attr-defined pyright=reportAttributeAccessIssue
    x.done()  # E: mypy=attr-defined pyright=reportAttributeAccessIssue
    future(x).result().upper()  # E: mypy=attr-defined pyright=reportAttributeAccessIssue
    half.submit(1).result().upper()  # E: mypy=attr-defined pyright=reportAttributeAccessIssue
    half.submit("one")  # E: mypy=arg-type pyright=reportArgumentType
    value([half.submit(1)]).upper()  # E: mypy=attr-defined pyright=reportAttributeAccessIssue
    for done in as_completed([x]):
        done.result().upper()  # E: mypy=attr-defined pyright=reportAttributeAccessIssue
    half.with_options(retrys=1)(1)  # E: mypy=call-arg pyright=reportCallIssue
    half.with_options(retries="two")(1)  # E: mypy=arg-type pyright=reportArgumentType
    half.with_options(retries=2)("one")  # E: mypy=arg-type pyright=reportArgumentType
    half.fn("one")  # E: mypy=arg-type pyright=reportArgumentType
    half.nothing()  # E: mypy=attr-defined pyright=reportAttributeAccessIssue
    Study().note(1)  # E: mypy=arg-type pyright=reportArgumentType
    Study().note("x").nothing()  # E: mypy=attr-defined pyright=reportAttributeAccessIssue
    Study().note.submit(1)  # E: mypy=arg-type pyright=reportArgumentType
    return "half"  # E: mypy=return-value pyright=reportReturnType


def use() -> None:
    halves("one")  # E: mypy=arg-type pyright=reportArgumentType
    halves.debug("one")  # E: mypy=arg-type pyright=reportArgumentType
    halves(1).upper()  # E: mypy=attr-defined pyright=reportAttributeAccessIssue
    halves.with_options(mode="quick")(1)  # E: mypy=arg-type pyright=reportArgumentType
    halves.with_options(wrkers=2)(1)  # E: mypy=call-arg pyright=reportCallIssue
    configure(mode="quick")  # E: mypy=arg-type pyright=reportArgumentType
    configure(wrkers=2)  # E: mypy=call-arg pyright=reportCallIssue
    asynchronous()  # E: mypy=unused-coroutine pyright=reportUnusedCoroutine
    run = halves.start(1)
    run.result().upper()  # E: mypy=attr-defined pyright=reportAttributeAccessIssue
    run.reslut()  # E: mypy=attr-defined pyright=reportAttributeAccessIssue
    run.resume(wrkers=2)  # E: mypy=call-arg pyright=reportCallIssue
    Study().report(1)  # E: mypy=arg-type pyright=reportArgumentType
    report = Study().report.start("x")
    report.result().nothing()  # E: mypy=attr-defined pyright=reportAttributeAccessIssue
    runs(limit="all")  # E: mypy=arg-type pyright=reportArgumentType


async def wait_for(run: Run[float]) -> None:
    found = await run
    found.upper()  # E: mypy=attr-defined pyright=reportAttributeAccessIssue
    (await fetch.fn("x")).nothing()  # E: mypy=attr-defined pyright=reportAttributeAccessIssue

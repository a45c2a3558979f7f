"""A pipeline that is `async def` is refused: README's Limits."""

import asyncio

from pipedeco import component, pipeline


@component
def double(x):
    return 2 * x


@pipeline
def sync(x):
    return double(x)


def make():
    @pipeline
    async def total(n):
        return sum(double(x) for x in range(n))

    return total


print(sync(1))
try:
    print(asyncio.run(make()(3)))
except Exception as error:
    print(type(error).__name__)

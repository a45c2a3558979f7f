"""Async components with tasks, time-outs and failures, called from a plain body."""

import asyncio
from contextlib import asynccontextmanager

from pipedeco import component, pipeline, value


class TooSlow(Exception):
    pass


@asynccontextmanager
async def session(name):
    print(f"open {name}")
    try:
        yield lambda path: f"{name}/{path}"
    finally:
        print(f"close {name}")


async def get(url):
    await asyncio.sleep(0)
    return len(url)


@component
async def fetch(host, count):
    async with session(host) as url:
        return await asyncio.gather(*(get(url(str(i))) for i in range(count)))


@component
async def hang(seconds):
    try:
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()
    except TimeoutError:
        raise TooSlow(f"{seconds} s") from None


@component
async def produce(n):
    queue = asyncio.Queue()
    async with asyncio.TaskGroup() as group:
        for i in range(n):
            group.create_task(queue.put(i))
    return sorted([queue.get_nowait() for _ in range(n)])


@pipeline
def main():
    sizes = fetch("a.example", 2), fetch("b.example", 3)
    print([sum(size) for size in sizes], produce(3)[-1] + 0)
    try:
        value(hang(0.01))
    except TooSlow as error:
        print("too slow:", error)
    return sum(map(len, sizes))


if __name__ == "__main__":
    print(main())

"""Generators in bodies and in steps: pipelines of iterators, batches, and early ends."""

import itertools

from pipedeco import component, pipeline


def batches(items, size):
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def countdown(n):
    try:
        while n:
            yield n
            n -= 1
    finally:
        print("countdown closed at", n)


@component
def process(batch):
    return sum(x * x for x in batch)


@component
def collect(n):
    return list(itertools.takewhile(lambda x: x > 2, countdown(n)))


@component
def running(values):
    return list(itertools.accumulate(values, initial=100))


@pipeline
def main(n):
    totals = [process(batch) for batch in batches(range(n), 3)]
    print("batches", len(totals), "first", next(iter(totals)) + 0)
    for number in countdown(9):
        if process([number]) < 50:
            break
    best = max(range(n), key=lambda i: process([i, -i + 3]) + 0)
    with_index = {i: total + 0 for i, total in enumerate(totals) if total > 10}
    return running(totals), best, with_index, collect(5)


if __name__ == "__main__":
    for part in main(7):
        print(part)

"""Called from `python -c`."""

from dataclasses import dataclass

from pipedeco import component, pipeline


@dataclass
class Item:
    weight: int


@component
def weigh(item):
    print("weighing", item)
    return item.weight


@pipeline
def total(items):
    return sum(weigh(item) for item in items)

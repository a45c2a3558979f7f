"""Locks, cached properties and dispatch among the classes of a script without a guard."""

import threading
import weakref
from functools import cached_property, lru_cache, singledispatch, singledispatchmethod

from pipedeco import component, pipeline


class Counter:
    lock = threading.RLock()
    known = weakref.WeakValueDictionary()

    def __init__(self, name):
        self.name = name
        self.changed = threading.Condition()
        self.count = 0

    def add(self, n):
        with self.lock, self.changed:
            self.count += n
            self.changed.notify_all()
        return self

    @cached_property
    def label(self):
        return f"<{self.name}>"

    @singledispatchmethod
    def take(self, thing):
        raise TypeError(f"no way to take a {type(thing).__name__}")

    @take.register
    def _(self, thing: int):
        return self.add(thing)

    @take.register
    def _(self, thing: list):
        return self.add(len(thing))


@singledispatch
def render(thing):
    return repr(thing)


@render.register
def _(thing: Counter):
    return f"{thing.label} {thing.count}"


@lru_cache(maxsize=8)
def slow(n):
    return n if n < 2 else slow(n - 1) + slow(n - 2)


@component
def fill(name, things):
    counter = Counter(name)
    for thing in things:
        counter.take(thing)
    print(render(counter), render(3))
    return counter


@component
def both(one, other):
    return Counter(one.label + other.label).add(one.count + other.count)


@component
def fibonacci(n):
    return slow(n)


@pipeline
def main():
    one, other = fill("a", [1, 2]), fill("b", [[7, 7], 3])
    return both(one, other), fibonacci(30)


counter, number = main()
print(counter.label, counter.add(1).count, number)

"""Warnings of libraries for what a body does to results: they name the program's own lines."""

import warnings

import numpy as np
import pandas as pd

from pipedeco import component, pipeline


@component
def row(*numbers):
    return np.array(numbers, dtype=float)


@component
def table():
    return pd.DataFrame({"a": [1.0, -1.0], "b": [0.0, 0.0]})


@component
def warns(n):
    warnings.warn("n is small", UserWarning, stacklevel=1)
    return np.array([n]) / 0


class Money:
    """An operator that warns whoever uses it."""

    def __init__(self, amount):
        self.amount = amount

    def __add__(self, other):
        warnings.warn("use Decimal", FutureWarning, stacklevel=2)
        return Money(self.amount + other)

    @property
    def cents(self):
        warnings.warn("cents is old", FutureWarning, stacklevel=2)
        return self.amount * 100


@component
def money(n):
    return Money(n)


@pipeline
def main():
    warnings.simplefilter("always")
    print(row(1, 2) / row(0, 0))
    print(row(1, 0) / row(0, 0))
    print(np.sqrt(row(-1)))
    print(table()["a"].to_numpy() / np.zeros(2))
    print((money(1) + 1).amount, money(2).cents + 0)
    print(row(2) ** 5000, 1 / row(0))
    return warns(2)


if __name__ == "__main__":
    print(main())

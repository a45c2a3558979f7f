"""Names that are made below the guard alone, and used by steps: arguments, a class, a table."""

import argparse

from talk import say

from pipedeco import component, pipeline

NAME = "job"


@component
def price(units):
    say(f"{units} units at {ARGUMENTS.rate}")
    return Money(units * RATES[ARGUMENTS.rate])


@component
def add(one, other):
    return Money(one.cents + other.cents, sure=SURE)


@pipeline
def main():
    return add(price(2), price(5))


if __name__ == "__main__":
    from dataclasses import dataclass

    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=int)
    parser.add_argument("--verbose", action="store_true")
    ARGUMENTS = parser.parse_args()
    RATES = {n: n * 100 for n in range(5)}
    SURE = True

    @dataclass
    class Money:
        cents: int
        sure: bool = False

    print(main(), isinstance(main(), Money))

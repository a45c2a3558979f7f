"""Warnings and errors of operators on results: they belong to the line of the program."""

import numpy as np

from pipedeco import component, pipeline


@component
def numbers(*values):
    return np.array(values, dtype=float)


@component
def text(n):
    return "x" * n


@pipeline
def main():
    one = numbers(1, 2)
    ratio = one / np.zeros(2)
    logs = np.log(numbers(0.0, -1.0))
    product = one * 1e308 * 1e10
    print(ratio, logs, product, text(2) * 2, 3 * text(1), [*text(2)], -numbers(1.0), one @ one)
    print(text(3).upper().center(7, "*"), f"{text(2):>4}|{one[0]:.1f}", "x" in text(1), len(one))
    try:
        text(1) + 1
    except TypeError as error:
        print(error)
    return text(2) - 1


if __name__ == "__main__":
    print(main())

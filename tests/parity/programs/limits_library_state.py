"""What main() sets in libraries, workers are told by `setup=` alone: README's Limits."""

import builtins
import string

import numpy as np

from pipedeco import component, pipeline


@component
def show(values):
    print(np.array(values))
    return string.punctuation[:2]


@pipeline
def main():
    return show([1.23456, 2.0])


if __name__ == "__main__":
    np.set_printoptions(precision=2)
    string.punctuation = "??"
    plain = builtins.print
    builtins.print = lambda *args: plain("|", *args)
    print(main())

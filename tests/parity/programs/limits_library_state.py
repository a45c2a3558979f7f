"""What main() sets in libraries, workers are told by `setup=` alone: README's Limits."""

import builtins
import string

import numpy as np

from pipedeco import component, pipeline


class Greeting:
    def words(self):
        return "hello"


@component
def show(values):
    print(np.array(values))
    return string.punctuation[:2], Greeting().words()


@pipeline
def main():
    return show([1.23456, 2.0])


if __name__ == "__main__":
    np.set_printoptions(precision=2)
    string.punctuation = "??"
    Greeting.words = lambda self: "good day"
    plain = builtins.print
    builtins.print = lambda *args: plain("|", *args)
    print(main())

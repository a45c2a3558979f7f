"""`python -m toolbox.train`: a module that is run, and has steps and classes of its own."""

import argparse
from dataclasses import dataclass

from pipedeco import component, pipeline

from . import settings
from .steps.rows import make, total


@dataclass(frozen=True)
class Report:
    text: str
    rows: tuple

    def shout(self):
        return self.text.upper()


@component
def report(rows, number):
    return Report(f"total {number} of {settings.current().factor}", tuple(map(repr, rows)))


@pipeline
def train(n):
    rows = make(n)
    return report(rows, total(rows))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int)
    made = train(parser.parse_args().rows)
    print(made, made.shout(), isinstance(made, Report), __name__, __package__, __spec__.name)


if __name__ == "__main__":
    main()

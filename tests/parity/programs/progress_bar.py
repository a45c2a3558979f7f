"""A progress bar by hand on stderr, counters that overwrite themselves, and one long line."""

import sys
import time

from pipedeco import component, pipeline


class Bar:
    def __init__(self, total, file=None):
        self.total, self.done = total, 0
        self.file = file or sys.stderr

    def __iter__(self):
        for i in range(self.total):
            yield i
            self.done += 1
            filled = "█" * self.done + "·" * (self.total - self.done)
            self.file.write(f"\r{filled} {self.done}/{self.total}")
            self.file.flush()
        self.file.write("\n")


BAR = Bar(2)


@component
def work(n):
    started = time.perf_counter()
    total = sum(Bar(n))
    assert time.perf_counter() >= started
    return total


@component
def long_line(n):
    print("x" * n)
    print("x" + "ü" * n)  # its bytes are torn where they are read in pieces
    return n


@component
def shared():
    return sum(BAR)


@pipeline
def main():
    return work(4) + work(3) + long_line(70_000) + shared()


if __name__ == "__main__":
    print(main())

"""A stdout that takes nothing, as on a full disk: README's Limits."""

import io
import sys

from pipedeco import component, pipeline


@component
def work(n):
    print("working on", n)
    return n + 1


@pipeline
def main(n):
    return work(work(n))


if __name__ == "__main__":
    full = open("/dev/full", "wb", buffering=0)
    sys.stdout = io.TextIOWrapper(full, write_through=True)
    try:
        print("value", main(1), file=sys.stderr)
    except OSError as error:
        print("failed:", error.strerror, file=sys.stderr)

"""A step that leaves by sys.exit fails, and nobody reads what failed: README's Limits."""

import sys

from pipedeco import component, pipeline


@component
def work(n):
    return n


@component
def give_up(code):
    sys.exit(code)


@pipeline
def main():
    print("working", work(1) + 0)
    return give_up(3)


if __name__ == "__main__":
    main()

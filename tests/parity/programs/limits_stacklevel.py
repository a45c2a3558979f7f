"""A component that warns of its caller: README's Limits."""

import warnings

from pipedeco import component, pipeline


@component
def old(n):
    warnings.warn("old() will go", FutureWarning, stacklevel=2)
    return n


@pipeline
def main():
    return old(3)


if __name__ == "__main__":
    print(main())

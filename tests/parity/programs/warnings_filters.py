"""Warnings: filters of the program, once per place, as errors, recorded, and of classes of its own."""

import warnings

from pipedeco import component, pipeline


class RateWarning(UserWarning):
    pass


class OldApi(DeprecationWarning):
    pass


def fetch(n):
    warnings.warn("fetch is old", OldApi, stacklevel=2)
    if n > 2:
        warnings.warn(f"rate {n}", RateWarning, stacklevel=1)
    return n


@component
def download(n):
    return fetch(n)


@component
def quiet(n):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        fetch(n)
    return [f"{w.category.__name__}: {w.message}" for w in seen]


@component
def strict(n):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RateWarning)
        return fetch(n)


@component
def after(n):
    warnings.warn("ignored by the program", ResourceWarning, stacklevel=1)
    return fetch(n)


@pipeline
def main():
    for n in (1, 3, 3, 4):
        print(download(n) + 0)
    print(*quiet(5))
    try:
        print(strict(6) + 0)
    except RateWarning as error:
        print("strict:", error)
    return after(3)


if __name__ == "__main__":
    warnings.filterwarnings("default", category=DeprecationWarning)
    warnings.filterwarnings("always", category=RateWarning)
    warnings.filterwarnings("ignore", category=ResourceWarning)
    print(main())

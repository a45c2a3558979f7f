"""Retries with back-off written by hand, in a decorator below the component and in the body."""

import functools
import time
from pathlib import Path

from pipedeco import component, pipeline, value


class Flaky(Exception):
    def __init__(self, attempt):
        super().__init__(attempt)
        self.attempt = attempt


def retry(times, *, on=Exception, delay=0.0):
    def decorate(fn):
        @functools.wraps(fn)
        def wrapper(*args, **kwargs):
            for attempt in range(1, times + 1):
                try:
                    return fn(*args, attempt=attempt, **kwargs)
                except on as error:
                    print(f"{fn.__name__}: attempt {attempt} failed: {error!r}")
                    if attempt == times:
                        raise
                    time.sleep(delay * 2**attempt)

        return wrapper

    return decorate


@component
@retry(3, on=Flaky, delay=0.0001)
def download(url, *, attempt):
    """Get it."""
    if attempt < 2:
        raise Flaky(attempt)
    return f"{url} at {attempt}"


@component
@retry(2)
def never(*, attempt):
    raise Flaky(attempt)


@component
def once(n):
    if n < 3:
        raise ConnectionResetError(104, "reset", f"try{n}")
    return n


@pipeline
def main():
    print(download("x"), download.__doc__, download.__name__)
    for n in range(5):
        try:
            print("got", once(n) + 0)
            break
        except ConnectionResetError as error:
            print(error.errno, error.strerror, error.filename, Path("nothing").exists())
    else:
        raise AssertionError
    return value(never())


if __name__ == "__main__":
    print(main())

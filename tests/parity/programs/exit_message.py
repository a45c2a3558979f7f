"""The body ends the program with a message, `finally` and `with` clean up, and atexit follows."""

import atexit
import contextlib
import sys

from pipedeco import component, pipeline

atexit.register(print, "at exit")


@contextlib.contextmanager
def reported(name):
    try:
        yield
    except SystemExit as leaving:
        print(f"{name} is left by {leaving.code!r}")
        raise
    finally:
        print(f"{name} is closed")


@component
def free_space(folder):
    return {"/data": 10, "/full": 0}[folder]


@pipeline
def copy(folders):
    with reported("the copy"):
        for folder in folders:
            if free_space(folder) == 0:
                sys.exit(f"{folder} is full")
            print("copied to", folder)


if __name__ == "__main__":
    copy(["/data", "/full"])

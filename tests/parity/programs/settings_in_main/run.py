"""Settings that main() changes before the run: in a module, in a dict, and in the script."""

import argparse
import random
import uuid

import settings
from settings import OPTIONS

from pipedeco import component, pipeline

VERBOSE = False
CACHE = {}
RUN_ID = uuid.uuid4().hex
JITTER = random.random()


def log(text):
    if VERBOSE:
        print(f"[{settings.NAME}] {text}")


@component
def scale(x):
    log(f"scaling {x}")
    return x * settings.SCALE + OPTIONS["depth"]


@component
def describe():
    log(settings.describe())
    return settings.LOADED, RUN_ID, JITTER, sorted(CACHE)


@pipeline
def main(n):
    loaded, run, jitter, cached = describe()
    print(loaded == settings.LOADED, run == RUN_ID, jitter == JITTER, cached)
    return [scale(x) + 0 for x in range(n)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=int)
    parser.add_argument("--name")
    arguments = parser.parse_args()
    settings.SCALE = arguments.scale
    settings.NAME = arguments.name
    settings.OPTIONS["depth"] = 2
    settings.HOOKS.append(print)
    VERBOSE = True
    CACHE["warm"] = 1
    print(main(3))
    settings.SCALE = 100
    CACHE["again"] = 2
    print(main(2))

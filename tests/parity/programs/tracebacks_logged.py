"""Failures that steps and bodies log themselves: nothing of the framework stands among the frames."""

import logging
import sys
import traceback

from pipedeco import component, pipeline, value

logging.basicConfig(level="WARNING", format="%(levelname)s %(message)s")
log = logging.getLogger("loader")


class Loader:
    def __init__(self, rows):
        self.rows = rows

    def load(self, key):
        try:
            return self.rows[key]
        except KeyError:
            log.exception("no row %s", key)
            return None

    def __call__(self, key):
        return int(self.rows[key])


@component
def load(key):
    return Loader({"a": "1"}).load(key)


@component
def parse(key):
    return Loader({"a": "1", "b": "x"})(key)


@component
def chained():
    try:
        Loader({"b": "x"})("b")
    except ValueError as error:
        traceback.print_exc()
        raise KeyError("b") from error


@pipeline
def inner(key):
    return parse(key) + 1


@pipeline
def main():
    print("loaded", value(load("missing")))
    try:
        value(inner("b"))
    except ValueError:
        log.warning("inner failed", exc_info=True)
    try:
        value(parse("c"))
    except KeyError as error:
        traceback.print_exception(error, limit=-2)
    try:
        value(chained())
    except KeyError:
        kind, error, where = sys.exc_info()
        names = [frame.f_code.co_name for frame, _ in traceback.walk_tb(where)]
        print(kind.__name__, names[0], names[-1], type(error.__cause__).__name__)
        causes = traceback.walk_tb(error.__cause__.__traceback__)
        print([frame.f_code.co_name for frame, _ in causes])
    return value(inner("c"))


if __name__ == "__main__":
    main()

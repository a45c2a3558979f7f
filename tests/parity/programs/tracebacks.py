"""What a program shows of the errors that it has caught: print_exc, format_exception, log.exception."""

import logging
import sys
import traceback

from pipedeco import component, pipeline, value

log = logging.getLogger("job")


class Source:
    @property
    def rows(self):
        return [self.parse(text) for text in ("1", "x")]

    parse = staticmethod(lambda text: int(text))


def lines():
    yield 1
    raise LookupError("in a generator")


@component
def read():
    return Source().rows


@component
def walk():
    return sum(lines())


@component
def wrapped():
    try:
        walk.fn() if hasattr(walk, "fn") else walk()
    except LookupError as error:
        raise RuntimeError("wrapped") from error


@pipeline
def main():
    try:
        value(read())
    except ValueError:
        traceback.print_exc()
    try:
        value(walk())
    except LookupError:
        log.exception("walk failed")
    try:
        value(wrapped())
    except RuntimeError as error:
        frames = traceback.extract_tb(error.__traceback__)
        print([frame.name for frame in frames if frame.filename == __file__])
        print(frames[-1].lineno, frames[-1].line, error.__cause__ is not None)
        print(len(traceback.format_exception(error.__cause__)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

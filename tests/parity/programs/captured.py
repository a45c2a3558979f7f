"""Programs that take their own output: a tee for stdout, redirects round the call and in steps."""

import contextlib
import io
import sys

from pipedeco import component, pipeline


class Tee:
    def __init__(self, *streams):
        self.streams = streams

    def write(self, text):
        for stream in self.streams:
            stream.write(text)
        return len(text)

    def flush(self):
        for stream in self.streams:
            stream.flush()

    def __getattr__(self, name):
        return getattr(self.streams[0], name)


@component
def shout(text):
    print(text.upper())
    return len(text)


@component
def inside(text):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        print("hidden", text)
    return out.getvalue().strip()


@component
def loud(text):
    print(text, file=sys.stderr)
    return len(text)


@pipeline
def main(text):
    print("body", text)
    return shout(text) + loud("to stderr"), inside(text)


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()) as out:
        main("captured")
    print("got", *sorted(out.getvalue().splitlines()), sep="\n")
    with open("tee.txt", "w") as file:
        screen, sys.stdout = sys.stdout, Tee(sys.stdout, file)
        print(main("teed"))
        sys.stdout = screen

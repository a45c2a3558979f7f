"""What a step changes outside its value, the next step and the body do not see: README's Limits."""

import os
import string

from pipedeco import component, pipeline

COUNT = 0
SEEN = []


@component
def visit(name):
    global COUNT
    COUNT += 1
    SEEN.append(name)
    os.environ["LAST"] = name
    return name


@component
def look():
    return os.environ.get("LAST"), string.whitespace


@pipeline
def main():
    for name in "ab":
        print("visited", visit(name))
    last, _ = look()
    print("last", last == "b")


if __name__ == "__main__":
    main()
    print("count", COUNT, "seen", SEEN, "environment", "LAST" in os.environ)

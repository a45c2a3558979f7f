"""Operations that cannot wait for a value and see the future: README's Limits."""

import json
import os

from pipedeco import component, pipeline


@component
def find(name):
    return {"nothing": None, "path": os.sep, "number": 3, "function": abs}[name]


def attempt(title, action):
    try:
        print(title, action())
    except TypeError:
        print(title, "raises TypeError")


def shape_of(found):
    match found:
        case int():
            return "a number"
        case _:
            return "something else"


@pipeline
def main():
    attempt("is None:", lambda: find("nothing") is None)
    attempt("isinstance:", lambda: isinstance(find("number"), int))
    attempt("match:", lambda: shape_of(find("number")))
    attempt("json:", lambda: json.dumps(find("number")))
    attempt("in a list:", lambda: str([find("number")]).partition("<")[0])
    attempt("exists:", lambda: os.path.exists(find("path")))
    attempt("as a key:", lambda: {os.sep: "found"}.get(find("path"), "not found"))
    attempt("call:", lambda: find("function")(-3))


if __name__ == "__main__":
    main()

"""Exceptions of many kinds arrive as what they are, with their attributes."""

import json
import subprocess

from pipedeco import component, pipeline, value


class Coded(Exception):
    """Takes other arguments than those that it hands on."""

    def __init__(self, code, *, hint):
        super().__init__(f"code {code}")
        self.code = code
        self.hint = hint


class Quiet(KeyError):
    def __str__(self):
        return "quiet " + str(self.args[0])


def raise_(error):
    raise error


KINDS = {
    "json": lambda: json.loads("{'no'"),
    "decode": lambda: b"\xff".decode(),
    "syntax": lambda: compile("a b", "rules.txt", "exec"),
    "os": lambda: open("/nowhere/at all"),
    "rename": lambda: __import__("os").rename("/nowhere/a", "/nowhere/b"),
    "import": lambda: __import__("no_such_module"),
    "attribute": lambda: None.name,
    "called": lambda: subprocess.run(["false"], check=True),
    "coded": lambda: raise_(Coded(7, hint="look there")),
    "quiet": lambda: raise_(Quiet("key")),
    "stop": lambda: raise_(StopAsyncIteration("s")),
    "group": lambda: raise_(ExceptionGroup("both", [ValueError(1), Coded(8, hint="h")])),
    "zero": lambda: 1 // 0,
    "timeout": lambda: raise_(TimeoutError(110, "timed out")),
}


def facts_of(error):
    return sorted(str(fact) for name, fact in vars(error).items() if name != "__notes__")


@component
def fail(kind):
    return KINDS[kind]()


@pipeline
def main():
    for kind in KINDS:
        try:
            value(fail(kind))
        except* (Coded, ValueError) as group:
            for error in group.exceptions:
                print(kind, repr(error), facts_of(error), error.args)
        except* Exception as group:
            (error,) = group.exceptions
            known = (
                "errno",
                "filename",
                "filename2",
                "name",
                "returncode",
                "lineno",
                "text",
                "obj",
            )
            facts = {name: getattr(error, name) for name in known if hasattr(error, name)}
            print(kind, type(error).__mro__[1].__name__, repr(error), str(error), facts)


if __name__ == "__main__":
    main()

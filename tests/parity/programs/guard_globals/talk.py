"""A helper that looks at the main module, as some libraries of configuration do."""

import sys

import __main__


def say(text):
    if getattr(__main__, "ARGUMENTS", None) and sys.modules["__main__"].ARGUMENTS.verbose:
        print(f"{__main__.NAME}: {text}")

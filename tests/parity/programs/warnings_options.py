# command: PYTHONWARNINGS=error::UnicodeWarning python -W error::DeprecationWarning -X utf8 -O warnings_options.py
"""Options of the interpreter hold in the steps as well."""

import sys
import warnings

from pipedeco import component, pipeline


@component
def look():
    assert False, "not with -O"
    return sys.flags.optimize, sys.flags.utf8_mode, __debug__, sys.flags.dont_write_bytecode


@component
def convert(text):
    """Documentation stays with -O."""
    warnings.warn("convert is deprecated", DeprecationWarning, stacklevel=1)
    return int(text)


@component
def decode(text):
    warnings.warn("not decoded", UnicodeWarning, stacklevel=1)
    return text


@pipeline
def main():
    print(*look(), convert.__doc__)
    for step in (convert, decode):
        try:
            step("1").bit_count()
        except Warning as error:
            print(type(error).__name__, error)
    return 0


if __name__ == "__main__":
    sys.exit(main())

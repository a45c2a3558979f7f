# command: PYTHONIOENCODING=ascii:backslashreplace LC_ALL=C PYTHONUTF8=0 python ascii_terminal.py
"""A terminal that knows ASCII alone, and files in several encodings."""

import locale
import sys
from pathlib import Path

from pipedeco import component, pipeline


@component
def write(name, encoding):
    Path(name).write_text("Grüße, мир\n", encoding=encoding, errors="replace")
    print(f"{name} → {encoding}")
    print("Fehler: ü", file=sys.stderr)
    return Path(name).stat().st_size


@component
def read(name, encoding):
    return Path(name).read_text(encoding=encoding)


@component
def default():
    return (
        locale.getpreferredencoding(False),
        sys.stdout.encoding,
        sys.stdout.errors,
        sys.getfilesystemencoding(),
    )


@pipeline
def main():
    sizes = [write(f"{code}.txt", code) + 0 for code in ("utf-8", "latin-1", "utf-16")]
    print(*default())
    return sizes, ascii(read("utf-16.txt", "utf-16") + "")


if __name__ == "__main__":
    print(*main())

"""The locale, the time zone and the folder of temporary files of this process."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from pipedeco.ambient.calls import Calls


class Locale:
    """All parts of the locale, as one text; None for that with which a process begins.

    Only `_locale` changes it, so nobody is asked before that is imported.

    Parameters
    ----------
    calls : Calls, optional
        Of what sets it, in a worker: then it is read again only after one.
    """

    def __init__(self, calls: Calls | None = None) -> None:
        self._begun: str | None = None
        self._calls = calls
        if calls is not None:
            calls.noted = True
        self._text: str | None = None

    def read(self) -> str | None:
        if self._calls is None or self._calls.noted:
            self._look()
        return None if self._text == self._begun else self._text

    def _look(self) -> None:
        module: Any = sys.modules.get("_locale")
        if self._calls is not None:
            self._calls.noted = False
        self._text = None if module is None else module.setlocale(module.LC_ALL, None)

    def write(self, wanted: str | None) -> None:
        """Where this machine has not what the program has chosen, the step's log says so."""
        import locale

        try:
            locale.setlocale(locale.LC_ALL, "C" if wanted is None else wanted)
            if wanted is None:
                locale.setlocale(locale.LC_CTYPE, "")
                self._begun = locale.setlocale(locale.LC_ALL)
        except locale.Error:
            sys.stderr.write(f"pipedeco: the locale {wanted or ''} is not installed here\n")

    def pack(self, text: str | None) -> str | None:
        """A process begins with C, and with the characters that its environment names."""
        if text is None:
            return None
        parts = dict(part.split("=", 1) for part in text.split(";")) if "=" in text else {}
        characters = parts.pop("LC_CTYPE", text)
        variables = (os.environ.get(name) for name in ("LC_ALL", "LC_CTYPE", "LANG"))
        begun = next(filter(None, variables), "C")
        if begun in ("C", "POSIX") and not os.environ.get("LC_ALL"):
            begun = "C.UTF-8"  # which Python takes in its place, see PEP 538
        plain = set(parts.values()) <= {"C"} and _same_locale(characters, begun)
        return None if plain else text


def _same_locale(one: str, other: str) -> bool:
    def plain(name: str) -> str:
        text = name.lower().replace("-", "")
        return "c" if text == "posix" else text

    return plain(one) == plain(other)


class Zone:
    """The time zone that the C library has made of TZ."""

    def __init__(self) -> None:
        self._names = time.tzname

    def enter(self) -> None:
        """The environment is another one."""
        if hasattr(time, "tzset"):
            time.tzset()
        self._names = time.tzname

    def restore(self) -> None:
        """See that the zone is that of the environment; time.tzset makes a new tuple of names."""
        if time.tzname is not self._names:
            self.enter()


class Tempdir:
    """`tempfile.tempdir`, where it is not what tempfile itself finds."""

    def __init__(self) -> None:
        self._found: str | None = None

    def read(self) -> Any:
        module = sys.modules.get("tempfile")
        folder = getattr(module, "tempdir", None)
        if folder is None or folder == self._found:
            return None
        if folder == _found_by_tempfile():
            self._found = folder
            return None
        return folder

    def write(self, folder: Any) -> None:
        import tempfile

        tempfile.tempdir = folder


def _found_by_tempfile() -> str:
    """Where tempfile looks first; it takes the next one where that cannot be written."""
    variables = (os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    return os.path.abspath(next(filter(None, variables), "/tmp"))  # noqa: S108 - as tempfile does

"""What is told of one thing."""

from __future__ import annotations

from typing import NamedTuple

OK = "ok"
WARNING = "warning"
ERROR = "error"


class Line(NamedTuple):
    """One finding; `advice` is what to do where it is not well."""

    what: str
    state: str  # OK, WARNING or ERROR
    text: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.text}; {self.advice}" if self.advice else self.text

"""How commands speak: tables, plain text and JSON on stdout, what goes wrong on stderr."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

from pipedeco.text import plain_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

ENDLESS = 10_000  # columns of what is no terminal


def say(text: str = "") -> None:
    """A line of text, which may come from anywhere."""
    print(plain_text(text, keep_lines=True))


def complain(text: str) -> None:
    print(f"pipedeco: {plain_text(text)}", file=sys.stderr)


def print_traceback(text: str) -> None:
    print(plain_text(text, keep_lines=True).rstrip(), file=sys.stderr)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Columns under their names; cut at the terminal's width, whole elsewhere.

    A cell that is the name of a state has that state's colour on a terminal.
    """
    from rich.table import Table
    from rich.text import Text

    from pipedeco.display import COLOURS

    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    for name in head:
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*(Text(plain_text(cell), style=COLOURS.get(cell, "")) for cell in row))
    print_rich(table)


def print_rich(renderable: Any) -> None:
    """Something of rich's; without colours and spaces at the ends of lines off a terminal."""
    if sys.stdout.isatty():
        _console(sys.stdout).print(renderable)
        return
    text = io.StringIO()
    _console(text, width=ENDLESS).print(renderable)
    for line in text.getvalue().splitlines():
        print(line.rstrip())


def _console(file: Any, width: int | None = None) -> Console:
    from rich.console import Console

    return Console(file=file, width=width, highlight=False, markup=False, emoji=False)

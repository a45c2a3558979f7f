"""How commands speak: tables, plain text and JSON on stdout, what goes wrong on stderr."""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING, Any

from pipedeco.terminal import can_be_drawn_into, make_console, plain_lines
from pipedeco.text import plain_text, shortened, write_stderr

if TYPE_CHECKING:
    from collections.abc import Sequence

ENDLESS = 10_000  # columns of what is no terminal
GAP = 2  # columns between two of a table
NARROWEST = 9  # columns that a column of a table is left with
FIRST = 16  # the same of the first


def say(text: str = "") -> None:
    """A line of text, which may come from anywhere."""
    print(plain_text(text, keep_lines=True))


def quoted(name: str) -> str:
    """A name as a shell takes it, for a command to be typed."""
    from shlex import quote

    return quote(plain_text(name))


def complain(text: str) -> None:
    write_stderr(f"pipedeco: {plain_text(text, keep_lines=True)}\n")


def print_traceback(text: str) -> None:
    write_stderr(f"{plain_text(text, keep_lines=True).rstrip()}\n")


def print_json(value: Any) -> None:
    """JSON, in which numbers that are none are texts: "NaN", "Infinity", "-Infinity"."""
    print(json.dumps(_strict(value), indent=2, allow_nan=False))


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def print_table(
    head: tuple[str, ...], rows: Sequence[tuple[str, ...]], styles: Sequence[str] = ()
) -> None:
    """Columns under their names; cut at the terminal's width, whole elsewhere, and where it has none.

    States and statuses have their colours on a terminal; the last column gives way.

    Parameters
    ----------
    styles: of the rows, one each, for a terminal.
    """
    if not can_be_drawn_into(sys.stdout):
        _print_aligned([head, *rows])
        return
    from rich.table import Table
    from rich.text import Text

    from pipedeco.draw.text import COLOURS

    table = Table(box=None, padding=(0, GAP, 0, 0), show_edge=False, header_style="dim")
    for name in head:
        table.add_column(name, no_wrap=True)
    for position, row in enumerate(_fitted([head, *rows])[1:]):
        cells = [Text(cell) for cell in row]
        for cell, name in zip(cells, head, strict=True):
            if name in ("state", "status"):
                cell.stylize(COLOURS.get(cell.plain, ""))
        table.add_row(*cells, style=styles[position] if styles else None)
    print_rich(table)


def _fitted(rows: Sequence[tuple[str, ...]]) -> list[list[str]]:
    """The cells cut so that a line fits the terminal.

    The last column gives way first, then those before it; the first, which says what a line is of,
    does so last of all.
    """
    from rich.cells import cell_len

    cells = [[plain_text(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    excess = sum(widths) + GAP * len(widths) - make_console(sys.stdout).width
    for number in reversed(range(len(widths))):
        cut = max(0, min(excess, widths[number] - (FIRST if number == 0 else NARROWEST)))
        widths[number] -= cut
        excess -= cut
    return [
        [shortened(cell, width) for cell, width in zip(row, widths, strict=True)] for row in cells
    ]


def _print_aligned(rows: Sequence[tuple[str, ...]]) -> None:
    """The same off a terminal, without rich's table, which takes a second for 2,000 rows."""
    from rich.cells import cell_len

    cells = [[plain_text(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = [
            cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)
        ]
        print("  ".join(padded).rstrip())


def print_rich(renderable: Any) -> None:
    """Something of rich's; without colours and spaces at the ends of lines off a terminal."""
    if sys.stdout.isatty():
        make_console(sys.stdout).print(renderable)
        return
    for line in plain_lines(renderable, ENDLESS):
        print(line)

"""Tables of HTML, which notebooks show."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from pipedeco.text import plain_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOST = 200  # rows


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with a heading; of many rows the first."""
    body = [_row("td", row) for row in rows[:MOST]]
    more = len(rows) - MOST
    below = f"<p>and {more} more</p>" if more > 0 else ""
    return (
        f"<table><thead>{_row('th', heading)}</thead><tbody>{''.join(body)}</tbody></table>{below}"
    )


def facts(pairs: Iterable[tuple[str, str | None]]) -> str:
    """A table of names and what is known of them."""
    rows = [f"<tr><th>{escape(name)}</th>{_cell('td', text)}</tr>" for name, text in pairs if text]
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def _row(tag: str, texts: Iterable[str]) -> str:
    return f"<tr>{''.join([_cell(tag, text) for text in texts])}</tr>"


def _cell(tag: str, text: str) -> str:
    shown = escape(plain_text(text, keep_lines=True))
    return f'<{tag} style="text-align: left; white-space: pre-wrap">{shown}</{tag}>'

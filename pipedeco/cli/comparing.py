"""The commands that compare runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from pipedeco.cli.output import print_json, print_rich, print_table, say
from pipedeco.cli.reading import Json, Name, Store
from pipedeco.errors import ConfigError
from pipedeco.text import duration, plain_text, short_number, shortened, when

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipedeco.comparison import Comparison, Row
    from pipedeco.differences import Change, Differences, Times

EQUAL = 0
DIFFERENT = 1  # as diff(1) has it
ROWS = 20  # of a section
LINES = 100  # of one source's difference
WIDTH = 60  # characters of a value
SLOWEST = 5  # steps whose times are told
NOTHING = "-"
HEADS = {"steps": "step ", "parameters": "parameter "}  # before the name of a value
STYLES = {"+": "green", "-": "red", "@": "cyan"}


def diff(left: Name, right: Name, /, *, json: Json = False, store: Store = None) -> int:
    """Compare two runs: parameters, code, packages, commit, results, times.

    Values that differ are loaded, to tell where: columns, elements, attributes, lines.
    Exits with 0 when nothing but times is different, with 1 when something is.
    """
    from pipedeco.differences import compare
    from pipedeco.run import get_run

    found = compare(get_run(left, store=store), get_run(right, store=store))
    if json:
        print_json(found.to_json())
    else:
        _show(found)
    return DIFFERENT if found else EQUAL


def _show(found: Differences) -> None:
    for side, mark in ((found.left, "left "), (found.right, "right")):
        say(f"{mark}  {side['name']}  {side['id']}  {side['status']}")
    if not found:
        say("\nno differences but times")
    for title, changes in (
        ("run", found.run),
        ("parameters", found.parameters),
        ("python and machine", found.python),
        ("git", found.git),
        ("packages", found.packages),
        ("environment", found.environment),
        ("components", found.components),
    ):
        _show_changes(title, changes)
    _show_code(found)
    _show_changes("steps", found.steps)
    _show_times(found.times)
    for note in found.notes:
        say(f"\nnote: {note}")


def _show_changes(title: str, changes: Sequence[Change]) -> None:
    if not changes:
        return
    say()
    rows = [(c.name, _cell(c.left), _cell(c.right), c.note or "") for c in changes[:ROWS]]
    shown = 4 if any(row[3] for row in rows) else 3
    print_table((title, "left", "right", "")[:shown], [row[:shown] for row in rows])
    _say_more(len(changes) - ROWS, "--json has all")
    for change in changes[:ROWS]:
        if change.details:
            say(f"\n{HEADS.get(title, '')}{plain_text(change.name)}")
            print_rich(_coloured([f"  {line}" for line in change.details]))


def _cell(text: str | None) -> str:
    return NOTHING if text is None else shortened(plain_text(text), WIDTH)


def _say_more(count: int, where: str) -> None:
    if count > 0:
        say(f"... and {count:,} more; {where}")


def _show_code(found: Differences) -> None:
    for component in found.code:
        _show_changes(f"code of {component.name}", component.parts)
    for name, text in list(found.sources.items())[:ROWS]:
        say(f"\n{plain_text(name)}")
        lines = text.split("\n")
        print_rich(_coloured(lines[:LINES]))
        _say_more(len(lines) - LINES, "--json has all")
    _say_more(len(found.sources) - ROWS, "--json has all")


def _coloured(lines: list[str]) -> object:
    from rich.text import Text

    text = Text(no_wrap=False)
    for number, line in enumerate(lines):
        end = "\n" if number + 1 < len(lines) else ""
        text.append(plain_text(line, keep_lines=True) + end, STYLES.get(line[:1], ""))
    return text


def _show_times(times: Sequence[Times]) -> None:
    """Those of the run, and of the steps that changed most."""
    known = [t for t in times[1:] if t.left is not None and t.right is not None]
    known.sort(key=lambda t: -abs((t.right or 0.0) - (t.left or 0.0)))
    rows = [
        (t.name, duration(t.left), duration(t.right), _ratio(t.ratio))
        for t in (*times[:1], *known[:SLOWEST])
    ]
    say()
    print_table(("time", "left", "right", "ratio"), rows)


def _ratio(ratio: float | None) -> str:
    return NOTHING if ratio is None else f"{ratio:.3g}x"


# -- compare -------------------------------------------------------------------------------

Lines = list[tuple[tuple[str, ...], str]]  # the cells of a row, and its style
DIFFERING = "bold yellow"
MANY = 40  # rows of the steps' metrics


def compare(
    *runs: Name,
    all_: Annotated[bool, Parameter(name="--all", negative="")] = False,
    json: Json = False,
    store: Store = None,
) -> None:
    """Show runs side by side: parameters, last metrics, durations.

    On a terminal the rows that differ stand out. What is different in code, packages and results,
    pipedeco diff tells.

    Args:
        all_: Equal parameters, too, and all metrics of steps.
    """
    from pipedeco.comparison import compare_runs
    from pipedeco.run import get_run

    if len(runs) < 2:
        raise ConfigError("name two runs or more: pipedeco compare RUN RUN")
    found = compare_runs([get_run(run, store=store) for run in runs])
    if json:
        print_json(found.to_json())
    else:
        _print_comparison(found, everything=all_)


def _print_comparison(found: Comparison, *, everything: bool) -> None:
    """One table, so that a run has one column all the way down."""
    params = [row for row in found.params if everything or row.differs]
    equal = len(found.params) - len(params)
    steps = found.step_metrics if everything else found.step_metrics[:MANY]
    more = len(found.step_metrics) - len(steps)
    lines: Lines = [(("id", *(run["id"] for run in found.runs)), "")]
    lines += [_line(row, FACTS.get(row.name, _plain)) for row in found.facts]
    lines += _section("parameters", params, _plain, f"{equal:,} equal" if equal else "")
    lines += _section("metrics", found.metrics, short_number, "")
    lines += _section("metrics of steps", steps, short_number, f"{more:,} more" if more else "")
    head = ("", *(plain_text(run["name"]) for run in found.runs))
    blank = ("",) * len(head)
    cells = [(*row, *blank[len(row) :]) for row, _ in lines]
    print_table(head, cells, [style for _, style in lines])


def _section(title: str, rows: Sequence[Row], show: Callable[[Any], str], left: str) -> Lines:
    """A title and its rows, with what is left out."""
    if not rows and not left:
        return []
    note = f" ({left}, see --all)" if left else ""
    return [(("",), ""), ((title + note,), "dim"), *(_line(row, show) for row in rows)]


def _line(row: Row, show: Callable[[Any], str]) -> tuple[tuple[str, ...], str]:
    cells = [NOTHING if value is None else show(value) for value in row.values]
    shown = [shortened(plain_text(cell), WIDTH) for cell in (row.name, *cells)]
    return tuple(shown), DIFFERING if row.differs else ""


def _plain(value: Any) -> str:
    return str(value)


FACTS: dict[str, Callable[[Any], str]] = {
    "started": when,
    "duration": duration,
    "tags": ", ".join,
}

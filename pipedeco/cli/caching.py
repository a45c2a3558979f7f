"""The commands on the cache: why a step was performed, what is known, and forgetting it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from pipedeco.cli.keeping import DryRun
from pipedeco.cli.output import print_json, print_table, say
from pipedeco.cli.reading import Json, Name, Store
from pipedeco.errors import ConfigError
from pipedeco.text import data_size, when

if TYPE_CHECKING:
    from cyclopts import App
    from cyclopts.completion import CompletionContext

    from pipedeco.explaining import Why
    from pipedeco.housekeeping.entries import Entry

DIGITS = 12  # of a key
LOST = "lost"


def complete_component(_context: CompletionContext) -> list[str]:
    """Names of components of which values are known, for the shell's completion."""
    from pipedeco.housekeeping.entries import cached_components

    return cached_components()


def complete_key(_context: CompletionContext) -> list[str]:
    """The newest keys."""
    from pipedeco.housekeeping.entries import entries

    return [entry.key[:DIGITS] for entry in entries(limit=50)]


def make_cache_app() -> App:
    """`pipedeco cache`, with the commands below it."""
    from cyclopts import App

    app = App(name="cache", help="See and remove what the cache knows.", help_format="plaintext")
    app.command(ls)
    app.command(rm)
    return app


def why(
    run: Name = "latest", step: str | None = None, /, *, json: Json = False, store: Store = None
) -> None:
    """Tell why a step was performed or had its value from the cache, against the last run.

    Args:
        step: Its name; without it a line for each step of a cached component.
    """
    from pipedeco.explaining import why as explain
    from pipedeco.explaining import why_all
    from pipedeco.run import get_run

    found = get_run(run, store=store)
    if step is not None:
        answer = explain(found.store, found.id, step)
        if json:
            print_json(answer.to_json())
        else:
            say(str(answer))
        return
    answers = why_all(found.store, found.id)
    if json:
        print_json([answer.to_json() for answer in answers])
    elif answers:
        print_table(("step", "state", "against", "why"), [_line(answer) for answer in answers])
    else:
        say(f"no component of run {found.id} is cached; @component(cache=True) would cache one")


def _line(answer: Why) -> tuple[str, ...]:
    against = answer.other["run_name"] if answer.other is not None else ""
    return answer.step, answer.state, against, answer.text


def ls(
    component: Annotated[str | None, Parameter(completer=complete_component)] = None,
    /,
    *,
    limit: int = 20,
    json: Json = False,
    store: Store = None,
) -> None:
    """List the values that the cache knows, the newest first.

    Args:
        component: Only those of this component.
        limit: At most so many.
    """
    from pipedeco.config import find_store
    from pipedeco.housekeeping.entries import count_entries, entries

    if limit < 0:
        raise ConfigError(f"--limit is a number of 0 or more, not {limit}")
    found = entries(component, limit=limit, store=store)
    if json:
        print_json([entry._asdict() for entry in found])
        return
    count = count_entries(component, store=store)
    if not count:
        of = f" of component {component}" if component is not None else ""
        say(f"the cache in {find_store(store)} knows no values{of}")
        return
    head = ("key", "component", "step", "run", "made", "size", "hits", "value")
    print_table(head, [_row(entry) for entry in found])
    if count > len(found):
        say(f"... and {count - len(found):,} more; --limit {count} lists all")


def _row(entry: Entry) -> tuple[str, ...]:
    return (
        entry.key[:DIGITS],
        entry.component,
        entry.step,
        entry.run_name + (" (archived)" if entry.archived else ""),
        when(entry.made),
        LOST if entry.size is None else data_size(entry.size),
        str(entry.hits),
        entry.preview or "",
    )


def rm(
    *keys: Annotated[
        str,
        Parameter(name="KEY", help="Keys, or unique prefixes of them.", completer=complete_key),
    ],
    component: Annotated[str | None, Parameter(completer=complete_component)] = None,
    older_than: str | None = None,
    all: Annotated[bool, Parameter(negative="")] = False,  # noqa: A002 - the option's name
    dry_run: DryRun = False,
    json: Json = False,
    store: Store = None,
) -> None:
    """Make the cache forget values, so that their steps are performed again. Runs keep theirs.

    Args:
        component: Those of this component.
        older_than: Those made so long ago: 7d, 12h, 2w.
        all: All of them.
    """
    from pipedeco.housekeeping.entries import remove_entries

    removed = remove_entries(
        keys,
        component=component,
        older_than=older_than,
        everything=all,
        dry_run=dry_run,
        store=store,
    )
    if json:
        print_json({"removed": removed, "dry_run": dry_run})
        return
    count = f"{len(removed):,} {'entry' if len(removed) == 1 else 'entries'} of the cache"
    say(f"would remove {count}; nothing was changed" if dry_run else f"removed {count}")

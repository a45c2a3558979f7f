"""The commands that keep a store: hide, remove and prune runs, check it, carry runs elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from pipedeco.cli.output import complain, print_json, say
from pipedeco.cli.reading import Json, Name, Store, complete_run
from pipedeco.text import data_size, when

if TYPE_CHECKING:
    from pipedeco.housekeeping import Pruned

DAMAGED = 1
GIGABYTE = 10**9

Names = Annotated[
    str,
    Parameter(name="RUN", help="Ids, unique prefixes of them, pipeline#number, or latest.",
              completer=complete_run),
]  # fmt: skip
DryRun = Annotated[bool, Parameter(help="Change nothing; tell what would be removed.", negative="")]


def archive(*runs: Names, store: Store = None) -> None:
    """Hide runs with their children; they serve no cache hits any more.

    An archived run is still shown when it is named. `pipedeco unarchive` undoes it.
    """
    from pipedeco.housekeeping import archive as hide

    for run in hide(runs, store=store):
        say(f"archived {run}")


def unarchive(*runs: Names, store: Store = None) -> None:
    """Show archived runs with their children again; they serve cache hits as before."""
    from pipedeco.housekeeping import unarchive as show

    for run in show(runs, store=store):
        say(f"unarchived {run}")


# -- removing ------------------------------------------------------------------------------


def rm(*runs: Names, dry_run: DryRun = False, json: Json = False, store: Store = None) -> None:
    """Remove runs with their children: records, logs, and values that no other run has.

    A run that goes on is refused. A step of another run that took its value from the cache
    keeps it.
    """
    from pipedeco.housekeeping import remove

    _tell(remove(runs, dry_run=dry_run, store=store), dry_run=dry_run, json=json)


def prune(
    pipeline: str | None = None,
    /,
    *,
    keep_last: int | None = None,
    older_than: str | None = None,
    interrupted: Annotated[bool, Parameter(negative="")] = False,
    dry_run: DryRun = False,
    json: Json = False,
    store: Store = None,
) -> None:
    """Remove old runs that have ended, with their children. Archived runs stay.

    What remote steps have unpacked on this machine goes, too, where no run uses it. At least one of --keep-last and --older-than is needed; with both, both must hold.

    Args:
        pipeline: Only runs of this pipeline.
        keep_last: How many of the newest runs of each pipeline stay.
        older_than: Only what began so long ago: 30d, 12h, 2w.
        interrupted: Also runs whose process was killed, which could be resumed.
    """
    from pipedeco.housekeeping import prune as remove_old

    pruned = remove_old(
        pipeline,
        keep_last=keep_last,
        older_than=older_than,
        interrupted=interrupted,
        dry_run=dry_run,
        store=store,
    )
    _tell(pruned, dry_run=dry_run, json=json)


def _tell(pruned: Pruned, *, dry_run: bool, json: bool) -> None:
    if json:
        runs = [run._asdict() for run in pruned.runs]
        print_json({**pruned._asdict(), "runs": runs, "dry_run": dry_run})
        return
    for run in pruned.runs:
        part = f"  part of {run.parent_run}" if run.parent_run else ""
        say(f"{run.name}  {run.id}  {run.status}  {when(run.started)}{part}")
    count = f"{len(pruned.runs)} run{'' if len(pruned.runs) == 1 else 's'}"
    if dry_run:
        say(f"would remove {count} and free {data_size(pruned.freed)}; nothing was changed")
    else:
        say(f"removed {count}, freed {data_size(pruned.freed - pruned.waiting)}")
    if pruned.unpacked:
        say(
            f"freed {data_size(pruned.unpacked)} of unpacked code and working directories of remote "
            "steps on this machine"
        )
    if pruned.waiting:
        say(
            f"{data_size(pruned.waiting)} stay for an hour, as runs go on that might use them; "
            "the next rm, prune or fsck --repair after that frees them"
        )


# -- checking ------------------------------------------------------------------------------


def fsck(
    *,
    repair: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
    store: Store = None,
) -> int:
    """Check the store: its database, every value's digest, its logs, and what lies about.

    Reads every value once. The exit code is 0 when all is sound, 1 when something is damaged.

    Args:
        repair: Remove cache rows without a step, lock files of processes that died, and files
            that nothing refers to. What is lost stays lost.
    """
    from pipedeco.housekeeping import check
    from pipedeco.housekeeping import repair as tidy

    found = check(store)
    done: list[str] = []
    if repair and any(finding.kind == "database" for finding in found):
        complain("nothing was repaired, as the database is damaged")
    elif repair:
        done = tidy(store)
        found = check(store) if done else found
    damaged = any(finding.damaged for finding in found)
    if json:
        findings = [finding._asdict() for finding in found]
        print_json({"sound": not damaged, "findings": findings, "repaired": done})
        return DAMAGED if damaged else 0
    for text in [*done, *map(str, found)]:
        say(text)
    if not damaged:
        say("the store is sound")
    return DAMAGED if damaged else 0


# -- carrying ------------------------------------------------------------------------------


def export(run: Name, file: str, /, *, store: Store = None) -> None:
    """Write a run with its children, values and logs into a zip file.

    The file holds pickled values: who imports it must trust it as code.

    Args:
        file: The file to write; it must not be there yet.
    """
    from pipedeco.housekeeping import export as write
    from pipedeco.run import get_run

    found = get_run(run, store=store)
    write(found, file)
    say(f"exported {found.name}  {found.id} to {file}")


def import_(
    file: str,
    /,
    *,
    limit: float = 64.0,
    store: Store = None,
) -> None:
    """Add the run of a zip file that `pipedeco export` wrote. Trust the file as you trust code.

    Values are pickles: reading those of an imported run executes what they say. So import only
    what comes from somebody whose programs you would run. The run keeps its id, gets another
    number if its own is taken, and its steps serve no cache hits.

    Args:
        file: The file to read.
        limit: How many gigabytes it may have when unpacked.
    """
    from pipedeco.housekeeping.unpacking import import_file

    found = import_file(file, store=store, limit=int(limit * GIGABYTE))
    say(f"imported {found.name}  {found.id}")
    if found.name != found.was:
        say(f"it was {found.was} where it came from; that number is taken here")

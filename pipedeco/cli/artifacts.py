"""The command that lists what a run has kept, and writes it to files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from cyclopts import Parameter

from pipedeco.cli.debugging import complete_step
from pipedeco.cli.metrics import child_of
from pipedeco.cli.output import print_json, print_table, quoted, say
from pipedeco.cli.reading import Json, Name, Store, find_step
from pipedeco.errors import ConfigError
from pipedeco.text import data_size, plain_text, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pipedeco.reported import Item
    from pipedeco.run import Run

Kind = Literal["artifact", "model", "figure", "image", "table", "text"]
NAMED = 10  # steps or names that a sentence lists
PREVIEW = 60
LONGEST = 200  # bytes of a file's name of ours, its suffix not counted


class Held(NamedTuple):
    """Something that was reported, and on what: a step's name, or None for the run."""

    item: Item
    step: str | None


def artifacts(
    run: Name = "latest",
    step: Annotated[str | None, Parameter(completer=complete_step)] = None,
    /,
    *,
    kind: Kind | None = None,
    get: str | None = None,
    output: Annotated[str | None, Parameter(alias="-o")] = None,
    json: Json = False,
    store: Store = None,
) -> None:
    """List the artifacts, models, figures, tables and texts of a run and its steps, or write one.

    A figure is written as its file, a table as CSV, a text as it is, files and folders as they
    were, bytes as they are and any other object as a pickle. Nothing is unpickled, nothing
    overwritten.

    Args:
        step: Only those of this step.
        kind: Only those of this kind.
        get: Write the one of this name: the run's own, or that of a step.
        output: The file or folder to write, or a folder to write into; by default the working
            directory.
    """
    from pipedeco.run import get_run

    found = get_run(run, store=store)
    held = [one for one in list_held(found, step) if kind in (None, one.item.kind)]
    if get is not None:
        one = _choose(found, held, get)
        path = _write(one.item, output)
        if json:
            print_json({**_facts(one), "path": path})
        else:
            say(f"{one.item.kind} {plain_text(get)}{_of(one)} is in {path}")
    elif output is not None:
        raise ConfigError("-o is where --get NAME writes to; name what to get")
    elif json:
        print_json([_facts(one) for one in held])
    elif held:
        head = ("name", "kind", "source", "type", "size", "preview")
        print_table(head, [_row(one) for one in held])
    else:
        _say_none(found, step, kind)


def list_held(run: Run, step: str | None = None) -> list[Held]:
    """What a run has, and then what its steps have; or what one step has.

    Raises RunNotFound for a step that there is not.
    """
    if step is not None:
        return [Held(item, step) for item in find_step(run, step).reported_items]
    found = [Held(item, None) for item in run.reported_items]
    for record in run.steps.values():
        found += [Held(item, record.name) for item in record.reported_items]
    return found


# -- the list ------------------------------------------------------------------------------


def _say_none(run: Run, step: str | None, kind: str | None) -> None:
    of, child = "run", ""
    if step is not None:
        of, child = f"step {plain_text(step)} of run", child_of(run, step, "artifacts")
    what = "artifacts, models, figures, tables or texts" if kind is None else f"{kind}s"
    say(f"{of} {run.id} has no {what}{child}")


def _facts(one: Held) -> dict[str, Any]:
    """What is known of it; `of` is the step that has it, null where the run does."""
    return {**one.item.to_json(), "of": one.step}


def _row(one: Held) -> tuple[str, ...]:
    facts = one.item.to_json()
    source = one.step or ("run" if one.item.source is None else f"run, by {one.item.source}")
    size = facts.get("size")
    return (
        one.item.name,
        one.item.kind,
        source,
        _type(facts),
        "" if size is None else data_size(size),
        _preview(facts),
    )


def _type(facts: dict[str, Any]) -> str:
    parts = (facts.get("framework"), facts.get("mime") or facts.get("type"))
    return " ".join([part for part in parts if part])


def _preview(facts: dict[str, Any]) -> str:
    if "rows" in facts:
        return f"{facts['rows']:,} rows: {', '.join(map(str, facts['columns']))}"
    if "files" in facts:
        return f"{facts['file']}, {facts['files']:,} files"
    text = facts.get("preview") or facts.get("file") or ""
    return shortened(plain_text(text), PREVIEW)


# -- one of them ---------------------------------------------------------------------------


def _choose(run: Run, held: Sequence[Held], name: str) -> Held:
    """The one of that name: the run's own goes before its steps'.

    Raises ConfigError where there is none, or more than one.
    """
    named = [one for one in held if one.item.name == name]
    chosen = [one for one in named if one.step is None] or named
    if not chosen:
        known = _listed(dict.fromkeys(one.item.name for one in held))
        raise ConfigError(f"there is nothing named {name!r}; there are: {known or 'none'}")
    steps = dict.fromkeys(one.step for one in chosen)
    if len(steps) > 1:
        raise ConfigError(
            f"the steps {_listed(map(str, steps))} have a {name!r} each; name one: "
            f"pipedeco artifacts {run.id} STEP --get {quoted(name)}"
        )
    if len(chosen) > 1:
        kinds = _listed(one.item.kind for one in chosen)
        raise ConfigError(f"{name!r} is the name of several things ({kinds}); choose with --kind")
    return chosen[0]


def _listed(names: Iterable[str]) -> str:
    known = list(names)
    return ", ".join(known[:NAMED]) + (f" and {len(known) - NAMED:,} more" * (len(known) > NAMED))


def _of(one: Held) -> str:
    return "" if one.step is None else f" of step {plain_text(one.step)}"


# -- writing -------------------------------------------------------------------------------


def _write(item: Item, output: str | None) -> str:
    """Write it and return the path.

    Raises ConfigError where something is there already, or nothing can be written.
    """
    name, write = _written(item)
    path = name if output is None else output
    if output is not None and os.path.isdir(output):
        path = os.path.join(output, name)
    if os.path.lexists(path):
        raise ConfigError(f"{path} is there already; choose another with -o PATH, or remove it")
    try:
        write(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
    return path


def _written(item: Item) -> tuple[str, Callable[[str], None]]:
    """The name of the file that it becomes, and what writes it to a path."""
    from pipedeco.media import SUFFIXES
    from pipedeco.reported import Artifact, Figure, Table, Text

    if isinstance(item, Figure):
        figure = item
        return safe_name(item.name, SUFFIXES.get(item.mime, ".bin")), lambda path: _put(
            path, figure.data
        )
    if isinstance(item, Table):
        table = item
        return safe_name(item.name, ".csv"), lambda path: _put(path, _bytes(_as_csv(table)))
    if isinstance(item, Text):
        text = item
        return safe_name(item.name, ".txt"), lambda path: _put(path, _bytes(text.text))
    assert isinstance(item, Artifact)
    if item.file is not None:
        return safe_name(item.file, ""), item.save
    plain = item.plain()
    if plain is None:
        return safe_name(item.name, ".pickle"), item.save
    known = os.path.splitext(item.name)[1]
    suffix = known or (".txt" if isinstance(plain, str) else ".bin")
    return safe_name(item.name, suffix), lambda path: _put(path, _bytes(plain))


def _bytes(value: bytes | bytearray | str) -> bytes:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else bytes(value)


def _put(path: str, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)


def _as_csv(table: Any) -> str:
    import io
    from csv import writer

    text = io.StringIO()
    sheet = writer(text, lineterminator="\n")
    sheet.writerow(table.columns)
    sheet.writerows(table.rows)
    return text.getvalue()


def safe_name(name: str, suffix: str) -> str:
    """A file's name that stays in its folder, hides nothing and has the suffix once."""
    if suffix and name.lower().endswith(suffix.lower()):
        name = name[: -len(suffix)]
    kept = "".join(c if c.isprintable() and c not in '/\\:*?"<>|' else "_" for c in name)
    kept = kept.strip(" .").lstrip("-~") or "unnamed"  # neither hidden, nor `..`, nor an option
    while len(kept.encode("utf-8", "replace")) > LONGEST:
        kept = kept[:-1]
    return kept + suffix

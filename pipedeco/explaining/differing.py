"""Which parts of two keys differ."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipedeco.explaining.arguments import DEFAULT, shown_arguments
from pipedeco.explaining.records import key_parts
from pipedeco.text import plain_text, shortened

if TYPE_CHECKING:
    from pipedeco.explaining.records import Records, Row

WIDTH = 60  # characters of a preview within a sentence
VERSIONED = ("package ", "python")  # parts whose digest is a version


@dataclass(frozen=True, slots=True)
class Reason:
    """One part of an answer, as a sentence.

    `part`: what it is about: argument, input, code, version; or what else was in the way.
    `name`: which argument, step or code; `before` and `now`: previews or versions where known.
    """

    part: str
    text: str
    name: str | None = None
    before: str | None = None
    now: str | None = None


def differing(records: Records, then: Row, now: Row) -> list[Reason]:
    """What makes the key of a step another one than that of an earlier step."""
    old, new = key_parts(then), key_parts(now)
    found = [
        *_code(records, then, now, old, new),
        *_version(old, new),
        *_environment(old, new),
        *_seed(old, new),
        *_arguments(records, then, now, old, new),
        *_inputs(records, then, now, old, new),
    ]
    return found or [Reason("unknown", "the key differs; the records do not tell in which part")]


def likeness(one: dict[str, Any], other: dict[str, Any]) -> int:
    """How many parts of two keys are equal."""
    pairs = [
        (one.get(name), other.get(name)) for name in ("code", "version", "environment", "seed")
    ]
    pairs += zip(_prints(one), _prints(other), strict=False)
    arguments, others = one["arguments"], other["arguments"]
    pairs += [(digest, others.get(name)) for name, digest in arguments.items()]
    return sum(before == now for before, now in pairs)


def _prints(parts: dict[str, Any]) -> list[str]:
    return list(parts["inputs"].values())


def between(before: str | None, now: str | None) -> str:
    """`(100 -> 150)`; nothing where that would tell nothing."""
    if before == now or before is None or now is None:
        return ""
    sides = [shortened(plain_text(side), WIDTH) for side in (before, now)]
    return f" ({sides[0]} -> {sides[1]})"


# -- code ----------------------------------------------------------------------------------


def _code(records: Records, then: Row, now: Row, old: Row, new: Row) -> list[Reason]:
    if old.get("code") == new.get("code"):
        return []
    before, after = (_reached(records.component(step)) for step in (then, now))
    names = sorted(
        name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
    )
    found = [_changed(name, before.get(name), after.get(name)) for name in names]
    return found or [Reason("code", "code: it differs; the records do not tell in which part")]


def _reached(component: Row) -> dict[str, str]:
    try:
        return {str(name): str(digest) for name, digest in json.loads(component["parts"] or "[]")}
    except (TypeError, ValueError):  # of an imported run
        return {}


def _changed(name: str, before: str | None, now: str | None) -> Reason:
    if before is None or now is None:
        return Reason("code", f"code: {name} is {'new' if before is None else 'gone'}", name)
    if name.startswith(VERSIONED):
        return Reason("code", f"code: {name} {before} -> {now}", name, before, now)
    return Reason("code", f"code: {name} has changed", name)


def _version(old: Row, new: Row) -> list[Reason]:
    before, now = old.get("version"), new.get("version")
    if before == now:
        return []
    text = f"Cache(version=...) differs{between(str(before), str(now))}"
    return [Reason("version", text, None, before, now)]


def _environment(old: Row, new: Row) -> list[Reason]:
    before, now = old.get("environment"), new.get("environment")
    if before == now:
        return []
    shown = [text or "the run's own" for text in (before, now)]
    text = f"its own environment differs{between(*shown)}"
    return [Reason("environment", text, None, before, now)]


def _seed(old: Row, new: Row) -> list[Reason]:
    """With a seed, a step draws by its name: another name is another value."""
    before, now = old.get("seed"), new.get("seed")
    if before == now:
        return []
    shown = [text or "no seed" for text in (before, now)]
    return [Reason("seed", f"the seed of its numbers differs{between(*shown)}", None, before, now)]


# -- arguments -------------------------------------------------------------------------------


def _arguments(records: Records, then: Row, now: Row, old: Row, new: Row) -> list[Reason]:
    before, after = old["arguments"], new["arguments"]
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if not names:
        return []
    shown = shown_arguments(records, then), shown_arguments(records, now)
    found = []
    for name in names:
        if name in before and name in after:
            sides = [None if side is None else side.get(name, DEFAULT) for side in shown]
            if sides[0] == sides[1]:
                sides = [None, None]
            text = f"argument {name} differs{between(*sides)}"
            found.append(Reason("argument", text, name, *sides))
        elif name in after:
            found.append(Reason("argument", f"argument {name} counts, and did not before", name))
        else:
            found.append(Reason("argument", f"argument {name} counts no more", name))
    return found


def _inputs(records: Records, then: Row, now: Row, old: Row, new: Row) -> list[Reason]:
    """Values of other steps that are among the arguments; in their order, as names do not count."""
    prints = zip(_prints(old), _prints(new), strict=False)
    places = [place for place, (before, after) in enumerate(prints) if before != after]
    if not places:
        return []
    names = list(new["inputs"])
    ids = records.arguments(then)["inputs"], records.arguments(now)["inputs"]
    found = []
    for place in places:
        pair = (_prints(old)[place], _prints(new)[place])
        sides = [
            records.named(side[place])["preview"] if place < len(side) else None for side in ids
        ]
        found.append(_input(names[place], pair, *sides))
    return found


def _input(name: str, prints: tuple[str, str], before: str | None, now: str | None) -> Reason:
    """A fingerprint is a digest of the value, and those of its classes' code."""
    digests = [found.partition(" ")[0] for found in prints]
    if digests[0] == digests[1]:
        return Reason("input", f"code of what the value of step {name} holds has changed", name)
    return Reason(
        "input", f"the value of step {name} differs{between(before, now)}", name, before, now
    )

"""What is said: one sentence for each rule, with what the code sees and the cure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ast

_LONGEST = 60  # of a quoted piece of code


def quote(node: ast.AST) -> str:
    """A piece of the body as it is written there, or nearly."""
    from ast import unparse  # here, for only who is advised pays for it

    text = " ".join(unparse(getattr(node, "target", node)).split())  # of `(r := ...)` the r
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3].rstrip() + "..."


def call(node: ast.expr) -> str:
    """A call without its arguments."""
    return quote(getattr(node, "func", node)) + "(...)"


def identity(result: ast.expr, other: ast.expr, *, negated: bool) -> str:
    name, sign = quote(result), "is not" if negated else "is"
    return (
        f"`{name} {sign} {quote(other)}` compares the future, not its value, and is always "
        f"{negated}: use `pipedeco.value({name}) {sign} {quote(other)}`"
    )


def type_test(function: str, result: ast.expr) -> str:
    name = quote(result)
    return (
        f"`{function}({name}, ...)` looks at the future, not at its value: "
        f"use `{function}(pipedeco.value({name}), ...)`"
    )


def type_of(result: ast.expr) -> str:
    name = quote(result)
    return (
        f"`type({name})` is the type of the future, not of its value: "
        f"use `type(pipedeco.value({name}))`"
    )


def match(result: ast.expr) -> str:
    name = quote(result)
    return (
        f"`match {name}` holds its patterns against the future, not its value: "
        f"use `match pipedeco.value({name})`"
    )


def membership(result: ast.expr, container: ast.expr) -> str:
    name, where = quote(result), quote(container)
    return (
        f"`{name} in {where}` looks for the future, whose hash is not its value's: "
        f"use `pipedeco.value({name}) in {where}`"
    )


def index(result: ast.expr, container: ast.expr) -> str:
    name, where = quote(result), quote(container)
    return (
        f"`{where}` looks for the future `{name}`, whose hash is not its value's: "
        f"use `pipedeco.value({name})` as the key"
    )


def key(result: ast.expr) -> str:
    name = quote(result)
    return (
        f"the future `{name}` becomes a key of this dict, not its value: "
        f"use `pipedeco.value({name})`"
    )


def member(result: ast.expr) -> str:
    name = quote(result)
    return (
        f"the future `{name}` becomes an element of this set, not its value, and equal values "
        f"stay apart: use `pipedeco.value({name})`"
    )


def hashing(function: ast.expr, results: ast.expr) -> str:
    name, called = quote(results), quote(function)
    return (
        f"`{called}({name})` tells futures apart by their own hash, not by their values: "
        f"use `{called}(pipedeco.value({name}))`"
    )


def encoding(function: ast.expr, results: ast.expr) -> str:
    name, called = quote(results), quote(function)
    return (
        f"`{called}({name})` meets a future, which it cannot encode: "
        f"use `{called}(pipedeco.value({name}))`"
    )


def joining(function: ast.expr, results: ast.expr) -> str:
    name, called = quote(results), quote(function)
    return (
        f"`{called}({name})` checks the types of the items and meets futures: "
        f"use `{called}(pipedeco.value({name}))`"
    )


def called_outside(made: ast.expr, read: ast.expr, line: int) -> str:
    return (
        f"`{quote(read)}` is read in the `try` on line {line}, but `{call(made)}` is called "
        "outside it: in debug mode the failure leaves here and that handler does not see it; "
        f"put `pipedeco.value({call(made)})` inside the `try`"
    )


def never_read(made: ast.expr) -> str:
    return (
        f"nothing inside this `try` reads the result of `{call(made)}`, so its failure arrives "
        f"later and the handler does not see it: use `pipedeco.value({call(made)})`"
    )


def lazy_selection(selection: ast.expr, result: ast.expr) -> str:
    name, selected = quote(result), quote(selection)
    cure = selected.replace(name, f"pipedeco.value({name})", 1)
    return (
        f"`{selected}` selects without looking, so what is missing is not missed inside this "
        f"`try` and the handler does not see it: use `{cure}`"
    )


def column(place: ast.expr, results: ast.expr) -> str:
    name = quote(results)
    return f"`{quote(place)}` holds futures, not their values: use `pipedeco.value({name})`"


def cell(place: ast.expr, result: ast.expr) -> str:
    name = quote(result)
    return (
        f"`{quote(place)}` takes the future `{name}` for an array, without an index, or refuses it: "
        f"use `pipedeco.value({name})`"
    )


def mapped(function: ast.expr, component: ast.expr) -> str:
    name, called = quote(component), quote(function)
    column_of = quote(getattr(function, "value", function))
    return (
        f"`{called}({name})` makes a column that holds futures, not their values: "
        f"use `pipedeco.value([{name}(x) for x in {column_of}])`"
    )

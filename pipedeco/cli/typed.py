"""The words of a command line as values of the types that a pipeline's signature names.

    words        which of them are values although they begin with a dash
      -> tokens  cyclopts finds the option of each
      -> values  of the annotated types; what would have to be changed to fit is refused

cyclopts walks lists, tuples, unions and dataclasses.  What it takes loosely is read here: whole
numbers (it rounds 1.5), enumerations (it knows names alone), durations and nested JSON.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import json
import re
import types
import typing
from collections import abc
from datetime import timedelta
from enum import Enum, Flag
from functools import partial, reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from cyclopts import CoercionError, CycloptsError, convert

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cyclopts import ArgumentCollection, Token

    Tokens = Sequence[Token] | Mapping[str, Any]

WHOLE = re.compile(r"([+-]?[\d_]+)\.0*")
CLOCK = re.compile(r"(?:(\d+) days?,? )?(\d+):(\d\d)(?::(\d\d(?:\.\d+)?))?")
ISO = re.compile(
    r"P(?=.)(?:(\d+)W)?(?:(\d+)D)?"
    r"(?:T(?=.)(?:(\d+(?:\.\d+)?)H)?(?:(\d+(?:\.\d+)?)M)?(?:(\d+(?:\.\d+)?)S)?)?",
    re.IGNORECASE,
)
LISTS: dict[Any, Any] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    abc.Sequence: list,
    abc.MutableSequence: list,
    abc.Collection: list,
    abc.Iterable: list,
    abc.Set: set,
    abc.MutableSet: set,
}
HELP = ("--help", "-h")
DICTS = (dict, abc.Mapping, abc.MutableMapping)


def read(hint: Any, tokens: Tokens) -> Any:
    """The value of a type that tokens stand for; cyclopts' converter of every option.

    Raises CycloptsError.
    """
    if isinstance(tokens, abc.Mapping):  # --limits.a 1 --limits.b 2
        of_keys, of_values = _items(hint)
        return {_read_text(of_keys, key): read(of_values, part) for key, part in tokens.items()}
    try:
        return _read_tokens(hint, tokens)
    except ValueError as error:
        raise CoercionError(msg=str(error) or None, token=tokens[0], target_type=hint) from error


def read_or_none(hint: Any, tokens: Tokens) -> Any:
    """The same for an option that may be None, of which cyclopts does not tell a converter.

    Raises CycloptsError.
    """
    try:
        return read(hint, tokens)
    except CycloptsError:
        if isinstance(tokens, abc.Mapping) or "." in (tokens[0].keyword or ""):  # of a field
            raise
        if [token.value.lower() for token in tokens] in (["none"], ["null"]):
            return None
        raise


def _read_tokens(hint: Any, tokens: Sequence[Token]) -> Any:
    """Raises CycloptsError and ValueError."""
    members, read_text = members_of(hint), _read_text
    if _mixes(hint):  # a number with a point is the float
        read_text = partial(_read_text, whole=int)
    if any(_is_json(token) for token in tokens):
        for member in members:
            if _origin(member) in (*LISTS, *DICTS):
                return _read_nested(member, tokens)
    if isinstance(hint, type) and issubclass(hint, Flag):
        return reduce(or_, (_read_member(hint, token.value) for token in tokens))
    if int in members and float in members and len(tokens) == 1:
        with contextlib.suppress(ValueError):
            return int(tokens[0].value)
    return convert(hint, tokens, converter=read_text)


# -- types -----------------------------------------------------------------------------------


def _origin(hint: Any) -> Any:
    return typing.get_origin(hint) or hint


def members_of(hint: Any) -> tuple[Any, ...]:
    """Those of a union; of another type itself."""
    return typing.get_args(hint) if _origin(hint) in (Union, types.UnionType) else (hint,)


def has_other_keys(hint: Any) -> bool:
    """Whether a type is that of dictionaries whose keys are no texts."""
    keys = typing.get_args(hint)[:1]
    return _origin(hint) in DICTS and bool(keys) and keys[0] is not str


def has_single_words(hint: Any) -> bool:
    """Whether each element of a list is one word: a list as JSON.

    cyclopts counts the words of the innermost type.
    """
    inner = typing.get_args(hint)[:1]
    if _origin(hint) not in LISTS or not inner:
        return False
    fixed = _origin(inner[0]) is tuple and ... not in typing.get_args(inner[0])
    return _origin(inner[0]) in LISTS and not fixed


def _mixes(hint: Any) -> bool:
    """Whether there is a union of int and float in a type."""
    members = members_of(hint)
    mixed = int in members and float in members
    return mixed or any(_mixes(inner) for inner in typing.get_args(hint))


def _items(hint: Any) -> tuple[Any, Any]:
    """The types of a dictionary's keys and values."""
    for member in members_of(hint):
        if _origin(member) in DICTS and typing.get_args(member):
            return typing.get_args(member)
    return str, str


# -- texts -----------------------------------------------------------------------------------


def _read_text(hint: Any, text: str, whole: Callable[[str], int] | None = None) -> Any:
    """A value that is no list, dictionary or union.

    Raises ValueError.
    """
    if hint is int:
        return (whole or _read_int)(text)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _read_member(hint, text)
    try:
        return _read_duration(text) if hint is timedelta else convert(hint, [text])
    except (CoercionError, ArithmeticError) as error:  # the latter is decimal's way to say so
        raise ValueError from error


def _read_int(text: str) -> int:
    """A whole number, also as 0x1f or 3.0; what has a fraction is none.

    Raises ValueError.
    """
    whole = WHOLE.fullmatch(text)
    if whole:
        return int(whole[1])
    based = re.fullmatch(r"[+-]?0[xob].+", text, re.IGNORECASE)
    return int(text, 0 if based else 10)


def _read_member(hint: type[Enum], text: str) -> Any:
    """A member by its name, or else by its value.

    Raises ValueError.
    """
    try:
        return convert(hint, [text])
    except CoercionError:
        pass
    for member in hint:
        if _means(member.value, text):
            return member
    if issubclass(hint, Flag):
        return hint(_read_int(text))
    raise ValueError


def _means(value: Any, text: str) -> bool:
    """Whether a text stands for a value."""
    if str(value) == text:
        return True
    if not isinstance(value, bool | int | float):
        return False
    try:
        return bool(_read_text(type(value), text) == value)
    except ValueError:
        return False


def _read_duration(text: str) -> timedelta:
    """Seconds (90), units (1h30m), a clock (1:30:00), or ISO 8601 (PT1H30M).

    Raises ValueError.
    """
    sign = -1 if text.startswith("-") else 1
    plain = text.strip().removeprefix("-")
    try:
        return sign * timedelta(seconds=float(plain))
    except OverflowError as error:
        raise ValueError from error
    except ValueError:
        pass
    if found := ISO.fullmatch(plain):
        weeks, days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
        return sign * timedelta(days, seconds, 0, 0, minutes, hours, weeks)
    if found := CLOCK.fullmatch(plain):
        days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
        return sign * timedelta(days, seconds, 0, 0, minutes, hours)
    duration: timedelta = convert(timedelta, [plain])
    return sign * duration


# -- JSON ------------------------------------------------------------------------------------


def _is_json(token: Token) -> bool:
    return token.value.lstrip()[:1] in ("[", "{")


def _parse(text: str) -> Any:
    """JSON; of a list of lists cyclopts has made the text of a Python list for each element."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            raise ValueError(f"{text!r} is no JSON: {error}") from None


def _read_nested(hint: Any, tokens: Sequence[Token]) -> Any:
    """A list or dictionary of which something is written as JSON."""
    if _origin(hint) in DICTS:
        return _read_data(hint, _parse(tokens[0].value))
    inner = next(iter(typing.get_args(hint)), str)
    if not any(
        _origin(member) in (*LISTS, *DICTS) or _fields(member) for member in members_of(inner)
    ):
        if len(tokens) == 1 and inner is not str:
            return _read_data(hint, _parse(tokens[0].value))
        return convert(hint, tokens, converter=_read_text)
    return _read_data(hint, [_parse(t.value) if _is_json(t) else _plain(t) for t in tokens])


def _plain(token: Token) -> Any:
    """An element that is no list; cyclopts gives JSON's null as a value beside the text."""
    return None if token.implicit_value is None else token.value


def _read_data(hint: Any, data: Any) -> Any:
    """A value of a type from what JSON is read as.

    Raises ValueError where it is none of that type.
    """
    members, origin = members_of(hint), _origin(hint)
    if len(members) > 1:
        return _read_union(members, data)
    if hint in (Any, object):
        return data
    if origin is Annotated:
        return _read_data(typing.get_args(hint)[0], data)
    if origin is Literal:
        return _read_choice(typing.get_args(hint), data)
    if origin in DICTS and isinstance(data, dict):
        of_keys, of_values = typing.get_args(hint) or (str, Any)
        return {_read_text(of_keys, k): _read_data(of_values, v) for k, v in data.items()}
    if origin in LISTS and isinstance(data, list | tuple):
        return LISTS[origin](_read_elements(hint, data))
    if _fields(hint) and isinstance(data, dict):
        return _read_fields(hint, data)
    return _read_scalar(hint, data)


def _read_union(members: tuple[Any, ...], data: Any) -> Any:
    """By the member whose type it has; else by the first that takes it."""
    for member in sorted(members, key=lambda member: _origin(member) is not type(data)):
        try:
            return _read_data(member, data)
        except ValueError:
            continue
    raise ValueError(f"{data!r} is none of {', '.join(map(_named, members))}")


def _read_choice(choices: tuple[Any, ...], data: Any) -> Any:
    for choice in choices:
        if choice == data and type(choice) is type(data):
            return choice
    raise ValueError(f"{data!r} is none of {', '.join(map(repr, choices))}")


def _read_elements(hint: Any, data: Sequence[Any]) -> Iterator[Any]:
    inner = typing.get_args(hint)
    if _origin(hint) is tuple and inner and inner[-1] is not ...:
        if len(inner) != len(data):
            raise ValueError(f"{data!r} has {len(data)} elements, not {len(inner)}")
        return map(_read_data, inner, data)
    return (_read_data(inner[0] if inner else Any, item) for item in data)


def _fields(hint: Any) -> dict[str, Any]:
    """Names and types of what a dataclass, a NamedTuple, a TypedDict or a model is made from."""
    if dataclasses.is_dataclass(hint):
        made = {field.name for field in dataclasses.fields(hint) if field.init}
        return {k: v for k, v in typing.get_type_hints(hint).items() if k in made}
    if hasattr(hint, "_fields") or hasattr(hint, "model_fields") or typing.is_typeddict(hint):
        return typing.get_type_hints(hint)
    return {}


def _read_fields(hint: Any, data: dict[str, Any]) -> Any:
    """Raises ValueError."""
    if hasattr(hint, "model_validate"):  # pydantic's own reading, with its aliases and checks
        return hint.model_validate(data)
    known = _fields(hint)
    for name in data:
        if name not in known:
            raise ValueError(f"{_named(hint)} has no field {name!r}")
    try:
        return hint(**{name: _read_data(known[name], item) for name, item in data.items()})
    except TypeError as error:
        raise ValueError(f"{_named(hint)}: {error}") from error


def _read_scalar(hint: Any, data: Any) -> Any:
    if data is None or isinstance(data, bool):
        fits = hint in (type(data), None)
    else:
        fits = hint is type(data) or (hint is float and isinstance(data, int))
    if fits:
        return float(data) if hint is float else data
    if isinstance(data, str) or (hint not in (str, bool) and _is_number(data)):
        with contextlib.suppress(ValueError):
            return _read_text(hint, str(data))
    raise ValueError(f"{data!r} is no {_named(hint)}")


def _is_number(data: Any) -> bool:
    return isinstance(data, int | float) and not isinstance(data, bool)


def _named(hint: Any) -> str:
    return getattr(hint, "__name__", None) or str(hint)


# -- words -----------------------------------------------------------------------------------


def join_dashed(words: Sequence[str], options: ArgumentCollection) -> list[str]:
    """`--text -x` as `--text=-x`: behind an option a word that names no other option is its value.

    An option that takes any number is written before each value that has one dash.
    """
    found: list[str] = []
    option, first, count, several = "", False, 0, False  # `first`: the word before is the option
    for position, word in enumerate(words):
        if word == "--":
            return [*found, *words[position:]]
        known = _option(word, options) if word.startswith("-") else None
        dashed = word.startswith("-") and known is None and word not in HELP
        if known is not None:
            count, several = known.token_count()
            option = word if count and "=" not in word else ""
            found.append(word)
        elif option and first and dashed:
            found[-1] += f"={word}"
        elif option and first and count > 1 and word.startswith("["):
            found += _split(word, count, several)
        elif option and several and dashed and not word.startswith("--"):
            found.append(f"{option}={word}")
        else:
            found.append(word)
        first = known is not None
    return found


def _split(word: str, count: int, several: bool) -> list[str]:
    """The words of a tuple, or of tuples, that is written as JSON; cyclopts knows plain ones."""
    try:
        data = json.loads(word)
    except json.JSONDecodeError:
        return [word]
    if several and not all(isinstance(row, list) and len(row) == count for row in data):
        return [word]
    items = [item for row in data for item in row] if several else data
    texts = [item if isinstance(item, str) else json.dumps(item) for item in items]
    plain = not any(isinstance(item, list | dict) or str(item).startswith("--") for item in items)
    return texts if plain and texts else [word]


def _option(word: str, options: ArgumentCollection) -> Any:
    """The argument that a word is an option of; None where it is of none."""
    try:
        argument, _, _ = options.match(word.split("=", 1)[0])
    except ValueError:
        return None
    loose = argument.field_info.kind is argument.field_info.VAR_KEYWORD  # takes any name
    return None if loose and not word.startswith("--") else argument

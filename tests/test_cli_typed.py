"""What the words behind `pipedeco run FILE` become: values of the signature's types, exactly."""

import dataclasses
import enum
import shlex
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple, Optional, TypedDict

import pytest
from cyclopts import CycloptsError
from pydantic import BaseModel

from pipedeco import pipeline
from pipedeco.cli.running import parse
from pipedeco.errors import ConfigError


class Level(enum.Enum):
    LOW = "l"
    HIGH = "h"
    TENTH = 0.1


class Code(enum.IntEnum):
    OK = 200
    GONE = 410


class Access(enum.IntFlag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Inner:
    depth: int = 1
    name: str | None = None


@dataclasses.dataclass
class Settings:
    size: int
    rate: Optional[float] = 0.5  # noqa: UP045 - as users write it
    inner: Inner = dataclasses.field(default_factory=Inner)
    sizes: list[int] = dataclasses.field(default_factory=list)


class Model(BaseModel):
    size: int = 0
    text: str = ""


class Point(NamedTuple):
    x: int
    y: int = 0


class Row(TypedDict):
    x: int


def parsed(annotation: Any, words: str, **more: Any) -> Any:
    """The value of the option --v of a pipeline for a command line."""

    @pipeline
    def p(v=None, other: int = 0, flag: bool = False):
        return v

    p.fn.__annotations__["v"] = annotation
    call = parse(p, "app.py", tuple(shlex.split(words)))
    assert call is not None
    assert not call[0]
    return call[1].get("v")


MIXED = float | int  # in this order a number without a point would lose digits as a float

EXACT = [
    (int, "--v -3", -3),
    (int, "--v 0x1F", 31),
    (int, "--v 30.0", 30),
    (int, "--v 9007199254740993.0", 9007199254740993),
    (int | float | None, "--v 1.5", 1.5),
    (int | float | None, "--v 1.0", 1.0),
    (int | float | None, "--v 2", 2),
    (int | float | None, "--v none", None),
    (MIXED, "--v 9007199254740993", 9007199254740993),
    (list[int | float], "--v 1 2.0", [1, 2.0]),
    (int | None, "--v none", None),
    (int | str, "--v 1.5", "1.5"),
    (Decimal, "--v 1.10", Decimal("1.10")),
    (list[int], "--v 1 -2", [1, -2]),
    (list[int], "--v '[1, -2]'", [1, -2]),
    (set[int], "--v '[1, 2]'", {1, 2}),
    (tuple[int, str], "--v 1 x", (1, "x")),
    (tuple[int, str], """--v '[1, "x y"]'""", (1, "x y")),
    (list[tuple[int, str]], """--v '[[1, "a"], [2, "b"]]'""", [(1, "a"), (2, "b")]),
    (tuple[tuple[int, int], ...], "--v '[[1, 2], [3, 4]]'", ((1, 2), (3, 4))),
    (list[list[int]], "--v '[[1, 2], [], [3]]'", [[1, 2], [], [3]]),
    (list[list[int]], "--v '[]'", []),
    (list[list[list[int]]], "--v '[[[1]], [[2, 3]]]'", [[[1]], [[2, 3]]]),
    (Sequence[Sequence[int]], "--v '[[1]]'", [[1]]),
    (list[list[str]], r"""--v '[["it\u0027s", "a\nb"], ["true"]]'""", [["it's", "a\nb"], ["true"]]),
    (list[list[int | None]], "--v '[[1, null], [2]]'", [[1, None], [2]]),
    (list[list[tuple[int, int]]], "--v '[[[1, 2]], [[3, 4]]]'", [[(1, 2)], [(3, 4)]]),
    (list[list[bool]], "--v '[[true, false]]'", [[True, False]]),
    (list[list[Level]], """--v '[["l", "HIGH", 0.1]]'""", [[Level.LOW, Level.HIGH, Level.TENTH]]),
    (list[list[date]], """--v '[["2024-02-29"]]'""", [[date(2024, 2, 29)]]),
    (dict[str, list[int]], """--v '{"a": [1, 2]}'""", {"a": [1, 2]}),
    (dict[str, dict[str, int]], """--v '{"a": {"b": 1}}'""", {"a": {"b": 1}}),
    (dict[str, dict[str, int]], "--v.a.b 1", {"a": {"b": 1}}),
    (dict[str, list[list[str]]], """--v '{"a": [["x"]]}'""", {"a": [["x"]]}),
    (dict[int, str], """--v '{"1": "x"}'""", {1: "x"}),
    (dict[str, Any], """--v '{"a": [1.5, null]}'""", {"a": [1.5, None]}),
    (list[dict[str, int]], """--v '[{"a": 1}, {"b": 2}]'""", [{"a": 1}, {"b": 2}]),
    (Level, "--v l", Level.LOW),
    (Level, "--v HIGH", Level.HIGH),
    (Level, "--v 0.10", Level.TENTH),
    (Code, "--v 410", Code.GONE),
    (Code, "--v ok", Code.OK),
    (list[Code], "--v 200 gone", [Code.OK, Code.GONE]),
    (Access, "--v read write", Access.READ | Access.WRITE),
    (Access, "--v 2", Access.WRITE),
    (timedelta, "--v 90", timedelta(seconds=90)),
    (timedelta, "--v 90s", timedelta(seconds=90)),
    (timedelta, "--v 1h30m", timedelta(hours=1.5)),
    (timedelta, "--v PT1H", timedelta(hours=1)),
    (timedelta, "--v P1DT2H30M0.5S", timedelta(days=1, hours=2.5, seconds=0.5)),
    (timedelta, "--v -PT1H", timedelta(hours=-1)),
    (timedelta, "--v '1 day, 2:03:04'", timedelta(days=1, hours=2, minutes=3, seconds=4)),
    (timedelta | None, "--v 1.5", timedelta(seconds=1.5)),
    (str, "--v -x", "-x"),
    (str, "--v --x=1", "--x=1"),
    (str, "--v -", "-"),
    (str, "--v ''", ""),
    (str | None, "--v -none", "-none"),
    (Path, "--v -x", Path("-x")),
    (list[str], "--v -a b -c", ["-a", "b", "-c"]),
    (tuple[str, str], "--v -a b", ("-a", "b")),
    (Literal[1, 2, "a"], "--v 2", 2),
    (Settings, "--v.size 1 --v.rate none --v.inner.name x", Settings(1, None, Inner(name="x"))),
    (Settings, """--v '{"size": 1, "sizes": [2], "rate": null}'""", Settings(1, None, sizes=[2])),
    (list[Settings], """--v '[{"size": 1, "inner": {"depth": 2}}]'""", [Settings(1, 0.5, Inner(2))]),
    (Model, "--v.size 1 --v.text -x", Model(size=1, text="-x")),
    (list[Model], """--v '[{"size": 1}]'""", [Model(size=1)]),
    (list[Point], """--v '[{"x": 1}]'""", [Point(1)]),
    (Row, """--v '{"x": 1}'""", {"x": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "words", "value"), EXACT)
def test_a_value_is_exactly_what_was_typed(annotation, words, value):
    """Its type is that of the annotation, its digits are those of the text."""
    found = parsed(annotation, words)
    assert found == value
    assert type(found) is type(value)
    if isinstance(value, list | tuple):
        assert list(map(type, found)) == list(map(type, value))


REFUSED = [
    (int, "--v 1.5"),
    (int, "--v abc"),
    (int, "--v 1e3"),
    (int | None, "--v 0.5"),
    (list[int], "--v 1 2.5"),
    (list[int], "--v '[1, 2.5]'"),
    (list[int], "--v '[true]'"),
    (tuple[int, ...], "--v 1.5"),
    (tuple[int, str], "--v 1.5 x"),
    (tuple[int, str], """--v '[1.5, "x"]'"""),
    (tuple[tuple[int, int], ...], "--v '[[1], [2, 3], [4]]'"),
    (list[list[int]], "--v '[[1, 2.5]]'"),
    (list[list[int]], "--v '[[1, true]]'"),
    (list[list[int]], "--v '[[1'"),
    (list[list[str]], "--v '[[1]]'"),
    (dict[str, int], "--v.a 1.5"),
    (dict[str, int], """--v '{"a": 1.5}'"""),
    (dict[str, list[int]], """--v '{"a": [1.5]}'"""),
    (Settings, "--v.size 1.5"),
    (Settings, "--v.size 1 --v.sizes 2.5"),
    (Settings, """--v '{"size": 1.5}'"""),
    (list[Settings], """--v '[{"size": 1.5}]'"""),
    (list[Settings], """--v '[{"size": 1, "more": 2}]'"""),
    (Settings, "--v.size none"),
    (Model, "--v.size 1.5"),
    (Point, "--v.x 1.5"),
    (Row, "--v.x 1.5"),
    (Literal[1, 2], "--v 1.5"),
    (Level, "--v m"),
    (Code, "--v 7"),
    (timedelta, "--v soon"),
    (timedelta, "--v PT"),
    (Decimal, "--v x"),
    (bool, "--v=maybe"),
    (str, "--v --other 1"),
    (str, "--v --flag"),
    (str, "--v"),
    (list[str], "--v a --ohter 1"),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "words"), REFUSED)
def test_what_does_not_fit_is_refused(annotation, words):
    """Nothing is rounded, cut or guessed; the sentence names the option."""
    with pytest.raises(CycloptsError) as caught:
        parsed(annotation, words)
    told = str(caught.value)
    assert any(name in told for name in ("--v", "[v]", "--ohter", "Model")), told


def test_any_number_of_arguments_and_options():
    """`*args` and `**kwargs` are read by the same rules."""

    @pipeline
    def p(*rows: int, **more: int):
        return rows, more

    assert parse(p, "app.py", ("1", "-2", "--x", "3")) == ((1, -2), {"x": 3})
    assert parse(p, "app.py", ("1", "--", "-2")) == ((1, -2), {})
    for words in (("1.5",), ("--x", "1.5")):
        with pytest.raises(CycloptsError, match="into int"):
            parse(p, "app.py", words)


def test_an_option_that_is_missing_is_told_as_missing():
    """With what stands where no option takes it; one without its value is another mistake."""

    @pipeline
    def p(n: int, text: str):
        return n, text

    see = "see pipedeco run app.py --help"
    for words, sentence in (
        ((), f"the option --n is missing; {see}"),
        (("5",), f"the option --n is missing; '5' follows no option: write --n 5; {see}"),
        (("--n", "5"), f"the option --text is missing; {see}"),
    ):
        with pytest.raises(ConfigError) as caught:
            parse(p, "app.py", words)
        assert str(caught.value) == sentence
    with pytest.raises(CycloptsError, match="--text requires an argument"):
        parse(p, "app.py", ("--n", "5", "--text"))


def test_help_is_no_value(capsys):
    """Behind an option it is asked for, too."""

    @pipeline
    def p(text: str = ""):
        return text

    for words in (("--help",), ("--text", "--help"), ("--text", "-h")):
        assert parse(p, "app.py", words) is None
        assert "--text" in capsys.readouterr().out


def test_a_rerun_reads_values_by_the_same_rules():
    """Recorded values stand where nothing is typed."""

    @pipeline
    def p(n: int, level: Level = Level.LOW):
        return n, level

    recorded = {"n": 1, "level": Level.LOW}
    assert parse(p, "p#1", ("--level", "h"), recorded=recorded, command="rerun") == (
        (),
        {"level": Level.HIGH},
    )
    with pytest.raises(CycloptsError, match="into int"):
        parse(p, "p#1", ("--n", "1.5"), recorded=recorded, command="rerun")

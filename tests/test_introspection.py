"""What others read off a component and a pipeline is what they read off the function."""

import asyncio
import functools
import gc
import inspect
import sys
import typing
import weakref

import fastapi
import pydantic
import pytest
import typer
from IPython.core.oinspect import Inspector
from typer.testing import CliRunner

from pipedeco import component, pipeline


def plain(n: int, *more: "float", factor: int = 2) -> "list[float]":
    """What it is for."""
    return [n * factor, *more]


load = component(plain)
body = pipeline(plain)


@pipeline
def scaled(n: int = 1, factor: float = 2.0) -> float:
    return load(n)[0] * factor


@component
async def fetch(url: str) -> bytes:
    """Get it."""
    return url.encode()


class Study:
    @component
    def note(self, text: str = "x") -> str:
        """Take a note."""
        return text

    @pipeline
    def report(self, text: str = "x") -> str:
        """Tell it."""
        return self.note(text)


each = pytest.mark.parametrize(
    "decorated", [load, body, load.with_options(retries=1), body.with_options(workers=1)]
)


@each
def test_hints_and_signature_are_those_of_the_function(decorated):
    assert typing.get_type_hints(decorated) == typing.get_type_hints(plain)
    assert inspect.signature(decorated) == inspect.signature(plain)
    assert inspect.signature(decorated.__call__) == inspect.signature(plain)
    assert inspect.get_annotations(decorated) == plain.__annotations__
    assert inspect.getsource(decorated) == inspect.getsource(plain)
    assert inspect.getdoc(decorated) == "What it is for."


@each
def test_so_are_the_attributes_that_functions_have(decorated):
    for name in ("__defaults__", "__kwdefaults__", "__name__", "__qualname__", "__module__"):
        assert getattr(decorated, name) == getattr(plain, name)
    assert decorated.fn is decorated.__wrapped__ is plain


def test_type_parameters_are_those_of_the_function():
    made = {}
    parameters = "[T]" if sys.version_info >= (3, 12) else ""
    exec(f"def first{parameters}(items): return items[0]", made)
    known, seen = (
        getattr(f, "__type_params__", ()) for f in (made["first"], component(made["first"]))
    )
    assert seen == known


@each
def test_a_wrapper_made_with_functools_has_them_too(decorated):
    @functools.wraps(decorated)
    def wrapper(*args, **kwargs):
        return decorated(*args, **kwargs)

    assert typing.get_type_hints(wrapper) == typing.get_type_hints(plain)
    assert inspect.signature(wrapper) == inspect.signature(plain)


@pytest.mark.parametrize("name", ["note", "report"])
def test_a_method_is_one_without_its_self(name):
    bound, function = getattr(Study(), name), getattr(Study, name).fn
    assert str(inspect.signature(bound)) == "(text: str = 'x') -> str"
    assert inspect.signature(bound.__call__) == inspect.signature(bound)
    assert str(inspect.signature(getattr(Study, name))) == "(self, text: str = 'x') -> str"
    assert typing.get_type_hints(bound) == {"text": str, "return": str}
    assert (bound.__name__, bound.__doc__) == (function.__name__, function.__doc__)
    assert bound.fn("y") == ("y" if name == "note" else Study().note("y"))


def test_annotations_that_nobody_can_resolve_are_kept_as_they_are():
    @component
    def late(x: "Nowhere") -> "Nowhere":  # noqa: F821 - there is no such name
        return x

    assert late.__annotations__ == {"x": "Nowhere", "return": "Nowhere"}
    with pytest.raises(NameError, match="Nowhere"):
        typing.get_type_hints(late)


def test_callables_of_other_kinds_have_what_they_have():
    half = component(functools.partial(plain, factor=1))
    assert (
        str(inspect.signature(half)) == "(n: int, *more: 'float', factor: int = 1) -> 'list[float]'"
    )
    assert half(3) == [3]
    assert component(max)(1, 2) == 2


@each
def test_only_public_names_are_offered(decorated):
    offered = {name for name in dir(decorated) if not name.startswith("_")}
    common = {"fn", "name", "options", "with_options"}
    more = (
        {"submit"}
        if "component" in repr(decorated)
        else {"debug", "local", "remote", "start", "trace"}
    )
    assert offered == common | more
    assert not [name for name in dir(decorated) if name.startswith("_") and not name.endswith("__")]
    assert {"__call__", "__doc__", "__wrapped__"} <= set(dir(decorated))


def test_a_bound_method_offers_what_its_component_does():
    assert {"fn", "submit", "with_options"} <= set(dir(Study().note))
    assert "named_arguments" not in dir(Study().note)


@pytest.mark.parametrize("shown", [load, body, Study().note])
def test_ipython_shows_the_signature_once(shown):
    told = Inspector(theme_name="nocolor").info(shown, "shown")
    assert told["definition"] == f"shown{inspect.signature(shown)}"
    assert not told["call_def"]
    assert told["call_docstring"] in (None, shown.__doc__)
    assert told["docstring"] == shown.__doc__


def test_the_call_that_is_looked_at_can_be_called():
    assert load.__call__(1, factor=3) == [3]
    assert Study().note.__call__("y") == "y"


def test_a_component_is_gone_with_its_last_reference():
    gc.disable()
    try:
        made = component(lambda: 1)
        seen = weakref.ref(made)
        del made
        assert seen() is None
    finally:
        gc.enable()


def test_an_async_component_can_be_awaited_outside_a_pipeline():
    async def both():
        return await fetch("x"), await fetch.fn("y")

    assert asyncio.run(both()) == (b"x", b"y")


# -- libraries that read them


@pytest.fixture
def debug(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPEDECO_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("PIPEDECO_MODE", "debug")


def test_typer_makes_a_command_of_a_pipeline(debug):
    app = typer.Typer()

    @app.command()
    @pipeline
    def train(n: int = 1, factor: float = 2.0) -> None:
        """Train it."""
        print("trained", load(n)[0] * factor)

    done = CliRunner().invoke(app, ["--n", "3", "--factor", "1.5"])
    assert done.stdout.splitlines() == ["trained 9.0"]
    assert "Train it." in CliRunner().invoke(app, ["--help"]).stdout
    assert CliRunner().invoke(app, ["--n", "three"]).exit_code == 2


def test_fastapi_makes_a_route_of_a_pipeline_and_of_a_component(debug):
    app = fastapi.FastAPI()
    app.get("/scaled")(scaled)
    app.get("/page")(fetch)
    paths = app.openapi()["paths"]
    asked = {item["name"]: item["schema"]["type"] for item in paths["/scaled"]["get"]["parameters"]}
    assert asked == {"n": "integer", "factor": "number"}
    assert paths["/page"]["get"]["parameters"][0]["name"] == "url"
    assert paths["/page"]["get"]["description"] == "Get it."
    assert asyncio.run(answer(app, "/scaled", b"n=3&factor=0.5")) == (200, b"3.0")
    assert asyncio.run(answer(app, "/page", b"url=x")) == (200, b'"x"')
    assert asyncio.run(answer(app, "/scaled", b"n=three"))[0] == 422


async def answer(app, path, query):
    """Status and body that an ASGI application answers with."""
    sent = []
    asked = {"type": "http.request", "body": b"", "more_body": False}
    scope = {"type": "http", "method": "GET", "path": path, "query_string": query, "headers": []}

    async def receive():
        await asyncio.sleep(0)
        return asked

    async def send(message):
        await asyncio.sleep(0)
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def test_pydantic_checks_the_arguments_of_a_pipeline(debug):
    @pipeline
    @pydantic.validate_call
    def checked(n: int) -> float:
        return scaled(n)

    # It takes functions alone, and names `__call__` as what to give it of anything else.
    for train in (checked, pydantic.validate_call(scaled.__call__)):
        assert train("3") == 12.0
        with pytest.raises(pydantic.ValidationError, match="valid integer"):
            train("three")

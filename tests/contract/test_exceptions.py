"""`except` in a body takes what it takes without decorators, also of what pickle cannot make again."""

import argparse
import copy
import pickle
import threading
import traceback
from dataclasses import dataclass

import pytest

from pipedeco import StepFailed, component, get_run, pipeline, value

in_workers = pytest.mark.parametrize("mode", ["local", "remote"], indirect=True)


class Refused(ConnectionError):
    """Takes what is not in its arguments, and holds what does not travel."""

    def __init__(self, host, *, port):
        super().__init__(f"{host}:{port} refuses")
        self.host = host
        self.port = port
        self.answers = (n for n in range(port))


class Sealed(RuntimeError):
    """Lets nobody set what it has."""

    def __init__(self, code, *, why):
        super().__init__(f"code {code}")
        self.__dict__.update(code=code, why=why)

    def __setattr__(self, name, value):
        if not name.startswith("__"):
            raise AttributeError(f"{name} is sealed")
        super().__setattr__(name, value)


class Slotted(LookupError):
    __slots__ = ("key", "lines")

    def __init__(self, key, lines):
        self.key = key
        self.lines = lines


@dataclass(slots=True)
class Parsed(ValueError):
    """Travels whole, though it keeps all that it has in slots."""

    line: int
    rest: list


@dataclass(frozen=True)
class Frozen(ValueError):
    """Lets nobody set anything, not even what Python sets as it is raised."""

    code: int


class Grouped(ExceptionGroup):
    def __new__(cls, errors, source):
        made = super().__new__(cls, f"from {source}", errors)
        made.source = source
        return made

    def __init__(self, errors, source):
        pass


@component
def refuse():
    raise Refused("here", port=8)  # the line that fails


@component
def chained():
    try:
        refuse.fn()
    except Refused as error:
        error.add_note("tried once")
        raise ValueError("outer") from error


@component
def locally():
    class Local(KeyError):
        def __init__(self, key, *, shelf):
            super().__init__(key)
            self.shelf = shelf
            self.lines = (n for n in range(3))

    raise Local("k", shelf=3)


@component
def sealed():
    raise Sealed(4, why="broken")


@component
def slots():
    raise Slotted("k", (n for n in range(3)))


@component
def renamed():
    error = FileNotFoundError(2, "No such file", "a.txt")
    error.lines = (n for n in range(3))
    raise error


@component
def grouped():
    raise ExceptionGroup("both", [Refused("a", port=1), ValueError(2)])


@component
def grouped_by_class():
    raise Grouped([Refused("a", port=1), ValueError(2)], "x")


@component
def within_itself():
    error = Refused("here", port=8)
    error.same = error
    error.__cause__ = error
    raise error


def caught(step, kind):
    """What a body catches of a step."""
    found = []

    @pipeline
    def body():
        try:
            value(step())
        except kind as error:
            found.append(error)

    body()
    return found[0]


def test_by_a_base_class(mode):
    """A class whose constructor cannot be called again, by itself and by each of its bases."""
    for kind in (Refused, ConnectionError, OSError):
        error = caught(refuse, kind)
        assert isinstance(error, Refused)
        assert str(error) == "here:8 refuses"
        assert (error.host, error.port, error.args) == ("here", 8, ("here:8 refuses",))
        assert type(error).__name__ == "Refused"


@in_workers
def test_as_step_failed(mode):
    """It is a StepFailed too, which knows its run, and says of an attribute that it is lost."""
    error = caught(refuse, StepFailed)
    assert isinstance(error, Refused)
    assert error.step == "refuse"
    assert error.type.endswith("Refused")
    with pytest.raises(AttributeError, match="'answers' of this Refused could not travel"):
        error.answers  # noqa: B018 - raises
    assert not hasattr(error, "nothing")


def test_the_traceback(mode):
    """Its traceback ends at the line that failed, and it is shown by its own name."""
    error = caught(refuse, Refused)
    assert traceback.extract_tb(error.__traceback__)[-1].name == "refuse"
    assert "the line that fails" in "".join(traceback.format_exception(error))
    assert traceback.format_exception_only(error)[0].endswith("Refused: here:8 refuses\n")


def test_as_a_cause(mode):
    """An exception that travels has a cause that does not, with its notes."""
    error = caught(chained, ValueError)
    assert type(error) is ValueError
    assert isinstance(error.__cause__, Refused)
    assert error.__cause__ is error.__context__
    assert error.__cause__.__notes__ == ["tried once"]


def test_a_local_class(mode):
    """Of a class that only the step knows, the nearest base is caught; its name stays."""
    error = caught(locally, KeyError)
    assert (str(error), error.shelf) == ("'k'", 3)
    assert type(error).__qualname__ == "locally.<locals>.Local"
    assert get_run().steps["locally"].error.endswith("locally.<locals>.Local: 'k'")


def test_slots_and_pythons_own(mode):
    """Attributes travel that no `__dict__` has."""
    assert caught(slots, LookupError).key == "k"
    error = caught(renamed, FileNotFoundError)
    assert (error.errno, error.strerror, error.filename) == (2, "No such file", "a.txt")
    assert str(error) == "[Errno 2] No such file: 'a.txt'"


@pytest.mark.parametrize("step", [grouped, grouped_by_class])
def test_groups(mode, step):
    """A group arrives as a group: `except*` takes its parts."""
    found = []

    @pipeline
    def body():
        try:
            value(step())
        except* Refused as group:
            found.append(group.exceptions[0].port)
        except* ValueError as group:
            found.append(group.exceptions[0].args)

    body()
    assert found == [1, (2,)]


def test_within_itself(mode):
    """An exception that holds itself is taken apart once."""
    assert str(caught(within_itself, Refused)) == "here:8 refuses"


def test_retry_on(mode):
    """`retry_on` and `except` agree."""
    again = refuse.with_options(retries=1, retry_on=ConnectionError)
    caught(again, ConnectionError)
    assert len(get_run().steps["refuse"].attempts) == 2


@in_workers
def test_made_again(mode):
    """What arrived is pickled and copied, with what it has; it can be raised from."""
    error = caught(refuse, Refused)
    error.add_note("mine")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(other) is type(error)
        assert (str(other), other.port, other.__notes__) == (str(error), 8, error.__notes__)
        assert not hasattr(other, "answers")
    with pytest.raises(ValueError, match="mine") as chain:
        raise ValueError("mine") from error
    assert chain.value.__cause__ is error


def test_read_again(mode):
    """The record has it, too, as the same class."""
    caught(refuse, Refused)
    with pytest.raises(Refused, match="here:8 refuses"):
        get_run().steps["refuse"].result()


def test_through_a_child(mode):
    """Through a child run it stays what it is."""

    @pipeline
    def child():
        return value(refuse())

    @pipeline
    def parent():
        try:
            return value(child())
        except Refused as error:
            return error.port

    assert parent() == 8


def test_sealed(mode):
    """A class that forbids to set attributes."""
    error = caught(sealed, Sealed)
    assert (error.code, error.why, str(error)) == (4, "broken", "code 4")


@component
def in_slots():
    raise Parsed(3, ["x"])


@component
def frozen():
    raise Frozen(7)


def test_all_in_slots(mode):
    error = caught(in_slots, Parsed)
    assert type(error) is Parsed
    assert (error.line, error.rest, error.args) == (3, ["x"], (3, ["x"]))


def test_frozen(mode):
    """Neither the traceback nor a note of ours is set as an attribute."""
    error = caught(frozen, Frozen)
    assert (error.code, error.args) == (7, (7,))
    assert any("in step frozen" in note for note in error.__notes__)


def test_frozen_in_the_body(mode):
    @pipeline
    def body():
        raise Frozen(8)

    with pytest.raises(Frozen) as raised:
        body()
    assert raised.value.code == 8
    assert get_run().status == "failed"


# -- libraries


@component
def requested():
    requests = pytest.importorskip("requests")
    return requests.get("http://127.0.0.1:1/", timeout=2).text


@component
def client_error():
    exceptions = pytest.importorskip("botocore.exceptions")
    made = type("NoSuchKey", (exceptions.ClientError,), {})
    raise made({"Error": {"Code": "NoSuchKey", "Message": "gone"}}, "GetObject")


@component
def rendered():
    pytest.importorskip("jinja2").Environment().from_string("{% if %}")


@component
def parsed():
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--n", type=int)
    parser.parse_args(["--n", "x"])


def test_requests(mode):
    """A ConnectionError of requests, with its request."""
    requests = pytest.importorskip("requests")
    error = caught(requested, requests.ConnectionError)
    assert error.request.url == "http://127.0.0.1:1/"
    assert "Max retries exceeded" in str(error)


def test_botocore(mode):
    """A class that botocore makes while it runs, by its base, with the response."""
    exceptions = pytest.importorskip("botocore.exceptions")
    error = caught(client_error, exceptions.ClientError)
    assert error.response["Error"]["Code"] == "NoSuchKey"


def test_jinja2_and_argparse(mode):
    """Errors of parsers, with what they say."""
    jinja2 = pytest.importorskip("jinja2")
    assert caught(rendered, jinja2.TemplateSyntaxError).lineno == 1
    assert caught(parsed, argparse.ArgumentError).argument_name == "--n"


# -- memory


class Large:
    """Stands for a value that no memory is left for."""

    def __reduce__(self):
        raise MemoryError


@component
def take(value):
    return threading.active_count()


@component
def give():
    return Large()


def test_memory(mode):
    """No memory for an argument, or for a result, is MemoryError and tells what for."""

    @pipeline
    def body(call):
        return value(call())

    with pytest.raises(MemoryError, match="pickle arguments"):
        body(lambda: take(Large()))
    with pytest.raises(MemoryError, match="pickle the result"):
        body(give)

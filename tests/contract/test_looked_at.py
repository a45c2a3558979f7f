"""What a debugger's user looks at changes nothing: watches and hovers read no result and make no step."""

import io
import pdb
import sys

import pytest
from conftest import wait_until

from pipedeco import RunFailed, component, get_run, pipeline, value


@component
def six():
    return 6


@component
def fails():
    raise LookupError("no such thing")


@component
def table():
    return {"rows": [1, 2]}


class Shown:
    rows = 3

    def _repr_html_(self):
        return "<b>shown</b>"


@component
def shown():
    return Shown()


@pipeline
def child(n):
    return six() + n


def looked_at(*commands):
    """What pdb prints for these, stopped at the caller's line."""
    screen = io.StringIO()
    debugger = pdb.Pdb(
        stdin=io.StringIO("\n".join([*commands, "c\n"])), stdout=screen, nosigint=True
    )
    debugger.use_rawinput = False
    debugger.set_trace(sys._getframe(1))
    return screen


def ended(result):
    wait_until(lambda: "completed" in repr(result) or "failed" in repr(result))
    return result


def test_it_reads_nothing(mode):
    @pipeline
    def body():
        a = ended(six())
        screen = looked_at(
            "p a + 1", "p value(a)", "p [x + 1 for x in [a]]", "p a.result() * 7", "!b = 2"
        )
        assert a.step.state == "completed"
        after = table()
        return screen.getvalue(), value(after)

    text = body()[0]
    assert [part in text for part in ("7", "6", "[7]", "42")] == [True] * 4, text
    assert not [edge for edge in get_run().graph.edges if edge[0] == "six"]


def test_it_does_not_take_note_of_a_failure(mode):
    if mode == "debug":
        pytest.skip("a failure leaves at the call")

    @pipeline
    def body():
        b = ended(fails())
        screen = looked_at("p b.exception()", "p b + 1", "p b.done()")
        assert b.step.name == "fails"
        assert "LookupError" in screen.getvalue()
        return 7

    with pytest.raises(RunFailed):
        body()


def test_it_makes_no_steps(mode):
    @pipeline
    def body():
        a = six()
        screen = looked_at("p six()", "p child(a)", "p [six() for _ in range(2)]", "p six.submit()")
        assert a.step.position == 0
        return screen.getvalue(), value(a)

    text = body()[0]
    assert "(Pdb) 6" in text
    assert "12" in text
    assert "[6, 6]" in text
    assert "a debugger makes no steps" in text
    assert list(get_run().steps) == ["six"]


def test_a_result_shows_its_preview(mode):
    @pipeline
    def body():
        a, b = ended(six()), ended(table())
        rows = b["rows"]
        before = repr(rows)
        value(rows)
        return repr(a), repr(b), before, repr(rows)

    assert body() == (
        "<StepResult six completed: 6>",
        "<StepResult table completed: {'rows': [1, 2]}>",
        "<StepResult table['rows'] completed>",
        "<StepResult table['rows'] completed: [1, 2]>",
    )


def test_a_value_that_is_here_is_shown_as_itself(mode):
    @pipeline
    def body():
        a = ended(shown())
        if mode != "debug":
            assert a._repr_html_() is None
            assert "rows" not in dir(a)
            value(a)
        return a._repr_html_(), "rows" in dir(a), "result" in dir(a)

    assert body() == ("<b>shown</b>", True, True)


def test_a_program_under_a_debugger_reads_and_calls_as_ever(mode):
    """Also where its code has no file."""
    names = {"six": six, "pipeline": pipeline}
    source = "@pipeline\ndef body():\n    a = six()\n    return [a + 1, [six() + 1 for _ in [0]]]\n"
    exec(source, names)
    debugger = pdb.Pdb(stdin=io.StringIO("c\n" * 9), stdout=io.StringIO(), nosigint=True)
    debugger.use_rawinput = False
    assert debugger.runcall(names["body"]) == [7, [7]]
    assert list(get_run().steps) == ["six", "six-2"]

"""What a component declares that it returns, and what it returns: unpacking is Python's."""

import pytest

from pipedeco import RunFailed, component, get_run, pipeline, value

DECLARED_NAMES = ("low", "high")


def made(returned, **options):
    """A component that returns this."""

    def give():
        return returned

    return component(**options)(give) if options else give


def annotated(returned):
    def give() -> tuple[int, int]:
        return returned

    return component(give)


@component
def same(x):
    return x


WRONG = {
    "three for two": (1, 2, 3),
    "one for two": (1,),
    "none for two": [],
    "a long text": "xyz",
    "a set of three": {1, 2, 3},
    "a dict with other names": {"low": 1, "high": 2, "mean": 3},
    "a number": 7,
    "None": None,
}

RIGHT = {
    "a tuple": (1, 2),
    "a list": [1, 2],
    "a text of two": "ab",
    "a range": range(2),
    "a dict with other names": {"x": 1, "y": 2},
}


def as_bare(returned):
    """What Python's own unpacking does."""
    try:
        a, b = returned
    except (ValueError, TypeError) as error:
        return type(error), str(error).partition(", got 3")[0].rstrip(")")
    return a, b


@pytest.mark.parametrize("form", ["annotation", "names", "number"])
@pytest.mark.parametrize("case", WRONG)
def test_another_number_of_outputs_is_pythons_error(mode, case, form):
    """Reading a part, passing one on, and reading none all end in what Python raises."""
    kinds = {
        "annotation": annotated,
        "names": lambda x: made(x, outputs=DECLARED_NAMES),
        "number": lambda x: made(x, outputs=2),
    }
    give = kinds[form](WRONG[case])
    kind, text = as_bare(WRONG[case])

    @pipeline
    def reads():
        low, _high = give()
        return value(low)

    @pipeline
    def passes_on():
        _low, high = give()
        return same([high])

    @pipeline
    def reads_none():
        _low, _high = give()
        return 1

    for body in (reads, passes_on, reads_none):
        with pytest.raises(kind) as caught:
            body()
        assert str(caught.value).startswith(text)
        assert "declares 2 outputs" in "".join(caught.value.__notes__)
        assert get_run().status == "failed"


@pytest.mark.parametrize("case", RIGHT)
def test_what_python_unpacks_is_unpacked(mode, case):
    give = made(RIGHT[case], outputs=2)

    @pipeline
    def body():
        a, b = give()
        return same(a), value(b)

    assert body() == as_bare(RIGHT[case])


def test_a_dict_with_the_declared_names_is_taken_by_name(mode):
    give = made({"high": 9, "low": 1}, outputs=DECLARED_NAMES)

    @pipeline
    def body():
        whole = give()
        low, high = whole
        return low, same(high), whole["high"]

    assert body() == (1, 9, 9)


def test_the_whole_value_is_what_was_returned(mode):
    """Who does not unpack gets what the component returns, whatever it declares."""
    give = annotated((1, 2, 3))

    @pipeline
    def body():
        whole = give()
        return whole[2], len(whole), value(whole)

    assert body() == (3, 3, (1, 2, 3))


def test_in_debug_mode_the_unpacking_itself_raises(mode):
    if mode != "debug":
        pytest.skip("elsewhere the value is not there yet")
    give = annotated((1, 2, 3))

    reached = []

    @pipeline
    def body():
        _a, _b = give()
        reached.append("the next line")

    with pytest.raises(ValueError, match="too many values"):
        body()
    assert not reached


def test_outputs_of_a_step_that_failed(mode):
    """Its own failure comes first."""

    @component
    def broken() -> tuple[int, int]:
        raise KeyError("k")

    @pipeline
    def body():
        _a, _b = broken()
        return 1

    with pytest.raises((KeyError, RunFailed)):
        body()


def test_outputs_of_a_child_pipeline(mode):
    @pipeline
    def child() -> tuple[int, int]:
        return same(1), same(2), same(3)

    @pipeline
    def body():
        a, _b = child()
        return value(a)

    with pytest.raises(ValueError, match="too many values"):
        body()


def test_an_error_of_unpacking_that_the_body_takes_is_over(mode):
    """It is not raised once more at the end of the run, whoever has met it."""
    give = annotated((1, 2, 3))

    @pipeline
    def reads():
        try:
            low, _high = give()
            return value(low)
        except ValueError:
            return "taken"

    @pipeline
    def passes_on():
        try:
            low, _high = give()
            return value(same(low))
        except ValueError:
            return "taken"

    assert (reads(), passes_on()) == ("taken", "taken")
    assert get_run().status == "completed"

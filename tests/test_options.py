"""The frozen options of components and pipelines."""

import math
import pickle
from functools import partial
from unittest.mock import Mock

import pytest

from pipedeco import Callback, ConfigError, component, pipeline
from pipedeco.options import ComponentOptions, PipelineOptions


@pytest.mark.parametrize("kind", [ComponentOptions, PipelineOptions])
def test_options_never_change(kind):
    """Setting one raises and names the way to another set."""
    with pytest.raises(AttributeError, match=r"options are frozen; use with_options\(name=...\)"):
        kind().name = "other"


@pytest.mark.parametrize("kind", [ComponentOptions, PipelineOptions])
def test_replace_makes_another(kind):
    """The first stays as it is, and what is not named is kept."""
    first = kind(name="first")
    second = first.replace(name="second")
    assert (first.name, second.name) == ("first", "second")
    assert second.as_dict() == {**first.as_dict(), "name": "second"}


@pytest.mark.parametrize("kind", [ComponentOptions, PipelineOptions])
def test_an_unknown_option_is_refused_with_those_that_there_are(kind):
    """A typing error is told with the list of options."""
    with pytest.raises(
        ConfigError, match=r"no option 'nmae'; did you mean name. The options are .*\bname\b"
    ):
        kind().replace(nmae="x")


@pytest.mark.parametrize("decorate", [component, pipeline])
def test_an_unknown_option_of_a_decorator_is_refused_the_same(decorate):
    """The decorators say the same as with_options."""
    with pytest.raises(
        ConfigError, match=r"no option 'nmae'; did you mean name. The options are .*\bname\b"
    ):
        decorate(nmae="x")


@pytest.mark.parametrize(
    "options",
    [
        ComponentOptions(name="fit", retries=2, timeout=3, outputs=["a", "b"], retry_on=OSError),
        PipelineOptions(name="train", workers=3, on_failure="abort", mode="debug", version=2),
    ],
)
def test_options_survive_pickling_and_show_themselves(options):
    """A round trip keeps every option, and repr names them."""
    back = pickle.loads(pickle.dumps(options))
    assert (type(back), back.as_dict()) == (type(options), options.as_dict())
    assert f"name={options.name!r}" in repr(options)


def test_a_wrong_retry_delay_is_told_what_may_stand_there():
    with pytest.raises(ConfigError) as caught:
        ComponentOptions(retry_delay="5s")
    assert str(caught.value) == (
        "retry_delay is a number of seconds of 0 or more, a list of them such as [2, 5, 15], or a "
        "function of the number of the attempt that failed, not '5s'"
    )


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"retry_on": OSError}, {"retry_on": (OSError,)}),
        ({"retry_on": [OSError, KeyError]}, {"retry_on": (OSError, KeyError)}),
        ({"retry_delay": 1}, {"retry_delay": 1.0}),
        ({"retry_delay": [2, 0.5]}, {"retry_delay": (2.0, 0.5)}),
        ({"retry_delay": (2,)}, {"retry_delay": (2.0,)}),
        ({"timeout": 2}, {"timeout": 2.0}),
        ({"outputs": ["a", "b"]}, {"outputs": ("a", "b")}),
        ({"outputs": 2}, {"outputs": 2}),
        ({"depends_on": []}, {"depends_on": ()}),
    ],
)
def test_component_options_have_one_form(given, kept):
    """What may be given in several ways is kept in one."""
    options = ComponentOptions(**given).as_dict()
    assert {name: options[name] for name in kept} == kept


def test_functions_are_kept_as_they_are():
    """retry_delay and retry_on may be functions."""
    options = ComponentOptions(retry_delay=math.sqrt, retry_on=math.isnan)
    assert (options.retry_delay, options.retry_on) == (math.sqrt, math.isnan)


@pytest.mark.parametrize(
    "wrong",
    [
        {"retries": -1},
        {"retries": 1.5},
        {"retries": True},
        {"retries": "2"},
        {"retry_delay": -1},
        {"retry_delay": "1"},
        {"retry_delay": []},
        {"retry_delay": [1, -1]},
        {"retry_delay": [1, "2"]},
        {"retry_delay": [1, [2]]},
        {"retry_delay": {1: 2}},
        {"retry_delay": None},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": math.nan},
        {"timeout": math.inf},
        {"timeout": True},
        {"retry_on": 3},
        {"retry_on": (3,)},
        {"retry_on": int},
        {"outputs": 0},
        {"outputs": True},
        {"outputs": "ab"},
        {"outputs": [1]},
        {"outputs": []},
        {"name": ""},
        {"name": " "},
        {"name": 3},
        {"cache": "yes"},
        {"depends_on": 3},
    ],
    ids=str,
)
def test_a_wrong_component_option_is_refused_by_name(wrong):
    """The sentence names the option."""
    (name,) = wrong
    with pytest.raises(ConfigError, match="name" if name == "name" else name):
        ComponentOptions(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "fast"},
        {"workers": 0},
        {"workers": -1},
        {"workers": 1.0},
        {"workers": True},
        {"on_failure": "stop"},
        {"start_method": "fork"},
        {"name": ""},
    ],
    ids=str,
)
def test_a_wrong_pipeline_option_is_refused_by_name(wrong):
    """The sentence names the option."""
    (name,) = wrong
    with pytest.raises(ConfigError, match=name):
        PipelineOptions(**wrong)


def test_with_options_leaves_the_component_as_it_is():
    """with_options makes another component of the same function."""

    @component(retries=1)
    def fit():
        pass

    other = fit.with_options(timeout=2)
    assert other.fn is fit.fn
    assert (fit.options.timeout, other.options.timeout, other.options.retries) == (None, 2.0, 1)


class Telling(Callback):
    def on_run_end(self, run):
        pass


class Asking(Callback):
    def before_step(self, step, inputs):
        pass


class Greedy(Callback):
    def after_step(self, step, value):
        pass


def greedy(run, *, to):
    pass


@pytest.mark.parametrize(
    ("kind", "given", "match"),
    [
        (
            ComponentOptions,
            {"after_step": lambda: 0},
            r"called with \(step\), and <lambda> takes \(\)",
        ),
        (
            ComponentOptions,
            {"before_step": lambda s: 0},
            r"called with \(step, inputs\), and <lamb",
        ),
        (PipelineOptions, {"on_run_end": greedy}, r"greedy takes \(run, \*, to\)"),
        (
            PipelineOptions,
            {"on_run_end": partial(greedy, 1, to=2)},
            r"called with \(run\), and gre",
        ),
        (PipelineOptions, {"callbacks": [Greedy()]}, r"Greedy.after_step takes \(step, value\)"),
        (ComponentOptions, {"before_step": 3}, "before_step is a function, not 3"),
        (ComponentOptions, {"on_status_change": "x"}, "on_status_change is a function, not 'x'"),
        (PipelineOptions, {"on_run_end": []}, r"on_run_end is a function, not \[\]"),
        (PipelineOptions, {"callbacks": Asking()}, "callbacks is a list, not"),
        (PipelineOptions, {"callbacks": [Asking]}, r"Asking is a class: write Asking\(\)"),
        (PipelineOptions, {"callbacks": [print]}, "a list of pipedeco.Callback objects, not of <"),
        (
            ComponentOptions,
            {"callbacks": [Telling()]},
            "Telling has on_run_end; give it to the pip",
        ),
        (ComponentOptions, {"on_run_end": print}, "no option 'on_run_end'"),
    ],
)
def test_callbacks_that_cannot_be(kind, given, match):
    """Each error says what is expected."""
    with pytest.raises(ConfigError, match=match):
        kind().replace(**given)


@pytest.mark.parametrize(
    "function", [print, dict, lambda *_: 0, lambda run, to=2: 0, partial(greedy, to=2), Mock()]
)
def test_callbacks_that_can_be_called(function):
    """With what an event gives; of some that are not written in Python nobody knows."""
    assert PipelineOptions(on_run_end=function).on_run_end is function


def test_callbacks_stay_with_the_controller():
    """What goes to workers has none; whether there are any is told quickly."""
    options = ComponentOptions(callbacks=[Asking()], after_step=print, name="x")
    assert options.holds_steps
    assert options.without_callbacks().as_dict() == ComponentOptions(name="x").as_dict()
    plain = ComponentOptions()
    assert plain.without_callbacks() is plain
    assert not plain.holds_steps
    assert ComponentOptions(draft=True).holds_steps

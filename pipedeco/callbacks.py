"""What users' callbacks are, and what they get: a view of a step.

A callback is a function given by its event's name (`before_step=`), or a method of a `Callback`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipedeco.errors import ConfigError, GraphError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ARGUMENTS = {
    "before_step": ("step", "inputs"),
    "after_step": ("step",),
    "on_status_change": ("step", "previous"),
    "on_run_end": ("run",),
}
EVENTS = tuple(ARGUMENTS)
STEP_EVENTS = EVENTS[:-1]


class StepView:
    """A step as it is when a callback is called; it never changes.

    Attributes: `name`, `component`, `state`, `attempt` (its number; 0 before the first), `run` (the
    id), `duration` (seconds of the last attempt, None before its end), `error` (`ValueError: text`,
    or None), `reason` (why it was skipped or cancelled, or None), `tags`.
    """

    __slots__ = (
        "_exception",
        "_result",
        "attempt",
        "component",
        "duration",
        "error",
        "name",
        "reason",
        "run",
        "state",
        "tags",
    )

    name: str
    component: str
    state: str
    attempt: int
    run: str
    duration: float | None
    error: str | None
    reason: str | None
    tags: tuple[str, ...]
    _exception: Callable[[], BaseException | None]
    _result: Callable[[], Any] | None

    def __init__(
        self,
        *,
        result: Callable[[], Any] | None,
        exception: Callable[[], BaseException | None],
        **facts: Any,
    ) -> None:
        for name, value in facts.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_result", result)
        object.__setattr__(self, "_exception", exception)

    def result(self) -> Any:
        """The value, a copy of the callback's own; raises what the step raised.

        Raises GraphError where the step has no value: it has not ended, or was not performed.
        """
        failure = self.exception
        if failure is not None:
            raise failure
        if self._result is None:
            raise GraphError(
                f"step {self.name} of run {self.run} is {self.state} and has no result",
                run=self.run,
                step=self.name,
            )
        return self._result()

    @property
    def exception(self) -> BaseException | None:
        """What the step raised, in a step that failed."""
        return self._exception()

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a callback cannot change step {self.name}")

    def __repr__(self) -> str:
        return f"<step {self.name} {self.state}>"


class Callback:
    """Callbacks that belong together; override those that you need.

    For `@pipeline(callbacks=[...])`, for `@component(callbacks=[...])` (without `on_run_end`), and
    for the entry points `pipedeco.callbacks`, whose callbacks are told of every run.  They are
    called in the controller, one at a time.  One that raises fails the step, or the run, that it
    concerns.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in vars(cls):
            if name.startswith(("before_", "after_", "on_")) and name not in EVENTS:
                raise ConfigError(
                    f"{cls.__qualname__}.{name} is called by nobody; callbacks are "
                    f"{', '.join(EVENTS)}, and other methods of theirs have other names"
                )

    def before_step(self, step: StepView, inputs: dict[str, Any]) -> bool | None:
        """Called once a step, before it is performed or looked up; False skips the step.

        Parameters
        ----------
        step: still pending.
        inputs: its arguments by parameter name, results replaced by their values; copies.
        """

    def after_step(self, step: StepView) -> None:
        """Called after the last attempt, before anybody gets the value.

        Parameters
        ----------
        step: completed, failed or cached.
        """

    def on_status_change(self, step: StepView, previous: str) -> None:
        """Called at each change of a step's state.

        Parameters
        ----------
        step: in its new state.
        previous: the state before.
        """

    def on_run_end(self, run: Any) -> None:
        """Called when the run has ended, before the call that started it returns.

        Parameters
        ----------
        run: its `pipedeco.Run`.
        """


def overrides(callback: Callback, event: str) -> bool:
    """Whether a callback does something at an event."""
    return getattr(getattr(callback, event), "__func__", None) is not Callback.__dict__[event]


def functions_for(event: str, sources: Iterable[Any]) -> tuple[Callable[..., Any], ...]:
    """What is called at an event, in order.

    Parameters
    ----------
    sources: `Callback` objects, and options that may have functions and callbacks.
    """
    found: list[Callable[..., Any]] = []
    for source in sources:
        if isinstance(source, Callback):
            if overrides(source, event):
                found.append(getattr(source, event))
            continue
        function = getattr(source, event, None)
        if function is not None:
            found.append(function)
        found += functions_for(event, source.callbacks)
    return tuple(found)


def check_arguments(event: str, function: Callable[..., Any]) -> None:
    """Raise ConfigError where a function cannot be called at an event: not when hours have gone."""
    import inspect

    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # it is not written in Python, and does not say
        return
    given = ARGUMENTS[event]
    try:
        signature.bind(*given)
    except TypeError:
        raise ConfigError(
            f"{event} is called with ({', '.join(given)}), and {callback_name(function)} takes "
            f"{signature}"
        ) from None


def check_methods(callback: Callback) -> None:
    """Raise ConfigError where one that it overrides cannot be called."""
    for event in EVENTS:
        if overrides(callback, event):
            check_arguments(event, getattr(callback, event))


def callback_name(function: Any) -> str:
    """What to call a callback: its qualified name, which is the same in each process."""
    while hasattr(function, "func") and not hasattr(function, "__qualname__"):
        function = function.func  # a partial
    if hasattr(function, "__self__") and hasattr(function, "__name__"):
        return f"{type(function.__self__).__name__}.{function.__name__}"
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return str(name).rpartition("<locals>.")[2]

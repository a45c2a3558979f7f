"""@pipeline: a function whose component calls become the steps of a run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from pipedeco.components import Bound, Traced, check_arguments, is_generator, reduce_decorated
from pipedeco.debuggers import evaluates
from pipedeco.errors import ConfigError, GraphError
from pipedeco.graph import Graph
from pipedeco.options import ComponentOptions, PipelineOptions
from pipedeco.tracing import (
    PipelineCalled,
    Trace,
    call_bare,
    current,
    inside_step,
    loading,
    refuse_foreign_thread,
)
from pipedeco.user_frames import hide_ours, hides_frames

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from typing import Concatenate, Self, Unpack

    from pipedeco.callbacks import Callback, StepView
    from pipedeco.execution import Execution
    from pipedeco.graph import Step
    from pipedeco.keywords import Mode, OnFailure, PipelineChanges, StartMethod
    from pipedeco.run import Run

P = ParamSpec("P")
Rest = ParamSpec("Rest")  # the parameters of a method after `self`
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Instance = TypeVar("Instance")

COROUTINE = 0x80  # CO_COROUTINE
ASYNC_GENERATOR = 0x200  # CO_ASYNC_GENERATOR


class Pipeline(Traced, Generic[P, R_co]):
    """A decorated function: calling it runs it, records the run, and returns its value."""

    is_pipeline = True
    step_options = ComponentOptions()
    fn: Callable[P, R_co]
    __wrapped__: Callable[P, R_co]
    options: PipelineOptions

    def __init__(self, fn: Callable[P, R_co], options: PipelineOptions) -> None:
        self._adopt(fn, options)
        self._advised = False
        code = getattr(fn, "__code__", None)
        if code is not None and code.co_flags & (COROUTINE | ASYNC_GENERATOR):
            raise ConfigError(
                f"pipeline {self.name} is async; make it a plain function: its steps run side by "
                "side anyway, and components may be async"
            )
        if is_generator(fn):
            raise ConfigError(
                f"pipeline {self.name} is a generator function: its steps would be called when "
                "somebody goes through it, and no run is open then; put the results into a list and "
                "return that"
            )

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        __tracebackhide__ = True
        trace = current.get()
        try:
            if trace is not None:
                if evaluates():
                    return call_bare(self.fn, args, kwargs)
                check_arguments(self.fn, args, kwargs)
                future: Any = trace.call(self, args, kwargs)
                stands_for: R_co = future
                return stands_for
            if inside_step.get():
                return self.fn(*args, **kwargs)
            self._check(args, kwargs)
            from pipedeco.run import call_pipeline

            found: R_co = call_pipeline(self, args, kwargs)
            return found
        except BaseException as error:
            hide_ours(error)
            raise

    @hides_frames
    def debug(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run with every step in this process and thread, at its call."""
        __tracebackhide__ = True
        return self.with_options(mode="debug")(*args, **kwargs)

    @hides_frames
    def local(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run with the steps in worker processes on this machine."""
        __tracebackhide__ = True
        return self.with_options(mode="local")(*args, **kwargs)

    @hides_frames
    def remote(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run with each step on its queue, performed by the engine that serves it."""
        __tracebackhide__ = True
        return self.with_options(mode="remote")(*args, **kwargs)

    @hides_frames
    def start(self, /, *args: P.args, **kwargs: P.kwargs) -> Run[R_co]:
        """Begin a run and return its handle at once; in debug mode it has ended by then.

        Raises GraphError inside a run, where a call is what starts a child run.
        """
        if current.get() is not None or inside_step.get():
            raise GraphError(
                f"{self.name}.start(...) is called inside a run; call {self.name}(...)"
            )
        self._check(args, kwargs)
        from pipedeco.run import start_run

        return start_run(self, args, kwargs)

    @hides_frames
    def trace(self, /, *args: P.args, **kwargs: P.kwargs) -> Graph:
        """The graph of the calls that the body makes; nothing is performed or recorded.

        Raises GraphError where the body reads a result, whose value nobody knows here.
        """
        self._check(args, kwargs)
        reader = _Untaken(self)
        reader.trace.graph.title = self.name
        token = current.set(reader.trace)
        try:
            self.fn(*args, **kwargs)
        finally:
            reader.close()
            current.reset(token)
        return reader.trace.graph

    def prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Execution:
        """The run that a call with these arguments makes, about to be executed.

        Raises TypeError for arguments that do not fit, ConfigError and StoreError.
        """
        self._check(args, kwargs)
        from pipedeco.run import prepare_run

        return prepare_run(self, args, kwargs)

    def with_options(self, **changes: Unpack[PipelineChanges]) -> Pipeline[P, R_co]:
        """This pipeline with other options (mode=, workers=, ...).

        Raises ConfigError for an option that there is not, or a value that it cannot have.
        """
        made = Pipeline(self.fn, self.options.replace(**changes))
        made.__dict__["_loaded_as"] = self.__dict__["_loaded_as"]
        return made

    # A method taken from an instance is a Bound, which has what the pipeline has.  Checkers look
    # through @classmethod and @staticmethod, and ask here, too.  The first overload is for the
    # former; as it is for what has no type, and mypy takes it for the latter, arguments go unchecked.
    @overload
    def __get__(
        self: Pipeline[Concatenate[type[Instance], Rest], R_co],
        instance: None,
        owner: type[Instance],
    ) -> Pipeline[..., R_co]: ...
    @overload
    def __get__(self, instance: None, owner: Any = None) -> Self: ...
    @overload
    def __get__(
        self: Pipeline[Concatenate[Instance, Rest], R_co], instance: Instance, owner: Any = None
    ) -> Pipeline[Rest, R_co]: ...
    @overload
    def __get__(self, instance: object, owner: Any = None) -> Any: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else Bound(self, instance)

    def __reduce__(self) -> Any:
        return reduce_decorated(self)

    def __repr__(self) -> str:
        return f"<pipeline {self.name}>"

    def _check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a run: the arguments fit, and the body is read once for what would mislead."""
        if loading.get():
            raise PipelineCalled(self)
        refuse_foreign_thread(self.name)
        check_arguments(self.fn, args, kwargs)
        self.check_loaded()
        if self.fn.__dict__.get("_pipedeco_advised") if hasattr(self.fn, "__dict__") else True:
            return
        self.fn.__dict__["_pipedeco_advised"] = True
        _advise(self.fn)


def _advise(fn: Callable[..., Any]) -> None:
    """Warn of uses of results that see the future in place of the value."""
    from pipedeco.advice import advise

    for advice in advise(fn, lambda item: issubclass(type(item), Traced)):
        import warnings

        module = getattr(fn, "__module__", None) or "pipedeco"
        registry = sys.modules[module].__dict__ if module in sys.modules else {}
        warnings.warn_explicit(
            advice.message,
            UserWarning,
            advice.path,
            advice.line,
            module=module,
            registry=registry.setdefault("__warningregistry__", {}),
        )


class _Untaken:
    """What results read from in a trace: nothing is performed, so nothing can be read."""

    def __init__(self, pipeline: Pipeline[..., Any]) -> None:
        import tempfile

        from pipedeco.blobs import BlobStore

        self._folder = tempfile.TemporaryDirectory(prefix="pipedeco-trace-")
        self._name = pipeline.name
        self.trace = Trace(
            Graph(),
            self,
            BlobStore(self._folder.name),
            lambda called: None,
            lambda step: None,
            keeps_originals=False,
        )

    def close(self) -> None:
        self.trace.open = False
        self._folder.cleanup()

    def check_open(self) -> None:
        pass

    def wait(self, step: Step, timeout: float | None) -> bool:
        raise GraphError(
            f"the body of {self._name} reads the result of step {step.name}; a trace performs "
            "nothing, so there is no value",
            graph=self.trace.graph,
        )

    def load(self, step: Step) -> Any:
        raise AssertionError("wait raises before")

    def failure(self, step: Step) -> BaseException | None:
        return None

    def cancel_step(self, step: Step) -> bool:
        return False


@overload
def pipeline(fn: Callable[P, R], /) -> Pipeline[P, R]: ...
@overload
def pipeline(
    *,
    name: str | None = None,
    version: str | None = None,
    mode: Mode | None = None,
    workers: int | None = None,
    on_failure: OnFailure = "continue",
    start_method: StartMethod | None = None,
    store: str | os.PathLike[str] | None = None,
    default_queue: str | None = None,
    cache: bool = True,
    refresh: bool | str | Sequence[str] = False,
    tags: Sequence[str] = (),
    auto_log: bool = True,
    seed: int | None = None,
    setup: Callable[[], Any] | None = None,
    before_step: Callable[[StepView, dict[str, Any]], Any] | None = None,
    after_step: Callable[[StepView], Any] | None = None,
    on_status_change: Callable[[StepView, str], Any] | None = None,
    on_run_end: Callable[[Run[Any]], Any] | None = None,
    callbacks: Sequence[Callback] = (),
) -> Callable[[Callable[P, R]], Pipeline[P, R]]: ...
def pipeline(fn: Any = None, /, **options: Any) -> Any:
    """Make a pipeline of a function: the components that it calls become steps of a run.

    Parameters
    ----------
    name: of its runs; the function's own by default.
    version: recorded with each run; by default 1.0.0, whose last number rises when the code of the
        pipeline, or any that it reaches, has changed since its last run.
    mode: "debug", "local" or "remote"; by default what `configure`, the variable PIPEDECO_MODE, an attached
        debugger or pyproject.toml say, in this order, and "local" where none does.
    workers: how many worker processes a run may use; by default the CPUs of this process, and in
        remote mode what its engines have.
    on_failure: "continue" lets the other steps go on after a failure, "abort" cancels them.
    start_method: "nursery" (Linux) or "spawn": where worker processes come from; by default as
        `pipedeco.configure` tells.
    store: the folder of the store; in remote mode one that the engines' workers see, too.
    default_queue: of its components that name none; "default" where it is not given.
    cache: False performs every step, whatever its component says, and keeps nothing for later.
    refresh: performs cached steps, too, and replaces what is known: all of them, or those of the
        components (or steps) that are named.
    tags: of its runs.
    auto_log: False logs only what is logged by a call: no figures that are shown, no event files.
    seed: a whole number from which the global generators of random, NumPy and torch start each step,
        with the step's name and its attempt; recorded, and kept by `rerun`, `resume` and `replay`.
        It counts in the key of cached steps, as the step's name does then.  A child pipeline's
        steps start from one that is made of this and of its name, unless it has a seed of its own.
        The body draws from the program's own generators, which stay as they are.
    setup: a function that is called once in each worker process before its first step of a run, after
        that of `configure`; in debug mode once in this process.  Steps find what it has changed.
        What it raises fails the run.  A child pipeline's is called after its parent's.
    before_step, after_step, on_status_change: as for `component`, for every step of its runs; not for
        those of child runs, which have their own.
    on_run_end: called with the Run when it has ended and is recorded, before the call that started
        it returns; `run.result()` is there by then.  What it raises leaves that call, and the run
        is recorded as failed with it.
    callbacks: `pipedeco.Callback` objects, which have these as methods.

    Raises ConfigError for an option that cannot be, and for an async function.
    """
    if fn is not None and options:
        raise ConfigError("@pipeline(...) takes options by name and is then applied to a function")
    made = PipelineOptions().replace(**options)
    return Pipeline(fn, made) if fn is not None else lambda function: Pipeline(function, made)

"""The run being traced, in a ContextVar: a call of a component becomes a step of its graph."""

from __future__ import annotations

import sys
import threading
from contextvars import ContextVar
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pipedeco.config import find_requirements
from pipedeco.debuggers import evaluates
from pipedeco.errors import GraphError, NotPicklable
from pipedeco.graph import Called, Graph, Step, distinct
from pipedeco.result import StepResult, changed_in_place, make_result
from pipedeco.serialization import MAIN_MARK, UNRECORDED, Packed, Pickler, given_input, main_names
from pipedeco.strays import strays

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipedeco.blobs import BlobStore
    from pipedeco.graph import StepKey

    MakeKey = Callable[[Any, tuple[Any, ...], dict[str, Any], tuple[Step, ...]], StepKey]

T = TypeVar("T")

# The run whose body this context executes; None outside of any.
current: ContextVar[Trace | None] = ContextVar("pipedeco trace", default=None)

# Whether this context executes a step, where components and pipelines are bare functions.
inside_step: ContextVar[bool] = ContextVar("pipedeco step", default=False)

# What takes the reports of the step or body that this context executes (a tracking.Reporter).
reporting: ContextVar[Any] = ContextVar("pipedeco reporting", default=None)

# Whether this context executes a file for its definitions, which ends at a pipeline's call.
loading: ContextVar[bool] = ContextVar("pipedeco loading", default=False)


class PipelineCalled(BaseException):
    """A file that is executed for its definitions calls a pipeline: it has been read far enough."""

    def __init__(self, pipeline: Any) -> None:
        super().__init__(pipeline)
        self.pipeline = pipeline


class Arguments(NamedTuple):
    """The arguments of a call: pickled, and the results that stand in them."""

    packed: Packed | None
    inputs: tuple[Step, ...]
    names: tuple[str, ...]


class Trace:
    """Makes steps of the calls in one body.

    Parameters
    ----------
    graph: gets the steps.
    run: what the steps' results read from (a `result.Reader`).
    blobs: where large arguments go.
    prepare: called with what is called for the first time; may raise NotPicklable.
    submit: called with each new step; returns when the body may go on.
    keeps_originals: whether steps keep their arguments unpickled too; a step whose arguments
        cannot be pickled is then a warning, else an error.
    make_key: called for each step of a cached component, with the component, the arguments, and
        the steps whose results stand in them; None where nothing is cached.
    """

    def __init__(
        self,
        graph: Graph,
        run: Any,
        blobs: BlobStore,
        prepare: Callable[[Called], None],
        submit: Callable[[Step], None],
        *,
        keeps_originals: bool,
        make_key: MakeKey | None = None,
    ) -> None:
        self.graph = graph
        self.run = run
        self.prepare = prepare
        self.submit = submit
        self.make_key = make_key
        self.keeps_originals = keeps_originals
        self.open = True
        self._blobs = blobs
        self._lock = threading.Lock()  # the body may call from copies of its context
        self._found: dict[Step, int] = {}  # the inputs of the call in hand, numbered
        self._pickler = Pickler(blobs, {StepResult: self._reduce_result}, strays().by_value)
        self._main = sys.modules["__main__"].__dict__
        self._seen: set[int] = set()

    def call(
        self, component: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> StepResult[Any]:
        """Make a step of the call and hand it to the scheduler."""
        __tracebackhide__ = True
        with self._lock:
            self.run.check_open()
            arguments = self._arguments(component, args, kwargs)
            if arguments.inputs and self._may_hold_tables(arguments.packed):
                from pipedeco.resolving import settle_tables

                (args, kwargs), changed = settle_tables((args, kwargs))
                if changed:
                    arguments = self._arguments(component, args, kwargs)
            called = self._called(component)
            key: StepKey | None = None
            after: tuple[Step, ...] = ()
            # What may raise comes first: a step that is in the graph must be performed.
            if component.step_options.cache is not None and self.make_key is not None:
                key = self.make_key(component, args, kwargs, arguments.inputs)
                if called.environment is not None:
                    key.environment = called.environment.text
            if component.step_options.depends_on:
                after = self._steps_of(component.step_options.depends_on)
            step = self.graph.add(self.run, called)
            step.args, step.inputs, step.names = arguments
            step.key, step.after = key, after
            step.reads = len(self.graph.reads)
            step.line = sys._getframe(2).f_lineno
            if self.keeps_originals:
                step.originals = (args, kwargs)
        self.submit(step)
        return make_result(step)

    def read(self, step: Step) -> None:
        """Note that this step is read, for the control edges; only the body's reads count."""
        if (
            step.position not in self._seen
            and current.get() is self
            and not evaluates()  # its user looks, and the body has not read it
        ):
            self._seen.add(step.position)
            self.graph.reads.append(step.position)

    def _arguments(
        self, component: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Arguments:
        if not self.keeps_originals:
            return self.pickle(component, args, kwargs)
        try:
            return self.pickle(component, args, kwargs)
        except NotPicklable as error:
            warn_user(f"{error}; the other modes would refuse this call")
            return Arguments(UNRECORDED, tuple(self._found), ())

    def pickle(self, component: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """The arguments as they are now.  Raises NotPicklable and GraphError."""
        if not args and not kwargs:
            return _NO_ARGUMENTS
        self._found.clear()
        try:
            packed = self._pickler.dump((args, kwargs), "arguments")
        except NotPicklable:
            raise self._culprit(component, args, kwargs) from None
        if type(packed) is bytes and MAIN_MARK not in packed:
            names: tuple[str, ...] = ()
        else:
            names = main_names(self._blobs.main_part(packed), self._main)
        inputs = tuple(self._found) if self._found else ()
        return Arguments(packed, inputs, names)

    def _may_hold_tables(self, packed: Packed | None) -> bool:
        """Whether results may stand in arrays or tables, whose type their values decide."""
        if "numpy" not in sys.modules:
            return False
        if isinstance(packed, str):
            packed = bytes(self._blobs.main_part(packed))
        return packed is not None and b"numpy" in packed

    def _culprit(
        self, component: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> NotPicklable:
        """The error that names the argument which cannot travel."""
        for name, argument in component.named_arguments(args, kwargs):
            try:
                self._pickler.dump(argument, name)
            except NotPicklable as error:
                return NotPicklable(f"a call of {component.name}: {error}", step=component.name)
        return NotPicklable(f"a call of {component.name}: its arguments cannot be pickled together")

    def _called(self, component: Any) -> Called:
        called = self.graph.called.get(component)
        if called is None:
            component.check_loaded()
            called = Called(
                component, component.name, component.step_options, is_pipeline=component.is_pipeline
            )
            if not called.is_pipeline:
                called.environment = find_requirements(called.options, component.fn)
            self.prepare(called)
            self.graph.called[component] = called
        return called

    def _steps_of(self, results: tuple[Any, ...]) -> tuple[Step, ...]:
        """The steps that `depends_on` names."""
        for result in results:
            if not isinstance(result, StepResult):
                raise GraphError(f"depends_on takes results of steps, not {result!r}")
            if result.step.run is not self.run:
                raise GraphError(
                    f"depends_on names step {result.step.name} of another run; read its result "
                    "before the call instead"
                )
        return tuple(distinct(result.step for result in results))

    def _reduce_result(self, result: StepResult[Any]) -> tuple[Any, ...]:
        """The pickler's reducer for a StepResult: it becomes an input of the step."""
        if result.step.run is not self.run:
            return _value_of, (result.result(),)
        if changed_in_place(result):
            raise GraphError(
                f"the value of step {result.step.name} was changed by the body after it was read, "
                "and the result is now passed on; pass the changed value itself "
                "(pipedeco.value(...)), or make the change inside a step"
            )
        return given_input, (self._found.setdefault(result.step, len(self._found)), result._path)


_NO_ARGUMENTS = Arguments(None, (), ())


def _value_of(value: Any) -> Any:
    return value


def call_bare(fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    """Call a function as a step does: what it calls is bare, too, and nothing is recorded."""
    tokens = current.set(None), inside_step.set(True)
    try:
        return fn(*args, **kwargs)
    finally:
        current.reset(tokens[0])
        inside_step.reset(tokens[1])


def warn_user(message: str) -> None:
    """A warning that points at the nearest line outside pipedeco."""
    import os
    import warnings

    here = os.path.dirname(__file__) + os.sep
    depth = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(here):
        frame = frame.f_back
        depth += 1
    warnings.warn(message, stacklevel=depth + 1)


@cache
def watch_threads() -> None:
    """Have each thread that a body or a step starts carry a note of its trace and its reporter.

    A new thread has an empty context, so a component called in it would silently be a bare
    function, and what it reports would be nobody's.  Python 3.11 tells nobody of new threads, so
    Thread.start is wrapped, once.
    """
    start = threading.Thread.start

    @wraps(start)
    def noting_start(thread: threading.Thread) -> None:
        trace = current.get() or foreign_trace()
        if trace is not None:
            thread.__dict__["_pipedeco_trace"] = trace
        reporter = reporting.get()
        noted = threading.current_thread().__dict__.get("_pipedeco_reporter")
        if reporter is not None or noted is not None:
            # With the step, which the thread may outlive.
            thread.__dict__["_pipedeco_reporter"] = noted or (reporter, reporter.call)
        start(thread)

    threading.Thread.start = noting_start  # type: ignore[method-assign, assignment]


def foreign_trace() -> Trace | None:
    """The trace of the body that started this thread, where it is still open."""
    trace = getattr(threading.current_thread(), "_pipedeco_trace", None)
    return trace if isinstance(trace, Trace) and trace.open else None


def refuse_foreign_thread(name: str) -> None:
    """Raise GraphError in a thread that a body has started without its context."""
    if not inside_step.get() and foreign_trace() is not None:
        raise GraphError(
            f"{name} is called in a thread that the pipeline's body started, which knows nothing "
            "of the run; start the thread with contextvars.copy_context().run, or let the body "
            "make the call: steps run side by side without threads"
        )

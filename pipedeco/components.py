"""@component: a call is a step in a traced run, a plain call elsewhere."""

from __future__ import annotations

import sys
from functools import partial
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast, overload

from pipedeco.callbacks import Callback, callback_name
from pipedeco.debuggers import evaluates
from pipedeco.definitions import Decorated
from pipedeco.errors import ConfigError, GraphError
from pipedeco.options import Cache, ComponentOptions, PipelineOptions
from pipedeco.reloading import AUTORELOAD, follow_autoreload, loaded_as, warn_of_reload
from pipedeco.tracing import call_bare, current, refuse_foreign_thread
from pipedeco.user_frames import hide_ours

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from typing import Concatenate, Self, Unpack

    from pipedeco.callbacks import StepView
    from pipedeco.keywords import ComponentChanges
    from pipedeco.result import StepResult

GENERATOR = 0x20 | 0x200  # CO_GENERATOR | CO_ASYNC_GENERATOR

P = ParamSpec("P")
Rest = ParamSpec("Rest")  # the parameters of a method after `self`
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)  # so that `async def` is one whose R is a Coroutine
Awaited = TypeVar("Awaited")
Instance = TypeVar("Instance")

# What introspection finds on a function beside its signature, which `__wrapped__` leads to.
_OF_FUNCTIONS = (
    "__module__",
    "__name__",
    "__qualname__",
    "__doc__",
    "__annotations__",
    "__defaults__",
    "__kwdefaults__",
    *(("__type_params__",) if sys.version_info >= (3, 12) else ()),
    *(("__annotate__",) if sys.version_info >= (3, 14) else ()),
)


def _as_function(kind: Any, fn: Any, options: Any, annotations: dict[str, Any]) -> Any:
    """What `component.__call__` gives: a function with the signature of `fn`.

    IPython, pydantic and others look at it.  It holds what makes the component, not the component:
    a circle would keep the results in its options.
    """

    def call(*args: Any, **kwargs: Any) -> Any:  # without a docstring, which IPython would show
        return kind(fn, options)(*args, **kwargs)

    call.__dict__["__wrapped__"] = fn
    call.__annotations__ = annotations
    return call


class Traced(Decorated):
    """What tracing asks of a component or a pipeline."""

    is_pipeline = False
    options: ComponentOptions | PipelineOptions
    step_options: ComponentOptions
    name: str
    __name__: str
    __qualname__: str

    def _adopt(self, fn: Any, options: ComponentOptions | PipelineOptions) -> None:
        if not callable(fn):
            raise ConfigError(f"only a function can be decorated, not {fn!r}")
        if isinstance(fn, Decorated):
            raise ConfigError(f"{fn!r} is decorated already; use its with_options(...)")
        self.fn = fn
        self.options = options
        self.name = options.name or function_name(fn)
        for attribute in _OF_FUNCTIONS:
            try:
                self.__dict__[attribute] = getattr(fn, attribute)
            except (AttributeError, NameError):  # from Python 3.14 annotations are made when asked
                pass
        self.__dict__["__wrapped__"] = fn
        self.__dict__["_loaded_as"] = loaded_as(fn)
        if AUTORELOAD in sys.modules:
            follow_autoreload(Traced)
        # For who looks at it; a call takes that of the class.
        annotations = vars(self).get("__annotations__", {})
        self.__dict__["__call__"] = _as_function(type(self), fn, options, annotations)

    def __dir__(self) -> list[str]:
        return [
            name
            for name in super().__dir__()
            if name not in _INTERNAL and (not name.startswith("_") or name.endswith("__"))
        ]

    @property
    def output_count(self) -> int | None:
        """How many outputs a call has, where that is known without performing it."""
        return self._outputs()[0]

    @property
    def output_fields(self) -> frozenset[str]:
        """The fields of the annotated return type."""
        return self._outputs()[1]

    def named_arguments(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> list[tuple[str, Any]]:
        """The arguments of a call with the names of their parameters."""
        return named_arguments(self.fn, args, kwargs)

    def parameter_names(self) -> tuple[str, ...]:
        return parameter_names(self.fn)

    def options_text(self) -> dict[str, str]:
        """The options of its steps that are not the default, as text."""
        default = ComponentOptions().as_dict()
        set_ones = {k: v for k, v in self.step_options.as_dict().items() if v != default[k]}
        return {
            name: _option_text(value) for name, value in set_ones.items() if name != "depends_on"
        }

    def check_loaded(self) -> None:
        """Warn where the function's module was loaded again since, and has another code now."""
        if self.__dict__["_loaded_as"] is not loaded_as(self.fn):
            warn_of_reload(self)

    # They never change; a copy by way of pickling would be one for workers, without callbacks.
    def __copy__(self) -> Traced:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Traced:
        return self

    def _outputs(self) -> tuple[int | None, frozenset[str]]:
        known = self.__dict__.get("_known_outputs")
        if known is None:
            outputs = self.step_options.outputs
            annotation = return_annotation(self.fn)
            count = outputs if isinstance(outputs, int) else len(outputs) if outputs else None
            known = (count or _tuple_length(annotation), _type_fields(annotation))
            self.__dict__["_known_outputs"] = known
        return cast("tuple[int | None, frozenset[str]]", known)


# What is public for the rest of the package alone; editors do not offer it.
_INTERNAL = {"prepare", "step_options", *(n for n in vars(Traced) if not n.startswith("__"))}


def _option_text(value: Any) -> str:
    """An option for the record, functions and callbacks by name: addresses change."""
    if isinstance(value, Callback):
        return type(value).__name__
    if isinstance(value, tuple) and any(isinstance(item, Callback) for item in value):
        return ", ".join(map(_option_text, value))[:200]
    return (callback_name(value) if callable(value) else repr(value))[:200]


class Component(Traced, Generic[P, R_co]):
    """A decorated function: its code (`fn`) and its options.

    Types: a call is typed as returning what the function returns, and that of an `async def` as
    what awaiting it gives, as it is in a pipeline's body.  Elsewhere, `await load.fn(...)`.
    """

    fn: Callable[P, R_co]
    __wrapped__: Callable[P, R_co]
    options: ComponentOptions

    def __init__(self, fn: Callable[P, R_co], options: ComponentOptions) -> None:
        self._adopt(fn, options)
        if is_generator(fn):
            raise ConfigError(
                f"component {self.name} is a generator function, and a generator cannot be handed "
                "from step to step; return a list: put the items into one, or let the component "
                "return list(...) of an undecorated generator"
            )
        _check_ignored(fn, options.cache)
        self.step_options = options
        self._arity = _arity(fn)

    @overload
    def __call__(
        self: Component[P, Coroutine[Any, Any, Awaited]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Awaited: ...
    @overload
    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        trace = current.get()
        try:
            if trace is None:
                refuse_foreign_thread(self.name)
                return self.fn(*args, **kwargs)
            if evaluates():
                return call_bare(self.fn, args, kwargs)
            arity = self._arity
            if arity is None or kwargs or not arity[0] <= len(args) <= arity[1]:
                check_arguments(self.fn, args, kwargs)
            return trace.call(self, args, kwargs)
        except BaseException as error:
            hide_ours(error)
            raise

    @overload
    def submit(
        self: Component[P, Coroutine[Any, Any, Awaited]], /, *args: P.args, **kwargs: P.kwargs
    ) -> StepResult[Awaited]: ...
    @overload
    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> StepResult[R_co]: ...
    def submit(self, /, *args: Any, **kwargs: Any) -> Any:
        """The same call, typed as the StepResult that it is.

        Raises GraphError outside a pipeline's body.
        """
        trace = current.get()
        if trace is None:
            raise GraphError(f"{self.name}.submit(...) is for the body of a pipeline")
        if evaluates():
            raise GraphError(
                f"a debugger makes no steps: {self.name}(...) calls the function, unrecorded"
            )
        check_arguments(self.fn, args, kwargs)
        return trace.call(self, args, kwargs)

    def with_options(self, **changes: Unpack[ComponentChanges]) -> Component[P, R_co]:
        """This component with other options, for one call or more.

        Raises ConfigError for an option that there is not, or a value that it cannot have.
        """
        made = Component(self.fn, self.options.replace(**changes))
        made.__dict__["_loaded_as"] = self.__dict__["_loaded_as"]
        return made

    # A method taken from an instance is a Bound, which has what the component has.  Checkers look
    # through @classmethod and @staticmethod, and ask here, too.  The first overload is for the
    # former; as it is for what has no type, and mypy takes it for the latter, arguments go unchecked.
    @overload
    def __get__(
        self: Component[Concatenate[type[Instance], Rest], R_co],
        instance: None,
        owner: type[Instance],
    ) -> Component[..., R_co]: ...
    @overload
    def __get__(self, instance: None, owner: Any = None) -> Self: ...
    @overload
    def __get__(
        self: Component[Concatenate[Instance, Rest], R_co], instance: Instance, owner: Any = None
    ) -> Component[Rest, R_co]: ...
    @overload
    def __get__(self, instance: object, owner: Any = None) -> Any: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else Bound(self, instance)

    def __reduce__(self) -> Any:
        return reduce_decorated(self)

    def __repr__(self) -> str:
        return f"<component {self.name}>"


class Bound:
    """A component or pipeline taken from an instance, as a bound method."""

    def __init__(self, decorated: Any, instance: Any) -> None:
        self.__func__ = decorated
        self.__self__ = instance
        self.__doc__ = decorated.__doc__
        self.__dict__["__call__"] = MethodType(decorated, instance)  # for who looks at it

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        try:
            return self.__func__(self.__self__, *args, **kwargs)
        except BaseException as error:
            hide_ours(error)
            raise

    @property
    def fn(self) -> Any:
        """The undecorated method."""
        return MethodType(self.__func__.fn, self.__self__)

    @property
    def __wrapped__(self) -> Any:
        return self.fn

    def with_options(self, **changes: Any) -> Bound:
        return Bound(self.__func__.with_options(**changes), self.__self__)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in _OF_FUNCTIONS:  # such as how to copy a component
            raise AttributeError(f"{self!r} has no attribute {name!r}")
        found = getattr(self.__func__, name)
        if getattr(found, "__self__", None) is not self.__func__:
            return found
        return lambda *args, **kwargs: found(self.__self__, *args, **kwargs)

    def __reduce__(self) -> Any:
        """By name, as bound methods are pickled, where that gives the same."""
        decorated, instance = self.__func__, self.__self__
        name = decorated.__dict__.get("__name__", "")
        if getattr(type(instance), name, None) is decorated:
            return getattr, (instance, name)
        return Bound, (decorated, instance)

    def __dir__(self) -> list[str]:
        return sorted({*dir(self.__func__), "__self__", "__func__"})

    def __repr__(self) -> str:
        return f"<bound {self.__func__!r} of {self.__self__!r}>"


def is_generator(fn: Any) -> bool:
    """Whether calling a function gives a generator, as far as its own code tells."""
    while isinstance(fn, staticmethod | classmethod | MethodType | partial):
        fn = fn.func if isinstance(fn, partial) else fn.__func__
    code = getattr(fn if isinstance(fn, FunctionType) else type(fn).__call__, "__code__", None)
    return code is not None and bool(code.co_flags & GENERATOR)


def _check_ignored(fn: Any, cache: Cache | None) -> None:
    """Each name in Cache(ignore=...) is that of a parameter."""
    code = getattr(fn, "__code__", None)
    if cache is None or not cache.ignore or code is None or hasattr(fn, "__wrapped__"):
        return
    takes_any = code.co_flags & 0x08  # **kwargs
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    for name in cache.ignore:
        if name not in names and not takes_any:
            raise ConfigError(
                f"Cache(ignore=...) names {name!r}, which is no parameter of {function_name(fn)}; "
                f"they are {', '.join(names)}"
            )


@overload
def component(fn: Callable[P, R], /) -> Component[P, R]: ...
@overload
def component(
    *,
    name: str | None = None,
    cache: bool | Cache = False,
    retries: int = 0,
    retry_delay: float | Sequence[float] | Callable[[int], float] = 0.0,
    retry_on: type[BaseException]
    | Sequence[type[BaseException]]
    | Callable[[BaseException], bool] = (Exception,),
    timeout: float | None = None,
    outputs: Sequence[str] | int | None = None,
    priority: int = 0,
    queue: str | None = None,
    resources: Mapping[str, float | str] | Sequence[tuple[str, float | str]] = (),
    packages: Sequence[str] | str | os.PathLike[str] | None = None,
    python: str | None = None,
    allow_failure: bool = False,
    fresh_process: bool = False,
    depends_on: Sequence[Any] = (),
    stage: str | None = None,
    tags: Sequence[str] = (),
    monitor_metrics: Sequence[str | tuple[str, str]] = (),
    monitor_artifacts: Sequence[str | tuple[str, str]] = (),
    monitor_models: Sequence[str | tuple[str, str]] = (),
    auto_log: bool | None = None,
    collect: Sequence[str] = (),
    draft: bool = False,
    before_step: Callable[[StepView, dict[str, Any]], Any] | None = None,
    after_step: Callable[[StepView], Any] | None = None,
    on_status_change: Callable[[StepView, str], Any] | None = None,
    callbacks: Sequence[Callback] = (),
) -> Callable[[Callable[P, R]], Component[P, R]]: ...
def component(fn: Any = None, /, **options: Any) -> Any:
    """Make a component of a function: in a pipeline its calls are steps.

    Parameters
    ----------
    name: of its steps; the function's own by default.
    cache: True, or a `pipedeco.Cache`: a step is not performed where the value of one with the same
        code, everything that it reaches included, and the same arguments is recorded.
    retries: how many attempts follow one that failed.
    retry_delay: seconds before each; or a list such as [2, 5, 15] of those before the first of them,
        the second and so on, of which the last one holds for all that follow; or a function of the
        number of the attempt that failed.
    retry_on: exception types that are worth a retry, or a function of the exception.
    timeout: seconds after which an attempt is killed.
    outputs: names or number of the outputs, so that unpacking a result waits for nothing.
    priority: which of the steps that are ready begins first: that with the higher one, and of equal
        ones that which was called first.  In debug mode each call is performed at once.
    queue: where its steps go in remote mode, a name from `[tool.pipedeco.queues]`; by default the
        pipeline's `default_queue`, else the queue "default".
    resources: what its steps ask of the engine of that queue, such as {"GPU": 1}.
    packages: what its steps find installed instead of what is installed here, such as
        ["scikit-learn==1.5"], or the path of a requirements file (beside the file of the function,
        or in the project's folder), whose content counts.  uv builds the environment once.  Only
        names with versions, extras and markers are taken.
    python: the version of Python in that environment, "3.12" or "3.12.1"; by default this one.
    allow_failure: the run does not fail for it, and steps that only depend on it still run.
    fresh_process: each attempt has a process of its own.
    depends_on: results of steps that must have ended before (usually by `with_options`).
    stage: a name that groups steps in drawings and lists.
    tags: of its steps.
    monitor_metrics: which of the metrics that its steps report are the run's, too: names, in which
        `*` stands for anything, or pairs of one and the name on the run, in which `*` is what that
        one stood for, and `{step}` the step's name.
    monitor_artifacts, monitor_models: the same of artifacts and models.
    auto_log: whether figures that are shown and event files that are written in its steps are
        logged without a call; by default as the pipeline says.
    collect: patterns such as ["*.csv", "plots/*.png", "out/**"] of paths below the working directory:
        the files that match and that a step has made or changed are logged as its artifacts, each
        under its relative path, when it ends, even where it fails.  In remote mode that is how
        they come home.
    draft: a step waits, when it is ready, until a person releases it: `pipedeco release RUN STEP`, or
        `Run.release(step)`.
    before_step: called with (step, inputs) once a step, before it is performed or looked up in the
        cache; `inputs` are its arguments by name, as values.  Where it returns False, the step is
        skipped, and those that need it.
    after_step: called with (step) after its last attempt, or when its value is taken from the cache,
        before anybody gets the value.
    on_status_change: called with (step, previous state) at each change of its state.
    callbacks: `pipedeco.Callback` objects, which have these as methods.

    Callbacks are called in the controller, after those of the pipeline; `step` is a
    `pipedeco.callbacks.StepView`.  One that raises fails the step; a step that runs then fails at
    the end of its attempt.  A step whose value a resumed run keeps calls none.

    Raises ConfigError for an option that cannot be.
    """
    if fn is not None and options:
        raise ConfigError("@component(...) takes options by name and is then applied to a function")
    made = ComponentOptions().replace(**options)
    return Component(fn, made) if fn is not None else lambda function: Component(function, made)


def function_name(fn: Any) -> str:
    """What to call a function: its name, `lambda`, or the name of what a partial wraps."""
    while hasattr(fn, "func") and not hasattr(fn, "__name__"):
        fn = fn.func
    name = getattr(fn, "__name__", None) or type(fn).__name__
    return str(name).strip("<>")


def reduce_decorated(decorated: Any) -> Any:
    """By name where its module can be imported and names it, else with its function."""
    module = sys.modules.get(decorated.__dict__.get("__module__", ""))
    found: Any = module
    for part in decorated.__dict__.get("__qualname__", "<none>").split("."):
        found = getattr(found, part, None)
    if found is decorated and decorated.__module__ != "__main__":
        return decorated.__qualname__
    return type(decorated), (decorated.fn, decorated.options.without_callbacks())


def _arity(fn: Any) -> tuple[int, int] | None:
    """How many positional arguments a plain function takes at least and at most."""
    code = getattr(fn, "__code__", None)
    if code is None or hasattr(fn, "__wrapped__"):
        return None
    required_keywords = code.co_kwonlyargcount - len(fn.__kwdefaults__ or ())
    if required_keywords:
        return None
    most = code.co_argcount
    least = most - len(fn.__defaults__ or ())
    return least, 10**9 if code.co_flags & 0x04 else most  # 0x04: CO_VARARGS


def check_arguments(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise the TypeError that calling `fn` so would raise."""
    code = getattr(fn, "__code__", None)
    if code is not None and not hasattr(fn, "__wrapped__") and _fits(fn, code, args, kwargs):
        return
    import inspect

    try:
        # Of the outermost function: what a wrapper gives and takes away is its own affair.
        signature = inspect.signature(fn, follow_wrapped=False)
    except (TypeError, ValueError):  # built-in functions without one
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{function_name(fn)}() {error}") from None


def named_arguments(
    fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[tuple[str, Any]]:
    """The arguments of a call with the names of their parameters, `args[0]` for variadic ones."""
    names = parameter_names(fn)
    found = [(names[i] if i < len(names) else f"args[{i}]", value) for i, value in enumerate(args)]
    return found + list(kwargs.items())


def bound_arguments(
    fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call, with those parameters' defaults that it leaves out.

    Positional parameters come in the first part as far as they are given, the rest by name.
    """
    code = getattr(fn, "__code__", None)
    if code is None or hasattr(fn, "__wrapped__"):
        return args, kwargs
    names = code.co_varnames[: code.co_argcount]
    defaults = fn.__defaults__ or ()
    by_name = dict(zip(names[len(names) - len(defaults) :], defaults, strict=True))
    given = names[: len(args)]
    missing = {
        name: value
        for name, value in {**by_name, **(fn.__kwdefaults__ or {})}.items()
        if name not in given and name not in kwargs
    }
    positional = set(names[: code.co_posonlyargcount])
    if positional & missing.keys():
        args = (*args, *(missing.pop(name) for name in names[len(args) :] if name in positional))
    return args, {**kwargs, **missing}


def parameter_names(fn: Any) -> tuple[str, ...]:
    """The names of the positional parameters."""
    code = getattr(fn, "__code__", None)
    if code is not None and not hasattr(fn, "__wrapped__"):
        return tuple(code.co_varnames[: code.co_argcount])
    import inspect

    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):  # built-in functions without a signature
        return ()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(p.name for p in parameters if p.kind in kinds)


def _fits(fn: Any, code: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """A quick yes for ordinary calls; a no is only a maybe."""
    names = code.co_varnames[: code.co_argcount]
    if len(args) > len(names) or code.co_posonlyargcount or code.co_flags & 0x0C:
        return False
    keyword_only = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    rest = names[len(args) :]
    if any(key not in rest and key not in keyword_only for key in kwargs):
        return False
    required = rest[: max(0, len(rest) - len(fn.__defaults__ or ()))]
    needed = [name for name in keyword_only if name not in (fn.__kwdefaults__ or ())]
    return all(name in kwargs for name in (*required, *needed))


def return_annotation(fn: Any) -> Any:
    """The annotated return type; where its names cannot be resolved, its text."""
    annotation = getattr(fn, "__annotations__", {}).get("return")
    if not isinstance(annotation, str):
        return annotation
    import typing
    from types import SimpleNamespace

    holder = SimpleNamespace(__annotations__={"return": annotation})
    try:
        return typing.get_type_hints(holder, globalns=getattr(fn, "__globals__", {}))["return"]
    except (NameError, AttributeError, TypeError, SyntaxError):
        return annotation


def _tuple_length(annotation: Any) -> int | None:
    """2 for `tuple[A, B]`; None for anything that does not say."""
    if isinstance(annotation, str):
        return _tuple_length_of_text(annotation)
    import typing

    if typing.get_origin(annotation) is tuple:
        parts = typing.get_args(annotation)
        return len(parts) if parts and Ellipsis not in parts else None
    fields = getattr(annotation, "_fields", None)
    return len(fields) if isinstance(fields, tuple) and issubclass(annotation, tuple) else None


def _tuple_length_of_text(annotation: str) -> int | None:
    import ast

    try:
        tree = ast.parse(annotation.strip(), mode="eval").body
    except SyntaxError:
        return None
    if not isinstance(tree, ast.Subscript) or not isinstance(tree.slice, ast.Tuple):
        return None
    name = (
        tree.value.attr if isinstance(tree.value, ast.Attribute) else getattr(tree.value, "id", "")
    )
    parts = tree.slice.elts
    dots = any(isinstance(part, ast.Constant) and part.value is ... for part in parts)
    return len(parts) if name in ("tuple", "Tuple") and not dots else None


def _type_fields(annotation: Any) -> frozenset[str]:
    """The fields of a dataclass, a NamedTuple or a pydantic model."""
    if not isinstance(annotation, type):
        return frozenset()
    for attribute in ("__dataclass_fields__", "model_fields", "_fields"):
        fields = getattr(annotation, attribute, None)
        if isinstance(fields, dict | tuple):
            return frozenset(fields)
    return frozenset()

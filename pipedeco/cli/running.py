"""The commands that act: run a pipeline of a file, cancel a run, release a step of one."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import time
import typing
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, MissingArgumentError, Parameter

from pipedeco.cli.debugging import complete_step
from pipedeco.cli.output import complain, print_table, print_traceback, say
from pipedeco.cli.reading import Store, complete_run
from pipedeco.cli.typed import (
    has_other_keys,
    has_single_words,
    join_dashed,
    members_of,
    read,
    read_or_none,
)
from pipedeco.errors import ConfigError, PipedecoError, RunNotFound
from pipedeco.text import write_stderr

if TYPE_CHECKING:
    from collections.abc import Callable

    from cyclopts import CycloptsError

    from pipedeco.execution import Execution
    from pipedeco.run import Run

FAILED = 1
USAGE = 2
CANCELLED = 130  # as if SIGINT had ended us
PATIENCE = 15.0  # seconds for a run to end after it was cancelled, or for a draft to go on
POLL = 0.05  # seconds between two looks at that
LONGEST = 10_000  # characters of a value that is printed
OURS = (
    "mode",
    "workers",
    "store",
    "help",
    "version",
    "no_cache",
    "refresh",
)  # options of `pipedeco run` itself


TYPED = (bool, int, float, str, list, tuple, dict, set)  # defaults that say what a text is to be


def run(
    source: str,
    /,
    *arguments: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    mode: str | None = None,
    workers: int | None = None,
    no_cache: Annotated[bool, Parameter(negative="")] = False,
    refresh: Annotated[tuple[str, ...] | None, Parameter(n_tokens=1)] = None,
    seed: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    store: Store = None,
) -> int:
    """Run a pipeline of a file or module.

    Args:
        source: FILE_OR_MODULE[:PIPELINE]. The pipeline's own options come from its signature:
            `pipedeco run FILE --help` lists them.
        mode: debug (one step after the other in this process, where breakpoints hold), local (worker
            processes of this machine) or remote (the engines of the queues). By default what
            PIPEDECO_MODE or [tool.pipedeco] mode of pyproject.toml say, and else local; debug under
            a debugger.
        workers: How many worker processes it may use; by default what PIPEDECO_WORKERS or
            [tool.pipedeco] workers say, and else as many as this machine has CPUs.
        no_cache: Perform every step, and keep nothing for later.
        refresh: Perform the cached steps of this component, too, and replace what is known; `all`
            for all of them.
        seed: A whole number from which the generators of random numbers start each step. Where the
            pipeline has a parameter of this name, it is that.
    """
    from pipedeco.config import configure, find_progress
    from pipedeco.loading import find_pipeline

    configure(progress=find_progress("full"))
    pipeline = find_pipeline(source)
    chosen = {"mode": mode, "workers": workers, "store": store, "refresh": refresh}
    pipeline = pipeline.with_options(**{k: v for k, v in chosen.items() if v is not None})
    if no_cache:
        pipeline = pipeline.with_options(cache=False)
    if seed is not None and "seed" in inspect.signature(pipeline.fn).parameters:
        arguments = (f"--seed={seed}", *arguments)
    elif seed is not None:
        pipeline = pipeline.with_options(seed=_whole(seed))
    call = parse(pipeline, source, arguments)
    if call is None:  # it was help that was asked for
        return 0
    execution = prepare(pipeline, *call)
    code = finish(execution)
    unknown = _unknown(refresh or (), execution)
    if unknown and not code:
        complain(f"--refresh names {', '.join(unknown)}, which the run has no step or component of")
        return USAGE
    return code


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"--seed is a whole number, not {text!r}") from None


def _unknown(names: tuple[str, ...], execution: Execution) -> list[str]:
    """Which of these names are of no step and no component."""
    steps = execution.graph.steps
    if any(step.called.is_pipeline for step in steps):  # the names may be of a child run's
        return []
    there = {"all", *(step.name for step in steps), *(step.called.name for step in steps)}
    return [name for name in names if name not in there]


def prepare(pipeline: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Execution:
    """A run that is about to be executed."""
    try:
        execution: Execution = pipeline.prepare(args, kwargs)
    except TypeError as error:
        raise PipedecoError(f"{pipeline.name}: {error}") from None
    return execution


def finish(execution: Execution) -> int:
    """Execute a run, print its value, and give the exit code."""
    from pipedeco.config import find_progress
    from pipedeco.errors import RunCancelled, RunFailed
    from pipedeco.user_frames import hide_ours
    from pipedeco.worker.perform import describe_error

    name = execution.pipeline.name
    try:
        value = execution.execute()
    except (KeyboardInterrupt, RunCancelled):
        return CANCELLED
    except RunFailed as error:
        told = error.step is not None and find_progress() != "off"  # in full, with the step
        if error.__cause__ is not None and not told:
            print_traceback(describe_error(error.__cause__).traceback)
        complain(str(error))
        return FAILED
    except BaseException as error:  # noqa: BLE001 - whatever leaves the user's body
        if isinstance(error, SystemExit):
            return _exit_code(error)
        hide_ours(error)
        known = describe_error(error)
        print_traceback(known.traceback)
        complain(f"run {execution.id} of {name} failed: {known.type}: {known.text}")
        return FAILED
    if value is not None:
        say(_shown(value))
    return 0


def _shown(value: Any) -> str:
    """What the prompt would show, and its start where that is very long."""
    from pipedeco.text import preview

    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - the user's class
        return preview(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text):,} characters)"


def _exit_code(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    write_stderr(f"{error.code}\n")
    return FAILED


# -- the pipeline's own options ------------------------------------------------------------


def parse(
    pipeline: Any,
    source: str,
    arguments: tuple[str, ...],
    *,
    recorded: dict[str, Any] | None = None,
    command: str = "run",
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Arguments of a pipeline from the words of a command line; None where help was asked for.

    The options are made from its signature, their help from its docstring; `recorded` values stand
    in the place of defaults, and only what differs from them is given back.
    Raises CycloptsError.
    """
    found: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    app = App(
        name=f"pipedeco {command} {source}",
        default_parameter=Parameter(consume_multiple=True, negative_iterable=(), converter=read),
        version_flags=[],
        help_format="plaintext",
    )
    app["--help"].group = "Parameters"
    take = _taker(pipeline.fn, lambda *args, **kwargs: found.append((args, kwargs)), recorded)
    app.default(take)
    words = join_dashed(arguments, app.assemble_argument_collection())
    try:
        app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except MissingArgumentError as error:
        raise _told_missing(error, f"pipedeco {command} {source} --help") from None
    return found[0] if found else None


def _told_missing(error: MissingArgumentError, see: str) -> CycloptsError | ConfigError:
    """That an option is not given at all; cyclopts says so of its value."""
    argument = error.argument
    if argument is None or argument.has_tokens or error.keyword is not None:
        return error
    stray = [word for word in error.unused_tokens or () if not word.startswith("-")]
    more = f" {stray[0]!r} follows no option: write {argument.name} {stray[0]};" if stray else ""
    return ConfigError(f"the option {argument.name} is missing;{more} see {see}")


def _taker(
    fn: Callable[..., Any], take: Callable[..., None], recorded: dict[str, Any] | None
) -> Callable[..., None]:
    """`take` with the signature of `fn`, its parameters by name alone unless it takes any number."""

    def taker(*args: Any, **kwargs: Any) -> None:
        take(*args, **kwargs)

    signature = inspect.signature(fn)
    given = list(signature.parameters.values())
    if recorded is not None:  # variadic ones stay as they are
        given = [
            parameter.replace(default=recorded.get(parameter.name))
            for parameter in given
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]
    variadic = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in given)
    parameters = [
        parameter.replace(
            kind=parameter.kind if variadic else _kind(parameter),
            annotation=_annotation(fn, parameter),
        )
        for parameter in given
    ]
    taker.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=sorted(parameters, key=lambda parameter: parameter.kind),
        return_annotation=inspect.Signature.empty,
    )
    taker.__annotations__ = {}
    taker.__doc__ = fn.__doc__
    return taker


def _kind(parameter: inspect.Parameter) -> Any:
    by_name = parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    return parameter.KEYWORD_ONLY if by_name else parameter.kind


def _annotation(fn: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """The annotation as a type; what cannot be found (as under TYPE_CHECKING) is as if not there.

    A parameter that has the name of an option of ours is asked for as `--param-NAME`.
    """
    annotation = parameter.annotation
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, getattr(fn, "__globals__", {}))  # noqa: S307 - the user's own
        except Exception:  # noqa: BLE001 - whatever stands there
            annotation = parameter.empty
    annotation = _with_reader(annotation)
    if parameter.name not in OURS:
        return annotation
    if annotation is parameter.empty:
        annotation = (
            str if parameter.default in (None, parameter.empty) else type(parameter.default)
        )
    return Annotated[annotation, Parameter(name=f"--param-{parameter.name}")]


def _with_reader(annotation: Any) -> Any:
    """An annotation with what cyclopts needs to know of it; one that says it by itself stays."""
    if typing.get_origin(annotation) is Annotated:
        return annotation
    extra: dict[str, Any] = {}
    members = members_of(annotation)
    if type(None) in members:
        extra["converter"] = read_or_none
    if any(map(has_other_keys, members)):
        extra["accepts_keys"] = False  # --limits.1 2: cyclopts has keys of texts only
    if any(map(has_single_words, members)):
        extra["n_tokens"] = -1
    return Annotated[annotation, Parameter(**extra)] if extra else annotation


# -- resume ----------------------------------------------------------------------------------


def resume(
    run: Annotated[str, Parameter(completer=complete_run)] = "latest",
    /,
    *,
    mode: str | None = None,
    workers: int | None = None,
    plan: Annotated[bool, Parameter(negative="")] = False,
    store: Store = None,
) -> int:
    """Go on with a run that was interrupted, failed or cancelled.

    What it has recorded is not performed again, unless its code or its inputs have changed.

    Args:
        run: An id, a unique prefix of one, pipeline#number, a pipeline's name, or latest.
        mode: debug, local or remote; by default the run's own.
        workers: How many worker processes it may use.
        plan: Only tell which steps would be kept, and which performed.
    """
    from pipedeco.config import configure, find_progress
    from pipedeco.run import get_run, prepare_resume

    found = get_run(run, store=store)
    if plan:
        print_table(("step", "is", "because"), found.resume_plan())
        return 0
    configure(progress=find_progress("full"))
    chosen = {"mode": mode, "workers": workers}
    return finish(prepare_resume(found, **{k: v for k, v in chosen.items() if v is not None}))


# -- rerun -----------------------------------------------------------------------------------


def rerun(
    run: Annotated[str, Parameter(completer=complete_run)],
    /,
    *arguments: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    mode: str | None = None,
    workers: int | None = None,
    from_run: Annotated[bool, Parameter(negative="--from-code")] = False,
    store: Store = None,
) -> int:
    """Run again with a run's parameters, some of them changed.

    Args:
        run: An id, a unique prefix of one, pipeline#number, a pipeline's name, or latest. The pipeline's own options
            change its parameters: `pipedeco rerun RUN --help` lists them with the recorded values.
        mode: debug, local or remote; by default the run's own.
        workers: How many worker processes it may use.
        from_run: With the code as it was recorded (commit, uncommitted changes and untracked
            sources of its git repository); by default with the code as it is now.
    """
    from pipedeco.config import configure, find_progress
    from pipedeco.run import get_run, prepare_rerun

    found = get_run(run, store=store)
    configure(progress=find_progress("full"))
    with contextlib.ExitStack() as cleanup:
        pipeline = _as_recorded(found, cleanup) if from_run else found.find_pipeline()
        call = parse(pipeline, found.name, arguments, recorded=found.params, command="rerun")
        if call is None:  # it was help that was asked for
            return 0
        chosen = {"mode": mode or found.mode, "workers": workers}
        options = {name: value for name, value in chosen.items() if value is not None}
        return finish(prepare_rerun(found, pipeline, call[1], **options))


def _as_recorded(found: Run, cleanup: contextlib.ExitStack) -> Any:
    """The run's pipeline from the files as they were, in a folder that is removed afterwards."""
    import tempfile

    from pipedeco.loading import RESTORED, find_recorded
    from pipedeco.reproducing import restore

    folder = cleanup.enter_context(tempfile.TemporaryDirectory(prefix=RESTORED))
    module, qualname, file = found.defined_in
    path = restore(found.capture, file, folder)
    root = os.path.dirname(path)
    for _ in range(0 if module == "__main__" else module.count(".")):
        root = os.path.dirname(root)
    sys.path.insert(0, root)
    os.chdir(root)
    cleanup.callback(os.chdir, os.path.abspath(os.sep))  # out of what is removed
    return find_recorded(module, qualname, path)


# -- cancel --------------------------------------------------------------------------------


def cancel(
    run: Annotated[str, Parameter(completer=complete_run)], /, *, store: Store = None
) -> int:
    """Cancel a run that goes on, whichever process performs it; waits until it has ended.

    Args:
        run: An id, a unique prefix of one, pipeline#number, a pipeline's name, or latest.
    """
    from pipedeco.run import get_run

    found = get_run(run, store=store)
    status = found.status
    if status != "running":
        raise RunNotFound(f"run {found.id} of {found.pipeline} does not run: it is {status}")
    found.cancel()
    if not found.wait(PATIENCE):
        raise PipedecoError(
            f"run {found.id} was asked to stop and has not within {PATIENCE:g} s; "
            f"look at it with: pipedeco show {found.id}"
        )
    say(f"{found.name}  {found.id}  {found.status}")
    return 0


# -- release -------------------------------------------------------------------------------


def release(
    run: Annotated[str, Parameter(completer=complete_run)],
    step: Annotated[str, Parameter(completer=complete_step)],
    /,
    *,
    store: Store = None,
) -> int:
    """Let a draft step go on, which waits for that, whichever process performs its run.

    Args:
        run: An id, a unique prefix of one, pipeline#number, a pipeline's name, or latest.
        step: Its name.
    """
    from pipedeco.run import get_run

    found = get_run(run, store=store)
    found.release(step)
    deadline = time.monotonic() + PATIENCE
    while found.waits(step) and found.status == "running":
        if time.monotonic() > deadline:
            raise PipedecoError(
                f"step {step} of run {found.id} was released and has not gone on within "
                f"{PATIENCE:g} s; look at it with: pipedeco show {found.id}"
            )
        time.sleep(POLL)
    say(f"step {step} of {found.name} {found.id} is released")
    return 0

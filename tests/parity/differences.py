"""The differences from the bare program that are known: why they are, and what tells users so.

A row stays for as long as its difference does: then the test of its program says "no longer differs".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from parity.harness import Found

EVERY = ("debug", "local", "spawn", "remote")
WORKERS = ("local", "spawn", "remote")
DEBUG = ("debug",)
REMOTE = ("remote",)


class Known(NamedTuple):
    """A difference that a program shows in some modes.

    Attributes
    ----------
    program, modes, aspects : what differs, where; aspects in one text.
    why : what is behind it, for a reader of this table.
    like : a part of each text that tells it; "" for all of these aspects.
    raises : a part of each traceback that tells it: another failure is a new difference.
    limits : the words of README's Limits that tell users of it.
    always : False where it depends on which worker gets which step.
    """

    program: str
    modes: tuple[str, ...]
    aspects: str
    why: str
    like: str = ""
    raises: str = ""
    limits: str = ""
    always: bool = True


class Verdict(NamedTuple):
    """What the table says of the differences that a program shows in a mode."""

    new: list[Found]
    known: list[tuple[Known, Found]]
    gone: list[tuple[Known, str]]  # with the aspect in which nothing differs any more


def judge(program: str, mode: str, found: list[Found]) -> Verdict:
    """Hold what was found against the table."""
    rows = [row for row in KNOWN if row.program == program and mode in row.modes]
    known = [(row, one) for one in found for row in rows if _tells(row, one)]
    told = [one for _, one in known]
    seen = {(row, one.aspect) for row, one in known}
    return Verdict(
        [one for one in found if one not in told],
        known,
        [(r, a) for r in rows if r.always for a in r.aspects.split() if (r, a) not in seen],
    )


def _tells(row: Known, one: Found) -> bool:
    parts = row.like, row.raises if one.aspect == "traceback" else ""
    return one.aspect in row.aspects.split() and all(part in one.text for part in parts)


# ---- what stays, and the words of README's Limits

FUTURES = "Some operations cannot wait for a value and see the future instead"
BODY_IN_PLACE = "A result cannot be changed in place"
STEP_IN_PLACE = "What a step changes in place in its arguments nobody sees outside it"
STATE = "What a step changes outside its value"
LIBRARIES = "what the program sets in libraries while it runs"
ASYNC = "`async def` pipelines are refused"
EXIT = "A step that calls `sys.exit` fails"
COPIES = "Arguments and values are copies"
FOLDERS = "Files that steps of remote mode write by relative paths"
DESCRIPTORS = "In debug mode the log of a step"
UTF8 = "Workers write UTF-8"
CONTEXT = "Context variables have in steps the values"
LOGGING = "Logging that the body changes"
QUEUES = "A record that goes through a queue"
PLUGINS = "A module that the body loads by its path"
SEEDS = "Without `seed=`"
COMPUTED = "In remote mode what a module computes"
ONCE = "A warning that Python shows once"
POOLS = "A pipeline or component of the script"
BEGINS = "Steps begin in the working directory in which the run began"
AFTER = "What a thread of a step writes after the run has ended"
GENERATORS = "Generator functions are refused"
OUTPUTS = "A component that returns another number of outputs than it declares"
LATE = "A failure that the body does not read"
CALLERS = "A warning that a component gives about its caller"
DEPTH = "In debug mode pipelines nest some 200 deep"
FULL = "If stdout is full or nobody reads it"
ORDER = "Calls that do not take each other's results have no order"


def _staying() -> Iterator[Known]:
    yield Known(
        "limits_futures", EVERY, "stdout", "they ask no method of the future", limits=FUTURES
    )
    yield Known("limits_async_pipeline", EVERY, "stdout steps", "refused", limits=ASYNC)
    in_place = "the recorded value is another than the one that would be passed on"
    aspects = "end stdout traceback steps"
    passed_on = "and the result is now passed on"
    yield Known("limits_in_place", EVERY, aspects, in_place, raises=passed_on, limits=BODY_IN_PLACE)
    for program in ("limits_in_place", "methods", "shapes", "seeds"):
        warns = "debug mode warns of what the other modes would not do"
        yield Known(program, DEBUG, "stderr", warns, limits=STEP_IN_PLACE)
    own = "a step has copies of its process's state, and leaves its worker as it found it"
    yield Known("limits_globals", WORKERS, "stdout", own, limits=STATE)
    yield Known("log_default", WORKERS, "stdout", own, like="6 ", limits=STATE)
    made = "workers are told of the program's own modules, not of what it sets in libraries"
    yield Known("limits_library_state", WORKERS, "stdout logs", made, limits=LIBRARIES)
    yield from _results_as_they_are()
    leaves = "the worker lives on, and the step's failure is recorded"
    yield Known("limits_exit", EVERY, "end traceback", leaves, raises="SystemExit: 3", limits=EXIT)
    yield Known("exception_kinds", EVERY, "stdout", leaves, like="stop ", limits=EXIT)
    copied = "they travel as pickles, and each interpreter has its own hash seed"
    yield Known("limits_identity", WORKERS, "stdout", copied, limits=COPIES)
    pickled = "what cannot be copied for want of memory is neither passed on nor returned"
    yield Known("out_of_memory", EVERY, "stdout steps", pickled, limits=COPIES)
    there = "each run has a working directory of its own where its engine is"
    for program in (
        "ascii_terminal",
        "etl_sqlite",
        "frames",
        "leftovers",
        "orders_src",
        "proxies",
        "top_level",
    ):
        yield Known(program, REMOTE, "files", there, limits=FOLDERS)
    for program in ("plots", "training"):  # the body makes a folder
        aspects = "end stdout traceback files steps"
        yield Known(program, REMOTE, aspects, there, raises="FileNotFoundError", limits=FOLDERS)
    tee = "debug mode listens to sys.stdout and sys.stderr as they are when the step begins"
    for program in ("streams", "subprocesses"):
        yield Known(program, DEBUG, "logs", tee, limits=DESCRIPTORS)
    text = "logs keep what was written; what the terminal cannot show is escaped when it is shown"
    yield Known("ascii_terminal", EVERY, "logs", text, limits=UTF8)
    yield Known("ascii_terminal", WORKERS, "stdout", text, like="ANSI", limits=UTF8)

    first = "the values go along with the first call of a component in a run"
    yield Known("context_vars", WORKERS, "stdout", first, limits=CONTEXT)
    notice = "pipedeco's own logger tells of the files"
    yield Known("log_basic_file", REMOTE, "stdout files", notice, limits=FOLDERS)
    captured = "logging.captureWarnings(True) of the body"
    yield Known("log_default", WORKERS, "stderr logs", captured, limits=LOGGING)
    queued = "its listener has another thread, and a format of its own"
    yield Known("log_queue", EVERY, "logs", queued, limits=QUEUES, always=False)
    aspects = "end stdout traceback steps"
    found = "a run's setting is written as the run begins"
    yield Known("plugins", REMOTE, aspects, found, raises="ModuleNotFoundError", limits=PLUGINS)
    named = "a pipeline of __main__ cannot be pickled by its name, as multiprocessing does"
    yield Known("pool_of_pipelines", EVERY, aspects, named, raises="PicklingError", limits=POOLS)
    entropy = "no seed= is given, of which a run warns"
    yield Known("seeds_global", WORKERS, "stdout stderr", entropy, limits=SEEDS)
    computed = "a module may compute what is right on its machine alone"
    yield Known("settings_in_main", REMOTE, "stdout", computed, limits=COMPUTED)
    places = "each worker shows a warning once, where the program shows it once"
    yield Known("warnings_parallel", WORKERS, "stderr", places, limits=ONCE, always=False)

    begun = "the folder goes along with the run, and not with each call"
    yield Known("limits_folder", WORKERS, "stdout", begun, limits=BEGINS)
    over = "nobody reads a worker's log then"
    yield Known("limits_late_thread", WORKERS, "stdout", over, limits=AFTER)
    apart = "two workers perform them at once"
    yield Known("limits_order", WORKERS, "stdout", apart, limits=ORDER, always=False)
    shown = "a worker's output is shown by the controller, which goes on without"
    yield Known("limits_full_stdout", WORKERS, "stderr steps", shown, limits=FULL)
    between = "frames of ours lie between those of the bodies"
    yield Known("limits_depth", DEBUG, "stdout steps", between, limits=DEPTH)
    nobody = "no line of the program calls it where it is performed"
    yield Known("limits_stacklevel", EVERY, "stderr logs", nobody, limits=CALLERS)


def _results_as_they_are() -> Iterator[Known]:
    """Results that the body does not read."""
    cells = (
        "pandas keeps what it is given; the body is warned, and the value that leaves has values"
    )
    yield Known("limits_tables", EVERY, "stdout stderr", cells, limits=FUTURES)
    lazy = "nobody would perform the calls once the body has ended"
    yield Known("limits_generators", EVERY, "stdout steps", lazy, limits=GENERATORS)
    warned = "the body is warned that the handler does not see the failure"
    yield Known("limits_outputs", EVERY, "stderr", warned, limits=OUTPUTS)
    aspects = "end stdout traceback steps"
    many = "the value is not there yet as it is taken apart"
    text = "too many values"
    yield Known("limits_outputs", WORKERS, aspects, many, raises=text, limits=OUTPUTS)
    ended = "the failure arrives as the body returns"
    text = "ValueError: invalid literal"
    yield Known("limits_late_failure", WORKERS, "traceback", ended, raises=text, limits=LATE)


KNOWN = tuple(_staying())

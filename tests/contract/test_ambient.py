"""What a program has set up around its steps is in force in them, and no step changes it for others."""

import contextvars
import decimal
import gc
import json
import locale
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import types
import warnings
from pathlib import Path

import pytest
from conftest import wait_for

from pipedeco import component, pipeline, value

in_workers = pytest.mark.parametrize("mode", ["local", "remote"], indirect=True)
VARIABLE = contextvars.ContextVar("of the program", default="program")


class Own(UserWarning):
    """A category of the program's own."""


@component
def settings():
    """Everything that a step may find otherwise than the program had it."""
    context = decimal.getcontext()
    return {
        "precision": (context.prec, context.rounding, context.traps[decimal.Inexact]),
        "threads' precision": decimal.DefaultContext.prec,
        "locale": locale.setlocale(locale.LC_ALL),
        "socket": socket.getdefaulttimeout(),
        "folder": tempfile.gettempdir(),
        "gc": (gc.isenabled(), gc.get_threshold(), gc.get_debug()),
        "switch": sys.getswitchinterval(),
        "digits": sys.get_int_max_str_digits(),
        "zone": (os.environ.get("TZ"), time.tzname, time.localtime(0).tm_hour),
        "variable": os.environ.get("AMBIENT"),
    }


@pytest.fixture(autouse=True)
def as_it_was():
    """Everything is put back after a test, which changes this process's own settings."""
    environment = dict(os.environ)
    zones = locale.setlocale(locale.LC_ALL)
    default = decimal.DefaultContext.prec
    kept = (
        gc.get_threshold(),
        sys.getswitchinterval(),
        sys.get_int_max_str_digits(),
        tempfile.tempdir,
    )
    with warnings.catch_warnings(), decimal.localcontext():
        yield
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    locale.setlocale(locale.LC_ALL, zones)
    decimal.DefaultContext.prec = default
    gc.enable()
    gc.set_threshold(*kept[0])
    sys.setswitchinterval(kept[1])
    sys.set_int_max_str_digits(kept[2])
    tempfile.tempdir = kept[3]
    socket.setdefaulttimeout(None)


def run_script(code, tmp_path):
    """What a program of its own has printed."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(code))
    folders = Path(__file__).parent, Path(__file__).parent.parent
    environment = {
        "PIPEDECO_STORE": str(tmp_path / "store"),
        "PIPEDECO_QUEUES": json.dumps({"default": "local://1"}),
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
    }
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def change_everything(folder):
    decimal.getcontext().prec = 7
    decimal.getcontext().rounding = decimal.ROUND_DOWN
    decimal.getcontext().traps[decimal.Inexact] = True
    decimal.DefaultContext.prec = 9
    locale.setlocale(locale.LC_NUMERIC, "C.UTF-8")
    socket.setdefaulttimeout(17.5)
    tempfile.tempdir = str(folder)
    gc.disable()
    gc.set_threshold(900, 5, 5)
    sys.setswitchinterval(0.25)
    sys.set_int_max_str_digits(9000)
    os.environ["TZ"] = "Asia/Tokyo"
    os.environ["AMBIENT"] = "changed"
    time.tzset()


@pytest.mark.parametrize("where", ["before the run", "in the body"])
def test_settings_are_in_force_in_steps(mode, where, tmp_path):
    """A step finds what the bare function would find at the same place."""

    @pipeline
    def body():
        before = settings()
        if where == "in the body":
            change_everything(tmp_path)
        return before, settings()

    if where == "before the run":
        change_everything(tmp_path)
    expected = settings.fn()
    before, after = body()
    assert after == settings.fn()
    assert (before == after) == (where == "before the run")
    if where == "before the run":
        assert before == expected


@in_workers
def test_a_run_that_has_set_nothing_finds_nothing_of_the_run_before(mode, tmp_path):
    """Workers live on from run to run, and settings do not."""

    @pipeline(workers=1)
    def body():
        return settings()

    plain = body()
    with decimal.localcontext():
        change_everything(tmp_path)
        changed = body()
    assert changed != plain
    locale.setlocale(locale.LC_NUMERIC, "C")
    decimal.DefaultContext.prec = 28
    socket.setdefaulttimeout(None)
    tempfile.tempdir = None
    gc.enable()
    gc.set_threshold(700, 10, 10)
    sys.setswitchinterval(0.005)
    sys.set_int_max_str_digits(4300)
    for name in ("TZ", "AMBIENT"):
        os.environ.pop(name, None)
    time.tzset()
    assert body() == plain


@component
def environment(*names):
    return tuple(os.environ.get(name) for name in names)


def test_a_step_sees_the_environment_as_it_was_at_its_call(mode):
    """Each of many calls that wait together has its own."""

    @pipeline
    def body():
        os.environ["BEFORE"] = "1"
        found = []
        for number in range(12):
            os.environ["NUMBER"] = str(number // 2)
            if number == 6:
                del os.environ["BEFORE"]
            found.append(environment("NUMBER", "BEFORE"))
        os.environ.pop("NUMBER")
        return value(found), value(environment("NUMBER", "BEFORE"))

    found, last = body()
    assert found == [(str(n // 2), "1" if n < 6 else None) for n in range(12)]
    assert last == (None, None)


def test_a_second_attempt_sees_the_environment_of_the_call(mode, tmp_path):
    """A retry is the same call."""

    @component(retries=1)
    def twice(mark):
        if not os.path.exists(mark):
            open(mark, "w").close()
            raise ValueError
        return os.environ.get("AMBIENT")

    @pipeline
    def body():
        os.environ["AMBIENT"] = "at the call"
        result = twice(str(tmp_path / "mark"))
        os.environ["AMBIENT"] = "later"
        return result

    assert body() == "at the call"


def test_what_follows_in_one_batch_has_its_own_environment(mode):
    """Chains of short steps travel together."""

    @component
    def add(number, name):
        return [*number, os.environ.get(name)]

    @pipeline
    def body():
        found = [[]]
        for number in range(30):
            os.environ["AMBIENT"] = str(number)
            found.append(add(found[-1], "AMBIENT"))
        return found[-1]

    assert body() == [str(n) for n in range(30)]


def test_a_child_pipeline_sees_what_its_parent_had_at_the_call(mode):
    """It begins when its inputs are there, and its steps see what it sets itself."""

    @component
    def number():
        return 3

    @pipeline
    def child(count):
        first = environment("AMBIENT", "OF_THE_CHILD")
        os.environ["OF_THE_CHILD"] = "yes"
        second = environment("AMBIENT", "OF_THE_CHILD")
        os.environ.pop("OF_THE_CHILD")
        return first, second, decimal.getcontext().prec, settings()["precision"][0], count

    @pipeline
    def body():
        decimal.getcontext().prec = 11
        os.environ["AMBIENT"] = "at the call"
        found = child(number())
        os.environ["AMBIENT"] = "later"
        return found

    assert body() == (("at the call", None), ("at the call", "yes"), 11, 11, 3)


def test_a_default_time_out_of_sockets_is_for_the_programs(tmp_path):
    """Our own connections go on waiting, from the first on."""
    code = """
        import socket
        socket.setdefaulttimeout(0.2)
        from pipedeco import component, pipeline

        @component
        def slow(seconds):
            import time
            time.sleep(seconds)  # longer than that
            return socket.getdefaulttimeout()

        @pipeline
        def body():
            return [slow(0.5), slow(0)]

        for mode in ("local", "remote"):
            print(mode, body.with_options(mode=mode)(), flush=True)
        print("spawn", body.with_options(start_method="spawn")())
    """
    assert run_script(code, tmp_path).splitlines() == [
        "local [0.2, 0.2]",
        "remote [0.2, 0.2]",
        "spawn [0.2, 0.2]",
    ]


@component
def warn(text, category=UserWarning):
    warnings.warn(text, category, stacklevel=1)
    return "went on"


def test_a_filter_that_raises_does_so_in_steps(mode):
    """As `warnings.simplefilter("error")` of the program is for its functions."""

    @pipeline
    def body():
        return warn("of the step", Own)

    warnings.resetwarnings()
    warnings.simplefilter("ignore")
    warnings.filterwarnings("error", "of the", Own)
    with pytest.raises(Own, match="of the step"):
        body()
    warnings.filterwarnings("ignore", "of the step")
    assert body() == "went on"


@in_workers
def test_filters_are_not_doubled(mode):
    """Those of Python, of -W and ours are there once."""

    @component
    def filters():
        return [
            (f[0], f[2].__name__, f[3] and getattr(f[3], "pattern", f[3])) for f in warnings.filters
        ]

    @pipeline(workers=1)
    def body():
        return filters(), filters()

    own, again = body()
    assert own == again
    assert own[1:] == filters.fn()
    assert own[0][0] == "ignore"


def test_a_body_that_catches_warnings_catches_those_of_its_steps(mode, capfd):
    """`with warnings.catch_warnings():` round a call."""

    @pipeline
    def body():
        warnings.simplefilter("always")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quiet = warn("not to be seen")
        return value(quiet), value(warn("to be seen"))

    with warnings.catch_warnings():  # pytest's own takes what this process warns of
        warnings.showwarning = lambda message, *_: sys.stderr.write(f"{message}\n")
        assert body() == ("went on", "went on")
    told = capfd.readouterr().err
    assert "to be seen" in told
    assert "not to be seen" not in told


def show(message, category, filename, lineno, file=None, line=None):
    sys.stderr.write(f"shown by the program: {message}\n")


def test_the_programs_way_to_show_warnings_is_that_of_steps(mode, capfd, monkeypatch):
    """And of no later run that has another."""

    @pipeline(workers=1)
    def body():
        return warn("of the step")

    warnings.simplefilter("always")
    with monkeypatch.context() as patch:
        patch.setattr(warnings, "showwarning", show)
        assert body() == "went on"
    assert "shown by the program: of the step" in capfd.readouterr().err
    if mode != "debug":  # pytest's own takes what this process warns of
        assert body() == "went on"
        told = capfd.readouterr().err
        assert "shown by the program" not in told
        assert "UserWarning: of the step" in told


@pytest.mark.parametrize("mode", ["local"], indirect=True)
def test_what_cannot_travel_is_told_of(mode, monkeypatch):
    """With the cure."""
    told = []
    generator = (n for n in range(3))

    def held(message, *_):
        next(generator)
        told.append(str(message))

    @pipeline
    def body():
        return 1

    warnings.simplefilter("always")
    monkeypatch.setattr(warnings, "showwarning", held)
    body()
    assert len(told) == 1
    assert "warnings.showwarning" in told[0]
    assert "setup=" in told[0]


# -- what a step leaves --------------------------------------------------------------------------


def handler(*_):
    pass


def umask():
    found = os.umask(0)
    os.umask(found)
    return found


def limits():
    kinds = sorted({kind for name, kind in vars(resource).items() if name.startswith("RLIMIT_")})
    return [resource.getrlimit(kind) for kind in kinds]


STATES = {
    "context variables": (VARIABLE.get, lambda: VARIABLE.set("step")),
    "decimal": (
        lambda: decimal.getcontext().prec,
        lambda: setattr(decimal.getcontext(), "prec", 3),
    ),
    "decimal, another object": (
        lambda: decimal.getcontext().prec,
        lambda: decimal.setcontext(decimal.Context(prec=4)),
    ),
    "decimal of threads": (
        lambda: decimal.DefaultContext.prec,
        lambda: setattr(decimal.DefaultContext, "prec", 5),
    ),
    "traps": (
        lambda: decimal.getcontext().traps[decimal.Inexact],
        lambda: decimal.getcontext().traps.update({decimal.Inexact: True}),
    ),
    "zone": (
        lambda: (time.tzname, time.localtime(0).tm_hour, os.environ.get("TZ")),
        lambda: (os.environ.update(TZ="Pacific/Auckland"), time.tzset()),
    ),
    "zone, and the variable is gone": (
        lambda: (time.tzname, time.localtime(0).tm_hour),
        lambda: (os.environ.update(TZ="Pacific/Auckland"), time.tzset(), os.environ.pop("TZ")),
    ),
    "filters": (lambda: [f[:2] for f in warnings.filters], lambda: warnings.simplefilter("error")),
    "no filters": (lambda: [f[:2] for f in warnings.filters], warnings.resetwarnings),
    "showwarning": (
        lambda: warnings.showwarning.__name__,
        lambda: setattr(warnings, "showwarning", handler),
    ),
    "locale": (
        lambda: locale.setlocale(locale.LC_ALL),
        lambda: locale.setlocale(locale.LC_TIME, "C.UTF-8"),
    ),
    "limits": (limits, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits()[7][1]))),
    "stack": (limits, lambda: resource.setrlimit(resource.RLIMIT_STACK, (1 << 22, limits()[3][1]))),
    "signals": (
        lambda: signal.getsignal(signal.SIGUSR1),
        lambda: signal.signal(signal.SIGUSR1, handler),
    ),
    "ignored": (
        lambda: signal.getsignal(signal.SIGPIPE),
        lambda: signal.signal(signal.SIGPIPE, signal.SIG_DFL),
    ),
    "timers": (
        lambda: signal.getitimer(signal.ITIMER_VIRTUAL),
        lambda: (
            signal.signal(signal.SIGVTALRM, handler),
            signal.setitimer(signal.ITIMER_VIRTUAL, 1000),
        ),
    ),
    "socket": (socket.getdefaulttimeout, lambda: socket.setdefaulttimeout(1.5)),
    "gc": (gc.isenabled, gc.disable),
    "thresholds": (gc.get_threshold, lambda: gc.set_threshold(3, 4, 5)),
    "tempdir": (tempfile.gettempdir, lambda: setattr(tempfile, "tempdir", "/proc")),
    "excepthook": (lambda: sys.excepthook.__name__, lambda: setattr(sys, "excepthook", handler)),
    "trace": (sys.gettrace, lambda: sys.settrace(handler)),
    "profile": (sys.getprofile, lambda: sys.setprofile(handler)),
    "switch": (sys.getswitchinterval, lambda: sys.setswitchinterval(0.5)),
    "digits": (sys.get_int_max_str_digits, lambda: sys.set_int_max_str_digits(5000)),
    "stdin": (lambda: getattr(sys.stdin, "name", "none"), lambda: setattr(sys, "stdin", None)),
    "nice": (lambda: os.getpriority(os.PRIO_PROCESS, 0), lambda: os.nice(3)),
    "environment": (lambda: os.environ.get("AMBIENT"), lambda: os.environ.update(AMBIENT="step")),
    "folder": (os.getcwd, lambda: os.chdir("/")),
    "umask": (umask, lambda: os.umask(0o012)),
    "path": (lambda: list(sys.path), lambda: sys.path.insert(0, "/nowhere")),
}


@component
def look(kind):
    return repr(STATES[kind][0]())


@component
def change(kind):
    before = repr(STATES[kind][0]())
    STATES[kind][1]()
    return before, repr(STATES[kind][0]())


@component
def fail():
    decimal.getcontext().prec = 3
    VARIABLE.set("step")
    warnings.simplefilter("error")
    raise SystemExit(3)


@component
def wait(begun, told):
    VARIABLE.set("step")
    try:
        open(begun, "w").close()
        time.sleep(60)
    finally:
        with open(told, "w") as file:
            file.write(VARIABLE.get())


@in_workers
def test_no_step_sees_what_another_has_changed(mode):
    """A step changes something, and the next one in the same worker finds it as it was."""

    @pipeline(workers=1)
    def body():
        return {kind: (look(kind), change(kind), look(kind)) for kind in STATES}

    for kind, (before, (begun, changed), after) in body().items():
        assert begun == before, kind
        assert changed != before, kind
        assert after == before, kind


def test_spawned_workers_are_no_others(tmp_path):
    """A program of its own, as multiprocess leaves a process that tracks resources."""
    code = """
        import test_ambient as tests
        from pipedeco import pipeline

        @pipeline(mode="local", start_method="spawn", workers=1)
        def leaks():
            kinds = {kind: [tests.look(kind), tests.change(kind)] for kind in tests.STATES}
            return kinds, {kind: tests.look(kind) for kind in tests.STATES}

        @pipeline(mode="local", start_method="spawn")
        def settings():
            return tests.settings()

        found, after = leaks()
        for kind, (before, (begun, changed)) in found.items():
            assert begun == before == after[kind] != changed, kind
        tests.change_everything("/tmp")
        assert settings() == tests.settings.fn()
    """
    assert run_script(code, tmp_path) == ""


@in_workers
def test_a_step_that_fails_leaves_nothing_either(mode):
    """Whatever it raises."""

    @pipeline(workers=1)
    def body():
        before = value([look(kind) for kind in STATES])
        failed = fail()
        assert failed.exception() is not None
        return before == value([look(kind) for kind in STATES])

    assert body()


@in_workers
def test_a_worker_that_cannot_be_put_back_is_replaced(mode, monkeypatch):
    """A limit that may not be raised again ends the worker after its step, which counts once."""

    @component
    def spoil(number):
        """As for who is not root: what is lowered stays so."""
        import resource as module

        def refuse(*_):
            raise ValueError("not allowed to raise maximum limit")

        module.setrlimit(module.RLIMIT_CORE, (0, 0))
        module.setrlimit = refuse
        return number, os.getpid()

    @component
    def limit():
        return resource.getrlimit(resource.RLIMIT_CORE), os.getpid()

    @pipeline(workers=1)
    def body():
        before = value(limit())
        spoilt = [spoil(number) for number in range(6)]
        return before, value(spoilt), value(limit())

    before, spoilt, after = body()
    if before[0] == (0, 0):
        pytest.skip("there is nothing to lower here")
    assert [number for number, _ in spoilt] == list(range(6))
    assert len({pid for _, pid in spoilt}) == 6
    assert after[0] == before[0]
    assert after[1] not in [pid for _, pid in spoilt]


def set_up():
    os.environ["OF_THE_SETUP"] = "yes"
    socket.setdefaulttimeout(12.5)


def test_what_setup_has_set_stays_at_every_moment(mode):
    """Beside what the body sets, and after steps that change it."""

    @component
    def both():
        found = (
            os.environ.get("OF_THE_SETUP"),
            os.environ.get("OF_THE_BODY"),
            socket.getdefaulttimeout(),
        )
        if socket.getdefaulttimeout() != 12.5:
            return found
        return found[:2]

    @component
    def spoil():
        os.environ.pop("OF_THE_SETUP")
        socket.setdefaulttimeout(1)

    @pipeline(setup=set_up, workers=1)
    def body(number):
        os.environ["OF_THE_BODY"] = number
        first = both()
        if mode != "debug":  # where it would stay
            value(spoil())
        os.environ.pop("OF_THE_BODY")
        return first, both()

    for number in ("1", "2"):
        assert body(number) == (("yes", number), ("yes", None))


@pytest.mark.parametrize("mode", ["debug"], indirect=True)
def test_debug_mode_keeps_what_a_step_changes(mode):
    """As the bare program does."""

    @pipeline
    def body():
        value(change("decimal"))
        return look("decimal")

    assert body() == "3"


@in_workers
def test_a_cancelled_step_in_a_copy_of_the_context(mode, tmp_path):
    """Its `finally` still finds its own context."""

    @pipeline
    def body():
        wait(str(tmp_path / "begun"), str(tmp_path / "told"))

    run = body.start()
    wait_for(tmp_path / "begun")
    run.cancel()
    run.wait()
    assert (tmp_path / "told").read_text() == "step"


def test_steps_join_the_run_of_a_tracker(mode, monkeypatch):
    """By the variables that mlflow and wandb document, as they were at the call."""
    active = []
    mlflow = types.ModuleType("mlflow")
    mlflow.active_run = lambda: active[-1] if active else None
    mlflow.get_tracking_uri = lambda: "file:///runs"
    wandb = types.ModuleType("wandb")
    wandb.run = types.SimpleNamespace(id="w1", project="p", entity=None)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    names = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_TRACKING_URI", "WANDB_RUN_ID")

    @pipeline
    def body():
        before = environment(*names)
        active.append(
            types.SimpleNamespace(info=types.SimpleNamespace(run_id="r1", experiment_id="7"))
        )
        within = environment(*names)
        active.pop()
        return before, within, environment(*names)

    if mode == "debug":  # the steps are where the active run is
        expected = [(None,) * 4] * 3
    else:
        outside = None, None, None, "w1"
        expected = [outside, ("r1", "7", "file:///runs", "w1"), outside]
    assert list(body()) == expected

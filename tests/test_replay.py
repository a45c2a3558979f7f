"""Replay: a recorded step once more, in this process or under `pipedeco debug` on a terminal."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import wait_for, wait_until
from terminal import Terminal

from pipedeco import BlobCorrupt, ConfigError, StoreError, component, get_run, pipeline, runs
from pipedeco.cli.debugging import complete_step
from pipedeco.tracing import inside_step

COMMAND = str(Path(sys.executable).with_name("pipedeco"))

APP = """
import asyncio, dataclasses, functools, os, signal, sys
import numpy as np
from pipedeco import component, pipeline

@dataclasses.dataclass
class Point:
    x: float

RATE = 0

def divide(x):
    return x / RATE

@component
def load(n):
    return Point(n), np.arange(20_000.0)

@component
def fit(loaded, scale, *rest, k=1, **more):
    point, values = loaded
    assert isinstance(point, Point) and len(rest) == 2 and rest[1] is loaded
    total = float(point.x + values[0] + k)
    return divide(total)

@component
def after(x):
    return x

def doubled(function):
    @functools.wraps(function)
    def wrapper(*args):
        return 2 * function(*args)
    return wrapper

@component
@doubled
def wrapped(x):
    y = x[0]
    return y

pick = component(lambda d: d["a"])

@component
async def later(x, /):
    await asyncio.sleep(0)
    return x[0]

@component
def dies(marker):
    if not os.path.exists(marker):
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"

def make():
    @component
    def local(x):
        return x[0]
    return local

@pipeline
def child(x):
    return pick({"b": x})

@pipeline
def flow():
    loaded = load(4)
    after(fit(loaded, 2, "r", loaded, k=3, name="n"))
    wrapped(1)
    pick({"b": 1})
    later(5)
    dies("marker")
    make()(7)
    child(8)

if __name__ == "__main__":
    flow()
"""

STATES = {
    "load": "completed", "fit": "failed", "after": "skipped", "wrapped": "failed",
    "lambda": "failed", "later": "failed", "dies": "failed", "local": "failed", "child": "failed",
}  # fmt: skip


def execute(folder, *words):
    return subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False,
        timeout=30,
    )  # fmt: skip


def call(folder, *arguments):
    """`pipedeco debug` without a terminal."""
    done = subprocess.run(
        [COMMAND, "debug", *arguments], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, check=False, timeout=30,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPEDECO_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("PYTHONBREAKPOINT", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A run that another process has made, whose steps ended in every way."""
    folder = tmp_path_factory.mktemp("recorded")
    write(folder / "app.py", APP)
    before = os.environ.get("PIPEDECO_STORE")
    os.environ["PIPEDECO_STORE"] = str(folder / "store")
    done = execute(folder, "app.py")
    if before is None:
        del os.environ["PIPEDECO_STORE"]
    assert "RunFailed" in done.stderr, done.stderr
    return folder


@pytest.fixture
def app(recorded, monkeypatch):
    """Its folder, which the test is in and leaves as it was."""
    monkeypatch.setenv("PIPEDECO_STORE", str(recorded / "store"))
    monkeypatch.delenv("PYTHONBREAKPOINT", raising=False)
    monkeypatch.chdir(recorded)
    yield recorded
    write(recorded / "app.py", APP)


@pytest.fixture
def terminal():
    """`pipedeco debug` on a terminal, at its first prompt."""
    begun = []

    def begin(folder, *arguments, env=None):
        begun.append(Terminal(COMMAND, "debug", *arguments, cwd=folder, env=env))
        begun[-1].wait_for("(Pdb)", "pipedeco:")
        return begun[-1]

    yield begin
    for one in begun:
        one.close()


def ask(terminal, command, answer):
    """Type at the prompt; wait for an answer below what was typed."""
    terminal.send(f"{command}\n")
    return terminal.wait_for(answer)


def steps(name="latest"):
    return get_run(name).steps


# -- the API ----------------------------------------------------------------------------------


def test_the_run_has_every_state(app):
    """What the tests below replay."""
    assert {name: step.state for name, step in steps().items()} == STATES


def test_a_failed_step_raises_what_it_raised(app):
    """Its own exception, with the user's frames alone, from recorded values of all kinds."""
    with pytest.raises(ZeroDivisionError) as caught:
        steps()["fit"].replay(debugger=False)
    names = [entry.name for entry in caught.traceback]
    assert names[-2:] == ["fit", "divide"]
    assert not inside_step.get()


def test_this_process_is_left_as_it_was(app):
    """`__main__`, the import path and the command line."""
    before = sys.modules["__main__"], list(sys.argv), list(sys.path)
    point, values = steps()["load"].replay()
    assert (type(point).__module__, type(point).__name__, point.x) == ("__main__", "Point", 4)
    assert values.nbytes > 64 * 1024
    assert (sys.modules["__main__"], sys.argv, sys.path) == before


def test_mended_code_completes_and_the_change_is_told(app, capsys):
    """In one line on stderr, by the names of what has changed."""
    write(app / "app.py", APP.replace("RATE = 0", "RATE = 2"))
    assert steps()["fit"].replay() == 3.5
    assert capsys.readouterr().err == (
        "pipedeco: the code has changed since: value __main__.RATE\n"
    )


def test_unchanged_code_is_not_said_to_have_changed(app, capsys):
    """Comments and layout do not count either."""
    write(app / "app.py", "# a comment\n\n\n" + APP)
    for name in ("load", "wrapped", "later"):
        try:
            steps()[name].replay()
        except TypeError:
            pass
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "error"), [("wrapped", TypeError), ("lambda", KeyError), ("later", TypeError)]
)
def test_decorated_lambda_and_async_functions(app, name, error):
    """Found as they are."""
    with pytest.raises(error):
        steps()[name].replay()


def test_a_step_whose_worker_was_killed(app):
    """Its inputs are there."""
    (app / "marker").touch()
    assert steps()["dies"].replay() == "alive"
    (app / "marker").unlink()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("after", r"is skipped and never had its inputs: step fit, .*failed; .*debug \w+ fit"),
        ("local", r"make.<locals>.local was looked for in .*app.py; it was made inside another"),
        ("child", r"is a pipeline; replay the step that failed in its run: pipedeco debug \w+$"),
    ],
)
def test_what_cannot_be_replayed(app, name, sentence):
    """One sentence."""
    with pytest.raises(ConfigError, match=sentence):
        steps()[name].replay()


def test_a_step_of_a_child_run(app):
    """As the sentence above says; the command goes down to it by itself."""
    with pytest.raises(KeyError):
        steps(steps()["child"].child_run)["lambda"].replay()
    code, _, err = call(app, "latest", "child")
    assert code == 1
    assert f"step lambda of run {steps()['child'].child_run} (child#1) fails as recorded" in err


NESTED = """
from pipedeco import component, pipeline

@component
def divide(x):
    return 1 / x

@pipeline
def inner(x):
    return divide(x) + 1

@pipeline
def middle(x):
    return [divide(1), inner(x)]

@pipeline
def outer(x: int = 0, raises: bool = False):
    return middle(x)[1] + 1

@pipeline
def twice():
    inner(0)
    inner(0)

@pipeline
def fails_by_itself():
    raise LookupError("in the body")

@pipeline
def above():
    return fails_by_itself()

@pipeline
def well():
    return inner(1)
"""


def test_the_failed_step_is_found_at_any_depth(folder):
    """Where one alone failed; else the sentence says which there are, and in which run."""
    write(folder / "app.py", NESTED)
    for name, code in (("outer", 1), ("twice", 1), ("above", 1), ("well", 0)):
        done = execute(folder, "-m", "pipedeco", "run", f"app.py:{name}", "--mode", "local")
        assert done.returncode == code, done.stderr
    for words in (("outer#1",), ("outer#1", "middle")):
        code, _, err = call(folder, *words)
        assert code == 1
        assert "step divide of run" in err
        assert "(inner#1) fails as recorded" in err
    for words, sentence in (
        (("twice#1",), "2 steps of run .* failed; .* where STEP is one of inner, inner-2"),
        (
            ("above#1",),
            "no step of run .* failed; its body did: LookupError: in the body; name one",
        ),
        (("well#1", "inner"), "in which no step failed; name one of its steps to replay: .* STEP"),
    ):
        code, out, err = call(folder, *words)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert re.search(sentence, err)
    assert call(folder, "twice#1", "inner-2")[0] == 1


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("def fit(", "def fitted(", r"its function fit was looked for in .*app.py; it has been"),
        ("def fit(loaded, scale, *rest", "def fit(loaded, *, rest", r"fit\(\) too many positional"),
        ("RATE = 0", "RATE = 1 / 0", "cannot be loaded: ZeroDivisionError"),
        ("class Point:", "class Dot:", r"arguments of step fit .*no attribute 'Point'|'Point'"),
    ],
)
def test_code_that_has_changed_too_much(app, old, new, sentence):
    """What is missing, and where it was looked for."""
    write(app / "app.py", APP.replace(old, new))
    with pytest.raises((ConfigError, StoreError), match=sentence):
        steps()["fit"].replay()


def test_a_lost_value(folder):
    """The error names the step whose value it was."""
    write(folder / "app.py", APP)
    execute(folder, "app.py")
    for blob in (folder / "store" / "blobs").rglob("*"):
        if blob.is_file():
            blob.unlink()
    with pytest.raises(BlobCorrupt, match="the result of step load"):
        steps()["fit"].replay()


def test_a_script_of_another_machine(app, capsys, tmp_path, monkeypatch):
    """The file with the same end of its path, below the working directory."""
    write(tmp_path / "app.py", APP)
    (app / "app.py").unlink()
    monkeypatch.chdir("/")
    with pytest.raises(ConfigError, match=r"app.py, which is not there"):
        steps()["fit"].replay()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZeroDivisionError):
        steps()["fit"].replay()
    assert f"pipedeco: {tmp_path / 'app.py'} is taken for {app / 'app.py'}" in (
        capsys.readouterr().err
    )


def test_modules_packages_and_classes_of_the_script(folder, tmp_path_factory, monkeypatch):
    """A component of a package beside the script gets a value of a class in the script."""
    write(folder / "repl_lib" / "__init__.py", "")
    write(folder / "repl_lib" / "deep" / "__init__.py", "")
    write(
        folder / "repl_lib" / "deep" / "steps.py",
        """
        from pipedeco import component
        class Tools:
            @component
            def scale(self, conf):
                return conf.rate * [1][self]
            scale = staticmethod(scale)
        """,
    )
    write(
        folder / "train.py",
        """
        from pipedeco import pipeline
        from repl_lib.deep.steps import Tools
        class Conf:
            rate = 3
        @pipeline
        def train():
            Tools.scale(0, Conf())
            Tools.scale(1, Conf())
        train()
        print("never at a replay")
        """,
    )
    execute(folder, "train.py")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    try:
        assert steps()["scale"].replay() == 3
        with pytest.raises(IndexError):
            steps()["scale-2"].replay()
    finally:
        for name in [name for name in sys.modules if name.startswith("repl_lib")]:
            del sys.modules[name]


def test_a_script_started_by_python_m(folder):
    """Its relative imports work."""
    write(folder / "repl_pack" / "__init__.py", "")
    write(folder / "repl_pack" / "helper.py", "def get(xs):\n    return xs[0]\n")
    write(
        folder / "repl_pack" / "job.py",
        """
        from pipedeco import component, pipeline
        from .helper import get
        class Items(list):
            pass
        @component
        def first(items):
            assert isinstance(items, Items)
            return get(items)
        @pipeline
        def job():
            first(Items())
        job()
        """,
    )
    done = execute(folder, "-m", "repl_pack.job")
    assert "IndexError" in done.stderr
    code, out, err = call(folder)
    assert (code, out) == (1, ""), err
    assert err.endswith(f"step first of run {get_run().id} (job#1) fails as recorded\n")


@component
def mine(x):
    return x[0]


@component
def holds(lock):
    return lock


@pipeline(mode="debug")
def here(x):
    return mine(x)


def test_a_function_of_an_imported_module_of_this_process(folder):
    """It is taken as it is here."""
    with pytest.raises(TypeError):
        here(5)
    with pytest.raises(TypeError, match="'int' object is not subscriptable"):
        steps()["mine"].replay()
    assert here([3]) == 3
    assert steps()["mine"].replay() == 3


def test_a_cached_step(folder):
    """Is replayed like any other."""
    cached = mine.with_options(cache=True, name="kept")

    @pipeline(mode="debug")
    def keeping():
        return cached([3])

    keeping(), keeping()
    assert steps()["kept"].state == "cached"
    assert steps()["kept"].replay() == 3


def test_under_the_debugger_of_an_ide_the_function_is_simply_called(app, monkeypatch):
    """Even where a terminal is there, and whatever `break_` says."""
    monkeypatch.setattr("pipedeco.replay.debugger_attached", lambda: True)
    monkeypatch.setattr("pipedeco.replay.has_terminal", lambda: True)
    monkeypatch.setattr("pipedeco.replay._post_mortem", None)
    with pytest.raises(ZeroDivisionError):
        steps()["fit"].replay(break_=True)


def test_break_without_a_terminal(app):
    """Is refused, as nobody could answer."""
    with pytest.raises(ConfigError, match="needs a terminal"):
        steps()["fit"].replay(break_=True)


# -- the command --------------------------------------------------------------------------------


def test_the_failing_line(app, terminal):
    """pdb stands there, with the step and the failure on top, and none of our frames."""
    shown = terminal(app, "flow#1", "fit")
    text = shown.wait_for("(Pdb)").partition("(Pdb)")[0]
    ask(shown, "p x", "\n7.0")
    assert f"step fit of run {get_run().id} (flow#1) fails as recorded" in text
    assert text.endswith("app.py(13)divide()\n-> return x / RATE\n")
    ask(shown, "up", "-> return divide(total)")
    ask(shown, "p rest[0], more", "('r', {'name': 'n'})")
    ask(shown, "up", "*** Oldest frame")
    shown.send("q\n")
    assert shown.wait() == 1
    assert "pipedeco/" not in shown.text


def test_the_users_own_line_when_a_library_raises(folder, terminal):
    """What the library did is one `down` away."""
    write(
        folder / "app.py",
        """
        import json
        from pipedeco import component, pipeline
        @component
        def read(text):
            return json.loads(text)
        @pipeline
        def reading():
            read("{")
        reading()
        """,
    )
    execute(folder, "app.py")
    shown = terminal(folder)
    shown.wait_for("-> return json.loads(text)")
    ask(shown, "down", "json/__init__.py")
    shown.send("q\n")
    assert shown.wait() == 1


@pytest.mark.parametrize(
    ("step", "line", "variable"),
    [
        ("fit", "-> point, values = loaded", "scale"),
        ("wrapped", "-> y = x[0]", "x"),
        ("lambda", '-> pick = component(lambda d: d["a"])', "d"),
        ("later", "-> await asyncio.sleep(0)", "x"),
    ],
)
def test_break_stops_at_the_first_line(app, terminal, step, line, variable):
    """Of the user's own function, below decorators; then at the failure."""
    shown = terminal(app, "latest", step, "--break")
    assert shown.wait_for("(Pdb)").endswith(f"{line}\n(Pdb)")
    ask(shown, f"p '<', {variable}", "('<', ")
    shown.send("c\n")
    shown.wait_for("fails as recorded")
    shown.send("q\n")
    assert shown.wait() == 1


def test_leaving_at_the_first_line(app, terminal):
    """Is no failure of the step, and ends without a traceback."""
    shown = terminal(app, "latest", "load", "--break")
    shown.send("q\n")
    assert shown.wait() == 1
    assert "Traceback" not in shown.text


def test_stepping_over_the_end(app, terminal):
    """Leads to the value, not into our code."""
    shown = terminal(app, "latest", "load", "--break")
    ask(shown, "n", "--Return--")
    shown.send("n\n")
    assert shown.wait() == 0
    assert "(flow#1) completes now; in the run it was completed" in shown.text
    assert "pipedeco/" not in shown.text


def test_another_debugger(app, terminal, tmp_path):
    """`post_mortem` of the one that PYTHONBREAKPOINT names."""
    write(
        tmp_path / "repl_other.py",
        "def post_mortem(tb):\n    print('other', tb.tb_next.tb_frame.f_locals)\n",
    )
    env = {"PYTHONBREAKPOINT": "repl_other.set_trace", "PYTHONPATH": str(tmp_path)}
    env["PYTHONPATH"] += os.pathsep + os.environ.get("PYTHONPATH", "")
    shown = terminal(app, "latest", "fit", env=env)
    assert shown.wait() == 1
    assert "other {'x': 7.0}" in shown.text


def test_without_a_terminal(app):
    """The traceback with the user's lines, and exit code 1."""
    code, out, err = call(app, "latest", "fit")
    assert (code, out) == (1, "")
    assert err.count("Traceback") == 1
    assert "pipedeco/" not in err
    assert err.endswith("(flow#1) fails as recorded\n")


def test_another_failure_than_the_recorded_one(app):
    """Both are told."""
    write(app / "app.py", APP.replace("return x / RATE", "return nothing"))
    code, _, err = call(app, "latest", "fit")
    assert code == 1
    lines = err.splitlines()
    assert lines[0] == (
        "pipedeco: the code has changed since: function __main__.divide, value __main__.RATE"
    )
    assert "fails with NameError: name 'nothing' is not defined; recorded is ZeroDiv" in lines[-1]


def test_a_mended_step(app):
    """Its value is shown, and the exit code is 0."""
    write(app / "app.py", APP.replace("RATE = 0", "RATE = 2"))
    code, out, err = call(app, "latest", "fit")
    assert (code, err.count("\n")) == (0, 1)
    assert out == (
        f"step fit of run {get_run().id} (flow#1) completes now; recorded is "
        "ZeroDivisionError: float division by zero\n3.5\n"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing"], "there is no run 'nothing'"),
        (["latest", "nothing"], "there is no step 'nothing' in run"),
        (["latest"], "7 steps of run"),
        (["latest", "after"], "never had its inputs"),
        (["latest", "fit", "--break"], "needs a terminal"),
        (["latest", "fit", "--store", "/nowhere"], "nothing was recorded in /nowhere"),
    ],
)
def test_mistakes(app, arguments, sentence):
    """One sentence, exit code 2."""
    code, out, err = call(app, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert sentence in err


def test_no_step_failed(folder):
    """Then it must be named."""
    here([3])
    code, _, err = call(folder)
    assert (code, err.count("\n")) == (2, 1)
    assert "no step of run" in err


def test_arguments_that_were_not_recorded(folder):
    """Said so, instead of a call without them."""

    @pipeline(mode="debug")
    def holding():
        return holds(sys._getframe())

    with pytest.warns(UserWarning, match="cannot be pickled"):
        holding()
    with pytest.raises((StoreError, ConfigError), match=r"arguments"):
        steps()["holds"].replay()


def test_a_step_that_is_still_running(folder):
    """A warning on top."""
    write(
        folder / "app.py",
        """
        import pathlib, time
        from pipedeco import component, pipeline
        @component
        def wait(name):
            pathlib.Path(name).touch()
            while not pathlib.Path("go").exists():
                time.sleep(0.01)
            return "went"
        @pipeline
        def waiting():
            return wait("there")
        waiting()
        """,
    )
    with subprocess.Popen([sys.executable, "app.py"], cwd=folder) as process:
        wait_for(folder / "there")
        wait_until(lambda: runs() and "wait" in steps() and steps()["wait"].state == "running")
        again = subprocess.Popen(
            [COMMAND, "debug", "latest", "wait"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        first = again.stderr.readline()
        (folder / "go").touch()
        again.communicate(timeout=20)
        process.wait(20)
    assert first.endswith("is still running\n")
    assert again.returncode == 0


def test_the_working_directory_is_told_where_it_differs(folder):
    """It is this process's own."""
    write(folder / "pyproject.toml", "")
    write(folder / "sub" / "app.py", APP)
    execute(folder / "sub", "app.py")
    capture = get_run("latest").capture
    assert capture["process"]["cwd"] == "sub", json.dumps(capture["process"])
    _, _, err = call(folder, "latest", "fit")
    assert err.startswith("pipedeco: the run's working directory was sub, that of the replay is .")


def test_completion_of_step_names(app):
    """Those that failed first; none of a run that there is not."""

    class Typed:
        def __init__(self, raw):
            self.raw = raw

    names = complete_step({"run": Typed("flow#1")})
    assert sorted(names) == sorted(STATES)
    assert names[0] == "fit"
    assert complete_step({"run": Typed("nothing")}) == []

"""Packages and a Python of its own for a step."""

import glob
import os
import signal
import subprocess
import sys
import time
import zipfile
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import environment_steps as steps
import pytest
from conftest import wait_for, wait_until
from hypothesis import given, settings
from hypothesis import strategies as st

import pipedeco
from pipedeco import ConfigError, EnvironmentFailed, NotPicklable, StepFailed, component, pipeline
from pipedeco.cli.showing import show
from pipedeco.requirements import Requirements, check_packages, check_python, read_file, unmet
from pipedeco.runners import calls
from pipedeco.worker import venvs

in_workers = pytest.mark.parametrize("mode", ["local", "remote"], indirect=True)
in_local = pytest.mark.parametrize("mode", ["local"], indirect=True)
in_debug = pytest.mark.parametrize("mode", ["debug"], indirect=True)

CODE = """
VERSION = {version!r}
class Greeting: pass
class GreetingError(Exception): pass
"""


def write_wheel(folder, version):
    """The least wheel that can be installed."""
    info = f"pipedeco_greeting-{version}.dist-info"
    about = f"Metadata-Version: 2.1\nName: pipedeco-greeting\nVersion: {version}\n"
    kind = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = {
        "pipedeco_greeting.py": CODE.format(version=version),
        f"{info}/METADATA": about,
        f"{info}/WHEEL": kind,
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    path = Path(folder) / f"pipedeco_greeting-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(name, text)


@pytest.fixture(scope="module", autouse=True)
def shelf(tmp_path_factory):
    """Two versions of a package of ours, and a folder of environments that all tests share."""
    folder = tmp_path_factory.mktemp("wheels")
    for version in ("1.0", "2.0"):
        write_wheel(folder, version)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UV_FIND_LINKS", str(folder))
        patch.setenv("UV_LINK_MODE", "copy")
        patch.setenv(venvs.FOLDER, str(tmp_path_factory.mktemp("environments")))
        yield folder


@pytest.fixture(scope="module")
def index(shelf):
    """Skips where no index of packages is reached; in CI that is a failure."""
    try:
        get(ONE)
    except EnvironmentFailed as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no index of Python packages is reached: {error}")


ONE = Requirements(("pipedeco-greeting==1.0",), None)


def get(wanted, told=None, stopping=lambda: False):
    return venvs.venv_of(wanted, os.environ, told or (lambda: None), stopping)


@pytest.fixture
def slow_uv(tmp_path, monkeypatch):
    """A uv that tells that it was begun, and goes on once the file `go` is there."""
    program = tmp_path / "uv"
    real = venvs.find_uv(os.environ)
    program.write_text(
        f"#!/bin/sh\necho $1 >> {tmp_path}/begun\n"
        f'while [ ! -e {tmp_path}/go ]; do sleep 0.02; done\nexec {real} "$@"\n'
    )
    program.chmod(0o700)
    monkeypatch.setattr(venvs, "find_uv", lambda variables: str(program))
    monkeypatch.setenv(venvs.FOLDER, str(tmp_path / "own"))
    yield tmp_path
    (tmp_path / "go").touch()


# -- where steps are performed


@in_workers
def test_each_step_has_its_own_packages(mode, index, capfd, monkeypatch):
    """Two versions of one package in one run, and none of it where none was asked for."""
    monkeypatch.setenv("PIPEDECO_PROGRESS", "auto")

    @pipeline
    def body():
        one = steps.first()
        return steps.both(one, steps.second(one)), steps.plain()

    run = body.start()
    assert run.result(60) == (("1.0", "2.0"), None)
    shown = capfd.readouterr().err
    if mode == "local":  # the first that needs it builds it
        assert "building environment for second: pipedeco-greeting==2.0" in shown
    assert run.steps["second"].environment == "pipedeco-greeting==2.0"
    assert run.steps["plain"].environment is None


@in_workers
def test_other_options_make_another_environment(mode, index):
    """`with_options(packages=...)` takes the place of what the component says."""

    @pipeline
    def body():
        return steps.first.with_options(packages=["pipedeco-greeting>=2"])(), steps.plain()

    assert body() == ("2.0", None)


@in_workers
def test_the_installation_of_the_controller_is_not_seen(mode, index):
    """Pipedeco and what it needs are there, and nothing else of what is installed here."""

    @pipeline
    def body():
        return steps.where.with_options(packages=["pipedeco-greeting==1.0"])()

    pid, version, path = body()
    assert pid != os.getpid()
    assert version == sys.version_info[:2]
    assert not [entry for entry in path if entry.startswith(os.path.join(sys.prefix, "lib"))]
    assert os.path.dirname(steps.__file__) in [str(Path(p)) for p in path] or mode == "remote"


@in_workers
def test_what_cannot_be_met_fails_its_step(mode, index):
    """The attempt fails with uv's own words; the other steps go on."""

    @pipeline
    def body():
        bad = steps.impossible.with_options(retries=1, allow_failure=True)()
        return steps.first(), bad.exception()

    run = body.start()
    good, error = run.result(60)
    assert good == "1.0"
    assert type(error) is EnvironmentFailed
    assert "pipedeco-greeting==9.0" in str(error)
    assert "\x1b" not in str(error)
    assert "unsatisfiable" in str(error)
    step = run.steps["impossible"]
    assert [attempt.state for attempt in step.attempts] == ["failed", "failed"]


@in_workers
def test_values_of_a_class_that_only_the_environment_has(mode, index):
    """Who reads one is told which step made it, and of which packages."""

    @pipeline
    def body():
        try:
            return steps.foreign().result()
        except StepFailed as error:
            return str(error)

    told = body()
    assert "step foreign" in told
    assert "pipedeco_greeting" in told
    assert "pipedeco-greeting==1.0" in told


@in_workers
def test_exceptions_of_a_class_that_only_the_environment_has(mode, index):
    """They arrive as StepFailed, with what is known of them."""

    @pipeline
    def body():
        return type(steps.raises().exception()), str(steps.raises().exception())

    kind, text = body()
    assert kind is StepFailed
    assert "GreetingError" in text
    assert "rude" in text


@in_debug
def test_debug_mode_calls_where_the_packages_are_here(mode):
    """This very process has them, so that breakpoints work."""

    @pipeline
    def body():
        return steps.where.with_options(
            packages=["pytest>=1", "nothing-here; python_version<'3'"]
        )()

    assert body()[0] == os.getpid()


@in_debug
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"packages": ["pytest==1.0"]}, "pytest==1.0 is wanted, and "),
        ({"packages": ["pipedeco-greeting"]}, "pipedeco-greeting is not installed"),
        ({"python": "3.99"}, "Python 3.99 is wanted, and this is 3."),
    ],
)
def test_debug_mode_never_takes_other_versions(mode, options, told):
    """The step fails with what is not met, and with what to do."""

    @pipeline
    def body():
        return steps.plain.with_options(**options)()

    with pytest.raises(ConfigError, match="run the pipeline in local mode") as caught:
        body()
    assert told in str(caught.value)


# -- another Python


def other_python():
    """A Python of another minor version that can be found here, and the folder of it."""
    mine = f"{sys.version_info[0]}.{sys.version_info[1]}"
    root = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    found = glob.glob(f"{root}/versions/3.1[1-9]*/bin") + os.environ["PATH"].split(os.pathsep)
    for minor in ("3.12", "3.13", "3.11", "3.14"):
        for folder in found:
            program = os.path.join(folder, f"python{minor}")
            if minor != mine and os.path.exists(program):
                done = subprocess.run([program, "--version"], capture_output=True, check=False)
                if not done.returncode:
                    return minor, folder
    pytest.skip("there is no other Python of version 3.11 or newer on this machine")


@in_workers
def test_another_version_of_python(mode, index, monkeypatch):
    """Functions of modules and values of both kinds go there and back; code by value is refused."""
    minor, folder = other_python()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("UV_PYTHON_SEARCH_PATH", folder)  # where workers have a PATH of their own
    there = steps.where.with_options(python=minor)

    @pipeline
    def body():
        return there()

    @pipeline
    def closure():
        return component(name="inner", python=minor)(lambda: 1)()

    @pipeline
    def carried():
        return steps.call.with_options(python=minor)(lambda: 1)

    @pipeline
    def back():
        return steps.makes_code.with_options(python=minor)()

    assert body()[1] == tuple(map(int, minor.split(".")))
    with pytest.raises(ConfigError, match=r"inner .* move it into a module"):
        closure()
    with pytest.raises(NotPicklable, match="does not load in Python"):
        carried()
    with pytest.raises(NotPicklable, match=f"Python {minor} compiled does not load"):
        back()


# -- while it is being built


@in_local
def test_others_go_on_while_an_environment_is_built(mode, index, slow_uv, monkeypatch):
    """Steps that need none end meanwhile; building does not count to a timeout; two steps that
    want the same have it built once."""
    timeout = 2.0

    @pipeline
    def body():
        slow = steps.first.with_options(timeout=timeout)
        return slow(), slow(), steps.plain()

    began = time.monotonic()
    run = body.start()
    wait_for(slow_uv / "begun")
    wait_until(
        lambda: "plain" in run.steps and run.steps["plain"].state == "completed",
        "the other step ends",
    )
    wait_until(lambda: time.monotonic() - began > timeout, "the timeout is over")
    assert run.steps["first"].state != "running"
    (slow_uv / "go").touch()
    assert run.result(60) == ("1.0", "1.0", None)
    assert (slow_uv / "begun").read_text().split().count("venv") == 1


@in_local
def test_cancel_while_an_environment_is_built(mode, slow_uv):
    """Nobody goes on building for a run that is over."""

    @pipeline
    def body():
        return steps.first()

    run = body.start()
    wait_for(slow_uv / "begun")
    run.cancel()
    with pytest.raises(pipedeco.RunCancelled):
        run.result(10)
    assert run.steps["first"].state == "cancelled"


BUILDER = """
import os, sys
from pipedeco.requirements import Requirements
from pipedeco.worker import venvs
venvs.find_uv = lambda variables: sys.argv[1]
wanted = Requirements(("pipedeco-greeting==1.0",), None)
print(venvs.venv_of(wanted, os.environ, lambda: None, lambda: False).folder)
"""


def start_builder(program):
    command = [sys.executable, "-c", BUILDER, str(program)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_ten_processes_build_once(index, slow_uv):
    """One builds, the others wait for it and use what it made."""
    builders = [start_builder(slow_uv / "uv") for _ in range(10)]
    (slow_uv / "go").touch()
    folders = {builder.communicate(timeout=60)[0] for builder in builders}
    assert [builder.returncode for builder in builders] == [0] * 10
    assert len(folders) == 1
    assert (slow_uv / "begun").read_text().split().count("venv") == 1


def test_a_builder_that_is_killed_leaves_nothing_in_use(index, slow_uv):
    """Its uv ends with it, and the next one builds from the start."""
    (slow_uv / "go").touch()
    builder = start_builder(slow_uv / "uv")
    wait_until(lambda: list((slow_uv / "own").glob("*/bin")), "there is half an environment")
    builder.send_signal(signal.SIGKILL)
    builder.communicate()
    [half] = (path.parent for path in (slow_uv / "own").glob("*/bin"))
    (half / "left").touch()
    told = []
    found = get(ONE, lambda: told.append(1))
    if told:  # else the other one was done in time
        assert not (half / "left").exists()
    assert found.there
    assert os.path.samefile(found.folder, half)


def test_who_waits_for_another_can_be_told_to_stop(slow_uv):
    """A run that is cancelled does not wait for somebody else's building."""
    builder = start_builder(slow_uv / "uv")
    wait_for(slow_uv / "begun")
    with pytest.raises(venvs.Stopped):
        get(ONE, stopping=lambda: True)
    builder.kill()
    builder.communicate()


def test_what_nobody_has_used_for_long_goes(index, tmp_path, monkeypatch):
    """Not what is in use, and not what is young; what was never finished goes at once."""
    monkeypatch.setenv(venvs.FOLDER, str(tmp_path))
    found = get(ONE)
    old = tmp_path / "old"
    half = tmp_path / "half"
    for folder in (old, half):
        folder.mkdir()
    (old / venvs.MARK).write_text("{}")
    for mark in (old / venvs.MARK, Path(found.folder) / venvs.MARK):
        os.utime(mark, (1, 1))
    venvs.remove_unused(str(tmp_path))
    assert not old.exists()
    assert not half.exists()
    assert found.there
    folder = Path(found.folder)
    del found
    venvs.remove_unused(str(tmp_path))
    assert not folder.exists()


def test_without_uv_the_error_says_how_to_get_it(monkeypatch):
    """Neither the package nor the program is there."""
    monkeypatch.setitem(sys.modules, "uv", None)
    with pytest.raises(ConfigError, match=r"pip install 'pipedeco\[packages\]'"):
        venvs.find_uv({"PATH": "/nowhere"})


# -- what depends on it


@in_workers
def test_the_key_has_the_environment(mode, index):
    """The same code with other packages is another key, and `why` says so."""
    other = steps.cached.with_options(packages=["pipedeco-greeting==2.0"])

    @pipeline
    def body(new):
        return (other if new else steps.cached)()

    assert body(False) == "1.0"
    run = body.start(True)
    assert run.result(60) == "2.0"
    why = run.steps["cached"].why()
    assert [reason.part for reason in why.reasons] == ["environment"]
    assert "(pipedeco-greeting==1.0 -> pipedeco-greeting==2.0)" in why.text
    again = body.start(False)
    assert again.result(60) == "1.0"
    assert again.steps["cached"].state == "cached"


@in_local
def test_replay_says_what_is_missing_here(mode, index, capfd):
    """The function is called in this process, which has other packages."""

    @pipeline
    def body():
        return steps.first()

    run = body.start()
    assert run.result(60) == "1.0"
    assert run.steps["first"].replay() is None
    assert "pipedeco-greeting==1.0 is wanted" in capfd.readouterr().err
    show(run.id)
    assert "environment of first: pipedeco-greeting==1.0" in capfd.readouterr().out


def test_workers_that_are_spawned_have_no_other_environment():
    """Only the nursery can start another interpreter so that nobody is left."""
    called = SimpleNamespace(name="fit", environment=ONE)
    facts = SimpleNamespace(id="abc", start_method="spawn")
    with pytest.raises(ConfigError, match=r"component fit of run abc .* from the nursery alone"):
        calls._check_environment(called, None, facts)


def test_what_extras_add_is_asked_for_too(monkeypatch):
    """In debug mode; markers hold."""
    there = {"a": "1.0", "b": "1.0"}
    needs = {"a": ["b>=2; extra == 'x'", "c; extra == 'y'", "d; python_version < '3'", "e"]}

    def version(name):
        if name not in there:
            raise metadata.PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "requires", needs.get)
    assert unmet(Requirements(("a",), None)) == []
    [clause] = unmet(Requirements(("a[x]",), None))
    assert clause.endswith("is wanted, and 1.0 is installed")
    [clause] = unmet(Requirements(("a[y]",), None))
    assert clause.endswith("c is not installed")
    assert len(unmet(Requirements(("a[x,y]",), None))) == 2


# -- what is taken, and what is refused

REFUSED = (
    "-r other.txt", "--index-url=https://a.b", "six -i x", "git+https://a.b/c", "six @ https://a.b/c",
    "six@https://a.b", "./six", "/tmp/six", "~/six", "six-1.0-py3-none-any.whl", "six=1", "six==", "",
    "a b", "six\n--pre", "pipedeco==0.1", "../x", "file:///x", "six; what == 1", "six --hash=sha256:00",
    "six_", "six[a_]",
)  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_requirements_that_are_refused(text, tmp_path):
    """In an option, and in a file with the number of the line."""
    with pytest.raises(ConfigError):
        component(packages=[text])
    if text and "\n" not in text:
        path = tmp_path / "requirements.txt"
        path.write_text(f"six\n{text}\n")
        with pytest.raises(ConfigError, match="line 2"):
            read_file(str(path))


@settings(max_examples=50)
@given(st.text(max_size=30) | st.from_regex(r"[-./@a-z]{1,4}[a-z0-9=<>@ :/\[\].;,-]{0,20}"))
def test_what_is_taken_is_nothing_but_a_requirement(text):
    """Whatever is written: no option, no URL, no path; and the same again when it is read again."""
    try:
        found = check_packages([text])
    except ConfigError:
        return
    [line] = found
    assert line[0].isalnum()
    assert line.isprintable()
    assert "://" not in line.partition(";")[0]
    assert "@" not in line.partition(";")[0]
    assert check_packages([line]) == found


@given(st.text(max_size=8) | st.floats() | st.integers() | st.from_regex(r"3\.[0-9]{0,3}[.0-9]*"))
def test_versions_of_python(value):
    """A version of two or three parts that pipedeco runs on, as a text."""
    try:
        found = check_python(value)
    except ConfigError:
        return
    parts = found.split(".")
    assert 2 <= len(parts) <= 3
    assert tuple(map(int, parts))[:2] >= (3, 11)


def test_other_kinds_of_values_are_refused():
    """With a sentence on what is taken."""
    for value in (b"six", 5, {"six": "1"}, [5], "https://a.b/requirements.txt", " "):
        with pytest.raises(ConfigError, match="packages is a list"):
            component(packages=value)


def test_the_order_and_the_writing_do_not_count():
    """Equal requirements are one environment."""
    one = check_packages(["Six >= 1.0, < 2", "b_c[Y,x]"])
    assert one == check_packages(("b-c[x,y]", "six<2,>=1.0"))
    assert one == ("b-c[x,y]", "six<2,>=1.0")


def test_a_requirements_file(tmp_path, monkeypatch, index):
    """Beside the function's file or in the project's folder; its content counts."""
    (tmp_path / "pyproject.toml").touch()
    path = tmp_path / "needed.txt"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPEDECO_STORE", str(tmp_path / "store"))
    asking = steps.first.with_options(packages="needed.txt")

    @pipeline(mode="local")
    def body():
        return asking()

    path.write_text("# what it needs\n\npipedeco-greeting==1.0  # the old one\n")
    assert body() == "1.0"
    path.write_text("pipedeco-greeting==2.0\n")
    assert body() == "2.0"
    path.unlink()
    with pytest.raises(ConfigError, match="there is no requirements file"):
        body()

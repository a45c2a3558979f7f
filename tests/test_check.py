"""`pipedeco check`: what a run would stumble over is told before it, and nothing else is."""

import ast
import json
import os
import subprocess
import sys
import textwrap
from importlib import metadata
from importlib.util import spec_from_file_location
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipedeco import ConfigError, config
from pipedeco.checking import ERROR, check
from pipedeco.checking.imports import absolute, read_source
from pipedeco.checking.modules import Modules

COMMAND = str(Path(sys.executable).with_name("pipedeco"))
HEAD = "from pipedeco import component, pipeline\n"
QUEUES = '[tool.pipedeco.queues]\ndefault = "dask://nowhere:1"\n'


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Write files and check one; this process is as before afterwards."""
    before = set(sys.modules)
    main = sys.modules["__main__"]
    files_open = []
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.setattr(config, "SETTINGS", config.Settings())
    for name in ("PIPEDECO_QUEUES", "PIPEDECO_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIPEDECO_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(folder)

    def checked(text="", *, target="train.py", mode="remote", pyproject=QUEUES, **files):
        write(folder, "pyproject.toml", pyproject)
        write(folder, "train.py", HEAD + textwrap.dedent(text))
        for name, content in files.items():
            write(folder, name.replace("__", "/") + ".py", textwrap.dedent(content))
        report = check(target, mode)
        conn = getattr(sys.modules["__main__"], "conn", None)
        files_open.extend([conn] if conn else [])
        return report

    yield checked
    for file in files_open:
        file.close()
    sys.modules["__main__"] = main
    for name in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


def write(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def told(report):
    """The findings as lines."""
    return [f"{f.place}: {f.state}: {f}" for f in report.findings]


def only(report, start, *parts):
    """There is one finding, it begins so and has these parts."""
    [line] = told(report)
    assert line.startswith(start), line
    assert all(part in line for part in parts), line


# -- what is well


SOUND = """
import json
import helper
from package import parts

def fail():
    raise AssertionError("nothing is executed")

@component
def double(x, f=lambda: 1):
    import decimal
    fail()
    return helper.twice(x) + parts.ONE

@component
def unused():
    return json

@pipeline
def total(n: int = 2):
    fail()
    return [double(n)]

@pipeline
def other():
    return total()

total()
fail()
"""


def test_a_sound_project(project):
    """Nothing is found, and nothing of the pipeline was executed."""
    report = project(SOUND, helper="def twice(x): return 2 * x\n", package__parts="ONE = 1\n")
    assert told(report) == []
    assert report.sound
    assert (report.pipelines, report.components) == (("total", "other"), ("double", "unused"))
    assert report.modes == ("remote",)


def test_one_pipeline_of_a_file(project):
    """Its components alone, and those of its children."""
    text = """
    @component
    def one(): pass
    @component
    def two(): pass
    @component
    def three(): pass
    STEPS = {"one": one}
    @pipeline
    def child(): return STEPS["one"]()
    @pipeline
    def main(): return child(), two()
    """
    report = project(text, target="train.py:main")
    assert (report.pipelines, report.components) == (("main", "child"), ("two", "one"))


def test_a_module_by_its_name(project):
    """Components of an imported module are imported by workers."""
    text = HEAD + "from . import parts\n@component\ndef one(): pass\n@pipeline\ndef p(): one()\n"
    report = project(target="pkg.app", pkg__app=text, pkg__parts="")
    assert told(report) == []


def test_no_such_pipeline(project):
    """That is a mistake in the command."""
    with pytest.raises(ConfigError, match="defines no pipeline 'none'"):
        project("@pipeline\ndef p(): pass\n", target="train.py:none")
    with pytest.raises(ConfigError, match=r"there is no file none\.py"):
        project(target="none.py")


# -- what cannot be pickled


UNPICKLABLE = """
import sqlite3, threading
conn = sqlite3.connect(":memory:")
lock = threading.Lock()

@component
def reads(x):
    return conn

@component
def locks(x, lock=lock):
    return lock

@component
def default(x, target=conn):
    return x

@pipeline
def main(target=conn):
    return reads(1), locks(2), default(3)
"""
CALLED = f"{UNPICKLABLE}\nmain()\n"  # so workers cannot import it, and its definitions travel


def test_what_cannot_be_pickled(project):
    """Globals and defaults, by name; a lock travels, as it does in a run."""
    lines = told(project(CALLED, mode="local"))
    assert len(lines) == 3
    assert "train.py:7: error: component reads: the global conn is " in lines[0]
    assert "train.py:15: error: component default: the default of target is " in lines[1]
    assert "train.py:19: warning: pipeline main: no step can take it: the default of" in lines[2]


def test_globals_of_a_file_that_workers_import_need_not_travel(project):
    lines = told(project(UNPICKLABLE, mode="local"))
    assert ["no step can take it" in line for line in lines] == [True]


def test_debug_mode_sends_nothing(project):
    """So nothing has to be pickled."""
    assert told(project(UNPICKLABLE, mode="debug")) == []


def test_check_and_run_agree(project):
    """What it finds is what a run raises."""
    import pipedeco

    report = project(CALLED, mode="local", target="train.py:main")
    error = next(f for f in report.findings if f.of == "component reads")
    main = sys.modules["__main__"].main
    with pytest.raises(pipedeco.NotPicklable) as raised:
        main.with_options(mode="local", workers=1)()
    assert error.text.split("; ")[0] in str(raised.value)


# -- where modules come from


def test_an_import_that_is_nowhere(project):
    """Late ones too; not what is guarded, for types, or under a main guard."""
    text = """
    from typing import TYPE_CHECKING
    if TYPE_CHECKING:
        import none_types
    try:
        import none_optional
    except ImportError:
        none_optional = None
    @component
    def late():
        import none_late.part
    @pipeline
    def p(): late()
    if __name__ == "__main__":
        import none_guarded
    """
    for mode in ("debug", "local", "remote"):
        report = project(text, mode=mode)
        only(report, "train.py:12: error: component late: imports none_late, which is found no")


@pytest.mark.parametrize(
    "source",
    [
        (
            "import importlib.util\nHAS = importlib.util.find_spec('none_x') is not None\n"
            "if HAS:\n    import none_x\n"
        ),
        "from importlib.util import find_spec\nif find_spec('none_x'): import none_x\n",
        (
            "try: import none_x\nexcept ImportError: none_x = None\n"
            "if none_x is not None:\n    from none_x import nn\n"
        ),
        (
            "try:\n    import none_x\n    HAS = True\nexcept ImportError:\n    HAS = False\n"
            "def late():\n    if HAS: import none_x.y\n"
        ),
    ],
)
def test_what_may_be_missing(project, source):
    """The source looks whether it is there."""
    text = "import lib\n@component\ndef one(): return lib\n@pipeline\ndef p(): return one()\n"
    assert told(project(text, lib=source)) == []


def test_what_only_others_of_a_module_import(project):
    """A component's siblings are its own affair; functions that it calls are its, too."""
    apart = """
    from pipedeco import component, pipeline
    @component
    def deep():
        import none_deep
    def helper():
        import none_helper
    TABLE = {"h": helper}
    @component
    def one():
        return TABLE["h"]()
    @pipeline
    def p(): return one()
    """
    report = project(target="apart:p", apart=apart)
    only(report, "apart.py:7: warning: component one: imports none_helper")


def test_what_only_the_body_needs(project):
    """The controller has it; no worker asks for it."""
    text = f"import sys\nsys.path.append({os.path.abspath('../aside')!r})\nimport aside\n"
    text += "@component\ndef one(): return 1\n@pipeline\ndef p(): return aside.x, one()\n"
    write(Path("../aside"), "aside.py", "x = 1\n")
    assert told(project(text)) == []


def test_what_is_outside_of_the_project(project):
    """A warning, since workers may see it; none where they are processes of this machine."""
    text = f"import sys\nsys.path.append({os.path.abspath('../aside')!r})\nimport aside\n"
    text += "@component\ndef one(): return aside.x\n@pipeline\ndef p(): return one()\n"
    write(Path("../aside"), "aside.py", "x = 1\n")
    where = os.path.abspath("../aside")
    report = project(text)
    only(report, f"train.py:4: warning: component one: aside comes from {where}, outside")
    assert report.sound
    assert told(project(text, pyproject='[tool.pipedeco.queues]\ndefault = "local://1"\n')) == []


def test_an_import_of_an_imported_module(project):
    """Workers import it whole; what stands in a function may never be called."""
    text = "import a\n@component\ndef one(): return a\n@pipeline\ndef p(): return one()\n"
    b = "def f():\n    import none_b\n"
    only(
        project(text, a="from b import f\n", b=b), "b.py:2: warning: component one: imports none_b"
    )


def test_a_late_import_of_what_is_no_python(project):
    """The line is that of the module."""
    text = "@component\ndef one():\n    import late\n@pipeline\ndef p(): return one()\n"
    report = project(text, late="x = 1\ny = (\n")
    only(report, "late.py:2: error: component one: imports it, and it is no Python: '(' was never")


class Hook:
    """Finds a module where the path does not lead, as the hook of an editable install does."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        file = os.path.join(os.getcwd(), "src", "hooked.py")
        return spec_from_file_location(name, file) if name == "hooked" else None


def test_an_editable_install_by_a_hook(project, monkeypatch):
    """The code travels, and no entry of the path leads to it."""
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Hook])
    text = "import hooked\n@component\ndef one(): return hooked\n@pipeline\ndef p(): return one()\n"
    only(project(text, src__hooked=""), "train.py:2: warning: component one: hooked is found by")


def test_a_file_without_a_pipeline(project):
    """There is nothing to run."""
    only(project("x = 1\n"), "train.py: error: it defines no pipeline")


def test_an_ignored_source(project):
    """It would be missed, and the rule is named."""
    subprocess.run(["git", "init", "-q"], check=True)
    write(Path(), ".gitignore", "secret.py\n")
    text = "from secret import KEY\nimport untracked\n"
    text += "@component\ndef one(): return KEY, untracked\n@pipeline\ndef p(): return one()\n"
    report = project(text, secret="KEY = 1\n", untracked="")
    only(report, "train.py:2: error: component one: secret is ignored by git (.gitignore:1:secret")


def test_a_folder_behind_a_link(project):
    """Links to folders do not travel."""
    write(Path("../aside"), "__init__.py", "")
    Path("linked").symlink_to("../aside")
    text = "import linked\n@component\ndef one(): return linked\n@pipeline\ndef p(): return one()\n"
    only(project(text), "train.py:2: error: component one: linked stands behind the link linked to")


def test_too_much_code(project):
    """The sentence of the run."""
    Path("big.bin").write_bytes(bytes(2 << 20))
    report = project(SIMPLE, pyproject=f"[tool.pipedeco]\ncode_limit = 1\n{QUEUES}")
    only(report, os.getcwd(), "big.bin (2.0 MiB)", "raise code_limit")


# -- queues and options


SIMPLE = "@component\ndef one(): return 1\n@pipeline\ndef p(): return one()\n"


@pytest.mark.parametrize(
    ("options", "queues", "said"),
    [
        ("queue='gpu'", "io = 'local://1'", "component one: the queue 'gpu' is not configured"),
        ("", "io = 'local://1'", "pipeline p: the queue 'default' is not configured"),
        ("queue='io'", "io = 'local://x'", "component one: in local://x the number of processes"),
        ("queue='io'", "io = 'dask://h:1?a=b'", "has no option 'a'; there are resources, workers"),
        ("queue='io'", "io = 'executor://x'", "is to name a function"),
        ("queue='io'", "io = 'kafka://x'", "names no engine that is known here"),
        ("queue='io', resources={'GPU': 1}", "io = 'local://1'", "knows no resources"),
        ("queue='io'", "io = 1", "[tool.pipedeco.queues]: "),
    ],
)
def test_queues(project, options, queues, said):
    """Not configured, not to be read, without resources; another mode does not ask."""
    text = SIMPLE.replace("@component", f"@component({options})")
    pyproject = f"[tool.pipedeco.queues]\n{queues}\n"
    lines = told(project(text, pyproject=pyproject))
    assert any(said in line and "error: " in line for line in lines), lines
    assert told(project(text, pyproject=pyproject, mode="local")) == []


def test_resources_where_the_engine_takes_them(project):
    """Dask does; it is not asked whether it is there."""
    text = SIMPLE.replace("@component", "@component(resources={'GPU': 1})")
    assert told(project(text)) == []


def test_a_child_has_its_parents_queue_and_mode(project):
    """Or its own queue; another mode is refused by the run."""
    text = """
    @component
    def one(): pass
    @pipeline(mode="debug")
    def child(): one()
    @pipeline(default_queue="io")
    def main(): child()
    """
    queues = "[tool.pipedeco.queues]\nio = 'local://1'\n"
    report = project(text, pyproject=queues, target="train.py:main")
    only(report, "train.py:5: error: pipeline child: it asks for mode debug, and main calls it in")


def test_options_that_do_nothing(project):
    """retry_on without retries."""
    text = SIMPLE.replace("@component", "@component(retry_on=ValueError)")
    only(project(text), "train.py:2: warning: component one: retry_on= does nothing without")


def test_a_delay_function_that_cannot_be_called(project):
    text = SIMPLE.replace("@component", "@component(retries=2, retry_delay=lambda: 3)")
    said = "train.py:2: error: component one: retry_delay= is called with the number of the attempt"
    only(project(text), said, "too many positional arguments")
    assert told(project(text.replace("lambda: 3", "float"))) == []


def test_delays_of_which_some_are_never_waited_for(project):
    text = SIMPLE.replace("@component", "@component(retries=2, retry_delay=[1, 2, 3])")
    said = "train.py:2: warning: component one: retry_delay= has 3 delays, and retries=2"
    only(project(text), said)
    assert told(project(text.replace("retries=2", "retries=3"))) == []


SEEDING = (
    SIMPLE
    + """
import random
import numpy.random as npr
from helping import fix_all

npr.seed(0)

def main():
    random.seed(0)
    fix_all()

if __name__ == "__main__":
    main()
"""
)
HELPING = """
    import random

    def fix_all():
        for seed in (random.seed,):
            random.seed(1)

    def unused():
        random.seed(2)
"""


def test_generators_that_steps_do_not_draw_from(project):
    """Each call that the program executes itself, also in another module; none with a seed."""
    report = project(SEEDING, helping=HELPING)
    assert [(f.place, f.text.partition(" seeds")[0]) for f in report.findings] == [
        ("helping.py:6", "random.seed()"),
        ("train.py:11", "numpy.random.seed()"),
        ("train.py:14", "random.seed()"),
    ]
    assert {f.of for f in report.findings} == {"pipeline p"}
    assert "as in @pipeline(seed=0)" in report.findings[0].advice
    seeded = SEEDING.replace("@pipeline", "@pipeline(seed=0)")
    assert not project(seeded, helping=HELPING).findings
    assert not project(SEEDING, helping=HELPING, mode="debug").findings


def test_a_component_may_seed_what_it_draws_from(project):
    """It does so in its worker."""
    text = SIMPLE.replace("return", "import random; random.seed(1); return", 1)
    assert not project(text).findings


def test_a_child_of_a_pipeline_with_a_seed_has_one(project):
    """It is made of its parent's."""
    text = (
        SEEDING
        + """
@pipeline(seed=1)
def parent(): return p()
"""
    )
    assert not project(text, helping=HELPING).findings


def test_a_generator_that_workers_have_copies_of(project):
    """A global of a component; one that a step makes is its own."""
    text = """
        import random
        import numpy

        RNG = numpy.random.default_rng(0)
        OWN = random.Random(1)

        @component
        def draws(): return RNG.random()

        @component
        def makes(number): return numpy.random.default_rng(number).random()

        @pipeline
        def p(): return draws(), makes(3)
    """
    one = "train.py:9: warning: component draws: it draws from the global RNG, a numpy.random.Gen"
    only(project(text), one)
    assert not project(text, mode="debug").findings


def test_a_setup_that_cannot_travel(project):
    """The same error as at the run."""
    text = """
        import sqlite3
        conn = sqlite3.connect(":memory:")

        def prepare(): conn.execute("select 1")

        @component
        def one(): return 1

        @pipeline(setup=prepare)
        def p(): return one()

        p()
    """
    said = "train.py:11: error: pipeline p: setup= cannot reach a worker: the global conn is "
    only(project(text), said)


# -- files that cannot be loaded


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("x = (\n", 2, "SyntaxError: '(' was never closed"),
        ("import none_at_all\n", 2, "No module named 'none_at_all' (in `import none_at_all`)"),
        ("1\n\n1 / 0\n", 4, "ZeroDivisionError: division by zero (in `1 / 0`)"),
        ("@component(retries=-1)\ndef f(): pass\n", 2, "retries is a whole number of 0 or more"),
    ],
)
def test_a_file_that_cannot_be_loaded(project, text, line, said):
    """The line of the user's, and no traceback."""
    report = project(text)
    assert not report.sound
    only(report, f"train.py:{line}: error: ", said)


def test_the_other_imports_of_a_file_that_cannot_be_loaded(project):
    """All are told at once, the one that failed on top."""
    lines = told(project("import none_a\nimport none_b\n"))
    assert [line.partition(": ")[0] for line in lines] == ["train.py:2", "train.py:3"]


def test_a_failing_module_of_the_project(project):
    """The line that failed stands in it."""
    report = project("import broken\n", broken="import os\nraise OSError('no')\n")
    only(report, "broken.py:2: error: OSError: no (in `raise OSError('no')`)")


# -- environments of their own


def one_step(option, body="return np", imports="import numpy as np"):
    step = f"{imports}\n@component({option})\ndef one(): {body}\n"
    return step + "@pipeline\ndef p(): return one()\n"


@pytest.mark.parametrize("where", ["local", "remote"])
@pytest.mark.parametrize(
    ("option", "state", "said"),
    [
        ("packages=['six']", "error", "numpy (numpy), which its environment (six) does not have"),
        ("packages=['six==0.1']", "warning", "(six==0.1) does not have, unless what it asks for"),
        ("packages=['none-such']", "warning", "does not have, unless what it asks for brings it"),
    ],
)
def test_what_an_environment_lacks(project, where, option, state, said):
    """It works here, and would be missed there; where its packages are not here, perhaps."""
    report = project(one_step(option), mode=where)
    only(report, f"train.py:2: {state}: component one: imports numpy", said, "name it in packages=")
    late = one_step(option, "import numpy", imports="")
    only(project(late, mode=where), f"train.py:4: {state}: component one: imports numpy", said)


def test_what_an_environment_has(project):
    """What is asked for, what that brings, pipedeco and its own; and what is reckoned with."""
    for option in ("packages=['NumPy>1']", "packages=['pandas']"):
        assert told(project(one_step(option))) == []
    ours = "import cloudpickle, pipedeco, json"
    assert told(project(one_step("packages=['six']", "return cloudpickle", imports=ours))) == []
    guarded = "try: import numpy as np\nexcept ImportError: np = None"
    assert told(project(one_step("packages=['six']", imports=guarded))) == []
    assert told(project(one_step("packages=['six']"), mode="debug")) == []


def test_markers_of_what_is_asked_for(project):
    """What another Python would get is not there."""
    report = project(one_step("""packages=['six', 'numpy; python_version < "3.9"']"""))
    only(report, "train.py:2: error: component one: imports numpy")


def test_what_nobody_can_read(project, monkeypatch):
    """An old distribution asks for what is no requirement: perhaps it brings what is missed."""
    asked = {"six": ["pytz (>dev)"], "pipedeco": []}
    monkeypatch.setattr(metadata, "requires", asked.get)
    only(project(one_step("packages=['six']")), "train.py:2: warning: component one: imports numpy")
    assert told(project(one_step("packages=['six[x]']", "return 1", imports=""))) == []


def test_the_import_that_is_certain_counts(project):
    """Where others of the same module may never be executed."""
    parts = "def never():\n    import numpy\n"
    text = one_step("packages=['six']", "return parts, np", "import parts\nimport numpy as np")
    only(project(text, parts=parts), "train.py:3: error: component one: imports numpy")


def test_a_python_of_its_own_brings_nothing(project):
    """It asks for no package that could bring another."""
    this = ".".join(map(str, sys.version_info[:2]))
    report = project(one_step(f"python='{this}'"))
    only(report, "train.py:2: error: component one: imports numpy (numpy), which its environment")


def test_an_editable_install_by_a_hook_is_not_in_an_environment(project, monkeypatch):
    """The hook is this installation's."""
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Hook])
    text = one_step("packages=['six']", "return hooked", "import hooked")
    report = project(text, mode="local", src__hooked="")
    only(report, "train.py:2: error: component one: imports hooked (an editable install by a hook)")


def test_another_python(project):
    """Code that is compiled here does not load there; that of a module is compiled there."""
    other = f"python='3.{sys.version_info[1] + 1}'"
    report = project(one_step(other, "return 1", imports=""))
    only(report, "train.py:3: error: component one: it asks for Python 3.", "move it into a module")
    apart = HEAD + one_step(other, "return 1", imports="")
    assert told(project(target="apart", apart=apart)) == []


def test_what_this_process_lacks(project):
    """Debug mode calls the step in place, and refuses where its packages are not met."""
    text = one_step("packages=['six==0.1']", "return 1", imports="")
    only(project(text, mode="debug"), "train.py:3: error: component one: six==0.1 is wanted, and")
    assert told(project(text, mode="local")) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "there is no requirements file"), ("-e .", "line 1: '-e .' is an option")],
)
def test_requirements_that_cannot_be_read(project, content, said):
    """As the run itself would say it."""
    if content is not None:
        Path("needs.txt").write_text(content)
    report = project(one_step("packages='needs.txt'", "return 1", imports=""))
    only(report, "train.py:3: error: component one: ", said)


def test_workers_that_are_spawned_have_no_environments(project):
    text = one_step("packages=['six']", "return 1", imports="")
    text = text.replace("@pipeline", "@pipeline(start_method='spawn')")
    only(project(text), "train.py:3: error: component one: ", "take start_method='spawn' away")


# -- the command


def test_the_command(tmp_path):
    """Lines of findings, a last line, and the exit code; nothing is left in the folder."""
    write(tmp_path, "train.py", HEAD + "print('loaded')\n" + SIMPLE)
    write(tmp_path, "pyproject.toml", '[tool.pipedeco]\nmode = "local"\n')
    done = command(tmp_path, "train.py")
    assert (done.returncode, done.stderr) == (0, "loaded\n")
    [line] = done.stdout.splitlines()
    assert line.startswith("train.py: 1 pipeline, 1 component, nothing wrong for mode local (")
    done = command(tmp_path, "train.py:p", "--mode", "remote", "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert (report["sound"], report["modes"]) == (False, ["remote"])
    [finding] = report["findings"]
    assert (finding["place"], finding["state"]) == ("train.py:5", ERROR)
    assert command(tmp_path, "none.py").returncode == 2
    assert {path.name for path in tmp_path.iterdir()} == {"train.py", "pyproject.toml"}


def command(folder, *arguments):
    kept = {name: text for name, text in os.environ.items() if name != "PIPEDECO_STORE"}
    return subprocess.run(
        [COMMAND, "check", *arguments],
        cwd=folder, env=kept, capture_output=True, text=True, check=False, timeout=40,
    )  # fmt: skip


# -- sources of any kind


NAMES = st.sampled_from(["a", "b.c", "os.path", "none", "_x"])
FLAT = st.one_of(
    st.builds("import {}".format, NAMES),
    st.builds("import {} as z".format, NAMES),
    st.builds("from {} import q, r as s".format, NAMES),
    st.builds("from {}{} import q".format, st.sampled_from([".", "..", "..."]), NAMES),
    st.builds("from {} import *".format, NAMES),
    st.builds("importlib.import_module({!r})".format, st.text(max_size=8)),
    st.just("pass"),
)


def nested(inner):
    def block(head, body, tail):
        return "\n".join([head, textwrap.indent(body, "    "), *tail])

    heads = st.sampled_from(
        [
            ("def f():", ()),
            ("class C:", ()),
            ("if TYPE_CHECKING:", ("else:", "    import other")),
            ("try:", ("except ImportError:", "    import other")),
            ("with suppress(ImportError):", ()),
            ("for x in y:", ()),
            ("async def g():", ()),
        ]
    )
    return st.builds(lambda head, body: block(head[0], "\n".join(body), head[1]), heads,
                     st.lists(inner, min_size=1, max_size=3))  # fmt: skip


SOURCES = st.lists(st.recursive(FLAT, nested, max_leaves=8), max_size=5).map("\n".join)


@settings(max_examples=50)
@given(SOURCES)
def test_every_import_is_found_once(source):
    """Those that Python's own tree has, but for what is never executed."""
    found = read_source(source).imports
    lines = {
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert {one.line for one in found if one.bound} <= lines
    if "TYPE_CHECKING" not in source:
        assert {one.line for one in found if one.bound} == lines
    for one in found:
        assert isinstance(absolute(one, "top.middle.bottom", is_package=False), str)


@given(st.text(max_size=60) | st.binary(max_size=60))
def test_what_is_no_source_raises_what_python_raises(source):
    """SyntaxError or ValueError, whatever stands there."""
    try:
        read_source(source)
    except (SyntaxError, ValueError):
        pass


@given(st.text(max_size=8) | st.lists(st.text("ab_", max_size=3), max_size=4).map(".".join))
def test_a_module_of_any_name_has_a_place(name):
    """Nothing is imported, and nothing raises."""
    before = set(sys.modules)
    assert Modules("/nowhere").find(name).kind in ("missing", "standard", "installed", "other")
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("statement", "module", "is_package", "full"),
    [
        ("import a.b", "m", False, "a.b"),
        ("from . import x", "top.mod", False, "top"),
        ("from .y import x", "top.mod", False, "top.y"),
        ("from .y import x", "top.pkg", True, "top.pkg.y"),
        ("from ..y import x", "top.pkg.mod", False, "top.y"),
        ("from ..y import x", "top.pkg", True, "top.y"),
        ("from . import x", "mod", False, ""),
        ("from ... import x", "top.mod", False, ""),
    ],
)
def test_relative_imports(statement, module, is_package, full):
    """As Python resolves them."""
    [found] = read_source(statement).imports
    assert absolute(found, module, is_package=is_package) == full


# -- results that nobody uses -------------------------------------------------------------------

SIDE_EFFECTS = """
from pipedeco import value

@component
def make_folder(path="x"): ...
@component
def download(url="u"): return 1
@component
def convert(path=1): return 1
@component
def save(x, path=""): ...
@component
def cleanup(): ...

@pipeline
def body(files=(), flag=False):
"""


def unused(project, body):
    """What is said of the order of calls, a (call, cure) each."""
    text = SIDE_EFFECTS + textwrap.indent(textwrap.dedent(body).strip(), "    ") + "\n"
    found = [f for f in project(text, mode="local").findings if "nobody uses" in f.text]
    return [
        (f.text.partition("the result of ")[2].partition("(")[0], f.advice.split(": ")[1])
        for f in found
    ]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (
            "make_folder(); download(); convert()",
            [
                (
                    "make_folder",
                    "download.with_options(depends_on=[the result of make_folder])(...)",
                ),
                ("download", "convert.with_options(depends_on=[the result of download])(...)"),
            ],
        ),
        (
            "x = convert(download()); save(x); cleanup(); return x",
            [("cleanup", "cleanup.with_options(depends_on=[the result of save])(...)")],
        ),
        (
            "folder = make_folder()\nreturn download()",
            [("make_folder", "download.with_options(depends_on=[the result of make_folder])(...)")],
        ),
        (
            "for file in files:\n    convert(file)\nreturn download()",
            [("convert", "download.with_options(depends_on=[the result of convert])(...)")],
        ),
        (
            "[convert(file) for file in files]\nreturn download()",
            [("convert", "download.with_options(depends_on=[the result of convert])(...)")],
        ),
    ],
)
def test_a_call_whose_result_nobody_uses_has_no_order(project, body, found):
    """It begins at once, beside what stands before and after it; the cure names both."""
    assert unused(project, body) == found


@pytest.mark.parametrize(
    "body",
    [
        "x = convert(download()); save(x, 'a'); save(x, 'b'); return x",  # they begin after x
        "for file in files: convert(file)",  # the same for many
        "cleanup()",
        "make_folder() if flag else cleanup()",
        "if flag:\n    make_folder()\nelse:\n    cleanup()",
        "try:\n    download().bit_length()\nexcept ValueError:\n    cleanup()",
        "d = make_folder()\nreturn download.with_options(depends_on=[d])()",
        "value(make_folder())\nreturn download()",
        "make_folder().result()\nreturn download()",
        "x = download(); print(x); cleanup(); return x",  # the body has waited
        "x = download()\nif x > 3:\n    cleanup()\nreturn x",
        "found = []\nfor file in files:\n    found.append(convert(file))\nreturn found + [download()]",
        "for file in files:\n    save(convert(file))\nreturn [convert(file) for file in files]",
        "a, b = download(), convert()\nreturn a",
        "return download(), convert()",
    ],
)
def test_order_that_is_kept_or_not_asked_for_is_not_told(project, body):
    """No false alarm for what takes results, is returned, awaited, or done for many things."""
    assert unused(project, body) == []


def test_what_stands_behind_a_main_guard_reaches_nothing(project):
    """Neither in the script nor in a module that it imports: nobody calls that main()."""
    main = """
        def main():
            from nowhere import _save
            _save()

        if __name__ == "__main__":
            main()
        """
    parts = textwrap.dedent(main)
    lib = HEAD + "@component\ndef load(n):\n    return n\n" + parts
    script = "import lib\n@component\ndef add(n):\n    return n\n@pipeline\ndef p():\n    return add(lib.load(1))\n"
    report = project(script + parts, mode="local", lib=lib)
    assert report.findings == ()


def test_functions_of_other_modules_that_nobody_mentions(project):
    """Their imports are nobody's; those of functions that are called, named or registered count."""
    lib = """
        import util
        from pipedeco import component

        @component
        def load(n):
            return util.called(n), getattr(util, "by_name")(), util.Reader().read()
        """
    util = """
        from pipedeco import component

        KNOWN = []

        def called(n):
            return _deeper(n)

        def _deeper(n):
            import none_deeper

        def by_name():
            import none_by_name

        class Reader:
            def read(self):
                import none_read

        @KNOWN.append
        def registered():
            import none_registered

        @component
        def another(n):
            import none_another

        def main():
            import none_main
        """
    report = project(
        "import lib\n@pipeline\ndef p():\n    return lib.load(1)\n",
        mode="local",
        lib=lib,
        util=util,
    )
    found = {finding.text.split()[1].rstrip(",") for finding in report.findings}
    assert found == {"none_deeper", "none_by_name", "none_read", "none_registered"}

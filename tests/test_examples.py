"""The examples do what they say: each is run as a process, in a folder and a store of its own."""

import ast
import json
import re
import shlex
import sys
import sysconfig
from pathlib import Path

import pytest
from faults.support import Lab, Terminal

import pipedeco

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
TEXTS = {path.name: ast.get_docstring(ast.parse(path.read_bytes())) for path in EXAMPLES}
COMMANDS = {name: re.findall(r"^    (.+)$", text, re.MULTILINE) for name, text in TEXTS.items()}
RUN_COMMANDS = [
    pytest.param(command, id=command.split()[2])
    for commands in COMMANDS.values()
    for command in commands
    if command.startswith("pipedeco run ")
]
PLAIN = {"NO_COLOR": "1", "PYTHON_COLORS": "0"}  # Python 3.14 colours what pdb shows
OWN = re.compile(r"store|(out|err)\d+")  # what the lab and pipedeco keep in the folder


@pytest.fixture
def lab(tmp_path):
    """A folder and a store; at the end no process and no file is left."""
    made = Lab(tmp_path)
    try:
        yield made
        made.assert_empty()
        assert [path.name for path in tmp_path.iterdir() if not OWN.fullmatch(path.name)] == []
    finally:
        made.close()


def arguments(command):
    """What follows `python` in a command; `pipedeco ...` is `python -m pipedeco ...`."""
    program, *words = shlex.split(command)
    words = [str(ROOT / word) if word.startswith("examples/") else word for word in words]
    return ["-m", "pipedeco", *words] if program == "pipedeco" else words


def perform(lab, command, **variables):
    """What a command writes to stdout; it must end well, without a warning."""
    done = lab.command([sys.executable, *arguments(command)], **variables).finish(55)
    assert done.code == 0, done.err
    told = done.err.partition("✓")[0]  # there begins the summary of a run that took long
    assert not re.search(r"Warning|^Traceback|Error", told, re.MULTILINE), done.err
    return done.out


def recorded(lab, name):
    """The record of a run, which is completed."""
    run = pipedeco.get_run(name, store=str(lab.store))
    assert (run.status, run.error) == ("completed", None)
    return run


def states(run):
    """Which steps are in a state that is not `completed`."""
    return {step.name: step.state for step in run.steps.values() if step.state != "completed"}


def test_readme_lists_all():
    """The table has a line for each example, in order, and the links lead somewhere."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[(.+?)\]\((.+?)\) \|", text, re.MULTILINE)
    assert listed == [(path.name, path.name) for path in EXAMPLES]
    assert len(EXAMPLES) == 7
    assert all((FOLDER / link).exists() for link in re.findall(r"\]\((.+?)\)", text))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_about_a_page(path):
    """An example has at most 130 lines and begins with how to run it."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 130
    assert COMMANDS[path.name][0] == f"python examples/{path.name}"


@pytest.mark.parametrize("command", RUN_COMMANDS)
def test_pipedeco_run(lab, command):
    """The command of the docstring runs the pipeline with the parameter that it gives."""
    source = Path(ROOT, command.split()[2]).read_text(encoding="utf-8")
    name = re.findall(r"^@pipeline\S*\ndef (\w+)", source, re.MULTILINE)[-1]
    option, text = shlex.split(command)[-2:]
    if name == "model_comparison":  # takes long, and test_demo.py runs it
        pytest.importorskip("sklearn")
        assert option in perform(lab, command.replace(f"{option} {text}", "--help"))
        return
    done = lab.command([sys.executable, *arguments(command)]).finish(55)
    assert done.code == 0, done.err
    run = recorded(lab, f"{name}#1")
    assert run.params[option.lstrip("-").replace("-", "_")] == float(text)


def test_library_survey(lab):
    """All files are read, in chunks that are merged by twos, with the result of one process."""
    out = perform(lab, COMMANDS["02_library_survey.py"][0])
    library = Path(sysconfig.get_path("stdlib"))
    modules = len(list(library.glob("*.py")))
    files, lines = re.match(r"([\d,]+) files, ([\d,]+) lines\n", out).groups()
    assert modules < int(files.replace(",", "")) < int(lines.replace(",", ""))
    names, functions = out.partition("longest functions, in lines\n")[::2]
    assert re.search(r"names used most\n +[\d,]+  self\n", names)
    lengths = [
        int(length) for length in re.findall(r"^ +(\d+)  \S+: \w+$", functions, re.MULTILINE)
    ]
    assert len(lengths) == 5
    assert lengths == sorted(lengths, reverse=True)
    assert re.search(r"in one process [\d.]+ s with the same result: [\d.]+ times$", out.strip())

    run = recorded(lab, "library_survey#1")
    assert states(run) == {}
    assert [s.component for s in run.steps.values()] == ["survey"] * 16 + ["merge"] * 15
    assert run.steps["merge"].parents == ["survey", "survey-2"]


def test_unreliable_sources(lab):
    """Retries help one source, a fallback another, and a step that may fail does."""
    out = perform(lab, COMMANDS["03_unreliable_sources.py"][0])
    assert out.startswith("quito: could not convert string to float: 'ERR 17'; ")
    found = dict(re.findall(r"^(\w+) +(-?[\d.]+) °C$", out, re.MULTILINE))
    assert found == {"lima": "18.30", "oslo": "-2.50", "quito": "13.90"}
    assert "the run is completed" in out
    rows = re.findall(r"^(\S.*?)  +(completed|failed) +(\d+)(?:  (\w+))?$", out, re.MULTILINE)
    assert [row for row in rows if row[1:] != ("completed", "1", "")] == [
        ("fetch oslo", "completed", "3", ""),
        ("parse-3", "failed", "1", "ValueError"),
        ("archive", "failed", "1", "FileNotFoundError"),
    ]
    assert out.count("ConnectionResetError: the line to oslo dropped") == 2

    run = recorded(lab, "temperatures#1")
    assert states(run) == {"parse-3": "failed", "archive": "failed"}
    assert [a.state for a in run.steps["fetch oslo"].attempts] == ["failed", "failed", "completed"]
    assert run.steps["summary"].after == ["archive"]


def test_link_checker(lab):
    """The broken links are found, and requests wait side by side."""
    out = perform(lab, COMMANDS["04_link_checker.py"][0])
    broken = re.findall(r"^/(\d+) is missing; linked from /(\d+)$", out, re.MULTILINE)
    assert sorted(int(path) for path, _ in broken) == list(range(150, 451, 50))
    assert all(int(page) == (int(path) - 1) // 3 for path, page in broken)
    assert "150 pages on 7 levels, 7 broken links\n7.9 s of waiting in " in out

    run = recorded(lab, "link_checker#1")
    assert states(run) == {}
    assert len(run.steps) == 13
    assert run.duration < 157 * 0.05


def test_bootstrap(lab):
    """Each interval is a run of its own, which the outer run names as its step's."""
    out = perform(lab, COMMANDS["05_bootstrap.py"][0])
    assert re.search(r"^Cavendish +5\.45 +5\.37 to +5\.53 +5\.51$", out, re.MULTILINE)
    assert re.search(r"^Newcomb +26\.21 +23\.36 to +28\.39 +33\.00  missed$", out, re.MULTILINE)
    assert re.search(r"^Darwin +20\.93 +1\.60 to +38\.27 +unknown$", out, re.MULTILINE)
    children = re.findall(r"is (interval#\d), completed, 5 steps$", out, re.MULTILINE)
    assert sorted(children) == ["interval#1", "interval#2", "interval#3"]

    run = recorded(lab, "bootstrap#1")
    assert states(run) == {}
    for step, name in zip(run.steps.values(), children, strict=True):
        child = recorded(lab, step.child_run)
        assert (child.name, child.parent_run, len(child.steps)) == (name, run.id, 5)


def test_watching_it_learn(lab):
    """Hubble's constant of 1929; every loss is recorded, and one grows beyond all bounds."""
    out = perform(lab, COMMANDS["07_watching_it_learn.py"][0])
    assert re.search(r"^454 km/s per megaparsec", out, re.MULTILINE)
    assert sorted(re.findall(r"^(descend\S*) completed$", out, re.MULTILINE)) == [
        "descend", "descend-2", "descend-3", "descend-4",
    ]  # fmt: skip
    run = recorded(lab, "learn#1")
    assert (run.tags, run.params) == (["hubble"], {"epochs": 300, "best rate": 0.3})
    assert set(run.last_metrics) == {"loss/0.3", "loss/0.1", "loss/0.01", "loss/0.6"}
    assert run.last_metrics["loss/0.6"] > 1e50
    assert len(run.metrics) == 4 * 300
    assert {step.stage for step in run.steps.values()} == {"train"}
    assert all(step.figures["loss"].mime == "image/svg+xml" for step in run.steps.values())
    assert run.tables["step sizes"].columns == ["rate", "slope", "loss"]


@pytest.mark.parametrize("stop", ["", " --stop"])
def test_stepping_through_runs_to_its_end(lab, stop):
    """Without a person there is no prompt: plainly, and with breakpoint() switched off."""
    command = COMMANDS["06_stepping_through.py"][0] + stop
    out = perform(lab, command, PYTHONBREAKPOINT="0" if stop else "")
    assert re.search(r"^ben +-16\.00 h  which cannot be$", out, re.MULTILINE)
    assert "step hours-2 got Shift(name='ben', came='22:00', left='06:00')" in out
    run = recorded(lab, "time_sheet#1")
    assert (run.mode, len(run.steps)) == ("debug" if stop else "local", 6)


def test_breakpoint_stops_in_the_step(lab):
    """With --stop, breakpoint() enters pdb in the component, where its variables are."""
    screen = Terminal(lab, *arguments(COMMANDS["06_stepping_through.py"][1]), **PLAIN)
    screen.expect("hours()")
    screen.expect("(Pdb) ")
    screen.type("args\n")
    screen.expect("shift = Shift(name='ben', came='22:00', left='06:00')")
    screen.type("p worked\n")
    screen.expect("-960")
    screen.type("c\n")
    screen.expect("ben   -16.00 h")
    assert screen.finish() == 0
    assert recorded(lab, "time_sheet#1").mode == "debug"


def test_pdb_stops_at_a_breakpoint(lab):
    """`python -m pdb` as the docstring types it selects debug mode and stops in the step."""
    screen = Terminal(lab, *arguments(COMMANDS["06_stepping_through.py"][2]), **PLAIN)
    screen.expect("hours()")
    screen.expect("-> worked = minutes(shift.left) - minutes(shift.came)")
    screen.expect("(Pdb) ")
    screen.type("args\n")
    screen.expect("shift = Shift(name='ben', came='22:00', left='06:00')")
    screen.expect("(Pdb) ")
    screen.type("n\n")
    screen.expect("-> if stop and worked < 0:")
    screen.type("c\n")
    screen.expect("cleo    7.75 h")
    screen.expect("(Pdb) ")  # pdb begins again
    screen.type("q\n")
    assert screen.finish() == 0
    assert recorded(lab, "time_sheet#1").mode == "debug"


def test_launch_settings(lab):
    """VS Code debugs the open file, or runs its pipeline in debug mode."""
    settings = json.loads((ROOT / ".vscode" / "launch.json").read_text(encoding="utf-8"))
    file, pipeline, one_of_several, tests, attach, whole = settings["configurations"]
    launched = (file, pipeline, one_of_several, tests, whole)
    assert all((c["type"], c["request"]) == ("debugpy", "launch") for c in launched)
    assert (attach["type"], attach["request"]) == ("debugpy", "attach")
    assert tests["purpose"] == ["debug-test"]
    assert file["program"] == whole["program"] == "${file}"
    step_over = [{"module": "pipedeco", "include": False}]
    assert all(c["rules"] == step_over for c in (*launched[:-1], attach))
    assert "rules" not in whole
    text = " ".join(TEXTS["06_stepping_through.py"].split())
    assert all(f'"{c["name"]}"' in text for c in (file, pipeline))
    assert [each["id"] for each in settings["inputs"]] == ["pipeline"]
    for number, made in enumerate((pipeline, one_of_several), 1):
        text = json.dumps(made["args"]).replace("${file}", str(EXAMPLES[5]))
        words = json.loads(text.replace("${input:pipeline}", "time_sheet"))
        done = lab.command([sys.executable, "-m", made["module"], *words]).finish()
        assert done.code == 0, done.err
        assert recorded(lab, f"time_sheet#{number}").mode == "debug"

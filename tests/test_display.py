"""What a person sees of a run: on a terminal, off it, and at its end."""

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import wait_for, wait_until
from terminal import Terminal

from pipedeco import get_run
from pipedeco.clock import RunClock
from pipedeco.display import line, picture
from pipedeco.graph import Called, Graph, Step
from pipedeco.options import ComponentOptions
from pipedeco.runners import UnderWay
from pipedeco.runners.activity import opening
from pipedeco.terminal import plain_lines
from pipedeco.text import duration

COMMAND = str(Path(sys.executable).with_name("pipedeco"))

# Steps go on when the test has written a file named after them.  Drawing may take half of the time
# here: where it is slow, the share that users have makes tests wait for seconds.
APP = """
import os, sys, time
import pipedeco.display
from pipedeco import component, pipeline

pipedeco.display.SHARE = 0.5
if "AFTER" in os.environ:  # the half second, and what it is off a terminal
    pipedeco.display.FIRST = float(os.environ["AFTER"])
    pipedeco.display.LINES = (pipedeco.display.FIRST,)

@component
def step(i):
    if os.environ.get("SAY"):
        print("step", i, "says this", flush=True)
    while not os.path.exists(f"go-{i}") and not os.path.exists("go"):
        time.sleep(0.01)
    return i

@component
def other(i):
    while not os.path.exists(f"go-{i}") and not os.path.exists("go"):
        time.sleep(0.01)
    if i == 99:
        raise ValueError("a bad\\x1b[31m thing")
    return i

@pipeline
def few(n: int = 3):
    return sum([step(i) for i in range(n)])

@pipeline
def many(n: int = 30):
    first = [step(i) for i in range(n)]
    return sum([other(x) for x in first])

@pipeline
def outer():
    return few(2)

@pipeline
def breaks():
    step(0)
    return other(99) + 1

@component
def says_much():
    raise ValueError("many words " * 40)

@pipeline
def long():
    says_much()
    return [step(i) for i in range(8)]

@pipeline
def stops():
    step(0).result()
    breakpoint()
    return step(1)

@pipeline
def logs():
    first = step(0)
    while not os.path.exists("go"):
        time.sleep(0.3)
        log.warning("a warning of the body")
        os.system("echo a word of a child")
    return first

@pipeline
def asks():
    first = step(0)
    time.sleep(1.0)
    name = input("your name? ")
    print("hello", name)
    return first

def both():
    runs = few.start(2), few.start(3)
    return [run.result() for run in runs]

import logging
logging.basicConfig()
log = logging.getLogger("app")

if __name__ == "__main__":
    print(globals()[sys.argv[1]](*map(int, sys.argv[2:])))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPEDECO_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("PIPEDECO_PROGRESS", raising=False)
    monkeypatch.setenv("PIPEDECO_WORKERS", "2")
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.fixture
def terminal(folder):
    opened = []

    def start(*command, **options):
        opened.append(Terminal(*command, cwd=folder, **options))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def script(*arguments):
    return sys.executable, "app.py", *arguments


# -- on a terminal -----------------------------------------------------------------------------


def test_live_progress_and_its_end(folder, terminal):
    """Steps done of steps known, what runs now; then the region gives way to a summary."""
    screen = terminal(*script("few"))
    shown = screen.wait_for("0/3")
    assert "few#1" in shown
    screen.wait_for("step-2 ")
    (folder / "go-0").touch()
    screen.wait_for("1/3")
    screen.wait_for("step-3 ")
    (folder / "go").touch()
    assert screen.wait() == 0
    text = screen.text
    assert "✓ few#1 completed in " in text
    assert ": 3 steps, " in text
    assert f"see it with: pipedeco show {get_run('latest').id}" in text
    assert text.splitlines()[-1] == "3"
    assert "/3" not in text  # nothing of the region is left


def test_components_stand_for_many_steps(folder, terminal):
    """One line each, with its count; those that run first."""
    screen = terminal(*script("many"))
    screen.wait_for("0/60")

    def components():
        return [row.split()[:2] for row in screen.text.splitlines()]

    for name in ("other", "step"):
        wait_until(lambda: [name, "0/30"] in components(), f"{name} has a line")  # noqa: B023
    (folder / "go").touch()
    assert screen.wait() == 0
    assert "60 steps" in screen.text


def test_the_time_left_comes_from_the_last_run(folder, terminal):
    """Known once a run of the version has completed."""
    screen = terminal(*script("few"))
    screen.wait_for("0/3")
    time.sleep(1.5)  # the first run lasts; not waited for luck, but for a duration to remember
    (folder / "go").touch()
    assert screen.wait() == 0
    assert "left" not in screen.text
    (folder / "go").unlink()
    again = terminal(*script("few"))
    again.wait_for("s left")
    (folder / "go").touch()
    assert again.wait() == 0


def test_steps_of_child_runs_are_shown_behind_their_parents(folder, terminal):
    """`few / step`; the child has no region of its own."""
    screen = terminal(*script("outer"))
    screen.wait_for("few / step-2")
    assert "few#1" not in screen.text
    (folder / "go").touch()
    assert screen.wait() == 0
    assert screen.text.count("completed in") == 1


def test_what_steps_print_stands_above(folder, terminal):
    """With their names in front, and whole."""
    screen = terminal(*script("few"), env={"SAY": "1"})
    screen.wait_for("0/3")
    (folder / "go").touch()
    assert screen.wait() == 0
    rows = screen.text.splitlines()
    for name, i in (("step", 0), ("step-2", 1), ("step-3", 2)):
        assert any(row.startswith(f"[{name}] step {i} says") for row in rows), screen.text
    assert "completed in" in screen.text


def test_a_failure_is_told_once_by_a_script(folder, terminal):
    """Python prints the traceback; the summary names the step."""
    screen = terminal(*script("breaks"))
    screen.wait_for("0/2")
    (folder / "go").touch()
    assert screen.wait() == 1
    text = screen.text
    assert "✗ breaks#1 failed in" in text
    assert "1 failed" in text
    assert text.count("Traceback") == 1


def test_a_long_error_leaves_room_for_the_rest(folder, terminal):
    """The table keeps its columns on a narrow terminal, and says what it leaves out."""
    screen = terminal(*script("long"), size=(60, 50))
    screen.wait_for("/9")
    (folder / "go").touch()
    assert screen.wait() == 1
    rows = screen.text.splitlines()
    assert any(row.split() == ["step", "state", "time", "result"] for row in rows)
    [failed] = [row for row in rows if row.startswith("  says_much ")]
    assert failed.split()[1] == "failed"
    assert failed.endswith("…")
    assert "  3 more took less time" in rows


def test_ctrl_c_says_that_it_stops(folder, terminal):
    """The region says so at once, and the screen is left in order."""
    screen = terminal(COMMAND, "run", "app.py:few")
    screen.wait_for("step-2 ")
    screen.send("\x03")
    assert screen.wait() == 130
    assert "⊘ few#1 cancelled in" in screen.text
    assert "Traceback" not in screen.text
    assert screen.raw.rstrip().count(b"\x1b[?25l") == screen.raw.count(b"\x1b[?25h")  # the cursor


def test_the_region_follows_the_terminals_size(folder, terminal):
    """Lines never break at the edge of a narrower terminal."""
    screen = terminal(*script("few"), size=(100, 30))
    screen.wait_for("0/3")
    screen.resize(44, 20)
    (folder / "go-0").touch()
    screen.wait_for("1/3", "few#1")
    (folder / "go").touch()
    assert screen.wait() == 0
    assert "completed" in screen.text


@pytest.mark.parametrize("size", [(0, 0), (10, 30), (80, 2), (1, 1)])
def test_a_terminal_without_room_gets_plain_lines(folder, terminal, size):
    """Nothing that stands there is written over, and the cursor goes nowhere."""
    screen = terminal(*script("few"), size=size, env={"COLUMNS": "", "LINES": "", "AFTER": "0.1"})
    wait_until(lambda: b"0 of 3 steps" in screen.raw.replace(b"\r\n", b""), "a line is written")
    (folder / "go").touch()
    assert screen.wait() == 0
    assert b"completed in" in screen.raw
    assert re.search(rb"\x1b\[[0-9]*[A-Hfd]|\x1b[78DM]|\x1b\[[0-9]*J", screen.raw) is None


def test_a_size_that_the_environment_tells(folder, terminal):
    """COLUMNS and LINES count where the terminal itself has none."""
    screen = terminal(*script("few"), size=(0, 0), env={"COLUMNS": "80", "LINES": "24"})
    wait_until(lambda: b"0/3" in screen.raw, "the region is drawn")
    (folder / "go").touch()
    assert screen.wait() == 0
    assert b"\x1b[0A" not in screen.raw


def test_a_short_run_draws_nothing(folder, terminal):
    """Not within its first half second."""
    (folder / "go").touch()
    screen = terminal(*script("few"), env={"AFTER": "30"})  # which no machine is so slow to need
    assert screen.wait() == 0
    assert screen.text == "3"


def test_a_debugger_in_the_body_has_the_terminal(folder, terminal):
    """The region goes away while pdb waits for a command."""
    screen = terminal(*script("stops"))
    screen.wait_for("step ")
    (folder / "go-0").touch()
    screen.wait_for("(Pdb)")
    screen.wait_gone("1/1")
    screen.send("p 6*7\n")
    screen.wait_for("42")
    assert "/1 " not in screen.text
    (folder / "go").touch()
    screen.send("c\n")
    assert screen.wait() == 0


def test_two_runs_at_once_share_the_region(folder, terminal):
    """Both are shown, both end."""
    screen = terminal(*script("both"))
    screen.wait_for("0/3")
    screen.wait_for("0/2")
    (folder / "go").touch()
    assert screen.wait() == 0
    assert screen.text.count("completed in") == 2
    assert screen.text.splitlines()[-1] == "[1, 3]"


def test_what_the_body_and_its_children_write_is_not_lost(folder, terminal):
    """Through a handler that holds the stream, and past the streams altogether."""
    screen = terminal(*script("logs"))
    screen.wait_for("0/1")
    screen.wait_for("WARNING:app:a warning of the body")
    screen.wait_for("a word of a child")
    (folder / "go").touch()
    assert screen.wait() == 0
    rows = screen.text.splitlines()
    assert "WARNING:app:a warning of the body" in rows
    assert "a word of a child" in rows
    assert not any("━━" in row for row in rows), screen.text


def test_input_in_the_body(folder, terminal):
    """The prompt and what is typed stay on the screen."""
    screen = terminal(*script("asks"))
    screen.wait_for("0/1")
    screen.wait_for("your name?")
    screen.wait_gone("0/1")
    screen.send("ada\n")
    (folder / "go").touch()
    assert screen.wait() == 0
    rows = screen.text.splitlines()
    assert "your name? ada" in rows
    assert "hello ada" in rows


def test_a_bad_setting_is_told_and_nothing_hangs(folder):
    """Before anything is begun."""
    done = subprocess.run(
        script("few"),
        cwd=folder,
        env={**os.environ, "PIPEDECO_PROGRESS": "loud"},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == 1
    assert "PIPEDECO_PROGRESS: progress is one of auto, full, off, not 'loud'" in done.stderr


def test_stdout_in_a_file_is_untouched(folder, terminal):
    """Only stderr is drawn on; the file has what the steps and the script print."""
    screen = terminal(
        "sh", "-c", f"{sys.executable} app.py few > out.txt", env={"SAY": "1"}
    )  # fmt: skip
    screen.wait_for("0/3")
    (folder / "go").touch()
    assert screen.wait() == 0
    rows = (folder / "out.txt").read_text().splitlines()
    assert sorted(rows[:3]) == [f"step {i} says this" for i in range(3)]
    assert rows[3:] == ["3"]


def test_it_can_be_turned_off(folder, terminal):
    """By the variable."""
    screen = terminal(*script("few"), env={"PIPEDECO_PROGRESS": "off"})
    wait_for(folder / "store" / "pipedeco.db")
    time.sleep(0.7)  # longer than it takes to draw
    (folder / "go").touch()
    assert screen.wait() == 0
    assert screen.text == "3"


# -- off a terminal ----------------------------------------------------------------------------


def test_plain_lines_off_a_terminal(folder):
    """Now and then one, and one at the end; no control character in them."""
    process = subprocess.Popen(
        script("few"), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        told = ""
        while ", now step" not in told:  # the first line may come before a worker is there
            told = process.stderr.readline()
            assert told.startswith("pipedeco: few#1: 0 of 3 steps, ")
        (folder / "go").touch()
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert (out, process.returncode) == ("3\n", 0)
    assert "✓ few#1 completed" in err
    assert "\x1b" not in err


def test_a_closed_stderr_stops_nothing(folder):
    """As in a daemon."""
    process = subprocess.Popen(
        ["sh", "-c", f"exec {sys.executable} app.py few 2>&-"], cwd=folder, stdout=subprocess.PIPE
    )
    with contextlib.closing(process.stdout):
        time.sleep(0.7)
        (folder / "go").touch()
        assert process.stdout.read() == b"3\n"
    assert process.wait(20) == 0


def test_the_cold_path_does_not_import_rich(folder):
    """Nor does a run that is over before anything would be drawn."""
    (folder / "go").touch()
    code = (
        "import sys; sys.argv = ['app.py', 'few']; import runpy; "
        "runpy.run_path('app.py', run_name='__main__'); assert 'rich' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder, env={**os.environ, "AFTER": "30"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


SLOW = """
import time
open("importing", "w").close()
print("at import", flush=True)
while not os.path.exists("go"):
    time.sleep(0.01)

class Box:
    def __init__(self, n):
        self.n = n
"""
USING = """
import box
from pipedeco import component, pipeline

@component(cache={cache})
def first(b: box.Box) -> int:
    return b.n

@pipeline
def run_it() -> int:
    return first(box.Box(1)) + 0

if {guard}:
    run_it()
"""


@pytest.mark.parametrize("guard", ["True", "__name__ == '__main__'"])
@pytest.mark.parametrize("cache", [True, False])
def test_what_workers_import_is_told_and_is_no_step(folder, terminal, cache, guard):
    """Neither a function of ours that imports it, nor its output, has the name of a step."""
    slow = (
        "import os\nif 'PARENT' not in os.environ or os.getppid() != int(os.environ['PARENT']):\n"
    )
    body = "".join(f"    {line}\n" for line in SLOW.strip().splitlines()[:-3] if line)
    (folder / "box.py").write_text(slow + body + "\n".join(SLOW.strip().splitlines()[-3:]))
    (folder / "app.py").write_text(USING.format(cache=cache, guard=guard))
    screen = terminal(sys.executable, "app.py", env={"PARENT": str(os.getpid())})
    screen.wait_for("importing ")
    assert "parts_of" not in screen.text
    time.sleep(1.2)  # a time that is worth to be told
    (folder / "go").touch()
    assert screen.wait() == 0
    raw = screen.raw.decode()
    assert "parts_of" not in raw
    assert "fingerprint" not in raw
    assert "1 step, " in raw
    assert re.search(r"  no step for [0-9.]+ m?s importing ", raw)


# -- its parts ---------------------------------------------------------------------------------


class Going:
    """A run with so many steps, as the display sees it."""

    def __init__(self, name, known, ended, running=()):
        self.id, self.name, self.status = "cafe", name, "running"
        self.graph = Graph()
        self.called = called = Called(None, "work", ComponentOptions(), is_pipeline=False)
        for _ in range(known):
            self.graph.add(self, called)
        self.clock = RunClock()
        self.clock._begun -= 10
        self.children = []
        self.ended_steps = self.share = ended
        self.progress = ended / max(known, 1)
        self.expected = (0, 0.0)
        self.stopping = None
        self._running = running
        self.prepares, self.helpers, self.doing = [], [], ""

    def running(self):
        own = [UnderWay(self.graph.steps[i], 1.0, 0.0, self.doing) for i in self._running]
        return [UnderWay(Step(None, self.called, -1, 1), 1.0, 0.0, d) for d in self.helpers] + own

    def waiting(self):
        return []

    def preparing(self):
        return self.prepares


def test_a_line_names_a_few_of_many():
    """And makes names harmless."""
    told = line(Going("p\x1b[31m#1", 9, 2, running=(2, 3, 4, 5, 6)))
    assert told.startswith("p\\x1b[31m#1: 2 of 9 steps, 10 s, now work-3, work-4, ")
    assert told.endswith(" and 1 more")


def test_a_line_tells_what_goes_on_before_steps():
    """What our own functions do is told where no step is under way; they are no steps."""
    run = Going("p#1", 2, 0)
    run.helpers = ["importing the code of cached steps"] * 2
    assert line(run).endswith("10 s, now importing the code of cached steps")
    run.prepares = ["starting a Dask cluster"]
    assert line(run).endswith("10 s, now starting a Dask cluster")
    run = Going("p#1", 2, 0, running=(0,))
    run.helpers, run.doing = ["fingerprinting values"], "importing app.py"
    assert line(run).endswith("10 s, now work (importing app.py)")
    run = Going("p#1", 20, 0, running=(0, 1))
    run.doing = "importing app.py"
    assert plain_lines(picture(run), 80)[1] == "  importing app.py"


def test_engines_that_start_are_named_without_their_options():
    """Which may hold secrets."""
    for url, text in (
        ("dask://", "starting a Dask cluster"),
        ("dask://?workers=2", "starting a Dask cluster"),
        ("ray://", "starting a Ray cluster"),
        ("local://2", "starting workers of this machine"),
        ("dask://head:8786?tls_key=k", "connecting to dask://head:8786"),
        ("executor://module:factory?slots=2", "connecting to executor://module:factory"),
    ):
        assert opening(url) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"), (0.0, "0 ms"), (0.0123, "12.3 ms"), (1.26, "1.26 s"), (99.4, "99.4 s"),
        (0.99999, "1 s"), (float("nan"), "-"), (-1.0, "0 ms"), (125, "2 min 05 s"), (3720, "1 h 02 min"),
    ],
)  # fmt: skip
def test_durations(seconds, text):
    """In the unit that a person would use."""
    assert duration(seconds) == text

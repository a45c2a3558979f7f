"""Run a program in a mode, and say in words how two such runs differ."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from faults.support import all_processes, environ_of, is_alive

HERE = Path(__file__).resolve().parent
PROGRAMS = HERE / "programs"
ROOT = HERE.parent.parent
MARK = "PARITY_MARK"
DEADLINE = 40.0  # seconds for what should take one; the machine may be busy

BARE = {"PYTHONPATH": str(HERE / "bare")}
MODES: dict[str, dict[str, str]] = {
    "debug": {"PIPEDECO_MODE": "debug"},
    "local": {"PIPEDECO_MODE": "local"},
    "spawn": {"PIPEDECO_MODE": "local", "PIPEDECO_START_METHOD": "spawn"},
    "remote": {"PIPEDECO_MODE": "remote", "PIPEDECO_QUEUES": '{"default": "local://2"}'},
}

OUR_NOTES = re.compile(r"(in step \S+, attempt \d+ on worker .*|see it with: pipedeco show .*)")
FRAME = re.compile(r'\s+File "(?P<file>[^"]*)", line (?P<line>\d+), in (?P<name>.*)')
COUNTED_AS = {"cached": "completed"}  # a step that is served, which the bare program performs
TRACEBACK = "Traceback (most recent call last):"


# -- programs ------------------------------------------------------------------------------


class Program(NamedTuple):
    """A program of the table."""

    name: str
    path: Path
    command: list[str]
    variables: dict[str, str]

    def unpack(self, folder: Path) -> None:
        """Copy it to where it is to be run."""
        if self.path.is_file():
            folder.mkdir(parents=True)
            shutil.copy(self.path, folder)
        else:
            ignored = shutil.ignore_patterns("command", "__pycache__")
            shutil.copytree(self.path, folder, ignore=ignored)


def find_programs() -> dict[str, Program]:
    """All programs of the table by name."""
    found = (_program(path) for path in sorted(PROGRAMS.iterdir()) if path.name != "__pycache__")
    return {program.name: program for program in found}


def _program(path: Path) -> Program:
    if path.is_dir():
        line = (path / "command").read_text()
    else:
        said = re.search(r"^# command: (.*)$", path.read_text(), re.MULTILINE)
        line = said[1] if said else f"python {path.name}"
    words = shlex.split(line)
    start = words.index("python")
    variables = dict(word.split("=", 1) for word in words[:start])
    return Program(path.stem, path, words[start + 1 :], variables)


# -- one run -------------------------------------------------------------------------------


@dataclass
class Result:
    """What can be seen of a program's run from outside."""

    end: str
    stdout: Counter[str]
    stderr: Counter[str]
    tracebacks: Counter[str]
    files: dict[str, Counter[str] | None]  # relative path -> lines; None of what is no text
    temporary: Counter[str]  # kinds of what is left in TMPDIR
    processes: list[str]  # command lines of what is left
    runs: list[RunRecord] = field(default_factory=list)


@dataclass
class RunRecord:
    """What a run has, or should have, on record."""

    name: str
    status: str
    states: dict[str, str]
    lines: dict[str, Counter[str]]


def run_bare(program: Program, place: Path) -> Result:
    """Run a program without pipedeco, then once more to see what each step does."""
    result, _ = _run(program, place / "bare", BARE)
    seen = place / "witness.json"
    _run(program, place / "witness", {**BARE, "PARITY_WITNESS": str(seen)})
    result.runs = _witnessed(seen, _Words(place / "witness"))
    return result


def run_in_mode(program: Program, mode: str, place: Path) -> Result:
    """Run a program with pipedeco."""
    result, words = _run(program, place / mode, {"PYTHONPATH": str(ROOT), **MODES[mode]})
    result.runs = _recorded(place / mode / "store", words)
    return result


class _Words:
    """Makes the same of texts that speak of a run's own folders."""

    def __init__(self, place: Path) -> None:
        self.place = str(place)
        # What is unpacked for engines lies in TMPDIR, under the digest of the code.
        self.unpacked = re.compile(re.escape(str(place / "tmp" / "pipedeco-")) + r"\d+/[0-9a-f]+")

    def plain(self, text: str) -> str:
        text = self.unpacked.sub("<unpacked>", text)
        return text.replace(f"{self.place}/work", "<work>").replace(self.place, "<place>")

    def lines(self, text: str) -> Counter[str]:
        found = (line.rstrip() for line in self.plain(text).splitlines())
        return Counter(line for line in found if line and not OUR_NOTES.fullmatch(line))


def _run(program: Program, place: Path, variables: dict[str, str]) -> tuple[Result, _Words]:
    work, temporary = place / "work", place / "tmp"
    program.unpack(work)
    temporary.mkdir()
    mark = uuid.uuid4().hex
    environment = _environment(place, mark, {**variables, **program.variables})
    if "PYTHONPATH" in program.variables:  # the program's own comes behind
        both = variables["PYTHONPATH"], program.variables["PYTHONPATH"]
        environment["PYTHONPATH"] = os.pathsep.join(both)
    out, err = place / "out", place / "err"
    with out.open("wb") as to_out, err.open("wb") as to_err:
        process = subprocess.Popen(
            [sys.executable, *program.command],
            cwd=work, env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=to_out, stderr=to_err,
        )  # fmt: skip
        end = _wait(process)
    left = _end_what_is_left(mark)
    words = _Words(place)
    errors, tracebacks = _split(err.read_text(errors="backslashreplace"), words)
    result = Result(
        end=end,
        stdout=words.lines(out.read_text(errors="backslashreplace")),
        stderr=words.lines(errors),
        tracebacks=tracebacks,
        files=_tree(work, words),
        temporary=_left_in(temporary),
        processes=left,
    )
    return result, words


def _environment(place: Path, mark: str, variables: dict[str, str]) -> dict[str, str]:
    dropped = ("PIPEDECO", "PYTHONPATH", "PYTEST", "PARITY")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(dropped)}
    own = {
        "PIPEDECO_STORE": str(place / "store"),
        "PIPEDECO_PROGRESS": "off",
        "PIPEDECO_WORKERS": "2",
        "TMPDIR": str(place / "tmp"),
        "MPLBACKEND": "Agg",
        "LC_ALL": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        MARK: mark,
    }
    return {**kept, **own, **variables}


def _wait(process: subprocess.Popen[bytes]) -> str:
    try:
        return f"exit code {process.wait(DEADLINE)}"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"no end within {DEADLINE:.0f} s"


def _end_what_is_left(mark: str) -> list[str]:
    """The command lines of processes that outlive the program by more than a moment."""
    deadline = time.monotonic() + 5.0
    while (left := _marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.005)
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes().decode() for pid in left]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return [line.replace("\0", " ") for line in lines]


def _marked(mark: str) -> list[int]:
    wanted = f"{MARK}={mark}".encode()
    return [pid for pid in all_processes() if wanted in environ_of(pid) and is_alive(pid)]


def _tree(folder: Path, words: _Words) -> dict[str, Counter[str] | None]:
    found: dict[str, Counter[str] | None] = {}
    for path in sorted(folder.rglob("*")):
        if "__pycache__" in path.parts:
            continue
        name = str(path.relative_to(folder))
        if path.is_dir():
            found[f"{name}/"] = None
            continue
        try:
            found[name] = words.lines(path.read_text())
        except UnicodeDecodeError:
            found[name] = None
    return found


def _left_in(temporary: Path) -> Counter[str]:
    """What a program left, by its ending, as names are random; ours is told by its own tests."""
    names = (path.name for path in temporary.iterdir() if not path.name.startswith("pipedeco"))
    return Counter(Path(name).suffix or "folder or file without ending" for name in names)


# -- tracebacks ----------------------------------------------------------------------------


def _split(text: str, words: _Words) -> tuple[str, Counter[str]]:
    """What stands on stderr beside tracebacks, and the tracebacks, a line each."""
    beside: list[str] = []
    found: Counter[str] = Counter()
    frames: list[str] | None = None
    for line in text.splitlines():
        if line == TRACEBACK:
            frames = []
        elif frames is None:
            beside.append(line)
        elif frame := FRAME.fullmatch(line):
            frames.append(_frame(words, **frame.groupdict()))
        elif not line.startswith("  "):  # the exception itself; what follows are notes
            found["; ".join([*_without_calls(frames), words.plain(line)])] += 1
            frames = None
    return "\n".join(beside), found


def _frame(words: _Words, file: str, line: str, name: str) -> str:
    """A frame in a line; of the libraries, whose lines say nothing, without its line."""
    for folder, short in ((ROOT / "pipedeco", "pipedeco"), (Path(os.__file__).parent, "python")):
        if file.startswith(f"{folder}/"):
            return f"{short}{file.removeprefix(str(folder))} {name}"
    if file.startswith(f"{HERE}/bare/"):
        return "bare"
    return f"{words.plain(file)}:{line} {name}"


def _without_calls(frames: list[str]) -> list[str]:
    """Leave out the frames of the bare decorators."""
    return [frame for frame in frames if frame != "bare"]


# -- records -------------------------------------------------------------------------------


def _witnessed(path: Path, words: _Words) -> list[RunRecord]:
    if not path.exists():
        return []
    return [
        RunRecord(
            name=run["name"],
            status=run["status"],
            states={name: step["state"] for name, step in run["steps"].items()},
            lines={n: words.lines("\n".join(s["lines"])) for n, s in run["steps"].items()},
        )
        for run in json.loads(path.read_text())
    ]


def _recorded(store: Path, words: _Words) -> list[RunRecord]:
    import pipedeco

    def record(run: Any) -> list[RunRecord]:
        steps = run.steps
        own = RunRecord(
            name=run.pipeline,
            status=run.status,
            states={name: COUNTED_AS.get(step.state, step.state) for name, step in steps.items()},
            lines={name: words.lines(step.logs()) for name, step in steps.items()},
        )
        return [own, *(one for child in run.children for one in record(child))]

    tops = [run for run in pipedeco.runs(limit=1000, store=str(store)) if run.parent_run is None]
    return [one for run in reversed(tops) for one in record(run)]


# -- comparison ----------------------------------------------------------------------------


class Found(NamedTuple):
    """A difference from the bare run, in words."""

    aspect: str
    text: str


def compare(bare: Result, other: Result) -> list[Found]:
    """Return all in which a run in a mode differs from the bare one."""
    found = [*_texts("end", [bare.end], [other.end])]
    found += _texts("stdout", bare.stdout, other.stdout)
    found += _texts("stderr", bare.stderr, other.stderr)
    found += _texts("traceback", bare.tracebacks, other.tracebacks)
    found += _files(bare.files, other.files)
    found += _texts("temporary", bare.temporary, other.temporary)
    found += _texts("processes", bare.processes, other.processes)
    found += _records(bare, other)
    return found


def _texts(aspect: str, wanted: Any, got: Any, where: str = "") -> list[Found]:
    wanted, got = Counter(wanted), Counter(got)
    return [
        Found(aspect, f"{where}{word} {line}" + (f" ({count} times)" if count > 1 else ""))
        for word, lines in (("lacks", wanted - got), ("has", got - wanted))
        for line, count in lines.items()
    ]


def _files(wanted: dict[str, Any], got: dict[str, Any]) -> list[Found]:
    found = _texts("files", wanted.keys(), got.keys())
    for name in wanted.keys() & got.keys():
        if (wanted[name] is None) != (got[name] is None):
            found.append(Found("files", f"{name} is text in one run and none in the other"))
        elif wanted[name] is not None:
            found += _texts("files", wanted[name], got[name], f"{name} ")
    return found


def _records(bare: Result, other: Result) -> list[Found]:
    found = _texts(
        "steps",
        [f"run {run.name} {run.status}" for run in bare.runs],
        [f"run {run.name} {run.status}" for run in other.runs],
    )
    if found:
        return found
    said = _all_lines(bare)
    left = list(other.runs)
    for wanted in bare.runs:
        # Runs that go on side by side are recorded in any order: take the one that fits best.
        pairs = [(_run_record(wanted, got, said), got) for got in left if got.name == wanted.name]
        least, taken = min(pairs, key=_unlikeness)
        left.remove(taken)
        found += least
    return found


def _unlikeness(pair: tuple[list[Found], RunRecord]) -> tuple[int, int]:
    found, _ = pair
    return sum(one.aspect == "steps" for one in found), len(found)


def _run_record(wanted: RunRecord, got: RunRecord, said: set[str]) -> list[Found]:
    """How the record of a run differs; steps may have more lines, which the bare run has elsewhere."""
    found = _texts("steps", _states(wanted), _states(got))
    for name in wanted.lines.keys() & got.lines.keys():
        more = got.lines[name] - wanted.lines[name]
        known = Counter({line: n for line, n in more.items() if line.strip() in said})
        found += _texts("logs", wanted.lines[name], got.lines[name] - known, f"{name} ")
    return found


def _states(run: RunRecord) -> list[str]:
    return [f"{name} {state}" for name, state in run.states.items()]


def _all_lines(result: Result) -> set[str]:
    """Every line that a run wrote, to whatever stream or file."""
    files = (lines for lines in result.files.values() if lines is not None)
    return {line.strip() for lines in (result.stdout, result.stderr, *files) for line in lines}

"""Where remote steps find the project's files, and where what they write there goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipedeco.blobs import BlobStore
from pipedeco.errors import ConfigError
from pipedeco.runners import bundle
from pipedeco.runners.bundle import Bundles, code_files
from pipedeco.runners.metadata import Metadata
from pipedeco.worker import places, unpacked
from pipedeco.worker.lookout import SLACK, Lookout, Spell
from pipedeco.worker.unpacked import files_below, remove_unused
from pipedeco.worker.working import WorkFolder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="stations lock folders by flock")
DEADLINE = 50.0


@pytest.fixture
def project(tmp_path):
    """Writes files of a project, and runs its scripts on processes of this machine."""
    folder = tmp_path / "project"
    temporary = tmp_path / "temporary"
    temporary.mkdir()

    def write(name, text=""):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

    def run(script, **more):
        variables = {
            **os.environ,
            "TMPDIR": str(temporary),
            "PIPEDECO_STORE": str(tmp_path / "store"),
            "PIPEDECO_MODE": "remote",
            "PIPEDECO_QUEUES": json.dumps({"default": "local://2"}),
            "PIPEDECO_PROGRESS": "auto",
            **more,
        }
        done = subprocess.run(
            [sys.executable, script], cwd=folder, env=variables, capture_output=True, text=True,
            timeout=DEADLINE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return SimpleNamespace(lines=done.stdout.splitlines(), err=done.stderr)

    write("pyproject.toml", "[project]\nname = 'mine'\n")
    return SimpleNamespace(folder=folder, temporary=temporary, write=write, run=run)


# -- a working directory for each run ------------------------------------------------------------

COUNTER = """
from pathlib import Path
from pipedeco import component, pipeline

@component
def bump():
    beside = Path(__file__).parent / "counter.txt"
    seen = int(beside.read_text())
    with open("counter.txt", "r+") as file:
        file.write(str(seen + 1))
    return seen, int(beside.read_text())

@pipeline
def child():
    return bump()

@pipeline
def main():
    first = child()
    return first, child.with_options(name="again")() if first else None

for _ in range(2):
    print(*main())
"""


def test_a_run_changes_its_own_files(project):
    """It finds the project's, its child runs find what it has changed, and no other run does."""
    project.write("counter.txt", "0")
    project.write("app.py", COUNTER)
    for _ in range(2):
        assert project.run("app.py").lines == ["(0, 1) (1, 2)"] * 2
    assert (project.folder / "counter.txt").read_text() == "0"
    assert os.listdir(project.temporary / f"pipedeco-{os.getuid()}" / "work") == []


def test_runs_at_once(project):
    """Neither sees what the other one writes under the same name."""
    project.write(
        "app.py",
        """
import sys, time
from pathlib import Path
from pipedeco import component, pipeline

@component
def write(own, marks):
    Path("mine.txt").write_text(own)
    Path(marks, own).touch()
    until = time.monotonic() + 20
    while len(list(Path(marks).iterdir())) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    return Path("mine.txt").read_text()

@pipeline
def main(own, marks):
    return write(own, marks)

runs = [main.start(own, sys.argv[1] if sys.argv[1:] else "MARKS") for own in "ab"]
print(*(run.result() for run in runs))
""".replace("MARKS", str(project.temporary.parent / "marks")),
    )
    (project.temporary.parent / "marks").mkdir()
    assert project.run("app.py").lines == ["a b"]


def test_a_folder_that_no_step_has_changed_serves_the_next_run(tmp_path, archive):
    """One that has is removed, also where it was changed in a way that a file's time hides."""
    code, archives = archive(**{"a.txt": "a", "b/c.txt": "c"})

    def folder(run):
        return WorkFolder(run, "/home/mine", code, archives)

    first = folder("r1")
    place = os.stat(first.path).st_ino
    first.leave()
    second = folder("r2")
    assert os.stat(second.path).st_ino == place
    assert second.path.endswith("work/r2/mine")
    times = os.stat(f"{second.path}/a.txt")
    Path(second.path, "a.txt").write_text("b")
    os.utime(f"{second.path}/a.txt", ns=(times.st_atime_ns, times.st_mtime_ns))
    second.leave()
    third = folder("r3")
    assert Path(third.path, "a.txt").read_text() == "a"
    Path(third.path, "empty").mkdir()
    third.leave()
    fourth = folder("r4")
    assert sorted(os.listdir(fourth.path)) == ["a.txt", "b"]
    fourth.leave()


def test_stations_share_a_run_s_folder(archive):
    """The last one that leaves removes it."""
    code, archives = archive(**{"a.txt": "a"})
    one, two = (WorkFolder("r1", "/home/mine", code, archives) for _ in range(2))
    Path(one.path, "a.txt").write_text("changed")
    assert Path(two.path, "a.txt").read_text() == "changed"
    one.leave()
    assert Path(two.path, "a.txt").exists()
    two.leave()
    assert not Path(two.path).exists()


def test_a_run_without_a_project(tmp_path, archive):
    """Where the controller's directory is not on the worker there is an empty one."""
    work = WorkFolder("r1", "", None, archive()[1])
    assert os.listdir(work.own("")) == []
    work.leave()
    assert not os.path.exists(work.path)


# -- the code that they share --------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Packs a project of these files; its digest, and where it is."""
    monkeypatch.setattr(places.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(bundle, "find_code_include", lambda: ())
    archives = BlobStore(str(tmp_path / "archives"))

    def pack(**files):
        folder = tmp_path / f"packed{len(os.listdir(tmp_path))}"
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o755 if name.endswith(".sh") else 0o644)
        folder.mkdir(exist_ok=True)
        return Bundles().bundle(str(folder), archives), archives

    return pack


def modes(folder):
    return {path: facts.st_mode & 0o777 for path, facts in files_below(folder)}


def test_the_code_is_read_only(archive):
    found = unpacked.unpacked(*archive(**{"a.py": "", "b/run.sh": ""}))
    assert modes(found.folder) == {"a.py": 0o400, "b/run.sh": 0o500}
    assert os.stat(f"{found.folder}/b").st_mode & 0o777 == 0o500
    assert modes(WorkFolder("r1", "", *archive(**{"b/run.sh": ""})).path) == {"b/run.sh": 0o700}


def test_code_that_was_changed_is_made_anew(archive):
    """A run that uses it keeps the folder, and all files that are whole."""
    code = archive(**{"a.py": "a = 1", "b/c.py": "c = 1", "d.py": ""})
    folder = unpacked.unpacked(*code).folder
    kept = os.stat(f"{folder}/b/c.py")
    for path in (folder, f"{folder}/b"):
        os.chmod(path, 0o700)
    os.unlink(f"{folder}/a.py")
    os.chmod(f"{folder}/d.py", 0o600)
    Path(folder, "d.py").write_text("changed")
    Path(folder, "b", "more.py").touch()
    held = os.open(folder, os.O_RDONLY)
    again = unpacked.unpacked(*code)
    assert again.folder == folder
    assert os.path.samestat(os.fstat(held), os.stat(folder))
    os.close(held)
    assert {path: Path(folder, path).read_text() for path in again.files} == {
        "a.py": "a = 1",
        "b/c.py": "c = 1",
        "d.py": "",
    }
    assert os.stat(f"{folder}/b/c.py").st_size == kept.st_size
    os.unlink(folder + unpacked.LIST)
    assert unpacked.unpacked(*code).files.keys() == again.files.keys()


def test_old_files_of_code_in_use_look_young(archive):
    """To cleaners, which look at each file's times."""
    code = archive(**{"a.py": ""})
    found = unpacked.unpacked(*code)
    path = f"{found.folder}/a.py"
    os.utime(path, ns=(0, found.files["a.py"][1]))
    os.utime(f"{found.folder}.files", (0, 0))
    assert unpacked.unpacked(*code) == found
    assert time.time() - os.stat(path).st_atime < DEADLINE


def test_a_script_after_a_cleaner(project):
    project.write("rare.py", "ANSWER = 42\n")
    project.write(
        "app.py",
        "from pipedeco import component, pipeline\n"
        "@component\ndef answer():\n    import rare\n    return rare.ANSWER\n"
        "@pipeline\ndef main():\n    return answer()\nprint(main() + 0)\n",
    )
    for _ in range(2):
        assert project.run("app.py").lines == ["42"]
        found = list(project.temporary.rglob("rare.py"))
        assert found
        for path in found:
            path.parent.chmod(0o700)
            path.unlink()


def test_what_nobody_uses_goes_when_asked(archive):
    """Code that a run uses stays, and that of another version of pipedeco."""
    used, unused = archive(**{"a.py": "1"}), archive(**{"a.py": "2"})
    work = WorkFolder("r1", "", *used)
    WorkFolder("r2", "", *unused).leave()
    root = Path(places.private_root())
    foreign = root / ("0" * 32)
    foreign.mkdir()
    assert remove_unused() > 0
    names = {path.name for path in root.iterdir()}
    assert {used[0][:32], f"{used[0][:32]}.files", foreign.name} <= names
    assert unused[0][:32] not in names
    assert os.listdir(root / "idle") == []
    assert Path(work.path, "a.py").read_text() == "1"
    work.leave()


# -- what steps write ----------------------------------------------------------------------------

# The time of a file is that of the last tick of the kernel's clock: steps begin some ticks before.
WRITERS = """
import time
from pathlib import Path
from pipedeco import component, log_artifact, pipeline

def some_ticks():
    began = time.time()
    while time.time() < began + 0.02:
        pass

@component
def fetch():
    some_ticks()
    Path("articles.csv").write_text("1")
    return 1

@component
def draw(number):
    some_ticks()
    Path("plots").mkdir(exist_ok=True)
    Path(f"plots/{number}.png").write_text("2")
    return 1

@component(collect=["*.json"])
def report():
    Path("report.json").write_text("{}")

@component
def log():
    Path("model.bin").write_text("3")
    log_artifact("model", "model.bin")

@pipeline
def main(quiet):
    if not quiet:
        done = fetch() + 0
        for number in range(5):
            done = draw(number) + done
    report()
    log()

main(False)
print("between")
main(True)
"""


def test_what_is_lost_is_told_once(project):
    """By step, with a pattern that would have kept it; what was kept is not."""
    project.write("app.py", WRITERS)
    (told,) = project.run("app.py").err.splitlines()
    assert f"working directory on {os.uname().nodename}" in told
    assert "fetch: articles.csv" in told
    assert "draw: plots/0.png, plots/1.png, plots/2.png and 2 more" in told
    assert 'collect=["*.csv", "plots/*.png"]' in told
    assert "report" not in told
    assert "model" not in told


@pytest.fixture
def lookout(tmp_path):
    """Watches a folder of two files, which are old."""
    for name in ("a.txt", "b/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("old")
    for path in (tmp_path / "a.txt", tmp_path / "b" / "c.txt", tmp_path / "b", tmp_path):
        os.utime(path, (1e9, 1e9))
    return Lookout(str(tmp_path), unpacked._read(str(tmp_path)))


def short(lookout):
    """What is seen of a batch that was too short for a look at all files."""
    lookout._cost = DEADLINE
    now = time.time()
    return sorted(path for _, path, _ in lookout.written([Spell(1, now - SLACK, now)]))


def test_short_batches_see_new_files(lookout, tmp_path):
    """In folders that are new, or in others that were removed; a longer one sees all changes."""
    assert short(lookout) == []
    (tmp_path / "b" / "new.txt").touch()
    assert short(lookout) == ["b/new.txt"]
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "e" / "f.txt").touch()
    assert "d/e/f.txt" in short(lookout)
    (tmp_path / "d" / "e" / "f.txt").unlink()
    (tmp_path / "d" / "e").rmdir()
    (tmp_path / "g.txt").touch()
    assert "g.txt" in short(lookout)
    (tmp_path / "a.txt").write_text("new")
    lookout._cost = 0.0
    now = time.time()
    assert "a.txt" in [path for _, path, _ in lookout.written([Spell(1, now - 1, now)])]


def test_a_file_is_of_the_call_in_whose_time_it_was_written(lookout, tmp_path):
    (tmp_path / "a.txt").write_text("new")
    os.utime(tmp_path / "a.txt", (1.5e9, 1.5e9))
    spells = [Spell(n, 1.5e9 + n - 2.5, 1.5e9 + n - 1.6) for n in range(1, 4)]
    assert lookout.written(spells) == [(2, "a.txt", 0.0)]
    assert lookout.written([Spell(1, 1.5e9 - 9, 1.5e9 - 8)]) == []


# -- what else travels ---------------------------------------------------------------------------


def distribution(folder, name, **files):
    made = folder / name
    made.mkdir(parents=True)
    for file, text in files.items():
        (made / file.replace("_json", ".json").replace("points_txt", "points.txt")).write_text(text)


def test_own_distributions(tmp_path):
    """By the project's name, by where they are installed from, and by where they stand."""
    project, site = tmp_path / "project", tmp_path / "lib" / "site-packages"
    (project / "src").mkdir(parents=True)
    (project / "pyproject.toml").write_text(
        '[build-system]\nname = "other"\n[project]\nversion = "1"\nname = "My.Own"\n[tool.x]\n'
    )
    distribution(site, "my_own-1.0.dist-info", METADATA="own", RECORD="no", entry_points_txt="e")
    distribution(site, "other-1.0.dist-info", METADATA="no")
    url = f'{{"dir_info": {{"editable": true}}, "url": "file://{project}/libs/a%20b"}}'
    distribution(site, "member-2.dist-info", METADATA="member", direct_url_json=url)
    url = f'{{"url": "file://{project}-beside"}}'
    distribution(site, "beside-2.dist-info", METADATA="no", direct_url_json=url)
    distribution(project / "src", "developed.egg-info", **{"PKG-INFO": "developed"})
    found = Metadata().of(str(project), [str(project / "src"), str(site), "/nowhere"])
    assert found == {
        ".pipedeco-metadata/my_own-1.0.dist-info/METADATA": b"own",
        ".pipedeco-metadata/my_own-1.0.dist-info/entry_points.txt": b"e",
        ".pipedeco-metadata/member-2.dist-info/METADATA": b"member",
        ".pipedeco-metadata/developed.egg-info/PKG-INFO": b"developed",
    }


APP = """
from pipedeco import component, pipeline

@component
def look():
    import mine, os
    from importlib.metadata import entry_points
    (point,) = entry_points(group="mine.plugins")
    return mine.__version__, point.load().__name__, ".pipedeco-metadata" in os.listdir()

@pipeline
def main():
    return look()

if __name__ == "__main__":
    print(*main())
"""


def test_metadata_and_what_git_ignores_travel(project):
    """Version and entry points of the project's own package; a generated module of code_include."""
    project.write(
        "pyproject.toml",
        "[project]\nname = 'mine'\n[tool.pipedeco]\ncode_include = ['src/mine/made.py', 'no/*.so']\n",
    )
    project.write(".gitignore", "made.py\n*.egg-info\n")
    project.write(
        "src/mine/__init__.py",
        "from importlib.metadata import version\n__version__ = version('mine')\n",
    )
    project.write("src/mine/made.py", "def plug():\n    return 1\n")
    project.write("src/mine.egg-info/PKG-INFO", "Metadata-Version: 2.1\nName: mine\nVersion: 7\n")
    project.write("src/mine.egg-info/entry_points.txt", "[mine.plugins]\nplug = mine.made:plug\n")
    project.write("app.py", APP)
    subprocess.run(["git", "init", "-q"], cwd=project.folder, check=True)
    done = project.run("app.py", PYTHONPATH=str(project.folder / "src"))
    assert done.lines == ["7 plug False"]
    assert "code_include has the pattern 'no/*.so', which matches nothing" in done.err
    command = [sys.executable, "-m", "pipedeco", "check", "app.py", "--mode", "remote"]
    checked = subprocess.run(
        command, cwd=project.folder, env={**os.environ, "PYTHONPATH": "src"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "'no/*.so'" in checked.stdout
    assert "made" not in checked.stdout


def test_files_of_code_include(tmp_path, monkeypatch):
    """A folder stands for all below it; hidden files are named with their dot."""
    for name in ("build/a.so", "build/x/b.so", "build/__pycache__/c.pyc", ".git/config", "d.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".gitignore").write_text("build\n")
    monkeypatch.setattr(bundle, "find_code_include", lambda: ("build", ".gitignore", "**/*.so"))
    monkeypatch.setattr(bundle, "_paths", lambda _: ["d.py"])
    found = [file.path for file in code_files(str(tmp_path), "/elsewhere")]
    assert found == [".gitignore", "build/a.so", "build/x/b.so", "d.py"]


@pytest.mark.parametrize("patterns", [["/etc"], ["../x"], 5, [""]])
def test_patterns_that_cannot_be(patterns):
    import pipedeco

    with pytest.raises(ConfigError, match="code_include"):
        pipedeco.configure(code_include=patterns)

"""The capture: what is recorded to run a run again, what is kept out of it, and what it may cost."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from pipedeco import capture
from pipedeco.capture import Capture, Captures, Seen, git, machine, processes, sources
from pipedeco.capture.masks import MASK, mask_command, mask_remote, mask_text, mask_variable

GHP = "ghp_" + "a1B2c3D4e5F6g7H8i9J0"
NEWLINE = "new\nline é.py"

CAPTURES = Captures()
begin_capture = CAPTURES.begin


@pytest.fixture(autouse=True)
def nothing_shared():
    CAPTURES.__init__()
    yield
    CAPTURES.__init__()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with one commit, without anything of this machine's settings."""
    for name in [n for n in os.environ if n.startswith("GIT_")]:
        monkeypatch.delenv(name)
    settings = tmp_path / "settings"
    settings.write_text("[user]\n name = A\n email = a@b.c\n[init]\n defaultBranch = main\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    folder = tmp_path / "project"
    folder.mkdir()
    run_git(folder, "init", "-q")
    (folder / "main.py").write_text("x = 1\n")
    (folder / ".gitignore").write_text("ignored.py\n")
    commit(folder)
    return folder


def run_git(folder, *arguments):
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, check=True, timeout=20
    )
    return done.stdout.decode()


def commit(folder):
    run_git(folder, "add", "-A")
    run_git(folder, "commit", "-q", "-m", "c")
    return run_git(folder, "rev-parse", "HEAD").strip()


def seen(folder, **variables):
    environ = {**os.environ, **variables}
    return Seen(str(folder), environ, str(folder), list(sys.path))


def look(folder, limit=git.LIMIT, **variables):
    """Git's record, which is always JSON."""
    found = git.describe(seen(folder, **variables), limit)["git"]
    return json.loads(json.dumps(found))


def apply(folder, found, tmp_path):
    """The tree that a later reproduction would make of a record."""
    copy = tmp_path / "copy"
    run_git(tmp_path, "clone", "-q", str(folder), str(copy))
    run_git(copy, "checkout", "-q", found["commit"])
    if found["diff"]:
        patch = tmp_path / "patch"
        patch.write_bytes(found["diff"].encode("utf-8", "surrogateescape"))
        run_git(copy, "apply", "--binary", str(patch))
    for path, text in found["sources"].items():
        target = copy / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode("utf-8", "surrogateescape"))
    return copy


def run(code, *arguments, timeout=20, **environment):
    """Run code in a process of its own; its output."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- git -------------------------------------------------------------------------------------


def test_a_clean_commit(repository):
    """Commit, branch, nothing else."""
    found = look(repository)
    assert found["commit"] == run_git(repository, "rev-parse", "HEAD").strip()
    assert (found["branch"], found["project"]) == ("main", ".")
    assert (found["dirty"], found["diff"], found["remote"]) == (False, None, None)
    assert (found["untracked"], found["sources"], found["notes"]) == ({}, {}, [])


def test_the_record_makes_the_tree_again(repository, tmp_path):
    """Changed, staged, deleted, added, binary, not UTF-8 and untracked files, links and modes."""
    (repository / "binary.dat").write_bytes(bytes(range(256)))
    (repository / "old.py").write_text("old\n" * 50)
    (repository / "gone.py").write_text("gone\n")
    commit(repository)
    (repository / "main.py").write_bytes(b"x = 2  # caf\xe9\r\n")
    (repository / "binary.dat").write_bytes(bytes(range(255, -1, -1)))
    (repository / "gone.py").unlink()
    run_git(repository, "mv", "old.py", "renamed.py")
    (repository / "added.py").write_text("added\n")
    (repository / "link").symlink_to("main.py")
    run_git(repository, "add", "added.py", "link")
    (repository / "main.py").chmod(0o755)
    package = repository / "package"
    package.mkdir()
    (package / NEWLINE).write_bytes(b"# caf\xe9\n")
    (repository / "ignored.py").write_text("")
    found = look(repository)
    assert found["dirty"] is True
    assert found["diff_bytes"] == len(found["diff"].encode("utf-8", "surrogateescape"))
    assert list(found["untracked"]) == list(found["sources"]) == [f"package/{NEWLINE}"]
    copy = apply(repository, found, tmp_path)
    expected = run_git(repository, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, expected.split("\0")):
        if name == "gone.py":
            assert not (copy / name).exists()
            continue
        assert (copy / name).read_bytes() == (repository / name).read_bytes()
        assert (copy / name).is_symlink() == (repository / name).is_symlink()
        assert os.access(copy / name, os.X_OK) == os.access(repository / name, os.X_OK)


def test_settings_that_change_a_diff_do_not(repository, tmp_path):
    """Prefixes, colours, renames, an external diff and a text form are left out of it."""
    for setting in (
        "diff.noprefix=true", "diff.mnemonicPrefix=true", "color.ui=always", "diff.renames=copies",
        "diff.external=touch ran;false", "diff.relative=true", "diff.upper.textconv=touch ran;cat",
        "status.showUntrackedFiles=no", "status.relativePaths=false", "core.fsmonitor=touch ran",
        "core.quotePath=true", "diff.submodule=log",
    ):  # fmt: skip
        run_git(repository, "config", *setting.split("=", 1))
    (repository / ".gitattributes").write_text("*.py diff=upper\n")
    (repository / "sub").mkdir()
    (repository / "sub" / "pyproject.toml").write_text("")
    commit(repository)
    (repository / "main.py").write_text("x = 3\n")
    (repository / "sub" / "new.py").write_text("")
    (repository / "ran").unlink(missing_ok=True)
    found = look(repository / "sub")
    assert not list(repository.rglob("ran"))
    assert (found["project"], list(found["untracked"])) == ("sub", ["sub/new.py"])
    assert (apply(repository, found, tmp_path) / "main.py").read_text() == "x = 3\n"


@pytest.mark.parametrize("kind", ["loose", "packed", "detached", "worktree", "sha256"])
def test_the_commit_is_known_without_git(repository, tmp_path, kind):
    """It is read off the repository's files."""
    folder = repository
    if kind == "packed":
        run_git(folder, "pack-refs", "--all")
    elif kind == "detached":
        run_git(folder, "checkout", "-q", "--detach")
    elif kind == "worktree":
        folder = tmp_path / "tree"
        run_git(repository, "worktree", "add", "-q", str(folder), "-b", "feature/one")
    elif kind == "sha256":
        folder = tmp_path / "other"
        folder.mkdir()
        run_git(folder, "init", "-q", "--object-format=sha256")
        (folder / "main.py").write_text("x = 1\n")
        commit(folder)
    found = git.begin(seen(folder, PATH=str(tmp_path)))["git"]
    assert found["commit"] == run_git(folder, "rev-parse", "HEAD").strip()
    assert found["dirty"] is None


def test_no_repository_is_none(tmp_path):
    """A project without git, and no project at all, start no process."""
    assert git.describe(seen(tmp_path)) == {"git": None}
    assert git.describe(seen(tmp_path)._replace(folder=None)) == {"git": None}


def test_before_the_first_commit_all_files_are_sources(repository, tmp_path):
    """There is no commit to check out, so texts are kept, staged or not."""
    folder = tmp_path / "fresh"
    folder.mkdir()
    run_git(folder, "init", "-q")
    (folder / "staged.py").write_text("1")
    run_git(folder, "add", "-A")
    (folder / "other.py").write_text("2")
    found = look(folder)
    assert (found["commit"], found["branch"]) == (None, "main")
    assert found["sources"] == {"other.py": "2", "staged.py": "1"}
    assert any("no commit" in note for note in found["notes"])


def test_a_detached_head_has_no_branch(repository):
    """The commit says enough."""
    run_git(repository, "checkout", "-q", "--detach")
    found = look(repository)
    assert found["branch"] is None
    assert len(found["commit"]) == 40


def test_a_worktree_is_a_repository(repository, tmp_path):
    """Its .git is a file."""
    tree = tmp_path / "tree"
    run_git(repository, "worktree", "add", "-q", "-b", "other", str(tree))
    assert look(tree)["branch"] == "other"


def test_a_hook_does_not_point_elsewhere(repository, tmp_path):
    """In a hook of another repository GIT_DIR and GIT_INDEX_FILE are set."""
    other = str(tmp_path / "nowhere")
    found = look(repository, GIT_DIR=other, GIT_INDEX_FILE=other, GIT_WORK_TREE=other)
    assert (found["dirty"], found["notes"]) == (False, [])


def test_nothing_is_locked_or_written(repository):
    """The index stays as it is, though git would like to refresh it."""
    index = repository / ".git" / "index"
    os.utime(repository / "main.py", (1, 1))
    before = index.read_bytes()
    assert look(repository)["dirty"] is False
    assert index.read_bytes() == before
    (repository / ".git" / "index.lock").touch()
    assert look(repository)["notes"] == []


@pytest.mark.parametrize("what", ["empty", "garbage", "missing", "dangling"])
def test_a_broken_repository_is_a_note(repository, tmp_path, what):
    """And the repository around it is not taken for it."""
    folder = repository / "inner"
    folder.mkdir()
    mark = folder / ".git"
    if what == "empty":
        mark.mkdir()
    elif what == "garbage":
        mark.write_bytes(b"\xff\x00garbage")
    elif what == "missing":
        mark.write_text(f"gitdir: {tmp_path}/nothing\n")
    else:
        mark.symlink_to(tmp_path / "nothing")
    found = look(folder)
    assert found["commit"] is None
    assert len(found["notes"]) == 1
    assert found["notes"][0].startswith("git status failed: fatal: ")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_repository_of_another_user_is_a_note(repository):
    """Git refuses it, for its settings could make us execute something."""
    os.chown(repository / ".git", 12345, 12345)
    os.chown(repository, 12345, 12345)
    (note,) = look(repository)["notes"]
    assert "dubious ownership" in note


def test_a_submodule_with_changes_of_its_own_is_a_note(repository, tmp_path):
    """A diff cannot carry them, and must still apply."""
    other = tmp_path / "other"
    shutil.copytree(repository, other)
    run_git(
        repository, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other), "sub"
    )
    commit(repository)
    (repository / "sub" / "main.py").write_text("changed")
    found = look(repository)
    assert found["diff"] in ("", None)
    assert any("submodule sub" in note for note in found["notes"])


def test_a_repository_within_is_left_out(repository):
    """Git lists it as a folder and looks no further."""
    run_git(repository, "clone", "-q", str(repository), str(repository / "inner"))
    found = look(repository)
    assert (found["untracked"], found["dirty"]) == ({}, False)
    assert found["notes"] == ["untracked and left out: 1 files that are no sources"]


def test_conflicts_are_a_note(repository):
    """A diff of unmerged files is not what will be there."""
    run_git(repository, "checkout", "-q", "-b", "other")
    (repository / "main.py").write_text("theirs\n")
    commit(repository)
    run_git(repository, "checkout", "-q", "main")
    (repository / "main.py").write_text("ours\n")
    commit(repository)
    subprocess.run(["git", "merge", "other"], cwd=repository, capture_output=True, check=False)
    assert any("conflicts" in note for note in look(repository)["notes"])


def test_a_large_diff_is_told_by_its_size(repository, monkeypatch):
    """More than is kept is counted and digested; far more is not even read."""
    monkeypatch.setattr(git, "DIFF", 1000)
    (repository / "main.py").write_text("y = 1\n" * 2000)
    found = look(repository)
    assert found["diff"] is None
    assert found["diff_bytes"] > 12_000
    assert len(found["diff_digest"]) == 64
    assert "too large" in found["notes"][0]
    monkeypatch.setattr(processes, "MOST", 2000)
    found = look(repository)
    assert (found["diff"], found["diff_digest"]) == (None, None)
    assert "more than" in found["notes"][0]


def test_the_digest_is_of_all_that_was_said():
    """Whatever the pieces it came in, and however much of it was kept."""
    data = os.urandom(5000)
    digests = set()
    for room in (0, 1, 999, 5000, 9999):
        for piece in (1, 7, 1000, 5000):
            answer = processes.Answer(room)
            for start in range(0, len(data), piece):
                answer.take(data[start : start + piece])
            digests.add(answer.digest)
            assert answer.text.encode("utf-8", "surrogateescape") == data[:room]
    assert digests == {sources._digest(data)}


def test_many_and_special_untracked_files(repository, monkeypatch):
    """Counts have an end, pipes are not waited for, links not followed, large files not read."""
    monkeypatch.setattr(sources, "MANY", 8)
    monkeypatch.setattr(sources, "TEXT", 100)
    monkeypatch.setattr(sources, "LARGE", 1000)
    os.mkfifo(repository / "a_pipe.py")
    (repository / "a_link.py").symlink_to("/etc/passwd")
    (repository / "b_large.py").write_bytes(bytes(2000))
    (repository / "b_long.py").write_bytes(bytes(500))
    (repository / "data.bin").write_bytes(bytes(10))
    for n in range(20):
        (repository / f"c{n:02}.py").write_text(str(n))
    found = look(repository)
    read = [name for name in found["untracked"] if name.startswith("c")]
    assert read == [f"c{n:02}.py" for n in range(len(read))]
    assert list(found["untracked"]) == ["b_long.py", *read]
    assert "b_long.py" not in found["sources"]
    assert "root:" not in json.dumps(found)
    assert "untracked and left out: 1 files that are no sources" in found["notes"]


def test_texts_have_an_end_together(repository, monkeypatch):
    """The digests of the rest are still there."""
    monkeypatch.setattr(sources, "TEXTS", 25)
    for n in range(5):
        (repository / f"f{n}.py").write_text("x" * 10)
    found = look(repository)
    assert (len(found["untracked"]), len(found["sources"])) == (5, 2)


def test_too_many_untracked_files_leave_the_rest(repository, monkeypatch):
    """Commit and diff are there though the listing is not."""
    monkeypatch.setattr(git, "LISTING", 4000)
    for n in range(100):
        (repository / f"{'long' * 20}{n}.py").write_text("")
    (repository / "main.py").write_text("x = 5\n")
    found = look(repository)
    assert (found["dirty"], found["untracked"]) == (True, {})
    assert "+x = 5" in found["diff"]
    assert "too many" in found["notes"][0]


def fake_git(folder, text):
    """A PATH on which git is a script."""
    folder.mkdir(exist_ok=True)
    script = folder / "git"
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.parametrize("text", ["sleep 60", "sleep 60 & exit 0", "exec 1>&- 2>&-; sleep 60"])
def test_a_git_that_hangs_is_a_note_and_is_gone(repository, tmp_path, text):
    """The limit holds for git and for whatever it started; nothing is left (conftest looks)."""
    begin = time.monotonic()
    found = look(repository, 0.3, PATH=fake_git(tmp_path / "bin", text))
    assert time.monotonic() - begin < 30
    assert found["notes"][-1] == "git did not answer within 0.3 s"


def test_without_git_there_is_a_note(repository, tmp_path):
    """The PATH may be empty."""
    assert look(repository, PATH=str(tmp_path))["notes"] == ["git is not on the PATH"]


def test_few_processes_are_started(repository, tmp_path):
    """Two for a clean tree, three for a changed one; none asks for a password."""
    real = shutil.which("git")
    log = tmp_path / "log"
    path = fake_git(
        tmp_path / "bin",
        f'echo "$GIT_TERMINAL_PROMPT $GIT_OPTIONAL_LOCKS" >> {log}\nexec {real} "$@"',
    )
    look(repository, PATH=path)
    assert log.read_text() == "0 0\n" * 2
    (repository / "main.py").write_text("")
    look(repository, PATH=path)
    assert log.read_text() == "0 0\n" * 5


# -- remotes and secrets ---------------------------------------------------------------------


def test_the_remote_is_that_of_the_branch(repository):
    """Else origin; without what is only for the eyes of its owner."""
    run_git(repository, "remote", "add", "first", "https://a.example/first.git")
    assert look(repository)["remote"] == "https://a.example/first.git"
    run_git(repository, "remote", "add", "origin", f"https://me:{GHP}@a.example/o.git")
    assert look(repository)["remote"] == "https://a.example/o.git"
    run_git(repository, "update-ref", "refs/remotes/first/main", "HEAD")
    run_git(repository, "branch", "-q", "--set-upstream-to", "first/main")
    assert look(repository)["remote"] == "https://a.example/first.git"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://user:pass@host/x.git", "https://host/x.git"),
        (f"https://{GHP}@github.com/x/y", "https://github.com/x/y"),
        ("https://user:p@ss@host:8443/x", "https://host:8443/x"),
        ("ssh://git@host:22/x.git", "ssh://git@host:22/x.git"),
        ("ssh://git:secret@host/x.git", "ssh://git@host/x.git"),
        ("git@github.com:x/y.git", "git@github.com:x/y.git"),
        ("/srv/git/x.git", "/srv/git/x.git"),
        (f"https://host/x?private_token={GHP}", f"https://host/x?private_token={MASK}"),
    ],
)
def test_remotes_lose_their_credentials(url, expected):
    """The user of ssh is part of the address."""
    assert mask_remote(url) == expected


SECRETS = [
    "--password hunter2222",
    "--db-password=hunter2222",
    "--token hunter2222",
    "--api-key hunter2222",
    "--api_key=hunter2222",
    "--apikey hunter2222",
    "--aws-secret-access-key hunter2222",
    "AWS_SECRET_ACCESS_KEY=hunter2222",
    "DB_PASSWD=hunter2222",
    "--auth hunter2222",
    "--header Authorization:hunter2222",
    "postgres://me:hunter2222@db/x",
    "https://hunter2222@host/x",
    "--url=redis://:hunter2222@host/0",
    "https://host/x?a=1&access_token=hunter2222&b=2",
    '{"client_secret":"hunter2222"}',
    "password='hunter2222'",
    "--githubToken hunter2222",
    "--clientCredentials hunter2222",
    GHP.replace("a1B2", "hunter2222"),
    "github_pat_hunter2222AAAAAAAAAAAAAAAA",
    "glpat-hunter2222_AAAAAAAAAAAA",
    "AKIAHUNTER2222AAAAAA",
    "sk-hunter2222AAAAAAAAAAAAAAAAAAAA",
    "sk-ant-api03-hunter2222AAAAAAAAAAAA",
    "sk_live_hunter2222AAAAAAAAAA",
    "hf_hunter2222AAAAAAAAAAAAAAAAAA",
    "xoxb-hunter2222-AAAAAAAA",
    "eyJhbGciOiJhunter2222.eyJzdWIiOiIxMjM0.sig",
    "AIzaSyhunter2222AAAAAAAAAAAAAAAAAAAAAAA",
]


@pytest.mark.parametrize("line", SECRETS)
def test_secrets_are_masked_in_a_command(line):
    """By the name before them, or by their own form; what is beside them stays."""
    masked = mask_command(["python", "train.py", *line.split(), "--epochs", "3"])
    assert "hunter2222" not in " ".join(masked).lower()
    assert MASK in " ".join(masked)
    assert masked[:2] == ["python", "train.py"]
    assert masked[-2:] == ["--epochs", "3"]


def test_secrets_with_spaces_are_masked_whole():
    """A word of the command line is not cut at its spaces; a key of many lines not at their ends."""
    assert mask_command(["--password=my secret words", "x"]) == [f"--password={MASK}", "x"]
    assert mask_command(["curl", "-H", "Authorization: Bearer abc.def-ghi"])[-1].endswith(MASK)
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabcd\n-----END RSA PRIVATE KEY-----"
    assert mask_text(f"a {key} b") == f"a {MASK} b"
    assert mask_text("x" * 100_000) == "<100,000 characters>"


@pytest.mark.parametrize(
    "line",
    [
        "--tokenizer bert --max-tokens 100 --num_tokens=5",
        "--keyboard us --monkey see --author me --compass north",
        "https://host:8080/path@v1?x=1#y user@host:path",
        "-m pytest -k not_slow --lr 1e-3 data/key/file.csv",
        "risk-averse-optimization-strategies task_list",
        "--passes 3 --bypass",
    ],
)
def test_what_is_no_secret_stays(line):
    """Masks on ordinary words would make a record useless."""
    assert mask_command(line.split()) == line.split()


def test_masking_takes_no_time_for_odd_words():
    """No pattern goes back and forth over a long word."""
    begin = time.process_time()
    for word in ("a" * 4096, "token" * 800, "-" * 4096, "key=" * 1000, "://" * 1300, "eyJ" * 1300):
        mask_command([word, word])
    assert time.process_time() - begin < 2


def test_the_environment_is_an_allow_list():
    """Nothing that is not on it, and of a secret's the name alone."""
    variables = {
        "HOME": "/root", "DATABASE_URL": "x", "AWS_SECRET_ACCESS_KEY": "x", "GITHUB_TOKEN": "x",
        "PYTHONPATH": "/a", "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "2", "LC_ALL": "C",
        "CUDA_VISIBLE_DEVICES": "0", "PIPEDECO_STORE": "s3://me:pw@bucket/x",
        "PIPEDECO_TOKEN": "abc", "MKL_KEY": "abc", "PYTHONSTUFF": GHP, "CI": "true",
    }  # fmt: skip
    here = Seen(None, variables, None, [])
    assert machine.describe_environment(here) == {
        "CI": "true", "CUDA_VISIBLE_DEVICES": "0", "LC_ALL": "C", "MKL_KEY": MASK,
        "OMP_NUM_THREADS": "2", "PIPEDECO_STORE": f"s3://{MASK}@bucket/x", "PIPEDECO_TOKEN": MASK,
        "PYTHONHASHSEED": "7", "PYTHONPATH": "/a", "PYTHONSTUFF": MASK,
    }  # fmt: skip
    assert machine.describe_python(here)["hash_seed"] == "7"
    assert mask_variable("PYTHON_AUTH", "x") == MASK


# -- packages --------------------------------------------------------------------------------


def test_packages_are_those_of_importlib():
    """The same names and versions, the first on the path."""
    from importlib.metadata import distributions

    expected = {}
    for found in distributions():
        if found.name:
            expected.setdefault(machine._normal(found.name), found.version)
    assert machine.describe_packages(Seen(None, {}, None, list(sys.path)))["packages"] == expected


def test_names_of_folders_become_names_of_packages(tmp_path):
    """Every form that an installer has left behind; where from, and where a link leads."""
    first, second = tmp_path / "first", tmp_path / "second"
    for name in (
        "Foo_Bar.baz-1.0.dist-info", "old-2.0-py3.11.egg-info", "debian_pkg-3.1.egg-info",
        "dev.egg-info", "none.egg-info", "post-1.0.post1+local.dist-info", "two-part-5.dist-info",
    ):  # fmt: skip
        (first / name).mkdir(parents=True)
    (first / "dev.egg-info" / "PKG-INFO").write_text("Name: dev\nVersion: 0.9\n\nVersion: 7\n")
    (first / "post-1.0.post1+local.dist-info" / "direct_url.json").write_text(
        '{"url": "https://me:pw@host/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}}'
    )
    (first / "old-2.0-py3.11.egg-info" / "direct_url.json").write_text("[]")
    (second / "foo.bar_baz-9.dist-info").mkdir(parents=True)
    (second / "link-1.dist-info").mkdir()
    (second / "link-1.dist-info" / "direct_url.json").write_text(
        '{"url": "file:///here", "dir_info": {"editable": true}}'
    )
    path = [str(tmp_path / "missing"), str(first), str(second), str(second), __file__]
    found = machine.describe_packages(Seen(None, {}, None, path))
    assert found["packages"] == {
        "debian-pkg": "3.1", "dev": "0.9", "foo-bar-baz": "1.0", "link": "1", "none": "",
        "old": "2.0", "post": "1.0.post1+local", "two-part": "5",
    }  # fmt: skip
    assert found["origins"] == {
        "link": {"url": "file:///here", "editable": True},
        "post": {"url": f"https://{MASK}@host/x.git", "commit": "abc"},
    }


# -- the capture -----------------------------------------------------------------------------


def test_a_record_has_every_part(repository, monkeypatch):
    """All of it JSON, made beside the caller, and the same text each time."""
    monkeypatch.chdir(repository)
    monkeypatch.setattr(sys, "orig_argv", ["python", "--token", "abc"])
    one = Capture(str(repository))
    one.start()
    record = one.result(10)
    assert one.done
    assert json.loads(one.to_json()) == record
    assert one.to_json() is one.to_json()
    assert list(record) == [
        "format", "made", "git", "python", "platform", "process", "environment", "packages",
        "origins", "notes",
    ]  # fmt: skip
    assert record["notes"] == []
    assert record["git"]["branch"] == "main"
    assert record["process"]["cwd"] == "."
    assert record["process"]["command"] == ["python", "--token", MASK]
    assert record["platform"]["cpus"] >= 1


def test_a_long_command_line_has_an_end(monkeypatch):
    """A shell's star may stand for any number of files."""
    monkeypatch.setattr(sys, "orig_argv", ["python", *map(str, range(2000))])
    command = machine.describe_process(Seen(None, {}, None, []))["command"]
    assert (len(command), command[-1]) == (1001, "<1,001 more>")


def test_a_capture_that_is_not_there_yet_tells_what_it_has(repository, tmp_path, monkeypatch):
    """A run that ends before git does not wait for it."""
    go = tmp_path / "go"
    known = run_git(repository, "rev-parse", "HEAD").strip()
    wait = f"while [ ! -e {go} ]; do sleep 0.02; done; exit 3"
    monkeypatch.setattr(git.describe, "__defaults__", (30.0,))
    monkeypatch.setenv("PATH", fake_git(tmp_path / "bin", wait))
    one = Capture(str(repository))
    one.start()
    record = one.result(0.1)
    assert not one.done
    assert "not complete" in record["notes"][0]
    assert record["git"]["commit"] == known
    assert record["git"]["dirty"] is None
    assert "still being looked at" in record["git"]["notes"][0]
    assert "not complete" in json.loads(one.to_json(0))["notes"][0]
    go.touch()
    assert one.result(10)["git"]["notes"] == ["git status failed: exit code 3"]


def test_a_capture_never_fails_a_run(monkeypatch):
    """What goes wrong in a part becomes a note, and the others are there."""

    def broken(_seen):
        raise RuntimeError("no luck")

    monkeypatch.setattr(machine, "describe_packages", broken)
    one = Capture(None)
    one.start()
    record = one.result(10)
    assert "RuntimeError: no luck" in record["notes"][0]
    assert record["git"] is None
    assert record["python"]["version"]


def test_one_that_was_not_started_does_not_wait():
    """There is nothing to wait for."""
    assert "not complete" in Capture(None).result()["notes"][0]


def test_runs_share_a_capture_for_two_seconds(monkeypatch, tmp_path):
    """Not when the environment, the folder or the working directory is another."""
    now = [100.0]
    monkeypatch.setattr(capture.time, "monotonic", lambda: now[0])
    first = begin_capture(None)
    now[0] += 1.9
    assert begin_capture(None) is first
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    second = begin_capture(None)
    assert second is not first
    assert second.result(10)["environment"]["OMP_NUM_THREADS"] == "3"
    monkeypatch.chdir(tmp_path)
    third = begin_capture(None)
    assert third is not second
    assert begin_capture(str(tmp_path)) is not third
    fourth = begin_capture(None)
    now[0] += 2.1
    fifth = begin_capture(None)
    assert fifth is not fourth
    for one in (first, third, fourth, fifth):
        assert one.result(10)["format"] == 1


def test_many_threads_may_ask(repository):
    """Of captures begun and waited for at once each is whole."""
    found = []

    def ask():
        one = Capture(str(repository))
        one.start()
        begin_capture(str(repository)).result(20)
        found.append(one.result(20))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len({record["git"]["commit"] for record in found}) == 1
    assert len(found) == 8


def test_a_caller_waits_for_nothing(repository, tmp_path):
    """Starting costs a small part of what is gathered; asking again next to nothing."""
    starts, wholes = [], []
    for _ in range(5):
        begin = time.perf_counter()
        one = Capture(str(repository))
        one.start()
        starts.append(time.perf_counter() - begin)
        one.result(10)
        wholes.append(time.perf_counter() - begin)
    begin_capture(str(repository)).result(10)
    begin = time.perf_counter()
    for _ in range(100):
        begin_capture(str(repository))
    shared = (time.perf_counter() - begin) / 100
    assert min(starts) < min(wholes) / 3
    assert shared < min(wholes) / 50


def test_importing_it_imports_little():
    """What the thread needs, the thread imports."""
    found = run(
        """
        import sys
        import pipedeco
        before = set(sys.modules)
        import pipedeco.capture
        print(*sorted(set(sys.modules) - before))
        """
    ).split()
    assert not {"subprocess", "json", "selectors", "blake3", "platform", "getpass"} & {*found}


def test_packages_are_read_without_importlib_metadata():
    """Nor is anything else loaded that costs more than the work."""
    found = run(
        """
        import sys
        from pipedeco.capture import Capture
        one = Capture(None)
        one.start()
        assert one.result(10)["packages"]
        print(*sys.modules)
        """
    ).split()
    assert not {"importlib.metadata", "platform", "getpass", "email", "asyncio"} & {*found}


HANGING = """
    import os, sys
    from pipedeco.capture import Capture
    one = Capture(sys.argv[1])
    one.start()
    while not os.path.exists(sys.argv[2]):
        pass
"""


def test_the_end_of_the_interpreter_is_not_delayed(repository, tmp_path):
    """A git that hangs ends with us, at once, and without a word."""
    mark = tmp_path / "mark"
    path = fake_git(tmp_path / "bin", f"touch {mark}; sleep 60")
    begin = time.monotonic()
    run(HANGING, str(repository), str(mark), timeout=50, PATH=path)
    assert time.monotonic() - begin < 30


def test_a_forked_child_does_not_wait_for_its_parents_thread(repository, tmp_path):
    """It has what was there, makes a capture of its own, and leaves the parent's git alone."""
    go = tmp_path / "go"
    path = fake_git(tmp_path / "bin", f"while [ ! -e {go} ]; do sleep 0.02; done; exit 3")
    out = run(
        """
        import os, sys, time, warnings
        warnings.simplefilter("ignore")
        from pipedeco.capture import Captures
        begin_capture = Captures().begin
        one = begin_capture(sys.argv[1])
        while "packages" not in one._record:
            time.sleep(0.01)
        time.sleep(0.1)
        pid = os.fork()
        if not pid:
            record = one.result()
            assert record["git"]["dirty"] is None and record["packages"], record
            os.environ["PATH"] = ""
            own = begin_capture(sys.argv[1])
            assert own is not one
            assert own.result(10)["git"]["notes"] == ["git is not on the PATH"]
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        open(sys.argv[2], "w").close()
        print(one.result(10)["git"]["notes"])
        """,
        str(repository),
        str(go),
        PATH=path,
    )
    assert out == "['git status failed: exit code 3']\n"


def test_ctrl_c_does_not_reach_git(repository, tmp_path):
    """It stands in a session of its own, without a terminal to ask at."""
    mark = tmp_path / "mark"
    path = fake_git(tmp_path / "bin", f"ps -o sid= -p $$ > {mark}; exit 1")
    look(repository, PATH=path)
    assert int(mark.read_text()) != os.getsid(0)


def test_a_removed_working_directory(tmp_path):
    """There is none to tell."""
    folder = tmp_path / "gone"
    folder.mkdir()
    out = run(
        """
        import os, sys
        os.chdir(sys.argv[1]); os.rmdir(sys.argv[1])
        from pipedeco.capture import Captures
        begin_capture = Captures().begin
        record = begin_capture(None).result(10)
        print(record["process"]["cwd"], record["notes"])
        """,
        str(folder),
        PYTHONPATH=str(Path(capture.__file__).parents[2]),
    )
    assert out == "None []\n"

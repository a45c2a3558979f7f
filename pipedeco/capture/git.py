"""What git knows of the project: the commit, what is not committed, sources that it does not know.

Three processes at most: `config` for the remote beside `status` for all else, and `diff` where
there is something to tell.  The repository may be anybody's: nothing that its settings name is
executed where git lets us say so, nothing is locked, nothing is asked of a person, and what git
refuses, or does not finish in time, becomes a note.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from pipedeco.capture.head import commit_of
from pipedeco.capture.masks import mask_remote, mask_text
from pipedeco.capture.processes import Answer, Process, Stopped
from pipedeco.capture.sources import add_sources

if TYPE_CHECKING:
    from pipedeco.capture import Seen

LIMIT = 5.0  # seconds for all of it
SHARE = 0.6  # of them for the listing of untracked files, which may be many
DIFF = 1 << 20  # bytes of a diff that are kept
LISTING = 1 << 24  # bytes of a listing that are read
COMMAND = ("git", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")
STATUS = (
    "status", "--porcelain=v2", "--branch", "-z", "--no-ahead-behind", "--no-renames",
)  # fmt: skip
REMOTES = ("config", "-z", "--get-regexp", r"^remote\..*\.url$")
# Whatever the user's settings are, the diff is one that `git apply` takes.
DIFFERENCE = (
    "diff", "HEAD", "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames",
    "--no-relative", "--src-prefix=a/", "--dst-prefix=b/", "--submodule=short",
    "--ignore-submodules=dirty",
)  # fmt: skip
KEPT = ("GIT_CONFIG_", "GIT_EXEC_PATH", "GIT_DISCOVERY_ACROSS_FILESYSTEM")


def begin(seen: Seen) -> dict[str, Any]:
    """What is known of `git` before git has answered: the commit."""
    top = _top(seen.folder)
    if top is None or seen.folder is None:
        return {"git": None}
    unknown = "what is not committed was still being looked at when the run ended"
    return {"git": {**_nothing(top, seen.folder), "notes": [unknown]}}


def describe(seen: Seen, limit: float = LIMIT) -> dict[str, Any]:
    """`git`: None where the project is in no repository.

    `commit` (None before the first), `branch` (None when detached), `remote` without credentials,
    `dirty` (whether tracked files differ from the commit; None where git did not tell), `diff` (for `git apply`; None where it
    is larger than 1 MiB), `diff_bytes`, `diff_digest`, `untracked` (path -> digest of sources that
    are not ignored), `sources` (path -> text of the Python files among them), `notes`.

    Paths are relative to the top of the repository, of which `project` is the project's folder.
    """
    top = _top(seen.folder)
    if top is None or seen.folder is None:
        return {"git": None}
    found = _nothing(top, seen.folder)
    try:
        _Repository(top, seen.environ, time.monotonic() + limit, found).look()
    except FileNotFoundError:
        found["notes"].append("git is not on the PATH")
    except Stopped:
        found["notes"].append(f"git did not answer within {limit:g} s")
    return {"git": found}


def _nothing(top: str, folder: str) -> dict[str, Any]:
    """The record of a repository of which the commit alone is known."""
    return {
        "project": os.path.relpath(os.path.realpath(folder), top),
        "commit": commit_of(top), "branch": None, "remote": None, "dirty": None,
        "diff": None, "diff_bytes": None, "diff_digest": None,
        "untracked": {}, "sources": {}, "notes": [],
    }  # fmt: skip


def _top(folder: str | None) -> str | None:
    """The folder with the .git that is nearest upwards."""
    if folder is None:
        return None
    place = os.path.realpath(folder)
    while not os.path.lexists(os.path.join(place, ".git")):
        parent = os.path.dirname(place)
        if parent == place:
            return None
        place = parent
    return place


def _environment(environ: dict[str, str], top: str) -> dict[str, str]:
    """Ours, without what would point git elsewhere: in a hook GIT_DIR and GIT_INDEX_FILE are set."""
    kept = {n: v for n, v in environ.items() if not n.startswith("GIT_") or n.startswith(KEPT)}
    return {
        **kept,
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_CEILING_DIRECTORIES": os.path.dirname(top),  # a broken .git is not stepped over
        "LC_ALL": "C",
        "LANGUAGE": "",
    }


class _Repository:
    """Fills the record of one repository.

    Parameters
    ----------
    top: its folder.
    environ: the variables of this process.
    deadline: on the monotonic clock.
    found: the record.
    """

    def __init__(
        self, top: str, environ: dict[str, str], deadline: float, found: dict[str, Any]
    ) -> None:
        self._top = top
        self._environ = _environment(environ, top)
        self._deadline = deadline
        self._found = found
        self._upstream = ""
        self._changed: list[str] = []
        self._untracked: list[str] = []

    def look(self) -> None:
        with self._start(*REMOTES) as remotes:
            status = self._status()
            answer = remotes.answer(self._deadline, LISTING)
        if status.code != 0:
            self._note(f"git status failed: {_sentence(status)}")
            return
        for entry in _entries(status.text):
            self._take(entry)
        self._found["dirty"] = bool(self._changed)
        self._found["remote"] = self._remote(answer.text)
        if self._found["commit"] is None:
            self._note("the repository has no commit yet")
            self._untracked += self._changed
        add_sources(self._top, self._untracked, self._found, self._deadline)
        if self._found["commit"] is not None and self._changed:
            self._diff()

    def _start(self, *arguments: str) -> Process:
        return Process((*COMMAND, *arguments), self._top, self._environ)

    def _note(self, text: str) -> None:
        self._found["notes"].append(text)

    def _status(self) -> Answer:
        """With all untracked files; without them where they are too many."""
        now = time.monotonic()
        why = "too many"
        try:
            with self._start(*STATUS, "--untracked-files=all") as status:
                answer = status.answer(now + (self._deadline - now) * SHARE, LISTING)
                if answer.size <= LISTING:
                    return answer
        except Stopped:
            why = "too many to be listed in time"
        with self._start(*STATUS, "--untracked-files=no") as status:
            answer = status.answer(self._deadline, LISTING)
        self._note(f"the untracked files are not recorded: they are {why}")
        return answer

    def _take(self, entry: str) -> None:
        """One entry of the status; see "Porcelain Format Version 2" in git-status(1)."""
        kind, _, rest = entry.partition(" ")
        if kind == "#":
            self._take_header(*rest.split(" ", 1))
        elif kind == "?":
            self._untracked.append(rest)
        elif kind in ("1", "u"):
            fields = rest.split(" ", 7 if kind == "1" else 9)
            self._changed.append(fields[-1])
            if fields[1].startswith("S") and fields[1][2:] != "..":
                self._note(f"submodule {fields[-1]} has changes of its own, which are not recorded")
            if kind == "u":
                self._note(f"{fields[-1]} has conflicts that are not resolved")

    def _take_header(self, name: str, value: str = "") -> None:
        if name == "branch.oid" and value != "(initial)":
            self._found["commit"] = value
        elif name == "branch.head" and value != "(detached)":
            self._found["branch"] = value
        elif name == "branch.upstream":
            self._upstream = value

    def _remote(self, text: str) -> str | None:
        """The address of the branch's remote, else of origin, else of the first."""
        found: dict[str, str] = {}
        for entry in _entries(text):
            key, _, url = entry.partition("\n")
            found.setdefault(key[len("remote.") : -len(".url")], url)
        upstream = [name for name in found if self._upstream.startswith(f"{name}/")]
        name = next((name for name in (*upstream, "origin", *found) if name in found), None)
        return None if name is None else mask_remote(found[name])

    def _diff(self) -> None:
        found = self._found
        with self._start(*DIFFERENCE) as diff:
            answer = diff.answer(self._deadline, DIFF)
        if answer.code not in (0, None):
            self._note(f"git diff failed: {_sentence(answer)}")
            return
        found["diff_bytes"] = answer.size
        if answer.code is None or answer.size > DIFF:
            more = "more than " if answer.code is None else ""
            self._note(f"the uncommitted diff is too large to be kept: {more}{answer.size:,} bytes")
        else:
            found["diff"] = answer.text
        if answer.code == 0:
            found["diff_digest"] = answer.digest


def _entries(text: str) -> list[str]:
    return [entry for entry in text.split("\0") if entry]


def _sentence(answer: Answer) -> str:
    """The first line of what git complained of."""
    lines = answer.complaint.strip().splitlines()
    return mask_text(lines[0][:300]) if lines else f"exit code {answer.code}"

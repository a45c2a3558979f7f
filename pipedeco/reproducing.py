"""The files of a project as they were when a run was made, from what its capture recorded."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from pipedeco.errors import ConfigError

LIMIT = 120.0  # seconds for git


def restore(capture: dict[str, Any] | None, file: str | None, folder: str) -> str:
    """Write the recorded files into an empty folder; gives the path that `file` has there.

    The commit is taken from the repository that `file` is in, then what was not committed is
    applied, then the untracked sources are written.

    Parameters
    ----------
    capture: the run's record.
    file: where its pipeline was defined.
    folder: gets the files.

    Raises ConfigError where the record is not enough.
    """
    git = (capture or {}).get("git")
    top = _top(file)
    if not git or not git["commit"] or top is None or file is None:
        raise ConfigError(
            "the run's code was not recorded as files: it was in no git repository with a commit; "
            "leave out --from-run to run the code as it is now"
        )
    missing = missing_diff(git)
    if missing:
        raise ConfigError(
            f"the run's code is commit {git['commit'][:12]} and what was not committed then, which "
            f"is not recorded: {missing}; leave out --from-run to run the code as it is now"
        )
    _check_out(top, git["commit"], folder)
    if git["diff"]:
        _git(("apply", "--binary", "-"), folder, git["diff"])
    for name, text in git["sources"].items():
        path = os.path.realpath(os.path.join(folder, name))
        if not path.startswith(os.path.realpath(folder) + os.sep):
            raise ConfigError(f"the recorded file {name!r} lies outside of the project")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as target:
            target.write(text)
    return os.path.join(folder, os.path.relpath(file, top))


def missing_diff(git: dict[str, Any]) -> str | None:
    """Why what was not committed is not in a record; None where it is, or there was nothing."""
    if git.get("dirty") is False or git.get("diff") is not None:
        return None
    notes: list[str] = git.get("notes", [])
    known = [note for note in notes if "diff" in note or "git " in note or "not committed" in note]
    return known[-1] if known else "git did not tell"


def _top(file: str | None) -> str | None:
    """The folder of the repository that a file is in."""
    folder = os.path.dirname(os.path.realpath(file)) if file else ""
    while folder and not os.path.lexists(os.path.join(folder, ".git")):
        above = os.path.dirname(folder)
        folder = above if above != folder else ""
    return folder or None


def _check_out(top: str, commit: str, folder: str) -> None:
    """The files of a commit; the repository's own index and work tree are left alone."""
    index = os.path.join(folder, ".index-of-commit")
    _git(
        ("-C", top, f"--work-tree={folder}", "checkout", "--force", commit, "--", "."),
        folder,
        environment={"GIT_INDEX_FILE": index},
    )
    os.unlink(index)


def _git(
    words: tuple[str, ...],
    folder: str,
    text: str = "",
    environment: dict[str, str] | None = None,
) -> None:
    kept = {n: v for n, v in os.environ.items() if not n.startswith("GIT_")}
    ceiling = {"GIT_CEILING_DIRECTORIES": os.path.dirname(folder), "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            ["git", *words],
            cwd=folder,
            env={**kept, **(ceiling if text else {}), **(environment or {})},
            input=text.encode("utf-8", "surrogateescape"),
            capture_output=True,
            check=False,
            timeout=LIMIT,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"git could not restore the run's files: {error}") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ConfigError(
            f"git could not restore the run's files: {said[-1] if said else words[0]}"
        )

"""The commit that is checked out, read off a repository's own files.

It is known at once, however long git looks at what was changed since.  What these files do not tell,
as where references stand in a table, git tells later.
"""

from __future__ import annotations

import os
import re

_LINK = b"ref: "


def commit_of(top: str) -> str | None:
    """The commit of the repository in a folder; None where there is none, or no file tells."""
    own = _folder_of(top)
    if own is None:
        return None
    shared = os.path.join(own, os.fsdecode(_read(own, "commondir").strip()))  # of a worktree
    head = _read(own, "HEAD").strip()
    if head.startswith(_LINK):
        name = head[len(_LINK) :]
        loose = (_read(folder, os.fsdecode(name)).strip() for folder in (own, shared))
        head = next(filter(None, loose), b"") or _packed(shared, name)
    text = head.decode("ascii", "replace")
    return text if re.fullmatch(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", text) else None


def _folder_of(top: str) -> str | None:
    """Where the repository's files are: in .git, or where that file points to."""
    place = os.path.join(top, ".git")
    if os.path.isdir(place):
        return place
    text = _read(top, ".git").strip()
    if not text.startswith(b"gitdir: "):
        return None
    return os.path.join(top, os.fsdecode(text[len(b"gitdir: ") :]))


def _packed(folder: str, name: bytes) -> bytes:
    for line in _read(folder, "packed-refs").splitlines():
        commit, _, found = line.partition(b" ")
        if found == name:
            return commit
    return b""


def _read(folder: str, name: str) -> bytes:
    try:
        with open(os.path.join(folder, name), "rb") as file:
            return file.read()
    except (OSError, ValueError):  # it is not there, or its name is none
        return b""

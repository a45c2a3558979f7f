"""The project's code as one archive in the store, for workers that have never seen it.

What belongs to it: in a git repository the files that git tracks or would (.gitignore holds);
elsewhere every file below the folder that is not hidden, an environment, a cache or a store; what
code_include names; and the metadata of what is installed from the project.
"""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import time
import zipfile
from typing import TYPE_CHECKING, NamedTuple

from pipedeco.config import find_code_include, find_code_limit, project_folder
from pipedeco.errors import ConfigError
from pipedeco.runners.metadata import Metadata
from pipedeco.worker.travel import relative

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pipedeco.blobs import BlobStore

MANY = 20_000  # files of a folder that nobody has marked as a project
NAMED = 5  # files that an error names
KEPT = 30 * 86400.0  # seconds for which an archive is kept that is not used
EPOCH = (1980, 1, 1, 0, 0, 0)
LISTING = (
    "git", "-c", "core.fsmonitor=false", "ls-files", "-z", "--cached", "--others",
    "--exclude-standard", "--deduplicate",
)  # fmt: skip
LEFT_OUT = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "env"})
NO_CODE = (".pyc", ".pyo")


class CodeFile(NamedTuple):
    """A file that travels."""

    path: str  # relative
    size: int
    changed: int
    executable: bool


_Content = tuple[list[CodeFile], dict[str, bytes]]


class Bundles:
    """The archives that this process has made; one is made again when a file has changed."""

    def __init__(self) -> None:
        # By project and store: what was packed, and the digest.
        self._made: dict[tuple[str, str], tuple[_Content, str]] = {}
        self._metadata = Metadata()

    def bundle(self, project: str, archives: BlobStore) -> str:
        """Put a project's code among the archives of a store; the digest of the archive.

        Raises ConfigError where it is too large, and StoreError.
        """
        files = code_files(project, os.path.dirname(os.path.dirname(archives.folder)))
        check_size(project, files, find_code_limit())
        content = files, self._metadata.of(project, sys.path)
        key = project, archives.folder
        known = self._made.get(key)
        if known is not None and known[0] == content and _touched(archives.path(known[1])):
            return known[1]
        _remove_old(archives.folder)
        digest = archives.put([_archive(project, *content)])
        self._made[key] = content, digest
        return digest


def _touched(path: str) -> bool:
    """Make an archive young; whether it is there."""
    try:
        os.utime(path)
    except OSError:
        return False
    return True


def _remove_old(folder: str) -> None:
    """No record refers to an archive: one that nobody has used for long goes."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            try:
                if time.time() - os.stat(path).st_mtime > KEPT:
                    os.unlink(path)
            except OSError:  # another process was quicker
                pass


def project_here() -> str:
    """The folder whose code a run of this process needs; "" where it has none.

    It is the project's, or that of the script; what is typed at a prompt needs no other code.
    """
    found = project_folder()
    if found is not None:
        return found
    script = getattr(sys.modules["__main__"], "__file__", None)
    if not isinstance(script, str) or not os.path.exists(script):
        return ""
    return os.path.dirname(os.path.abspath(script))


def code_files(project: str, store: str) -> list[CodeFile]:
    """The files of a project that travel; what is in the folder of the store does not.

    Raises ConfigError where they are too many to be a project.
    """
    inner = relative(store, project)
    return [file for file in _files(project) if not _is_below(file.path, inner)]


def _files(project: str) -> Iterator[CodeFile]:
    included = {path for found in code_included(project).values() for path in found}
    for path in sorted({*_paths(project), *included}):
        try:
            facts = os.stat(os.path.join(project, path))
        except OSError:  # tracked and deleted, or a link to nowhere
            continue
        if stat.S_ISREG(facts.st_mode) and (path in included or not path.endswith(NO_CODE)):
            yield CodeFile(path, facts.st_size, facts.st_mtime_ns, bool(facts.st_mode & 0o100))


def code_included(project: str) -> dict[str, list[str]]:
    """What travels though git ignores it: the files that each pattern of code_include matches,
    those below the folders that it matches among them."""
    from glob import iglob

    found: dict[str, list[str]] = {}
    for pattern in find_code_include():
        files = found.setdefault(pattern, [])
        for path in iglob(pattern, root_dir=project, recursive=True):
            below = os.path.join(project, path)
            files += _walked(project, path) if os.path.isdir(below) else [os.path.normpath(path)]
    return found


def _walked(project: str, path: str) -> Iterator[str]:
    for folder, names, files in os.walk(os.path.join(project, path)):
        names[:] = [name for name in names if name != "__pycache__"]
        yield from (os.path.relpath(os.path.join(folder, name), project) for name in files)


def not_included(project: str) -> list[str]:
    """What to tell of patterns of code_include that match nothing."""
    return [
        f"code_include has the pattern {pattern!r}, which matches nothing in {project}"
        for pattern, found in code_included(project).items()
        if not found
    ]


def _is_below(path: str, folder: str | None) -> bool:
    return folder is not None and path.startswith(folder + os.sep)


def _paths(project: str) -> Iterable[str]:
    known = _known_to_git(project)
    return _below(project) if known is None else known


def _known_to_git(project: str) -> list[str] | None:
    """What git tracks, or would, relative to the project; None where it is in no repository."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            LISTING, cwd=project, capture_output=True, check=False, env=kept, timeout=30.0
        )
    except (OSError, subprocess.TimeoutExpired):  # no git here
        return None
    if done.returncode:
        return None
    found = []
    for path in done.stdout.decode("utf-8", "surrogateescape").split("\0"):
        inner = os.path.join(project, path)
        if path and os.path.isdir(inner) and not os.path.islink(inner):  # a repository within
            found += [os.path.join(path, below) for below in _paths(inner)]
        elif path:
            found.append(path)
    return found


def _below(project: str) -> Iterator[str]:
    count = 0
    for folder, names, files in os.walk(project):
        names[:] = [name for name in names if not _is_left_out(os.path.join(folder, name))]
        for name in files:
            if not name.startswith("."):
                count += 1
                yield os.path.relpath(os.path.join(folder, name), project)
        if count > MANY:
            raise ConfigError(
                f"there are more than {MANY:,} files below {project}, whose code is to travel to "
                "the engine; put the project into a folder of its own, or let git ignore the rest"
            )


def _is_left_out(folder: str) -> bool:
    name = os.path.basename(folder)
    marks = "pipedeco.db", "pyvenv.cfg"
    there = any(os.path.exists(os.path.join(folder, mark)) for mark in marks)
    return name.startswith(".") or name in LEFT_OUT or there


def check_size(project: str, files: list[CodeFile], limit: int) -> None:
    """Raise ConfigError, which names the largest, where the files are more than may travel."""
    total = sum(file.size for file in files)
    if total <= limit:
        return
    largest = sorted(files, key=lambda file: -file.size)[:NAMED]
    names = ", ".join(f"{file.path} ({file.size / 2**20:.1f} MiB)" for file in largest)
    raise ConfigError(
        f"the code of {project} has {total / 2**20:.1f} MiB, more than the {limit >> 20} MiB that "
        f"may travel to the engine; the largest files are {names}: let git ignore what steps do not "
        "read, or raise code_limit (in MiB) in [tool.pipedeco] or with configure(code_limit=...)"
    )


def _archive(project: str, files: list[CodeFile], metadata: dict[str, bytes]) -> bytes:
    """The same bytes for the same files.

    Parameters
    ----------
    metadata: more files, by their names.
    """
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in files:
            try:
                with open(os.path.join(project, file.path), "rb") as source:
                    content = source.read()
            except OSError as error:
                raise ConfigError(
                    f"{file.path} of {project} is to travel to the engine, and cannot be read: "
                    f"{error.strerror}; let git ignore it, or make it readable"
                ) from error
            archive.writestr(_entry(file.path, executable=file.executable), content)
        for path, content in metadata.items():
            archive.writestr(_entry(path), content)
    return target.getvalue()


def _entry(path: str, *, executable: bool = False) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(path, EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (0o700 if executable else 0o600) << 16
    return entry

"""What is installed of the project itself: the metadata of its distributions travel with its code.

An editable install has them in this environment alone, and `importlib.metadata` is asked for the
project's own version and entry points by the project's own code.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from pipedeco.worker.places import METADATA
from pipedeco.worker.travel import PROJECT, kind_of, relative

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SUFFIXES = ".dist-info", ".egg-info"
SENT = "METADATA", "PKG-INFO", "entry_points.txt", "top_level.txt"
TABLE = re.compile(r"^\[(?:project|tool\.poetry)\]\s*$(.*?)(?=^\[|\Z)", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"""^name\s*=\s*["']([^"'\n]+)["']""", re.MULTILINE)
URL = re.compile(rb'"url"\s*:\s*"file://([^"]*)"')


class Metadata:
    """What is installed of projects; looked for again where something was installed since."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[object, list[str]]] = {}  # stamps and folders, by project

    def of(self, project: str, path: list[str]) -> dict[str, bytes]:
        """The metadata files of what is installed from a project, by their names in its archive.

        Parameters
        ----------
        path: sys.path; of several distributions of one name the first counts, as in Python.
        """
        entries = list(dict.fromkeys(path))
        stamps = [(entry, _stamp(entry)) for entry in (*entries, _description(project))]
        known = self._known.get(project)
        if known is None or known[0] != stamps:
            known = self._known[project] = stamps, list(_own_folders(project, entries))
        return {name: data for folder in known[1] for name, data in _files(folder).items()}


def _own_folders(project: str, entries: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    names = _own_names(project)
    for entry in entries:
        for folder in _distributions(entry or os.curdir):
            name = _normal(os.path.basename(folder).rpartition(".")[0].partition("-")[0])
            if name not in seen and _is_own(folder, name, names, project):
                seen.add(name)
                yield folder


def _stamp(path: str) -> int:
    try:
        return os.stat(path or os.curdir).st_mtime_ns
    except OSError:
        return -1


def _description(project: str) -> str:
    return os.path.join(project, "pyproject.toml")


def _distributions(entry: str) -> Iterator[str]:
    try:
        names = sorted(os.listdir(entry))
    except OSError:  # an archive, or nothing
        return
    for name in names:
        if name.endswith(SUFFIXES):
            yield os.path.join(entry, name)


def _is_own(folder: str, name: str, names: set[str], project: str) -> bool:
    if name in names or kind_of(os.path.dirname(folder), project)[0] == PROJECT:
        return True
    try:
        with open(os.path.join(folder, "direct_url.json"), "rb") as file:
            url = URL.search(file.read())
    except OSError:  # as most, it is from an index
        return False
    if url is None:
        return False
    from urllib.parse import unquote

    return (
        relative(os.path.normpath(unquote(url[1].decode("utf-8", "replace"))), project) is not None
    )


def _own_names(project: str) -> set[str]:
    """What pyproject.toml calls the project; read without a parser, which takes milliseconds."""
    try:
        with open(_description(project), encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError):
        return set()
    return {_normal(name) for table in TABLE.findall(text) for name in NAME.findall(table)}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def _files(folder: str) -> dict[str, bytes]:
    """An egg-info may be a file itself."""
    base = f"{METADATA}/{os.path.basename(folder)}"
    if os.path.isfile(folder):
        with open(folder, "rb") as file:
            return {base: file.read()}
    found = {}
    for name in SENT:
        try:
            with open(os.path.join(folder, name), "rb") as file:
                found[f"{base}/{name}"] = file.read()
        except OSError:  # it has none
            continue
    return found

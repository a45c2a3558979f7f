"""Entry points of installed distributions, read from the folders beside the modules.

importlib.metadata would take tens of milliseconds at each start; a look at the names takes one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.callbacks import Callback, check_methods
from pipedeco.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CALLBACKS = "pipedeco.callbacks"  # the group of callbacks that are told of every run
FOLDERS = (".dist-info", ".egg-info")


class EntryPoint(NamedTuple):
    """One line of a distribution's entry_points.txt; `value` is `module:name`."""

    distribution: str
    name: str
    value: str


class Plugins:
    """The callbacks that installed distributions bring; each is made once a process."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, ...], tuple[Callback, ...]] = {}  # by sys.path
        self._made: dict[EntryPoint, Callback] = {}

    def callbacks(self, path: Iterable[str]) -> tuple[Callback, ...]:
        """In the order of the folders of `path` and of the names within.

        Raises ConfigError where one cannot be loaded.
        """
        key = tuple(path)
        if key not in self._found:
            self._found[key] = tuple([self._of(point) for point in find(CALLBACKS, key)])
        return self._found[key]

    def _of(self, point: EntryPoint) -> Callback:
        if point not in self._made:
            self._made[point] = load_callback(point)
        return self._made[point]


def find(group: str, path: Iterable[str]) -> list[EntryPoint]:
    """The entry points of a group; a distribution that lies on the path twice counts once."""
    found: list[EntryPoint] = []
    seen: set[str] = set()
    for folder in path:
        try:
            names = sorted(os.listdir(folder or os.curdir))
        except OSError:  # a zip file, or nothing
            continue
        for name in names:
            if name.endswith(FOLDERS):
                distribution = name.rpartition(".")[0].partition("-")[0]
                if distribution not in seen:
                    seen.add(distribution)
                    found += _points(group, distribution, os.path.join(folder, name))
    return found


def _points(group: str, distribution: str, folder: str) -> Iterator[EntryPoint]:
    try:
        with open(os.path.join(folder, "entry_points.txt"), "rb") as file:
            data = file.read()
    except OSError:  # most have none
        return
    if group.encode() not in data:
        return
    section = ""
    for line in data.decode("utf-8", "replace").splitlines():
        text = line.partition("#")[0].strip()
        if text.startswith("["):
            section = text.strip("[]").strip()
        elif section == group and "=" in text:
            name, _, value = text.partition("=")
            yield EntryPoint(distribution, name.strip(), value.partition("[")[0].strip())


def load_callback(point: EntryPoint) -> Callback:
    """The Callback that an entry point names: an object, its class, or a function that makes one.

    Raises ConfigError where it cannot be loaded.
    """
    try:
        found = named_object(point.value)
        if not isinstance(found, Callback) and callable(found):
            found = found()
    except (Exception, SystemExit) as error:
        raise _unusable(point, f"raised {type(error).__name__}: {error}") from error
    if not isinstance(found, Callback):
        raise _unusable(point, f"gave {found!r}, which is no pipedeco.Callback")
    try:
        check_methods(found)
    except ConfigError as error:
        raise _unusable(point, f"has a method that cannot be called: {error}") from None
    return found


def unusable_callbacks(path: Iterable[str]) -> tuple[list[EntryPoint], list[ConfigError]]:
    """All entry points of callbacks, and what is wrong with some of them."""
    points, wrong = find(CALLBACKS, path), []
    for point in points:
        try:
            load_callback(point)
        except ConfigError as error:
            wrong.append(error)
    return points, wrong


def named_object(value: str) -> Any:
    """What `module:name` names; raises whatever importing the module raises."""
    import importlib

    module, _, name = value.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _unusable(point: EntryPoint, what: str) -> ConfigError:
    return ConfigError(
        f"the callback {point.name!r} of the installed distribution {point.distribution} cannot be "
        f"used: {point.value} {what}; mend the distribution, or uninstall it"
    )

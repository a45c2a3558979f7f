"""What a step asks of its environment: packages by requirement, and a version of Python.

Only names, versions, extras and markers are taken, as in `scikit-learn[extra]>=1.5; python_version
< "3.13"`.  Options, URLs and paths are refused: what they name is not known by its text.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.requirements import Requirement

OLDEST = (3, 11)  # the least Python that pipedeco itself runs on
ARCHIVES = (".whl", ".zip", ".tar", ".tar.gz", ".tar.bz2", ".tgz")


class Requirements(NamedTuple):
    """An environment by what is asked of it: `packages` are normalised and sorted."""

    packages: tuple[str, ...]
    python: str | None  # 3.12 or 3.12.1; None is that of the controller

    @classmethod
    def recorded(cls, fields: Any) -> Requirements:
        """From JSON, which has lists for tuples."""
        packages, python = fields
        return cls(tuple(packages), python)

    @property
    def text(self) -> str:
        """For people, in one line."""
        python = () if self.python is None else (f"Python {self.python}",)
        return ", ".join((*self.packages, *python))

    @property
    def minor(self) -> str | None:
        """The version of Python without its last part."""
        return None if self.python is None else ".".join(self.python.split(".")[:2])

    @property
    def other_python(self) -> bool:
        """Whether code that was compiled here does not load there."""
        return self.minor not in (None, f"{sys.version_info[0]}.{sys.version_info[1]}")


def check_packages(value: Any) -> tuple[str, ...] | str | None:
    """The option `packages`: requirements, or the path of a file of them; raises ConfigError."""
    if value is None:
        return None
    if isinstance(value, str | os.PathLike):
        path = os.fspath(value)
        if not isinstance(path, str) or not path.strip() or "\0" in path or "://" in path:
            raise ConfigError(
                f"packages is a list of requirements, such as ['scikit-learn==1.5'], or the path "
                f"of a requirements file, not {value!r}"
            )
        return path
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ConfigError(
            f"packages is a list of requirements, such as ['scikit-learn==1.5'], not {value!r}"
        )
    return normalised([_parsed(item, "packages") for item in value]) or None


def check_python(value: Any) -> str | None:
    """The option `python`; raises ConfigError."""
    if value is None:
        return None
    if not isinstance(value, str) or not re.fullmatch(
        r"3\.(0|[1-9]\d?)(\.(0|[1-9]\d?))?", value, re.ASCII
    ):
        raise ConfigError(f"python is a version as a text, '3.12' or '3.12.1', not {value!r}")
    if tuple(map(int, value.split(".")))[:2] < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise ConfigError(f"python={value!r} is too old: pipedeco itself needs {oldest} or newer")
    return value


def requirements_of(
    packages: tuple[str, ...] | str | None, python: str | None, folders: tuple[str, ...]
) -> Requirements | None:
    """What the options of a component ask for; None where that is nothing.

    Parameters
    ----------
    folders: where a requirements file is looked for, in this order.

    Raises ConfigError for a file that is not there, or has lines that are refused.
    """
    if isinstance(packages, str):
        packages = read_file(_found(packages, folders))
    if not packages and python is None:
        return None
    return Requirements(packages or (), python)


def read_file(path: str) -> tuple[str, ...]:
    """The requirements of a file; raises ConfigError with the line that is refused."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the requirements file {path} cannot be read: {error}") from None
    found = []
    for number, line in enumerate(lines, 1):
        text = re.sub(r"(^|\s)#.*", "", line).strip()  # as pip does
        if text:
            found.append(_parsed(text, f"{path}, line {number}"))
    return normalised(found)


def normalised(requirements: list[Requirement]) -> tuple[str, ...]:
    """The same texts for the same requirements."""
    return tuple(sorted({_text(item) for item in requirements}))


def unmet(wanted: Requirements) -> list[str]:
    """What this interpreter lacks of them, a clause each."""
    from packaging.requirements import Requirement

    lacking = []
    version = ".".join(map(str, sys.version_info[:3]))
    if wanted.python is not None and not f"{version}.".startswith(f"{wanted.python}."):
        lacking.append(f"Python {wanted.python} is wanted, and this is {version}")
    seen: set[str] = set()
    for text in wanted.packages:
        lacking += _lacking(Requirement(text), "", seen)
    return lacking


def _lacking(item: Requirement, extra: str, seen: set[str]) -> list[str]:
    """What is not met of a requirement, and of those that its extras add; `seen` are those."""
    from importlib import metadata

    if str(item) in seen or (
        item.marker is not None and not item.marker.evaluate({"extra": extra})
    ):
        return []
    seen.add(str(item))
    try:
        there = metadata.version(item.name)
    except metadata.PackageNotFoundError:
        return [f"{item} is wanted, and {item.name} is not installed"]
    if not item.specifier.contains(there, prereleases=True):
        return [f"{item} is wanted, and {there} is installed"]
    added = readable(metadata.requires(item.name) or ()) if item.extras else []
    return [
        clause
        for name in sorted(item.extras)
        for other in added
        if other.marker is not None and not other.marker.evaluate({"extra": ""})
        for clause in _lacking(other, name, seen)
    ]


def readable(texts: Iterable[str]) -> list[Requirement]:
    """Without those that are none: old distributions ask for such as `pytz (>dev)`."""
    from packaging.requirements import InvalidRequirement, Requirement

    found = []
    for text in texts:
        with suppress(InvalidRequirement):
            found.append(Requirement(text))
    return found


def _found(path: str, folders: tuple[str, ...]) -> str:
    path = os.path.expanduser(path)
    places = [os.path.abspath(os.path.join(folder, path)) for folder in folders] or [path]
    for place in places:
        if os.path.isfile(place):
            return place
    raise ConfigError(
        f"there is no requirements file {' or '.join(dict.fromkeys(places))}; a list names "
        f"packages themselves: packages=[{os.path.basename(path)!r}]"
    )


def _parsed(text: str, where: str) -> Requirement:
    """A requirement; `where` tells of its place in errors."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    text = text.strip()
    if text.startswith("-") or " -" in text:
        kind = "an option"
    elif "://" in text or " @" in text or "@ " in text or text.startswith("git+"):
        kind = "a URL"
    elif text.startswith((".", "/", "~", "\\")) or text.lower().endswith(ARCHIVES):
        kind = "a path"
    else:
        try:
            found = Requirement(text)
            Requirement(_text(found))  # packaging takes the name a_, and refuses the same as a-
        except InvalidRequirement as error:
            told = str(error).splitlines()[0]
            raise ConfigError(f"{where}: {text!r} is no requirement: {told}") from None
        if found.url is None:
            if canonicalize_name(found.name) == "pipedeco":
                raise ConfigError(
                    f"{where}: {text!r} is not needed: each environment has the pipedeco of its run"
                )
            return found
        kind = "a URL"
    raise ConfigError(
        f"{where}: {text!r} is {kind}; only names with versions are taken, such as "
        "'scikit-learn==1.5'"
    )


def _text(item: Requirement) -> str:
    from packaging.utils import canonicalize_name

    extras = f"[{','.join(sorted(map(canonicalize_name, item.extras)))}]" if item.extras else ""
    versions = ",".join(sorted(map(str, item.specifier)))
    marker = f"; {item.marker}" if item.marker is not None else ""
    return f"{canonicalize_name(item.name)}{extras}{versions}{marker}"

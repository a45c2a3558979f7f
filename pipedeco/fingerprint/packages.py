"""Whose module it is: the user's, Python's, or a package's, and of which version.

The user's own modules are followed.  Python's count by its version, those of installed packages
by theirs, which is read from the names of the .dist-info folders beside them: importlib.metadata
would take tens of milliseconds.
"""

from __future__ import annotations

import os
import sys
from collections import namedtuple
from typing import TYPE_CHECKING, Any

from pipedeco.fingerprint.naming import MAINS

if TYPE_CHECKING:
    from types import ModuleType
    from typing import NamedTuple

    class Owner(NamedTuple):
        """`kind` is "user", "python" or "package"; of a package, its part of a key."""

        kind: str
        part: tuple[str, str] | None = None

    class _Distribution(NamedTuple):
        name: str
        version: str
        path: str

else:
    Owner = namedtuple("Owner", ("kind", "part"), defaults=(None,))
    _Distribution = namedtuple("_Distribution", ("name", "version", "path"))

USER = Owner("user")
PYTHON = Owner("python")
_PACKAGES = ("site-packages", "dist-packages", "__pypackages__")
_STANDARD = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_OWN = __name__.partition(".")[0]


def python_part() -> tuple[str, str]:
    """Python's part of a key: built-ins and the standard library are as its minor version says."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if sys.implementation.name != "cpython":
        version = f"{sys.implementation.name} {version}"
    return "python", version + (f" -{'O' * sys.flags.optimize}" if sys.flags.optimize else "")


def is_foreign(name: str) -> bool:
    """Whether an imported module is Python's or a package's, told by where it lies alone."""
    top = name.partition(".")[0]
    if top == _OWN or name in MAINS:
        return top == _OWN
    module = sys.modules.get(name) or sys.modules.get(top)
    path = _path_of(module) if module is not None else None
    if path is None:
        return top in sys.stdlib_module_names
    return _is_installed(path) or (top in sys.stdlib_module_names and _is_standard(path))


class Owners:
    """The owners of modules, each found once."""

    def __init__(self) -> None:
        self._known: dict[str, Owner] = {}
        self._folders: dict[str, list[_Distribution]] = {}

    def of(self, name: str) -> Owner:
        """Who owns a module, imported or not; what cannot be found is the user's."""
        owner = self._known.get(name)
        if owner is None:
            owner = self._known[name] = self._find(name)
        return owner

    def refresh(self) -> None:
        """Forget whose the modules are that belong to no package: they may be other ones now."""
        self._known = {name: owner for name, owner in self._known.items() if owner.part}

    def _find(self, name: str) -> Owner:
        top = name.partition(".")[0]
        if name in MAINS:
            return USER
        module = sys.modules.get(name) or sys.modules.get(top)
        path = _path_of(module) if module is not None else _path_unimported(top)
        if top in sys.stdlib_module_names and (path is None or _is_standard(path)):
            return PYTHON
        if top == _OWN:
            return Owner("package", ("package pipedeco", self._own_version()))
        if path is None or not _is_installed(path):
            return USER
        return Owner("package", self._package(top, path))

    def _package(self, top: str, path: str) -> tuple[str, str]:
        folder, relative = _split(path)
        regular = os.path.isfile(os.path.join(folder, top, "__init__.py")) or os.sep not in relative
        found = self._owners(folder, relative, top, regular)
        stated = getattr(sys.modules.get(top), "__dict__", {}).get("__version__")
        stated = stated if isinstance(stated, str) else ""
        if found:
            version = ", ".join(sorted({d.version for d in found}))
            # A source tree on the path, or two distributions of one name: what runs says it too.
            version += f" ({stated})" if stated and stated != version else ""
            return f"package {found[0].name}", version
        return f"package {top}", stated or _content(folder, top, path)

    def _owners(self, folder: str, relative: str, top: str, regular: bool) -> list[_Distribution]:
        """The distributions that a file belongs to: by their name, else by their records."""
        known = self._distributions(folder)
        wanted = _normal(top)
        by_name = [d for d in known if _normal(d.name) == wanted]
        if by_name and regular:
            return by_name
        words = set(_normal(relative).split(os.sep))
        likely = sorted(known, key=lambda d: -_likeness(_normal(d.name), wanted, words))
        return next(([d] for d in likely if _records(d, relative, top if regular else "")), [])

    def _distributions(self, folder: str) -> list[_Distribution]:
        if folder not in self._folders:
            try:
                names = os.listdir(folder)
            except OSError:  # inside a zip file
                names = []
            found = (_distribution(folder, name) for name in sorted(names))
            self._folders[folder] = [d for d in found if d is not None]
        return self._folders[folder]

    def _own_version(self) -> str:
        """The version of pipedeco, which may be installed as a link to its source."""
        for folder in sys.path:
            if _is_installed(folder + os.sep):
                for distribution in self._distributions(folder):
                    if _normal(distribution.name) == _OWN:
                        return distribution.version
        return _content(os.path.dirname(os.path.dirname(os.path.dirname(__file__))), _OWN, __file__)


def _path_of(module: ModuleType) -> str | None:
    """Where a module lies; None for what is built in or made by hand."""
    names: dict[str, Any] = module.__dict__
    path = names.get("__file__")
    if isinstance(path, str):
        return os.path.abspath(path)
    for folder in names.get("__path__") or ():  # a namespace package
        return os.path.join(os.path.abspath(folder), "")
    return None


def _path_unimported(top: str) -> str | None:
    spec = next(filter(None, (_spec(finder, top) for finder in sys.meta_path)), None)
    if spec is None:
        return None
    if spec.has_location and spec.origin:
        return os.path.abspath(str(spec.origin))
    folders = list(spec.submodule_search_locations or ())
    return os.path.join(os.path.abspath(folders[0]), "") if folders else None


def _spec(finder: Any, top: str) -> Any:
    try:
        return finder.find_spec(top, None)
    except Exception:  # noqa: BLE001 - somebody's import hook
        return None


def _is_standard(path: str) -> bool:
    return path.startswith(_STANDARD) and not _is_installed(path)


def _is_installed(path: str) -> bool:
    return any(f"{os.sep}{part}{os.sep}" in path for part in _PACKAGES)


def _split(path: str) -> tuple[str, str]:
    """The folder that packages are installed in, and the path in it."""
    marks = (f"{os.sep}{part}{os.sep}" for part in _PACKAGES)
    end = max(path.rfind(mark) + len(mark) for mark in marks if mark in path)
    return path[: end - 1], path[end:]


def _normal(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_" if os.sep not in name else ".")


def _likeness(name: str, top: str, words: set[str]) -> int:
    return 2 * (top in name or name in top) + len(words.intersection(name.split("_")))


def _distribution(folder: str, entry: str) -> _Distribution | None:
    for ending in (".dist-info", ".egg-info"):
        if entry.endswith(ending):
            name, _, rest = entry[: -len(ending)].partition("-")
            version = rest.partition("-py3")[0]
            return _Distribution(name.lower(), version, os.path.join(folder, entry))
    return None


def _records(distribution: _Distribution, relative: str, top: str) -> bool:
    """Whether a distribution lists a file, or the whole top-level package, as its own."""
    tops = _read(distribution.path, "top_level.txt")
    if top and top.encode() in tops.split():
        return True
    record = _read(distribution.path, "RECORD")
    wanted = relative.replace(os.sep, "/").encode()
    return b"\n" + wanted + (b"" if wanted.endswith(b"/") else b",") in b"\n" + record


def _read(folder: str, name: str) -> bytes:
    try:
        with open(os.path.join(folder, name), "rb") as file:
            return file.read()
    except OSError:  # older kinds have other files
        return b""


def _content(folder: str, top: str, path: str) -> str:
    """For what has no version: the digest of its files."""
    from blake3 import blake3

    root = os.path.join(folder, top)
    paths = [path]
    if os.path.isdir(root):
        paths = [
            os.path.join(place, name)
            for place, folders, names in os.walk(root)
            for name in names
            if not place.endswith("__pycache__")
        ]
    digest = blake3()
    for one in sorted(paths):
        name = os.path.relpath(one, folder).encode()
        content = blake3(_read(*os.path.split(one))).digest()
        digest.update(b"%d:%b" % (len(name), name) + content)
    return f"files {digest.hexdigest()[:16]}"


def file_digest(path: str) -> str:
    """The digest of a file's content; empty where it cannot be read."""
    from blake3 import blake3

    content = _read(*os.path.split(path))
    return str(blake3(content).hexdigest()) if content else ""

"""What modules are called in fingerprints, whichever way they were imported.

`python pkg/mod.py` has pkg on the path, and imports `helper`; `python -m pkg.mod` imports the same file as
`pkg.helper`.  The folders with an `__init__.py` tell that both are the latter.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache

MAIN = "__main__"
MAINS = (MAIN, "__pipedeco__", "__mp_main__")


def public_name(module: str) -> str:
    """A module's name within its packages; a script's is `__main__` however it was loaded."""
    if module in MAINS:
        return MAIN
    found = sys.modules.get(module)
    file = getattr(found, "__dict__", {}).get("__file__")
    if type(file) is not str:
        return module
    name = _within_packages(module, file)
    # Where the file was imported under both names, there are two modules.
    return name if sys.modules.get(name, found) is found else module


def module_called(name: str) -> str:
    """The name under which the module with a public name was imported."""
    real = name
    while real not in sys.modules or public_name(real) != name:
        _, _, real = real.partition(".")
        if not real:
            return name
    return real


def layout() -> str:
    """The packages whose own folders are on the path: their modules have other names than else."""
    found = (_packages(os.path.abspath(folder or ".")) for folder in sys.path)
    return " ".join(dict.fromkeys(filter(None, found)))


@lru_cache(maxsize=4096)
def _within_packages(module: str, file: str) -> str:
    top = os.path.dirname(os.path.abspath(file))
    if os.path.basename(file).startswith("__init__."):
        top = os.path.dirname(top)
    for _ in range(module.count(".")):
        top = os.path.dirname(top)
    above = _packages(top)
    return f"{above}.{module}" if above else module


def _packages(folder: str) -> str:
    """The dotted name of a folder, as far as it and those above it are packages."""
    names: list[str] = []
    while os.path.isfile(os.path.join(folder, "__init__.py")):
        folder, name = os.path.split(folder)
        if not name:
            break
        names.insert(0, name)
    return ".".join(names)

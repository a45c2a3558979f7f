"""Python itself, and programs and libraries that are there or not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from pipedeco.doctoring.lines import OK, WARNING, Line
from pipedeco.errors import ConfigError, StoreError
from pipedeco.text import data_size
from pipedeco.worker.probing import PICKLERS, python_version, version_of

if TYPE_CHECKING:
    from collections.abc import Iterator

UNPACKED = "unpacked code"
PATIENCE = 5.0  # seconds for a program to say its version
PROGRAMS = {  # what is without it, and how to have it
    "git": ("runs do not record commits, and .gitignore does not count", "install git"),
    "uv": (
        "steps with packages= or python= cannot be performed",
        "pip install 'pipedeco[packages]'",
    ),
}
EXTRAS = {
    "dask": "distributed",
    "ray": "ray",
    "s3": "s3fs",
    "postgres": "psycopg",
    "web": "fastapi",
}


def look_at_python() -> Line:
    picklers = ", ".join(f"{name} {version_of(name) or 'missing'}" for name in PICKLERS)
    own = version_of("pipedeco") or "not installed"
    text = f"{python_version()} ({sys.executable}), pipedeco {own}, {picklers}"
    return Line("python", OK, text)


def look_at_tools() -> Iterator[Line]:
    for name, (without, cure) in PROGRAMS.items():
        found, works = _version(name)
        if works:
            yield Line(name, OK, found + (_environments() if name == "uv" else ""))
        elif found:
            yield Line(name, WARNING, f"it does not work ({found}); {without}", cure)
        else:
            yield Line(name, OK, f"not found: {without}; where you need that: {cure}")
    there = {extra: version_of(library) for extra, library in EXTRAS.items()}
    texts = [f"{extra} ({EXTRAS[extra]} {version})" for extra, version in there.items() if version]
    missing = [extra for extra, version in there.items() if not version]
    text = ", ".join(texts) or "none"
    if missing:
        text += f"; not installed: {', '.join(missing)} (pip install 'pipedeco[{missing[0]}]')"
    yield Line("extras", OK, text)


def look_at_unpacked() -> Line:
    """What remote steps have left in the temporary files of this machine."""
    from pipedeco.worker.unpacked import kept_here

    try:
        kept = kept_here()
    except (StoreError, OSError) as error:
        return Line(UNPACKED, WARNING, str(error), "remote steps need it on their machines")
    text = f"{kept.codes} projects and {kept.runs} runs in {kept.folder}, {data_size(kept.size)}"
    cure = "; pipedeco prune removes what no run uses" if kept.codes else ""
    return Line(UNPACKED, OK, text + cure)


def _uv() -> str | None:
    """The one that steps would take."""
    from pipedeco.worker.venvs import find_uv

    try:
        return find_uv(os.environ)
    except ConfigError:
        return None


def _environments() -> str:
    """What uv has built here for steps."""
    from pipedeco.worker.venvs import KEPT, count_environments, environments_folder

    folder = environments_folder(os.environ)
    count = count_environments(folder)
    if not count:
        return ""
    which = "environment" if count == 1 else "environments"
    return f", {count} {which} of steps in {folder}, each kept {KEPT / 86400:g} days after its use"


def _version(name: str) -> tuple[str, bool]:
    """What a program says of its version, and whether it says it; "" where there is none."""
    path = _uv() if name == "uv" else shutil.which(name)
    if path is None:
        return "", False
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, check=True, timeout=PATIENCE
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"{path}: {error}", False
    words = done.stdout.split()
    number = next((word for word in words if word[:1].isdigit()), done.stdout.strip())
    return f"{number} ({path})", True

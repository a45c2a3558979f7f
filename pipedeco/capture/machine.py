"""Python, its packages, the system, the process and its environment.

Packages are read from the names of the .dist-info and .egg-info folders on sys.path:
importlib.metadata would open each of them and take a hundred times as long.
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING, Any

from pipedeco.capture.masks import mask_command, mask_text, mask_variable

if TYPE_CHECKING:
    from pipedeco.capture import Seen

# The variables that are recorded, and no other: those that change what a program computes, or say
# where it ran.  Documented for users; a value that looks secret is masked even so.
VARIABLES = frozenset({
    "LANG", "LANGUAGE", "TZ", "VIRTUAL_ENV", "CONDA_DEFAULT_ENV", "CONDA_PREFIX",
    "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG",
    "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE", "TF_DETERMINISTIC_OPS",
    "XLA_FLAGS", "JAX_PLATFORMS", "JAX_ENABLE_X64", "PYTORCH_CUDA_ALLOC_CONF",
    "LD_LIBRARY_PATH", "LD_PRELOAD", "SOURCE_DATE_EPOCH",
    "SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID",
    "CI", "GITHUB_ACTIONS", "GITHUB_RUN_ID", "GITHUB_SHA", "GITLAB_CI", "CI_JOB_ID",
    "CI_PIPELINE_ID", "BUILD_NUMBER",
})  # fmt: skip
PREFIXES = (
    "PYTHON", "PIPEDECO_", "LC_", "OMP_", "KMP_", "MKL_", "OPENBLAS_", "GOTO_", "BLIS_",
    "VECLIB_", "NUMEXPR_", "NUMBA_",
)  # fmt: skip
WORDS = 1000  # of a command line


def describe_python(seen: Seen) -> dict[str, Any]:
    """Which Python, and with which of the switches that change what a program does."""
    return {
        "version": ".".join(map(str, sys.version_info[:3])),
        "implementation": sys.implementation.name,
        "executable": os.path.basename(sys.executable or ""),
        "prefix": sys.prefix,
        "optimize": sys.flags.optimize,
        "hash_seed": seen.environ.get("PYTHONHASHSEED"),
    }


def describe_platform(_seen: Seen) -> dict[str, Any]:
    """The system and the machine."""
    system = os.uname() if hasattr(os, "uname") else None
    return {
        "system": system.sysname if system else sys.platform,
        "release": system.release if system else None,
        "machine": system.machine if system else None,
        "host": system.nodename if system else None,
        "cpus": os.cpu_count(),
        "memory": _memory(),
    }


def describe_process(seen: Seen) -> dict[str, Any]:
    """Who ran what, and where: the working directory is told from the project's folder."""
    cwd = seen.cwd
    if cwd is not None and seen.folder is not None:
        cwd = os.path.relpath(cwd, seen.folder)
    command = mask_command(sys.orig_argv[:WORDS])
    if len(sys.orig_argv) > WORDS:
        command.append(f"<{len(sys.orig_argv) - WORDS:,} more>")
    return {"user": _user(seen), "cwd": cwd, "command": command}


def describe_environment(seen: Seen) -> dict[str, str]:
    """The variables of the allow-list; of a secret's only the name."""
    return {
        name: mask_variable(name, value)
        for name, value in sorted(seen.environ.items())
        if name in VARIABLES or name.startswith(PREFIXES)
    }


def describe_packages(seen: Seen) -> dict[str, dict[str, Any]]:
    """`packages`: name -> version of all installed distributions, the first on sys.path;
    `origins` of those from no index: where from, which commit, whether a link to sources."""
    found = sorted(_distributions(seen.path).items())
    origins = {name: _origin(place) for name, (_, place) in found}
    return {
        "packages": {name: version for name, (version, _) in found},
        "origins": {name: origin for name, origin in origins.items() if origin is not None},
    }


def describe(seen: Seen) -> dict[str, Any]:
    """All but the packages, which take longer."""
    return {
        "python": describe_python(seen),
        "platform": describe_platform(seen),
        "process": describe_process(seen),
        "environment": describe_environment(seen),
    }


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not on every system
        return None


def _user(seen: Seen) -> str | None:
    name = seen.environ.get("USER") or seen.environ.get("LOGNAME")
    if name:
        return name
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError, OSError):  # no such thing here, or a user without a name
        return None


def _distributions(path: list[str]) -> dict[str, tuple[str, str]]:
    """The version and the folder of each, by name."""
    found: dict[str, tuple[str, str]] = {}
    for folder in path:
        try:
            entries = sorted(os.listdir(folder or "."))
        except OSError:  # not there, or a zip file
            continue
        for entry in entries:
            if entry.endswith((".dist-info", ".egg-info")):
                place = os.path.join(folder, entry)
                name, version = _name_and_version(entry, place)
                found.setdefault(_normal(name), (version, place))
    return found


def _name_and_version(entry: str, place: str) -> tuple[str, str]:
    stem, _, ending = entry.rpartition(".")
    if ending == "egg-info":
        stem = re.sub(r"-py\d.*", "", stem)
    name, dash, version = stem.rpartition("-")
    if dash and version[:1].isdigit():
        return name, version
    stated = re.search(r"^Version:[ \t]*(\S+)", _read(place, "PKG-INFO"), re.MULTILINE)
    return stem, stated.group(1) if stated else ""


def _normal(name: str) -> str:
    """One spelling for all that an index takes for the same."""
    name = name.lower().replace("_", "-").replace(".", "-")
    while "--" in name:
        name = name.replace("--", "-")
    return name


def _origin(place: str) -> dict[str, Any] | None:
    text = _read(place, "direct_url.json")
    if not text:
        return None
    try:
        told = json.loads(text)
        origin = {"url": mask_text(str(told["url"]))}
        commit = told.get("vcs_info", {}).get("commit_id")
        editable = told.get("dir_info", {}).get("editable")
    except (ValueError, KeyError, TypeError, AttributeError):  # somebody else's file
        return None
    if commit:
        origin["commit"] = str(commit)
    return {**origin, "editable": True} if editable else origin


def _read(folder: str, name: str) -> str:
    try:
        with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:  # few have such a file
        return ""

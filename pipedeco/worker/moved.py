"""Modules that stand elsewhere than they are from, and say where they are from.

Tracebacks, warnings and logging name files by the compiled code, so that is compiled with the name
that the file has in the project: who reads them has that file, and not the unpacked one.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from typing import Any

_origins: dict[str, str] = {}  # folder -> where it is from


def name_by_origin(folder: str, origin: str) -> None:
    """Let modules below a folder be known by their place below its origin."""
    if _finder not in sys.path_hooks:
        sys.path_hooks.insert(0, _finder)
    _origins.clear()  # of former code nothing is imported any more
    _origins[folder] = origin


def _finder(path: str) -> FileFinder:
    if _origin(path) == path:
        raise ImportError(f"{path} stands where it is from")  # the next hook is asked
    return FileFinder(
        path,
        (ExtensionFileLoader, EXTENSION_SUFFIXES),
        (_Loader, SOURCE_SUFFIXES),
        (SourcelessFileLoader, BYTECODE_SUFFIXES),
    )


def _origin(path: str) -> str:
    for folder, origin in _origins.items():
        if path == folder or path.startswith(folder + os.sep):
            return origin + path[len(folder) :]
    return path


class _Loader(SourceFileLoader):
    """Compiles under the name of the origin."""

    def path_stats(self, path: str) -> Any:
        raise OSError("no compiled form is read: Python would give it the name of its place")

    def source_to_code(self, data: Any, path: Any, **options: Any) -> Any:  # type: ignore[override]
        return super().source_to_code(data, _origin(os.fsdecode(path)), **options)

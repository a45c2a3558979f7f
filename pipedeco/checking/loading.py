"""A file that cannot be loaded: which line of the user's it is."""

from __future__ import annotations

import linecache
import os
import traceback
from typing import TYPE_CHECKING

from pipedeco.checking.findings import ERROR, Finding
from pipedeco.errors import PipedecoError
from pipedeco.worker.travel import INSTALLED, kind_of

if TYPE_CHECKING:
    from pipedeco.errors import ConfigError


def failed_load(error: ConfigError, file: str, project: str) -> Finding | None:
    """What raised while a file was loaded; None where there was nothing to load."""
    cause = error.__context__
    if cause is None:
        return None
    ours = isinstance(cause, PipedecoError)  # such as an option that a decorator refuses
    what = str(cause) if ours else f"{type(cause).__name__}: {cause}"
    if isinstance(cause, SyntaxError) and cause.filename:
        return Finding(ERROR, cause.filename, cause.lineno or 0, "", f"SyntaxError: {cause.msg}")
    frames = traceback.extract_tb(cause.__traceback__)
    own = [frame for frame in frames if _is_users(frame.filename, project)]
    if not own:
        return Finding(ERROR, os.path.abspath(file), 0, "", what)
    last = own[-1]
    line = linecache.getline(last.filename, last.lineno or 0).strip()
    text = f"{what} (in `{line}`)" if line else what
    return Finding(ERROR, os.path.abspath(last.filename), last.lineno or 0, "", text)


def _is_users(file: str, project: str) -> bool:
    return os.path.isfile(file) and kind_of(os.path.abspath(file), project)[0] != INSTALLED

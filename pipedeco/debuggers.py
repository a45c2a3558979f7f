"""Whether a debugger asks: what its user looks at must not change the run.

Debuggers evaluate watches, hovers and conditions in the thread that has stopped, in frames named
`<string>` or the like, which they call themselves; or they look at an object from their own code.
"""

from __future__ import annotations

import sys

from pipedeco.user_frames import PACKAGE

DEBUGGERS = frozenset(
    ("bdb", "pdb", "ipdb", "pudb", "pydevd", "debugpy", "_pydevd_bundle", "_pydevd_frame_eval")
)
OF_IPYTHON = "IPython.core.debugger"


def evaluates() -> bool:
    """Whether what called pipedeco is an expression that a debugger evaluates, or a debugger."""
    loaded = sys.modules  # bdb is, by pdb and its kind; pydevd by editors
    if "bdb" not in loaded and "pydevd" not in loaded:
        return False
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith(PACKAGE) and frame.f_back is not None:
        frame = frame.f_back
    while frame.f_code.co_filename[:1] == "<" and frame.f_back is not None:
        frame = frame.f_back
    name = frame.f_globals.get("__name__")
    return name == OF_IPYTHON or (type(name) is str and name.partition(".")[0] in DEBUGGERS)

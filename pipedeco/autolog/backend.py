"""Our backend of matplotlib in the place of the user's, while steps are performed.

It is put there by what pyplot itself looks at when it next needs a backend, so that nothing is
imported, no window is closed, and a backend that was not chosen yet (`auto`) stays to be chosen.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

NAME = "module://pipedeco.autolog.pyplot"
# Chosen for the files that they write, by whoever chose them; no window is missed there.
KEPT = frozenset({"cairo", "pdf", "pgf", "ps", "svg", "template"})


class Backend:
    """The present backend of this process, and the one before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._former: tuple[Any, Any, Any] | None = None

    def enter(self) -> None:
        """A step in the user's own process begins."""
        with self._lock:
            self._users += 1
            if "matplotlib.pyplot" in sys.modules:
                self._put()

    def leave(self) -> None:
        """It ended; after the last of them the user's backend is there again."""
        with self._lock:
            self._users -= 1
            if not self._users and self._former is not None:
                self._put_back()

    def put(self) -> None:
        """Let ours be the present one; for pyplot that is about to be imported."""
        with self._lock:
            self._put()

    def _put(self) -> None:
        # Through dict, as reading a backend that is not chosen yet chooses it.
        matplotlib, pyplot = sys.modules["matplotlib"], sys.modules.get("matplotlib.pyplot")
        chosen = dict.get(matplotlib.rcParams, "backend")
        if chosen == NAME or chosen in KEPT:
            return
        default = dict.get(matplotlib.rcParamsDefault, "backend")
        self._former = chosen, default, getattr(pyplot, "_backend_mod", None)
        dict.__setitem__(matplotlib.rcParams, "backend", NAME)
        if pyplot is not None:
            pyplot._backend_mod = None  # type: ignore[attr-defined]

    def _put_back(self) -> None:
        assert self._former is not None
        matplotlib, pyplot = sys.modules["matplotlib"], sys.modules.get("matplotlib.pyplot")
        (chosen, default, module), self._former = self._former, None
        if dict.get(matplotlib.rcParams, "backend") != NAME:
            return  # the step chose another, as it may in the user's process
        dict.__setitem__(matplotlib.rcParams, "backend", chosen)
        dict.__setitem__(matplotlib.rcParamsDefault, "backend", default)
        if pyplot is not None:
            pyplot._backend_mod = module  # type: ignore[attr-defined]

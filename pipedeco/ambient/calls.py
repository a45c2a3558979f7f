"""Functions of the interpreter that are seldom called, and are told of when they are.

Whether a step has called one is then known without a call of the system after each step.
"""

from __future__ import annotations

import os
import signal
from functools import wraps
from typing import Any, NamedTuple


class Calls:
    """Notes calls of some functions, from its making to the end of the process.

    Parameters
    ----------
    functions : tuple of (module, str)
        Modules and the names of functions there; those that a module has not are left out.

    Attributes
    ----------
    noted : bool
        Whether one was called since somebody has set this to False.
    """

    def __init__(self, *functions: tuple[Any, str]) -> None:
        self.noted = False
        for module, name in functions:
            function = getattr(module, name, None)
            if function is not None:
                noting = self._noting(function)
                # By these it is pickled: the C module that has defined it has another one.
                noting.__module__, noting.__qualname__ = module.__name__, name
                setattr(module, name, noting)

    def _noting(self, function: Any) -> Any:
        @wraps(function)
        def noting(*args: Any, **kwargs: Any) -> Any:
            self.noted = True
            return function(*args, **kwargs)

        return noting


class Noted(NamedTuple):
    """Calls that change what is put back after a step, by what that is."""

    signals: Calls
    priority: Calls
    limits: Calls
    locale: Calls


def noted() -> Noted:
    """Begin to note; before the user's modules, which may take such functions by their names."""
    import locale

    handlers = "signal", "pthread_sigmask", "setitimer", "alarm"
    limits: tuple[tuple[Any, str], ...] = ()
    try:
        import resource
    except ImportError:  # Windows
        pass
    else:
        limits = (resource, "setrlimit"), (resource, "prlimit")
    return Noted(
        Calls(*((signal, name) for name in handlers)),
        Calls((os, "nice"), (os, "setpriority")),
        Calls(*limits),
        Calls((locale, "setlocale")),
    )

"""Functions of the interpreter that are seldom called, and are told of when they are.

Whether a step has called one is then known without a call of the system after each step.
"""

from __future__ import annotations

from functools import wraps
from typing import Any


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
                setattr(module, name, self._noting(function))

    def _noting(self, function: Any) -> Any:
        @wraps(function)
        def noting(*args: Any, **kwargs: Any) -> Any:
            self.noted = True
            return function(*args, **kwargs)

        return noting

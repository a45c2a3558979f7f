"""What is said of cached components whose steps no run can find again: each once in a run."""

from __future__ import annotations

import sys
import warnings
from typing import Any

from pipedeco.tracing import warn_user

_OF_CODE = "make it within the step, or pass it as an argument that Cache(ignore=...) leaves out"
_OF_VALUES = (
    "pass it in another form, give its class a method __pipedeco_fingerprint__, "
    "or leave the argument out with Cache(ignore=...)"
)


class CacheWarnings:
    """The components of one run that were told of."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._noted: list[tuple[Any, str]] = []

    def tell_of_code(self, component: Any, why: str) -> None:
        """Warn at the line that calls a component; in the body's thread."""
        if self._is_new(component):
            warn_user(_sentence(component, why, _OF_CODE))

    def tell_of_argument(self, component: Any, why: str) -> None:
        """The same of what one of its arguments is."""
        if self._is_new(component):
            warn_user(_sentence(component, why, _OF_VALUES))

    def note(self, component: Any, why: str) -> None:
        """Have it told at the end of the run what one of its inputs is; in any thread."""
        if self._is_new(component):
            self._noted.append((component, why))

    def tell_noted(self) -> None:
        """Warn of what was noted, where the components are defined."""
        for component, why in self._noted:
            _warn_at(component.fn, _sentence(component, why, _OF_VALUES))
        self._noted.clear()

    def _is_new(self, component: Any) -> bool:
        known = component.name in self._told
        self._told.add(component.name)
        return not known


def _sentence(component: Any, why: str, cure: str) -> str:
    """With a cure for what has no fingerprint, unless the reason has one of its own."""
    said = f"{component.name} is cached, but will be performed each time: {why}"
    return f"{said}; {cure}" if "has no fingerprint" in why and "; " not in why else said


def _warn_at(fn: Any, message: str) -> None:
    code = getattr(fn, "__code__", None)
    path, line = (code.co_filename, code.co_firstlineno) if code else ("pipedeco", 0)
    module = getattr(fn, "__module__", None) or "pipedeco"
    names = sys.modules[module].__dict__ if module in sys.modules else {}
    registry = names.setdefault("__warningregistry__", {})
    try:
        warnings.warn_explicit(message, UserWarning, path, line, module=module, registry=registry)
    except UserWarning as error:  # a filter has made it an error, but the run has its value
        warnings.showwarning(error, UserWarning, path, line)

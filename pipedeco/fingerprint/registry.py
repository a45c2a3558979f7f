"""Types with a fingerprint of their own, by name: nothing is imported that the user did not import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipedeco.fingerprint import arrays, external, frames, libraries, standard
from pipedeco.fingerprint.nodes import Node, label_of, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Fingerprints:
    """What is fingerprinted in place of the values of some types.

    A class of the user's own says it itself, with a method `__pipedeco_fingerprint__(self)`, and
    is asked first. This registry is for the classes of others.

    Parameters
    ----------
    built_in: functions by the full name of a type, which return a Node or a value.
    built_in_bases: the same, for the subclasses too.
    """

    def __init__(
        self,
        built_in: Mapping[str, Callable[[Any], Any]] | None = None,
        built_in_bases: Mapping[str, Callable[[Any], Any]] | None = None,
    ) -> None:
        self._exact: dict[str, Callable[[Any], Any]] = {
            name: _by_name(name, function) for name, function in (built_in or {}).items()
        }
        self._bases: dict[str, Callable[[Any], Any]] = {
            name: _by_kind(function) for name, function in (built_in_bases or {}).items()
        }

    def register(
        self, kind: type | str, function: Callable[[Any], Any], *, subclasses: bool = False
    ) -> None:
        """Fingerprint what `function(value)` returns in place of the values of a type.

        Scalars and containers that are Python's own stay as they are; their subclasses may be
        registered.

        Parameters
        ----------
        kind: the type, or its full name, such as "package.module.Type" (its `__module__` and
            `__qualname__`), which imports nothing.
        function: returns any value that holds all of the content; raises Unproven where there is
            no telling. It must not change the value.
        subclasses: also for subclasses; their other state is then the function's business.
        """
        name = kind if isinstance(kind, str) else name_of(kind)
        table = self._bases if subclasses else self._exact
        table[name] = _with_class(function)

    def copy(self) -> Fingerprints:
        """Another registry that begins with what this one knows."""
        made = Fingerprints()
        made._exact.update(self._exact)
        made._bases.update(self._bases)
        return made

    def find(self, kind: type) -> Callable[[Any], Any] | None:
        """What opens values of this type; None where nothing was registered for it."""
        found = self._exact.get(name_of(kind))
        if found is not None:
            return found
        for base in kind.__mro__:
            found = self._bases.get(name_of(base))
            if found is not None:
                return found
        return None


def _by_name(name: str, function: Callable[[Any], Any]) -> Callable[[Any], Node]:
    label = label_of(name)

    def opened(value: Any) -> Node:
        result = function(value)
        return result if type(result) is Node else Node(label, (result,))

    return opened


def _by_kind(function: Callable[[Any], Any]) -> Callable[[Any], Node]:
    def opened(value: Any) -> Node:
        result = function(value)
        return result if type(result) is Node else Node(label_of(name_of(type(value))), (result,))

    return opened


def _with_class(function: Callable[[Any], Any]) -> Callable[[Any], Node]:
    """The class counts with its code: it says what the fingerprinted value means."""

    def opened(value: Any) -> Node:
        return Node(b"10:registered", (type(value), function(value)))

    return opened


_MODULES = (standard, arrays, frames, libraries, external)
BUILT_IN = Fingerprints(
    {name: opens for module in _MODULES for name, opens in module.EXACT.items()},
    {name: opens for module in _MODULES for name, opens in module.BASES.items()},
)

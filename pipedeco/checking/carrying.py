"""What cannot be pickled: asked of the picklers that the run itself will use."""

from __future__ import annotations

import inspect
import sys
from types import FunctionType
from typing import TYPE_CHECKING, Any

from pipedeco.blobs import BlobStore
from pipedeco.checking.findings import ERROR, WARNING, Finding, named, place_of
from pipedeco.config import find_main
from pipedeco.definitions import Decorated, MainDefinitions, describe, names_of_main
from pipedeco.errors import NotPicklable
from pipedeco.main_file import MAIN, read_main
from pipedeco.module_state import ModuleState
from pipedeco.serialization import Pickler

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class _Nowhere(BlobStore):
    """Keeps nothing: a check leaves nothing in the store."""

    def put(self, parts: Sequence[Any]) -> str:
        return ""


class Carrying:
    """Tries to send components, as a run would, and sends nothing."""

    def __init__(self) -> None:
        self._state = ModuleState(read_main(find_main()))
        self._definitions = MainDefinitions(self._state.given)
        self._pickler = Pickler(_Nowhere(""))

    def component(self, component: Any) -> tuple[set[str], list[Finding]]:
        """The names of `__main__` that travel with a component, and what cannot."""
        names: set[str] = set()
        found: list[Finding] = []
        try:
            spec = describe(component.fn)
            names.update(_main_names(component.fn))
            needed = self._state.needed(component.fn, spec.names)
            sent = self._definitions.reached([*spec.names, *needed.definitions])
            names.update(spec.names, (item.name for item in sent))
        except NotPicklable as error:
            names.update(_main_names(component.fn))
            texts = list(self._defaults(component.fn)) or [str(error)]  # a default tells more
            found += [_finding(ERROR, component, text) for text in texts]
        retry_on = component.step_options.retry_on
        if retry_on != (Exception,):
            try:
                self._pickler.dump_inline(retry_on)
            except Exception as error:  # noqa: BLE001 - users' reducers
                text = f"retry_on= cannot be pickled: {error}"
                found.append(_finding(ERROR, component, text, "use exception types"))
        return names, found

    def pipeline(self, pipeline: Any) -> Iterator[Finding]:
        """The defaults of a pipeline, which become arguments of steps and are recorded."""
        for text in self._defaults(pipeline.fn):
            yield _finding(WARNING, pipeline, f"no step can take it: {text}")

    def _defaults(self, fn: Any) -> Iterator[str]:
        for parameter in _parameters(fn):
            if parameter.default is not parameter.empty:
                try:
                    self._pickler.dump(parameter.default, f"the default of {parameter.name}")
                except NotPicklable as error:
                    yield str(error)


def _main_names(fn: Any) -> set[str]:
    """The names of `__main__` that a function reaches, where its definitions cannot be made."""
    main = sys.modules[MAIN].__dict__
    found: set[str] = set()
    waiting = [fn]
    while waiting:
        value = waiting.pop()
        inner = value.fn if isinstance(value, Decorated) else value
        if not isinstance(inner, FunctionType):
            continue
        new = {name for name in names_of_main(inner.__code__) if name in main} - found
        found |= new
        waiting += [main[name] for name in new]
    return found


def _parameters(fn: Any) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):  # built in
        return []


def _finding(state: str, traced: Any, text: str, advice: str = "") -> Finding:
    return Finding(state, *place_of(traced), named(traced), text, advice)

"""Random numbers that steps would draw twice: what seeds only this process, and copied generators."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from pipedeco.advice.seeds import CURE, seedings
from pipedeco.checking.findings import WARNING, Finding, named, place_of
from pipedeco.instructions import global_names

if TYPE_CHECKING:
    from collections.abc import Iterator

# Classes by module and name, as nothing is imported for this.
KINDS = {
    ("random", "Random"): "random.Random",
    ("numpy.random._generator", "Generator"): "numpy.random.Generator",
    ("numpy.random.mtrand", "RandomState"): "numpy.random.RandomState",
    ("torch._C", "Generator"): "torch.Generator",
}


def look_at_seeds(pipelines: list[Any], source: str, module: str) -> Iterator[Finding]:
    """Of pipelines whose steps workers perform, and that have no seed.

    Parameters
    ----------
    source, module: what was loaded; it may seed the global generators, or what it imports may.
    """
    for found in seedings({source: module}, with_imports=True) if pipelines and source else ():
        for pipeline in pipelines:
            yield Finding(WARNING, found.path, found.line, named(pipeline), found.text, CURE)


def look_at_generators(component: Any) -> Iterator[Finding]:
    """A global of its function that is a generator: workers have copies of it."""
    fn = inspect.unwrap(component.fn)
    code = getattr(fn, "__code__", None)
    for name in sorted(global_names(code)) if code is not None else ():
        kind = type(fn.__globals__.get(name))
        shown = KINDS.get((kind.__module__, kind.__name__))
        if shown is not None:
            yield Finding(
                WARNING,
                *place_of(component),
                named(component),
                f"it draws from the global {name}, a {shown}, of which each worker has a copy, so "
                "that steps in two of them may draw the same numbers",
                "make it in the step, of a number that the step is given",
            )

"""What finders of ours, first on `sys.meta_path`, share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec


def spec_calling(name: str, path: Any, after: Callable[[Any], None]) -> ModuleSpec | None:
    """Find a module as others do, so that `after` gets it once it is executed.

    Parameters
    ----------
    path : list of str or None
        As finders get it: `__path__` of the package around the module.
    """
    from importlib.machinery import PathFinder

    spec = PathFinder.find_spec(name, path)
    if spec is None or spec.loader is None:
        return None
    execute = spec.loader.exec_module

    def execute_and_call(module: Any) -> None:
        execute(module)
        after(module)

    spec.loader.exec_module = execute_and_call  # type: ignore[method-assign]
    return spec

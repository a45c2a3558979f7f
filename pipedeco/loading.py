"""Finds pipelines in files and modules: what `pipedeco run FILE_OR_MODULE[:PIPELINE]` names.

A file is executed as Python would execute it, as `__main__`, with two differences: at its top
level `__name__` is `"__pipedeco__"`, so that what stands behind a main guard is left out, and it
stops at its first call of a pipeline.  So a script without a guard can be listed, drawn and run
with other arguments; and what it defines has the names that `python FILE` gives, in every record.
A file with relative imports is executed as `python -m` would do it, which alone can.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator, MutableMapping
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from pipedeco.components import Traced
from pipedeco.config import absolute
from pipedeco.errors import ConfigError
from pipedeco.tracing import PipelineCalled, loading

if TYPE_CHECKING:
    from collections.abc import Callable

LOADED = "__pipedeco__"
RESTORED = "pipedeco-rerun-"  # how folders begin in which recorded files are made again


class Loaded(NamedTuple):
    """What a file or a module defines, as far as it was executed."""

    source: str  # as it was named
    module: ModuleType
    called: Any  # the pipeline at whose call loading stopped; None where it reached the end


def find_pipeline(target: str) -> Any:
    """The pipeline that `FILE[:PIPELINE]` or `MODULE[:PIPELINE]` names.

    Without a name it is the one that there is, or the one that the file itself calls.
    Raises ConfigError where it cannot be found or loaded.
    """
    source, name = split_target(target)
    loaded = load(source)
    pipelines = pipelines_of(loaded)
    if name:
        return named_pipeline(loaded, name)
    if len(pipelines) == 1:
        return next(iter(pipelines.values()))
    if loaded.called is not None:
        return loaded.called
    if not pipelines:
        raise ConfigError(f"{source} defines no pipeline; decorate a function with @pipeline")
    raise ConfigError(
        f"{source} defines more than one pipeline; say which: "
        + " or ".join(f"{source}:{name}" for name in sorted(pipelines))
    )


def split_target(target: str) -> tuple[str, str]:
    """The file or module that `FILE[:PIPELINE]` names, and the pipeline, or ""."""
    source, _, name = target.partition(":") if not os.path.exists(target) else (target, "", "")
    return source, name


def find_recorded(module: str, qualname: str, file: str | None) -> Any:
    """The function, decorated or not, that a record names.

    Parameters
    ----------
    module, qualname: of the function.
    file: where it was defined; what was `__main__` then is loaded from there.

    Raises ConfigError where it is not found.
    """
    home = _main(qualname, file) if module == "__main__" else _imported(module, file)
    found = _defined(home, qualname)
    if found is None:
        raise ConfigError(f"{file or module} does not define {qualname} any more")
    return found


def _main(qualname: str, file: str | None) -> ModuleType:
    """What `__main__` was when the record was made."""
    here = sys.modules["__main__"]
    own = getattr(here, "__file__", None)
    if own is not None and file is not None and os.path.abspath(own) == file:
        return here
    if file is not None and os.path.isfile(file):
        return load(file).module
    if file is not None and f"{os.sep}{RESTORED}" in file:
        raise ConfigError(
            f"{qualname} was loaded by `pipedeco rerun --from-run`, whose files are removed when it "
            "ends; make such a run again with that command"
        )
    if own is None:  # a prompt or a notebook, where a function's file is none
        return here
    raise ConfigError(
        f"{qualname} was defined in {file or 'a prompt'}, which is no file that can be "
        "loaded; import what defines it, or run it from there"
    )


def _imported(name: str, file: str | None) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    folder = file
    for _ in range(name.count(".") + (2 if file and _is_package(file) else 1)):
        folder = os.path.dirname(folder or "")  # up to the one that was on the import path
    return _load_module(name, folder if folder and os.path.isdir(folder) else None).module


def _is_package(file: str) -> bool:
    return os.path.basename(file) == "__init__.py"


def _defined(home: ModuleType, qualname: str) -> Any:
    """What a module calls so; `p = pipeline(f)` is found by the name of f."""
    found: Any = home
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if isinstance(found, Traced):
        return found
    made: dict[int, Traced] = {}
    for item in vars(home).values():
        if isinstance(item, Traced) and getattr(item.fn, "__qualname__", "") == qualname:
            made.setdefault(id(item.fn), item)
    return next(iter(made.values())) if len(made) == 1 else found


def load(source: str) -> Loaded:
    """Execute a file (by path) or a module (by dotted name) for its definitions.

    Raises ConfigError, with the text of the user's traceback as `traceback`, where it fails.
    """
    if os.path.isfile(source):
        return _load_file(source)
    if source.endswith(".py") or os.sep in source:
        raise ConfigError(f"there is no file {source}")
    return _load_module(source)


def _load_file(path: str) -> Loaded:
    module = ModuleType("__main__")
    module.__file__ = os.path.abspath(path)
    module.__dict__["__builtins__"] = __builtins__
    code, levels = _compiled(path)
    folder = os.path.dirname(module.__file__)
    if levels:
        folder, module.__package__ = _package_around(folder, levels)
    sys.modules["__main__"] = module
    sys.argv = [path]
    sys.path.insert(0, folder)
    names = vars(module)
    called = _execute(path, lambda: exec(code, names, _TopLevel(names)))  # noqa: S102 - as asked
    return Loaded(path, module, called)


def _compiled(path: str) -> tuple[CodeType, int]:
    """Its code, and how many packages are around it by its relative imports, at the least."""
    with open(path, "rb") as file:
        text = file.read()
    try:
        tree = ast.parse(text, os.path.abspath(path))
        code = compile(tree, os.path.abspath(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"{path} is no Python file: {error}") from None
    return code, max((n.level for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)), default=0)


def _package_around(folder: str, levels: int) -> tuple[str, str]:
    """The folder on the import path, and the package that `folder` is from there."""
    names: list[str] = []
    while levels > len(names) or os.path.isfile(os.path.join(folder, "__init__.py")):
        folder, name = os.path.split(folder)
        if not name:  # the root: Python says what is wrong
            break
        names.append(name)
    return folder, ".".join(reversed(names))


def _load_module(name: str, folder: str | None = None) -> Loaded:
    """A module of that folder, by default of the working directory, or of the path."""
    import importlib.util

    if folder is None:
        sys.path.insert(0, absolute(""))  # as `python -m` does
    elif folder not in sys.path:
        sys.path.insert(0, folder)
    if name in sys.modules:
        return Loaded(name, sys.modules[name], None)
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.loader is None:
        raise ConfigError(f"there is no file and no module {name}{_elsewhere(name, folder)}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader = spec.loader
    try:
        called = _execute(name, lambda: loader.exec_module(module))
    except ConfigError:
        sys.modules.pop(name, None)  # half of it
        raise
    return Loaded(name, module, called)


def _elsewhere(name: str, folder: str | None) -> str:
    """What may help where a module was not found."""
    source = os.path.join(folder or absolute(""), "src", *name.split("."))
    if not os.path.isdir(source) and not os.path.isfile(f"{source}.py"):
        return ""
    return "; it is below src/: install the project (pip install -e .), or set PYTHONPATH=src"


def _execute(source: str, action: Callable[[], None]) -> Any:
    """Do `action`; gives the pipeline whose call ended it, if one did."""
    token = loading.set(True)
    try:
        action()
    except PipelineCalled as stop:
        return stop.pipeline
    except SystemExit:  # the file's own reading of a command line; what it has defined counts
        return None
    except Exception as error:  # noqa: BLE001 - the user's file
        from pipedeco.user_frames import put_traceback, user_part
        from pipedeco.worker.perform import describe_error

        put_traceback(error, user_part(error.__traceback__))
        known = describe_error(error)
        raise ConfigError(
            f"{source} cannot be loaded: {known.type}: {known.text}", traceback=known.traceback
        ) from None
    finally:
        loading.reset(token)
    return None


class _TopLevel(MutableMapping[str, Any]):
    """The names of a module's top level, of which `__name__` reads as LOADED.

    Functions and classes take their `__module__` from the globals behind it.
    """

    def __init__(self, names: dict[str, Any]) -> None:
        self._names = names

    def __getitem__(self, name: str) -> Any:
        return LOADED if name == "__name__" else self._names[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._names[name] = value

    def __delitem__(self, name: str) -> None:
        del self._names[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def pipelines_of(loaded: Loaded) -> dict[str, Any]:
    """The pipelines by the names of their variables: those defined there, else the imported."""
    found = {
        name: value
        for name, value in vars(loaded.module).items()
        if isinstance(value, Traced) and value.is_pipeline
    }
    own = {name: p for name, p in found.items() if p.fn.__module__ == loaded.module.__name__}
    return own or found


def named_pipeline(loaded: Loaded, name: str) -> Any:
    """The pipeline of this variable or name.  Raises ConfigError where there is none."""
    pipelines = pipelines_of(loaded)
    found = vars(loaded.module).get(name)
    if isinstance(found, Traced) and found.is_pipeline:
        return found
    for pipeline in pipelines.values():
        if pipeline.name == name:
            return pipeline
    there = ", ".join(sorted(pipelines)) or "none"
    raise ConfigError(f"{loaded.source} defines no pipeline {name!r}; there are: {there}")

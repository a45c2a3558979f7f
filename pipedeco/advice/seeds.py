"""Where a program seeds a global generator, which the steps of its runs do not draw from.

Looked at are the statements that the program executes by itself: at the top level of a file, in
pipelines' bodies, and in the functions of the user's that these call by name.  A component that
seeds does so where it draws.  A file without the word "seed" costs a read and no more.
"""

from __future__ import annotations

import _ast
import sys
from typing import TYPE_CHECKING, NamedTuple

from pipedeco.main_file import is_users
from pipedeco.syntax import tree_of

if TYPE_CHECKING:
    import ast
    from collections.abc import Iterator, Mapping
    from typing import Any

SEEDING = frozenset(
    (
        *("random.seed", "numpy.random.seed", "torch.manual_seed", "torch.random.manual_seed"),
        *("torch.cuda.manual_seed", "torch.cuda.manual_seed_all", "transformers.set_seed"),
        *("lightning.seed_everything", "pytorch_lightning.seed_everything"),
        *("lightning.pytorch.seed_everything", "lightning.fabric.seed_everything"),
    )
)
CURE = "give the pipeline a seed, as in @pipeline(seed=0), from which each step's generators start"
_MARK = b"seed"  # a file without it is not parsed
_FUNCTIONS = _ast.FunctionDef, _ast.AsyncFunctionDef


class Seeding(NamedTuple):
    """A call that seeds a global generator: `name` is the function's full name."""

    path: str
    line: int
    name: str

    @property
    def text(self) -> str:
        return (
            f"{self.name}() seeds this process alone, and steps are performed in others, which "
            "start from entropy"
        )


def seedings(files: Mapping[str, str], *, with_imports: bool = False) -> list[Seeding]:
    """The calls by which a program seeds.

    Parameters
    ----------
    files: the modules that are executed, by the path of their source.
    with_imports: whether those of the user's count that they have imported, which takes longer.
    """
    program = _Program(with_imports=with_imports)
    for path, module in files.items():
        program.walk(path, module)
    return sorted(program.found)


def warn_of_seedings(files: Mapping[str, str]) -> None:
    """The same as warnings, each at its line."""
    for found in seedings(files):
        import warnings

        message = f"{found.text}; {CURE}"
        warnings.warn_explicit(message, UserWarning, found.path, found.line)


class _File:
    """A parsed source.

    Attributes
    ----------
    names : dict
        The full names of what it imports, by its own names.
    functions : dict
        The functions of its top level.
    """

    def __init__(self, path: str, module: str, tree: ast.Module) -> None:
        self.path = path
        self.module = module
        self.tree = tree
        self.names: dict[str, str] = {}
        self.functions: dict[str, Any] = {}
        for node in _walk(tree):
            if isinstance(node, _ast.Import):
                self._import(node)
            elif isinstance(node, _ast.ImportFrom):
                origin = _absolute(node, module, path)
                for alias in node.names:
                    self.names[alias.asname or alias.name] = f"{origin}.{alias.name}"
        for node in tree.body:
            if isinstance(node, _FUNCTIONS):
                self.functions[node.name] = node

    def _import(self, node: ast.Import) -> None:
        for alias in node.names:
            top = alias.name.partition(".")[0]
            self.names[alias.asname or top] = alias.name if alias.asname else top

    def full_name(self, node: Any) -> str:
        """`numpy.random.seed` of `np.random.seed`; "" of what is no chain of names."""
        parts: list[str] = []
        while isinstance(node, _ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, _ast.Name):
            return ""
        return ".".join([self.names.get(node.id, node.id), *reversed(parts)])

    def is_component(self, function: Any) -> bool:
        return any(
            self.full_name(getattr(decorator, "func", decorator)).endswith("component")
            for decorator in function.decorator_list
        )


class _Program:
    """Follows what is executed, each function once."""

    def __init__(self, *, with_imports: bool) -> None:
        self.found: set[Seeding] = set()
        self._with_imports = with_imports
        self._files: dict[str, _File | None] = {}
        self._walked: set[Any] = set()

    def file(self, path: str, module: str) -> _File | None:
        if path not in self._files:
            self._files[path] = _parsed(path, module, in_any_case=self._with_imports)
        return self._files[path]

    def walk(self, path: str, module: str) -> None:
        """The top level, and the functions that others call: pipelines, commands of a CLI."""
        file = self.file(path, module)
        if file is None or file in self._walked:
            return
        self._walked.add(file)
        for name in file.names.values() if self._with_imports else ():
            self._imported(name)
        for node in file.tree.body:
            if not isinstance(node, _FUNCTIONS):
                self._statements(file, node)
            elif node.decorator_list and not file.is_component(node):
                self._function(file, node)

    def _function(self, file: _File, function: Any) -> None:
        if function not in self._walked and not file.is_component(function):
            self._walked.add(function)
            for node in function.body:
                self._statements(file, node)

    def _statements(self, file: _File, top: Any) -> None:
        for node in _walk(top, within=False):
            if isinstance(node, _ast.Call):
                self._call(file, node)

    def _call(self, file: _File, node: ast.Call) -> None:
        name = file.full_name(node.func)
        if name in SEEDING:
            self.found.add(Seeding(file.path, node.lineno, name))
        elif "." in name:
            self._called_elsewhere(name)
        for named in (node.func, *node.args):  # typer.run(main) calls that, too
            known = isinstance(named, _ast.Name) and file.functions.get(named.id)
            if known:
                self._function(file, known)

    def _imported(self, name: str) -> None:
        """A module, or what is taken from one."""
        for module in (name, name.rpartition(".")[0]):
            path = _source_of(module)
            if path:
                self.walk(path, module)

    def _called_elsewhere(self, name: str) -> None:
        """A function of another module of the user's, where it may be one that seeds."""
        module, _, function = name.rpartition(".")
        path = _source_of(module)
        other = self.file(path, module) if path else None
        if other is not None and function in other.functions:
            self._function(other, other.functions[function])


def _source_of(module: str) -> str:
    """The path of a module that is imported and the user's; "" of any other."""
    path = getattr(sys.modules.get(module), "__file__", None)
    return path if path and path.endswith(".py") and is_users(path) else ""


def _parsed(path: str, module: str, *, in_any_case: bool) -> _File | None:
    """None where it is no source that can be read, or speaks of no seed, unless it is wanted
    in any case."""
    try:
        with open(path, "rb") as source:
            data = source.read()
        if _MARK not in data and not in_any_case:
            return None
        return _File(path, module, tree_of(data, path))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _absolute(node: ast.ImportFrom, module: str, path: str) -> str:
    if not node.level:
        return node.module or ""
    package = module if path.endswith("__init__.py") else module.rpartition(".")[0]
    for _ in range(node.level - 1):
        package = package.rpartition(".")[0]
    return f"{package}.{node.module}" if node.module else package


def _walk(node: Any, *, within: bool = True) -> Iterator[Any]:
    """A node and those below it; without `within` no bodies of functions."""
    yield node
    if not within and isinstance(node, (*_FUNCTIONS, _ast.Lambda)):
        return
    for field in node._fields:
        value = getattr(node, field, None)
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, _ast.AST):
                yield from _walk(item, within=within)

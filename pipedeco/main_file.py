"""The program's main file: whether workers can import it, and how they do.

Python's own forkserver imports a program's main file once and forks workers from there, so that
they find what its top level has set up.  We do the same, except that the guard

    if __name__ == "__main__":

is taken out of the syntax tree instead of giving the module another name: loggers, classes and
messages of the program are called the same in a worker.  A file whose top level would call a
pipeline, outside such a guard, is never imported: its definitions travel (`definitions`).
"""

from __future__ import annotations

import _ast
import builtins
import os
import sys
import threading
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from pipedeco.syntax import children, tree_of, unwarned, walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAIN = "__main__"
ALIAS = "__mp_main__"  # what multiprocessing calls the main module in its children
CONSTRUCTORS = ("pipeline", "component")
MAKING = ("__init__", "__new__", "__post_init__")  # what calling a class calls
SCOPES = (_ast.FunctionDef, _ast.AsyncFunctionDef, _ast.Lambda)
# How the files of code begin that was typed: at a prompt, in IPython, in Python 3.13's prompt.
TYPED = ("<stdin", "<ipython-", "<python-input")
try:
    BEGAN_IN = os.getcwd()  # this module is imported with the decorators
except OSError:  # the folder is gone
    BEGAN_IN = ""
# Functions and methods that change the outside world, by their last names, and some by their
# modules, too.
EFFECTS = frozenset(
    [
        "rmtree",
        "unlink",
        "rmdir",
        "copytree",
        "copyfile",
        "write_text",
        "write_bytes",
        "symlink_to",
        "hardlink_to",
        "touch",
        "TemporaryDirectory",
        "NamedTemporaryFile",
        "TemporaryFile",
        "mkdtemp",
        "mkstemp",
        "urlretrieve",
        "to_csv",
        "to_parquet",
        "to_excel",
        "to_pickle",
        "to_sql",
        "savefig",
        "input",
        "start_run",
    ]
)
_WEB = ("post", "put", "patch", "delete", "request")
_ARRAYS = ("save", "savez", "savetxt", "savez_compressed")
OF_MODULES = {
    "os": ("remove", "removedirs", "rename", "renames", "replace", "truncate", "system", "popen"),
    "shutil": ("move", "copy", "copy2", "make_archive", "unpack_archive"),
    "subprocess": ("run", "call", "check_call"),
    "requests": _WEB,
    "httpx": _WEB,
    "wandb": ("init",),
    "numpy": _ARRAYS,
    "torch": ("save",),
}
LARGEST = 2 << 20  # bytes of a main file that is looked at


class MainFile(NamedTuple):
    """A main file that workers import; plain types all, as it travels.

    Attributes
    ----------
    path : str
        Where it is read.
    shown : str
        The name of the file in tracebacks.
    module : str
        The name that `python -m` was given, of a module that it found; "" for a script.
    checksum : int
        CRC-32 of the text that was looked at; another text is not imported.
    directory : str
        The working directory in which the program began; its top level may have left it.
    """

    path: str
    shown: str
    module: str
    checksum: int
    directory: str


class MainSource:
    """What the text of the main file says of its top level.

    Parameters
    ----------
    file : MainFile
    tree : _ast.Module
    """

    def __init__(self, file: MainFile, tree: Any) -> None:
        self.file = file
        self.bound = frozenset(bound_names(tree.body))
        self._lambdas = frozenset(_lambdas(tree.body))
        self._tree = tree
        self._known: frozenset[CodeType] | None = None

    def defines(self, name: str, value: Any) -> bool:
        """Return whether the top level itself gives `name` this function, class or module."""
        if name not in self.bound:
            return False
        if isinstance(value, ModuleType):
            return True
        if isinstance(value, FunctionType):
            return self._has(value) and self._is_of(name, value)
        if isinstance(value, type):
            own = [item for item in vars(value).values() if isinstance(item, FunctionType)]
            return value.__qualname__ == name and all(self._has(item) for item in own)
        return False

    def _is_of(self, name: str, function: FunctionType) -> bool:
        """Whether a function of the file is the one that the top level gives the name."""
        if function.__qualname__ == "<lambda>":
            return (name, function.__code__.co_firstlineno) in self._lambdas
        # What a decorator returns without `wraps` is made anew by the import.
        return function.__qualname__ == name or "<locals>" in function.__qualname__

    def _has(self, function: FunctionType) -> bool:
        """Whether a function is as the file says; what libraries generate has no file."""
        code = function.__code__
        if code.co_filename == self.file.shown:
            return code in self._codes()
        return not code.co_filename.startswith(TYPED)

    def _codes(self) -> frozenset[CodeType]:
        """Every code object of the file, equal to those of the functions that it makes."""
        if self._known is None:
            with unwarned(self.file.shown):
                code = compile(self._tree, self.file.shown, "exec", dont_inherit=True)
            self._known = frozenset(_codes(code))
        return self._known


class MainFiles:
    """Remembers what was read of main files, and which of them workers could not import."""

    def __init__(self) -> None:
        self._read: dict[tuple[int, str | None], MainSource | None] = {}
        self._failed: set[MainFile] = set()

    def read(self, choice: str | None) -> MainSource | None:
        """Return `read_main(choice)`, which is the same for each run of a process."""
        key = id(sys.modules[MAIN]), choice
        if key not in self._read:
            self._read[key] = read_main(choice)
        found = self._read[key]
        return None if found is None or found.file in self._failed else found

    def give_up(self, file: MainFile) -> bool:
        """Note that workers cannot import a file; whether that is new."""
        new = file not in self._failed
        self._failed.add(file)
        return new


def read_main(choice: str | None) -> MainSource | None:
    """Return what the main file of this process says, or None where workers do not import it.

    Parameters
    ----------
    choice : {"import", "definitions", None}
        What the settings ask for; None decides by the syntax tree.
    """
    if choice == "definitions":
        return None
    main = sys.modules[MAIN]
    read = _text_and_tree(main)
    if read is None:
        return None
    path, text, tree = read
    spec = getattr(main, "__spec__", None)
    module = "" if spec is None else str(spec.name)
    pipelines = _pipelines_of(main)
    fit = (
        can_be_imported(tree, pipelines)
        and not _at_top_level(tree, vars(main))
        and not only_costs(tree, pipelines)
    )
    if len(text) > LARGEST or not (choice == "import" or fit):
        return None
    shown = "".join(path)  # an exact string: debuggers put a subclass of str here
    found = MainFile(os.path.abspath(path), shown, module, crc32(text), BEGAN_IN)
    return MainSource(found, tree)


def hindrance() -> str:
    """Return which line keeps workers from importing a main file with a guard, or nothing.

    Examples
    --------
    >>> hindrance()
    'line 12 of train.py'
    """
    main = sys.modules[MAIN]
    read = _text_and_tree(main)
    if read is None:
        return ""
    path, _, tree = read
    line = _hindering_line(tree, _pipelines_of(main))
    if line is None or not any(map(_is_guard, tree.body)):
        return ""
    return f"line {line} of {os.path.basename(path)}"


def _text_and_tree(main: ModuleType) -> tuple[str, bytes, Any] | None:
    """The path of a main file that is the user's, its text, and the syntax tree of that."""
    path = getattr(main, "__file__", None)
    if not isinstance(path, str) or not path.endswith(".py") or not is_users(os.path.abspath(path)):
        return None
    try:
        with open(path, "rb") as file:
            text = file.read(LARGEST + 1)
        tree = tree_of(text, path)
    except (OSError, SyntaxError, ValueError):  # gone, or edited since the program began
        return None
    return path, text, tree


def _pipelines_of(main: ModuleType) -> set[str]:
    return {name for name, value in vars(main).items() if getattr(value, "is_pipeline", False)}


def can_be_imported(tree: Any, pipelines: Iterable[str] = ()) -> bool:
    """Return whether importing a main file would call no pipeline and start no program.

    At its top level, outside the main guard, there must be no call of a function that leads to a
    pipeline, nor one that makes or removes files, which would be done again.  Without a guard there
    must be no bare call that involves anything of the file, such as `main()`, `app()` or
    `Fire(main)`.

    Parameters
    ----------
    tree : _ast.Module
    pipelines : iterable of str
        Names of the file that are known to be pipelines, such as imported ones.
    """
    return _hindering_line(tree, pipelines) is None


def _hindering_line(tree: Any, pipelines: Iterable[str]) -> int | None:
    """The first line of the top level that workers must not execute."""
    top = list(_top_level(tree.body))
    pipelines = _leading_to_pipelines(tree, pipelines)
    effects = _Effects(tree)
    for statement in top:
        for call in _evaluated(statement, _ast.Call):
            if pipelines & _names(call) or effects.has(call):
                return int(call.lineno)
    if any(_is_guard(statement) for statement in tree.body):
        return None
    own = {name for statement in top for name in _own_names(statement)}
    bare = [s.value for s in top if isinstance(s, _ast.Expr) and isinstance(s.value, _ast.Call)]
    return next((int(call.lineno) for call in bare if own & _names(call)), None)


def only_costs(tree: Any, pipelines: Iterable[str] = ()) -> bool:
    """Return whether importing the file gives steps nothing, and takes time.

    Its top level only defines, so its definitions say it all, and it imports an installed package
    that no step uses: each run of the program would wait for that once more.
    """
    used: set[str] = set()
    imported: set[str] = set()
    leading = _leading_to_pipelines(tree, pipelines)
    for statement in _everything(tree.body):
        if isinstance(statement, (_ast.Import, _ast.ImportFrom)):
            names = _installed(statement)
            if names is None:  # a module of the user's, which may set up what steps need
                return False
            imported |= names
        elif isinstance(statement, _ast.FunctionDef) and not _calls(statement.decorator_list):
            if statement.name not in leading:
                used |= _names(statement)
        elif not _is_constant(statement):
            return False
    return bool(imported - used)


class _Effects:
    """Which calls of a file change the outside world, as far as names tell."""

    def __init__(self, tree: Any) -> None:
        self._origins = dict(_imported_names(tree))
        uses = _uses(tree)
        direct = {
            name
            for name, nodes in uses.items()
            if any(self._is_direct(node) for node in nodes if isinstance(node, _ast.Call))
        }
        self._functions = _leading_to(uses, direct)

    def has(self, call: Any) -> bool:
        """Whether a call does so itself, or calls a function or class of the file that does."""
        own = isinstance(call.func, _ast.Name) and call.func.id in self._functions
        return own or self._is_direct(call)

    def _is_direct(self, call: Any) -> bool:
        first, *rest = _dotted(call.func)
        owner, *names = [*self._origins.get(first, ("", first)), *rest]
        name = names[-1] if names else ""
        if name == "open":
            return any(map(_writes, [*call.args, *(word.value for word in call.keywords)]))
        if name in ("mkdir", "makedirs"):
            return not any(word.arg == "exist_ok" for word in call.keywords)
        return name in EFFECTS or name in OF_MODULES.get(owner, ())


def _writes(argument: Any) -> bool:
    """Whether it is the mode of a file that is written."""
    mode = argument.value if isinstance(argument, _ast.Constant) else None
    if not isinstance(mode, str) or not set(mode) <= set("rwaxbt+"):
        return False
    return bool(set(mode) & set("wax+"))


def _dotted(node: Any) -> list[str]:
    """The parts of a name with dots; of what is no name, "" comes first."""
    parts: list[str] = []
    while isinstance(node, _ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id if isinstance(node, _ast.Name) else "", *reversed(parts)]


def _imported_names(tree: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Names that imports bind anywhere in the file, each with its module and its name there."""
    for node in walk(tree):
        if isinstance(node, _ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                yield alias.asname or top, (top,)
        elif isinstance(node, _ast.ImportFrom):
            for alias in node.names:
                module = (node.module or "").partition(".")[0]
                yield alias.asname or alias.name, (module, alias.name)


def _calls(decorators: list[Any]) -> bool:
    """Whether a function has decorators that may do more than mark it."""
    known = {*CONSTRUCTORS, "pipedeco"}
    return any(_names(decorator) - known for decorator in decorators)


def _is_constant(statement: Any) -> bool:
    """Whether a statement is a docstring, or gives a name a constant."""
    if not isinstance(statement, (_ast.Assign, _ast.AnnAssign, _ast.Expr)):
        return False
    return isinstance(statement.value, _ast.Constant)


def _installed(statement: Any) -> set[str] | None:
    """The names that an import binds to something of installed packages; None for the user's."""
    found = set()
    relative = getattr(statement, "level", 0)
    for alias in statement.names:
        of = getattr(statement, "module", None) or alias.name
        module = sys.modules.get(of.partition(".")[0])
        path = getattr(module, "__file__", None) or ""
        if relative or alias.name == "*" or (path and is_users(path)):
            return None
        if any(part in path for part in _PACKAGES) and not path.startswith(_OWN):
            found.add((alias.asname or alias.name).partition(".")[0])
    return found


def _at_top_level(tree: Any, names: dict[str, Any]) -> bool:
    """Return whether the main thread is at a statement of the file's top level, outside the guard.

    Importing the file would lead to the same place again, whatever way leads there.
    """
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        if frame.f_globals is names and frame.f_code.co_name == "<module>":
            line = frame.f_lineno
            return not any(
                statement.lineno <= line <= statement.end_lineno
                for statement in tree.body
                if _is_guard(statement)
            )
        frame = frame.f_back
    return False


def import_main(file: MainFile) -> ModuleType:
    """Make this process's `__main__` from the main file, without what its guard holds.

    The working directory is then the one in which the program began, or where the file has gone.

    Raises
    ------
    ImportError
        The file is not the one that was looked at.
    BaseException
        Whatever its top level raises.
    """
    with open(file.path, "rb") as source:
        text = source.read()
    if crc32(text) != file.checksum:
        raise ImportError(f"{file.path} has changed since the program began")
    tree = tree_of(text, file.shown)
    _take_guards_out(tree.body)
    module = ModuleType(MAIN)
    names = vars(module)
    names["__builtins__"] = builtins  # C code that imports looks for it
    names["__file__"] = file.path
    if file.module:
        _place_in_package(module, file.module)
    if file.directory:
        os.chdir(file.directory)
    former = sys.modules[MAIN]
    sys.modules[MAIN] = sys.modules[ALIAS] = module
    try:
        with unwarned(file.shown):
            code = compile(tree, file.shown, "exec", dont_inherit=True)
        exec(code, names)  # noqa: S102 - the user's program
    except BaseException:
        sys.modules[MAIN] = former
        sys.modules.pop(ALIAS, None)
        raise
    return module


def _place_in_package(module: ModuleType, name: str) -> None:
    """Let relative imports work as under `python -m`."""
    import importlib.util

    spec = importlib.util.find_spec(name)  # imports the packages around it
    module.__spec__ = spec
    module.__package__ = name.rpartition(".")[0]
    module.__loader__ = None if spec is None else spec.loader


# -- whose files -----------------------------------------------------------------------------------

_OWN = os.path.dirname(os.path.abspath(__file__)) + os.sep
_STANDARD = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_SCRIPTS = os.path.dirname(os.path.abspath(sys.executable or os.sep)) + os.sep
_PACKAGES = ("site-packages", "dist-packages")


def is_users(path: str) -> bool:
    """Return whether a file is the user's own: not pipedeco's, Python's, or an installed one."""
    if path.startswith((_OWN, _STANDARD, _SCRIPTS)):
        return False
    return not any(part in path for part in _PACKAGES)


# -- syntax trees ----------------------------------------------------------------------------------


def _evaluated(statement: Any, kind: type) -> Iterator[Any]:
    """The nodes of a kind that are evaluated where the statement is executed.

    The bodies of functions are not; their decorators and defaults are.
    """
    todo = [statement]
    while todo:
        node = todo.pop()
        if isinstance(node, kind):
            yield node
        if isinstance(node, SCOPES):
            todo.extend(getattr(node, "decorator_list", ()))
            todo.extend(item for item in node.args.defaults + node.args.kw_defaults if item)
        else:
            todo.extend(children(node))


def _top_level(body: list[Any]) -> Iterator[Any]:
    """The simple statements of the top level, and what stands in its blocks; not in the guard."""
    for statement in body:
        if _is_guard(statement):
            yield from _top_level(statement.orelse)
            continue
        blocks = [
            getattr(statement, field, [])
            for field in ("body", "orelse", "finalbody", "handlers", "cases")
        ]
        compound = isinstance(statement, (_ast.If, _ast.Try, _ast.With, _ast.For, _ast.While))
        if compound or hasattr(statement, "cases") or isinstance(statement, _ast.ExceptHandler):
            for block in blocks:
                yield from _top_level(block)
            yield from (_Head(node) for node in children(statement) if not _is_block(node))
        else:
            yield statement


class _Head(_ast.Expr):
    """The expression in the head of a compound statement."""

    def __init__(self, value: Any) -> None:
        super().__init__(value=value)


def _is_block(node: Any) -> bool:
    return isinstance(node, (_ast.stmt, _ast.ExceptHandler)) or hasattr(node, "pattern")


def _is_guard(node: Any) -> bool:
    """Whether it is `if __name__ == "__main__":`, alone or as a part of an `and`."""
    if not isinstance(node, _ast.If):
        return False
    test: Any = node.test
    both = isinstance(test, _ast.BoolOp) and isinstance(test.op, _ast.And)
    tests = test.values if both else [test]
    return any(_asks_for_main(test) for test in tests)


def _asks_for_main(test: Any) -> bool:
    if not isinstance(test, _ast.Compare) or len(test.ops) != 1:
        return False
    sides = [test.left, *test.comparators]
    named = any(isinstance(side, _ast.Name) and side.id == "__name__" for side in sides)
    wanted = any(isinstance(side, _ast.Constant) and side.value == MAIN for side in sides)
    return named and wanted and isinstance(test.ops[0], _ast.Eq)


def _take_guards_out(body: list[Any]) -> None:
    """Make the test of each guard false; lines stay as they are."""
    for statement in body:
        if _is_guard(statement):
            test = statement.test
            statement.test = _ast.Constant(
                value=False,
                lineno=test.lineno,
                col_offset=test.col_offset,
                end_lineno=test.end_lineno,
                end_col_offset=test.end_col_offset,
            )
        elif isinstance(statement, (_ast.If, _ast.Try, _ast.With)):
            for field in ("body", "orelse", "finalbody"):
                _take_guards_out(getattr(statement, field, []))


def _names(node: Any) -> set[str]:
    return {item.id for item in walk(node) if isinstance(item, _ast.Name)}


def _leading_to_pipelines(tree: Any, known: Iterable[str]) -> set[str]:
    """Names of the file whose call may call a pipeline: pipelines, and functions that use them."""
    found = set(known)
    for node in walk(tree):
        if isinstance(node, (_ast.FunctionDef, _ast.AsyncFunctionDef)):
            if any(_makes_pipeline(decorator) for decorator in node.decorator_list):
                found.add(node.name)
        elif isinstance(node, _ast.Assign) and _makes_pipeline(node.value):
            found.update(name for target in node.targets for name in _names(target))
    return _leading_to(_uses(tree), found - set(CONSTRUCTORS))


def _uses(tree: Any) -> dict[str, list[Any]]:
    """All nodes in the bodies of functions, by their names; a class is its `__init__`."""
    found: dict[str, list[Any]] = {}
    for node in walk(tree):
        if isinstance(node, (_ast.FunctionDef, _ast.AsyncFunctionDef)):
            nodes = [inner for statement in node.body for inner in walk(statement)]
            found.setdefault(node.name, []).extend(nodes)
        elif isinstance(node, _ast.ClassDef):
            for method in node.body:
                if isinstance(method, _ast.FunctionDef) and method.name in MAKING:
                    found.setdefault(node.name, []).extend(walk(method))
    return found


def _leading_to(uses: dict[str, list[Any]], known: set[str]) -> set[str]:
    """The known names, and those of functions that use one, directly or through others."""
    names = {
        name: {node.id for node in nodes if isinstance(node, _ast.Name)}
        for name, nodes in uses.items()
    }
    found = set(known)
    grows = True
    while grows:
        more = {name for name, used in names.items() if used & found} - found
        found |= more
        grows = bool(more)
    return found


def _makes_pipeline(node: Any) -> bool:
    """Whether an expression is pipedeco's `pipeline`, or a call of it or of a pipeline's methods."""
    while isinstance(node, _ast.Call):
        node = node.func
    if isinstance(node, _ast.Attribute):
        return node.attr == "pipeline"
    return isinstance(node, _ast.Name) and node.id == "pipeline"


def _own_names(statement: Any) -> Iterator[str]:
    """Names that a statement binds to something of this file; modules are not."""
    if isinstance(statement, (_ast.FunctionDef, _ast.AsyncFunctionDef, _ast.ClassDef)):
        yield statement.name
    elif not isinstance(statement, (_ast.Import, _ast.ImportFrom)):
        yield from _stored(statement)


def _stored(statement: Any) -> Iterator[str]:
    for node in _evaluated(statement, _ast.Name):
        if isinstance(node.ctx, _ast.Store):
            yield node.id


def bound_names(body: list[Any]) -> Iterator[str]:
    """Every name that importing the file binds."""
    for statement in _everything(body):
        if isinstance(statement, (_ast.FunctionDef, _ast.AsyncFunctionDef, _ast.ClassDef)):
            yield statement.name
        elif isinstance(statement, (_ast.Import, _ast.ImportFrom)):
            for alias in statement.names:
                if alias.name == "*":
                    yield from _public_names(getattr(statement, "module", "") or "")
                else:
                    yield (alias.asname or alias.name).partition(".")[0]
        yield from _stored(statement)


def _everything(body: list[Any]) -> Iterator[Any]:
    """The statements of the top level, compound ones too; not what the guard holds."""
    for statement in body:
        if _is_guard(statement):
            yield from _everything(statement.orelse)
            continue
        if isinstance(statement, (_ast.FunctionDef, _ast.AsyncFunctionDef, _ast.ClassDef)):
            yield statement
            continue
        yield statement
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            yield from _everything(getattr(statement, field, []))


def _lambdas(body: list[Any]) -> Iterator[tuple[str, int]]:
    """Names that the top level gives a lambda, with its line."""
    for statement in _everything(body):
        if isinstance(getattr(statement, "value", None), _ast.Lambda):
            for name in _stored(statement):
                yield name, statement.value.lineno


def _public_names(module: str) -> Iterable[str]:
    found = sys.modules.get(module)
    if found is None:
        return ()
    public = getattr(found, "__all__", None)
    return public if public is not None else [name for name in vars(found) if name[0] != "_"]


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if type(constant) is CodeType:
            yield constant
            yield from _codes(constant)

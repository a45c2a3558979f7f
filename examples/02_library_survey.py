"""Survey the sources of Python's own standard library: work for every core, on files you have.

    python examples/02_library_survey.py
    pipedeco run examples/02_library_survey.py --chunks 4
    pipedeco show latest

The files are dealt into chunks, a step surveys each, and the surveys are merged by twos, which are
steps again: nothing waits for the last chunk before the first two are merged. Afterwards the same
functions do the same work in one process, because without the pipeline they are ordinary functions.
"""

import ast
import sysconfig
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pipedeco import component, pipeline

LIBRARY = Path(sysconfig.get_path("stdlib"))
OMITTED = {"dist-packages", "site-packages", "test", "tests"}
KEPT = 100  # of the longest functions


class Survey(NamedTuple):
    """What some files hold."""

    files: int
    lines: int
    names: Counter[str]  # name -> how often it stands there
    functions: list[tuple[int, str]]  # (lines, module: name), the longest first


@component
def survey(files: Iterable[Path]) -> Survey:
    """Read some files: count the names and measure the functions."""
    lines, names, functions = 0, Counter[str](), []
    sources = [(file, file.read_bytes()) for file in files]
    for file, source in sources:
        lines += source.count(b"\n")
        module = ".".join(file.relative_to(LIBRARY).with_suffix("").parts)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Name):
                names[node.id] += 1
            elif isinstance(node, ast.Attribute):
                names[node.attr] += 1
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = node.end_lineno - node.lineno + 1
                functions.append((length, f"{module}: {node.name}"))
    return Survey(len(sources), lines, names, sorted(functions, reverse=True)[:KEPT])


@component
def merge(first: Survey, second: Survey) -> Survey:
    """Make one survey of two."""
    functions = sorted(first.functions + second.functions, reverse=True)
    return Survey(
        first.files + second.files,
        first.lines + second.lines,
        first.names + second.names,
        functions[:KEPT],
    )


@pipeline
def library_survey(packages: bool = True, chunks: int = 16) -> Survey:
    """Survey the modules of the standard library, without its tests.

    Args:
        packages: whether to read its packages, too.
        chunks: into how many steps the reading is split.
    """
    files = [*LIBRARY.glob("*.py"), *(LIBRARY.glob("*/*.py") if packages else ())]
    files = sorted(file for file in files if file.parent.name not in OMITTED)
    surveys = [survey(files[n::chunks]) for n in range(chunks)]
    while len(surveys) > 1:
        pairs = zip(surveys[::2], surveys[1::2], strict=False)
        odd = surveys[-1:] if len(surveys) % 2 else []
        surveys = [merge(first, second) for first, second in pairs] + odd
    return surveys[0]


start = time.perf_counter()
found = library_survey()
elapsed = time.perf_counter() - start

start = time.perf_counter()
alone = library_survey.fn()  # the bare function, in which components are bare functions
single = time.perf_counter() - start

print(f"{found.files:,} files, {found.lines:,} lines\n")
print("names used most")
for name, count in found.names.most_common(5):
    print(f"{count:8,}  {name}")
print("longest functions, in lines")
for length, name in found.functions[:5]:
    print(f"{length:8,}  {name}")

same = "the same result" if alone == found else "ANOTHER RESULT"
print(f"\n{elapsed:.1f} s; in one process {single:.1f} s with {same}: {single / elapsed:.1f} times")

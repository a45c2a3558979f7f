"""Which main files are imported by workers is read from their syntax tree."""

import _ast
import ast
import pickle
from pathlib import Path

import numpy  # noqa: F401 - an installed package that is imported
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipedeco.main_file import can_be_imported, only_costs
from pipedeco.module_state import dump_global, with_paths_moved

HEAD = """
import sys, typer
from pipedeco import component, pipeline
@component
def step(x):
    return x
@pipeline
def flow(n=1):
    return step(n)
def main():
    flow()
def other():
    return 1
"""

IMPORTED = [
    "",
    "if __name__ == '__main__':\n    flow()",
    "if '__main__' == __name__:\n    main()",
    "if __name__ == '__main__' and sys.argv:\n    main()",
    "if __name__ == '__main__':\n    main()\nelse:\n    x = 1",
    "class A:\n    def run(self):\n        return flow()",
    "x = other()\nif __name__ == '__main__':\n    main()",
    "other()\nif __name__ == '__main__':\n    main()",
    "run = lambda: flow()",
    "import logging\nlogging.basicConfig()",
    "try:\n    import numpy\nexcept ImportError:\n    numpy = None\nif __name__ == '__main__':\n    main()",
]
NOT_IMPORTED = [
    "flow()",
    "main()",
    "x = flow(3)",
    "sys.exit(main())",
    "print([flow(i) for i in range(2)])",
    "typer.run(main)",
    "app = typer.Typer()\napp()",
    "for i in range(3):\n    flow(i)",
    "with open('x') as file:\n    y = main()",
    "if flow():\n    pass",
    "while main():\n    pass",
    "try:\n    import q\nexcept ImportError:\n    main()",
    "match sys.argv:\n    case []:\n        main()",
    "if __name__ in ('__main__', 'x'):\n    main()",
    "if __name__ != '__main__':\n    main()",
    "class A:\n    value = flow()",
    "def later(x=flow()):\n    pass",
    "if __name__ == '__main__':\n    pass\nelse:\n    main()",
    "twice = flow.with_options(workers=2)\ntwice()",
    "made = pipeline(other)\nmade()",
    "flow.local()",
]
GUARD = "if __name__ == '__main__':\n    main()\n"
EFFECTS = [
    "import shutil\nshutil.rmtree('out')",
    "import os\nos.mkdir('out')",
    "import os\nos.remove('out.txt')",
    "from pathlib import Path\nPath('out').mkdir()",
    "from pathlib import Path\nPath('out.txt').write_text('')",
    "open('out.txt', 'w').close()",
    "with open('out.txt', mode='a') as file:\n    file.write('')",
    "import tempfile\nSCRATCH = tempfile.TemporaryDirectory()",
    "NAME = input('name')",
    "from pathlib import Path\nFILE = Path('out.txt').open('w')",
    "import subprocess\nsubprocess.run(['make'])",
    "import mlflow\nmlflow.start_run()",
    "import wandb\nwandb.init()",
    "import numpy as np\nnp.save('x', 1)",
    "from subprocess import run\nrun(['make'])",
    "from os import remove as away\naway('out.txt')",
    "def prepare():\n    open('out.txt', 'w').close()\nprepare()",
    "def write():\n    open('out.txt', 'w')\ndef prepare():\n    write()\nREADY = prepare()",
    "class App:\n    def __init__(self):\n        open('out.txt', 'w')\nAPP = App()",
]
NO_EFFECTS = [
    "import os\nos.makedirs('out', exist_ok=True)",
    "TEXT = open('out.txt').read()",
    "DATA = open('out.bin', 'rb').read()",
    "NAME = 'a b'.replace(' ', '')",
    "import shutil\nGIT = shutil.which('git')",
    "from PIL import Image\nLOGO = Image.open('wax.png')",
    "import subprocess\nCOMMIT = subprocess.check_output(['git', 'rev-parse', 'HEAD'])",
    "COPY = [1].copy()",
    "import os\nHOME = os.path.join('a', 'b')",
    "def later():\n    open('out.txt', 'w')",
    "def clear():\n    open('out.txt', 'w')\nimport atexit\natexit.register(clear)",
    "class App:\n    def run(self):\n        open('out.txt', 'w')\nAPP = App()",
    "def run(x):\n    return x\nX = run(1)",
]


def importable(text, **more):
    return can_be_imported(compile(text, "app.py", "exec", _ast.PyCF_ONLY_AST), **more)


@pytest.mark.parametrize("tail", IMPORTED)
def test_is_imported(tail):
    assert importable(HEAD + tail)


@pytest.mark.parametrize("tail", NOT_IMPORTED)
def test_is_not_imported(tail):
    assert not importable(HEAD + tail)


@pytest.mark.parametrize("text", EFFECTS)
def test_what_changes_files_is_not_done_again(text):
    assert not importable(f"{HEAD}{text}\n{GUARD}")


@pytest.mark.parametrize("text", NO_EFFECTS)
def test_what_changes_nothing_is_done_again(text):
    assert importable(f"{HEAD}{text}\n{GUARD}")


def test_a_pipeline_of_another_module_is_known_by_its_value():
    text = "from flows import training\nresult = training(3)"
    assert not importable(text, pipelines={"training"})


@pytest.mark.parametrize("path", sorted((Path(__file__).parent.parent / "examples").glob("*.py")))
def test_examples_with_a_guard_are_imported(path):
    text = path.read_text()
    assert importable(text) == ("__name__ ==" in ast.unparse(ast.parse(text)))


PLAIN = """
import sys
import numpy as np
from pipedeco import component, pipeline

RATE = 3

@component(retries=2)
def step(x):
    return {used} * RATE

@pipeline
def flow():
    return np.sum([step(1), step(2)])

{more}
if __name__ == "__main__":
    flow()
"""


@pytest.mark.parametrize(
    ("used", "more", "costs"),
    [
        ("x", "", True),  # numpy is for the body alone
        ("np.add(x, 1)", "", False),
        ("x", "import logging\nlogging.basicConfig()", False),  # what it sets up counts
        ("x", "class A:\n    pass", False),
        ("x", "import conftest", False),  # a module of the user's may set things up
        ("x", "@sys.intern\ndef other():\n    pass", False),
    ],
)
def test_a_file_of_mere_definitions_is_not_imported_for_what_no_step_uses(used, more, costs):
    text = PLAIN.format(used=used, more=more)
    assert only_costs(compile(text, "app.py", "exec", _ast.PyCF_ONLY_AST)) == costs


FOLDERS = st.sampled_from(["/home/me/project", "/home/me/project/data", "/home/me/projects", "/x"])


@given(
    st.recursive(
        st.one_of(st.integers(), st.text(), FOLDERS, FOLDERS.map(Path), st.binary()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_paths_below_a_folder_are_moved_in_a_pickle(value):
    moved = with_paths_moved(dump_global(value), "/home/me/project", "/tmp/there/deeper")
    assert pickle.loads(moved) == expected(value)
    assert moved == dump_global(pickle.loads(moved)) or "same object twice" in repr(value)


def expected(value):
    if isinstance(value, list):
        return [expected(item) for item in value]
    if isinstance(value, dict):
        return {key: expected(item) for key, item in value.items()}
    if isinstance(value, Path):
        return Path(expected(str(value)))
    below = isinstance(value, str) and (value + "/").startswith("/home/me/project/")
    return "/tmp/there/deeper" + value[len("/home/me/project") :] if below else value

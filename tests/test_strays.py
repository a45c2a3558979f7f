"""Which modules of this process another one would not find by their names."""

import importlib
import importlib.util
import sys
import types

import cloudpickle
import pytest

from pipedeco.strays import strays


@pytest.fixture
def imports(tmp_path, monkeypatch):
    """A folder for modules; what is imported in the test is forgotten after it."""
    before = dict(sys.modules)
    yield tmp_path
    for name in [name for name in sys.modules if name not in before]:
        del sys.modules[name]


def loaded(path, name, **more):
    """What a plugin loader does."""
    spec = importlib.util.spec_from_file_location(name, path, **more)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def files():
    return dict(strays().files)


def test_nothing_of_an_ordinary_process_is_a_stray():
    """Whatever libraries are imported; modules that they make in memory are no program's."""
    import numpy as np
    import pandas as pd

    assert np
    assert pd
    assert __name__ not in files()
    assert not [name for name in files() if name.startswith(("numpy", "pandas", "pipedeco"))]
    assert not [name for name in strays().by_value if "cython" in name]


def test_a_module_loaded_by_its_path(imports):
    """The latest file of a name counts."""
    for count in range(2):
        path = imports / f"plugin{count}.py"
        path.write_text("x = 1")
        loaded(path, "stray_plugin")
        assert files()["stray_plugin"] == str(path)


def test_a_module_whose_folder_left_the_path(imports, monkeypatch):
    """As long as it is there nothing has to be told; submodules count, too."""
    package = imports / "stray_tasks"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text("")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(imports))
        importlib.import_module("stray_tasks.inner")
        assert "stray_tasks" not in files()
    assert files()["stray_tasks"] == str(package / "__init__.py")
    assert files()["stray_tasks.inner"] == str(package / "inner.py")


def test_a_module_that_hides_another(imports, monkeypatch):
    """Its name leads a worker to the file on the path, which is another one."""
    (imports / "stray_config.py").write_text("x = 1")
    other = imports / "other"
    other.mkdir()
    (other / "own.py").write_text("x = 2")
    monkeypatch.syspath_prepend(str(imports))
    loaded(other / "own.py", "stray_config")
    assert files()["stray_config"] == str(other / "own.py")


def test_what_has_no_file_goes_by_value(imports):
    """A module made in memory, and what the program has registered, with all below it."""
    made = types.ModuleType("stray_made")
    exec("def f(): pass", made.__dict__)
    sys.modules["stray_made"] = made
    sys.modules["stray_empty"] = types.ModuleType("stray_empty")
    assert strays().go_by_value("stray_made")
    assert not strays().go_by_value("stray_empty")
    assert not strays().go_by_value(None)
    cloudpickle.register_pickle_by_value(importlib.import_module("json"))
    try:
        assert strays().go_by_value("json")
        assert strays().go_by_value("json.decoder")
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules["json"])
    assert not strays().go_by_value("json")

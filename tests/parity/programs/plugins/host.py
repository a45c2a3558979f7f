"""Plugins that are loaded by their path, one of them registered in sys.modules, one not."""

import importlib.util
import runpy
import sys
from pathlib import Path

from pipedeco import component, pipeline


def load(path, register):
    spec = importlib.util.spec_from_file_location(f"plugin_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    if register:
        sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@component
def describe(made):
    return f"{type(made).__name__} {made}"


@pipeline
def main(folder):
    paths = sorted(Path(folder).glob("*.py"))
    plugins = [load(path, register=path.stem == "area") for path in paths]
    plain = runpy.run_path(str(paths[1]))
    for plugin in plugins:
        print(plugin.__name__, describe(plugin.run(3)))
    return str(plain["run"](1))


if __name__ == "__main__":
    print(main(sys.argv[1]))

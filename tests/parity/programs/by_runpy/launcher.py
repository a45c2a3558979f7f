"""Runs a script as profilers and job runners do: as __main__, with its own arguments and path."""

import runpy
import sys
from pathlib import Path

sys.argv = sys.argv[1:]
sys.path.insert(0, str(Path(sys.argv[0]).parent))
print("launching", sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")

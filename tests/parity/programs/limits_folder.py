"""Where steps begin: the body goes to a folder of its own."""

import os
from pathlib import Path

from pipedeco import component, pipeline


@component
def here(of):
    return f"{of}: {Path.cwd().name == of}"


@pipeline
def main():
    Path("inner").mkdir()
    os.chdir("inner")
    return [here("inner") + "", here("inner") + ""]


if __name__ == "__main__":
    print(main())

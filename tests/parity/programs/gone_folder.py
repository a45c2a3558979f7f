"""A program whose working directory is removed before it starts its work."""

import os
import shutil
import sys
import tempfile

from pipedeco import component, pipeline, value

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))


@component
def scratch(n):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a.txt")
        with open(path, "w") as file:
            file.write("x" * n)
        return os.path.getsize(path)


@component(retries=2, retry_delay=[0, 0.01])
def total(*sizes):
    print("sizes", *sizes)
    return sum(sizes)


@pipeline
def main():
    first = value(scratch(1))
    return total(first, *(scratch(n) for n in range(2, 4)))


if __name__ == "__main__":
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    shutil.rmtree(folder)
    print(main())
    try:
        os.getcwd()
    except FileNotFoundError:
        print("still gone")

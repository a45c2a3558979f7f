"""Temporary files between steps, made by one and removed by another, and what the body keeps."""

import os
import tempfile
from pathlib import Path

from pipedeco import component, pipeline

SCRATCH = tempfile.TemporaryDirectory(prefix="scratch-")


@component
def produce(n):
    with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as file:
        file.write("line\n" * n)
    return Path(file.name)


@component
def consume(path):
    lines = len(path.read_text().splitlines())
    path.unlink()
    return lines


@component
def within(n):
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as file:
        file.write(b"x" * n)
        Path(folder, "a").write_bytes(b"y")
        return file.tell() + len(os.listdir(folder))


@component
def spill(folder, n):
    path = Path(folder) / f"part-{n}.bin"
    path.write_bytes(bytes(range(n)))
    return path.stat().st_size


@pipeline
def main():
    paths = [produce(n) for n in (2, 3)]
    lines = sum(consume(path) for path in paths)
    with tempfile.TemporaryDirectory() as folder:
        sizes = spill(folder, 5) + spill(folder, 6)
        found = sorted(os.listdir(folder))
    return lines + within(4), sizes, found, spill(SCRATCH.name, 1) + 0


if __name__ == "__main__":
    print(main())
    print(tempfile.gettempdir() == os.environ["TMPDIR"], tempfile.tempdir is not None)

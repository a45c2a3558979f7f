"""Steps that hand files to each other: written, read, changed, and gone."""

import hashlib
import os
import tempfile
from pathlib import Path

from pipedeco import File, component, pipeline, value


@component(cache=True)
def write(folder, name, text):
    path = Path(folder, name)
    path.write_text(text)
    return File(path)


@component
def count(file):
    with open(file) as lines:
        return sum(1 for _ in lines), os.path.basename(file)


@component
def digest(paths):
    return [hashlib.sha1(Path(path).read_bytes()).hexdigest()[:8] for path in paths]


@component
def append(file, line):
    with open(file, "a") as out:
        out.write(line + "\n")
    return file


@component
def index(files):
    return {Path(file).stem: file for file in files}


@pipeline
def main(folder):
    files = [write(folder, f"{name}.txt", name * k + "\n") for k, name in enumerate("abc", 1)]
    print(*digest(files))
    longer = append(files[0], "more")
    print(*value(count(longer)), *value(count(files[1])))
    return index([longer, *files[1:]])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        first = main(folder)
        print({name: os.path.basename(file) for name, file in first.items()})
        Path(folder, "b.txt").write_text("changed\n")
        Path(folder, "c.txt").unlink()
        second = main(folder)
        print(sorted(Path(file).read_text() for file in second.values()))

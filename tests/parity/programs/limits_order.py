"""A step that needs what another one leaves on disk, which no argument tells: README's Limits."""

import os
import tempfile
import time

from pipedeco import component, pipeline


@component
def prepare(folder):
    time.sleep(0.5)
    os.mkdir(os.path.join(folder, "ready"))


@component
def look(folder):
    return os.listdir(folder)


@pipeline
def main(folder):
    prepare(folder)
    return look(folder)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(main(folder))

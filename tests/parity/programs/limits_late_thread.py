"""A thread that a step leaves, and that writes when the run has ended."""

import threading
import time
from pathlib import Path

from pipedeco import component, pipeline


def wait_for(path):
    deadline = time.monotonic() + 20
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def later(folder):
    wait_for(folder / "ended")
    print("after the run", flush=True)
    (folder / "written").touch()


@component
def leave(folder):
    print("in the step")
    threading.Thread(target=later, args=(folder,), daemon=True).start()
    return 1


@pipeline
def main(folder):
    return leave(folder) + 0


if __name__ == "__main__":
    folder = Path.cwd()
    print(main(folder))
    (folder / "ended").touch()
    wait_for(folder / "written")
    (folder / "ended").unlink()
    (folder / "written").unlink()

"""What steps leave to the end of their process: open files, exit functions, finalizers, threads."""

import atexit
import tempfile
import threading
import weakref
from pathlib import Path

from pipedeco import component, pipeline

KEPT = []


class Session:
    def __init__(self, name):
        self.name = name


def note(name, text="done\n"):
    Path(name).write_text(text)


@component
def keep_open(name):
    file = open(name, "w")
    file.write("buffered\n")
    KEPT.append(file)
    return name


@component
def at_exit(name):
    atexit.register(note, name)
    return name


@component
def finalized(name):
    session = Session(name)
    weakref.finalize(session, note, name)
    KEPT.append(session)
    return name


@component
def in_a_thread(name):
    going = threading.Event()

    def work():
        going.set()
        threading.Event().wait(0.1)
        note(name)

    threading.Thread(target=work).start()
    going.wait()
    return name


@component
def scratch(prefix):
    KEPT.append(tempfile.TemporaryDirectory(prefix=prefix))
    return prefix


@pipeline
def main():
    steps = (
        keep_open("open.txt"),
        at_exit("exit.txt"),
        finalized("final.txt"),
        in_a_thread("thread.txt"),
    )
    return len([step + "" for step in steps]), scratch("kept-") + ""


if __name__ == "__main__":
    print(main())

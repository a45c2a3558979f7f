"""A guarded script whose top level does things: prints, makes folders, opens files, parses arguments."""

import argparse
import atexit
import logging
import shutil
import sys
import threading
from pathlib import Path

from pipedeco import component, pipeline

print("starting", __name__)
parser = argparse.ArgumentParser()
parser.add_argument("--size", type=int, default=1)
ARGUMENTS = parser.parse_args()

OUT = Path("out")
shutil.rmtree(OUT, ignore_errors=True)
OUT.mkdir()
(OUT / "started.txt").write_text("one start\n")
JOURNAL = OUT / "journal.txt"
with JOURNAL.open("a") as journal:
    journal.write("opened\n")

WORDS = Path("words.txt").read_text().split()
log = logging.getLogger(__name__)
atexit.register(lambda: print("bye", __name__))
ready = threading.Event()
threading.Thread(target=ready.set, daemon=True).start()


class Table(dict):
    pass


@component
def make(word):
    ready.wait(1)
    with JOURNAL.open("a") as journal:
        journal.write(f"{word}\n")
    return Table({word: ARGUMENTS.size * len(word)})


@component
def join(tables):
    log.warning("joining in %s", log.name)
    return Table(pair for table in tables for pair in table.items()), Table.__module__, __name__


@pipeline
def main():
    return join([make(word) for word in WORDS])


if __name__ == "__main__":
    table, module, name = main()
    print(table, type(table) is Table, module, name, file=sys.stdout)

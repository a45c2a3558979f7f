"""The log file of a script, written anew at each start, at the top level of a guarded file."""

import logging
from pathlib import Path

from pipedeco import component, pipeline

logging.basicConfig(
    filename="run.log",
    filemode="w",
    level=logging.DEBUG,
    format="%(name)s %(levelname)s %(message)s",
)
log = logging.getLogger(__name__)
log.info("the file is loaded")


@component
def parse(line):
    log.debug("parse %r", line)
    return [int(word) for word in line.split()]


@component
def total(rows):
    log.info("total of %d rows", len(rows))
    return sum(map(sum, rows))


@pipeline
def main(text):
    log.info("start")
    return total([parse(line) for line in text.splitlines()])


if __name__ == "__main__":
    log.info("result %d", main("1 2\n3\n4 5 6") + 0)
    print(len(Path("run.log").read_text().splitlines()), "lines")

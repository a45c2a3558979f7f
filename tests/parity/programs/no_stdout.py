# command: python no_stdout.py out.txt
"""A service without a console: sys.stdout is None, a file, or closed, and steps print."""

import logging
import os
import sys

from pipedeco import component, pipeline

logging.basicConfig(level="INFO", format="%(message)s")
log = logging.getLogger("service")


@component
def work(n):
    print("working on", n)
    log.info("working on %d", n)
    return n + 1


@pipeline
def main(n):
    print("in the body", n)
    return work(work(n))


if __name__ == "__main__":
    sys.stdout.flush()
    sys.stdout = None
    log.info("none: %d", main(1))
    with open(sys.argv[1], "w") as sys.stdout:
        log.info("file: %d", main(3))
    sys.stdout = open(os.devnull, "w")
    log.info("devnull: %d", main(5))
    sys.stdout.close()
    sys.stdout = sys.__stdout__

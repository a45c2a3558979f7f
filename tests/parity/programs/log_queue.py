"""Logging through a queue and a listener thread, and a memory handler that flushes on errors."""

import logging
import logging.handlers
import queue
import sys

from pipedeco import component, pipeline

log = logging.getLogger("service")


@component
def handle(request):
    log.info("request %s", request)
    if request % 2:
        log.error("odd %s", request)
    return request * 2


@pipeline
def serve(requests):
    return [handle(request) + 0 for request in requests]


def main():
    lines = queue.SimpleQueue()
    screen = logging.StreamHandler(sys.stderr)
    screen.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    memory = logging.handlers.MemoryHandler(100, logging.ERROR, logging.FileHandler("errors.txt"))
    listener = logging.handlers.QueueListener(lines, screen)
    log.setLevel(logging.INFO)
    log.addHandler(logging.handlers.QueueHandler(lines))
    log.addHandler(memory)
    listener.start()
    try:
        print(serve([1, 2, 3, 4]))
    finally:
        listener.stop()
        memory.close()


if __name__ == "__main__":
    main()

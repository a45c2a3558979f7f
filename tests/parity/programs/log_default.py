"""Nobody has set up logging: warnings go to stderr as they are, and the rest is lost."""

import logging
import warnings

from pipedeco import component, pipeline

log = logging.getLogger(__name__)


@component
def check(n):
    log.info("not shown")
    log.warning("check %d", n)
    logging.getLogger("other").error("as error %d", n)
    warnings.warn(f"captured {n}", stacklevel=1)
    return n


@component
def root_helper(n):
    logging.warning("root sets itself up")
    logging.getLogger("third").warning("now with format")
    return n


@pipeline
def main():
    total = check(1) + check(2)
    logging.captureWarnings(True)
    total += check(3)
    return root_helper(total)


if __name__ == "__main__":
    print(main(), logging.getLogger().handlers == [] or "root was set up")

import argparse
import json
import logging.config

from pipedeco import component, pipeline

from .load import load

log = logging.getLogger("etl")


@component
def add(numbers):
    log.info("adding %d numbers", len(numbers))
    logging.getLogger("etl.new.child").warning("a child inherits")
    return sum(numbers)


@pipeline
def run(names):
    log.info("the body logs, too")
    return add([load(name) for name in names])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    with open(parser.parse_args().config) as file:
        logging.config.dictConfig(json.load(file))
    log.info("result %d", run(["one", "broken", "three"]))


if __name__ == "__main__":
    main()

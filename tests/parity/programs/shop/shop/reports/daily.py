"""The day's report: `python -m shop.reports.daily`."""

import argparse
import datetime
import logging

from pipedeco import component, pipeline

from .. import __version__
from ..core.steps.orders import load_orders, total_of

logger = logging.getLogger(__name__)


@component
def summary(totals, day):
    from ..core.tables import parse_table

    logger.warning("summary of %s by %s", day, __name__)
    return parse_table(f"sum = {sum(totals)}")["sum"]


@pipeline
def daily(day):
    return summary([total_of(order) for order in load_orders(day)], day)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--day", type=datetime.date.fromisoformat)
    day = parser.parse_args().day
    logging.basicConfig(level="INFO", format="%(levelname)-7s %(name)s:%(funcName)s %(message)s")
    print(f"shop {__version__}: {daily(day):.2f}")


if __name__ == "__main__":
    main()

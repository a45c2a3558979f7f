"""Steps in a package of the project."""

import logging

from pipedeco import component

from ..settings import current

log = logging.getLogger(__name__)


class Row:
    def __init__(self, number):
        self.number = number

    def __repr__(self):
        return f"Row({self.number})"


@component(cache=True)
def make(n):
    log.warning("making %d", n)
    return [Row(k) for k in range(n)]


@component
def total(rows):
    return sum(row.number for row in rows) * current().factor

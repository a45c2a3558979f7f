import logging
from dataclasses import dataclass

from pipedeco import component

from ...catalog import price_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    product: str
    count: int

    @property
    def total(self):
        return self.count * price_of(self.product)


@component
def load_orders(day):
    log.debug("not seen")
    log.info("orders of %s", day)
    return [Order("apple", 4), Order("pear", day.day)]


@component
def total_of(order):
    log.info("%s costs %.2f", order.product, order.total)
    return order.total

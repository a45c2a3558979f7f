from importlib import resources

from ..core.tables import parse_table


def price_of(product):
    text = resources.files(__package__).joinpath("prices.txt").read_text()
    return parse_table(text)[product]

from .prices import price_of as price_of
